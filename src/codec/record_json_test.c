/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/json.h"

enum kind { KIND_FAST, KIND_FIFO };
static const struct enum_name kinds[] = { { KIND_FAST, "fast" },
                                          { KIND_FIFO, "fifo" },
                                          { 0, NULL } };

struct box {
    struct uuid id, tenant_id, vpc_id;
    const char *name;
    int64_t size;
    bool open;
    int64_t expires_at;
    enum kind kind;
    int64_t price;
    const char *config, *tags, *ports, *token, *secret, *note;
    int64_t revision;
    const char *state, *hosts;
};

static const char *no_spaces(struct arena *arena, const char **value)
{
    if (strchr(*value, ' '))
        return "must not have spaces";
    if (strcmp(*value, "UP") == 0)
        *value = arena_strdup(arena, "up");
    return NULL;
}

static const char *no_minus(const char *key, const char *value, const char **code)
{
    if (key && key[0] == '-')
        return "must not begin with a minus";
    if (value[0] != '-')
        return NULL;
    *code = "out_of_range";
    return "must not be negative";
}

static const struct record vpc_ref = { .name = "vpc", .prefix = "vpc" };
static const struct record tenant_ref = { .name = "tenant", .prefix = "ten" };

/* clang-format off */
#define T struct box
static const struct field box_fields[] = {
    FIELD_UUID (T, id,                    0),
    FIELD_REF  (T, tenant_id, tenant_ref, 0),
    FIELD_REF  (T, vpc_id, vpc_ref,       FF_CREATE | FF_UPDATE | FF_CLEAR),
    FIELD_STR  (T, name,                  FF_CREATE | FF_UPDATE | FF_REQUIRED, .min = 2, .max = 10,
                                          .check = no_spaces),
    FIELD_INT  (T, size,                  FF_CREATE | FF_UPDATE | FF_CLEAR, .min = 1, .max = 100,
                                          .dflt = 30, .alias = "size_gb"),
    FIELD_BOOL (T, open,                  FF_CREATE | FF_UPDATE, .dflt = 1),
    FIELD_TIME (T, expires_at,            FF_CREATE | FF_NULL),
    FIELD_ENUM (T, kind, enum kind,       FF_CREATE, .names = kinds, .dflt = KIND_FIFO),
    FIELD_MICRO(T, price,                 FF_CREATE, .min = 0, .max = 5000000),
    FIELD_JSON (T, config,                FF_CREATE | FF_UPDATE, .max = 40),
    FIELD_MAP  (T, tags,                  FF_CREATE | FF_UPDATE, .max = 2,
                                          .check_entry = no_minus),
    FIELD_LIST (T, ports,                 FF_CREATE | FF_UPDATE, .max = 3,
                                          .check_entry = no_minus),
    FIELD_STR  (T, token,                 FF_ONCE),
    FIELD_STR  (T, secret,                FF_CREATE | FF_SECRET),
    FIELD_STR  (T, note,                  FF_CREATE | FF_UPDATE | FF_CLEAR, .dflt_str = "hello"),
    FIELD_INT  (T, revision,              FF_HIDDEN | FF_CREATE),
    FIELD_STR  (T, state,                 FF_VIRTUAL),
    FIELD_JSON (T, hosts,                 FF_UPDATE | FF_SECRET | FF_VIRTUAL, .check_entry = no_minus),
};
#undef T
/* clang-format on */
static const struct record box_record =
    RECORD(box, "boxes", box_fields, .prefix = "box", .arn_service = "store", .arn_type = "box");

#define UUID_A "01890a5d-ac96-774b-bcce-b302099a8057"
#define UUID_B "0110c853-1d09-52d8-d73e-1194e95b5f19"
#define TYPE_A "01h455vb4pex5vsknk084sn02q"

static struct arena a;
static struct faults faults;
static struct box row;
static uint64_t set;

static int begin(void **state _unused_)
{
    a = ARENA(MIB(16));
    faults = (struct faults){ .arena = &a };
    row = (struct box){ 0 };
    set = 0;
    return 0;
}

static int end(void **state _unused_)
{
    arena_free(&a);
    return 0;
}

