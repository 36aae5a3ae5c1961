/* SPDX-License-Identifier: Apache-2.0 */
/* Statements, records and errors, on both databases. */
#include "db/fixture.h"

#include "os/thread.h"

enum mood { MOOD_CALM, MOOD_ANGRY };
static const struct enum_name moods[] = { { MOOD_CALM, "calm" }, { MOOD_ANGRY, "angry" }, { 0 } };

struct thing {
    struct uuid id, owner_id;
    const char *name;
    int64_t amount;
    bool active;
    int64_t seen_at;
    enum mood mood;
    int64_t price;
    const char *labels;
    int64_t shown;
};

/* clang-format off */
#define T struct thing
static const struct record owner_record = { .name = "owner" };
static const struct field thing_fields[] = {
    FIELD_UUID(T, id, 0),
    FIELD_REF(T, owner_id, owner_record, 0),
    FIELD_STR(T, name, 0),
    FIELD_INT(T, amount, 0),
    FIELD_INT(T, shown, FF_VIRTUAL),
    FIELD_BOOL(T, active, 0),
    FIELD_TIME(T, seen_at, 0),
    FIELD_ENUM(T, mood, enum mood, 0, .names = moods),
    FIELD_MICRO(T, price, 0),
    FIELD_MAP(T, labels, 0),
};
#undef T
static const struct record thing_record = RECORD(thing, "things", thing_fields);
/* clang-format on */

static const char sql_things[] =
    "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, owner_id TEXT REFERENCES things (id),"
    " name TEXT, amount BIGINT NOT NULL, active BOOLEAN NOT NULL, seen_at BIGINT NOT NULL,"
    " mood TEXT NOT NULL, price BIGINT NOT NULL, labels TEXT,"
    " CONSTRAINT things_name_key UNIQUE (name))";
static const char sql_by_id[] = "SELECT @ FROM things WHERE id = $1";

#define ID1 "0190a7b0-0000-7000-8000-000000000001"
#define ID2 "0190a7b0-0000-7000-8000-000000000002"

static const struct thing one = {
    .id = { ID1 },
    .name = "Grüße, 世界 🌍 '; DROP TABLE things; --",
    .amount = INT64_MIN,
    .active = true,
    .seen_at = 1700000000123456,
    .mood = MOOD_ANGRY,
    .price = -5,
    .labels = "{\"a\":\"b\"}",
    .shown = 7,
};
static const struct thing bare = { .id = { ID2 }, .owner_id = { ID1 }, .amount = INT64_MAX };

static int make_things(struct db *db, void *ctx _unused_, struct err *e)
{
    TRY(db_exec(db, sql_things, NO_ARGS, e));
    TRY(db_insert(db, NULL, &thing_record, &one, e));
    return db_insert(db, NULL, &thing_record, &bare, e);
}

static struct db *with_things(struct fixture *f)
{
    fixture_open(f);
    ok(f, store_write(f->s, make_things, NULL, &f->e));
    struct db *db = store_reader(f->s, &f->e);
    assert_non_null(db);
    return db;
}

static void a_row_comes_back_as_it_went_in(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct db *db = with_things(f);
    struct thing got;

    ok(f, db_one(db, &a, &thing_record, sql_by_id, ARGS(A(&one.id)), &got, &f->e));
    assert_string_equal(got.id.s, ID1);
    assert_true(uuid_is_nil(&got.owner_id));
    assert_string_equal(got.name, one.name);
    assert_true(got.amount == INT64_MIN);
    assert_true(got.active);
    assert_true(got.seen_at == one.seen_at);
    assert_int_equal(got.mood, MOOD_ANGRY);
    assert_int_equal(got.price, -5);
    assert_string_equal(got.labels, one.labels);
    assert_int_equal(got.shown, 0);
    ok(f, db_one(db, &a, &thing_record, sql_by_id, ARGS(A(&bare.id)), &got, &f->e));
    assert_string_equal(got.owner_id.s, ID1);
    assert_null(got.name);
    assert_null(got.labels);
    assert_false(got.active);
    assert_true(got.amount == INT64_MAX);
    assert_true(got.seen_at == 0);
    store_reader_back(f->s, db);
}

