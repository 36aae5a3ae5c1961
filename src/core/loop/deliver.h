/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Deliveries of all services: one thread a process.  What is due stands in core_due, by owner,
 * under the loop "deliver"; who has leased an owner is the only one that sends what it has. */

#include <pthread.h>

#include "core/inside.h"
#include "core/loop/due.h"

int deliveries_open(struct app *app, struct err *e) _must_check_;  /* sets app->deliveries */
int deliveries_start(struct app *app, struct err *e) _must_check_; /* its thread */
/* Cancels what is under way, writes down what has come of the rest, and gives its leases back. */
void deliveries_stop(struct app *app);
void deliveries_close(struct app *app);
/* Deletes some of those that are over; '*n' (int64_t): how many. */
int deliveries_sweep(struct call *c, void *n, struct err *e);

/* ---- what its files share */

enum { OUTLETS = 120, WINDOW = 64 };
extern const struct reconciler deliver_loop; /* a name in core_due: nobody visits it */

/* One request, from its making until what came of it is written down. */
struct flight {
    struct flight *next;   /* of its outlet */
    struct flight *behind; /* in a queue: landed, or unwritten */
    struct deliveries *ds;
    struct outlet *outlet;
    uint64_t request;
    struct delivery d; /* the row as it was; its texts are 'text' */
    struct arena text;
    const struct delivery_schedule *schedule;
    bool airborne;
    struct { /* by the client's thread */
        enum outgoing_end end;
        int status;
        int64_t retry_after, duration;
        char error[200];
        size_t n;
        char body[OUTGOING_KEEP];
    } got;
    struct { /* what is to be written */
        bool nothing, tell;
        enum delivery_status status;
        int64_t at, next;
        const char *log;
        struct delivery_told told;
    } out;
    const char *cancel; /* why it is not sent at all */
};

/* An owner that this process has leased. */
struct outlet {
    struct outlet *next;
    struct uuid owner, tenant;
    char by[DUE_BY];
    int64_t idle;                     /* mono: since when it has had nothing to send; 0: it has */
    const struct delivery_kind *kind; /* NULL: nothing is known of it yet */
    struct arena arena;               /* of the window */
    struct delivery *window;          /* due when it was read, in their order */
    bool taken[WINDOW];
    size_t n, left;
    bool full; /* there may be more behind the window */
    bool look; /* something may have changed */
    bool gone; /* its row is deleted */
    bool dirty;
    int64_t failing_since, paused_until, hold; /* 'hold': there was no room for its requests */
    int width, flying;
    struct flight *flights;
};

struct deliveries {
    struct app *app;
    const struct delivery_kind **kinds; /* ends with NULL */
    struct outlet *outlets;
    int n_outlets;
    struct flight *unwritten, **unwritten_end;
    size_t batch;
    int64_t next; /* when the next owner is due that nobody holds */
    struct due_front front;
    bool held_back;
    int64_t looked, renewed, refreshed; /* mono */
    unsigned claims;
    char process[17];
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t cond;
    struct flight *landed, **landed_end;
    int in_hand; /* of clients */
    struct uuid woken[256];
    size_t n_woken;
    bool all_woken;
    int64_t woken_at; /* the earliest of them; DUE_NEVER: none */
    bool stopping;
};

/* call_due() of DUE_MANY owners. */
int deliver_due(struct call *c, const struct delivery_to *to, struct err *e) _must_check_;

/* ---- deliver_outlet.c: the deliverer's thread alone */

/* Reads what is due, if need be, and sends as much as may be. */
int outlet_work(struct deliveries *ds, struct outlet *l, struct db *db, struct err *e) _must_check_;
/* Before that nothing is sent. */
int64_t outlet_wakes(const struct outlet *l);
/* Nothing more can be sent now, and nothing is under way. */
bool outlet_rests(const struct outlet *l, int64_t now);
/* What came of it, for outlet and row. */
void flight_judge(struct flight *f, int64_t now);
void flight_free(struct flight *f);   /* out of its outlet */
void outlet_cancel(struct outlet *l); /* what is under way */
void outlet_free(struct outlet *l);
/* By the client's thread, or in place of a request that was not sent. */
void flight_land(struct flight *f);
