/* SPDX-License-Identifier: Apache-2.0 */
/* Where a handler runs: inline, on a worker, on the writer, in a transaction of its own.  Hides
 * what is written when it fails, and that a parked call comes back here. */
#include "base/log.h"
#include "core/request/request.h"

enum { HOLD_MICROS = 200 }; /* an answer may wait for its neighbours before they leave together */

struct db *worker_db(struct worker *w, struct err *e)
{
    if (!w->db)
        w->db = store_reader(w->app->store, e);
    return w->db;
}

struct db *io_reader(struct app *app, int io, struct err *e)
{
    if (!app->io_db[io])
        app->io_db[io] = store_reader(app->store, e);
    return app->io_db[io];
}

/* ---- turns and shares */

uint64_t flow_of(const struct uuid *id)
{
    return flow_key(id->s, sizeof(id->s));
}

uint64_t flow_of_tenant(const struct uuid *account, const struct uuid *tenant)
{
    return flow_of(uuid_is_nil(account) ? tenant : account);
}

static struct flow client_flow(const struct call_private *p)
{
    struct cidr c = cidr_of_client(&p->client);

    return (struct flow){ .key = flow_key(c.ip.b, (size_t)c.bits / 8) };
}

const struct flow *call_flow(struct call_private *p)
{
    const struct principal *who = &p->who;

    if (p->flow.key != FLOW_SYSTEM)
        return &p->flow;
    if (!p->auth.authenticated) {
        p->flow = client_flow(p);
        return &p->flow;
    }
    p->flow.key = flow_of_tenant(&who->account,
                                 uuid_is_nil(&who->tenant_id) ? &who->user_id : &who->tenant_id);
    p->flow.weight = config_plan_or_free(who->plan)->weight;
    return &p->flow;
}

static int64_t bound_of(const struct call_private *p, enum share_kind kind)
{
    return config_share(p->c.app->config, p->who.plan, kind);
}

static int refuse_share(struct call_private *p, enum share_kind kind, enum fair_result why,
                        struct err *e)
{
    return shares_refuse(kind, why, bound_of(p, kind), &p->limit.answer.retry_after, e);
}

int call_take(struct call_private *p, enum share_kind kind, int64_t n, struct err *e)
{
    struct flow f = *call_flow(p);

    f.seats = bound_of(p, kind);
    enum fair_result got = shares_take(p->c.app->shares, kind, &f, n);
    if (got != FAIR_OK)
        return refuse_share(p, kind, got, e);
    p->held[kind] += n;
    return 0;
}

void call_give(struct call_private *p, enum share_kind kind)
{
    if (p->held[kind])
        shares_give(p->c.app->shares, kind, call_flow(p)->key, p->held[kind]);
    p->held[kind] = 0;
}

/* After app_stop() there are no lanes. */
int lane_take(struct call_private *p, enum lane lane, pool_fn *fn, struct err *e)
{
    static const enum share_kind kinds[LANES] = {
        [LANE_READ] = SHARE_READS, [LANE_CALL] = SHARE_CALLS, [LANE_HOST] = SHARE_READS
    };
    struct pool *pool = p->c.app->lanes[lane];
    bool by_tenant = lane >= LANE_BODY;
    struct flow f = by_tenant ? *call_flow(p) : client_flow(p);
    enum fair_result got = FAIR_FULL;

    if (lane >= LANE_READ)
        f.seats = bound_of(p, kinds[lane]);
    if (lane == LANE_CALL)
        f.places = 2 * f.seats;
    if (pool)
        got = pool_submit_for(pool, &f, fn, p);
    if (got == FAIR_OWN)
        return refuse_share(p, kinds[lane], got, e);
    return got == FAIR_OK ? 0 : err_set(e, ERR_OVERLOADED, "Too many requests are waiting");
}

void call_finish(struct call_private *p, int rc, struct err *e)
{
    if (rc == 0 && !p->replied)
        rc = err_cause(e, ERR_INTERNAL, "a handler gave no answer", "internal error");
    if (rc == 0 && p->code != ERR_NONE && !p->replay)
        rc = err_set(e, p->code, "The answer is too large: ask for less");
    if (rc < 0)
        reply_error(p, e);
    reply_send(p);
}

