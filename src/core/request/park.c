/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait: for a topic, for a time, or until their peer leaves.  They hold no thread. Hides
 * how a signal that comes between a handler's reading and its parking is not lost: each signal has
 * a number, and who read before the last one of its topic runs again at once. */
#include "core/request/request.h"

enum { TOPICS = 1024 };

struct park {
    struct app *app;
    pthread_mutex_t lock;
    size_t n;
    _Atomic uint64_t signals;
    int64_t soonest;       /* no later than the first time that one of them waits for */
    uint64_t last[TOPICS]; /* number of the last signal of topics that fall here */
    struct call_private *waiting[TOPICS];
};

static size_t topic_slot(const char *topic)
{
    uint64_t h = 1469598103934665603u;

    for (; *topic; topic++)
        h = (h ^ (unsigned char)*topic) * 1099511628211u;
    return h % TOPICS;
}

struct park *park_new(struct app *app)
{
    struct park *k = calloc(1, sizeof(*k));

    if (!k)
        abort();
    k->app = app;
    k->soonest = INT64_MAX;
    pthread_mutex_init(&k->lock, NULL);
    return k;
}

void park_free(struct park *k)
{
    if (!k)
        return;
    pthread_mutex_destroy(&k->lock);
    free(k);
}

uint64_t park_seen(struct park *k)
{
    return atomic_load(&k->signals);
}

size_t park_count(struct park *k)
{
    pthread_mutex_lock(&k->lock);
    size_t n = k->n;
    pthread_mutex_unlock(&k->lock);
    return n;
}

/* When it runs at the latest. */
static int64_t time_of(const struct call_private *p)
{
    return MIN(p->park.again, p->park.until);
}

static void unlink_call(struct park *k, size_t slot, struct call_private *p)
{
    if (p->park.prev)
        p->park.prev->park.next = p->park.next;
    else
        k->waiting[slot] = p->park.next;
    if (p->park.next)
        p->park.next->park.prev = p->park.prev;
    p->park.next = p->park.prev = NULL;
    p->park.in_park = false;
    k->n--;
}

bool park_add(struct park *k, struct call_private *p)
{
    size_t slot = topic_slot(p->park.topic);

    pthread_mutex_lock(&k->lock);
    if (p->park.leaving)
        p->park.until = MIN(p->park.until, clock_wall(k->app->clock));
    bool stays = time_of(p) > p->c.now && !p->park.leaving && !p->park.poked &&
                 !atomic_load(&p->live.look_again) && k->last[slot] <= p->park.seen;
    if (stays) {
        p->park.prev = NULL;
        p->park.next = k->waiting[slot];
        if (p->park.next)
            p->park.next->park.prev = p;
        k->waiting[slot] = p;
        k->soonest = MIN(k->soonest, time_of(p));
        p->park.in_park = true;
    }
    bool first = stays && k->n++ == 0;
    pthread_mutex_unlock(&k->lock);
    if (first) { /* the ticker slept long */
        pthread_mutex_lock(&k->app->tick_lock);
        pthread_cond_signal(&k->app->tick_cond);
        pthread_mutex_unlock(&k->app->tick_lock);
    }
    return stays;
}

/* Runs a chain that nobody else can see any more. */
static void run_chain(struct call_private *p)
{
    while (p) {
        struct call_private *next = p->park.next;

        p->park.next = NULL;
        dispatch_run(p);
        p = next;
    }
}

uint64_t park_last(struct park *k, const char *topic)
{
    pthread_mutex_lock(&k->lock);
    uint64_t n = k->last[topic_slot(topic)];
    pthread_mutex_unlock(&k->lock);
    return n;
}

void park_signal(struct park *k, const char *topic)
{
    size_t slot = topic_slot(topic);
    struct call_private *woken = NULL;

    pthread_mutex_lock(&k->lock);
    k->last[slot] = atomic_fetch_add(&k->signals, 1) + 1;
    for (struct call_private *p = k->waiting[slot], *next; p; p = next) {
        next = p->park.next;
        if (strcmp(p->park.topic, topic) != 0)
            continue;
        unlink_call(k, slot, p);
        p->park.next = woken;
        woken = p;
    }
    pthread_mutex_unlock(&k->lock);
    run_chain(woken);
}

/* The peer has gone or the server drains: it runs for the last time, now. */
void park_leave(struct park *k, struct call_private *p)
{
    pthread_mutex_lock(&k->lock);
    bool here = p->park.in_park;
    p->park.leaving = true;
    if (here) {
        p->park.until = MIN(p->park.until, clock_wall(k->app->clock));
        unlink_call(k, topic_slot(p->park.topic), p);
    }
    pthread_mutex_unlock(&k->lock);
    if (here)
        dispatch_run(p);
}

void park_poke(struct park *k, struct call_private *p)
{
    pthread_mutex_lock(&k->lock);
    bool here = p->park.in_park;
    p->park.poked = true;
    if (here)
        unlink_call(k, topic_slot(p->park.topic), p);
    pthread_mutex_unlock(&k->lock);
    if (here)
        dispatch_run(p);
}

void park_begin(struct park *k, struct call_private *p)
{
    pthread_mutex_lock(&k->lock);
    p->park.poked = false;
    pthread_mutex_unlock(&k->lock);
}

/* Takes out and runs those that 'which' is true of. */
static void run_those(struct park *k, bool (*which)(struct call_private *p, int64_t now),
                      int64_t now)
{
    struct call_private *woken = NULL;

    pthread_mutex_lock(&k->lock);
    for (size_t slot = 0; slot < TOPICS && k->n; slot++)
        for (struct call_private *p = k->waiting[slot], *next; p; p = next) {
            next = p->park.next;
            if (!which(p, now)) {
                k->soonest = MIN(k->soonest, time_of(p));
                continue;
            }
            unlink_call(k, slot, p);
            p->park.next = woken;
            woken = p;
        }
    pthread_mutex_unlock(&k->lock);
    run_chain(woken);
}

static bool looks_again(struct call_private *p, int64_t now _unused_)
{
    return atomic_load(&p->live.look_again);
}

void park_wake(struct park *k)
{
    run_those(k, looks_again, 0);
}

static bool is_due(struct call_private *p, int64_t now)
{
    return time_of(p) <= now;
}

static bool at_last(struct call_private *p, int64_t now)
{
    p->park.until = MIN(p->park.until, now);
    return true;
}

void park_tick(struct park *k, bool all)
{
    int64_t now = clock_wall(k->app->clock);

    pthread_mutex_lock(&k->lock);
    bool due = all || now >= k->soonest;
    if (due)
        k->soonest = INT64_MAX;
    pthread_mutex_unlock(&k->lock);
    if (due)
        run_those(k, all ? at_last : is_due, now);
}