static bool has(const char *field)
{
    return set >> record_index(&box_record, field) & 1;
}

/* Reads 'text' (' for ") and lists the faults as "field:code …". */
static const char *read_as(enum json_mode mode, const char *text)
{
    _cleanup_(buf_free) struct buf b = BUF(65536);
    char *json = arena_strdup(&a, text);
    struct err e;

    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(json), &e);
    if (!v)
        fail_msg("%s: %s", json, e.msg);
    faults = (struct faults){ .arena = &a };
    json_read_record(&a, &box_record, mode, v, &row, &set, &faults);
    for (const struct fault_item *f = faults.first; f; f = f->next)
        buf_printf(&b, "%s%s:%s", b.n ? " " : "", f->field, f->code);
    return arena_strdup(&a, buf_cstr(&b));
}

static const char *written(bool typeid, bool creation, bool dump)
{
    _cleanup_(buf_free) struct buf b = BUF(65536);
    struct json_out o = JSON_OUT(&b);

    o.view = (struct json_view){ .typeid = typeid, .creation = creation, .region = "local" };
    if (dump)
        json_dump_row(&o, &box_record, &row);
    else
        json_row(&o, &box_record, &row);
    assert_int_equal(json_done(&o), 0);
    return arena_strdup(&a, buf_cstr(&b));
}

static void fill(void)
{
    row = (struct box){ .id = { UUID_A },
                        .tenant_id = { UUID_B },
                        .vpc_id = { UUID_A },
                        .name = "jobs",
                        .size = 5,
                        .expires_at = INT64_C(1767654000123456),
                        .kind = KIND_FIFO,
                        .price = 20000,
                        .config = "{\"a\":1}",
                        .tags = "{\"k\":\"v\"}",
                        .ports = "[\"80\"]",
                        .token = "shown-once",
                        .secret = "never",
                        .revision = 9,
                        .state = "calm" };
}

static void a_row_is_written_in_the_order_of_its_table(void **state _unused_)
{
    fill();
    assert_string_equal(
        written(false, false, false),
        "{\"id\":\"" UUID_A "\",\"arn\":\"arn:thecloud:store:local:" UUID_B ":box/" UUID_A "\","
        "\"tenant_id\":\"" UUID_B "\",\"vpc_id\":\"" UUID_A "\",\"name\":\"jobs\",\"size\":5,"
        "\"open\":false,\"expires_at\":\"2026-01-05T23:00:00.123Z\",\"kind\":\"fifo\","
        "\"price\":0.02,\"config\":{\"a\":1},\"tags\":{\"k\":\"v\"},\"ports\":[\"80\"],"
        "\"state\":\"calm\"}");
}

static void the_platform_sees_typeids_but_uuids_in_arns(void **state _unused_)
{
    fill();
    const char *s = written(true, false, false);
    assert_non_null(strstr(s,
                           "{\"id\":\"box_" TYPE_A "\",\"arn\":\"arn:thecloud:store:local:" UUID_B
                           ":box/" UUID_A "\",\"tenant_id\":\"ten_0"));
    assert_non_null(strstr(s, "\"vpc_id\":\"vpc_" TYPE_A "\""));
}

static void absent_members_are_left_out_null_or_an_empty_list(void **state _unused_)
{
    row.id = (struct uuid){ UUID_A };
    assert_string_equal(written(false, false, false) +
                            strlen("{\"id\":\"" UUID_A "\",\"arn\":\"arn:"
                                   "thecloud:store:local::box/" UUID_A "\","),
                        "\"size\":0,\"open\":false,\"expires_at\":null,\"kind\":\"fast\","
                        "\"price\":0,\"ports\":[]}");
}

static void secrets_leave_never_and_tokens_once(void **state _unused_)
{
    fill();
    assert_null(strstr(written(false, false, false), "shown-once"));
    assert_non_null(strstr(written(false, true, false), "\"token\":\"shown-once\""));
    assert_null(strstr(written(false, true, false), "never"));
    assert_null(strstr(written(false, true, false), "revision"));
}

