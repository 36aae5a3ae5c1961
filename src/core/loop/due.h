/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The table core_due: which rows a loop must visit, when, and who is at it.  All of these run
 * inside a write job's transaction, but due_earliest().
 *
 * A row that is leased and was not signalled since has due_at = lease_until; a signal makes due_at
 * smaller.  So a signal during a visit is never lost, and a visit that was cut short falls due
 * again when its lease ends. */

#include "base/base.h"
#include "db/db.h"

/* Rows of a claim; rows that a loop may hold at once. */
enum { DUE_BY = 48, DUE_CLAIM_MAX = 32, DUE_HOLDS_MAX = 126, DUE_PASSED_MAX = 64 };
#define DUE_NEVER INT64_MAX

struct due_claimed {
    struct uuid id, tenant; /* tenant: nil where nobody knows whose it is */
    int64_t attempts;
};
/* How far the claims of a process have come in a loop: the rows due before 'floor' that nobody
 * holds are of 'passed' alone, who held their share when it moved.  So a claim looks at the backlog
 * of none of them again.  All 0: nothing is known, which is always true.  Who makes a row due makes
 * 'floor' no later than that. */
struct due_front {
    int64_t floor;
    struct uuid passed[DUE_PASSED_MAX];
    size_t n_passed;
};
struct due_claim {
    const char *loop;
    int64_t now, until; /* the lease's end */
    int64_t want;       /* at most DUE_CLAIM_MAX */
    const char *by;     /* unique to this claim */
    /* Shares of the tenants (base/fair.h). */
    int64_t seats, used;              /* 'used' also by rows of other loops */
    struct uuid holds[DUE_HOLDS_MAX]; /* tenants of the rows of this loop that are leased */
    size_t n_holds;
    struct due_front from, front; /* as it was before this claim, and is after it */
    struct due_claimed got[DUE_CLAIM_MAX];
    size_t n;
    int64_t next;   /* when the next row is due that nobody holds and whose tenant may have it;
                       DUE_NEVER: none */
    bool held_back; /* there are due rows of tenants that hold their share */
};
/* Leases the rows due longest, of tenants that do not hold their share. */
int due_claim(struct db *db, struct due_claim *c, struct err *e) _must_check_;

enum due_end {
    DUE_AGAIN, /* at 'at' */
    DUE_REST,  /* not until a signal */
};
struct due_finish {
    const char *loop, *by;
    struct uuid id;
    enum due_end end;
    int64_t at, attempts;
    int64_t due; /* out: when it is due now; DUE_NEVER: not */
};
/* Ends a lease; a signal that came meanwhile keeps its time. Nothing happens if the lease is lost.
 */
int due_finish(struct db *db, struct due_finish *f, struct err *e) _must_check_;
/* Makes a row due at 'at', or earlier if it is so already.  'tenant' nil: nobody knows whose it is.
 */
int due_signal(struct db *db, const char *loop, const struct uuid *id, const struct uuid *tenant,
               int64_t at, struct err *e) _must_check_;
/* As many at once; none twice. */
enum { DUE_MANY = 16 };
int due_signal_many(struct db *db, const char *loop, const struct uuid *ids[DUE_MANY],
                    const struct uuid *tenant, int64_t at, struct err *e) _must_check_;
/* Adds a row that is not there yet, due at 'at'. */
int due_add(struct db *db, const char *loop, const struct uuid *id, const struct uuid *tenant,
            int64_t at, struct err *e) _must_check_;
/* Prolongs a lease. */
int due_renew(struct db *db, const char *loop, const struct uuid *id, const char *by, int64_t until,
              struct err *e) _must_check_;
/* Ends all leases: nobody holds one when the store's only process starts. */
int due_free_all(struct db *db, int64_t now, struct err *e) _must_check_;
/* When the loop's next row is due that nobody holds, from any connection. */
int due_earliest(struct db *db, const char *loop, int64_t now, int64_t *next,
                 struct err *e) _must_check_;
