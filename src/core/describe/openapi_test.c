/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/app.h"

struct shelf {
    struct uuid id;
    const char *name;
    const char *secret;
    const char *tags;
    int64_t size;
    enum mode mode;
    int64_t made_at;
};
struct search {
    const char *text;
};
struct load {
    struct rows shelves;
    const char *by_name, *by_tag;
};
extern const struct record shelf_record;
static const struct enum_name modes[] = { { MODE_LIVE, "live" }, { MODE_TEST, "test" }, { 0 } };

/* clang-format off */
#define T struct shelf
static const struct field shelf_fields[] = {
    FIELD_UUID(T, id,              0, .doc = "Given by the server."),
    FIELD_STR (T, name,            FF_CREATE | FF_UPDATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = 64, .doc = "Name."),
    FIELD_STR (T, secret,          FF_CREATE | FF_SECRET, .doc = "Never out."),
    FIELD_LIST(T, tags,            FF_CREATE | FF_UPDATE | FF_CLEAR, .dflt_str = "[]", .doc = "Tags."),
    FIELD_INT (T, size,            FF_CREATE, .min = 1, .max = 9, .dflt = 3, .doc = "Size."),
    FIELD_ENUM(T, mode, enum mode, FF_FILTER, .names = modes, .doc = "Mode."),
    FIELD_TIME(T, made_at,         FF_HIDDEN, .doc = "Hidden."),
};
#undef T
#define T struct load
static const struct field load_fields[] = {
    FIELD_ROWS(T, shelves, shelf_record, FF_CREATE | FF_REQUIRED, .min = 1, .max = 5, .doc = "Shelves."),
    FIELD_STR (T, by_name, FF_CREATE | FF_EITHER, .form = &form_name, .doc = "One way."),
    FIELD_STR (T, by_tag,  FF_CREATE | FF_EITHER, .doc = "The other."),
};
#undef T
const struct record shelf_record = RECORD(shelf, "shelves", shelf_fields, .prefix = "shelf");
static const struct record other_shelf_record = { .name = "shelf", .fields = shelf_fields, .n_fields = 1 };
static const struct record load_record = RECORD(load, NULL, load_fields);
static const struct field search_fields[] = { FIELD_STR(struct search, text, FF_CREATE | FF_REQUIRED, .doc = "Text.") };
static const struct record search_record = RECORD(search, NULL, search_fields);

static int handler(struct call *c _unused_, struct err *e _unused_) { return 0; }
static const char *const aliases[] = { "/old-shelves", NULL };
#define S &shelf_record
static const struct route routes[] = {
    { GET,    "/shelves",              "shelf:list",   READ,   handler, NULL, S,    200, "Lists.", .list = true, .alias = aliases },
    { POST,   "/shelves",              "shelf:create", WRITE,  handler, S,    S,    201, "Makes one." },
    { GET,    "/shelves/{id}",         "shelf:get",    QUICK,  handler, NULL, S,    200, "Shows one." },
    { PATCH,  "/shelves/{id}",         "shelf:update", WRITE,  handler, S,    S,    200, "Changes one." },
    { DELETE, "/shelves/{id}",         "shelf:delete", WRITE,  handler, NULL, NULL, 204, "Deletes one." },
    { GET,    "/shelves/{id}/search",  "shelf:search", READ,   handler, NULL, &other_shelf_record, 200, "Finds.", .query = &search_record, .on = PLATFORM },
    { PUT,    "/shelves/{id}/o/{key...}", "shelf:put", LONG,   handler, NULL, NULL, 200, "Puts bytes.", .body = BODY_RAW, .on = CLASSIC },
    { POST,   "/shelves/load",         "shelf:load",   WRITE,  handler, &load_record, S, 201, "Makes many.", .rows = true, .fails = "404" },
    { POST,   "/shelves/{id}/empty",   "shelf:empty",  WRITE,  handler, NULL, NULL, 200, "Empties one.", .message = true, .planned = true },
    { GET,    "/shelves/{id}/events",  "shelf:events", STREAM, handler, NULL, NULL, 200, "Streams.", .public = true, .produces = "text/event-stream" },
    { GET,    "/shelves/{id}/photo",   "shelf:photo",  READ,   handler, NULL, NULL, 200, "Gives bytes.", .produces = "image/png", .bytes = true },
    { 0 },
};
/* clang-format on */
static const struct service service = { .name = "shelf", .doc = "Shelves.", .routes = routes };
static const struct service *const services[] = { &service, NULL };

/* The value at a path of members, which '|' separates. */
static const struct json_value *at(const struct json_value *v, const char *path)
{
    char part[100];

    while (*path) {
        size_t n = strcspn(path, "|");

        snprintf(part, sizeof(part), "%.*s", (int)n, path);
        v = v ? json_get(v, part) : NULL;
        path += n + (path[n] == '|');
    }
    return v;
}