static void a_dumped_row_loads_as_it_was(void **state _unused_)
{
    struct err e;

    fill();
    const char *text = written(true, false, true);
    struct box was = row, got;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(text), &e);

    assert_non_null(v);
    memset(&got, 0xee, sizeof(got));
    assert_int_equal(json_load_row(&a, &box_record, v, &got, &e), 0);
    assert_null(got.state); /* virtual */
    assert_string_equal(got.secret, "never");
    assert_int_equal(got.expires_at, was.expires_at);
    assert_int_equal(got.revision, 9);
    assert_true(uuid_eq(&got.vpc_id, &was.vpc_id));
    row = got;
    assert_string_equal(written(true, false, true), text);
}

static void a_shown_row_loads_too_and_a_wrong_one_is_refused(void **state _unused_)
{
    struct err e;
    struct box got;

    fill();
    const char *text = written(true, true, false);
    struct json_value *v = json_parse(str_of(text), &e);
    assert_int_equal(json_load_row(&a, &box_record, v, &got, &e), 0);
    json_free(v);
    assert_true(uuid_eq(&got.id, &row.id));
    assert_int_equal(got.price, 20000);
    assert_string_equal(got.token, "shown-once");
    static const char *const bad[] = {
        "[]",
        "{\"size\":\"5\"}",
        "{\"id\":\"x\"}",
        "{\"id\":5}",
        "{\"open\":1}",
        "{\"kind\":\"no\"}",
        "{\"tags\":[]}",
        "{\"ports\":{}}",
        "{\"name\":7}",
        "{\"price\":\"x\"}",
        "{\"vpc_id\":\"box_" TYPE_A "\"}",
        "{\"expires_at\":\"soon\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        v = json_parse(str_of(bad[i]), &e);
        assert_int_equal(json_load_row(&a, &box_record, v, &got, &e), -1);
        assert_int_equal(e.code, ERR_INVALID);
        json_free(v);
    }
}

static void a_good_body_fills_the_row_and_its_defaults(void **state _unused_)
{
    assert_string_equal(read_as(JSON_CREATE, "{'name':'UP','vpc_id':'vpc_" TYPE_A "','price':1.25,"
                                             "'tags':{'a':'b'},'ports':['1','2'],'config':[1,{}],"
                                             "'expires_at':'2026-01-05','secret':'s'}"),
                        "");
    assert_string_equal(row.name, "up"); /* replaced by its check */
    assert_string_equal(row.vpc_id.s, UUID_A);
    assert_int_equal(row.price, 1250000);
    assert_string_equal(row.tags, "{\"a\":\"b\"}");
    assert_string_equal(row.ports, "[\"1\",\"2\"]");
    assert_string_equal(row.config, "[1,{}]");
    assert_true(row.expires_at == INT64_C(1767571200000000));
    assert_int_equal(row.size, 30);
    assert_true(row.open);
    assert_int_equal(row.kind, KIND_FIFO);
    assert_string_equal(row.note, "hello");
    assert_true(has("name") && has("price") && !has("size") && !has("note"));
}

static void every_fault_is_found(void **state _unused_)
{
    assert_string_equal(
        read_as(JSON_CREATE,
                "{'id':'" UUID_A "','size':101,'open':'yes','expires_at':'soon','kind':'slow',"
                "'price':0.0000001,'vpc_id':'q_" TYPE_A "','tags':{'a':1,'':'x'},'ports':[1,'x'],"
                "'revision':3,'colour':'red','arn':'x','state':'s'}"),
        "id:read_only size:out_of_range open:wrong_type expires_at:malformed kind:not_allowed "
        "price:out_of_range vpc_id:malformed tags.a:wrong_type tags.:too_short ports[0]:wrong_type "
        "revision:unknown colour:unknown arn:read_only state:read_only name:required");
    assert_string_equal(faults.first->next->message, "must be between 1 and 100");
    assert_int_equal(set, 0);
}

static void texts_have_bounds_and_no_control_characters(void **state _unused_)
{
    assert_string_equal(read_as(JSON_CREATE, "{'name':'a'}"), "name:too_short");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'12345678901'}"), "name:too_long");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'a b'}"), "name:malformed");
    assert_string_equal(faults.first->message, "must not have spaces");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'a\\u0007'}"), "name:malformed");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'abc','note':'a\\n\\t\\rb'}"), "");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'abc','note':'\\u007f'}"), "note:malformed");
    assert_string_equal(read_as(JSON_CREATE, "{'name':5}"), "name:wrong_type");
}

