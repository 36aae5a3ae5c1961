/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Time: wall time for people, monotonic for leases and time-outs.  Tests set theirs by hand. */

#include "base/base.h"

struct clock {
    int64_t (*wall)(struct clock *c); /* Microseconds since 1970-01-01T00:00:00Z. */
    int64_t (*mono)(struct clock *c); /* Microseconds that never step back. */
    _Atomic int64_t offset;           /* Fake clock only: its wall time. */
};

/* The machine's own clock; shared, never freed. */
struct clock *clock_system(void);
/* A clock that stands at 'wall' until clock_advance(). */
struct clock clock_fake(int64_t wall);
void clock_advance(struct clock *c, int64_t by);

static inline int64_t clock_wall(struct clock *c)
{
    return c->wall(c);
}
static inline int64_t clock_mono(struct clock *c)
{
    return c->mono(c);
}
