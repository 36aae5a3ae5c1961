/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/partial.h"

static void a_range_is_one_none_or_nowhere(void **state _unused_)
{
    /* clang-format off */
    static const struct {
        const char *value;
        int64_t size;
        enum range_kind kind;
        int64_t first, n;
    } cases[] = {
        { "bytes=0-499", 10000, RANGE_ONE, 0, 500 }, /* RFC 9110 14.1.2 */
        { "bytes=500-999", 10000, RANGE_ONE, 500, 500 },
        { "bytes=-500", 10000, RANGE_ONE, 9500, 500 },
        { "bytes=9500-", 10000, RANGE_ONE, 9500, 500 },
        { "bytes=0-0", 10, RANGE_ONE, 0, 1 },
        { "bytes=9-9", 10, RANGE_ONE, 9, 1 },
        { "bytes=0-", 10, RANGE_ONE, 0, 10 },
        { "bytes=0-99999999999999999999999", 10, RANGE_ONE, 0, 10 },
        { "bytes=-99999999999999999999999", 10, RANGE_ONE, 0, 10 },
        { "bytes=3-9223372036854775807", 10, RANGE_ONE, 3, 7 },
        { "BYTES=1-2", 10, RANGE_ONE, 1, 2 },
        { "bytes=, 1-2 ,", 10, RANGE_ONE, 1, 2 },
        { "bytes= 1-2\t", 10, RANGE_ONE, 1, 2 },
        { "bytes=10-", 10, RANGE_NOWHERE, 0, 0 },
        { "bytes=10-20", 10, RANGE_NOWHERE, 0, 0 },
        { "bytes=99999999999999999999999-", 10, RANGE_NOWHERE, 0, 0 },
        { "bytes=99999999999999999999998-99999999999999999999999", 10, RANGE_NOWHERE, 0, 0 },
        { "bytes=-0", 10, RANGE_NOWHERE, 0, 0 },
        { "bytes=0-", 0, RANGE_NOWHERE, 0, 0 },
        { "bytes=-5", 0, RANGE_WHOLE, 0, 0 },
        { "bytes=0-1,3-4", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0-0,-1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=20-30,40-50", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=5-4", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=5", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=-", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=,", 10, RANGE_WHOLE, 0, 0 },
        { "bytes", 10, RANGE_WHOLE, 0, 0 },
        { "", 10, RANGE_WHOLE, 0, 0 },
        { "bytes =0-1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0 -1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=0- 1", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=+1-2", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=1-2x", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=1-2 3-4", 10, RANGE_WHOLE, 0, 0 },
        { "bytes=--1", 10, RANGE_WHOLE, 0, 0 },
        { "lines=0-1", 10, RANGE_WHOLE, 0, 0 },
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t first = 0, n = 0;
        enum range_kind kind = range_read(str_of(cases[i].value), cases[i].size, &first, &n);

        if (kind != cases[i].kind || first != cases[i].first || n != cases[i].n)
            fail_msg("'%s' of %lld: %d, %lld+%lld", cases[i].value, (long long)cases[i].size, kind,
                     (long long)first, (long long)n);
    }
}

enum { NOW = 784111777 + 3600, THEN = 784111777 }; /* Sun, 06 Nov 1994 08:49:37 GMT */

static void a_date_is_read_in_its_three_forms(void **state _unused_)
{
    static const char *const same[] = {
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    };
    static const char *const none[] = {
        "",
        "0",
        "\"a\"",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun Nov 06 08:49:37 94",
        "1994-11-06T08:49:37Z",
    };
    char text[HTTP_DATE];
    int64_t at;

    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        assert_true(http_date_parse(str_of(same[i]), NOW, &at));
        assert_int_equal(at, THEN);
    }
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        if (http_date_parse(str_of(none[i]), NOW, &at))
            fail_msg("'%s' is read", none[i]);
    http_date_format(THEN, text);
    assert_string_equal(text, same[0]);
    assert_true(http_date_parse(STR("Sat, 31 Dec 2016 23:59:60 GMT"), NOW, &at));
    http_date_format(at, text);
    assert_string_equal(text, "Sun, 01 Jan 2017 00:00:00 GMT");
    assert_true(http_date_parse(STR("Wed, 06 Nov 0997 08:49:37 GMT"), NOW, &at));
    http_date_format(at, text);
    assert_int_equal(memcmp(text + 8, "Nov 0997 08:49:37 GMT", 22), 0);
    /* Fifty years ahead at most. */
    assert_true(http_date_parse(STR("Sunday, 06-Nov-44 08:49:37 GMT"), NOW, &at) && at > NOW);
    assert_true(http_date_parse(STR("Sunday, 06-Nov-45 08:49:37 GMT"), NOW, &at) && at < NOW);
}

struct asked {
    const char *if_match, *if_unmodified_since, *if_none_match, *if_modified_since, *if_range,
        *range;
};

static struct str field(const char *s)
{
    return s ? str_of(s) : (struct str){ NULL, 0 };
}

#define SAME   "Sun, 06 Nov 1994 08:49:37 GMT"
#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define AFTER  "Sun, 06 Nov 1994 08:49:38 GMT"

static void conditions_have_their_order(void **state _unused_)
{
    /* clang-format off */
    static const struct {
        struct asked a;
        int status;
        int64_t first, n;
    } cases[] = {
        { { NULL }, 200, 0, 10 },
        { { .range = "bytes=2-3" }, 206, 2, 2 },
        { { .range = "bytes=10-" }, 416, 0, 0 },
        { { .range = "bytes=0-1,3-4" }, 200, 0, 10 },
        /* 1: If-Match, by strong comparison */
        { { .if_match = "\"a\"" }, 200, 0, 10 },
        { { .if_match = "\"b\", \"a\"" }, 200, 0, 10 },
        { { .if_match = "*" }, 200, 0, 10 },
        { { .if_match = "W/\"a\"" }, 412, 0, 0 },
        { { .if_match = "\"b\"" }, 412, 0, 0 },
        { { .if_match = "" }, 412, 0, 0 },
        /* 2: If-Unmodified-Since, without it alone */
        { { .if_unmodified_since = SAME }, 200, 0, 10 },
        { { .if_unmodified_since = AFTER }, 200, 0, 10 },
        { { .if_unmodified_since = BEFORE }, 412, 0, 0 },
        { { .if_unmodified_since = "yesterday" }, 200, 0, 10 },
        { { .if_match = "\"a\"", .if_unmodified_since = BEFORE }, 200, 0, 10 },
        /* 3: If-None-Match, by weak comparison */
        { { .if_none_match = "\"a\"" }, 304, 0, 0 },
        { { .if_none_match = "W/\"a\"" }, 304, 0, 0 },
        { { .if_none_match = "\"b\", W/\"a\"" }, 304, 0, 0 },
        { { .if_none_match = "*" }, 304, 0, 0 },
        { { .if_none_match = "\"b\"" }, 200, 0, 10 },
        { { .if_match = "\"b\"", .if_none_match = "\"a\"" }, 412, 0, 0 },
        { { .if_match = "\"a\"", .if_none_match = "\"a\"" }, 304, 0, 0 },
        { { .if_unmodified_since = BEFORE, .if_none_match = "\"a\"" }, 412, 0, 0 },
        { { .if_none_match = "\"a\"", .range = "bytes=0-1" }, 304, 0, 0 },
        /* 4: If-Modified-Since, without that alone */
        { { .if_modified_since = SAME }, 304, 0, 0 },
        { { .if_modified_since = AFTER }, 304, 0, 0 },
        { { .if_modified_since = BEFORE }, 200, 0, 10 },
        { { .if_modified_since = "yesterday" }, 200, 0, 10 },
        { { .if_none_match = "\"b\"", .if_modified_since = SAME }, 200, 0, 10 },
        /* 5: If-Range, by strong comparison; an exact date */
        { { .if_range = "\"a\"", .range = "bytes=2-3" }, 206, 2, 2 },
        { { .if_range = "W/\"a\"", .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = "\"b\"", .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = "\"b\", \"a\"", .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = "*", .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = SAME, .range = "bytes=2-3" }, 206, 2, 2 },
        { { .if_range = AFTER, .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = BEFORE, .range = "bytes=2-3" }, 200, 0, 10 },
        { { .if_range = "\"b\"", .range = "bytes=10-" }, 200, 0, 10 },
        { { .if_range = "\"a\"", .range = "bytes=10-" }, 416, 0, 0 },
        { { .if_range = "\"a\"" }, 200, 0, 10 },
        { { .if_match = "\"b\"", .if_range = "\"a\"", .range = "bytes=2-3" }, 412, 0, 0 },
    };
    /* clang-format on */
    const struct validators v = { "\"a\"", THEN, 10 };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct asked *a = &cases[i].a;
        struct conditions c = { field(a->if_match),      field(a->if_unmodified_since),
                                field(a->if_none_match), field(a->if_modified_since),
                                field(a->if_range),      field(a->range) };
        struct partial p;

        partial_of(&c, &v, NOW, &p);
        if (p.status != cases[i].status || p.first != cases[i].first || p.n != cases[i].n)
            fail_msg("case %zu: %d, %lld+%lld", i, p.status, (long long)p.first, (long long)p.n);
    }
}

static void a_date_of_this_second_is_no_proof(void **state _unused_)
{
    const struct conditions c = { .if_range = STR(SAME), .range = STR("bytes=2-3") };
    const struct validators v = { "\"a\"", THEN, 10 };
    struct partial p;

    partial_of(&c, &v, THEN, &p);
    assert_int_equal(p.status, 200);
    partial_of(&c, &v, THEN + 1, &p);
    assert_int_equal(p.status, 206);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_one_none_or_nowhere),
        cmocka_unit_test(a_date_is_read_in_its_three_forms),
        cmocka_unit_test(conditions_have_their_order),
        cmocka_unit_test(a_date_of_this_second_is_no_proof),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
