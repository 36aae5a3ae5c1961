/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the lines of the feed mean: each part's rows go to whoever of the edge is there for them. */

#include "core/feed/line.h"

struct feed_sink {
    const char *part;
    const struct record *record; /* with an "id" */
    void *ctx;
    void (*begin)(void *ctx); /* all rows follow; what was there holds until end() */
    int (*row)(void *ctx, const void *row, struct err *e);
    void (*gone)(void *ctx, const struct uuid *id);
    void (*end)(void *ctx);
};

enum { FEED_EPOCH = 40 };
struct feed_taker {
    const struct feed_sink *sinks;
    size_t n;
    bool open, taking;      /* this connection (or file) has begun; and not ended its snapshot */
    char next[FEED_EPOCH];  /* of the snapshot that is being taken */
    char epoch[FEED_EPOCH]; /* of what is in force; "": nothing is */
    int64_t revision;
};
/* Takes one line.  ERR_INVALID_STATE: it begins a feed that is older than what was seen, which is
 * refused; ERR_INVALID: it makes no sense here.  A row that its sink refuses is logged, and left
 * out. */
int feed_take(struct feed_taker *t, const struct feed_line *l, struct err *e) _must_check_;
/* The connection ended: what was taken of a snapshot is void, what is in force stays. */
void feed_take_broken(struct feed_taker *t);

/* Takes the lines of a file: as many as are whole and make sense.  How many bytes they were. */
size_t feed_take_all(struct feed_taker *t, struct str bytes, struct err *e);
