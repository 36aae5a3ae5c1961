/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the tests of db/: a store of its own for each test, on SQLite in a temporary folder or in a
 * schema of the PostgreSQL that BRUME_TEST_POSTGRES names. */

#include <libpq-fe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "db/db.h"
#include "os/file.h"

struct fixture {
    bool postgres;
    char dir[64];
    char schema[64];
    char url[512];
    struct store *s;
    struct err e;
};

#define ok(f, expr)                                                   \
    do {                                                              \
        if ((expr) < 0)                                               \
            fail_msg("%s: %s (%s)", #expr, (f)->e.msg, (f)->e.cause); \
    } while (0)
#define fails_with(f, expr, want)                                     \
    do {                                                              \
        if ((expr) >= 0)                                              \
            fail_msg("%s did not fail", #expr);                       \
        if ((f)->e.code != (want))                                    \
            fail_msg("%s: %s (%s)", #expr, (f)->e.msg, (f)->e.cause); \
    } while (0)

static inline void fixture_sql(const char *sql)
{
    PGconn *h = PQconnectdb(getenv("BRUME_TEST_POSTGRES"));
    PQclear(PQexec(h, "SET client_min_messages = warning"));
    PGresult *r = PQexec(h, sql);
    bool good = PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK;

    PQclear(r);
    PQfinish(h);
    assert_true(good);
}

static inline void fixture_open(struct fixture *f)
{
    f->s = store_open(&(struct store_opts){ .url = f->url, .workers = 4 }, &f->e);
    if (!f->s)
        fail_msg("store_open: %s (%s)", f->e.msg, f->e.cause);
}

static inline int fixture_script_run(struct db *db, void *ctx, struct err *e)
{
    return db_exec(db, ctx, NO_ARGS, e);
}

/* One statement as a write. */
static inline int fixture_write(struct fixture *f, const char *sql)
{
    char text[512];

    snprintf(text, sizeof(text), "%s", sql);
    return store_write(f->s, fixture_script_run, text, &f->e);
}

/* One integer, by a reader of its own. */
static inline int64_t fixture_int(struct fixture *f, const char *sql)
{
    struct db *db = store_reader(f->s, &f->e);
    int64_t v = -1;

    assert_non_null(db);
    ok(f, db_int(db, sql, NO_ARGS, -1, &v, &f->e));
    store_reader_back(f->s, db);
    return v;
}

static inline int fixture_setup(void **state)
{
    static int count;
    struct fixture *f = calloc(1, sizeof(*f));
    char sql[128];

    f->postgres = strcmp(*state, "postgres") == 0;
    if (f->postgres) {
        const char *base = getenv("BRUME_TEST_POSTGRES");

        snprintf(f->schema, sizeof(f->schema), "t_%d_%d", (int)getpid(), count++);
        snprintf(sql, sizeof(sql), "CREATE SCHEMA %s", f->schema);
        fixture_sql(sql);
        snprintf(f->url, sizeof(f->url), "%s%coptions=-csearch_path%%3D%s", base,
                 strchr(base, '?') ? '&' : '?', f->schema);
    } else {
        snprintf(f->dir, sizeof(f->dir), "/tmp/brume-db-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        snprintf(f->url, sizeof(f->url), "sqlite:%s/store.db", f->dir);
    }
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    char sql[128];

    fault_arm(NULL, 0);
    store_free(f->s);
    if (f->postgres) {
        snprintf(sql, sizeof(sql), "DROP SCHEMA %s CASCADE", f->schema);
        fixture_sql(sql);
    } else {
        dir_remove(f->dir, &f->e);
    }
    free(f);
    return 0;
}

struct fixture_test {
    const char *name;
    void (*fn)(void **state);
    enum { ON_BOTH, ON_SQLITE, ON_POSTGRES } where;
};
#define BOTH(fn_)          \
    {                      \
#        fn_, fn_, ON_BOTH \
    }
#define SQLITE(fn_)          \
    {                        \
#        fn_, fn_, ON_SQLITE \
    }
#define POSTGRES(fn_)          \
    {                          \
#        fn_, fn_, ON_POSTGRES \
    }

static inline int fixture_run(const char *group, const struct fixture_test *tests, size_t n)
{
    static char sqlite[] = "sqlite", postgres[] = "postgres";
    static char names[128][160];
    struct CMUnitTest all[128];
    size_t k = 0;

    for (size_t i = 0; i < n; i++)
        for (int pg = 0; pg < 2; pg++) {
            if (tests[i].where == (pg ? ON_SQLITE : ON_POSTGRES))
                continue;
            if (pg && !getenv("BRUME_TEST_POSTGRES"))
                continue;
            snprintf(names[k], sizeof(names[k]), "%s (%s)", tests[i].name, pg ? postgres : sqlite);
            all[k] = (struct CMUnitTest){ names[k], tests[i].fn, fixture_setup, fixture_teardown,
                                          pg ? postgres : sqlite };
            k++;
        }
    return _cmocka_run_group_tests(group, all, k, NULL, NULL);
}
