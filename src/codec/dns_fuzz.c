/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t addrs[3][4] = { { 10, 0, 0, 1 }, { 10, 0, 0, 2 }, { 10, 0, 0, 3 } };
    struct dns_question q, again;
    enum dns_rcode rcode = DNS_NOERROR;
    uint8_t out[600];
    enum dns_parse r = dns_query_parse(data, size, &q, &rcode);

    if (r == DNS_DROP)
        return 0;
    if (r == DNS_OK && (q.end > size || q.end < DNS_HEADER + 5 || strlen(q.name) > 254))
        abort();
    size_t n = dns_answer(data, &q, r == DNS_OK ? DNS_NOERROR : rcode, addrs, 3, 30, out,
                          MIN(q.udp_max, sizeof(out)));
    if (n == 0)
        return 0;
    if (n > sizeof(out) || !(out[2] & 0x80))
        abort();
    /* What we say is no query, and would read as one with the bit turned. */
    if (dns_query_parse(out, n, &again, &rcode) != DNS_DROP)
        abort();
    out[2] &= 0x7f;
    if (r == DNS_OK &&
        (dns_query_parse(out, n, &again, &rcode) != DNS_OK || strcmp(again.name, q.name) != 0))
        abort();
    dns_reply_matches(data, size, q.id, data, size);
    return 0;
}
