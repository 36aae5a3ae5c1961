/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Rows that hang below the one that a path begins with. */

#include "core/service.h"

/* Before the handler: the route's parent, then what the body refers to. */
int parent_resolve(struct call *c, struct err *e) _must_check_;
/* The first field of 'r' that refers to a 'parent', or NULL. */
const struct field *parent_field(const struct record *parent, const struct record *r);
/* As that, of the route's parent: NULL also where it has none. */
const struct field *parent_field_of(const struct call *c, const struct record *r);
/* The id of c->parent. */
const struct uuid *parent_id(const struct call *c);

enum row_lock { ROW_FREE, ROW_SHARED, ROW_ALONE };
/* As call_target(), call_target_shared(), or with no lock at all.  rows.c's. */
int row_target(struct call *c, const struct record *r, enum row_lock lock, void *row,
               struct err *e) _must_check_;
