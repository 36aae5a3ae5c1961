/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The loops of all services: whose rows are due, who visits them, for how long they are leased. */

#include "base/fair.h"
#include "core/service.h"

struct app;

int reconcile_open(struct app *app, struct err *e) _must_check_;  /* sets app->reconcile */
int reconcile_start(struct app *app, struct err *e) _must_check_; /* threads, sweeps */
void reconcile_stop(struct app *app);                             /* joins its threads */
void reconcile_close(struct app *app);
/* Seats, those that are taken, and the rows that are leased beside them. */
void reconcile_counts(struct app *app, struct fair_counts *out);
/* Rows of 'loop' are due at 'at': said once the call that made them so has committed. */
void reconcile_wake(struct app *app, const struct reconciler *loop, const struct uuid *id,
                    int64_t at);
