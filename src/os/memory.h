/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Gives back to the system what the heap no longer uses, at most once a second and when that is
 * worth it.  To be called now and then by one thread that looks after things. */
void memory_settle(void);
