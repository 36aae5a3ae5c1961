/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/record.h"

enum state { STATE_ON, STATE_OFF = 5 };
static const struct enum_name states[] = { { STATE_ON, "on" }, { STATE_OFF, "off" }, { 0, NULL } };

struct lamp {
    struct uuid id;
    const char *name;
    enum state state;
    int64_t watts;
    bool dimmed;
};

/* clang-format off */
#define T struct lamp
static const struct field lamp_fields[] = {
    FIELD_UUID(T, id, 0),
    FIELD_STR (T, name, FF_CREATE),
    FIELD_ENUM(T, state, enum state, 0, .names = states),
    FIELD_INT (T, watts, FF_CREATE, .alias = "power"),
    FIELD_BOOL(T, dimmed, 0),
};
#undef T
/* clang-format on */
static const struct record lamp_record = RECORD(lamp, "lamps", lamp_fields);

static void fields_are_found_by_name_and_lie_where_the_struct_says(void **state _unused_)
{
    struct lamp l = { .watts = 40, .name = "desk" };
    const struct field *f = record_field(&lamp_record, "watts");

    assert_int_equal(*FIELD_CAT(&l, f, int64_t), 40);
    *FIELD_AT(&l, f, int64_t) = 60;
    assert_int_equal(l.watts, 60);
    assert_int_equal(record_index(&lamp_record, "watts"), 3);
    assert_null(record_field(&lamp_record, "volts"));
    assert_null(record_field(&lamp_record, "power"));
    assert_ptr_equal(record_named(&lamp_record, "power"), f);
    assert_ptr_equal(record_named(&lamp_record, "watts"), f);
    assert_null(record_named(&lamp_record, "volts"));
    assert_string_equal(*FIELD_CAT(&l, &lamp_fields[1], const char *), "desk");
}

static void enum_words_go_both_ways(void **state _unused_)
{
    assert_string_equal(enum_to_str(states, STATE_OFF), "off");
    assert_null(enum_to_str(states, 3));
    assert_int_equal(enum_from_str(states, "off"), STATE_OFF);
    assert_int_equal(enum_from_str(states, "dim"), -1);
}

static void a_set_of_fields_is_named_by_the_members(void **state _unused_)
{
    assert_true(FIELD_SET(lamp, name) == record_bit(&lamp_record, "name"));
    assert_true(FIELD_SET(lamp, name, watts, dimmed) ==
                (record_bit(&lamp_record, "name") | record_bit(&lamp_record, "watts") |
                 record_bit(&lamp_record, "dimmed")));
}

static void a_copy_takes_the_fields_of_its_set_only(void **state _unused_)
{
    struct lamp from = { .name = "new", .watts = 5, .state = STATE_OFF, .dimmed = true };
    struct lamp to = { .name = "old", .watts = 1 };

    record_copy(&lamp_record, &to, &from, 1 << 1 | 1 << 2 | 1 << 4);
    assert_string_equal(to.name, "new");
    assert_int_equal(to.watts, 1);
    assert_int_equal(to.state, STATE_OFF);
    assert_true(to.dimmed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_found_by_name_and_lie_where_the_struct_says),
        cmocka_unit_test(enum_words_go_both_ways),
        cmocka_unit_test(a_set_of_fields_is_named_by_the_members),
        cmocka_unit_test(a_copy_takes_the_fields_of_its_set_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
