/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How much of something a plan has. */

#include "base/base.h"

enum { PLANS = 5 };

/* What a tenant may have of something, by plan in the plans' order: free, starter, standard,
 * professional, enterprise.  Each stands in the folder of the service that counts by it. */
struct quota {
    const char *name; /* "queues": of all services one has it */
    int64_t limit[PLANS];
};
