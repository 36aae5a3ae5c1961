/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/sse.h"

static const char *put(struct buf *b, struct sse ev)
{
    buf_clear(b);
    assert_true(sse_put(b, &ev));
    return buf_cstr(b);
}

static void an_event_has_its_fields_and_an_empty_line(void **state _unused_)
{
    struct buf b = BUF(KIB(4));

    assert_string_equal(put(&b, (struct sse){ .data = STR("a") }), "data: a\n\n");
    assert_string_equal(
        put(&b, (struct sse){ .id = "7", .event = "x.y", .data = STR("a"), .retry_ms = 2000 }),
        "retry: 2000\nid: 7\nevent: x.y\ndata: a\n\n");
    assert_string_equal(put(&b, (struct sse){ .retry_ms = 1 }), "retry: 1\n\n");
    assert_string_equal(put(&b, (struct sse){ .id = "" }), "id: \n\n"); /* takes the id back */
    buf_free(&b);
}

static void each_line_of_data_is_one_however_it_ends(void **state _unused_)
{
    static const char *const cases[][2] = {
        { "", "data: \n\n" },
        { "a\nb", "data: a\ndata: b\n\n" },
        { "a\r\nb", "data: a\ndata: b\n\n" },
        { "a\rb", "data: a\ndata: b\n\n" },
        { "a\n", "data: a\ndata: \n\n" },
        { "\r", "data: \ndata: \n\n" },
        { "\n\r", "data: \ndata: \ndata: \n\n" },
        { " a: b", "data:  a: b\n\n" },
    };
    struct buf b = BUF(KIB(4));

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_string_equal(put(&b, (struct sse){ .data = str_of(cases[i][0]) }), cases[i][1]);
    buf_free(&b);
}

static void what_would_end_its_line_is_no_id_and_no_type(void **state _unused_)
{
    static const struct sse bad[] = {
        { .id = "a\nb" }, { .id = "\r" }, { .event = "a\rb" }, { .event = "x\n\ndata: y" }
    };
    struct buf b = BUF(KIB(4));

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(sse_put(&b, &bad[i]));
    assert_int_equal(b.n, 0);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_has_its_fields_and_an_empty_line),
        cmocka_unit_test(each_line_of_data_is_one_however_it_ends),
        cmocka_unit_test(what_would_end_its_line_is_no_id_and_no_type),
    };

    return cmocka_run_group_tests_name("sse", tests, NULL, NULL);
}
