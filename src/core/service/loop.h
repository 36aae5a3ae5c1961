/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Reconcilers: loops over the rows of a record. */

#include "core/service/call.h"

struct visit {
    struct app *app;
    struct arena *arena;
    struct db *db; /* a reader; no transaction is open */
    const struct reconciler *loop;
    struct uuid id; /* of the row that is due */
    void *row;      /* the row itself, or NULL if it is gone */
    int64_t now;
    int64_t attempts; /* visits that failed in a row before this one */
    enum mode mode;   /* of the row, for app_driver() */
    struct call
        *call;     /* inside visit_write's fn only: for call_update() and the like, as the system */
    int64_t again; /* set by visit_again() */
};
struct reconciler {
    const char *name;
    const struct record *record; /* owned; its rows are visited by id */
    int (*visit)(struct visit *v, struct err *e);
    int64_t
        every; /* a settled row is visited again after this, also when nobody signalled; 0: not */
    int64_t budget; /* a longer visit is logged */
    struct {
        int64_t min, max;
    } backoff; /* after a visit that failed */
    /* At start and once a minute: makes rows due that should be. SQL that selects ids; may be NULL.
     */
    const char *sweep;
};
/* Come again after 'in' microseconds. Return its value. */
int visit_again(struct visit *v, int64_t in);
/* Nothing to do until 'every' or a signal. */
int visit_settled(struct visit *v);
/* The row is gone, or nothing of this loop's: no further visits, but by a signal. */
int visit_forget(struct visit *v);
/* A transaction: 'fn' gets a call of the system's (tenant and mode of the row), with v->row read
 * anew under it; not run (returns 0, *ran false) if the row has vanished or its revision differs
 * from v->row's. */
int visit_write(struct visit *v,
                int (*fn)(struct visit *v, struct call *c, void *arg, struct err *e), void *arg,
                bool *ran, struct err *e) _must_check_;
/* The loop of that name, of any service; NULL: none has it (any more). */
const struct reconciler *app_loop(struct app *app, const char *name);
/* Wakes a loop from outside of any call (an agent's report). Any thread. */
void reconcile_signal(struct app *app, const struct reconciler *r, const struct uuid *id);
