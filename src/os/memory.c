/* SPDX-License-Identifier: Apache-2.0 */
/* The C library keeps pages between what is in use for good; a burst of connections or starts would
 * be paid for until the process ends. */
#include "os/memory.h"

#include <malloc.h>

#include "base/base.h"
#include "base/clock.h"

enum { WORTH = 512 << 10 };

void memory_settle(void)
{
    static int64_t last;
    static size_t left; /* free in the heap after the last time */
    int64_t now = clock_mono(clock_system());

    if (now - last < SECONDS(1))
        return;
    size_t idle = mallinfo2().fordblks;
    size_t change = idle > left ? idle - left : left - idle;
    /* Pages that were used anew between two looks do not show in the sum. */
    if (change < WORTH && now - last < SECONDS(30))
        return;
    malloc_trim(0);
    last = now;
    left = mallinfo2().fordblks;
}