/* As it, of a handler that may have begun a stream. */
static void run_over(struct call_private *p, int rc, struct err *e)
{
    if (p->streaming)
        stream_finish(p, rc == 0);
    else
        call_finish(p, rc, e);
}

/* ---- parking */

static void left(void *ctx, struct http_req *r _unused_, bool draining _unused_)
{
    struct call_private *p = ctx;

    park_leave(p->c.app->park, p);
}

static void park_or_finish(struct call_private *p)
{
    struct err e;

    if (http_req_gone(p->r)) {
        err_set(&e, ERR_REQUEST_TIMEOUT, "the peer has gone");
        run_over(p, -1, &e);
        return;
    }
    if (!p->park.watched) {
        p->park.watched = true;
        http_on_gone(p->r, left, p);
    }
    /* Others over this PostgreSQL signal nobody here. */
    if (p->c.app->postgres)
        p->park.again = MIN(p->park.again, p->c.now + SECONDS(1));
    if (p->who.expires_at)
        p->park.again = MIN(p->park.again, p->who.expires_at);
    live_add(p);
    if (p->streaming)
        stream_rest(p);
    else if (!p->held[SHARE_PARKED] && call_take(p, SHARE_PARKED, 1, &e) < 0) {
        call_finish(p, -1, &e);
        return;
    }
    if (!park_add(p->c.app->park, p))
        dispatch_run(p);
}

/* ---- QUICK, READ, STREAM */

static int run_handler(struct call_private *p, struct err *e)
{
    int rc = p->mount->info->resolve ? p->mount->info->resolve(&p->c, e) : 0;

    if (rc == 0)
        rc = p->c.route->handler(&p->c, e);
    if (rc < 0 && !p->park.parked && e->code == ERR_NONE)
        return err_cause(e, ERR_INTERNAL, "a handler failed and did not say why", "internal error");
    return rc;
}

/* A store that does not answer says nothing of a credential: a stream asks again later. */
static void rest_instead(struct call_private *p, const struct err *e)
{
    if (!p->streaming || !p->park.topic || p->park.until <= p->c.now || err_status(e->code) < 500)
        return;
    atomic_store(&p->live.look_again, false);
    p->live.owed = p->park.parked = true;
    p->park.again = p->c.now + MILLIS(200);
}

static void run_reading(struct call_private *p, struct db *db)
{
    struct err e = { 0 };

    call_reset(p);
    p->c.db = db;
    int rc = db ? db_read_round(db, &e) : -1;
    if (rc == 0)
        rc = live_check(p, db, &e);
    if (rc == 0)
        rc = run_handler(p, &e);
    else
        rest_instead(p, &e);
    if (p->park.parked && p->c.route->work == QUICK)
        rc = err_cause(&e, ERR_INTERNAL, "a QUICK handler may not park", "internal error");
    else if (rc < 0 && p->park.parked) {
        park_or_finish(p);
        return;
    }
    run_over(p, rc, &e);
}

static void quick(struct call_private *p)
{
    struct err e;
    struct db *db = io_reader(p->c.app, p->io, &e);

    if (db)
        run_reading(p, db);
    else
        call_finish(p, -1, &e);
}

static void hold_answers(struct worker *w)
{
    int64_t now = clock_mono(clock_system());

    if (now - w->held_since > HOLD_MICROS) {
        http_release();
        w->held_since = now;
    }
    /* Over PostgreSQL a read may wait, and those before it would wait with it. */
    if (w->app->postgres)
        http_release();
    else
        http_hold();
}

static void read_on_worker(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    struct err e;
    struct db *db = worker_db(worker, &e);

    /* The answers of short reads in a row leave together; worker_rest() lets them go at last. */
    hold_answers(worker);
    if (db)
        run_reading(p, db);
    else
        call_finish(p, -1, &e);
}

void run_stream(struct call_private *p, struct worker *w)
{
    park_begin(p->c.app->park, p);
    if (!p->c.route->asks_host) {
        read_on_worker(p, w);
        return;
    }
    http_release();
    run_reading(p, store_any_reader(p->c.app->store)); /* a host may let it wait */
}

static void stream_on_worker(void *ctx, void *worker)
{
    run_stream(ctx, worker);
}

/* ---- WRITE */

