/* SPDX-License-Identifier: Apache-2.0 */
/* The deliverer's thread.  Hides its rounds: what has landed is judged, what may go is sent, and
 * one transaction writes down what came of requests, gives back owners that rest and leases those
 * that are due.  Nothing waits for an endpoint: requests are the client's until they land. */
#include "core/loop/deliver.h"

#include <sodium.h>

#include "base/log.h"
#include "codec/text.h"
#include "core/loop/reconcile.h"
#include "core/request/request.h"

enum { BATCH = 128, DRAIN_ROUNDS = 1000000 };
static const int64_t LEASE = SECONDS(30);
static const int64_t RENEW_EVERY = SECONDS(8);
static const int64_t LOOK_EVERY = SECONDS(1); /* at what is leased: retries, other processes */
static const int64_t LINGER = MILLIS(900); /* an owner stays leased: what comes next goes at once */

/* ---- being told */

static void wake(struct deliveries *ds, const struct uuid *id, int64_t at)
{
    pthread_mutex_lock(&ds->lock);
    ds->woken_at = MIN(ds->woken_at, at);
    if (ds->n_woken < ARRAY_LEN(ds->woken))
        ds->woken[ds->n_woken++] = *id;
    else
        ds->all_woken = true;
    pthread_cond_signal(&ds->cond);
    pthread_mutex_unlock(&ds->lock);
}

static void due_told(struct app *app, const struct reconciler *loop, const struct uuid *id,
                     int64_t at)
{
    if (loop != &deliver_loop)
        reconcile_wake(app, loop, id, at);
    else if (app->deliveries)
        wake(app->deliveries, id, at);
}

int deliver_due(struct call *c, const struct delivery_to *to, struct err *e)
{
    const struct uuid *ids[DUE_MANY];
    struct due *x = arena_new_n(c->arena, struct due, DUE_MANY);

    for (size_t i = 0; i < DUE_MANY; i++)
        ids[i] = &to[i].owner;
    TRY(due_signal_many(c->db, deliver_loop.name, ids, &c->tenant, c->now, e));
    for (size_t i = 0; i < DUE_MANY; i++) {
        x[i] = (struct due){ c->p->commit.dues, &deliver_loop, to[i].owner, c->now };
        c->p->commit.dues = &x[i];
    }
    return 0;
}

static int deleted(struct call *c, const struct record *r, const struct uuid *id, struct err *e)
{
    struct deliveries *ds = c->app->deliveries;

    for (size_t i = 0; ds && ds->kinds[i]; i++)
        if (ds->kinds[i]->owner == r)
            return call_due(c, &deliver_loop, id, c->now, e);
    return 0;
}

/* ---- the transaction of a round */

struct writing {
    struct deliveries *ds;
    struct flight *flights[BATCH];
    size_t n;
    bool leases; /* beside flights: what rests, what is due */
    struct due_finish ends[OUTLETS];
    struct outlet *ended[OUTLETS];
    size_t n_ends;
    struct due_claim claim;
    char by[DUE_BY];
    bool more[OUTLETS]; /* of a deleted owner there are further rows */
};

static const char sql_done[] =
    "UPDATE core_deliveries SET status = $2, tries = tries + 1, attempt_count = $3,"
    " status_code = $4, next_attempt_at = $5, completed_at = $6, updated_at = $7,"
    " revision = revision + 1, log = log || $8 WHERE id = $1 AND status = 'pending'";
static const char sql_ill[] =
    "INSERT INTO core_endpoints (owner_id, failing_since, paused_until) VALUES ($1, $2, $3)"
    " ON CONFLICT (owner_id) DO UPDATE SET failing_since = $2, paused_until = $3";
static const char sql_well[] = "DELETE FROM core_endpoints WHERE owner_id = $1";
static const char sql_left[] =
    "SELECT min(next_attempt_at) FROM core_deliveries WHERE owner_id = $1 AND status = 'pending'";
static const char sql_owned[] =
    "DELETE FROM core_deliveries WHERE id IN"
    " (SELECT id FROM core_deliveries WHERE owner_id = $1 ORDER BY created_at LIMIT 500)";