static void a_query_gives_all_rows_and_qualified_columns(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct db *db = with_things(f);
    struct rows got;

    ok(f, db_query(db, &a, &thing_record, "SELECT t.@ FROM things t ORDER BY t.id DESC", NO_ARGS,
                   &got, &f->e));
    assert_int_equal(got.n, 2);
    assert_string_equal(((struct thing *)got.v)[0].id.s, ID2);
    ok(f, db_query(db, &a, &thing_record,
                   "SELECT @ FROM things WHERE name = '@' /*pg: AND TRUE */ /*lite: AND 1 */",
                   NO_ARGS, &got, &f->e));
    assert_int_equal(got.n, 0);
    store_reader_back(f->s, db);
}

static void a_query_is_bounded_in_rows_and_bytes(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena small = ARENA(KIB(64)), large = ARENA(MIB(512));
    struct db *db = with_things(f);
    static const char sql[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                              " WHERE i < $1) SELECT @ FROM things, n WHERE id = $2";
    struct rows got = { 0 };

    ok(f, db_query(db, &large, &thing_record, sql, ARGS(A(DB_ROWS_MAX), A(ID1)), &got, &f->e));
    assert_int_equal(got.n, DB_ROWS_MAX);
    assert_int_equal(
        db_query(db, &large, &thing_record, sql, ARGS(A(DB_ROWS_MAX + 1), A(ID1)), &got, &f->e),
        -1);
    assert_int_equal(f->e.code, ERR_TOO_LARGE);
    arena_free(&large);
    assert_int_equal(db_query(db, &small, &thing_record, sql, ARGS(A(1000), A(ID1)), &got, &f->e),
                     -1);
    assert_int_equal(f->e.code, ERR_TOO_LARGE);
    store_reader_back(f->s, db);
}

static void a_row_that_is_not_there_is_not_found(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct db *db = with_things(f);
    struct thing got = { .amount = 42 };

    fails_with(f, db_one(db, &a, &thing_record, sql_by_id, ARGS(A("none")), &got, &f->e),
               ERR_NOT_FOUND);
    assert_string_equal(f->e.msg, "no such thing");
    assert_int_equal(got.amount, 42);
    fails_with(f, db_one(db, &a, &thing_record, "SELECT @ FROM things", NO_ARGS, &got, &f->e),
               ERR_INTERNAL);
    assert_int_equal(got.amount, 42);
    int64_t n;
    ok(f, db_int(db, "SELECT amount FROM things WHERE id = $1", ARGS(A("none")), -3, &n, &f->e));
    assert_int_equal(n, -3);
    ok(f,
       db_int(db, "SELECT max(price) FROM things WHERE id = $1", ARGS(A("none")), -4, &n, &f->e));
    assert_int_equal(n, -4);
    ok(f, db_int(db, "SELECT sum(price) FROM things", NO_ARGS, 0, &n, &f->e));
    assert_int_equal(n, -5);
    store_reader_back(f->s, db);
}

static int update_one(struct db *db, void *ctx, struct err *e)
{
    struct thing t = one;
    uint64_t set = *(const uint64_t *)ctx;

    t.name = NULL;
    t.mood = MOOD_CALM;
    t.amount = 1;
    return db_update(db, NULL, &thing_record, &t, set, e);
}

static int update_none(struct db *db, void *ctx _unused_, struct err *e)
{
    struct thing t = { .id = { "none" } };

    return db_update(db, NULL, &thing_record, &t, 1 << 3, e);
}

static void an_update_touches_the_fields_in_the_set_alone(void **state)
{
    struct fixture *f = *state;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct db *db = with_things(f);
    struct thing got;
    uint64_t set = (uint64_t)1 << record_index(&thing_record, "name") |
                   (uint64_t)1 << record_index(&thing_record, "mood") |
                   (uint64_t)1 << record_index(&thing_record, "shown");

    ok(f, store_write(f->s, update_one, &set, &f->e));
    ok(f, db_one(db, &a, &thing_record, sql_by_id, ARGS(A(&one.id)), &got, &f->e));
    assert_null(got.name);
    assert_int_equal(got.mood, MOOD_CALM);
    assert_true(got.amount == INT64_MIN);
    set = 0;
    ok(f, store_write(f->s, update_one, &set, &f->e));
    fails_with(f, store_write(f->s, update_none, NULL, &f->e), ERR_NOT_FOUND);
    assert_string_equal(f->e.msg, "no such thing");
    store_reader_back(f->s, db);
}

static int insert_again(struct db *db, void *ctx, struct err *e)
{
    struct thing t = bare;

    snprintf(t.id.s, sizeof(t.id.s), "0190a7b0-0000-7000-8000-00000000000%c", *(const char *)ctx);
    if (*(const char *)ctx == '8')
        t.owner_id = t.id, t.owner_id.s[35] = '9';
    else
        t.name = one.name;
    return db_insert(db, NULL, &thing_record, &t, e);
}

static int delete_parent(struct db *db, void *ctx _unused_, struct err *e)
{
    return db_exec(db, "DELETE FROM things WHERE id = $1", ARGS(A(&one.id)), e);
}

static void broken_constraints_have_codes_and_causes(void **state)
{
    struct fixture *f = *state;
    char three[] = "3", eight[] = "8";

    struct db *db = with_things(f);
    store_reader_back(f->s, db);
    fails_with(f, store_write(f->s, insert_again, three, &f->e), ERR_ALREADY_EXISTS);
    assert_non_null(strstr(f->e.cause, f->postgres ? "things_name_key" : "things.name"));
    assert_null(strstr(f->e.msg, "things"));
    fails_with(f, store_write(f->s, insert_again, eight, &f->e), ERR_INVALID_STATE);
    fails_with(f, store_write(f->s, delete_parent, NULL, &f->e), ERR_INVALID_STATE);
    fails_with(f, fixture_write(f, "INSERT INTO things (id) VALUES ('x')"), ERR_INTERNAL);
    fails_with(f, fixture_write(f, "SELEKT 1"), ERR_INTERNAL);
    fails_with(f, fixture_write(f, "DELETE FROM things; DELETE FROM things"), ERR_INTERNAL);
    fails_with(f, fixture_write(f, "SELECT $1 FROM things"), ERR_INTERNAL);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM things"), 2);
}

struct seen {
    int rows;
    struct err *e;
    struct db *db;
};

static int see(void *ctx, const struct col *c, size_t n, struct err *e _unused_)
{
    struct seen *seen = ctx;

    assert_int_equal(n, 6);
    assert_string_equal(c[0].s, "12");
    assert_int_equal(c[0].n, 2);
    assert_int_equal(c[0].i, 12);
    assert_string_equal(c[1].s, "x y");
    assert_int_equal(c[1].i, 0);
    assert_null(c[2].s);
    assert_int_equal(c[3].n, 5);
    assert_memory_equal(c[3].s, "\0\1\xff'\\", 5);
    assert_string_equal(c[4].s, "1");
    assert_int_equal(c[4].i, 1);
    assert_non_null(c[5].s);
    assert_int_equal(c[5].n, 0);
    seen->rows++;
    return 0;
}

static int make_kinds(struct db *db, void *ctx _unused_, struct err *e)
{
    struct blob bytes = { "\0\1\xff'\\", 5 }, empty = { "", 0 };

    TRY(db_exec(db,
                "CREATE TABLE kinds (i BIGINT, s TEXT, none TEXT, b /*pg: BYTEA */ /*lite: BLOB */,"
                " t BOOLEAN, z /*pg: BYTEA */ /*lite: BLOB */)",
                NO_ARGS, e));
    return db_exec(db, "INSERT INTO kinds (i, s, none, b, t, z) VALUES ($1, $2, $3, $4, $5, $6)",
                   ARGS(A(12), A(((struct str){ "x yz", 3 })), A((const char *)NULL), A(bytes),
                        A((bool)true), A(empty)),
                   e);
}

static void a_free_query_sees_text_bytes_and_nulls(void **state)
{
    struct fixture *f = *state;
    struct seen seen = { 0 };

    fixture_open(f);
    ok(f, store_write(f->s, make_kinds, NULL, &f->e));
    struct db *db = store_reader(f->s, &f->e);
    ok(f, db_each(db, "SELECT i, s, none, b, t, z FROM kinds WHERE t = $1 AND s = $2",
                  ARGS(A((bool)true), A("x y")), see, &seen, &f->e));
    assert_int_equal(seen.rows, 1);
    store_reader_back(f->s, db);
}

static int nested(void *ctx, const struct col *c _unused_, size_t n _unused_, struct err *e)
{
    struct seen *seen = ctx;
    int64_t v;

    if (++seen->rows == 4)
        return err_set(e, ERR_TOO_LARGE, "enough");
    if (seen->rows < 4)
        return db_int(seen->db, "SELECT id FROM things ORDER BY id", NO_ARGS, 0, &v, e);
    return 0;
}

static void a_taker_of_rows_may_query_and_may_end_it(void **state)
{
    struct fixture *f = *state;
    struct db *db = with_things(f);
    struct seen seen = { .db = db };

    ok(f, db_each(db, "SELECT id FROM things ORDER BY id", NO_ARGS, nested, &seen, &f->e));
    assert_int_equal(seen.rows, 2);
    fails_with(f, db_each(db, "SELECT id FROM things ORDER BY id", NO_ARGS, nested, &seen, &f->e),
               ERR_TOO_LARGE);
    assert_int_equal(seen.rows, 4);
    store_reader_back(f->s, db);
}

static void there_is_room_for_as_many_readers_as_are_said(void **state)
{
    enum { MOST = 66 };
    struct fixture *f = *state;
    struct db *db[MOST + 1];

    fixture_open(f);
    store_readers_most(f->s, MOST);
    for (int i = 0; i < MOST; i++) {
        db[i] = store_reader(f->s, &f->e);
        assert_non_null(db[i]);
    }
    db[MOST] = store_reader(f->s, &f->e);
    assert_true(store_is_postgres(f->s) == (db[MOST] == NULL));
    for (int i = 0; i <= MOST; i++)
        store_reader_back(f->s, db[i]);
}

struct lent {
    struct store *store;
    struct db *db;
};

static void *give_back(void *arg)
{
    const struct lent *l = arg;

    usleep(50000);
    store_reader_back(l->store, l->db);
    return NULL;
}

static void a_statement_that_stands_alone_waits_for_a_reader(void **state)
{
    struct fixture *f = *state;
    int64_t got = 0;

    fixture_open(f);
    store_readers_most(f->s, 1);
    struct lent lent = { f->s, store_reader(f->s, &f->e) };
    assert_non_null(lent.db);
    pthread_t other = thread_start("back", give_back, &lent);
    ok(f, db_int(store_any_reader(f->s), "SELECT 1", NO_ARGS, 0, &got, &f->e));
    assert_int_equal(got, 1);
    pthread_join(other, NULL);
}

static void text_with_nul_is_refused(void **state)
{
    struct fixture *f = *state;
    struct db *db = with_things(f);
    int64_t n;

    fails_with(f,
               db_int(db, "SELECT 1 FROM things WHERE name = $1",
                      ARGS(A(((struct str){ "a\0b", 3 }))), 0, &n, &f->e),
               ERR_INVALID);
    store_reader_back(f->s, db);
}

static void a_reader_cannot_write(void **state)
{
    struct fixture *f = *state;
    struct db *db = with_things(f);

    assert_true(db_exec(db, "DELETE FROM things", NO_ARGS, &f->e) < 0);
    store_reader_back(f->s, db);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM things"), 2);
}

static void more_statements_than_are_kept_still_work(void **state)
{
    struct fixture *f = *state;
    struct db *db = with_things(f);

    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 600; i++) {
            char sql[64];
            int64_t v;

            snprintf(sql, sizeof(sql), "SELECT %d + count(*) FROM things", i);
            ok(f, db_int(db, sql, NO_ARGS, 0, &v, &f->e));
            assert_int_equal(v, i + 2);
        }
    store_reader_back(f->s, db);
}

