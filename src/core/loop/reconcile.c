/* SPDX-License-Identifier: Apache-2.0 */
/* Reconcilers' threads.  Hides who visits when: in memory stands only when each loop's next row is
 * due; the truth is core_due.  A worker's write job ends the lease of the visit it made and takes
 * the loop's next rows in the same commit.  One timer thread wakes workers, prolongs leases,
 * sweeps, and reads the table again for what other processes signalled. */
#include <sodium.h>

#include "base/log.h"
#include "core/loop/reconcile_private.h"
#include "core/request/request.h"

enum { DRAIN_MAX = 100000 };

/* ---- one write job: ends a lease, takes new ones */

struct turn {
    struct reconcile *rc;
    struct due_finish *finish; /* or NULL */
    struct loop *loop;         /* to claim from; NULL: none */
    struct due_claim claim;
    unsigned ended; /* the loop's when it began */
    char by[DUE_BY];
};

static int turn_run(struct db *db, void *ctx, struct err *e)
{
    struct turn *t = ctx;

    if (t->finish)
        TRY(due_finish(db, t->finish, e));
    if (!t->loop)
        return 0;
    t->claim.now = clock_wall(t->rc->app->clock);
    t->claim.until = t->claim.now + LEASE;
    return due_claim(db, &t->claim, e);
}

static void turn_claims(struct turn *t, struct reconcile *rc, struct loop *l, int64_t want)
{
    t->loop = l;
    snprintf(t->by, sizeof(t->by), "%s.%u", rc->process, atomic_fetch_add(&rc->claims, 1));
    t->claim = (struct due_claim){ .loop = l->r->name, .want = want, .by = t->by };
}

/* Tries again when the writer is overloaded; a lease that cannot be ended runs out. */
static int turn_write(struct turn *t, struct err *e)
{
    for (int i = 0;; i++) {
        int rc = store_write(t->rc->app->store, turn_run, t, e);

        if (rc == 0)
            return 0;
        if (i == 4 || !err_retry(e->code)) {
            log_err(LOG_ERROR, "reconcile_write_failed", e);
            return -1;
        }
        usleep((useconds_t)(20000 << i));
    }
}

static struct lease turn_lease(const struct turn *t, size_t i)
{
    struct lease l = { .loop = t->loop, .row = t->claim.got[i] };

    memcpy(l.by, t->by, sizeof(l.by));
    l.since = clock_mono(clock_system());
    return l;
}

/* ---- due times in memory; the lock is held */

static void *seat_main(void *arg);

/* There is work for one more thread: they are started as they are needed. */
void reconcile_rouse(struct reconcile *rc)
{
    char name[16];

    if (rc->idle) {
        pthread_cond_signal(&rc->work);
        return;
    }
    if (!rc->running || rc->stopping || rc->started == rc->n_seats)
        return;
    struct seat *s = &rc->seats[rc->started];
    snprintf(name, sizeof(name), "visit-%d", rc->started++);
    s->rc = rc;
    s->thread = thread_start(name, seat_main, s);
}

void reconcile_loop_due(struct reconcile *rc, struct loop *l, int64_t at)
{
    l->next = MIN(l->next, at);
    l->front.floor = MIN(l->front.floor, at);
    if (at <= clock_wall(rc->app->clock))
        reconcile_rouse(rc);
    else if (at < rc->planned)
        pthread_cond_signal(&rc->timer);
}

static int leased(const struct reconcile *rc)
{
    int n = 0;

    for (size_t i = 0; i < rc->n_loops; i++)
        n += rc->loops[i].held;
    return n;
}

/* How many more rows of a loop may be leased now: where there are several loops, none gets the last
 * quarter of the seats, so that slow visits of one (a mail server that hangs) do not hold up the
 * others. */
int reconcile_room(const struct reconcile *rc, const struct loop *l)
{
    int most = rc->n_seats;

    if (rc->n_loops > 1 && rc->n_seats > 1)
        most -= MAX(rc->n_seats / 4, 1);
    return MIN(most - l->held, rc->n_seats - leased(rc));
}

static struct loop *loop_find(struct reconcile *rc)
{
    int64_t now = clock_wall(rc->app->clock);

    for (size_t i = 0; i < rc->n_loops; i++) {
        struct loop *l = &rc->loops[(rc->turn + i) % rc->n_loops];

        if (l->claiming || l->next > now || reconcile_room(rc, l) < 1)
            continue;
        rc->turn = (rc->turn + i + 1) % rc->n_loops;
        return l;
    }
    return NULL;
}

