/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers that last and hold no thread: a run of the handler writes what there is and parks; who
 * wakes it puts it into its tenant's round, whose one job at a time runs those of it whose peer has
 * room, some in a row. */

#include "base/base.h"

struct app;
struct call_private;
struct round;
struct rounds;
struct inbox;

/* Of a call. */
struct stream_part {
    struct round *round;       /* NULL: it has none yet */
    struct call_private *next; /* in its round */
    void *state;               /* the handler's */
    int64_t wrote;             /* wall time of what it wrote last */
    bool events;               /* text/event-stream: a comment when nothing else comes */
    struct inbox *inbox;       /* a WebSocket's; else NULL */
};

struct rounds *rounds_new(struct app *app);
void rounds_free(struct rounds *x);
/* Those that found their lane full try again. */
void rounds_tick(struct rounds *x);
/* A stream that has begun has something to do: it runs when its turn comes and its peer has room.
 * From here on 'p' is another's. */
void stream_wake(struct call_private *p);
/* A run has parked: what it does not need until the next one is freed, and a heartbeat written
 * where that is due. */
void stream_rest(struct call_private *p);
/* Its end: 'p' is gone afterwards. */
void stream_finish(struct call_private *p, bool whole);
/* Takes no more turns. */
void stream_leave(struct call_private *p);
