/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Fair shares of something that many want: seats (threads, slots, bytes), and the order of those
 * who wait for one.
 *
 * Who wants it is a flow: a tenant, an address, a VPC.  Three rules hold:
 *  - A flow holds no more than its own bound.
 *  - It holds no more than is left free (dynamic thresholds: Choudhury and Hahne, "Dynamic queue
 *    length thresholds for shared-memory packet switches", 1998), where a quarter of all is kept
 *    for flows that hold nothing.  So one flow alone gets three eighths, and who comes new finds
 *    something as long as fewer flows than a quarter of all are there.  The same holds for places
 * in the queue.
 *  - Turns go round the flows that wait, not round what waits: a flow takes 'weight' turns in a
 *    row, then the next one does (deficit round robin, where each job costs one).
 * The flow FLOW_SYSTEM is bound by the total alone.
 *
 * Nothing here is locked: its owner's lock guards it. */

#include "base/base.h"

#define FLOW_SYSTEM UINT64_C(0)

struct flow {
    uint64_t key;   /* flow_key(), or FLOW_SYSTEM */
    int64_t seats;  /* most that it may hold; 0: no bound of its own */
    int64_t places; /* most that may wait; 0: no bound of its own */
    int weight;     /* turns in a row; 0: one */
};
/* The key of what names a flow: never FLOW_SYSTEM; seeded, so that no two can be made to meet. */
uint64_t flow_key(const void *name, size_t n);

enum fair_result {
    FAIR_OK,
    FAIR_OWN,  /* over the flow's own bound */
    FAIR_FULL, /* what is left is for others */
};

/* In what waits.  May be taken apart once fair_next() has given it. */
struct fair_job {
    struct fair_job *next;
    struct flow flow;
};

/* The rule itself: whether a flow that holds 'mine' may have 'n' more of 'all', of which 'used' are
 * held. */
bool fair_room(int64_t mine, int64_t n, int64_t all, int64_t used);

struct fair;
/* 'seats' 0: they are not counted, only turns are taken.  'places' for what waits. */
struct fair *fair_new(int64_t seats, int64_t places);
void fair_free(struct fair *f);
/* Takes 'n' seats at once, without waiting. */
enum fair_result fair_take(struct fair *f, const struct flow *flow, int64_t n);
void fair_give(struct fair *f, uint64_t key, int64_t n);
/* Puts 'job' (its .flow set) behind the others of its flow. */
enum fair_result fair_wait(struct fair *f, struct fair_job *job);
/* Takes back 'job', which waits; false if it does not.  Costs a look at what its flow has waiting.
 */
bool fair_drop(struct fair *f, struct fair_job *job);
/* The next job, with one seat taken for its flow, which fair_give() gives back; NULL: none may
 * begin now. */
struct fair_job *fair_next(struct fair *f);
/* Whether fair_next() would give one. */
bool fair_ready(const struct fair *f);

struct fair_counts {
    int64_t seats, used; /* in all */
    int64_t waiting;
    int64_t held_back; /* so far: fair_take() and fair_wait() that were refused */
    int64_t flows;     /* that hold or wait */
};
void fair_counts(const struct fair *f, struct fair_counts *out);
/* What this flow holds. */
int64_t fair_held(const struct fair *f, uint64_t key);