static void holds_add(struct due_claim *c, const struct loop *l, const struct lease *x)
{
    if (x->loop == l && c->n_holds < DUE_HOLDS_MAX)
        c->holds[c->n_holds++] = x->row.tenant;
}

static void claim_begin(struct reconcile *rc, struct turn *t, struct loop *l)
{
    int free = rc->idle + rc->n_seats - rc->started - rc->n_ready;
    int want = MIN(MAX(1 + free, 1), reconcile_room(rc, l));

    if (want < 1)
        return;
    l->claiming = true;
    l->held_back = false;
    l->next = DUE_NEVER; /* a signal from now on lowers it again */
    turn_claims(t, rc, l, want);
    t->claim.from = l->front;
    l->front.floor = DUE_NEVER; /* likewise */
    t->claim.seats = rc->n_seats;
    t->claim.used = leased(rc);
    t->ended = l->ended;
    for (int i = 0; i < rc->started; i++)
        if (rc->seats[i].busy)
            holds_add(&t->claim, l, &rc->seats[i].lease);
    for (int i = 0; i < rc->n_ready; i++)
        holds_add(&t->claim, l, &rc->ready[i]);
}

static void claim_end(struct reconcile *rc, struct turn *t, bool ok)
{
    struct loop *l = t->loop;
    int64_t told = l->front.floor;

    l->claiming = false;
    l->front = ok ? t->claim.front : (struct due_front){ 0 };
    l->front.floor = MIN(l->front.floor, told);
    l->held_back = ok && t->claim.held_back;
    rc->held_back += l->held_back;
    if (l->held_back && t->ended != l->ended) {
        /* What it was told of others' leases is no longer true. */
        l->held_back = false;
        t->claim.next = clock_wall(rc->app->clock);
    }
    for (size_t i = 0; ok && i < t->claim.n; i++) {
        if (rc->n_ready == SEATS_MAX)
            break; /* its lease runs out, and it is visited then */
        rc->ready[rc->n_ready++] = turn_lease(t, i);
        l->held++;
        if (i)
            reconcile_rouse(rc);
    }
    reconcile_loop_due(rc, l, ok ? t->claim.next : clock_wall(rc->app->clock) + SECONDS(1));
}

/* One of its rows less is leased: whose turn was held back may come. */
static void lease_over(struct reconcile *rc, struct loop *l)
{
    l->held--;
    l->ended++;
    if (!l->held_back)
        return;
    l->held_back = false;
    l->next = MIN(l->next, clock_wall(rc->app->clock));
}

/* ---- workers */

/* Waits for a leased row (true) or a loop to claim from (t->loop); false with neither: stop. */
static bool seat_wait(struct seat *s, struct turn *t)
{
    struct reconcile *rc = s->rc;

    while (!rc->stopping) {
        if (rc->n_ready) {
            s->lease = rc->ready[0];
            memmove(&rc->ready[0], &rc->ready[1], sizeof(rc->ready[0]) * (size_t)--rc->n_ready);
            s->busy = true;
            return true;
        }
        struct loop *l = loop_find(rc);
        if (l) {
            claim_begin(rc, t, l);
            return false;
        }
        rc->idle++;
        pthread_cond_wait(&rc->work, &rc->lock);
        rc->idle--;
    }
    return false;
}

static void seat_work(struct seat *s, struct db *db)
{
    struct reconcile *rc = s->rc;

    pthread_mutex_lock(&rc->lock);
    for (;;) {
        struct turn t = { .rc = rc };
        struct due_finish f = { 0 };
        struct err e;

        if (seat_wait(s, &t)) {
            struct loop *l = s->lease.loop;

            pthread_mutex_unlock(&rc->lock);
            f = (struct due_finish){ .loop = l->r->name, .by = s->lease.by };
            f.id = s->lease.row.id;
            f.attempts = s->lease.row.attempts;
            visit_row(rc->app, db, l->r, &l->counts, &f);
            t.finish = &f;
            pthread_mutex_lock(&rc->lock);
            s->busy = false;
            lease_over(rc, l);
            if (!rc->stopping && !l->claiming && l->next <= clock_wall(rc->app->clock))
                claim_begin(rc, &t, l);
        } else if (!t.loop) {
            break;
        }
        pthread_mutex_unlock(&rc->lock);
        bool ok = turn_write(&t, &e) == 0;
        pthread_mutex_lock(&rc->lock);
        if (t.finish && ok)
            reconcile_loop_due(rc, s->lease.loop, f.due);
        if (t.loop)
            claim_end(rc, &t, ok);
    }
    pthread_mutex_unlock(&rc->lock);
}

