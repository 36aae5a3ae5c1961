/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A line of the feed, as it goes over the socket and stands in the edge's file: BEGIN, any number
 * of ROWS, END are a snapshot, which replaces all that was there; ROWS and GONE after that are
 * changes. */

#include "base/record.h"
#include "codec/json.h"

enum feed_kind { FEED_BEGIN, FEED_ROWS, FEED_GONE, FEED_END };
struct feed_line {
    enum feed_kind kind;
    int64_t revision;  /* of the feed, that has all up to this line; 0 inside of a snapshot */
    const char *epoch; /* BEGIN: revisions of another epoch say nothing of this one's */
    const char *part;  /* ROWS, GONE */
    const char *rows;  /* ROWS: a JSON list of what json_dump_row() writes */
    struct uuid id;    /* GONE */
};
void feed_line_write(const struct feed_line *l, struct buf *out);
/* Texts are in 'a'. */
int feed_line_read(struct arena *a, struct str json, struct feed_line *out,
                   struct err *e) _must_check_;