static void text_sorts_by_bytes_under_c(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    ok(f, fixture_write(f, "CREATE TABLE words (w TEXT COLLATE \"C\", n BIGINT)"));
    ok(f, fixture_write(f, "INSERT INTO words VALUES ('a', 3), ('B', 2), ('é', 4), ('', 1)"));
    assert_int_equal(fixture_int(f, "SELECT n FROM words ORDER BY w COLLATE \"C\" DESC"), 4);
    assert_int_equal(fixture_int(f, "SELECT n FROM words WHERE w > 'A' ORDER BY w"), 2);
}

static void db_now_is_near_the_clock(void **state)
{
    struct fixture *f = *state;
    int64_t now;

    fixture_open(f);
    struct db *db = store_reader(f->s, &f->e);
    ok(f, db_now(db, &now, &f->e));
    assert_true(llabs(now - clock_wall(clock_system())) < SECONDS(5));
    store_reader_back(f->s, db);
}

static void faults_at_a_statement_are_errors(void **state)
{
    struct fixture *f = *state;

    struct db *db = with_things(f);
    store_reader_back(f->s, db);
    fault_arm("db.exec", 1);
    fails_with(f, fixture_write(f, "DELETE FROM things"), ERR_INTERNAL);
    ok(f, fixture_write(f, "DELETE FROM things WHERE name IS NULL"));
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM things"), 1);
}

