/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdatomic.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t system_wall(struct clock *c _unused_)
{
    return read_clock(CLOCK_REALTIME);
}

static int64_t system_mono(struct clock *c _unused_)
{
    return read_clock(CLOCK_BOOTTIME);
}

static int64_t fake_now(struct clock *c)
{
    return atomic_load(&c->offset);
}

struct clock *clock_system(void)
{
    static struct clock c = { .wall = system_wall, .mono = system_mono };

    return &c;
}

struct clock clock_fake(int64_t wall)
{
    return (struct clock){ .wall = fake_now, .mono = fake_now, .offset = wall };
}

void clock_advance(struct clock *c, int64_t by)
{
    atomic_fetch_add(&c->offset, by);
}
