/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* For the tests of writing: a table of notes, and jobs that each put one into it and remember what
 * became of them. */

#include <semaphore.h>
#include <stdatomic.h>

#include "db/fixture.h"

static inline void with_table(struct fixture *f)
{
    fixture_open(f);
    ok(f, fixture_write(f, "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body TEXT)"));
}

/* ---- jobs that are submitted together */

struct note {
    struct db_job job;
    char id[24];
    int fails; /* runs that fail after their statement, before one passes */
    enum err_code with;
    _Atomic int runs, faileds, committeds;
    int rc;
    struct err err;
    uint64_t commits; /* store_commits() as 'committed' saw it */
    struct store *s;
    sem_t *done;
};

static inline int put(struct db *db, const char *id, struct err *e)
{
    return db_exec(db, "INSERT INTO notes (id, body) VALUES ($1, $2)", ARGS(A(id), A("text")), e);
}

static inline int note_run(struct db *db, void *ctx, struct err *e)
{
    struct note *n = ctx;
    int run = atomic_fetch_add(&n->runs, 1);

    TRY(put(db, n->id, e));
    if (run < n->fails)
        return err_set(e, n->with, "as it was told");
    return 0;
}

static inline int note_failed(struct db *db, void *ctx, const struct err *why, struct err *e)
{
    struct note *n = ctx;
    char id[32];

    assert_true(why->code != ERR_NONE);
    atomic_fetch_add(&n->faileds, 1);
    snprintf(id, sizeof(id), "failed-%s", n->id);
    TRY(put(db, id, e));
    snprintf(id, sizeof(id), "last-%s", n->id);
    return put(db, id, e);
}

static inline void note_committed(void *ctx)
{
    struct note *n = ctx;

    atomic_fetch_add(&n->committeds, 1);
    n->commits = store_commits(n->s);
}

static inline void note_done(void *ctx, int rc, struct err *e)
{
    struct note *n = ctx;

    n->rc = rc;
    n->err = *e;
    sem_post(n->done);
}

struct gate {
    struct db_job job;
    sem_t entered, open, *done;
};

static inline int gate_run(struct db *db _unused_, void *ctx, struct err *e _unused_)
{
    struct gate *g = ctx;

    sem_post(&g->entered);
    sem_wait(&g->open);
    usleep(8000); /* so that the batch ends with this job */
    return 0;
}

static inline void gate_done(void *ctx, int rc _unused_, struct err *e _unused_)
{
    struct gate *g = ctx;

    sem_post(g->done);
}

/* Runs all notes; on SQLite as one batch. */
static inline void run_together(struct fixture *f, struct note *notes, size_t n)
{
    sem_t done;
    struct gate g = { .job = { .run = gate_run, .done = gate_done, .ctx = &g }, .done = &done };

    sem_init(&done, 0, 0);
    sem_init(&g.entered, 0, 0);
    sem_init(&g.open, 0, 0);
    if (!f->postgres) {
        assert_true(store_submit(f->s, &g.job));
        sem_wait(&g.entered);
    }
    for (size_t i = 0; i < n; i++) {
        notes[i].job.run = note_run;
        notes[i].job.committed = note_committed;
        notes[i].job.done = note_done;
        notes[i].job.ctx = &notes[i];
        notes[i].s = f->s;
        notes[i].done = &done;
        if (!notes[i].id[0])
            snprintf(notes[i].id, sizeof(notes[i].id), "n%zu", i);
        assert_true(store_submit(f->s, &notes[i].job));
    }
    sem_post(&g.open);
    for (size_t i = 0; i < n + !f->postgres; i++)
        sem_wait(&done);
    sem_destroy(&done);
    sem_destroy(&g.entered);
    sem_destroy(&g.open);
}
