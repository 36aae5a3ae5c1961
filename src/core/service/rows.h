/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rows as handlers see them, quotas, and the ready-made handlers of owned records. */

#include "core/service/call.h"

/* ---- rows.  All are bound to the caller's tenant, mode and project; another's row is 404.
 *
 * A record with a field deleted_at (microseconds, 0: it stays) has rows that are shown while what
 * stands for them on a host is being removed.  Such a row takes no change and no reference any
 * more (409), and its name is free: a name means the row that stays. */

/* 409 if the row is being deleted. */
int call_stays(const struct record *r, const void *row, struct err *e) _must_check_;

/* The row of an id that came in a path: 404.  Policy and If-Match are checked (the latter on writes
 * of the route's own {id} object only). */
int call_get(struct call *c, const struct record *r, const struct uuid *id, void *row,
             struct err *e) _must_check_;
/* The route's {id}, which on classic routes may be a name. */
int call_target(struct call *c, const struct record *r, void *row, struct err *e) _must_check_;
/* As call_target(), for a write beside the row, not of it: on PostgreSQL the row is locked FOR
 * SHARE, so that many may do so at once and none while it is changed or deleted.  If-Match is not
 * looked at. */
int call_target_shared(struct call *c, const struct record *r, void *row,
                       struct err *e) _must_check_;
/* A row named in the body: 404 naming 'field' if it is not the tenant's. */
int call_ref(struct call *c, const struct record *r, const char *field, const struct uuid *id,
             void *row, struct err *e) _must_check_;
/* The tenant's row (whichever project's) of which a column that has one value once, among those
 * that stay, is 'value': call_find(c, image, name, "nginx", &image, e) is 1, or 0 where there is
 * none. In a transaction it is locked, FOR UPDATE. */
#define call_find(c, T, m, value, row, e) \
    call_find_at((c), &T##_record, offsetof(struct T, m), (value), (row), (e))
int call_find_at(struct call *c, const struct record *r, size_t offset, const char *value,
                 void *row, struct err *e) _must_check_;
/* Stamps id, tenant, user, project, mode, revision 1, times; inserts; event "<record>.created". A
 * duplicate is 409 "a <record> named … exists already". */
int call_insert(struct call *c, const struct record *r, void *row, struct err *e) _must_check_;
/* Writes the fields in 'set'; revision + 1, updated_at; event "<record>.updated", or
 * "<record>.<status>" when the field 'status' changed ('old' is the row before, may be NULL). */
int call_update(struct call *c, const struct record *r, const void *old, void *row, uint64_t set,
                struct err *e) _must_check_;
/* Deletes; event "<record>.deleted". */
int call_delete(struct call *c, const struct record *r, const void *row,
                struct err *e) _must_check_;
/* A further event in the same transaction (a verb's past: "queue.purged"). */
int call_event(struct call *c, const char *event, const struct record *r, const void *row,
               struct err *e) _must_check_;
/* The row was changed by SQL of your own: caches forget it at the commit. */
void call_changed(struct call *c, const struct record *r, const struct uuid *id);

/* Takes n of a quota of the tenant, 403 quota_exceeded if it is not there; negative gives back.
 * Inside a transaction.  What a record's .quota counts, call_insert() and call_delete() take and
 * give. */
int quota_take(struct call *c, const struct quota *q, int64_t n, struct err *e) _must_check_;

/* How much of it there is still. */
int quota_left(struct call *c, const struct quota *q, int64_t *out, struct err *e) _must_check_;

/* ---- ready-made handlers for owned records (.out is the record) */
int crud_list(struct call *c, struct err *e); /* filters, sort, cursor, limit, offset */
/* Inserts what the body gives, as call_insert() does; answers with the row. */
int crud_create(struct call *c, struct err *e);
/* crud_list() over a statement of your own instead of the record's table and its owner: what it
 * selects has a name for each column of .out's record, and all of its rows may be shown.
 *     list_query(c, "SELECT @ FROM tenants WHERE owner_id = $1", ARGS(A(&user)), e) */
int list_query(struct call *c, const char *sql, const struct arg *args, size_t n_args,
               struct err *e) _must_check_;
int crud_get(struct call *c, struct err *e);   /* from the row cache, but what .show completes */
int crud_patch(struct call *c, struct err *e); /* every FF_UPDATE field given */
int crud_delete(struct call *c, struct err *e);
/* As reply_row(), after the record's .show. */
int reply_shown(struct call *c, const struct record *r, void *row, struct err *e) _must_check_;