static int write_flight(struct call *c, struct flight *f, struct err *e)
{
    const struct delivery_kind *k = f->outlet->kind;
    int64_t n;

    if (f->out.nothing)
        return 0;
    TRY(system_call_turn(c, &f->d.tenant_id, f->d.mode, e));
    int64_t over = f->out.next ? 0 : c->now;
    TRY(db_exec_n(
        c->db, sql_done,
        ARGS(A(&f->d.id),
             A(enum_to_str(record_field(&delivery_record, "status")->names, (int)f->out.status)),
             A(f->d.attempt_count), A(f->got.status ? f->got.status : -1), A(f->out.next), A(over),
             A(c->now), A(f->out.log)),
        &n, e));
    call_changed(c, &delivery_record, &f->d.id);
    return n && f->out.tell && k->told ? k->told(c, &f->out.told, e) : 0;
}

static int write_endpoint(struct call *c, const struct outlet *l, struct err *e)
{
    if (l->failing_since || l->paused_until)
        return db_exec(c->db, sql_ill, ARGS(A(&l->owner), A(l->failing_since), A(l->paused_until)),
                       e);
    return db_exec(c->db, sql_well, ARGS(A(&l->owner)), e);
}

/* A outlet that rests: its owner is due again with the first of what is left. */
static int write_end(struct call *c, struct writing *w, size_t i, struct err *e)
{
    struct due_finish *f = &w->ends[i];
    const struct outlet *l = w->ended[i];
    int64_t n = 0, left;

    w->more[i] = false;
    if (l->gone) {
        TRY(db_exec_n(c->db, sql_owned, ARGS(A(&l->owner)), &n, e));
        w->more[i] = n > 0;
        if (w->more[i])
            return 0;
    }
    if (l->gone || (!l->kind && !l->hold))
        TRY(db_exec(c->db, sql_well, ARGS(A(&l->owner)), e));
    TRY(db_int(c->db, sql_left, ARGS(A(&l->owner)), DUE_NEVER, &left, e));
    f->end = left == DUE_NEVER ? DUE_REST : DUE_AGAIN;
    f->at = MAX(left, outlet_wakes(l));
    return due_finish(c->db, f, e);
}

/* May run more than once. */
static int write_run(struct call *c, void *arg, struct err *e)
{
    struct writing *w = arg;

    for (size_t i = 0; i < w->n; i++)
        TRY(write_flight(c, w->flights[i], e));
    for (struct outlet *l = w->ds->outlets; l; l = l->next)
        if (l->dirty && !l->gone)
            TRY(write_endpoint(c, l, e));
    for (size_t i = 0; i < w->n_ends; i++)
        TRY(write_end(c, w, i, e));
    if (!w->claim.want)
        return 0;
    w->claim.now = clock_wall(w->ds->app->clock);
    w->claim.until = w->claim.now + LEASE;
    return due_claim(c->db, &w->claim, e);
}

static void claim_begin(struct deliveries *ds, struct writing *w)
{
    int64_t room = OUTLETS - ds->n_outlets;

    if (ds->next > clock_wall(ds->app->clock) || room < 1)
        return;
    snprintf(w->by, sizeof(w->by), "%s.d%u", ds->process, ds->claims++);
    w->claim = (struct due_claim){
        .loop = deliver_loop.name,
        .want = MIN(room, (int64_t)DUE_CLAIM_MAX),
        .by = w->by,
        .seats = OUTLETS,
        .used = ds->n_outlets,
        .from = ds->front,
    };
    for (const struct outlet *l = ds->outlets; l; l = l->next)
        w->claim.holds[w->claim.n_holds++] = l->tenant;
}

static void outlet_add(struct deliveries *ds, const struct writing *w,
                       const struct due_claimed *got)
{
    struct outlet *l = calloc(1, sizeof(*l));

    if (!l)
        abort();
    l->owner = got->id;
    l->tenant = got->tenant;
    memcpy(l->by, w->by, sizeof(l->by));
    l->arena = ARENA(MIB(16));
    l->width = 1;
    l->look = true;
    l->next = ds->outlets;
    ds->outlets = l;
    ds->n_outlets++;
}

static void outlet_drop(struct deliveries *ds, struct outlet *l)
{
    struct outlet **at = &ds->outlets;

    while (*at && *at != l)
        at = &(*at)->next;
    if (*at)
        *at = (*at)->next;
    ds->n_outlets--;
    outlet_free(l);
}

/* Whether it may stay leased though it has nothing to send now: not where others want its seat. */
static bool lingers(const struct deliveries *ds, struct outlet *l)
{
    int64_t now = clock_mono(clock_system());

    if (!l->idle)
        l->idle = now;
    return ds->running && !ds->held_back && ds->n_outlets < OUTLETS / 2 && l->kind && !l->gone &&
           !l->failing_since && !l->hold && now - l->idle < LINGER;
}