static void numbers_are_integers_where_integers_are_due(void **state _unused_)
{
    assert_string_equal(read_as(JSON_UPDATE, "{'size':30.0}"), "");
    assert_int_equal(row.size, 30);
    assert_string_equal(read_as(JSON_UPDATE, "{'size':30.5}"), "size:wrong_type");
    assert_string_equal(read_as(JSON_UPDATE, "{'size':1e300}"), "size:wrong_type");
    assert_string_equal(read_as(JSON_UPDATE, "{'size':0}"), "size:out_of_range");
    assert_string_equal(read_as(JSON_UPDATE, "{'size':'5'}"), "size:wrong_type");
    assert_string_equal(read_as(JSON_UPDATE, "{'size':true}"), "size:wrong_type");
    assert_string_equal(read_as(JSON_CREATE, "{'name':'abc','price':6}"), "price:out_of_range");
    assert_string_equal(faults.first->message, "must be between 0 and 5");
}

static void maps_lists_and_documents_are_bounded(void **state _unused_)
{
    assert_string_equal(read_as(JSON_UPDATE, "{'tags':{'a':'1','b':'2','c':'3'}}"),
                        "tags:too_long");
    assert_string_equal(read_as(JSON_UPDATE, "{'ports':['1','2','3','4']}"), "ports:too_long");
    assert_string_equal(read_as(JSON_UPDATE, "{'tags':[]}"), "tags:wrong_type");
    assert_string_equal(read_as(JSON_UPDATE, "{'ports':{}}"), "ports:wrong_type");
    assert_string_equal(
        read_as(JSON_UPDATE, "{'config':['12345678901234567890','12345678901234567890']}"),
        "config:too_long");
    char big[1200];
    memset(big, 'x', sizeof(big));
    big[1025] = '\0';
    assert_string_equal(read_as(JSON_UPDATE, arena_printf(&a, "{'ports':['%s']}", big)),
                        "ports[0]:too_long");
    assert_string_equal(read_as(JSON_UPDATE, arena_printf(&a, "{'ports':['%s']}", big + 1)), "");
    big[65] = '\0';
    assert_non_null(
        strstr(read_as(JSON_UPDATE, arena_printf(&a, "{'tags':{'%s':'v'}}", big)), ":too_long"));
}

static void a_negative_that_means_absent_is_left_out_but_kept_in_dumps(void **state _unused_)
{
    static const struct field fields[] = {
        { .name = "code", .type = F_INT, .flags = FF_ABSENT_NEGATIVE },
    };
    const struct record r = {
        .name = "end", .size = sizeof(int64_t), .fields = fields, .n_fields = 1
    };
    const int64_t values[] = { -1, 0, 137 };
    const char *const shown[] = { "{}", "{\"code\":0}", "{\"code\":137}" };
    const char *const dumped[] = { "{\"code\":-1}", "{\"code\":0}", "{\"code\":137}" };

    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct buf b = BUF(256);
        struct json_out o = JSON_OUT(&b);

        json_row(&o, &r, &values[i]);
        assert_string_equal(buf_cstr(&b), shown[i]);
        buf_clear(&b);
        o = JSON_OUT(&b);
        json_dump_row(&o, &r, &values[i]);
        assert_string_equal(buf_cstr(&b), dumped[i]);
        buf_free(&b);
    }
}

static void null_clears_what_can_be_cleared(void **state _unused_)
{
    fill();
    row.note = "x";
    assert_string_equal(read_as(JSON_UPDATE, "{'vpc_id':null,'note':null,'size':null}"), "");
    assert_true(uuid_is_nil(&row.vpc_id));
    assert_null(row.note);
    assert_int_equal(row.size, 30);
    assert_true(has("vpc_id") && has("note") && has("size"));
    assert_string_equal(read_as(JSON_UPDATE, "{'name':null}"), "name:wrong_type");
    assert_string_equal(row.name, "jobs");
    assert_string_equal(read_as(JSON_CREATE, "{'name':null,'note':null}"), "name:required");
}

