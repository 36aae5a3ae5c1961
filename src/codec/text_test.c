/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/text.h"

static struct arena a;

static int give_arena(void **state _unused_)
{
    a = ARENA(MIB(8));
    return 0;
}

static int take_arena(void **state _unused_)
{
    arena_free(&a);
    return 0;
}

static void base64_gives_the_values_of_rfc_4648(void **state _unused_)
{
    static const char *const cases[][3] = {
        { "", "", "" },
        { "f", "Zg==", "Zg" },
        { "fo", "Zm8=", "Zm8" },
        { "foo", "Zm9v", "Zm9v" },
        { "foob", "Zm9vYg==", "Zm9vYg" },
        { "\xfb\xff\xbf", "+/+/", "-_-_" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i][0]), got;

        for (int url = 0; url < 2; url++) {
            assert_string_equal(base64_encode(&a, cases[i][0], n, url), cases[i][1 + url]);
            void *back = base64_decode(&a, str_of(cases[i][1 + url]), url, &got);
            assert_non_null(back);
            assert_int_equal(got, n);
            assert_memory_equal(back, cases[i][0], n);
        }
    }
}

static void base64_with_two_readings_is_refused(void **state _unused_)
{
    static const char *const bad[] = { "Zg",   "Zg=",  "Zh==", "Zm9=", "Zm9v=",   "Z===",
                                       "====", "Zm 9", "Zm-_", "=Zm9", "Zg==Zg==" };
    static const char *const bad_url[] = { "Zg==", "Zh", "Zm9+", "Z", "Zm9v=" };
    size_t n;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_null(base64_decode(&a, str_of(bad[i]), false, &n));
    for (size_t i = 0; i < ARRAY_LEN(bad_url); i++)
        assert_null(base64_decode(&a, str_of(bad_url[i]), true, &n));
}

static void hex_takes_exactly_what_is_asked_for(void **state _unused_)
{
    uint8_t b[4] = { 0 };
    char out[9];

    assert_true(hex_decode(STR("00fFa5"), b, 3));
    assert_memory_equal(b, "\x00\xff\xa5", 3);
    hex_encode(b, 3, out);
    assert_string_equal(out, "00ffa5");
    assert_false(hex_decode(STR("00ff"), b, 3));
    assert_false(hex_decode(STR("00fg00"), b, 3));
}

static void times_of_rfc_3339_and_dates_are_read(void **state _unused_)
{
    static const struct {
        const char *s;
        int64_t t;
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2026-01-05T23:00:00.000Z", INT64_C(1767654000000000) },
        { "2026-01-05t23:00:00.123456789z", INT64_C(1767654000123456) },
        { "2026-01-06T00:30:00.5+01:30", INT64_C(1767654000500000) },
        { "2026-01-05 20:00:00-03:00", INT64_C(1767654000000000) },
        { "2026-01-05", INT64_C(1767571200000000) },
        { "2024-02-29", INT64_C(1709164800000000) },
        { "2016-12-31T23:59:60Z", INT64_C(1483228800000000) },
        { "1969-12-31T23:59:59.999999Z", -1 },
    };
    int64_t t;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(time_parse(str_of(cases[i].s), &t));
        assert_true(t == cases[i].t);
    }
    char out[TIME_TEXT];
    time_format(INT64_C(1767654000123456), out);
    assert_string_equal(out, "2026-01-05T23:00:00.123Z");
}

static void what_is_no_time_is_refused(void **state _unused_)
{
    static const char *const bad[] = {
        "",
        "2026",
        "2026-1-5",
        "2026-13-01",
        "2026-00-01",
        "2026-02-29",
        "2026-01-32",
        "2026-01-05T23:00Z",
        "2026-01-05T24:00:00Z",
        "2026-01-05T23:60:00Z",
        "2026-01-05T23:00:61Z",
        "2026-01-05T23:00:00",
        "2026-01-05T23:00:00.Z",
        "2026-01-05T23:00:00.1234567890Z",
        "2026-01-05T23:00:00+1:00",
        "2026-01-05T23:00:00+24:00",
        "2026-01-05T23:00:00Z ",
        "2026-01-05T",
        "1900-02-29",
        "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00+00:01",
        "+2026-01-05",
        "2026-01-0 ",
    };
    int64_t t;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (time_parse(str_of(bad[i]), &t))
            fail_msg("%s was read", bad[i]);
}

