/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One append-only row for each request that changed something: its audit record, its events and its
 * idempotency record commit with its effect. */

#include "core/request/idempotency.h"

enum outcome { OUTCOME_NONE, OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_DENIED };
/* One row: audit (unless NONE), events so far, and the idempotency record if the call is keyed. */
int journal_write(struct call_private *p, struct db *db, enum outcome outcome, enum idem_step step,
                  struct err *e) _must_check_;
void journal_sweep(struct app *app);
