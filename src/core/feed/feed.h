/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api's end of the feed (contracts 6): a socket at which an edge hears what the services have
 * decided.  It speaks in frames of os/link.h: JSON on stream FEED_STREAM, each a line of
 * core/feed/line.h; the edge says nothing.
 *
 * Nothing is queued for an edge: its place is a revision, and it is sent what has changed since, as
 * fast as it reads.  One that is more than FEED_KEPT changes behind is sent a snapshot again. */

#include <sys/types.h>

#include "core/app.h"

enum { FEED_STREAM = 1, FEED_KEPT = 4096 };

struct feed_opts {
    const char *socket_path;
    const char *installation; /* 8 hex */
    uid_t edge_uid;           /* who may listen, beside root */
};
/* Serves one edge at a time, the newest, on a thread of its own until feed_close(). */
int feed_serve(struct app *app, const struct feed_opts *o, struct err *e) _must_check_;
void feed_close(struct app *app);
/* An edge listens, and has had a snapshot. */
bool feed_followed(struct app *app);

/* ---- for app.c */
struct feed *feed_new(struct app *app);
void feed_free(struct feed *f);
void feed_wake(struct app *app);
