/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/json.h"

struct wheel {
    const char *name;
    int64_t spokes;
};
struct cart {
    struct rows wheels;
    const void *spare; /* struct wheel */
    const char *colours, *by_name, *by_number;
};

static const char *check_colour(struct arena *a _unused_, const char **v)
{
    return strcmp(*v, "red") == 0 || strcmp(*v, "blue") == 0 ? NULL : "must be red or blue";
}
static const struct form form_colour = { .check = check_colour,
                                         .pattern = "^(red|blue)$",
                                         .example = "red" };

/* clang-format off */
static const struct field wheel_fields[] = {
    FIELD_STR(struct wheel, name,   FF_CREATE | FF_REQUIRED, .min = 1, .max = 9),
    FIELD_INT(struct wheel, spokes, FF_CREATE, .min = 3, .max = 99, .dflt = 12),
};
static const struct record wheel_record = RECORD(wheel, NULL, wheel_fields);
#define T struct cart
static const struct field cart_fields[] = {
    FIELD_ROWS(T, wheels, wheel_record, FF_CREATE | FF_REQUIRED, .min = 2, .max = 4),
    FIELD_ROW (T, spare,  wheel_record, FF_CREATE),
    FIELD_LIST(T, colours,   FF_CREATE | FF_UPDATE | FF_UPDATE_REQUIRED, .form = &form_colour),
    FIELD_STR (T, by_name,   FF_CREATE | FF_EITHER),
    FIELD_STR (T, by_number, FF_CREATE | FF_EITHER),
};
#undef T
/* clang-format on */
static const struct record cart_record = RECORD(cart, NULL, cart_fields);

static struct arena a;
static struct cart row;

static int begin(void **state _unused_)
{
    a = ARENA(MIB(4));
    row = (struct cart){ .by_name = NULL };
    return 0;
}

static int end(void **state _unused_)
{
    arena_free(&a);
    return 0;
}

/* Reads 'text' (' for ") and lists the faults as "field:code …". */
static const char *read_as(enum json_mode mode, const char *text)
{
    struct faults faults = { .arena = &a };
    char *json = arena_strdup(&a, text);
    const char *all = "";
    uint64_t set = 0;
    struct err e;

    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(json), &e);
    if (!v)
        fail_msg("%s: %s", json, e.msg);
    json_read_record(&a, &cart_record, mode, v, &row, &set, &faults);
    for (const struct fault_item *f = faults.first; f; f = f->next)
        all = arena_printf(&a, "%s%s%s:%s", all, *all ? " " : "", f->field, f->code);
    return all;
}

static const struct wheel *wheel(size_t i)
{
    return (const struct wheel *)row.wheels.v + i;
}

static void a_list_of_objects_becomes_rows(void **state _unused_)
{
    assert_string_equal(read_as(JSON_CREATE,
                                "{'wheels':[{'name':'l'},{'name':'r','spokes':20}],'by_name':'x',"
                                "'spare':{'name':'s'}}"),
                        "");
    assert_int_equal(row.wheels.n, 2);
    assert_string_equal(wheel(0)->name, "l");
    assert_int_equal(wheel(0)->spokes, 12);
    assert_int_equal(wheel(1)->spokes, 20);
    assert_string_equal(((const struct wheel *)row.spare)->name, "s");
}

static void faults_within_bear_their_place(void **state _unused_)
{
    assert_string_equal(
        read_as(JSON_CREATE, "{'wheels':[{'name':''},7,{'spokes':2,'hub':1}],'by_name':'x',"
                             "'spare':{'name':1}}"),
        "wheels[0].name:too_short wheels[1]:wrong_type wheels[2].spokes:out_of_range "
        "wheels[2].hub:unknown wheels[2].name:required spare.name:wrong_type");
    assert_string_equal(read_as(JSON_CREATE, "{'wheels':[{'name':'a'}],'by_name':'x'}"),
                        "wheels:too_short");
    assert_string_equal(read_as(JSON_CREATE, "{'wheels':[{},{},{},{},{}],'by_name':'x'}"),
                        "wheels:too_long");
    assert_string_equal(read_as(JSON_CREATE, "{'wheels':{},'spare':[],'by_name':'x'}"),
                        "wheels:wrong_type spare:wrong_type");
}

#define WHEELS "'wheels':[{'name':'l'},{'name':'r'}]"

static void each_entry_of_a_list_has_its_form(void **state _unused_)
{
    assert_string_equal(
        read_as(JSON_CREATE, "{" WHEELS ",'by_name':'x','colours':['red','green','pink']}"),
        "colours[1]:malformed colours[2]:malformed");
    assert_string_equal(read_as(JSON_CREATE, "{" WHEELS ",'by_name':'x','colours':['red','blue']}"),
                        "");
    assert_string_equal(row.colours, "[\"red\",\"blue\"]");
}

static void of_fields_that_stand_for_each_other_one_is_given(void **state _unused_)
{
    assert_string_equal(read_as(JSON_CREATE, "{" WHEELS "}"), "by_name:required");
    assert_string_equal(read_as(JSON_CREATE, "{" WHEELS ",'by_name':'x','by_number':'1'}"),
                        "by_number:not_allowed");
    assert_string_equal(read_as(JSON_CREATE, "{" WHEELS ",'by_number':'1'}"), "");
}

static void a_change_may_need_a_member(void **state _unused_)
{
    assert_string_equal(read_as(JSON_UPDATE, "{}"), "colours:required");
    assert_string_equal(read_as(JSON_UPDATE, "{'colours':['red']}"), "");
}

static const char *written(void)
{
    _cleanup_(buf_free) struct buf b = BUF(65536);
    struct json_out o = JSON_OUT(&b);

    json_row(&o, &cart_record, &row);
    assert_int_equal(json_done(&o), 0);
    return arena_dup(&a, b.p, b.n);
}

static void rows_go_out_and_come_back(void **state _unused_)
{
    struct err e;

    assert_string_equal(written(), "{\"colours\":[]}");
    assert_string_equal(read_as(JSON_CREATE, "{" WHEELS ",'by_name':'x','spare':{'name':'s'}}"),
                        "");
    const char *text = written();
    assert_string_equal(text, "{\"wheels\":[{\"name\":\"l\",\"spokes\":12},{\"name\":\"r\","
                              "\"spokes\":12}],\"spare\":{\"name\":\"s\",\"spokes\":12},"
                              "\"colours\":[],\"by_name\":\"x\"}");
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(text), &e);
    assert_int_equal(json_load_row(&a, &cart_record, v, &row, &e), 0);
    assert_string_equal(written(), text);
    _cleanup_(json_freep) struct json_value *bad = json_parse(STR("{\"wheels\":[7]}"), &e);
    assert_int_equal(json_load_row(&a, &cart_record, bad, &row, &e), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_list_of_objects_becomes_rows),
        TEST(faults_within_bear_their_place),
        TEST(each_entry_of_a_list_has_its_form),
        TEST(of_fields_that_stand_for_each_other_one_is_given),
        TEST(a_change_may_need_a_member),
        TEST(rows_go_out_and_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
