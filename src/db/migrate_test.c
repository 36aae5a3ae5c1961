/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations run once, in order, whole, and only on a database that is understood. */
#include "db/fixture.h"

#include <pthread.h>

static const struct migration base[] = {
    { "0001_pots", "-- pots; and pans: don't split here;\n"
                   "CREATE TABLE pots (\n"
                   "    id TEXT NOT NULL PRIMARY KEY,\n"
                   "    raw /*pg: BYTEA */ /*lite: BLOB */\n"
                   ");\n"
                   "INSERT INTO pots (id) VALUES ('a;\nb');\n" },
    { "0002_lids", "ALTER TABLE pots ADD COLUMN lid BIGINT NOT NULL DEFAULT 7;\n" },
    { 0 },
};
static const struct migration broken[] = {
    { "0001_spoons", "CREATE TABLE spoons (id TEXT);\nCREATE TABLE spoons (id TEXT);\n" },
    { 0 },
};
static const struct migration changed[] = {
    { "0001_pots", "CREATE TABLE pots (id TEXT);\n" },
    { 0 },
};
static const struct migration concurrent[] = {
    { "0001_index", "-- no transaction\n"
                    "CREATE INDEX /*pg: CONCURRENTLY */ pots_lid ON pots (lid);\n"
                    "CREATE INDEX /*pg: CONCURRENTLY */ pots_raw ON pots (raw);\n" },
    { 0 },
};

static int migrate(struct fixture *f, const struct migration *a, const struct migration *b)
{
    struct migration_set sets[] = { { "kitchen", a }, { "drawer", b } };

    return store_migrate(f->s, sets, b ? 2 : 1, &f->e);
}

static void migrations_run_once(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    ok(f, migrate(f, base, NULL));
    ok(f, migrate(f, base, NULL));
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM pots WHERE id = 'a;\nb' AND lid = 7"), 1);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM schema_migrations"), 2);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM schema_migrations"
                                    " WHERE service = 'kitchen' AND length(sha256) = 64"
                                    " AND applied_at > 1700000000000000"),
                     2);
    store_free(f->s);
    fixture_open(f);
    ok(f, migrate(f, base, concurrent));
    ok(f, migrate(f, base, concurrent));
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM schema_migrations"), 3);
}

static void a_migration_that_fails_leaves_nothing(void **state)
{
    struct fixture *f = *state;

    fixture_open(f);
    assert_true(migrate(f, base, broken) < 0);
    assert_non_null(strstr(f->e.msg, "drawer/0001_spoons"));
    assert_non_null(strstr(f->e.cause, "already exists"));
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM schema_migrations"), 2);
    ok(f, fixture_write(f, "CREATE TABLE spoons (id TEXT)")); /* the first was undone */
    ok(f, migrate(f, base, NULL));
}

static void a_database_from_a_newer_release_is_refused(void **state)
{
    struct fixture *f = *state;
    struct migration older[] = { base[0], { 0 } };

    fixture_open(f);
    ok(f, migrate(f, base, NULL));
    assert_true(migrate(f, older, NULL) < 0);
    assert_string_equal(f->e.msg, "the database is from a newer release: it has "
                                  "kitchen/0002_lids, this program does not know it");
}

static void a_migration_that_was_changed_is_refused(void **state)
{
    struct fixture *f = *state;
    struct migration both[] = { changed[0], base[1], { 0 } };

    fixture_open(f);
    ok(f, migrate(f, base, NULL));
    assert_true(migrate(f, both, NULL) < 0);
    assert_non_null(strstr(f->e.msg, "kitchen/0001_pots"));
}

static void *migrate_thread(void *arg)
{
    struct fixture *f = arg, mine = *f;
    struct migration_set sets[] = { { "kitchen", base } };

    mine.s = store_open(&(struct store_opts){ .url = f->url, .workers = 1 }, &mine.e);
    if (!mine.s)
        return arg;
    int rc = store_migrate(mine.s, sets, 1, &mine.e);
    if (rc < 0)
        print_error("%s (%s)\n", mine.e.msg, mine.e.cause);
    store_free(mine.s);
    return rc < 0 ? arg : NULL;
}

static void replicas_that_start_together_migrate_once(void **state)
{
    struct fixture *f = *state;
    pthread_t t[4];
    void *bad;

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, migrate_thread, f), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    fixture_open(f);
    assert_int_equal(fixture_int(f, "SELECT count(*) FROM schema_migrations"), 2);
}

int main(void)
{
    static const struct fixture_test tests[] = {
        BOTH(migrations_run_once),
        BOTH(a_migration_that_fails_leaves_nothing),
        BOTH(a_database_from_a_newer_release_is_refused),
        BOTH(a_migration_that_was_changed_is_refused),
        POSTGRES(replicas_that_start_together_migrate_once),
    };

    return fixture_run("migrate", tests, ARRAY_LEN(tests));
}
