/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations: what ran is recorded with the hash of its text, and nothing runs on a database that
 * this program does not wholly know.  On PostgreSQL a lock keeps replicas that start together
 * apart. */
#include "codec/text.h"
#include "db/driver.h"

enum { LOCK_KEY = 0x6272756d }; /* pg_advisory_lock: "brum" */

static const char sql_table[] = "CREATE TABLE IF NOT EXISTS schema_migrations ("
                                " service TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL,"
                                " applied_at BIGINT NOT NULL, PRIMARY KEY (service, name))";
static const char sql_list[] =
    "SELECT service, name, sha256 FROM schema_migrations ORDER BY service, name";
static const char sql_record[] =
    "INSERT INTO schema_migrations (service, name, sha256, applied_at) VALUES ($1, $2, $3, $4)";

struct step {
    const char *service;
    const struct migration *migration;
    char sha256[65];
    bool applied;
    bool alone; /* "-- no transaction", PostgreSQL */
};

struct plan {
    struct store *store;
    struct step *steps;
    size_t n;
};

static void hash_text(const char *text, char out[65])
{
    uint8_t sum[32];

    sha256(text, strlen(text), sum);
    hex_encode(sum, sizeof(sum), out);
}

static void plan_make(struct plan *p, struct store *s, const struct migration_set *sets, size_t n)
{
    size_t all = 0;

    for (size_t i = 0; i < n; i++)
        for (const struct migration *m = sets[i].migrations; m && m->name; m++)
            all++;
    *p = (struct plan){ .store = s, .steps = calloc(all + 1, sizeof(*p->steps)) };
    if (!p->steps)
        abort();
    for (size_t i = 0; i < n; i++)
        for (const struct migration *m = sets[i].migrations; m && m->name; m++) {
            struct step *st = &p->steps[p->n++];

            st->service = sets[i].service;
            st->migration = m;
            st->alone = s->postgres && strncmp(m->sql, "-- no transaction", 17) == 0;
            hash_text(m->sql, st->sha256);
        }
}

/* Sees each migration that the database has. */
static int known(void *ctx, const struct col *cols, size_t n _unused_, struct err *e)
{
    struct plan *p = ctx;

    for (size_t i = 0; i < p->n; i++) {
        struct step *st = &p->steps[i];

        if (strcmp(st->service, cols[0].s) != 0 || strcmp(st->migration->name, cols[1].s) != 0)
            continue;
        if (strcmp(st->sha256, cols[2].s) != 0)
            return err_set(e, ERR_INVALID_STATE,
                           "the migration %s/%s is not what ran on this database", cols[0].s,
                           cols[1].s);
        st->applied = true;
        return 0;
    }
    return err_set(
        e, ERR_INVALID_STATE,
        "the database is from a newer release: it has %s/%s, this program does not know it",
        cols[0].s, cols[1].s);
}

static int look(struct db *db, void *ctx, struct err *e)
{
    TRY(db_exec(db, sql_table, NO_ARGS, e));
    return db_each(db, sql_list, NO_ARGS, known, ctx, e);
}

static int run_texts(struct db *db, const struct step *st, struct err *e)
{
    struct buf text = BUF(MIB(16));
    struct str one;
    int rc = 0;

    sql_render(&text, st->migration->sql, NULL, db_is_postgres(db));
    const char *at = buf_cstr(&text);
    while (rc == 0 && sql_next(&at, &one)) {
        struct buf s = BUF(MIB(16));

        buf_put(&s, one.p, one.n);
        rc = db->class->script(db, buf_cstr(&s), e);
        buf_free(&s);
    }
    buf_free(&text);
    if (rc < 0) {
        char cause[sizeof(e->cause)];

        memcpy(cause, e->cause, sizeof(cause));
        return err_cause(e, e->code, cause, "the migration %s/%s failed", st->service,
                         st->migration->name);
    }
    return 0;
}

static int apply(struct db *db, void *ctx, struct err *e)
{
    const struct step *st = ctx;

    TRY(run_texts(db, st, e));
    return db_exec(db, sql_record,
                   ARGS(A(st->service), A(st->migration->name), A((const char *)st->sha256),
                        A(clock_wall(db->store->clock))),
                   e);
}

static int migrate_sqlite(struct plan *p, struct err *e)
{
    TRY(store_write(p->store, look, p, e));
    for (size_t i = 0; i < p->n; i++)
        if (!p->steps[i].applied)
            TRY(store_write(p->store, apply, &p->steps[i], e));
    return 0;
}

static int apply_postgres(struct db *db, struct step *st, struct err *e)
{
    struct err ignored;

    if (st->alone)
        return apply(db, st, e);
    TRY(db->class->control(db, DB_BEGIN_WRITE, e));
    if (apply(db, st, e) < 0) {
        db->class->control(db, DB_ROLLBACK, &ignored);
        return -1;
    }
    return db->class->control(db, DB_COMMIT, e);
}

/* The lock is the session's: closing the connection drops it. */
static int migrate_postgres(struct plan *p, struct err *e)
{
    struct db *db = pg_open(p->store, DB_ADMIN, e);

    if (!db)
        return -1;
    int64_t unused;
    int rc =
        db_int(db, "SELECT 1 FROM pg_advisory_lock($1)", ARGS(A((int64_t)LOCK_KEY)), 0, &unused, e);
    if (rc == 0)
        rc = look(db, p, e);
    for (size_t i = 0; rc == 0 && i < p->n; i++)
        if (!p->steps[i].applied)
            rc = apply_postgres(db, &p->steps[i], e);
    db->class->close(db);
    return rc;
}

int store_migrate(struct store *s, const struct migration_set *sets, size_t n, struct err *e)
{
    struct plan p;

    plan_make(&p, s, sets, n);
    int rc = s->postgres ? migrate_postgres(&p, e) : migrate_sqlite(&p, e);
    free(p.steps);
    return rc;
}
