/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The feed: what edges are told of services' rows.  An edge never opens the store; it is given all
 * rows of each part, then each change, and answers from what it was given last. */

#include "core/service/call.h"

struct feed_part {
    const char *name;            /* "names" */
    const struct record *record; /* what an edge sees of a row; has an "id" */
    const char *rows;            /* SQL: those that edges know, "SELECT @ FROM …" */
};
/* The row has come, changed or gone, or will have when this transaction commits: edges hear of it
 * then.  The last statement of a handler, for on PostgreSQL all that changes what edges follow goes
 * one by one from here to its commit. */
int call_feed(struct call *c, const struct feed_part *part, const struct uuid *id,
              struct err *e) _must_check_;
