/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "base/clock.h"
#include "base/put.h"

static const char *int_text(int64_t v)
{
    static char out[PUT_INT_MAX + 1];

    out[put_int(out, v)] = '\0';
    return out;
}

static const char *micro_text(int64_t v)
{
    static char out[PUT_MICRO_MAX + 1];

    out[put_micro(out, v)] = '\0';
    return out;
}

static const char *time_text(int64_t v)
{
    static char out[PUT_TIME_LEN + 1];

    put_time(out, v);
    return out;
}

static void integers_are_written_to_both_ends_of_their_range(void **state _unused_)
{
    assert_string_equal(int_text(0), "0");
    assert_string_equal(int_text(7), "7");
    assert_string_equal(int_text(-10), "-10");
    assert_string_equal(int_text(99), "99");
    assert_string_equal(int_text(100), "100");
    assert_string_equal(int_text(INT64_MAX), "9223372036854775807");
    assert_string_equal(int_text(INT64_MIN), "-9223372036854775808");
    for (int64_t v = -12345; v < 12345; v += 13) {
        char want[32];

        snprintf(want, sizeof(want), "%lld", (long long)v);
        assert_string_equal(int_text(v), want);
    }
}

static void millionths_lose_needless_zeros_only(void **state _unused_)
{
    assert_string_equal(micro_text(20000), "0.02");
    assert_string_equal(micro_text(1), "0.000001");
    assert_string_equal(micro_text(1500000), "1.5");
    assert_string_equal(micro_text(-250000), "-0.25");
    assert_string_equal(micro_text(10000000), "10");
    assert_string_equal(micro_text(0), "0");
    assert_string_equal(micro_text(INT64_MIN), "-9223372036854.775808");
}

static void times_agree_with_the_c_library(void **state _unused_)
{
    assert_string_equal(time_text(0), "1970-01-01T00:00:00.000Z");
    assert_string_equal(time_text(INT64_C(1767654000123456)), "2026-01-05T23:00:00.123Z");
    for (int64_t s = -62167219200; s < 253402300800; s += 86400 * 17 + 3601) {
        char want[64], got[PUT_TIME_LEN + 1] = "";
        time_t t = (time_t)s;
        struct tm tm;

        assert_non_null(gmtime_r(&t, &tm));
        snprintf(want, sizeof(want), "%04d-%02d-%02dT%02d:%02d:%02d.000Z", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        put_time(got, s * 1000000);
        assert_string_equal(got, want);
        assert_int_equal(days_of_date(tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday),
                         (s - (((s % 86400) + 86400) % 86400)) / 86400);
    }
}

static void times_out_of_four_digit_years_are_held_at_the_edge(void **state _unused_)
{
    assert_string_equal(time_text(INT64_MAX), "9999-12-31T23:59:59.999Z");
    assert_string_equal(time_text(INT64_MIN), "0000-01-01T00:00:00.000Z");
    assert_string_equal(time_text(-1), "1969-12-31T23:59:59.999Z");
}

static void only_well_formed_utf8_counts_as_a_character(void **state _unused_)
{
    static const struct {
        const char *s;
        size_t len;
    } cases[] = {
        { "a", 1 },
        { "\xc3\xa4", 2 },
        { "\xe2\x82\xac", 3 },
        { "\xf0\x9f\x98\x80", 4 },
        { "\xf4\x8f\xbf\xbf", 4 },
        { "\xc0\x80", 0 },
        { "\xe0\x80\x80", 0 },
        { "\xed\xa0\x80", 0 },
        { "\xf4\x90\x80\x80", 0 },
        { "\x80", 0 },
        { "\xff", 0 },
        { "\xe2\x82", 0 },
        { "\xc3", 0 },
        { "\xf0\x80\x80\x80", 0 },
        { "\xf5\x80\x80\x80", 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(utf8_char(cases[i].s, strlen(cases[i].s)), cases[i].len);
    assert_int_equal(utf8_char("", 0), 0);
}

static void a_fake_clock_stands_until_it_is_moved(void **state _unused_)
{
    struct clock c = clock_fake(SECONDS(5));

    assert_int_equal(clock_wall(&c), SECONDS(5));
    assert_int_equal(clock_wall(&c), SECONDS(5));
    clock_advance(&c, SECONDS(2));
    assert_int_equal(clock_mono(&c), SECONDS(7));
    int64_t first = clock_mono(clock_system());
    assert_true(clock_mono(clock_system()) >= first);
    assert_true(clock_wall(clock_system()) > INT64_C(1700000000) * 1000000);
}

static void names_compare_without_case(void **state _unused_)
{
    assert_true(str_is_nocase(STR("Content-TYPE"), "content-type"));
    assert_false(str_is_nocase(STR("Content"), "content-type"));
    assert_false(str_is_nocase(STR("content-type2"), "content-type"));
    assert_true(str_is_nocase(STR(""), ""));
    assert_true(str_eq((struct str){ NULL, 0 }, STR("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_written_to_both_ends_of_their_range),
        cmocka_unit_test(millionths_lose_needless_zeros_only),
        cmocka_unit_test(times_agree_with_the_c_library),
        cmocka_unit_test(times_out_of_four_digit_years_are_held_at_the_edge),
        cmocka_unit_test(only_well_formed_utf8_counts_as_a_character),
        cmocka_unit_test(a_fake_clock_stands_until_it_is_moved),
        cmocka_unit_test(names_compare_without_case),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
