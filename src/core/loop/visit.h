/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One visit of one row under a lease; reconcile.c decides when and where. */

#include "base/metric.h"
#include "core/loop/due.h"
#include "core/service.h"

struct visit_counts {
    struct metric_cell *_Atomic cells[4];
};
/* Visits the row f->id (again at once while the visit asks for that, a bounded number of times) and
 * fills how its lease ends: .end, .at, .attempts (in: failures in a row so far). */
void visit_row(struct app *app, struct db *db, const struct reconciler *r, struct visit_counts *c,
               struct due_finish *f);