/* What is to be written in this round; false: nothing. */
static bool gather(struct deliveries *ds, struct writing *w)
{
    int64_t now = clock_wall(ds->app->clock);
    bool dirty = false;

    w->ds = ds;
    for (struct flight *f = ds->unwritten; f && w->n < ds->batch; f = f->behind)
        w->flights[w->n++] = f;
    for (struct outlet *l = ds->outlets; l; l = l->next) {
        dirty = dirty || l->dirty;
        if (!outlet_rests(l, now))
            l->idle = 0;
        if (!outlet_rests(l, now) || lingers(ds, l))
            continue;
        w->ends[w->n_ends] = (struct due_finish){ .loop = deliver_loop.name, .by = l->by };
        w->ends[w->n_ends].id = l->owner;
        w->ended[w->n_ends++] = l;
    }
    claim_begin(ds, w);
    return w->n || w->n_ends || w->claim.want || dirty;
}

/* ---- what follows the commit */

static void flights_over(struct deliveries *ds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct flight *f = ds->unwritten;

        ds->unwritten = f->behind;
        f->outlet->look = f->outlet->look || f->out.nothing;
        flight_free(f);
    }
    if (!ds->unwritten)
        ds->unwritten_end = &ds->unwritten;
}

static void due_at(struct deliveries *ds, int64_t at)
{
    ds->next = MIN(ds->next, at);
    ds->front.floor = MIN(ds->front.floor, at);
}

static void written(struct deliveries *ds, struct writing *w)
{
    flights_over(ds, w->n);
    for (struct outlet *l = ds->outlets; l; l = l->next)
        l->dirty = false;
    if (w->claim.want) {
        ds->front = w->claim.front;
        ds->next = w->claim.next;
        ds->held_back = w->claim.held_back;
    }
    for (size_t i = 0; i < w->n_ends; i++) {
        if (w->more[i])
            continue;
        due_at(ds, w->ends[i].due);
        outlet_drop(ds, w->ended[i]);
        if (ds->held_back)
            ds->next = 0;
    }
    for (size_t i = 0; w->claim.want && i < w->claim.n; i++)
        outlet_add(ds, w, &w->claim.got[i]);
    ds->batch = BATCH;
}

/* What cannot be written down is found by itself; it is sent once more, later. */
static void not_written(struct deliveries *ds, struct writing *w, const struct err *e)
{
    bool found = w->n == 1 && !err_retry(e->code);

    log_err(LOG_WARN, "deliveries_not_written", e);
    if (found) {
        w->flights[0]->outlet->hold = clock_wall(ds->app->clock) + MINUTES(1);
        flights_over(ds, 1);
    }
    ds->batch = err_retry(e->code) ? ds->batch : 1;
    if (!found)
        usleep(100000);
}

/* ---- a round */

static void absorb(struct deliveries *ds)
{
    int64_t now = clock_wall(ds->app->clock);

    pthread_mutex_lock(&ds->lock);
    struct flight *landed = TAKE(ds->landed);
    ds->landed_end = &ds->landed;
    for (struct outlet *l = ds->outlets; l; l = l->next) {
        l->look = l->look || ds->all_woken;
        for (size_t i = 0; i < ds->n_woken && !l->look; i++)
            l->look = uuid_eq(&ds->woken[i], &l->owner);
    }
    int64_t at = ds->woken_at;
    ds->n_woken = 0;
    ds->all_woken = false;
    ds->woken_at = DUE_NEVER;
    pthread_mutex_unlock(&ds->lock);
    due_at(ds, at);
    for (struct flight *f = landed; f;) {
        struct flight *next = f->behind;

        flight_judge(f, now);
        f->behind = NULL;
        *ds->unwritten_end = f;
        ds->unwritten_end = &f->behind;
        f = next;
    }
}

static int renew_run(struct db *db, void *ctx, struct err *e)
{
    struct deliveries *ds = ctx;
    int64_t until = clock_wall(ds->app->clock) + LEASE;

    for (const struct outlet *l = ds->outlets; l; l = l->next)
        TRY(due_renew(db, deliver_loop.name, &l->owner, l->by, until, e));
    return 0;
}

