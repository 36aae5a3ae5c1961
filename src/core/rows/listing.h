/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Lists: query parameters to SQL (filters, sort, keyset cursor, limit, offset) by the record's
 * table. Pure: no database here.  Cursors are opaque and signed: base64url of the sort value, the
 * id and a truncated HMAC over them, the record's name, the sort and the filters; a cursor of
 * another list is a fault. */

#include "base/base.h"
#include "codec/json.h"
#include "db/db.h"

#define LISTING_MAX_OFFSET INT64_C(10000000)
enum { LISTING_ANY_OF = 50 }; /* values of one filter */

struct listing_scope { /* conditions that the caller cannot influence */
    const char *column;
    struct arg value;
};
struct listing_request {
    const struct record *record;
    /* A statement whose rows are listed, with its arguments $1…; NULL: the record's table. */
    const char *from;
    const struct arg *args;
    size_t n_args;
    const char *bound; /* whose list it is, where the scope does not say it; may be NULL */
    bool oldest_first; /* where no order is asked for */
    const struct listing_scope *scope;
    size_t n_scope;
    struct str query; /* raw query string */
    const struct record
        *extra; /* parameters that are not ours but the route's, or NULL: skipped here */
    const char *id_prefix_view; /* NULL: UUIDs; else filters and cursors may be TypeIDs */
    int page, page_max;
    const uint8_t *sign_key; /* 32 bytes */
};
struct listing {
    const char *sql; /* SELECT @ … LIMIT limit + 1: one more row tells whether there are more */
    struct arg *args;
    size_t n_args;
    int64_t limit;
    const struct field *sort; /* NULL: created_at, then id (or the record's .key) */
    bool descending;
    uint64_t fingerprint; /* of record, sort and filters: bound into the cursor */
};
/* Parameters it knows: limit, cursor, offset, sort, created_after, created_before, updated_after,
 * and each FF_FILTER field (comma: any of).  Unknown or bad ones become faults, all of them. */
void listing_plan(struct arena *a, const struct listing_request *q, struct listing *out,
                  struct faults *f);
/* The faults that listing_plan() would find, but for the cursor's: that is looked at when all else
 * is right. */
void listing_check(struct arena *a, const struct listing_request *q, struct faults *f);
/* The cursor that continues after 'row'. */
const char *listing_cursor(struct arena *a, const struct listing_request *q,
                           const struct listing *l, const void *row);
