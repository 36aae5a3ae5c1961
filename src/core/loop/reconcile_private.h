/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the reconcilers know of each other. */

#include <pthread.h>
#include <stdatomic.h>

#include "core/loop/due.h"
#include "core/loop/reconcile.h"
#include "core/loop/visit.h"

enum { SEATS_MAX = DUE_CLAIM_MAX };
static const int64_t LEASE = SECONDS(60);
static const int64_t RENEW_EVERY = SECONDS(15);
static const int64_t REFRESH_EVERY = SECONDS(30);
static const int64_t SWEEP_EVERY = SECONDS(60);

struct loop {
    const struct reconciler *r;
    int64_t next; /* when its earliest row is due, as far as this process knows */
    int held;     /* rows leased by this process's workers */
    bool claiming;
    bool held_back; /* due rows wait until their tenants hold less */
    unsigned ended; /* leases, so far */
    struct due_front front;
    struct visit_counts counts;
};

struct lease {
    struct loop *loop;
    struct due_claimed row;
    char by[DUE_BY];
    int64_t since; /* monotonic */
};

struct seat { /* a worker's */
    struct reconcile *rc;
    pthread_t thread;
    bool busy;
    struct lease lease; /* if busy */
};

struct reconcile {
    struct app *app;
    struct loop *loops;
    size_t n_loops;
    size_t turn; /* where the search for a due loop begins */
    char process[17];
    atomic_uint claims;
    atomic_int outside;   /* signals from outside of calls that the writer has not done yet */
    pthread_mutex_t lock; /* guards all below, and the loops' next and claiming */
    pthread_cond_t work, timer;
    struct seat seats[SEATS_MAX];
    int n_seats, started, idle;
    struct lease ready[SEATS_MAX]; /* leased, and waiting for a seat's thread */
    int n_ready;
    int64_t planned; /* when the timer will look by itself (wall) */
    pthread_t timer_thread;
    bool running, stopping;
    int64_t held_back; /* claims that left due rows to later, so far */
    int64_t swept;     /* wall time of the last sweep, for drains */
};

static inline bool loop_has_tenants(const struct reconciler *r)
{
    return record_field(r->record, "tenant_id") != NULL;
}

/* ---- reconcile.c */
void reconcile_rouse(struct reconcile *rc); /* whoever can do something; the lock is held */
/* The loop has a row due at 'at'; the lock is held. */
void reconcile_loop_due(struct reconcile *rc, struct loop *l, int64_t at);

/* How many rows more of the loop this process may lease now; the lock is held. */
int reconcile_room(const struct reconcile *rc, const struct loop *l);

/* ---- chores.c */
void *reconcile_timer(void *rc); /* a thread */
/* Each loop's sweep, once; what fails is in the log too. */
int reconcile_sweep(struct reconcile *rc, struct db *db, struct err *e);