static void chores(struct deliveries *ds, struct db *db)
{
    int64_t now = clock_mono(clock_system()), next;
    struct err e;

    if (ds->outlets && now - ds->looked >= LOOK_EVERY) {
        ds->looked = now;
        for (struct outlet *l = ds->outlets; l; l = l->next)
            l->look = true;
    }
    if (ds->outlets && now - ds->renewed >= RENEW_EVERY) {
        ds->renewed = now;
        if (store_write(ds->app->store, renew_run, ds, &e) < 0)
            log_err(LOG_WARN, "deliveries_not_renewed", &e);
    }
    if (now - ds->refreshed < (ds->app->postgres ? SECONDS(1) : SECONDS(30)))
        return;
    ds->refreshed = now;
    if (due_earliest(db, deliver_loop.name, clock_wall(ds->app->clock), &next, &e) < 0)
        log_err(LOG_WARN, "deliveries_not_read", &e);
    else
        due_at(ds, next);
}

/* One round; true: the next one has something to do at once. */
static bool take_round(struct deliveries *ds, struct db *db)
{
    struct writing w = { 0 };
    struct err e = { 0 };
    int rc = db_read_round(db, &e);

    absorb(ds);
    for (struct outlet *l = ds->outlets; l && rc == 0; l = l->next)
        rc = outlet_work(ds, l, db, &e);
    db_read_done(db);
    if (rc < 0) {
        log_err(LOG_WARN, "deliveries_not_read", &e);
        usleep(100000);
        return true;
    }
    if (!gather(ds, &w))
        return false;
    if (app_write(ds->app, write_run, &w, &e) < 0)
        not_written(ds, &w, &e);
    else
        written(ds, &w);
    return true;
}

/* Until something lands or is told, or the time comes to look. */
static bool rest(struct deliveries *ds)
{
    int64_t now = clock_wall(ds->app->clock), wait = ds->outlets ? LOOK_EVERY : SECONDS(30);
    struct timespec ts;

    if (ds->app->postgres)
        wait = MIN(wait, SECONDS(1));
    if (ds->n_outlets < OUTLETS)
        wait = ds->next <= now ? 0 : MIN(wait, ds->next - now);
    for (const struct outlet *l = ds->outlets; l; l = l->next)
        if (l->left && outlet_wakes(l) > now)
            wait = MIN(wait, outlet_wakes(l) - now);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t ns = ts.tv_nsec + wait * 1000;
    ts.tv_sec += ns / 1000000000;
    ts.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&ds->lock);
    while (!ds->stopping && !ds->landed && ds->woken_at == DUE_NEVER &&
           pthread_cond_timedwait(&ds->cond, &ds->lock, &ts) == 0)
        ;
    bool stop = ds->stopping;
    pthread_mutex_unlock(&ds->lock);
    return !stop;
}

static void *deliver_main(void *arg)
{
    struct deliveries *ds = arg;
    struct db *db = NULL;
    bool more = true;
    struct err e;

    while (more || rest(ds)) {
        if (!db && !(db = store_reader(ds->app->store, &e))) {
            log_err(LOG_WARN, "deliveries_not_read", &e);
            usleep(100000);
        }
        if (db) {
            chores(ds, db);
            more = take_round(ds, db);
        }
        pthread_mutex_lock(&ds->lock);
        more = more && !ds->stopping;
        pthread_mutex_unlock(&ds->lock);
    }
    store_reader_back(ds->app->store, db);
    return NULL;
}

/* ---- life */

static void list_kinds(struct deliveries *ds)
{
    const struct service *const *s = ds->app->services;
    size_t n = 0;

    for (size_t i = 0; s[i]; i++)
        for (size_t k = 0; s[i]->deliveries && s[i]->deliveries[k]; k++)
            n++;
    ds->kinds = arena_new_n(&ds->app->arena, const struct delivery_kind *, n + 1);
    n = 0;
    for (size_t i = 0; s[i]; i++)
        for (size_t k = 0; s[i]->deliveries && s[i]->deliveries[k]; k++)
            ds->kinds[n++] = s[i]->deliveries[k];
}

