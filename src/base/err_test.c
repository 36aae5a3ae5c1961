/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base.h"

static void an_error_carries_code_message_and_cause(void **state _unused_)
{
    struct err e;

    assert_int_equal(err_set(&e, ERR_NOT_FOUND, "queue %s", "jobs"), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.msg, "queue jobs");
    assert_string_equal(e.cause, "");
    assert_int_equal(err_cause(&e, ERR_OVERLOADED, "disk", "try later"), -1);
    assert_string_equal(e.cause, "disk");
}

static void a_system_error_shows_its_reason_to_the_log_only(void **state _unused_)
{
    struct err e;

    assert_int_equal(err_sys(&e, ENOENT, "open %s", "/secret/path"), -1);
    assert_int_equal(e.code, ERR_INTERNAL);
    assert_string_equal(e.msg, "internal error");
    assert_non_null(strstr(e.cause, "/secret/path"));
    assert_non_null(strstr(e.cause, "No such file"));
}

static void long_texts_are_cut(void **state _unused_)
{
    struct err e;

    err_set(&e, ERR_INVALID, "%0500d", 1);
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
    err_sys(&e, EIO, "%0500d", 1);
    assert_true(strlen(e.cause) < sizeof(e.cause));
}

static void a_character_that_was_cut_is_none(void **state _unused_)
{
    static const char euro[] = "\xe2\x82\xac";
    struct err e;

    for (int before = 150; before < 160; before++) {
        err_set(&e, ERR_INVALID, "%0*d%s%s%s", before, 1, euro, euro, euro);
        size_t n = strlen(e.msg);
        assert_true(n >= (size_t)before && n < sizeof(e.msg) && (n - (size_t)before) % 3 == 0);
    }
    err_set(&e, ERR_INVALID, "'%.4s' is none", "\xe2\x82\xac\xe2\x82\xac");
    assert_string_equal(e.msg, "'\xe2\x82\xac' is none");
}

static void words_cross_a_socket_and_come_back(void **state _unused_)
{
    assert_int_equal(err_from_wire(err_wire(ERR_QUOTA_EXCEEDED)), ERR_QUOTA_EXCEEDED);
    assert_int_equal(err_from_wire("no such word"), ERR_INTERNAL);
    assert_int_equal(err_from_wire(NULL), ERR_INTERNAL);
    assert_int_equal(err_status(ERR_RATE_LIMITED), 429);
    assert_true(err_retry(ERR_OVERLOADED));
    assert_false(err_retry(ERR_FORBIDDEN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_carries_code_message_and_cause),
        cmocka_unit_test(a_system_error_shows_its_reason_to_the_log_only),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(a_character_that_was_cut_is_none),
        cmocka_unit_test(words_cross_a_socket_and_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