static void urls_that_are_none_are_refused(void **state)
{
    struct fixture *f = *state;
    /* clang-format off */
    static const char *const bad[] = { "", "sqlite:", "mysql://x", "sqlite:/nowhere/at/all/store.db",
                                       "postgres://127.0.0.1:1/none" };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_null(store_open(&(struct store_opts){ .url = bad[i] }, &f->e));
    assert_int_equal(f->e.code, ERR_ENGINE_UNAVAILABLE);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        BOTH(a_row_comes_back_as_it_went_in),
        BOTH(a_query_gives_all_rows_and_qualified_columns),
        BOTH(a_query_is_bounded_in_rows_and_bytes),
        BOTH(a_row_that_is_not_there_is_not_found),
        BOTH(an_update_touches_the_fields_in_the_set_alone),
        BOTH(broken_constraints_have_codes_and_causes),
        BOTH(a_free_query_sees_text_bytes_and_nulls),
        BOTH(a_taker_of_rows_may_query_and_may_end_it),
        BOTH(there_is_room_for_as_many_readers_as_are_said),
        POSTGRES(a_statement_that_stands_alone_waits_for_a_reader),
        BOTH(text_with_nul_is_refused),
        BOTH(a_reader_cannot_write),
        BOTH(more_statements_than_are_kept_still_work),
        BOTH(text_sorts_by_bytes_under_c),
        BOTH(db_now_is_near_the_clock),
        BOTH(faults_at_a_statement_are_errors),
        SQLITE(urls_that_are_none_are_refused),
    };

    return fixture_run("db", tests, ARRAY_LEN(tests));
}
