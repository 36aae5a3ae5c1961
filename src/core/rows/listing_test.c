/* SPDX-License-Identifier: Apache-2.0 */
#include "db/fixture.h"

#include "codec/id.h"
#include "codec/text.h"
#include "core/rows/listing.h"

enum state { BOX_NEW, BOX_OLD };
static const struct enum_name states[] = { { BOX_NEW, "new" }, { BOX_OLD, "old" }, { 0, NULL } };

struct shelf {
    struct uuid id;
};
struct box {
    struct uuid id, tenant_id, shelf_id;
    const char *name;
    int64_t weight;
    bool open;
    enum state status;
    int64_t price;
    int64_t created_at, updated_at;
};

/* clang-format off */
static const struct field shelf_fields[] = { FIELD_UUID(struct shelf, id, 0, .doc = "Id.") };
static const struct record shelf_record = RECORD(shelf, "shelves", shelf_fields, .prefix = "shelf");
#define T struct box
static const struct field box_fields[] = {
    FIELD_UUID (T, id,                     FF_FILTER, .doc = "Id."),
    FIELD_UUID (T, tenant_id,              FF_HIDDEN, .doc = "Tenant."),
    FIELD_REF  (T, shelf_id, shelf_record, FF_FILTER, .doc = "Shelf."),
    FIELD_STR  (T, name,                   FF_FILTER | FF_SORT, .max = 40, .doc = "Name."),
    FIELD_INT  (T, weight,                 FF_FILTER | FF_SORT, .doc = "Weight."),
    FIELD_BOOL (T, open,                   FF_FILTER, .doc = "Open."),
    FIELD_ENUM (T, status, enum state,     FF_FILTER | FF_SORT, .names = states, .doc = "Status."),
    FIELD_MICRO(T, price,                  FF_FILTER, .doc = "Price."),
    FIELD_TIME (T, created_at,             FF_SORT, .doc = "Made."),
    FIELD_TIME (T, updated_at,             FF_SORT, .doc = "Changed."),
};
#undef T
static const struct record box_record = RECORD(box, "boxes", box_fields, .prefix = "box");

struct extra {
    bool follow;
};
static const struct field extra_fields[] = { FIELD_BOOL(struct extra, follow, FF_CREATE, .doc = "Follows.") };
static const struct record extra_record = RECORD(extra, NULL, extra_fields);
/* clang-format on */

static const char schema[] =
    "CREATE TABLE boxes (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, shelf_id TEXT,"
    " name TEXT NOT NULL, weight BIGINT NOT NULL, open BOOLEAN NOT NULL, status TEXT NOT NULL,"
    " price BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)";
static const char sql_index[] = "CREATE INDEX boxes_made ON boxes (tenant_id, created_at, id)";

static const uint8_t key[32] = "a signing key of the test's own";
static const struct uuid ours = { "01900000-0000-7000-8000-0000000000aa" };

struct trial {
    struct arena arena;
    struct faults faults;
    struct listing l;
    struct listing_request q;
    struct listing_scope scope[2];
};

static void trial_free(struct trial *t)
{
    arena_free(&t->arena);
}

static void plan(struct trial *t, const char *query)
{
    t->faults = (struct faults){ .arena = &t->arena };
    t->q.query = str_of(query);
    listing_plan(&t->arena, &t->q, &t->l, &t->faults);
    assert_int_equal(t->faults.n == 0, t->l.sql != NULL);
}

static struct trial trial(void)
{
    struct trial t = { .arena = ARENA(MIB(16)) };

    t.q = (struct listing_request){ .record = &box_record,
                                    .n_scope = 1,
                                    .page = 20,
                                    .page_max = 100,
                                    .extra = &extra_record,
                                    .sign_key = key };
    return t;
}

#define TRIAL(t)                                                         \
    _cleanup_(trial_free) struct trial t = trial();                      \
    t.scope[0] = (struct listing_scope){ "tenant_id", arg_uuid(&ours) }; \
    t.q.scope = t.scope

