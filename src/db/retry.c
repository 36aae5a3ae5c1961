/* SPDX-License-Identifier: Apache-2.0 */
/* Write jobs on PostgreSQL: each in a transaction of its own on one of a pool's connections, run
 * again when it lost a race or its connection.  Hides when running again is safe: until COMMIT was
 * sent. */
#include <time.h>

#include "base/log.h"
#include "db/postgres.h"

enum { RETRIES = 5, JITTER_MICROS = 2000 };

enum verdict { WROTE, LEFT_NOTHING, AGAIN };

static int control(struct db *db, enum db_control what, struct err *e)
{
    return db->class->control(db, what, e);
}

static void rollback(struct db *db)
{
    struct err ignored;

    if (!pg_lost(db) && db->class->in_transaction(db))
        control(db, DB_ROLLBACK, &ignored);
}

static int begin(struct db *db, struct err *e)
{
    if (pg_lost(db))
        TRY(pg_connect(db, e));
    return db->class->script(db, "BEGIN; SAVEPOINT j", e);
}

static int commit(struct db *db, struct err *e)
{
    int64_t from = store_mono();

    if (control(db, DB_COMMIT, e) == 0) {
        store_committed(db->store, store_mono() - from, 1);
        return 0;
    }
    if (pg_lost(db)) {
        char cause[sizeof(e->cause)];

        memcpy(cause, e->cause, sizeof(cause));
        return err_cause(e, ERR_INTERNAL, cause,
                         "the database was lost during the commit: whether it holds is unknown");
    }
    rollback(db);
    return -1;
}

/* Lets the failed job leave what must remain; its savepoint is undone, the transaction open. */
static enum verdict leave(struct db *db, struct db_job *job, const struct err *why)
{
    struct err e = { 0 };

    db->in_job = true;
    int rc = job->failed(db, job->ctx, why, &e);
    if (rc == 0 && db->spoiled)
        rc = err_set(&e, ERR_INTERNAL, "a statement that failed was passed over");
    db->in_job = db->spoiled = false;
    if (rc == 0)
        rc = commit(db, &e);
    if (rc == 0)
        return WROTE;
    log_err(LOG_ERROR, "db_failed_job_left_nothing", &e);
    rollback(db);
    return LEFT_NOTHING;
}

/* One attempt.  '*rc' and '*e' are the job's when it is not to run again, and the reason when it
 * is. */
static enum verdict attempt(struct db *db, struct db_job *job, int *rc, struct err *e)
{
    memset(e, 0, sizeof(*e));
    if ((*rc = begin(db, e)) < 0)
        return AGAIN;
    *rc = job_run(db, job, e);
    if (*rc == 0) {
        if ((*rc = commit(db, e)) == 0)
            return WROTE;
        return e->code == ERR_BUSY ? AGAIN : LEFT_NOTHING;
    }
    if (pg_lost(db))
        return AGAIN;
    if (e->code == ERR_BUSY) {
        rollback(db);
        return AGAIN;
    }
    struct err undo;
    if (!job->failed || control(db, DB_UNDO, &undo) < 0) {
        rollback(db);
        return LEFT_NOTHING;
    }
    return leave(db, job, e);
}

static void pause_before(int again)
{
    long most = (long)JITTER_MICROS << again;

    nanosleep(&(struct timespec){ .tv_nsec = (long)arc4random_uniform((uint32_t)most) * 1000 },
              NULL);
}

static void run_job(struct db *db, struct db_job *job)
{
    struct err e = { 0 };
    int rc = -1;
    enum verdict v = AGAIN;

    for (int i = 0; i <= RETRIES && v == AGAIN; i++) {
        if (i)
            pause_before(i);
        v = attempt(db, job, &rc, &e);
    }
    if (v == AGAIN && job->failed) {
        struct err ignored;

        if (begin(db, &ignored) == 0)
            v = leave(db, job, &e);
    }
    if (v == WROTE && job->committed)
        job->committed(job->ctx);
    job->done(job->ctx, rc, &e);
}

void retry_loop(struct store *s, struct db *db)
{
    struct db_job *job;

    while ((job = store_take(s, true)))
        run_job(db, job);
}