static void *seat_main(void *arg)
{
    struct seat *s = arg;

    seat_work(s, store_any_reader(s->rc->app->store));
    return NULL;
}

/* ---- life */

int reconcile_open(struct app *app, struct err *e _unused_)
{
    struct reconcile *rc = calloc(1, sizeof(*rc));
    pthread_condattr_t attr;
    uint8_t random[8];
    size_t n = 0;

    if (!rc)
        abort();
    for (size_t i = 0; app->o.services[i]; i++)
        for (size_t k = 0; app->o.services[i]->loops && app->o.services[i]->loops[k]; k++)
            n++;
    rc->app = app;
    app->told.due = reconcile_wake;
    rc->loops = calloc(n ? n : 1, sizeof(*rc->loops));
    if (!rc->loops)
        abort();
    for (size_t i = 0; app->o.services[i]; i++)
        for (size_t k = 0; app->o.services[i]->loops && app->o.services[i]->loops[k]; k++) {
            rc->loops[rc->n_loops].r = app->o.services[i]->loops[k];
            rc->loops[rc->n_loops++].next = DUE_NEVER;
        }
    randombytes_buf(random, sizeof(random));
    hex_encode(random, sizeof(random), rc->process);
    pthread_mutex_init(&rc->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&rc->timer, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&rc->work, NULL);
    app->reconcile = rc;
    return 0;
}

static int free_all_run(struct db *db, void *ctx, struct err *e)
{
    return due_free_all(db, *(const int64_t *)ctx, e);
}

int reconcile_start(struct app *app, struct err *e)
{
    struct reconcile *rc = app->reconcile;
    int64_t now = clock_wall(app->clock);

    /* One process owns an SQLite store: leases in it are those of a process that has died. */
    if (!app->postgres)
        TRY(store_write(app->store, free_all_run, &now, e));
    if (app->o.manual_loops || !rc->n_loops)
        return 0;
    rc->running = true;
    rc->n_seats = (int)app->config->reconcilers;
    rc->timer_thread = thread_start("visit-timer", reconcile_timer, rc);
    return 0;
}

static int give_back_run(struct db *db, void *ctx, struct err *e)
{
    struct reconcile *rc = ctx;

    for (int i = 0; i < rc->n_ready; i++) {
        struct due_finish f = { .loop = rc->ready[i].loop->r->name, .by = rc->ready[i].by };

        f.id = rc->ready[i].row.id;
        f.attempts = rc->ready[i].row.attempts;
        f.at = clock_wall(rc->app->clock);
        TRY(due_finish(db, &f, e));
    }
    return 0;
}

void reconcile_stop(struct app *app)
{
    struct reconcile *rc = app->reconcile;
    struct err e;

    if (!rc || !rc->running)
        return;
    pthread_mutex_lock(&rc->lock);
    rc->stopping = true;
    pthread_cond_broadcast(&rc->work);
    pthread_cond_broadcast(&rc->timer);
    pthread_mutex_unlock(&rc->lock);
    for (int i = 0; i < rc->started; i++)
        pthread_join(rc->seats[i].thread, NULL);
    pthread_join(rc->timer_thread, NULL);
    rc->running = false;
    if (rc->n_ready && store_write(app->store, give_back_run, rc, &e) < 0)
        log_err(LOG_WARN, "reconcile_give_back_failed", &e);
    rc->n_ready = 0;
}

void reconcile_close(struct app *app)
{
    struct reconcile *rc = app->reconcile;

    if (!rc)
        return;
    while (atomic_load(&rc->outside))
        usleep(1000);
    app->reconcile = NULL;
    pthread_mutex_destroy(&rc->lock);
    pthread_cond_destroy(&rc->work);
    pthread_cond_destroy(&rc->timer);
    free(rc->loops);
    free(rc);
}

void reconcile_counts(struct app *app, struct fair_counts *out)
{
    struct reconcile *rc = app->reconcile;

    *out = (struct fair_counts){ 0 };
    if (!rc)
        return;
    pthread_mutex_lock(&rc->lock);
    out->seats = rc->n_seats;
    out->waiting = rc->n_ready;
    out->held_back = rc->held_back;
    for (int i = 0; i < rc->started; i++)
        out->used += rc->seats[i].busy;
    pthread_mutex_unlock(&rc->lock);
}

/* ---- signals */

