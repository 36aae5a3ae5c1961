/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A pool of workers with a bounded queue, in which flows take turns (base/fair.h): a flow's jobs
 * are at work on no more threads than its share, so that jobs that take long keep no other flow's
 * waiting. */

#include "base/base.h"
#include "base/fair.h"

struct pool;
typedef void pool_fn(void *ctx, void *worker); /* 'worker' is what worker_new made for the thread */

struct pool_opts {
    const char *name; /* thread names "name-0"… */
    int threads;
    size_t queue;                   /* most jobs waiting */
    void *(*worker_new)(void *arg); /* per thread, may be NULL */
    void (*worker_free)(void *worker);
    void (*worker_rest)(void *worker); /* no job waits: before the thread sleeps; may be NULL */
    void *arg;
};
struct pool *pool_new(const struct pool_opts *o, struct err *e);
/* False if the queue is full: answer 503.  Workers are woken one by the other, and do not push
 * aside who submits. */
bool pool_submit(struct pool *p, pool_fn *fn, void *ctx);
/* As above for a flow; its .seats are threads. */
enum fair_result pool_submit_for(struct pool *p, const struct flow *flow, pool_fn *fn, void *ctx);
void pool_counts(struct pool *p, struct fair_counts *out);
/* Runs what is queued, then joins the threads. */
void pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool *, pool_free)
/* Starts a named thread with all signals but those of its own faults blocked; aborts when it
 * cannot. */
#include <pthread.h>
pthread_t thread_start(const char *name, void *(*fn)(void *), void *arg);
/* From now on the calling thread does not push others aside when it is woken (SCHED_BATCH,
 * sched(7)): for one that does its work in batches, so that a batch gathers first. */
void thread_gathers(void);
