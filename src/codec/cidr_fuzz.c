/* SPDX-License-Identifier: Apache-2.0 */
/* What is read as a prefix is written and read again to the same; no form of IPv6 that carries an
 * IPv4 address is public where that address is not. */
#include "codec/cidr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = { (const char *)data, size };
    char out[CIDR_TEXT];
    struct cidr c, again;

    if (!cidr_parse(s, false, &c))
        return 0;
    cidr_format(&c, out);
    if (!cidr_parse(str_of(out), false, &again) || again.bits != c.bits ||
        memcmp(&again.ip, &c.ip, sizeof(c.ip)) != 0)
        abort();
    if (!cidr_contains(&c, &c.ip) || !cidr_within(&c, &c) || !cidr_overlaps(&c, &again))
        abort();
    struct ip nat64 = { 6, { 0, 0x64, 0xff, 0x9b } };
    memcpy(nat64.b + 12, c.ip.b, 4);
    if (c.ip.family == 4 && ip_is_public(&nat64) != ip_is_public(&c.ip))
        abort();
    return 0;
}
