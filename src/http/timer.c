/* SPDX-License-Identifier: Apache-2.0 */
/* Time-outs of connections and timers of the application.  A kind of time-out has one duration, so
 * its list is in order when each newcomer goes to the end: arming costs no more than that.
 * Timers of the application are a heap. */
#include "http/internal.h"

/* ---- connections */

void wait_set(struct conn *c, enum wait wait, int64_t micros)
{
    link_out(&c->waiting);
    c->wait = (uint8_t)wait;
    if (wait == WAIT_NONE)
        return;
    c->deadline = c->io->now + micros;
    link_end(&c->io->waits[wait], &c->waiting);
}

void waits_expire(struct io *io)
{
    for (int kind = 0; kind < WAIT_KINDS; kind++) {
        struct link *list = &io->waits[kind];

        while (list->next != list) {
            struct conn *c = CONTAINER(list->next, struct conn, waiting);
            if (c->deadline > io->now)
                break;
            wait_set(c, WAIT_NONE, 0);
            conn_expired(c, (enum wait)kind);
        }
    }
}

/* ---- the application's */

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->at != b->at ? a->at < b->at : a->turn < b->turn;
}

void timer_add(struct io *io, int64_t at, void (*fn)(void *ctx), void *ctx)
{
    if (io->n_timers == io->cap_timers) {
        io->cap_timers = io->cap_timers ? io->cap_timers * 2 : 64;
        io->timers = realloc(io->timers, io->cap_timers * sizeof(*io->timers));
        if (!io->timers)
            abort();
    }
    struct timer t = { at, io->timer_turn++, fn, ctx };
    size_t i = io->n_timers++;
    for (; i > 0 && earlier(&t, &io->timers[(i - 1) / 2]); i = (i - 1) / 2)
        io->timers[i] = io->timers[(i - 1) / 2];
    io->timers[i] = t;
}

static struct timer timer_pop(struct io *io)
{
    struct timer top = io->timers[0], last = io->timers[--io->n_timers];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < io->n_timers; i = child) {
        if (child + 1 < io->n_timers && earlier(&io->timers[child + 1], &io->timers[child]))
            child++;
        if (!earlier(&io->timers[child], &last))
            break;
        io->timers[i] = io->timers[child];
    }
    io->timers[i] = last;
    return top;
}

/* Those that were there when it began: one that sets itself again at once waits for a round. */
void timers_run(struct io *io)
{
    uint64_t before = io->timer_turn;

    while (io->n_timers && io->timers[0].at <= io->now && io->timers[0].turn < before) {
        struct timer t = timer_pop(io);
        t.fn(t.ctx);
    }
}

void http_timer(struct http_server *s, int io, int64_t at, void (*fn)(void *ctx), void *ctx)
{
    timer_add(&s->ios[io], at, fn, ctx);
}

int timers_next(const struct io *io)
{
    int64_t due = io->n_timers ? io->timers[0].at : INT64_MAX;

    for (int kind = 0; kind < WAIT_KINDS; kind++) {
        const struct link *list = &io->waits[kind];
        if (list->next != list)
            due = MIN(due, CONTAINER(list->next, struct conn, waiting)->deadline);
    }
    if (due == INT64_MAX)
        return -1;
    if (due <= io->now)
        return 0;
    /* Rounded up to the coarse tick, so that nobody is woken a moment too early. */
    int64_t ms = (due - io->now + 999) / 1000;
    return (int)MIN(ms, (int64_t)60000);
}
