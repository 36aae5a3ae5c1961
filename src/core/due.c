/* SPDX-License-Identifier: Apache-2.0 */
/* The table core_due.  Hides how a signal, a lease and a crash are told apart: by due_at and
 * lease_until alone, so that each step is one statement and needs no memory of the last one. */
#include "core/due.h"

#include "base/fair.h"
#include "codec/id.h"

#define SQL_EARLIEST(but)         \
    "SELECT due_at FROM core_due" \
    " WHERE loop = $1 AND lease_until <= $2" but " ORDER BY due_at LIMIT 1"
#define SQL_CLAIM(but, limit, until, by)                                               \
    "WITH due AS (SELECT id FROM core_due"                                             \
    "              WHERE loop = $1 AND due_at <= $2 AND lease_until <= $2" but         \
    "              ORDER BY due_at LIMIT " limit " /*pg: FOR UPDATE SKIP LOCKED */)"   \
    " UPDATE core_due SET due_at = " until ", lease_until = " until ", lease_by = " by \
    "  WHERE loop = $1 AND id IN (SELECT id FROM due)"                                 \
    " RETURNING id, attempts, tenant_id"
/* As many tenants as rows can be leased at once. */
#define SQL_NOT_OF                                                                               \
    " AND COALESCE(tenant_id, '') NOT IN ($3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17," \
    "$18,$19,$20,$21,$22,$23,$24,$25,$26,$27,$28,$29,$30,$31,$32,$33,$34)"
_Static_assert(DUE_CLAIM_MAX == 32, "SQL_NOT_OF names 32 tenants");
static const char sql_claim[] = SQL_CLAIM("", "$3", "$4", "$5");
static const char sql_claim_fair[] = SQL_CLAIM(SQL_NOT_OF, "1", "$35", "$36");
static const char sql_earliest_fair[] = SQL_EARLIEST(SQL_NOT_OF);
static const char sql_earliest[] = SQL_EARLIEST("");
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
static const char sql_signal[] =
    "INSERT INTO core_due (loop, id, due_at, lease_until, attempts, tenant_id)"
    " VALUES ($1, $2, $3, 0, 0, $4)"
    " ON CONFLICT (loop, id) DO UPDATE"
    "   SET due_at = CASE WHEN core_due.due_at > $3 THEN $3 ELSE core_due.due_at - 1 END"
    " WHERE core_due.due_at > $3 OR core_due.due_at = core_due.lease_until";
static const char sql_add[] =
    "INSERT INTO core_due (loop, id, due_at, lease_until, attempts, tenant_id)"
    " VALUES ($1, $2, $3, 0, 0, $4) ON CONFLICT (loop, id) DO NOTHING";
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

    if (n != 3 || k->n == DUE_CLAIM_MAX || !c[0].s || c[0].n >= sizeof(g->id.s) ||
        c[2].n >= sizeof(g->tenant.s))
        return err_set(e, ERR_INTERNAL, "the store's table of due rows is damaged");
    memset(g, 0, sizeof(*g));
    memcpy(g->id.s, c[0].s, c[0].n);
    g->attempts = c[1].i;
    if (c[2].s)
        memcpy(g->tenant.s, c[2].s, c[2].n);
    k->n++;
    return 0;
}

int due_earliest(struct db *db, const char *loop, int64_t now, int64_t *next, struct err *e)
{
    return db_int(db, sql_earliest, ARGS(A(loop), A(now)), DUE_NEVER, next, e);
}

static int64_t holds(const struct due_claim *c, const struct uuid *tenant)
{
    int64_t n = 0;

    for (size_t i = 0; i < c->n_holds; i++)
        n += uuid_eq(&c->holds[i], tenant);
    for (size_t i = 0; i < c->n; i++)
        n += uuid_eq(&c->got[i].tenant, tenant);
    return n;
}

/* Who may have none now. */
static void add_full(const struct due_claim *c, const struct uuid *tenant, struct arg *full,
                     size_t *n)
{
    int64_t used = c->used + (int64_t)c->n;

    if (*n < DUE_CLAIM_MAX && !fair_room(holds(c, tenant), 1, c->seats, used))
        full[(*n)++] = A((const char *)tenant->s);
}

enum { OF_FAIR = 2, ARGS_EARLIEST = OF_FAIR + DUE_CLAIM_MAX, ARGS_FAIR = ARGS_EARLIEST + 2 };

static void fair_args(const struct due_claim *c, struct arg args[ARGS_FAIR])
{
    size_t n = 0;

    args[0] = A(c->loop);
    args[1] = A(c->now);
    for (size_t i = 0; i < c->n_holds; i++)
        add_full(c, &c->holds[i], args + OF_FAIR, &n);
    for (size_t i = 0; i < c->n; i++)
        add_full(c, &c->got[i].tenant, args + OF_FAIR, &n);
    while (n < DUE_CLAIM_MAX)
        args[OF_FAIR + n++] = A("nobody");
    args[ARGS_EARLIEST] = A(c->until);
    args[ARGS_EARLIEST + 1] = A(c->by);
}

/* One row at a time, for each changes who may have the next. */
static int claim_fair(struct db *db, struct due_claim *c, int64_t want, struct err *e)
{
    struct arg args[ARGS_FAIR];
    size_t before;
    int64_t any;

    do {
        before = c->n;
        fair_args(c, args);
        if ((int64_t)c->n < want)
            TRY(db_each(db, sql_claim_fair, args, ARGS_FAIR, claim_row, c, e));
    } while (c->n > before);
    TRY(db_int(db, sql_earliest_fair, args, ARGS_EARLIEST, DUE_NEVER, &c->next, e));
    TRY(due_earliest(db, c->loop, c->now, &any, e));
    c->held_back = any <= c->now && any < c->next;
    return 0;
}

int due_claim(struct db *db, struct due_claim *c, struct err *e)
{
    int64_t want = MIN(c->want, (int64_t)DUE_CLAIM_MAX);

    c->n = 0;
    c->held_back = false;
    if (c->seats)
        return claim_fair(db, c, want, e);
    TRY(db_each(db, sql_claim, ARGS(A(c->loop), A(c->now), A(want), A(c->until), A(c->by)),
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
    case DUE_REST:
        TRY(db_exec_n(db, sql_rest, ARGS(A(f->loop), A(&f->id), A(f->by)), &changed, e));
        if (changed)
            return 0;
        return db_int(db, sql_signalled, ARGS(A(f->loop), A(&f->id), A(f->by)), DUE_NEVER, &f->due,
                      e);
    }
    abort();
}

int due_signal(struct db *db, const char *loop, const struct uuid *id, const struct uuid *tenant,
               int64_t at, struct err *e)
{
    return db_exec(db, sql_signal, ARGS(A(loop), A(id), A(at), A(tenant)), e);
}

int due_add(struct db *db, const char *loop, const struct uuid *id, const struct uuid *tenant,
            int64_t at, struct err *e)
{
    return db_exec(db, sql_add, ARGS(A(loop), A(id), A(at), A(tenant)), e);
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
