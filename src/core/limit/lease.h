/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rate limits of several processes over one PostgreSQL (contracts 4): each takes parts of a key's
 * window out of a row of the store and serves requests from them, so that all of them together
 * never let more through than the plan's number.  The smaller what is left, the smaller the part:
 * the last eighth goes by ones.  What a process has taken and not used when the window ends, or
 * when it ends itself, is lost to the key.  Where the store does not answer nothing is let through:
 * what cannot be counted is not served. */

#include "core/limit/ratelimit.h"
#include "db/db.h"

struct leases;
struct leases *leases_new(size_t max_windows);
void leases_free(struct leases *l);
/* One request of 'key': true if it is decided, in 'out'; false if the store must be asked.  'now'
 * is wall time, 'mono' monotonic. Any thread. */
bool lease_take(struct leases *l, const char *key, int64_t limit, int64_t now, int64_t mono,
                struct ratelimit_answer *out);
/* Asks the store for a part and takes one request of it.  Blocks: for workers. */
int lease_ask(struct leases *l, struct store *store, struct clock *clock, const char *key,
              int64_t limit, int64_t burst, struct ratelimit_answer *out,
              struct err *e) _must_check_;
/* Forgets rows that say nothing any more; inside a write. */
int lease_sweep(struct db *db, int64_t now, int64_t *changed, struct err *e) _must_check_;
