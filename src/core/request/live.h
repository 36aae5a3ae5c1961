/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Calls that last end with their credential. */

#include <stdatomic.h>

#include "base/err.h"
#include "codec/id.h"

struct app;
struct call_private;
struct db;
struct live;

/* Of a call. */
struct live_part {
    bool listed;
    atomic_bool look_again; /* its credential may be no longer what it was */
    bool owed;              /* the store did not say: its next run asks again */
    int64_t looked;         /* monotonic */
    uint64_t revocations;   /* there were, before its credential was looked up */
    struct uuid user, key;  /* of its credential, while it is in the list */
    struct call_private *next, *prev;
};

struct live *live_new(void);
void live_free(struct live *l);
/* How many revocations there were: for p->live.revocations, before the credential is looked up. */
uint64_t live_now(const struct live *l);
void live_add(struct call_private *p);
void live_del(struct call_private *p);
/* Credentials of this user or key (either may be NULL; both: of all) are no longer what they were.
 */
void live_revoked(struct app *app, const struct uuid *user_id, const struct uuid *key_id);
/* 0 as long as the call's credential still allows what the call does. */
int live_check(struct call_private *p, struct db *db, struct err *e) _must_check_;
