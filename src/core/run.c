/* SPDX-License-Identifier: Apache-2.0 */
/* Where a handler runs: inline, on a worker, on the writer, in a transaction of its own.  Hides
 * what is written when it fails, and that a parked call comes back here. */
#include "base/log.h"
#include "core/private.h"

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

/* After app_stop() there are no workers. */
bool pool_take(struct pool *pool, pool_fn *fn, struct call_private *p)
{
    return pool && pool_submit(pool, fn, p);
}

static void finish(struct call_private *p, int rc, struct err *e)
{
    if (rc == 0 && !p->replied)
        rc = err_cause(e, ERR_INTERNAL, "a handler gave no answer", "internal error");
    if (rc == 0 && p->code != ERR_NONE && !p->replay)
        rc = err_set(e, p->code, "The answer is too large: ask for less");
    if (rc < 0)
        reply_error(p, e);
    reply_send(p);
}

/* ---- parking */

static void left(void *ctx, struct http_req *r _unused_, bool draining _unused_)
{
    struct call_private *p = ctx;

    park_leave(p->c.app->park, p);
}

static void park_or_finish(struct call_private *p)
{
    struct park *k = p->c.app->park;
    bool again;
    struct err e;

    if (http_req_gone(p->r)) {
        err_set(&e, ERR_REQUEST_TIMEOUT, "the peer has gone");
        finish(p, -1, &e);
        return;
    }
    if (!p->watched) {
        p->watched = true;
        http_on_gone(p->r, left, p);
    }
    /* Others over this PostgreSQL signal nobody here. */
    if (p->c.app->postgres)
        p->park_again = MIN(p->park_again, p->c.now + SECONDS(1));
    if (park_add(k, p, &again))
        return;
    if (again) {
        dispatch_run(p);
        return;
    }
    err_set(&e, ERR_OVERLOADED, "Too many requests are waiting");
    finish(p, -1, &e);
}

/* ---- QUICK, READ */

static void run_reading(struct call_private *p, struct db *db)
{
    struct err e = { 0 };

    call_reset(p);
    p->c.db = db;
    int rc = db ? db_read_round(db, &e) : -1;
    if (rc == 0)
        rc = p->c.route->handler(&p->c, &e);
    if (p->parked && p->c.route->work == QUICK)
        rc = err_cause(&e, ERR_INTERNAL, "a QUICK handler may not park", "internal error");
    else if (rc < 0 && p->parked) {
        park_or_finish(p);
        return;
    }
    finish(p, rc, &e);
}

static void quick(struct call_private *p)
{
    struct err e;
    struct db *db = io_reader(p->c.app, p->io, &e);

    if (db)
        run_reading(p, db);
    else
        finish(p, -1, &e);
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
        finish(p, -1, &e);
}

/* ---- WRITE */

static int write_run(struct db *db, void *ctx, struct err *e)
{
    struct call_private *p = ctx;
    int rc = 0;

    call_reset(p);
    p->c.db = db;
    if (p->idem_key && p->c.app->postgres) {
        rc = idem_begin_pg(p, db, e);
        if (rc)
            return rc < 0 ? -1 : 0;
    }
    p->writing = true;
    rc = p->c.route->handler(&p->c, e);
    p->writing = false;
    if (p->parked)
        return err_set(e, ERR_INVALID_STATE, "parked");
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

    if (p->parked)
        return 0;
    call_undo(p);
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
    if (rc < 0 && p->parked) {
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
    };
    if (store_submit(p->c.app->store, &p->job))
        return;
    err_set(&e, ERR_OVERLOADED, "Too many writes are waiting");
    finish(p, -1, &e);
}

/* ---- LONG, STREAM */

struct late {
    struct call_private *p;
    enum outcome outcome;
    enum idem_step step;
};

static int late_run(struct db *db, void *ctx, struct err *e)
{
    struct late *l = ctx;

    return journal_write(l->p, db, l->outcome, l->step, e);
}

static void late_committed(void *ctx)
{
    struct late *l = ctx;

    call_publish(l->p);
}

