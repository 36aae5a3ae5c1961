/* SPDX-License-Identifier: Apache-2.0 */
/* What is read as an id has one form of each kind, and both lead to the same bits. */
#include "codec/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = { (const char *)data, size };
    char prefix[64], out[TYPEID_MAX];
    struct uuid u, again;
    uint8_t bytes[16];

    if (typeid_parse(s, prefix, &u)) {
        typeid_format(prefix, &u, out);
        check(str_is(s, out));
        check(id_parse(s, prefix, &again) == ID_OK && uuid_eq(&u, &again));
        check(id_parse(s, "other", &again) == ID_WRONG_PREFIX || strcmp(prefix, "other") == 0);
        check(id_looks_like(s));
    } else if (uuid_parse(s, &u)) {
        uuid_bytes(&u, bytes);
        uuid_from_bytes(bytes, &again);
        check(uuid_eq(&u, &again) && str_is_nocase(s, u.s));
        typeid_format("x", &u, out);
        check(typeid_parse(str_of(out), prefix, &again) && uuid_eq(&u, &again));
    } else {
        check(id_parse(s, "x", &u) == ID_NONE && !id_looks_like(s));
    }
    secret_check("thecloud_", s);
    return 0;
}
