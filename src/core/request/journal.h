/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One append-only row for each request that changed something: its audit record, its events and its
 * idempotency record commit with its effect. */

#include "core/request/idempotency.h"

enum outcome { OUTCOME_NONE, OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_DENIED };
/* One row: audit (unless NONE), events so far, and the idempotency record if the call is keyed. */
int journal_write(struct call_private *p, struct db *db, enum outcome outcome, enum idem_step step,
                  struct err *e) _must_check_;

/* ---- for those who follow it, row by row in its order */

/* The last row that no other can come before any more: what is committed later lies behind it.
 * SQLite: the last row.  PostgreSQL: as soon as every transaction has ended that may have taken an
 * earlier number; 'more' says that there are rows behind it already, so ask again in a moment. */
int journal_settled(struct app *app, struct db *db, int64_t *seq, bool *more,
                    struct err *e) _must_check_;

struct journal_row {
    int64_t seq, at;
    const char *tenant_id, *project_id, *mode, *request_id; /* tenant, project: NULL: none */
    struct str events; /* JSON: [{"id","type","created_at","object","previous"}, …] */
};
typedef int journal_row_fn(void *ctx, const struct journal_row *row, struct err *e);
/* The rows with events that lie behind 'after' and not behind 'upto', at most 'most', oldest first;
 * what 'fn' is given is valid during its call, and its -1 ends it. */
int journal_events(struct db *db, int64_t after, int64_t upto, int64_t most, journal_row_fn *fn,
                   void *ctx, struct err *e) _must_check_;

/* The same of one tenant and mode. */
int journal_events_of(struct db *db, const struct uuid *tenant, enum mode mode, int64_t after,
                      int64_t upto, int64_t most, journal_row_fn *fn, void *ctx,
                      struct err *e) _must_check_;

/* What is signalled when a tenant's events have committed. */
enum { JOURNAL_TOPIC = 48 };
void journal_topic(const struct uuid *tenant, char out[JOURNAL_TOPIC]);

/* A place in the journal, sealed for this tenant and kind of list; and read again: NULL is the
 * end.  What is no such place is a fault of "cursor" (400). */
const char *journal_place(struct call *c, const char *kind, int64_t seq, int64_t index);
bool journal_place_open(struct call *c, const char *kind, const char *cursor, int64_t *seq,
                        int64_t *index);
int journal_place_read(struct call *c, const char *kind, const char *cursor, int64_t *seq,
                       int64_t *index, struct err *e) _must_check_;