/* The record of a LONG call that no transaction of its own has written. */
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

    if (!p->idem_key || p->recorded || p->streaming)
        return IDEM_NONE;
    if ((!failed || idem_kept(e->code)) && (!raw || body_end(&p->c, &ignored) == 0))
        return IDEM_KEEP;
    /* What an earlier run claimed is given back only by one that took it over. */
    if (p->idem_resumed && !p->claimed)
        return IDEM_NONE;
    /* What cannot be undone stays claimed, unless it was refused before it began. */
    return !failed || (p->idem_spent && err_status(e->code) >= 500) ? IDEM_NONE : IDEM_DROP;
}

static void long_end(struct call_private *p, int rc, struct err *e)
{
    const struct route_info *info = p->mount->info;

    if (rc == 0 && !p->replied && !p->streaming)
        rc = err_cause(e, ERR_INTERNAL, "a handler gave no answer", "internal error");
    if (rc == 0 && p->code != ERR_NONE)
        rc = err_set(e, p->code, "The answer is too large: ask for less");
    if (rc == 0 && info->keyed && p->audited && !p->recorded && !p->idem_spent && !p->streaming)
        rc = err_cause(e, ERR_INTERNAL, "a LONG handler answered after its last transaction",
                       "internal error");
    enum idem_step step = late_step(p, rc, e);
    if (rc < 0 && !p->streaming)
        reply_error(p, e);
    if (rc < 0 && info->writes)
        write_late(p, outcome_of(p, e), step);
    else if (info->writes && (!p->audited || step != IDEM_NONE))
        write_late(p, p->audited ? OUTCOME_NONE : OUTCOME_SUCCESS, step);
    if (p->streaming)
        stream_finish(p, rc == 0);
    else
        reply_send(p);
}

static void run_long(struct call_private *p, struct db *db)
{
    struct err e = { 0 };
    int rc;

    call_reset(p);
    p->c.db = db;
    p->reader = db;
    rc = idem_begin_long(p, db, &e);
    if (rc) {
        /* Another run of this key has its record, or makes it. */
        db_read_done(db);
        if (rc < 0)
            reply_error(p, &e);
        reply_send(p);
        return;
    }
    rc = db_read_round(db, &e);
    if (rc == 0)
        rc = p->c.route->handler(&p->c, &e);
    db_read_done(db);
    long_end(p, rc, &e);
}

static void long_on_worker(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    struct app *app = p->c.app;
    bool stream = p->c.route->work == STREAM;
    struct err e;
    struct db *db = worker_db(worker, &e);

    http_release();
    if (db)
        run_long(p, db);
    else
        finish(p, -1, &e);
    if (!stream)
        return;
    /* A thread that waits for the next stream keeps no connection. */
    struct worker *w = worker;
    store_reader_back(app->store, TAKE(w->db));
    atomic_fetch_sub(&app->streams_open, 1);
}

static bool submit_stream(struct call_private *p)
{
    struct app *app = p->c.app;

    if (atomic_fetch_add(&app->streams_open, 1) < STREAMS_MAX &&
        pool_take(app->streams, long_on_worker, p))
        return true;
    atomic_fetch_sub(&app->streams_open, 1);
    return false;
}

void dispatch_run(struct call_private *p)
{
    struct app *app = p->c.app;
    bool taken = true;
    struct err e;

    switch (p->c.route->work) {
    case QUICK:
        /* A classic list may be of a thousand rows: not on a thread that others wait for.  And a
         * worker has no part in the I/O thread's connection. */
        if (!app->postgres && !p->on_worker && !(p->c.route->list && p->c.surface == CLASSIC)) {
            quick(p);
            return;
        }
        taken = pool_take(app->pool, read_on_worker, p);
        break;
    case READ:
        taken = pool_take(app->pool, read_on_worker, p);
        break;
    case WRITE:
        submit_write(p);
        return;
    case LONG:
        taken = pool_take(app->pool, long_on_worker, p);
        break;
    case STREAM:
        taken = submit_stream(p);
        break;
    }
    if (taken)
        return;
    err_set(&e, ERR_OVERLOADED, "Too many requests are waiting");
    finish(p, -1, &e);
}