static void fault_is(struct trial *t, const char *query, const char *field, const char *code)
{
    plan(t, query);
    if (t->faults.n != 1)
        fail_msg("%s: %zu faults", query, t->faults.n);
    assert_string_equal(t->faults.first->field, field);
    assert_string_equal(t->faults.first->code, code);
}

static void the_usual_list_is_newest_first(void **state _unused_)
{
    TRIAL(t);

    plan(&t, "");
    assert_string_equal(t.l.sql, "SELECT @ FROM boxes WHERE tenant_id = $1"
                                 " ORDER BY created_at DESC, id DESC LIMIT $2");
    assert_int_equal(t.l.n_args, 2);
    assert_string_equal(t.l.args[0].s, ours.s);
    assert_int_equal(t.l.args[1].i, 21);
    assert_int_equal(t.l.limit, 20);
    assert_null(t.l.sort);
}

static void a_statement_of_ones_own_is_listed_as_a_table_is(void **state _unused_)
{
    static const char sql[] = "SELECT b.id FROM boxes b WHERE b.owner = $1 AND b.size > $2";
    struct record pairs = box_record;
    const struct arg args[] = { A("ada"), A(7) };
    const struct uuid row = { "01900000-0000-7000-8000-0000000000bb" };
    TRIAL(t);

    pairs.key = "shelf_id";
    t.q.record = &pairs;
    t.q.from = sql;
    t.q.args = args;
    t.q.n_args = 2;
    t.q.n_scope = 0;
    t.q.bound = "ada";
    t.q.oldest_first = true;
    plan(&t, "name=x");
    assert_string_equal(t.l.sql, "SELECT @ FROM (SELECT b.id FROM boxes b WHERE b.owner = $1"
                                 " AND b.size > $2) AS listed WHERE name = $3"
                                 " ORDER BY created_at, shelf_id LIMIT $4");
    assert_int_equal(t.l.n_args, 4);
    assert_string_equal(t.l.args[0].s, "ada");
    assert_string_equal(t.l.args[2].s, "x");

    struct box box = { .created_at = 5, .shelf_id = row };
    const char *next = listing_cursor(&t.arena, &t.q, &t.l, &box);
    plan(&t, arena_printf(&t.arena, "name=x&cursor=%s", next));
    assert_string_equal(t.l.sql, "SELECT @ FROM (SELECT b.id FROM boxes b WHERE b.owner = $1"
                                 " AND b.size > $2) AS listed WHERE name = $3"
                                 " AND (created_at, shelf_id) > ($4, $5)"
                                 " ORDER BY created_at, shelf_id LIMIT $6");
    assert_int_equal(t.l.args[3].i, 5);
    assert_string_equal(t.l.args[4].s, row.s);
    t.q.bound = "bob";
    fault_is(&t, arena_printf(&t.arena, "name=x&cursor=%s", next), "cursor", "malformed");
}

static void one_shape_has_one_text(void **state _unused_)
{
    TRIAL(t);

    plan(&t, "status=new&name=a,b,c&limit=3");
    const char *first = t.l.sql;
    plan(&t, "name=x,y,z,u&limit=9&status=old");
    assert_string_equal(first, t.l.sql);
    assert_string_equal(first, "SELECT @ FROM boxes WHERE tenant_id = $1 AND name IN"
                               " ($2, $3, $4, $5) AND status = $6"
                               " ORDER BY created_at DESC, id DESC LIMIT $7");
}

