/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "core/loop/consumer.h"

/* Consumers of events: those whose .types fit, each to .handle. */
extern const struct consumer_kind happen_kind;
/* "*" fits all, "queue.*" what begins so, else the type itself. */
bool happen_fits(const char *const *types, struct str type);
