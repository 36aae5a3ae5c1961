/* SPDX-License-Identifier: Apache-2.0 */
/* The table core_due.  Hides how a signal, a lease and a crash are told apart: by due_at and
 * lease_until alone, so that each step is one statement and needs no memory of the last one. */
#include "core/loop/due.h"

#include "base/fair.h"
#include "codec/id.h"

#define SQL_EARLIEST(which)       \
    "SELECT due_at FROM core_due" \
    " WHERE loop = $1 AND lease_until <= $2" which " ORDER BY due_at LIMIT 1"
#define SQL_CLAIM(which, until, by)                                                    \
    "WITH due AS (SELECT id FROM core_due"                                             \
    "              WHERE loop = $1 AND due_at <= $2 AND lease_until <= $2" which       \
    "              ORDER BY due_at LIMIT 1 /*pg: FOR UPDATE SKIP LOCKED */)"           \
    " UPDATE core_due SET due_at = " until ", lease_until = " until ", lease_by = " by \
    "  WHERE loop = $1 AND id IN (SELECT id FROM due)"                                 \
    " RETURNING id, attempts, tenant_id"
#define SQL_OF " AND COALESCE(tenant_id, '') = $3"
/* As many tenants as a claim holds, and as a loop may hold rows. */
#define SQL_REST(names) " AND due_at >= $3 AND COALESCE(tenant_id, '') NOT IN (" names ")"
#define TEN(d)          "$" d "0,$" d "1,$" d "2,$" d "3,$" d "4,$" d "5,$" d "6,$" d "7,$" d "8,$" d "9"
#define NAMES_FEW       "$4,$5,$6,$7,$8,$9," TEN("1") "," TEN("2") ",$30,$31,$32,$33,$34,$35"
#define NAMES_ALL                                                                              \
    "$4,$5,$6,$7,$8,$9," TEN("1") "," TEN("2") "," TEN("3") "," TEN("4") "," TEN("5") "," TEN( \
        "6") "," TEN("7") "," TEN("8") "," TEN("9") "," TEN("10") "," TEN("11") "," TEN("12")
_Static_assert(DUE_CLAIM_MAX == 32 && DUE_HOLDS_MAX == 126, "so many names");
static const char *const sql_claim_rest[] = { SQL_CLAIM(SQL_REST(NAMES_FEW), "$36", "$37"),
                                              SQL_CLAIM(SQL_REST(NAMES_ALL), "$130", "$131") };
static const char sql_claim_of[] = SQL_CLAIM(SQL_OF, "$4", "$5");
static const char *const sql_earliest_rest[] = { SQL_EARLIEST(SQL_REST(NAMES_FEW)),
                                                 SQL_EARLIEST(SQL_REST(NAMES_ALL)) };
static const char sql_earliest_of[] = SQL_EARLIEST(SQL_OF);
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
#define SIGNALLED                                                                         \
    " ON CONFLICT (loop, id) DO UPDATE"                                                   \
    "   SET due_at = CASE WHEN core_due.due_at > $3 THEN $3 ELSE core_due.due_at - 1 END" \
    " WHERE core_due.due_at > $3 OR core_due.due_at = core_due.lease_until"
#define SIGNAL  "INSERT INTO core_due (loop, id, due_at, lease_until, attempts, tenant_id) VALUES "
#define ROW(id) "($1, $" id ", $3, 0, 0, $4)"
static const char sql_signal[] = SIGNAL ROW("2") SIGNALLED;
static const char sql_signal_many[] = SIGNAL
    ROW("2") "," ROW("5") "," ROW("6") "," ROW("7") "," ROW("8") "," ROW("9") "," ROW("10") "," ROW("11") "," ROW(
        "12") "," ROW("13") "," ROW("14") "," ROW("15") "," ROW("16") "," ROW("17") "," ROW("18") "," ROW("19")
        SIGNALLED;
_Static_assert(DUE_MANY == 16, "so many rows");
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

static bool is_full(const struct due_claim *c, const struct uuid *tenant)
{
    return !fair_room(holds(c, tenant), 1, c->seats, c->used + (int64_t)c->n);
}

/* The tenants who may have none now: only who holds one can be. */
static size_t full(const struct due_claim *c, const struct uuid *out[DUE_HOLDS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < c->n_holds + c->n && n < DUE_HOLDS_MAX; i++) {
        const struct uuid *t = i < c->n_holds ? &c->holds[i] : &c->got[i - c->n_holds].tenant;
        bool known = !is_full(c, t);

        for (size_t k = 0; k < n && !known; k++)
            known = uuid_eq(out[k], t);
        if (!known)
            out[n++] = t;
    }
    return n;
}

/* A tenant as SQL_OF and SQL_REST name it: nobody's are of "". */
static struct arg name_of(const struct uuid *tenant)
{
    return A((const char *)tenant->s);
}

