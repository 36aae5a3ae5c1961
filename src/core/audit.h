/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Handlers of the audit's routes, and their records. */

#include "core/service.h"

extern const struct record audit_record, audit_query_record;
extern const struct record audit_proof_record, audit_verify_query_record;
int audit_list(struct call *c, struct err *e);
int audit_verify(struct call *c, struct err *e);
