/* SPDX-License-Identifier: Apache-2.0 */
/* What the reconcilers' timer does: prolongs leases, sweeps, reads the table of what is due again
 * for what other processes signalled, and wakes workers when the next row is due. */
#include "base/log.h"
#include "core/loop/reconcile_private.h"
#include "core/request/request.h"

struct renewal {
    struct lease leases[2 * SEATS_MAX];
    int n;
    int64_t until;
};

static int renew_run(struct db *db, void *ctx, struct err *e)
{
    struct renewal *r = ctx;

    for (int i = 0; i < r->n; i++)
        TRY(due_renew(db, r->leases[i].loop->r->name, &r->leases[i].row.id, r->leases[i].by,
                      r->until, e));
    return 0;
}

/* Prolongs the leases of visits that take long. */
static void renew(struct reconcile *rc)
{
    struct renewal r = { .until = clock_wall(rc->app->clock) + LEASE };
    int64_t old = clock_mono(clock_system()) - RENEW_EVERY / 2;
    struct err e;

    pthread_mutex_lock(&rc->lock);
    for (int i = 0; i < rc->started; i++)
        if (rc->seats[i].busy && rc->seats[i].lease.since < old)
            r.leases[r.n++] = rc->seats[i].lease;
    for (int i = 0; i < rc->n_ready; i++)
        if (rc->ready[i].since < old)
            r.leases[r.n++] = rc->ready[i];
    pthread_mutex_unlock(&rc->lock);
    if (r.n && store_write(rc->app->store, renew_run, &r, &e) < 0)
        log_err(LOG_WARN, "reconcile_renew_failed", &e);
}

static void refresh(struct reconcile *rc, struct db *db)
{
    for (size_t i = 0; i < rc->n_loops; i++) {
        int64_t next = 0;
        struct err e;
        int rc_ = db_read_round(db, &e);

        if (rc_ == 0)
            rc_ = due_earliest(db, rc->loops[i].r->name, clock_wall(rc->app->clock), &next, &e);
        db_read_done(db);
        if (rc_ < 0) {
            log_err(LOG_WARN, "reconcile_refresh_failed", &e);
            continue;
        }
        pthread_mutex_lock(&rc->lock);
        reconcile_loop_due(rc, &rc->loops[i], next);
        pthread_mutex_unlock(&rc->lock);
    }
}

enum { SWEEP_BATCH = 256 };
struct sweeping {
    const char *loop;
    int64_t now;
    size_t n;
    struct uuid ids[SWEEP_BATCH], tenants[SWEEP_BATCH];
};

static bool take_id(struct uuid *to, const struct col *c)
{
    *to = (struct uuid){ "" };
    if (!c->s || c->n >= sizeof(to->s))
        return false;
    memcpy(to->s, c->s, c->n);
    return true;
}

static int sweep_row(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct sweeping *s = ctx;

    if (n != 2 || !take_id(&s->ids[s->n], &c[0]))
        return err_set(e, ERR_INTERNAL, "the sweep of '%s' gives no ids", s->loop);
    take_id(&s->tenants[s->n], &c[1]);
    s->n++;
    return 0;
}

static int sweep_run(struct db *db, void *ctx, struct err *e)
{
    struct sweeping *s = ctx;

    for (size_t i = 0; i < s->n; i++)
        TRY(due_add(db, s->loop, &s->ids[i], &s->tenants[i], s->now, e));
    return 0;
}

/* Makes due what the loop's own SQL wants and the table lacks. */
static int sweep_loop(struct reconcile *rc, struct db *db, struct loop *l, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    struct sweeping s = { .loop = l->r->name, .now = clock_wall(rc->app->clock) };
    const char *tenant =
        loop_has_tenants(l->r)
            ? arena_printf(&a, "(SELECT t.tenant_id FROM %s AS t WHERE t.id = s.id)",
                           l->r->record->table)
            : "NULL";
    const char *sql =
        arena_printf(&a,
                     "WITH s(id) AS (%s) SELECT s.id, %s FROM s WHERE NOT EXISTS"
                     " (SELECT 1 FROM core_due AS d WHERE d.loop = $1 AND d.id = s.id)"
                     " LIMIT %d",
                     l->r->sweep, tenant, SWEEP_BATCH);
    do {
        s.n = 0;
        int rc_ = db_read_round(db, e);
        if (rc_ == 0)
            rc_ = db_each(db, sql, ARGS(A(s.loop)), sweep_row, &s, e);
        db_read_done(db);
        TRY(rc_);
        if (s.n)
            TRY(store_write(rc->app->store, sweep_run, &s, e));
        if (s.n) {
            pthread_mutex_lock(&rc->lock);
            reconcile_loop_due(rc, l, s.now);
            pthread_mutex_unlock(&rc->lock);
        }
    } while (s.n == SWEEP_BATCH);
    return 0;
}

int reconcile_sweep(struct reconcile *rc, struct db *db, struct err *e)
{
    int bad = 0;

    for (size_t i = 0; i < rc->n_loops; i++)
        if (rc->loops[i].r->sweep && sweep_loop(rc, db, &rc->loops[i], e) < 0) {
            log_err(LOG_ERROR, "reconcile_sweep_failed", e);
            bad = -1;
        }
    return bad;
}

/* Waits until a loop is due, a signal changes that, or a second has passed. */
static void timer_wait(struct reconcile *rc)
{
    int64_t now = clock_wall(rc->app->clock), at = now + SECONDS(1);
    struct timespec ts;

    for (size_t i = 0; i < rc->n_loops; i++) {
        if (rc->loops[i].claiming)
            continue;
        if (rc->loops[i].next > now)
            at = MIN(at, rc->loops[i].next);
        else if (reconcile_room(rc, &rc->loops[i]) > 0)
            reconcile_rouse(rc);
    }
    rc->planned = at;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + (at - now) * 1000;
    ts.tv_sec += ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    pthread_cond_timedwait(&rc->timer, &rc->lock, &ts);
    rc->planned = 0;
}

static void timer_chores(struct reconcile *rc, struct db *db, int64_t last[3])
{
    int64_t now = clock_mono(clock_system());
    struct err e;

    if (now - last[0] >= RENEW_EVERY) {
        last[0] = now;
        renew(rc);
    }
    if (now - last[1] >= REFRESH_EVERY) {
        last[1] = now;
        refresh(rc, db);
    }
    if (now - last[2] >= SWEEP_EVERY) {
        last[2] = now;
        (void)reconcile_sweep(rc, db, &e);
    }
}

void *reconcile_timer(void *arg)
{
    struct reconcile *rc = arg;
    struct db *db = NULL;
    int64_t past = clock_mono(clock_system()) - SWEEP_EVERY - 1;
    int64_t last[3] = { past, past, past };
    struct err e;

    pthread_mutex_lock(&rc->lock);
    while (!rc->stopping) {
        pthread_mutex_unlock(&rc->lock);
        if (!db)
            db = store_reader(rc->app->store, &e);
        if (db)
            timer_chores(rc, db, last);
        pthread_mutex_lock(&rc->lock);
        if (!rc->stopping)
            timer_wait(rc);
    }
    pthread_mutex_unlock(&rc->lock);
    if (db)
        store_reader_back(rc->app->store, db);
    return NULL;
}
