/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Exact windows in memory (contracts 4).  A window of 60 s begins with a credential's first
 * request; at most 'limit' pass in it; a burst allowance, refilled over ten minutes, serves what is
 * over.  Bounded: the least recently used windows are forgotten.  Any thread; sharded locks. */

#include "base/base.h"

struct ratelimit;
struct ratelimit_answer {
    bool allowed;
    int64_t limit, remaining;
    int64_t reset;       /* wall time at which the window ends, microseconds */
    int64_t retry_after; /* seconds, ≥ 1, when not allowed; never earlier than the reset */
};
struct ratelimit *ratelimit_new(size_t max_windows);
void ratelimit_free(struct ratelimit *r);
/* Takes up the windows that an earlier process left in the file 'path', which is made where it is
 * missing or of another form, and keeps them there from now on; to be called before the first
 * request.  'secret' (16 bytes) names the keys in it: under another one nothing is found.
 * ERR_INVALID_STATE: another process keeps its windows there. */
int ratelimit_keep(struct ratelimit *r, const char *path, const uint8_t *secret, int64_t now,
                   struct err *e) _must_check_;
/* Writes what has changed since the last call; from one thread at a time.  Nothing is waited for:
 * what has been written outlives the process, not the machine. */
void ratelimit_save(struct ratelimit *r);
/* One request of 'key' (any bytes). 'now' is wall time. */
void ratelimit_take(struct ratelimit *r, const void *key, size_t n, int64_t limit, int64_t burst,
                    int64_t now, struct ratelimit_answer *out);
/* Secondary limits (spec 5, 10): weight a minute, and requests at once. */
bool ratelimit_weight(struct ratelimit *r, const void *key, size_t n, int64_t weight, int64_t limit,
                      int64_t now, int64_t *retry_after);
bool ratelimit_enter(struct ratelimit *r, const void *key, size_t n, int64_t most);
void ratelimit_leave(struct ratelimit *r, const void *key, size_t n);
