/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Requests that wait without a thread until a commit signals their topic. */

#include <stdatomic.h>

#include "base/base.h"

struct app;
struct call_private;
struct park;

/* Of a call. */
struct park_part {
    bool parked, in_park, watched;
    bool kept;           /* what this run wrote stays, also if it parks */
    bool poked;          /* something has come for it since its run began; the park's lock */
    atomic_bool leaving; /* its peer has gone or the server drains; set under the park's lock */
    const char *topic;
    int64_t until; /* runs for the last time then; 0: never parked */
    int64_t again; /* runs at this time at the latest */
    uint64_t seen; /* signals before this run */
    struct call_private *next, *prev;
};

struct park *park_new(struct app *app);
void park_free(struct park *k);
uint64_t park_seen(struct park *k);
/* The number of the topic's last signal, or of a later one of another. */
uint64_t park_last(struct park *k, const char *topic);
void park_signal(struct park *k, const char *topic);
/* False: a signal came meanwhile, or its peer left: it runs again. */
bool park_add(struct park *k, struct call_private *p);
void park_leave(struct park *k, struct call_private *p);
/* Something has come for this one: it runs now, or again. */
void park_poke(struct park *k, struct call_private *p);
/* A run begins, which sees what has come before it. */
void park_begin(struct park *k, struct call_private *p);
void park_tick(struct park *k, bool all);
size_t park_count(struct park *k);
/* Those that are to look at their credential again run now. */
void park_wake(struct park *k);
