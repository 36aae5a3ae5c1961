/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a request says, checked whole: its body and its parameters (query.c); its raw body
 * (spool.c); paths that are to be built (planned.c). */

#include "core/service.h"

struct call_private;

bool body_is_due(const struct route *route);
/* Rows of a page: where the request does not say, and at most. */
int route_page(const struct route *route, enum surface surface);
int route_page_max(const struct route *route, enum surface surface);
/* Size and type, before it is read. */
int body_check(struct call_private *p, struct err *e) _must_check_;
int query_read(struct call_private *p, struct err *e) _must_check_;
/* A raw body, then the handler. */
void spool_run(struct call_private *p);
void spool_end(struct call_private *p);
/* Methods (a bit each) of a path that are to be built; 0: it is no such path. */
unsigned planned_methods(const struct app *app, struct str path);
/* Those of a row. */
unsigned planned_row_methods(const struct planned *row);