void reconcile_wake(struct app *app, const struct reconciler *loop, const struct uuid *id _unused_,
                    int64_t at)
{
    struct reconcile *rc = app->reconcile;

    if (!rc)
        return;
    pthread_mutex_lock(&rc->lock);
    for (size_t i = 0; i < rc->n_loops; i++)
        if (rc->loops[i].r == loop)
            reconcile_loop_due(rc, &rc->loops[i], at);
    pthread_mutex_unlock(&rc->lock);
}

int call_due(struct call *c, const struct reconciler *r, const struct uuid *id, int64_t at,
             struct err *e)
{
    struct due *x = arena_new(c->arena, struct due);

    TRY(due_signal(c->db, r->name, id, &c->tenant, at, e));
    *x = (struct due){ .next = c->p->commit.dues, .loop = r, .id = *id, .at = at };
    c->p->commit.dues = x;
    return 0;
}

struct outside { /* a signal on its way through the writer */
    struct db_job job;
    struct app *app;
    const struct reconciler *r;
    struct uuid id;
    int64_t at;
};

static int outside_run(struct db *db, void *ctx, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(4));
    struct outside *o = ctx;
    struct uuid tenant = { "" };

    if (loop_has_tenants(o->r))
        TRY(db_each(db,
                    arena_printf(&a, "SELECT tenant_id FROM %s WHERE id = $1", o->r->record->table),
                    ARGS(A(&o->id)), take_uuid, &tenant, e));
    return due_signal(db, o->r->name, &o->id, &tenant, o->at, e);
}

static void outside_done(void *ctx, int rc, struct err *e)
{
    struct outside *o = ctx;

    if (rc < 0)
        log_err(LOG_WARN, "reconcile_signal_failed", e);
    else
        reconcile_wake(o->app, o->r, &o->id, o->at);
    atomic_fetch_sub(&o->app->reconcile->outside, 1);
    free(o);
}

const struct reconciler *app_loop(struct app *app, const char *name)
{
    for (const struct service *const *s = app->services; *s; s++)
        for (const struct reconciler *const *l = (*s)->loops; l && *l; l++)
            if (strcmp((*l)->name, name) == 0)
                return *l;
    return NULL;
}

void reconcile_signal(struct app *app, const struct reconciler *r, const struct uuid *id)
{
    struct reconcile *rc = app->reconcile;

    if (!rc)
        return;
    struct outside *o = calloc(1, sizeof(*o));
    if (!o)
        abort();
    *o = (struct outside){ .app = app, .r = r, .id = *id, .at = clock_wall(app->clock) };
    o->job = (struct db_job){ .run = outside_run, .done = outside_done, .ctx = o };
    atomic_fetch_add(&rc->outside, 1);
    if (store_submit(app->store, &o->job))
        return;
    atomic_fetch_sub(&rc->outside, 1);
    log_event(LOG_WARN, "reconcile_signal_dropped", L_STR("loop", r->name));
    free(o);
}

/* ---- tests: no threads, the caller's clock */

static int drain_loop(struct reconcile *rc, struct db *db, struct loop *l, int64_t *visits,
                      struct err *e)
{
    for (;;) {
        struct turn t = { .rc = rc };

        turn_claims(&t, rc, l, DUE_CLAIM_MAX);
        t.claim.seats = DUE_CLAIM_MAX;
        TRY(turn_write(&t, e));
        if (!t.claim.n)
            return 0;
        for (size_t i = 0; i < t.claim.n; i++) {
            struct due_finish f = { .loop = l->r->name, .by = t.by, .id = t.claim.got[i].id };
            struct turn end = { .rc = rc, .finish = &f };

            f.attempts = t.claim.got[i].attempts;
            visit_row(rc->app, db, l->r, &l->counts, &f);
            TRY(turn_write(&end, e));
            if (++*visits > DRAIN_MAX)
                return err_set(e, ERR_INTERNAL, "loop '%s' does not come to rest", l->r->name);
        }
    }
}

int reconcile_drain(struct app *app, struct err *e)
{
    struct reconcile *rc = app->reconcile;
    struct db *db = store_reader(app->store, e);
    int64_t visits = 0, before;
    int rc_ = 0;

    if (!db)
        return -1;
    int64_t now = clock_wall(app->clock);
    if (!rc->swept || now - rc->swept >= SWEEP_EVERY) {
        rc->swept = now;
        rc_ = reconcile_sweep(rc, db, e);
    }
    do {
        before = visits;
        for (size_t i = 0; rc_ == 0 && i < rc->n_loops; i++)
            rc_ = drain_loop(rc, db, &rc->loops[i], &visits, e);
    } while (rc_ == 0 && visits != before);
    store_reader_back(app->store, db);
    return rc_;
}
