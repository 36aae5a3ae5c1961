/* SPDX-License-Identifier: Apache-2.0 */
#include "os/engine.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define M_FUNCTIONS(F) F(cbrt) F(hypot)
ENGINE_DECLARE(m, M_FUNCTIONS);
ENGINE_DEFINE(m, "libm.so.6", M_FUNCTIONS);

static void functions_work_once_their_library_is_open(void **state _unused_)
{
    volatile double x = 27;
    struct err e;

    assert_int_equal(m_open(&e), 0);
    assert_int_equal(m_open(&e), 0);
    assert_true(m_engine.cbrt(x) > 2.99 && m_engine.cbrt(x) < 3.01);
    assert_true(m_engine.hypot(x, 0) > 26.9);
}

static void what_the_machine_lacks_is_named(void **state _unused_)
{
    static const char *const names[] = { "cbrt", "no_such_function", NULL };
    void *table[2];
    _Atomic int opened = 0;
    struct err e;

    assert_int_equal(engine_open("libnosuch.so.7", names, table, &opened, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_non_null(strstr(e.msg, "libnosuch.so.7"));
    assert_int_equal(engine_open("libm.so.6", names, table, &opened, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    assert_non_null(strstr(e.msg, "no_such_function"));
    assert_int_equal(opened, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_work_once_their_library_is_open),
        cmocka_unit_test(what_the_machine_lacks_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
