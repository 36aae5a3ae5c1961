/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rendered answers of single objects, by record, id and surface (contracts 9).  The writer drops
 * what it changed after its commit and before the answers leave; a reader that began before that
 * drop cannot put a stale row back: it passes the number of commits it began at.  Bounded by bytes;
 * any thread. */

#include "base/base.h"
#include "base/record.h"

struct rowcache;
struct rowcache_entry {
    struct uuid tenant_id, project_id;
    int mode;
    int64_t revision;
    struct str body; /* the object as JSON on this surface */
};
struct rowcache *rowcache_new(size_t max_bytes);
void rowcache_free(struct rowcache *c);
/* Copies the entry into 'a'; false on a miss. */
bool rowcache_get(struct rowcache *c, struct arena *a, const struct record *r,
                  const struct uuid *id, int surface, struct rowcache_entry *out);
/* 'commits': store_commits() before the row was read. */
void rowcache_put(struct rowcache *c, const struct record *r, const struct uuid *id, int surface,
                  uint64_t commits, const struct rowcache_entry *e);
/* 'commits': store_commits() after the commit that changed it. */
void rowcache_drop(struct rowcache *c, const struct record *r, const struct uuid *id,
                   uint64_t commits);