int deliveries_open(struct app *app, struct err *e)
{
    struct deliveries *ds = calloc(1, sizeof(*ds));
    pthread_condattr_t attr;
    uint8_t random[8];

    if (!ds)
        abort();
    ds->app = app;
    ds->batch = BATCH;
    ds->woken_at = DUE_NEVER;
    ds->unwritten_end = &ds->unwritten;
    ds->landed_end = &ds->landed;
    randombytes_buf(random, sizeof(random));
    hex_encode(random, sizeof(random), ds->process);
    pthread_mutex_init(&ds->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ds->cond, &attr);
    pthread_condattr_destroy(&attr);
    list_kinds(ds);
    app->deliveries = ds;
    app->told.due = due_told;
    app->deleted = deleted;
    for (size_t i = 0; ds->kinds[i]; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(ds->kinds[i]->name, ds->kinds[k]->name) == 0)
                return err_set(e, ERR_INTERNAL, "two kinds of deliveries have the name '%s'",
                               ds->kinds[i]->name);
    return 0;
}

int deliveries_start(struct app *app, struct err *e _unused_)
{
    struct deliveries *ds = app->deliveries;

    if (app->o.manual_loops || !ds->kinds[0])
        return 0;
    ds->running = true;
    ds->thread = thread_start("deliver", deliver_main, ds);
    return 0;
}

static int give_back(struct call *c, void *arg, struct err *e)
{
    struct deliveries *ds = arg;

    for (const struct outlet *l = ds->outlets; l; l = l->next) {
        struct due_finish f = { .loop = deliver_loop.name, .by = l->by, .id = l->owner };

        f.at = c->now;
        TRY(due_finish(c->db, &f, e));
    }
    return 0;
}

/* What has come of requests is written down, the rest cancelled. */
static void wind_down(struct deliveries *ds)
{
    struct writing w = { .ds = ds };
    bool flying = true;
    struct err e;

    for (struct outlet *l = ds->outlets; l; l = l->next)
        outlet_cancel(l);
    while (flying) {
        pthread_mutex_lock(&ds->lock);
        while (ds->in_hand)
            pthread_cond_wait(&ds->cond, &ds->lock);
        flying = ds->in_hand;
        pthread_mutex_unlock(&ds->lock);
    }
    absorb(ds);
    while (ds->unwritten) {
        w.n = 0;
        for (struct flight *f = ds->unwritten; f && w.n < BATCH; f = f->behind)
            w.flights[w.n++] = f;
        if (app_write(ds->app, write_run, &w, &e) < 0)
            log_err(LOG_WARN, "deliveries_not_written", &e);
        flights_over(ds, w.n);
    }
    if (ds->outlets && app_write(ds->app, give_back, ds, &e) < 0)
        log_err(LOG_WARN, "deliveries_not_given_back", &e);
    for (struct outlet *l = ds->outlets, *next; l; l = next) {
        next = l->next;
        outlet_drop(ds, l);
    }
}

void deliveries_stop(struct app *app)
{
    struct deliveries *ds = app->deliveries;

    if (!ds)
        return;
    if (ds->running) {
        pthread_mutex_lock(&ds->lock);
        ds->stopping = true;
        pthread_cond_signal(&ds->cond);
        pthread_mutex_unlock(&ds->lock);
        pthread_join(ds->thread, NULL);
        ds->running = false;
    }
    wind_down(ds);
}

void deliveries_close(struct app *app)
{
    struct deliveries *ds = TAKE(app->deliveries);

    if (!ds)
        return;
    pthread_mutex_destroy(&ds->lock);
    pthread_cond_destroy(&ds->cond);
    free(ds);
}

/* ---- tests: no thread, the caller's clock */

/* False: nothing is under way, or nothing lands. */
static bool await(struct deliveries *ds)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_nsec += 300000000;
    ts.tv_sec += ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    pthread_mutex_lock(&ds->lock);
    while (ds->in_hand && !ds->landed && pthread_cond_timedwait(&ds->cond, &ds->lock, &ts) == 0)
        ;
    bool landed = ds->landed;
    pthread_mutex_unlock(&ds->lock);
    return landed;
}

int deliveries_drain(struct app *app, struct err *e)
{
    struct deliveries *ds = app->deliveries;
    struct db *db = ds->kinds[0] ? store_reader(app->store, e) : NULL;

    if (!db)
        return ds->kinds[0] ? -1 : 0;
    ds->next = 0;
    ds->front = (struct due_front){ 0 };
    for (struct outlet *l = ds->outlets; l; l = l->next)
        l->look = true;
    for (int i = 0; take_round(ds, db) || await(ds); i++)
        if (i == DRAIN_ROUNDS) {
            store_reader_back(app->store, db);
            return err_set(e, ERR_INTERNAL, "deliveries do not come to rest");
        }
    store_reader_back(app->store, db);
    return 0;
}
