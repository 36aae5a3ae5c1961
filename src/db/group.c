/* SPDX-License-Identifier: Apache-2.0 */
/* Group commit on SQLite: jobs that wait share one transaction, each under its savepoint, and one
 * fsync. Hides what becomes of neighbours when one fails, and when the database drops the whole
 * batch. */
#include "base/log.h"
#include "db/driver.h"

enum { BATCH_MICROS = 5000 }; /* of work, after which a batch is committed */

struct outcome {
    struct db_job *job;
    int rc;
    bool wrote; /* something of it is in the transaction */
    struct err err;
};

struct batch {
    struct store *store;
    struct db *db;
    size_t n;
    struct outcome all[STORE_BATCH];
};

static int control(struct batch *b, enum db_control what, struct err *e)
{
    return b->db->class->control(b->db, what, e);
}

static bool alive(struct batch *b)
{
    return b->db->class->in_transaction(b->db);
}

static void rollback(struct batch *b)
{
    struct err ignored;

    if (alive(b))
        control(b, DB_ROLLBACK, &ignored);
}

int job_run(struct db *db, struct db_job *job, struct err *e)
{
    db->in_job = true;
    db->spoiled = false;
    int rc = job->run(db, job->ctx, e);
    if (rc == 0 && db->spoiled)
        rc = err_set(e, ERR_INTERNAL, "a statement that failed was passed over");
    db->in_job = db->spoiled = false;
    return rc < 0 ? -1 : 0;
}

/* Lets the failed job leave what must remain.  -1 when the whole transaction is gone. */
static int run_failed(struct batch *b, struct outcome *o)
{
    struct err e = { 0 };

    if (!o->job->failed)
        return 0;
    if (control(b, DB_SAVEPOINT, &e) < 0)
        return -1;
    b->db->in_job = true;
    int rc = o->job->failed(b->db, o->job->ctx, &o->err, &e);
    if (b->db->spoiled && rc == 0)
        rc = err_set(&e, ERR_INTERNAL, "a statement that failed was passed over");
    b->db->in_job = b->db->spoiled = false;
    if (rc < 0)
        log_err(LOG_ERROR, "db_failed_job_left_nothing", &e);
    if (!alive(b) || control(b, rc < 0 ? DB_UNDO : DB_RELEASE, &e) < 0)
        return -1;
    o->wrote = rc == 0;
    return 0;
}

/* One job under its savepoint.  -1 when the whole transaction is gone. */
static int run_one(struct batch *b, struct outcome *o)
{
    o->wrote = false;
    memset(&o->err, 0, sizeof(o->err));
    if ((o->rc = control(b, DB_SAVEPOINT, &o->err)) < 0)
        return -1;
    o->rc = job_run(b->db, o->job, &o->err);
    if (!alive(b)) {
        if (o->rc == 0)
            o->rc = err_set(&o->err, ERR_INTERNAL, "the transaction ended before its time");
        return -1;
    }
    if (o->rc == 0)
        o->rc = control(b, DB_RELEASE, &o->err);
    if (o->rc == 0) {
        o->wrote = true;
        return 0;
    }
    struct err e;
    if (!alive(b) || control(b, DB_UNDO, &e) < 0)
        return -1;
    return run_failed(b, o);
}

static int commit(struct batch *b, size_t handlers, struct err *e)
{
    int64_t from = store_mono();

    if (control(b, DB_COMMIT, e) < 0) {
        rollback(b);
        return -1;
    }
    store_committed(b->store, store_mono() - from, handlers);
    return 0;
}

/* A job whose transaction is gone may still leave something, in one of its own. */
static void leave_alone(struct batch *b, struct outcome *o)
{
    struct err e;

    if (!o->job->failed || control(b, DB_BEGIN_WRITE, &e) < 0)
        return;
    if (run_failed(b, o) < 0 || commit(b, 1, &e) < 0) {
        rollback(b);
        o->wrote = false;
    }
}

static void run_alone(struct batch *b, struct outcome *o)
{
    o->wrote = false;
    if ((o->rc = control(b, DB_BEGIN_WRITE, &o->err)) < 0)
        return;
    if (run_one(b, o) < 0) {
        rollback(b);
        if (o->rc == 0)
            o->rc = err_set(&o->err, ERR_INTERNAL, "the transaction is gone");
        leave_alone(b, o);
        return;
    }
    struct err e;
    if (commit(b, 1, &e) == 0)
        return;
    o->wrote = false;
    o->rc = -1;
    o->err = e;
}

static void answer(struct batch *b)
{
    void (*around)(bool begin) = atomic_load(&b->store->answers);

    for (size_t i = 0; i < b->n; i++)
        if (b->all[i].wrote && b->all[i].job->committed)
            b->all[i].job->committed(b->all[i].job->ctx);
    if (around)
        around(true);
    for (size_t i = 0; i < b->n; i++)
        b->all[i].job->done(b->all[i].job->ctx, b->all[i].rc, &b->all[i].err);
    if (around)
        around(false);
}

/* Runs what is queued into one transaction, beginning with 'first'.  False when it is gone. */
static bool gather(struct batch *b, struct db_job *first)
{
    int64_t until = store_mono() + BATCH_MICROS;
    bool whole = true;

    b->n = 0;
    for (struct db_job *job = first; job; job = store_take(b->store, false)) {
        struct outcome *o = &b->all[b->n++];

        o->job = job;
        whole = run_one(b, o) == 0;
        if (!whole || b->n == STORE_BATCH || store_mono() >= until)
            break;
    }
    return whole;
}

static void run_batch(struct batch *b, struct db_job *first)
{
    struct err e;

    if (control(b, DB_BEGIN_WRITE, &e) < 0) {
        b->n = 1;
        b->all[0] = (struct outcome){ .job = first, .rc = -1, .err = e };
    } else if (!gather(b, first) || commit(b, b->n, &e) < 0) {
        rollback(b);
        for (size_t i = 0; i < b->n; i++)
            run_alone(b, &b->all[i]);
    }
    answer(b);
}

void group_loop(struct store *s, struct db *db)
{
    struct batch *b = calloc(1, sizeof(*b));
    struct db_job *job;

    if (!b)
        abort();
    b->store = s;
    b->db = db;
    while ((job = store_take(s, true))) {
        run_batch(b, job);
        checkpointer_turn(s->checkpointer, db);
    }
    free(b);
}