static void the_document_tells_what_the_tables_tell(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    _cleanup_(buf_free) struct buf b = BUF(MIB(4));
    struct err e;

    openapi_write(services, &b);
    assert_false(b.failed);
    _cleanup_(json_freep) struct json_value *d = json_parse(buf_str(&b), &e);
    if (!d)
        fail_msg("%s", e.msg);
    const char *dump = getenv("BRUME_TEST_OPENAPI");
    if (dump) {
        FILE *f = fopen(dump, "we");
        fwrite(b.p, 1, b.n, f);
        fclose(f);
    }
    assert_string_equal(json_get_str(&a, d, "openapi", ""), "3.1.0");
    assert_int_equal(json_len(at(d, "paths")), 7 * 2 + 2);
    assert_non_null(at(d, "paths|/v1/shelves|post|requestBody"));
    assert_non_null(at(d, "paths|/shelves/{id}/o/{key}|put"));
    assert_true(json_get_bool(at(d, "paths|/old-shelves|get"), "deprecated", false));
    assert_true(json_get_bool(at(d, "paths|/v1/old-shelves|get"), "deprecated", false));
    assert_null(at(d, "paths|/v1/shelves|get|deprecated"));
    assert_string_equal(json_get_str(&a, at(d, "paths|/shelves|post"), "x-action", ""),
                        "shelf:create");
    assert_int_equal(json_len(at(d, "paths|/shelves/{id}/events|get|security")), 0);
    assert_non_null(at(d, "paths|/v1/shelves/{id}|delete|responses|204"));
    assert_non_null(at(d, "paths|/shelves/{id}|delete|responses|200"));

    const struct json_value *photo = at(d, "paths|/shelves/{id}/photo|get|responses");
    assert_non_null(at(photo, "206|headers|Content-Range"));
    assert_non_null(at(photo, "206|content|image/png"));
    assert_non_null(at(photo, "304"));
    assert_non_null(at(photo, "412"));
    assert_non_null(at(photo, "416"));
    assert_null(at(d, "paths|/shelves/{id}/events|get|responses|416"));

    const struct json_value *out = at(d, "components|schemas|shelf|properties");
    assert_int_equal(json_len(out), 5);
    assert_null(json_get(out, "secret"));
    assert_null(json_get(out, "made_at"));
    const struct json_value *in = at(d, "components|schemas|shelf_create|properties");
    assert_int_equal(json_len(in), 4);
    assert_int_equal(json_get_int(json_get(in, "size"), "default", 0), 3);
    assert_int_equal(json_get_int(json_get(in, "name"), "maxLength", 0), 64);
    assert_int_equal(json_len(at(d, "components|schemas|shelf_update|properties")), 2);
    assert_non_null(at(d, "components|schemas|shelf_2"));
}

static const char *text_at(struct arena *a, const struct json_value *d, const char *path)
{
    const struct json_value *v = at(d, path);

    return v ? json_text(a, v) : "none";
}

static void lists_alternatives_and_answers_are_told_too(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    _cleanup_(buf_free) struct buf b = BUF(MIB(4));
    struct err e;

    openapi_write(services, &b);
    _cleanup_(json_freep) struct json_value *d = json_parse(buf_str(&b), &e);
#define IS(path, text) assert_string_equal(text_at(&a, d, path), text)
    IS("paths|/v1/shelves|get|operationId", "\"listShelves\"");
    IS("paths|/shelves|get|operationId", "\"listShelvesClassic\"");
    IS("paths|/v1/old-shelves|get|operationId", "\"listShelvesAlias1\"");
    IS("paths|/v1/shelves/load|post|operationId", "\"loadShelve\"");
    IS("paths|/v1/shelves/{id}/search|get|operationId", "\"getShelveSearch\"");
    IS("paths|/v1/shelves/load|post|responses|201|content|application/json|schema",
       "{\"$ref\":\"#/components/schemas/shelf_page\"}");
    IS("paths|/shelves/load|post|responses|201|content|application/json|schema|type", "\"array\"");
    IS("paths|/v1/shelves/load|post|responses|404",
       "{\"$ref\":\"#/components/responses/not_found\"}");
    IS("paths|/v1/shelves|post|responses|404", "none");
    IS("paths|/v1/shelves/{id}/empty|post|responses|501",
       "{\"$ref\":\"#/components/responses/not_implemented\"}");
    IS("paths|/shelves/{id}/events|get|responses|200|content|text/event-stream|schema",
       "{\"type\":\"string\"}");
    IS("components|schemas|load_create|properties|shelves|maxItems", "5");
    IS("components|schemas|load_create|properties|shelves|items",
       "{\"$ref\":\"#/components/schemas/shelf_create\"}");
    IS("components|schemas|load_create|properties|by_name|pattern",
       "\"^[A-Za-z0-9][A-Za-z0-9_-]*$\"");
    IS("components|schemas|load_create|allOf",
       "[{\"oneOf\":[{\"required\":[\"by_name\"]},{\"required\":[\"by_tag\"]}]}]");
    IS("components|schemas|shelf|required", "[\"id\",\"name\",\"tags\",\"size\",\"mode\"]");
    IS("components|schemas|shelf_create|required", "[\"name\"]");
    IS("components|schemas|shelf_create|properties|size|type", "[\"integer\",\"null\"]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_tells_what_the_tables_tell),
        cmocka_unit_test(lists_alternatives_and_answers_are_told_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
