/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The consumers of all services: one thread a process that takes their turns. */

#include "core/service.h"

struct app;

/* Makes the cursors that are not there yet, and sets app->consumers. */
int consumers_open(struct app *app, struct err *e) _must_check_;
void consumers_start(struct app *app); /* its thread */
void consumers_stop(struct app *app);  /* joins it; gives its leases back */
void consumers_close(struct app *app);
/* Up to where all consumers of 'kind' (NULL: of events) have read, INT64_MAX if there is none;
 * 'last' is the one that is behind all others. */
int consumers_read(struct app *app, struct db *db, const struct consumer_kind *kind, int64_t *seq,
                   const char **last, struct err *e) _must_check_;
/* Sets the gauges of how far each is behind, in seconds. */
int consumers_show(struct app *app, struct db *db, struct err *e) _must_check_;

/* ---- what a turn is, for kinds of consumers */

struct place {
    int64_t seq;  /* the last row that is done with */
    int64_t part; /* so many events of the next one are done with too */
};
struct turn {
    struct app *app;
    const struct consumer *consumer;
    struct arena *arena;   /* ends with the turn */
    struct db *db;         /* a reader; each statement stands alone */
    struct place from, to; /* it begins behind 'from' and has come to 'to' */
    int64_t upto;          /* the last row that it may look at */
    size_t most;           /* takes no more than this many things */
    size_t n;              /* things there are to be done */
    size_t failed;         /* write: of them were done when one failed */
    void *work;            /* the kind's own */
};
struct consumer_kind {
    /* Reads what comes next: sets .to, .n and .work.  Off the writer. */
    int (*read)(struct turn *t, struct err *e);
    /* Does it, in the transaction that moves the cursor; may come less far than .to and set that.
     */
    int (*write)(struct call *c, struct turn *t, struct err *e);
    /* Frees what the arena does not; may be NULL. */
    void (*done)(struct turn *t);
    /* What is behind the cursor's row: how old the oldest is of which nothing is done yet. */
    const char *waiting; /* condition on rows of the journal */
};
