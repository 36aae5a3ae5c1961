/* SPDX-License-Identifier: Apache-2.0 */
/* The table core_due.  Hides how a signal, a lease and a crash are told apart: by due_at and
 * lease_until alone, so that each step is one statement and needs no memory of the last one. */
#include "core/due.h"

static const char sql_claim[] =
    "WITH due AS (SELECT id FROM core_due"
    "              WHERE loop = $1 AND due_at <= $2 AND lease_until <= $2"
    "              ORDER BY due_at LIMIT $3 /*pg: FOR UPDATE SKIP LOCKED */)"
    " UPDATE core_due SET due_at = $4, lease_until = $4, lease_by = $5"
    "  WHERE loop = $1 AND id IN (SELECT id FROM due)"
    " RETURNING id, attempts";
static const char sql_earliest[] = "SELECT due_at FROM core_due"
                                   " WHERE loop = $1 AND lease_until <= $2"
                                   " ORDER BY due_at LIMIT 1";
static const char sql_again[] =
    "UPDATE core_due"
    "   SET due_at = CASE WHEN due_at = lease_until OR due_at > $4 THEN $4 ELSE due_at END,"
    "       lease_until = 0, lease_by = NULL, attempts = $5"
    " WHERE loop = $1 AND id = $2 AND lease_by = $3"
    " RETURNING due_at";
static const char sql_rest[] =
    "DELETE FROM core_due WHERE loop = $1 AND id = $2 AND lease_by = $3 AND due_at = lease_until";
static const char sql_signalled[] =
    "UPDATE core_due SET lease_until = 0, lease_by = NULL, attempts = 0"
    " WHERE loop = $1 AND id = $2 AND lease_by = $3"
    " RETURNING due_at";
static const char sql_forget[] =
    "DELETE FROM core_due WHERE loop = $1 AND id = $2 AND lease_by = $3";
static const char sql_signal[] =
    "INSERT INTO core_due (loop, id, due_at, lease_until, attempts) VALUES ($1, $2, $3, 0, 0)"
    " ON CONFLICT (loop, id) DO UPDATE"
    "   SET due_at = CASE WHEN core_due.due_at > $3 THEN $3 ELSE core_due.due_at - 1 END"
    " WHERE core_due.due_at > $3 OR core_due.due_at = core_due.lease_until";
static const char sql_add[] =
    "INSERT INTO core_due (loop, id, due_at, lease_until, attempts) VALUES ($1, $2, $3, 0, 0)"
    " ON CONFLICT (loop, id) DO NOTHING";
static const char sql_renew[] =
    "UPDATE core_due"
    "   SET due_at = CASE WHEN due_at = lease_until THEN $4 ELSE due_at END, lease_until = $4"
    " WHERE loop = $1 AND id = $2 AND lease_by = $3";
static const char sql_free_all[] =
    "UPDATE core_due"
    "   SET due_at = CASE WHEN due_at > $1 THEN $1 ELSE due_at END, lease_until = 0,"
    "       lease_by = NULL"
    " WHERE lease_until > 0";

static int claim_row(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct due_claim *k = ctx;
    struct due_claimed *g = &k->got[k->n];

    if (n != 2 || k->n == DUE_CLAIM_MAX || !c[0].s || c[0].n >= sizeof(g->id.s))
        return err_set(e, ERR_INTERNAL, "the store's table of due rows is damaged");
    memset(g, 0, sizeof(*g));
    memcpy(g->id.s, c[0].s, c[0].n);
    g->attempts = c[1].i;
    k->n++;
    return 0;
}

int due_earliest(struct db *db, const char *loop, int64_t now, int64_t *next, struct err *e)
{
    return db_int(db, sql_earliest, ARGS(A(loop), A(now)), DUE_NEVER, next, e);
}

int due_claim(struct db *db, struct due_claim *c, struct err *e)
{
    c->n = 0;
    TRY(db_each(
        db, sql_claim,
        ARGS(A(c->loop), A(c->now), A(MIN(c->want, (int64_t)DUE_CLAIM_MAX)), A(c->until), A(c->by)),
        claim_row, c, e));
    return due_earliest(db, c->loop, c->now, &c->next, e);
}

int due_finish(struct db *db, struct due_finish *f, struct err *e)
{
    int64_t changed;

    f->due = DUE_NEVER;
    switch (f->end) {
    case DUE_AGAIN:
        return db_int(db, sql_again,
                      ARGS(A(f->loop), A(&f->id), A(f->by), A(f->at), A(f->attempts)), DUE_NEVER,
                      &f->due, e);
    case DUE_FORGET:
        return db_exec(db, sql_forget, ARGS(A(f->loop), A(&f->id), A(f->by)), e);
    case DUE_REST:
        TRY(db_exec_n(db, sql_rest, ARGS(A(f->loop), A(&f->id), A(f->by)), &changed, e));
        if (changed)
            return 0;
        return db_int(db, sql_signalled, ARGS(A(f->loop), A(&f->id), A(f->by)), DUE_NEVER, &f->due,
                      e);
    }
    abort();
}

int due_signal(struct db *db, const char *loop, const struct uuid *id, int64_t at, struct err *e)
{
    return db_exec(db, sql_signal, ARGS(A(loop), A(id), A(at)), e);
}

int due_add(struct db *db, const char *loop, const char *id, int64_t at, struct err *e)
{
    return db_exec(db, sql_add, ARGS(A(loop), A(id), A(at)), e);
}

int due_renew(struct db *db, const char *loop, const struct uuid *id, const char *by, int64_t until,
              struct err *e)
{
    return db_exec(db, sql_renew, ARGS(A(loop), A(id), A(by), A(until)), e);
}

int due_free_all(struct db *db, int64_t now, struct err *e)
{
    return db_exec(db, sql_free_all, ARGS(A(now)), e);
}