static void an_update_changes_what_is_given_only(void **state _unused_)
{
    fill();
    assert_string_equal(read_as(JSON_UPDATE, "{'name':'new'}"), "");
    assert_string_equal(row.name, "new");
    assert_int_equal(row.size, 5);
    assert_string_equal(row.config, "{\"a\":1}");
    assert_true(set == UINT64_C(1) << record_index(&box_record, "name"));
    assert_string_equal(read_as(JSON_UPDATE, "{'kind':'fast'}"), "kind:read_only");
    assert_string_equal(faults.first->message, "cannot be changed");
    assert_string_equal(read_as(JSON_UPDATE, "[]"), ":wrong_type");
}

static void an_alias_is_the_same_member(void **state _unused_)
{
    assert_string_equal(read_as(JSON_UPDATE, "{'size_gb':7}"), "");
    assert_int_equal(row.size, 7);
    assert_true(has("size"));
    assert_string_equal(read_as(JSON_UPDATE, "{'size_gb':7,'size':8}"), "size:not_allowed");
    assert_string_equal(read_as(JSON_UPDATE, "{'size_gb':700}"), "size_gb:out_of_range");
}

static void each_faulty_entry_of_a_value_is_named(void **state _unused_)
{
    assert_string_equal(read_as(JSON_UPDATE, "{'ports':['1','-2','3','-4']}"),
                        "ports:too_long ports[1]:out_of_range ports[3]:out_of_range");
    assert_string_equal(read_as(JSON_UPDATE, "{'tags':{'-a':'-1','b':'-2'}}"),
                        "tags.-a:malformed tags.b:out_of_range");
    assert_string_equal(read_as(JSON_UPDATE, "{'hosts':'-1,2,-3'}"),
                        "hosts[0]:out_of_range hosts[2]:out_of_range");
    assert_string_equal(read_as(JSON_UPDATE, "{'hosts':['1','2,-3',4]}"),
                        "hosts[1]:out_of_range hosts[2]:wrong_type");
    assert_string_equal(read_as(JSON_UPDATE, "{'hosts':{'a':'-1'}}"), "");
    assert_string_equal(read_as(JSON_UPDATE, "{'hosts':''}"), "");
    assert_string_equal(read_as(JSON_UPDATE, "{'hosts':'1,2'}"), "");
}

static void a_flood_of_faults_is_kept_to_a_hundred(void **state _unused_)
{
    _cleanup_(buf_free) struct buf b = BUF(MIB(1));

    buf_puts(&b, "{");
    for (int i = 0; i < 5000; i++)
        buf_printf(&b,
                   "%s'member_with_a_long_name_that_nobody_wants_to_see_again_in_an_error_%d':1",
                   i ? "," : "", i);
    buf_puts(&b, "}");
    read_as(JSON_CREATE, buf_cstr(&b));
    size_t kept = 0;
    for (const struct fault_item *f = faults.first; f; f = f->next) {
        assert_true(strlen(f->field) <= 67);
        kept++;
    }
    assert_int_equal(kept, 100);
}

static const char *query(const char *name, const char *value)
{
    faults = (struct faults){ .arena = &a };
    json_read_text(&a, &box_record, name, str_of(value), &row, &set, &faults);
    return faults.first ? faults.first->code : "";
}

