/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"

static void it_grows_to_its_maximum_and_no_further(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(1000);

    for (int i = 0; i < 1000; i++)
        buf_putc(&b, 'x');
    assert_false(b.failed);
    assert_int_equal(b.n, 1000);
    buf_putc(&b, 'y');
    assert_true(b.failed);
    assert_int_equal(b.n, 1000);
    assert_string_equal(buf_cstr(&b), "");
    buf_clear(&b);
    buf_puts(&b, "again");
    assert_string_equal(buf_cstr(&b), "again");
}

static void what_does_not_fit_changes_nothing(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(8);

    buf_puts(&b, "1234");
    buf_puts(&b, "56789");
    assert_true(b.failed);
    assert_int_equal(b.n, 4);
    buf_puts(&b, "5");
    assert_int_equal(b.n, 4);
}

static void printing_may_fill_it_to_the_last_byte(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(5);

    buf_printf(&b, "%05d", 42);
    assert_false(b.failed);
    assert_string_equal(buf_cstr(&b), "00042");
}

static void eating_moves_the_rest_to_the_front(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(100);

    buf_puts(&b, "hello world");
    buf_eat(&b, 6);
    assert_string_equal(buf_cstr(&b), "world");
    buf_eat(&b, 5);
    assert_int_equal(b.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_grows_to_its_maximum_and_no_further),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(printing_may_fill_it_to_the_last_byte),
        cmocka_unit_test(eating_moves_the_rest_to_the_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