static void bad_parameters_are_faults_that_name_them(void **state _unused_)
{
    TRIAL(t);

    fault_is(&t, "limit=0", "limit", "out_of_range");
    fault_is(&t, "limit=101", "limit", "out_of_range");
    fault_is(&t, "limit=ten", "limit", "wrong_type");
    fault_is(&t, "limit=", "limit", "wrong_type");
    fault_is(&t, "limit=1&limit=1", "limit", "not_allowed");
    fault_is(&t, "name=a&name=b", "name", "not_allowed");
    fault_is(&t, "offset=-1", "offset", "out_of_range");
    fault_is(&t, "colour=red", "colour", "unknown");
    fault_is(&t, "tenant_id=x", "tenant_id", "unknown");
    fault_is(&t, "name=%zz", "name", "malformed");
    fault_is(&t, "name=%ff", "name", "malformed");
    fault_is(&t, "name=", "name", "malformed");
    fault_is(&t, "name=a,,b", "name", "malformed");
    fault_is(&t, "weight=heavy", "weight", "wrong_type");
    fault_is(&t, "open=yes", "open", "wrong_type");
    fault_is(&t, "price=1.1234567", "price", "wrong_type");
    fault_is(&t, "status=broken", "status", "not_allowed");
    fault_is(&t, "status=new%00", "status", "not_allowed");
    fault_is(&t, "shelf_id=7", "shelf_id", "malformed");
    fault_is(&t, "id=nothing", "id", "malformed");
    fault_is(&t, "created_after=yesterday", "created_after", "malformed");
    fault_is(&t, "sort=price", "sort", "not_allowed");
    fault_is(&t, "sort=--name", "sort", "not_allowed");
    fault_is(&t, "cursor=AAAA", "cursor", "malformed");
    fault_is(&t, "cursor=", "cursor", "malformed");
    plan(&t, "limit=0&colour=red&status=x");
    assert_int_equal(t.faults.n, 3);
    plan(&t, "follow=true&&");
    assert_int_equal(t.faults.n, 0);
}

static void more_than_fifty_values_are_refused(void **state _unused_)
{
    char query[400] = "weight=0";

    TRIAL(t);
    for (int i = 1; i < 50; i++)
        snprintf(query + strlen(query), 8, ",%d", i);
    plan(&t, query);
    assert_int_equal(t.faults.n, 0);
    assert_int_equal(t.l.n_args, 1 + 64 + 1);
    snprintf(query + strlen(query), 8, ",50");
    fault_is(&t, query, "weight", "too_long");
}

static void values_are_typed(void **state _unused_)
{
    TRIAL(t);
    char typeid[TYPEID_MAX];
    struct uuid id = { "01900000-0000-7000-8000-000000000001" };

    plan(&t, "price=-1.25");
    assert_int_equal(t.l.args[1].i, -1250000);
    plan(&t, "open=true");
    assert_int_equal(t.l.args[1].type, ARG_BOOL);
    typeid_format("shelf", &id, typeid);
    plan(&t, arena_printf(&t.arena, "shelf_id=%s", typeid));
    assert_int_equal(t.faults.n, 0);
    assert_string_equal(t.l.args[1].s, id.s);
    typeid_format("box", &id, typeid);
    fault_is(&t, arena_printf(&t.arena, "shelf_id=%s", typeid), "shelf_id", "malformed");
    plan(&t, "created_after=2026-01-05&created_before=2026-01-06T00:00:00.0005Z");
    assert_int_equal(t.l.args[1].i, INT64_C(1767571200001000));
    assert_int_equal(t.l.args[2].i, INT64_C(1767657600001000));
}

static void values_never_reach_the_text(void **state _unused_)
{
    TRIAL(t);

    plan(&t, "name=%27%3B+DROP+TABLE+boxes%3B--");
    assert_null(strstr(t.l.sql, "DROP"));
    assert_string_equal(t.l.args[1].s, "'; DROP TABLE boxes;--");
}