static void query_parameters_are_read_by_the_same_table(void **state _unused_)
{
    assert_string_equal(query("size", "42"), "");
    assert_int_equal(row.size, 42);
    assert_string_equal(query("size_gb", "43"), "not_allowed"); /* given twice */
    assert_string_equal(query("open", "true"), "");
    assert_string_equal(query("kind", "fifo"), "");
    assert_string_equal(query("vpc_id", "vpc_" TYPE_A), "");
    assert_string_equal(row.vpc_id.s, UUID_A);
    assert_string_equal(query("price", "0.5"), "");
    assert_int_equal(row.price, 500000);
    assert_string_equal(query("ports", "80,443"), "");
    assert_string_equal(row.ports, "[\"80\",\"443\"]");
    assert_string_equal(query("expires_at", "2026-01-05T23:00:00Z"), "");
    assert_string_equal(query("config", "{\"a\":[1]}"), "");
    assert_string_equal(row.config, "{\"a\":[1]}");
    assert_string_equal(query("name", "jobs"), "");
    assert_string_equal(row.name, "jobs");
    set = 0;
    assert_string_equal(query("size", "4x"), "wrong_type");
    assert_string_equal(query("size", "400"), "out_of_range");
    assert_string_equal(query("open", "1"), "wrong_type");
    assert_string_equal(query("kind", ""), "not_allowed");
    assert_string_equal(query("price", "1."), "wrong_type");
    assert_string_equal(query("price", "nan"), "wrong_type");
    assert_string_equal(query("name", "\xff\xfe"), "malformed");
    assert_string_equal(query("config", "{"), "malformed");
    assert_string_equal(query("config", "null"), "wrong_type");
    assert_string_equal(query("colour", "red"), "unknown");
    assert_string_equal(query("revision", "3"), "unknown");
    assert_int_equal(set, 0);
}

struct hook {
    const char *url, *broker;
};
/* clang-format off */
static const struct field hook_fields[] = {
    FIELD_URL(struct hook, url,    FF_CREATE | FF_REQUIRED, .max = 40, .doc = "Where it calls."),
    FIELD_URL(struct hook, broker, FF_CREATE | FF_URL_USER, .schemes = "amqps amqp", .doc = "What it tells."),
};
/* clang-format on */
static const struct record hook_record = RECORD(hook, NULL, hook_fields);

static size_t read_hook(struct arena *in, const char *text, struct hook *out)
{
    struct faults f = { .arena = in };
    struct err e;
    uint64_t given;
    struct json_value *v = json_parse(str_of(text), &e);

    *out = (struct hook){ 0 };
    json_read_record(in, &hook_record, JSON_CREATE, v, out, &given, &f);
    json_free(v);
    return f.n;
}

static void a_url_is_kept_in_its_normal_form(void **state _unused_)
{
    _cleanup_(arena_free) struct arena own = ARENA(MIB(1));
    struct hook h;

    assert_int_equal(
        read_hook(&own, "{\"url\":\"HTTPS://A.example:443\",\"broker\":\"amqp://u:p@b\"}", &h), 0);
    assert_string_equal(h.url, "https://a.example/");
    assert_string_equal(h.broker, "amqp://u:p@b/");
    assert_int_equal(read_hook(&own, "{\"url\":\"http://a.example\"}", &h), 1);
    assert_int_equal(
        read_hook(&own, "{\"url\":\"https://u@a.example\",\"broker\":\"https://b\"}", &h), 2);
    /* As it is kept it is one longer than this. */
    assert_int_equal(read_hook(&own, "{\"url\":\"https://a23456789012345678901234567.abc\"}", &h),
                     0);
    assert_int_equal(read_hook(&own, "{\"url\":\"https://a234567890123456789012345678.abc\"}", &h),
                     1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_is_kept_in_its_normal_form),
        TEST(a_row_is_written_in_the_order_of_its_table),
        TEST(the_platform_sees_typeids_but_uuids_in_arns),
        TEST(absent_members_are_left_out_null_or_an_empty_list),
        TEST(secrets_leave_never_and_tokens_once),
        TEST(a_dumped_row_loads_as_it_was),
        TEST(a_shown_row_loads_too_and_a_wrong_one_is_refused),
        TEST(a_good_body_fills_the_row_and_its_defaults),
        TEST(every_fault_is_found),
        TEST(texts_have_bounds_and_no_control_characters),
        TEST(numbers_are_integers_where_integers_are_due),
        TEST(maps_lists_and_documents_are_bounded),
        TEST(a_negative_that_means_absent_is_left_out_but_kept_in_dumps),
        TEST(null_clears_what_can_be_cleared),
        TEST(an_update_changes_what_is_given_only),
        TEST(an_alias_is_the_same_member),
        TEST(each_faulty_entry_of_a_value_is_named),
        TEST(a_flood_of_faults_is_kept_to_a_hundred),
        TEST(query_parameters_are_read_by_the_same_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
