/* SPDX-License-Identifier: Apache-2.0 */
#include "os/digest.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "codec/text.h"

static void hashes_are_those_of_the_standard(void **state _unused_)
{
    /* "abc" of RFC 1321 and FIPS 180-4 */
    static const struct {
        enum digest_kind kind;
        const char *hex;
    } cases[] = {
        { DIGEST_MD5, "900150983cd24fb0d6963f7d28e17f72" },
        { DIGEST_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d" },
        { DIGEST_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e;
        uint8_t out[DIGEST_MAX];
        char hex[2 * DIGEST_MAX + 1];
        struct digest *d = digest_new(cases[i].kind, &e);

        assert_non_null(d);
        digest_add(d, "a", 1);
        digest_add(d, "", 0);
        digest_add(d, "bc", 2);
        hex_encode(out, digest_end(d, out), hex);
        assert_string_equal(hex, cases[i].hex);
        digest_free(d);
    }
    digest_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(hashes_are_those_of_the_standard) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