static void a_cursor_of_another_list_is_refused(void **state _unused_)
{
    TRIAL(t);
    struct box row = { .id = ours, .name = "n", .created_at = 5 };

    plan(&t, "status=new");
    const char *cursor = listing_cursor(&t.arena, &t.q, &t.l, &row);
    plan(&t, arena_printf(&t.arena, "limit=7&cursor=%s&status=new", cursor));
    assert_int_equal(t.faults.n, 0);
    assert_non_null(strstr(t.l.sql, "(created_at, id) < ($3, $4)"));
    assert_int_equal(t.l.args[2].i, 5);
    assert_string_equal(t.l.args[3].s, ours.s);

    fault_is(&t, arena_printf(&t.arena, "cursor=%s", cursor), "cursor", "malformed");
    fault_is(&t, arena_printf(&t.arena, "cursor=%s&status=old", cursor), "cursor", "malformed");
    fault_is(&t, arena_printf(&t.arena, "cursor=%s&status=new&sort=name", cursor), "cursor",
             "malformed");
    fault_is(&t, arena_printf(&t.arena, "cursor=%s&status=new&offset=3", cursor), "offset",
             "not_allowed");
    struct uuid stranger = { "01900000-0000-7000-8000-0000000000bb" };
    t.scope[0].value = arg_uuid(&stranger);
    fault_is(&t, arena_printf(&t.arena, "cursor=%s&status=new", cursor), "cursor", "malformed");
}

static void a_changed_cursor_is_refused(void **state _unused_)
{
    TRIAL(t);
    struct box row = { .id = ours, .name = "abc", .created_at = 5 };

    plan(&t, "sort=name");
    char *cursor = arena_strdup(&t.arena, listing_cursor(&t.arena, &t.q, &t.l, &row));
    for (char *p = cursor; *p; p++) {
        char was = *p;

        *p = was == 'A' ? 'B' : 'A';
        plan(&t, arena_printf(&t.arena, "sort=name&cursor=%s", cursor));
        size_t n;
        /* The last character may carry bits that are not looked at. */
        if (t.faults.n == 0)
            assert_true(p[1] == '\0' && base64_decode(&t.arena, str_of(cursor), true, &n));
        *p = was;
    }
}

/* ---- on the databases */

struct filling {
    struct trial *t;
    int n;
};

static int fill_run(struct db *db, void *ctx, struct err *e)
{
    struct filling *f = ctx;

    for (int i = 0; i < f->n; i++) {
        struct box b = { .tenant_id = ours, .weight = i % 7, .status = (enum state)(i % 2) };

        snprintf(b.id.s, sizeof(b.id.s), "01900000-0000-7000-8000-%012d", i * 7919 % 10007);
        b.name = arena_printf(&f->t->arena, "%c%d", "aZ_b-Ab"[i % 7], i % 13);
        b.open = i % 3;
        b.created_at = 1000000 + i / 5;
        b.updated_at = 2000000 + i % 11;
        TRY(db_insert(db, &f->t->arena, &box_record, &b, e));
    }
    return 0;
}

static void fill(struct trial *t, struct store *s, int n)
{
    struct err e;
    struct filling f = { t, n };

    if (store_write(s, fill_run, &f, &e) < 0)
        fail_msg("%s %s", e.msg, e.cause);
}

static size_t page(struct trial *t, struct db *db, const char *query, struct rows *got)
{
    struct err e;

    plan(t, query);
    if (t->faults.n)
        fail_msg("%s: %s %s", query, t->faults.first->field, t->faults.first->message);
    if (db_query(db, &t->arena, &box_record, t->l.sql, t->l.args, t->l.n_args, got, &e) < 0)
        fail_msg("%s: %s %s", t->l.sql, e.msg, e.cause);
    return got->n;
}

/* Walks all pages of 'query': every row comes once, in the order of the whole list. */
static void walk(struct trial *t, struct db *db, const char *query, size_t all)
{
    struct rows whole, got;
    const char *cursor = NULL;
    size_t seen = 0;

    t->q.page_max = 1000;
    assert_int_equal(page(t, db, arena_printf(&t->arena, "%s&limit=1000", query), &whole), all);
    for (;;) {
        const char *q = arena_printf(&t->arena, "%s&limit=17%s%s", query, cursor ? "&cursor=" : "",
                                     cursor ? cursor : "");
        size_t n = page(t, db, q, &got);
        const struct box *b = got.v, *w = whole.v;

        for (size_t i = 0; i < n && i < 17; i++, seen++)
            assert_string_equal(b[i].id.s, w[seen].id.s);
        if (n <= 17)
            break;
        cursor = listing_cursor(&t->arena, &t->q, &t->l, &b[16]);
    }
    assert_int_equal(seen, all);
}

