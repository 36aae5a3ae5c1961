/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the tenants share of this process, each with a bound of his own (contracts 10; kinds and
 * bounds: core/config/config.h).  A share that is threads belongs to a pool, which counts it; all
 * others are counted here.  Who has all of his own is refused with 429, who finds only what is kept
 * for others with 503: nobody waits behind a stranger. */

#include "base/fair.h"
#include "base/metric.h"
#include "core/config/config.h"

struct shares;
/* 'c' gives the bounds in all. */
struct shares *shares_new(const struct config *c);
void shares_free(struct shares *s);

/* Takes 'n' of 'kind' for a flow whose own bound is 'most' (0: none). */
enum fair_result shares_take(struct shares *s, enum share_kind kind, const struct flow *flow,
                             int64_t n);
void shares_give(struct shares *s, enum share_kind kind, uint64_t key, int64_t n);
void shares_counts(struct shares *s, enum share_kind kind, struct fair_counts *out);
/* What is said of a refusal: 429 or 503 with *retry_after in seconds.  Returns -1. */
int shares_refuse(enum share_kind kind, enum fair_result why, int64_t most, int64_t *retry_after,
                  struct err *e);
