/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rows that point to rows: looked up before a handler runs, and kept whole when one is deleted. */

#include "core/service.h"

struct app;
struct reference;

/* Every column of the mounted records that points to rows and says what a deletion means for them;
 * refuses what core cannot do.  Lives as long as the app. */
int refs_collect(struct app *app, struct err *e) _must_check_;
/* Whether a body of 'r' can refer to rows. */
bool refs_in(const struct record *r);
/* Looks up what the body refers to: 404 that names every member whose row is not the tenant's, 409
 * if one is being deleted.  In a transaction; on PostgreSQL they are locked FOR SHARE, so that they
 * stay until its end. */
int refs_resolve(struct call *c, struct err *e) _must_check_;
/* The row, if it has been looked up in this transaction; else NULL. */
const void *refs_row(const struct call *c, const struct record *r, const struct uuid *id);
/* Before a row is deleted: refuses, deletes or clears what points to it. */
int refs_delete(struct call *c, const struct record *r, const void *row,
                struct err *e) _must_check_;
/* As call_ref(), without the name of a member: ERR_NOT_FOUND, or ERR_INVALID_STATE.  rows.c's. */
int row_for_ref(struct call *c, const struct record *r, const struct uuid *id, bool shared,
                void *row, struct err *e) _must_check_;
