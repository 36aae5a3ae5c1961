/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Faults on purpose.  FAULT("db.exec") is true when a test asked the n-th passage of that point to
 * fail; it costs one load when no test did. */

#include "base/base.h"

/* From now on the 'nth' (1…) passage of 'point' fails, once; 0 disarms all. */
void fault_arm(const char *point, int nth);
/* Passages of the armed point so far. */
int fault_passages(void);
bool fault_hit(const char *point);
extern _Atomic bool fault_armed;
#define FAULT(point) (__builtin_expect(fault_armed, 0) && fault_hit(point))
