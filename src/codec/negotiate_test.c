/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/negotiate.h"

static void the_most_specific_range_decides(void **state _unused_)
{
    static const struct {
        const char *accept;
        int q;
        bool named;
    } cases[] = {
        { "application/json", 1000, true },
        { "Application/JSON;charset=utf-8", 1000, true },
        { "*/*", 1000, false },
        { "application/*;q=0.5", 500, false },
        { "*/*;q=1, application/json;q=0", 0, true },
        { "application/json;q=0, */*", 0, true },
        { "application/*;q=0.2, */*;q=0.9", 200, false },
        { "text/html, application/json ; q=0.875", 875, true },
        { "application/json;q=0.1, application/json;q=0.3", 300, true },
        { "x;a=\"application/json\", text/html", 0, false },
        { "text/x;a=\",application/json,\"", 0, false },
        { "application/jsonx, application/xjson, xapplication/json", 0, false },
        { "image/png", 0, false },
        { "application", 0, false },
        { "*", 0, false },
        { "application/*json", 0, false },
        { "application/json;q=2", 0, false },
        { "application/json;q=1.001", 0, false },
        { "application/json;q=", 0, false },
        { "application/json;q=0.1234", 0, false },
        { "", 0, false },
        { ",, ,", 0, false },
    };
    bool named;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int q = accept_quality(str_of(cases[i].accept), "application/json", &named);
        if (q != cases[i].q || named != cases[i].named)
            fail_msg("'%s': %d, %d", cases[i].accept, q, named);
    }
}

static void a_coding_is_wanted_by_its_name_or_by_a_star(void **state _unused_)
{
    assert_int_equal(coding_quality(STR("gzip"), "gzip"), 1000);
    assert_int_equal(coding_quality(STR("deflate, GZIP;q=0.5"), "gzip"), 500);
    assert_int_equal(coding_quality(STR("*"), "gzip"), 1000);
    assert_int_equal(coding_quality(STR("*, gzip;q=0"), "gzip"), 0);
    assert_int_equal(coding_quality(STR("gzip;q=0.000, *"), "gzip"), 0);
    assert_int_equal(coding_quality(STR("x-gzip, gzipp"), "gzip"), 0);
    assert_int_equal(coding_quality(STR(""), "gzip"), 0);
}

static void tags_come_one_by_one(void **state _unused_)
{
    struct str list = STR(" \"a\",W/\"b,c\" ,, \"\" ");
    struct etag t;

    assert_true(etag_next(&list, &t) && str_is(t.opaque, "a") && !t.weak);
    assert_true(etag_next(&list, &t) && str_is(t.opaque, "b,c") && t.weak);
    assert_true(etag_next(&list, &t) && t.opaque.n == 0 && !t.weak);
    assert_false(etag_next(&list, &t));
    assert_true(etag_any(STR(" * ")));
    assert_false(etag_any(STR("\"*\"")));
    assert_false(etag_any(STR("*, *")));
}

static void what_is_no_tag_ends_the_list(void **state _unused_)
{
    static const char *const bad[] = { "a",          "\"a",     "W/a", "w/\"a\"", "*",  "x\"a\"",
                                       "\"a\"\"b\"", "\"a\" x", "W/",  "W",       "\"", "" };
    struct etag t;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str list = str_of(bad[i]);
        if (etag_next(&list, &t))
            fail_msg("'%s' was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_specific_range_decides),
        cmocka_unit_test(a_coding_is_wanted_by_its_name_or_by_a_star),
        cmocka_unit_test(tags_come_one_by_one),
        cmocka_unit_test(what_is_no_tag_ends_the_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
