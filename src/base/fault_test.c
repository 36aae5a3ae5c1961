/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"

static void only_the_nth_passage_of_the_armed_point_fails(void **state _unused_)
{
    assert_false(FAULT("db.exec"));
    fault_arm("db.exec", 3);
    assert_false(FAULT("db.exec"));
    assert_false(FAULT("db.commit"));
    assert_false(FAULT("db.exec"));
    assert_true(FAULT("db.exec"));
    assert_false(FAULT("db.exec"));
    assert_int_equal(fault_passages(), 4);
    fault_arm(NULL, 0);
    assert_false(FAULT("db.exec"));
    assert_int_equal(fault_passages(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_nth_passage_of_the_armed_point_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
