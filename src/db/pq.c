/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that opens libpq. */
#define PQ_ENGINE
#include "db/postgres.h"

ENGINE_DEFINE(pq, "libpq.so.5", PQ_FUNCTIONS);