static int write_run(struct db *db, void *ctx, struct err *e)
{
    struct call_private *p = ctx;
    int rc = 0;

    call_reset(p);
    p->c.db = db;
    if (p->idem.key && p->c.app->postgres) {
        rc = idem_begin_pg(p, db, e);
        if (rc)
            return rc < 0 ? -1 : 0;
    }
    TRY(live_check(p, db, e));
    p->writing = true;
    rc = run_handler(p, e);
    p->writing = false;
    if (p->park.parked && !p->park.kept)
        return err_set(e, ERR_INVALID_STATE, "parked");
    if (p->park.parked)
        return journal_write(p, db, OUTCOME_NONE, IDEM_NONE, e);
    TRY(rc);
    if (!p->replied)
        return err_cause(e, ERR_INTERNAL, "a handler gave no answer", "internal error");
    if (p->code != ERR_NONE)
        return err_set(e, p->code, "The answer is too large: ask for less");
    return journal_write(p, db, p->mount->info->writes ? OUTCOME_SUCCESS : OUTCOME_NONE, IDEM_KEEP,
                         e);
}

static enum outcome outcome_of(const struct call_private *p, const struct err *e)
{
    if (!p->mount->info->writes)
        return OUTCOME_NONE;
    return err_status(e->code) == 403 ? OUTCOME_DENIED : OUTCOME_FAILURE;
}

/* What remains of a handler that failed: its audit record, and its answer where that is kept. */
static int write_failed(struct db *db, void *ctx, const struct err *why, struct err *e)
{
    struct call_private *p = ctx;

    call_undo(p);
    if (p->park.parked && !p->park.kept)
        return 0;
    p->park.parked = false;
    reply_error(p, why);
    return journal_write(p, db, outcome_of(p, why), idem_kept(why->code) ? IDEM_KEEP : IDEM_NONE,
                         e);
}

static void write_committed(void *ctx)
{
    call_publish(ctx);
}

static void write_done(void *ctx, int rc, struct err *e)
{
    struct call_private *p = ctx;

    p->writer_thread = true;
    if (p->park.parked && (rc == 0 || !p->park.kept)) {
        park_or_finish(p);
        return;
    }
    if (rc < 0)
        reply_error(p, e);
    reply_send(p);
}

static void submit_write(struct call_private *p)
{
    struct err e;

    p->job = (struct db_job){
        .run = write_run,
        .failed = write_failed,
        .committed = write_committed,
        .done = write_done,
        .ctx = p,
        .turn = { .flow = *call_flow(p) },
    };
    if (store_submit(p->c.app->store, &p->job))
        return;
    err_set(&e, ERR_OVERLOADED, "Too many writes are waiting");
    call_finish(p, -1, &e);
}

/* ---- LONG */

struct late {
    struct call_private *p;
    enum outcome outcome;
    enum idem_step step;
};

static int late_run(struct db *db, void *ctx, struct err *e)
{
    struct late *l = ctx;
    bool others = l->step != IDEM_NONE && idem_lost(l->p, db);

    return journal_write(l->p, db, l->outcome, others ? IDEM_NONE : l->step, e);
}

static void late_committed(void *ctx)
{
    struct late *l = ctx;

    call_publish(l->p);
}

/* The record of a LONG call that no transaction of its own has written.  What was done must be on
 * record, however many writes of its tenant wait: it takes the system's turn.  They are no more
 * than LONG calls at once. */
static void write_late(struct call_private *p, enum outcome outcome, enum idem_step step)
{
    struct late l = { p, outcome, step };
    struct db_job job = { .run = late_run, .committed = late_committed, .ctx = &l };
    struct err e;

    call_undo(p);
    if (store_write_job(p->c.app->store, &job, &e) < 0)
        log_err(LOG_ERROR, "journal_not_written", &e);
}

/* What becomes of the key where no transaction of the handler's own has kept its answer. */
static enum idem_step late_step(struct call_private *p, int rc, const struct err *e)
{
    bool failed = rc < 0, raw = p->c.route->body == BODY_RAW;
    struct err ignored;