static void pages_show_each_row_once_in_order(void **state)
{
    static const char *const queries[] = {
        "",
        "sort=name",
        "sort=-name",
        "sort=weight",
        "sort=-status",
        "sort=created_at",
        "sort=-updated_at",
        "sort=-name&open=true,false",
    };

    struct fixture *f = *state;
    struct rows got;
    struct err e;
    TRIAL(t);

    fixture_open(f);
    ok(f, fixture_write(f, schema));
    ok(f, fixture_write(f, sql_index));
    fill(&t, f->s, 300);
    struct db *db = store_reader(f->s, &e);
    assert_non_null(db);
    for (size_t i = 0; i < ARRAY_LEN(queries); i++)
        walk(&t, db, queries[i], 300);
    walk(&t, db, "status=old", 150);
    assert_int_equal(page(&t, db, "weight=1,2,3&limit=1000", &got), 129);
    assert_int_equal(page(&t, db, "offset=290", &got), 10);
    assert_int_equal(page(&t, db, "created_after=1970-01-01T00:00:01.050Z&limit=1000", &got), 0);
    assert_int_equal(page(&t, db, "created_after=1970-01-01&limit=1000", &got), 300);
    store_reader_back(f->s, db);
}

static int plan_line(void *ctx, const struct col *c, size_t n, struct err *e _unused_)
{
    struct buf *b = ctx;

    buf_puts(b, c[n - 1].s);
    buf_putc(b, '\n');
    return 0;
}

static void a_later_page_is_found_by_its_index(void **state)
{
    struct fixture *f = *state;
    struct box row = { .id = ours, .name = "n", .created_at = 1000010 };
    _cleanup_(buf_free) struct buf b = BUF(KIB(64));
    struct err e;
    TRIAL(t);

    fixture_open(f);
    ok(f, fixture_write(f, schema));
    ok(f, fixture_write(f, sql_index));
    plan(&t, "");
    const char *cursor = listing_cursor(&t.arena, &t.q, &t.l, &row);
    plan(&t, arena_printf(&t.arena, "cursor=%s", cursor));
    struct db *db = store_reader(f->s, &e);
    const char *sql = arena_printf(&t.arena, "EXPLAIN QUERY PLAN SELECT *%s", t.l.sql + 8);
    if (db_each(db, sql, t.l.args, t.l.n_args, plan_line, &b, &e) < 0)
        fail_msg("%s", e.cause);
    store_reader_back(f->s, db);
    assert_non_null(strstr(buf_cstr(&b), "boxes_made"));
    assert_non_null(strstr(buf_cstr(&b), "created_at,id)<"));
    assert_null(strstr(buf_cstr(&b), "TEMP B-TREE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_usual_list_is_newest_first),
        cmocka_unit_test(a_statement_of_ones_own_is_listed_as_a_table_is),
        cmocka_unit_test(one_shape_has_one_text),
        cmocka_unit_test(bad_parameters_are_faults_that_name_them),
        cmocka_unit_test(more_than_fifty_values_are_refused),
        cmocka_unit_test(values_are_typed),
        cmocka_unit_test(values_never_reach_the_text),
        cmocka_unit_test(a_cursor_of_another_list_is_refused),
        cmocka_unit_test(a_changed_cursor_is_refused),
    };

    static const struct fixture_test on_stores[] = {
        BOTH(pages_show_each_row_once_in_order),
        SQLITE(a_later_page_is_found_by_its_index),
    };

    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    return bad + fixture_run("listing on stores", on_stores, ARRAY_LEN(on_stores));
}