static void percent_escapes_are_read_once_and_strictly(void **state _unused_)
{
    struct str out;

    assert_int_equal(percent_decode(&a, STR("a%2Fb%20c+d%C3%A4"), false, &out), 0);
    assert_true(str_is(out, "a/b c+d\xc3\xa4"));
    assert_int_equal(percent_decode(&a, STR("a+b%2B%2525"), true, &out), 0);
    assert_true(str_is(out, "a b+%25"));
    assert_int_equal(percent_decode(&a, STR("x%41"), false, &out), 0);
    assert_true(str_is(out, "xA"));
    assert_int_equal(percent_decode(&a, STR(""), false, &out), 0);
    assert_int_equal(out.n, 0);
    static const char *const bad[] = { "%", "%4", "a%zz", "%%41", "%4%", "%00" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(percent_decode(&a, str_of(bad[i]), false, &out), -1);
    assert_int_equal(percent_decode(&a, STR("%00"), true, &out), 0);
    assert_int_equal(out.n, 1);
    percent_encode(&a, STR("a b/~\xc3\xa4+%"), &out);
    assert_true(str_is(out, "a%20b%2F~%C3%A4%2B%25"));
}

static void hashes_give_their_published_values(void **state _unused_)
{
    uint8_t h[32];
    char hex[65];

    assert_true(crc32_of("123456789", 9) == 0xcbf43926);
    sha256("abc", 3, h);
    hex_encode(h, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, h);
    hex_encode(h, 32, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(mem_eq_const("abc", "abc", 3));
    assert_false(mem_eq_const("abc", "abd", 3));
}

static void utf8_is_checked_to_its_last_byte(void **state _unused_)
{
    assert_true(utf8_valid(STR("")));
    assert_true(utf8_valid(STR("plain text that is longer than eight bytes")));
    assert_true(utf8_valid(STR("gr\xc3\xbc\xc3\x9f dich, \xf0\x9f\x98\x80 und alle")));
    assert_false(utf8_valid(STR("seven b\xc3")));
    assert_false(utf8_valid(STR("123456789012345\xff")));
    assert_false(utf8_valid(STR("\xed\xa0\x80")));
}

static void integers_are_read_within_their_range_only(void **state _unused_)
{
    int64_t v;

    assert_true(int_parse(STR("-9223372036854775808"), INT64_MIN, INT64_MAX, &v) && v == INT64_MIN);
    assert_true(int_parse(STR("9223372036854775807"), INT64_MIN, INT64_MAX, &v) && v == INT64_MAX);
    assert_true(int_parse(STR("0"), 0, 10, &v) && v == 0);
    v = 77;
    static const char *const bad[] = { "",
                                       "-",
                                       "+1",
                                       " 1",
                                       "1 ",
                                       "1.0",
                                       "0x1",
                                       "11",
                                       "-1",
                                       "1e1",
                                       "9223372036854775808",
                                       "99999999999999999999999" };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(int_parse(str_of(bad[i]), 0, 10, &v));
    assert_false(int_parse(STR("9223372036854775808"), INT64_MIN, INT64_MAX, &v));
    assert_false(int_parse(STR("-9223372036854775809"), INT64_MIN, INT64_MAX, &v));
    assert_int_equal(v, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_gives_the_values_of_rfc_4648),
        cmocka_unit_test(base64_with_two_readings_is_refused),
        cmocka_unit_test(hex_takes_exactly_what_is_asked_for),
        cmocka_unit_test(times_of_rfc_3339_and_dates_are_read),
        cmocka_unit_test(what_is_no_time_is_refused),
        cmocka_unit_test(percent_escapes_are_read_once_and_strictly),
        cmocka_unit_test(hashes_give_their_published_values),
        cmocka_unit_test(utf8_is_checked_to_its_last_byte),
        cmocka_unit_test(integers_are_read_within_their_range_only),
    };

    return cmocka_run_group_tests(tests, give_arena, take_arena);
}