    if (!p->idem.key || p->commit.recorded)
        return IDEM_NONE;
    if ((!failed || idem_kept(e->code)) && (!raw || body_end(&p->c, &ignored) == 0))
        return failed || idem_fits(p) ? IDEM_KEEP : IDEM_NONE;
    /* What an earlier run claimed is given back only by one that took it over. */
    if (p->idem.resumed && !p->commit.claimed)
        return IDEM_NONE;
    /* What cannot be undone stays claimed, unless it was refused before it began. */
    return !failed || (p->idem.spent && err_status(e->code) >= 500) ? IDEM_NONE : IDEM_DROP;
}

static void long_end(struct call_private *p, int rc, struct err *e)
{
    const struct route_info *info = p->mount->info;

    if (rc == 0 && !p->replied)
        rc = err_cause(e, ERR_INTERNAL, "a handler gave no answer", "internal error");
    if (rc == 0 && p->code != ERR_NONE)
        rc = err_set(e, p->code, "The answer is too large: ask for less");
    if (rc == 0 && info->keyed && p->commit.audited && !p->commit.recorded && !p->idem.spent)
        rc = err_cause(e, ERR_INTERNAL, "a LONG handler answered after its last transaction",
                       "internal error");
    enum idem_step step = late_step(p, rc, e);
    if (rc < 0)
        reply_error(p, e);
    if (rc < 0 && info->writes)
        write_late(p, outcome_of(p, e), step);
    else if (info->writes && (!p->commit.audited || step != IDEM_NONE))
        write_late(p, p->commit.audited ? OUTCOME_NONE : OUTCOME_SUCCESS, step);
    reply_send(p);
}

/* The handler may wait long, so it holds neither a connection nor a round: each of its statements
 * sees what is there when it runs. */
static void run_long(struct call_private *p)
{
    struct db *db = store_any_reader(p->c.app->store);
    struct err e = { 0 };
    int rc;

    call_reset(p);
    p->c.db = db;
    p->reader = db;
    rc = idem_begin_long(p, db, &e);
    if (rc) {
        /* Another run of this key has its record, or makes it. */
        if (rc < 0)
            reply_error(p, &e);
        reply_send(p);
        return;
    }
    rc = run_handler(p, &e);
    long_end(p, rc, &e);
}

static void long_on_worker(void *ctx, void *worker _unused_)
{
    http_release();
    run_long(ctx);
}

/* Public ones: who signs in waits for no tenant, and health for nobody. */
enum lane lane_of(const struct route *route)
{
    if (route->work == STREAM && route->asks_host)
        return LANE_HOST;
    if (route->work != LONG)
        return LANE_READ;
    if (!route->public)
        return LANE_CALL;
    return route->limit == LIMIT_AUTH ? LANE_SIGN : LANE_FRONT;
}

/* It will be here for long: what it keeps of its head is what it needs. */
static void settle(struct call_private *p)
{
    struct arena *a = http_req_arena(p->r);

    for (size_t i = 0; i < p->match.n_params; i++) {
        struct str *v = &p->match.params[i].value;
        v->p = arena_dup(a, v->p, v->n);
    }
    if (p->auth.secret.p)
        p->auth.secret.p = arena_dup(a, p->auth.secret.p, p->auth.secret.n);
    http_req_settle(p->r);
}

static int first_of_stream(struct call_private *p, struct err *e)
{
    if (!p->held[SHARE_STREAMS]) {
        TRY(call_take(p, SHARE_STREAMS, 1, e));
        settle(p);
    }
    return lane_take(p, lane_of(p->c.route), stream_on_worker, e);
}

void dispatch_run(struct call_private *p)
{
    struct app *app = p->c.app;
    const struct route *route = p->c.route;
    bool reads = route->work == QUICK || route->work == READ;
    struct err e;
    int rc;

    if (p->streaming) {
        stream_wake(p);
        return;
    }
    /* A classic list may be of a thousand rows: not on a thread that others wait for.  And a worker
     * has no part in the I/O thread's connection. */
    if (route->work == QUICK && !app->postgres && !p->on_worker &&
        !(route->list && p->c.surface == CLASSIC)) {
        quick(p);
        return;
    }
    if (route->work == WRITE) {
        submit_write(p);
        return;
    }
    if (route->work == STREAM)
        rc = first_of_stream(p, &e);
    else
        rc = lane_take(p, lane_of(route), reads ? read_on_worker : long_on_worker, &e);
    if (rc < 0)
        call_finish(p, -1, &e);
}