enum { OF_REST = 3, ARGS_REST = OF_REST + DUE_HOLDS_MAX + 2 };

/* The arguments of sql_earliest_rest[] and, with two more, of sql_claim_rest[]: which of them, and
 * how many. */
static size_t rest_args(const struct due_claim *c, struct arg args[ARGS_REST], int *which)
{
    const struct uuid *but[DUE_HOLDS_MAX];
    size_t n = full(c, but), names;

    *which = n > DUE_CLAIM_MAX;
    names = *which ? DUE_HOLDS_MAX : DUE_CLAIM_MAX;
    args[0] = A(c->loop);
    args[1] = A(c->now);
    args[2] = A(c->front.floor);
    for (size_t i = 0; i < names; i++)
        args[OF_REST + i] = i < n ? name_of(but[i]) : A("nobody");
    args[OF_REST + names] = A(c->until);
    args[OF_REST + names + 1] = A(c->by);
    return OF_REST + names;
}

/* Where the row due longest is that may be had. */
struct first {
    int64_t at;     /* DUE_NEVER: there is none */
    int64_t rest;   /* the earliest behind the floor */
    struct uuid of; /* whose it is, if it is before the floor */
    bool passed;    /* it is */
};

static int first_find(struct db *db, struct due_claim *c, struct first *f, struct err *e)
{
    struct due_front *front = &c->front;
    struct arg args[ARGS_REST];
    size_t kept = 0, n;
    int which;

    *f = (struct first){ 0 };
    n = rest_args(c, args, &which);
    TRY(db_int(db, sql_earliest_rest[which], args, n, DUE_NEVER, &f->rest, e));
    f->at = f->rest;
    for (size_t i = 0; i < front->n_passed; i++) {
        struct uuid t = front->passed[i];
        int64_t at = front->floor;

        if (!is_full(c, &t))
            TRY(db_int(db, sql_earliest_of, ARGS(A(c->loop), A(c->now), name_of(&t)), DUE_NEVER,
                       &at, e));
        if (at > front->floor) /* it has none left before the floor */
            continue;
        front->passed[kept++] = t;
        if (at < f->at && !is_full(c, &t)) {
            f->at = at;
            f->of = t;
            f->passed = true;
        }
    }
    front->n_passed = kept;
    return 0;
}

static int first_claim(struct db *db, struct due_claim *c, const struct first *f, struct err *e)
{
    struct arg args[ARGS_REST];
    int which;

    if (f->passed)
        return db_each(db, sql_claim_of,
                       ARGS(A(c->loop), A(c->now), name_of(&f->of), A(c->until), A(c->by)),
                       claim_row, c, e);
    size_t n = rest_args(c, args, &which);
    return db_each(db, sql_claim_rest[which], args, n + 2, claim_row, c, e);
}

/* Whoever is full is passed over up to what others have due.  The floor lies a microsecond before
 * that, for a signal of a row whose lease ran out makes it due by one earlier. */
static void front_move(struct due_claim *c, int64_t rest)
{
    const struct uuid *over[DUE_HOLDS_MAX];
    struct due_front *front = &c->front;
    size_t n = full(c, over);

    for (size_t i = 0; i < n; i++) {
        bool known = false;

        for (size_t k = 0; k < front->n_passed && !known; k++)
            known = uuid_eq(&front->passed[k], over[i]);
        if (known)
            continue;
        if (front->n_passed == DUE_PASSED_MAX) {
            *front = (struct due_front){ 0 };
            return;
        }
        front->passed[front->n_passed++] = *over[i];
    }
    front->floor = MAX(front->floor, MIN(rest, c->now) - 1);
}

/* One row at a time, for each changes who may have the next. */
int due_claim(struct db *db, struct due_claim *c, struct err *e)
{
    int64_t want = MIN(c->want, (int64_t)DUE_CLAIM_MAX), any;
    struct first f;
    size_t before;

    c->n = 0;
    c->front = c->from;
    do {
        before = c->n;
        TRY(first_find(db, c, &f, e));
        if (f.at <= c->now && (int64_t)c->n < want)
            TRY(first_claim(db, c, &f, e));
    } while (c->n > before);
    front_move(c, f.rest);
    c->next = f.at;
    TRY(due_earliest(db, c->loop, c->now, &any, e));
    c->held_back = any <= c->now && any < c->next;
    return 0;
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

int due_signal_many(struct db *db, const char *loop, const struct uuid *ids[DUE_MANY],
                    const struct uuid *tenant, int64_t at, struct err *e)
{
    struct arg args[DUE_MANY + 3] = { A(loop), A(ids[0]), A(at), A(tenant) };

    for (size_t i = 1; i < DUE_MANY; i++)
        args[3 + i] = A(ids[i]);
    return db_exec(db, sql_signal_many, args, ARRAY_LEN(args), e);
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
