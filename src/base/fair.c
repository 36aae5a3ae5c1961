/* SPDX-License-Identifier: Apache-2.0 */
/* Flows stand in a hash table, and those that wait in a ring as well.  Hides that a flow which
 * neither holds nor waits is kept for a while, so that one that comes and goes with each request
 * costs no memory being given out. */
#include "base/fair.h"

#include <pthread.h>
#include <sys/random.h>

#include "base/map.h"

enum { BUCKETS = 256, IDLE_KEPT = 1024, RESERVE = 4 };

struct member {
    struct member *chain;       /* of its bucket */
    struct member *next, *prev; /* in the ring, while it waits */
    struct flow flow;
    int64_t used, waiting;
    int credit; /* turns left before the next flow has its own */
    struct fair_job *first, *last;
};

struct fair {
    int64_t seats, used, places, waiting, held_back;
    size_t members, busy; /* busy: hold or wait */
    struct member *ring;  /* whose turn it is */
    struct member *bucket[BUCKETS];
};

static uint8_t seed[16];
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    if (getrandom(seed, sizeof(seed), 0) != sizeof(seed))
        abort();
}

uint64_t flow_key(const void *name, size_t n)
{
    pthread_once(&seeded, make_seed);
    uint64_t key = hash_sip64(seed, name, n);
    return key == FLOW_SYSTEM ? 1 : key;
}

struct fair *fair_new(int64_t seats, int64_t places)
{
    struct fair *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->seats = seats;
    f->places = places;
    return f;
}

void fair_free(struct fair *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct member *m = f->bucket[i], *next; m; m = next) {
            next = m->chain;
            free(m);
        }
    free(f);
}

/* ---- members */

static struct member *find(const struct fair *f, uint64_t key)
{
    struct member *m = f->bucket[key % BUCKETS];

    while (m && m->flow.key != key)
        m = m->chain;
    return m;
}

static struct member *find_or_make(struct fair *f, const struct flow *flow)
{
    struct member *m = find(f, flow->key);

    if (!m) {
        struct member **bucket = &f->bucket[flow->key % BUCKETS];

        if (!(m = calloc(1, sizeof(*m))))
            abort();
        m->chain = *bucket;
        *bucket = m;
        f->members++;
    }
    m->flow = *flow;
    return m;
}

static bool idle(const struct member *m)
{
    return !m->used && !m->waiting;
}

/* It held and waited for nothing before. */
static void awake(struct fair *f, const struct member *m)
{
    f->busy += idle(m);
}

static void settle(struct fair *f, struct member *m)
{
    if (!idle(m))
        return;
    f->busy--;
    if (f->members <= IDLE_KEPT)
        return;
    struct member **at = &f->bucket[m->flow.key % BUCKETS];
    while (*at != m)
        at = &(*at)->chain;
    *at = m->chain;
    f->members--;
    free(m);
}

bool fair_room(int64_t mine, int64_t n, int64_t all, int64_t used)
{
    return n <= all - used - (mine > 0 ? mine + all / RESERVE : 0);
}

static enum fair_result room(const struct flow *flow, int64_t most, int64_t mine, int64_t n,
                             int64_t all, int64_t used)
{
    if (flow->key == FLOW_SYSTEM)
        return n > all - used ? FAIR_FULL : FAIR_OK;
    if (most > 0 && mine + n > most)
        return FAIR_OWN;
    return fair_room(mine, n, all, used) ? FAIR_OK : FAIR_FULL;
}

static enum fair_result seat(const struct fair *f, const struct member *m, int64_t n)
{
    if (!f->seats)
        return FAIR_OK;
    return room(&m->flow, m->flow.seats, m->used, n, f->seats, f->used);
}

/* ---- seats */

enum fair_result fair_take(struct fair *f, const struct flow *flow, int64_t n)
{
    struct member *m = find_or_make(f, flow);
    enum fair_result got = seat(f, m, n);

    awake(f, m);
    if (got == FAIR_OK) {
        m->used += n;
        f->used += n;
    } else {
        f->held_back++;
    }
    settle(f, m);
    return got;
}

void fair_give(struct fair *f, uint64_t key, int64_t n)
{
    struct member *m = find(f, key);

    if (!n)
        return;
    if (!m || m->used < n)
        abort(); /* given back twice */
    m->used -= n;
    f->used -= n;
    settle(f, m);
}

/* ---- turns */

static void ring_in(struct fair *f, struct member *m)
{
    m->credit = MAX(m->flow.weight, 1);
    if (!f->ring) {
        m->next = m->prev = m;
        f->ring = m;
        return;
    }
    /* The last whose turn it is. */
    m->next = f->ring;
    m->prev = f->ring->prev;
    m->prev->next = m;
    m->next->prev = m;
}

static void ring_out(struct fair *f, struct member *m)
{
    if (f->ring == m)
        f->ring = m->next == m ? NULL : m->next;
    m->next->prev = m->prev;
    m->prev->next = m->next;
    m->next = m->prev = NULL;
}

enum fair_result fair_wait(struct fair *f, struct fair_job *job)
{
    struct member *m = find_or_make(f, &job->flow);
    enum fair_result got = room(&m->flow, m->flow.places, m->waiting, 1, f->places, f->waiting);

    if (got != FAIR_OK) {
        f->held_back++;
        awake(f, m);
        settle(f, m);
        return got;
    }
    awake(f, m);
    job->next = NULL;
    if (m->last)
        m->last->next = job;
    else
        m->first = job;
    m->last = job;
    if (m->waiting++ == 0)
        ring_in(f, m);
    f->waiting++;
    return FAIR_OK;
}

bool fair_drop(struct fair *f, struct fair_job *job)
{
    struct member *m = find(f, job->flow.key);
    struct fair_job *before = NULL, *at = m ? m->first : NULL;

    for (; at && at != job; at = at->next)
        before = at;
    if (!at)
        return false;
    if (before)
        before->next = job->next;
    else
        m->first = job->next;
    if (m->last == job)
        m->last = before;
    f->waiting--;
    if (--m->waiting == 0)
        ring_out(f, m);
    settle(f, m);
    return true;
}

/* The next whose turn it is and who may take a seat.  Those before it hold some already, so they
 * are no more than there are seats. */
static struct member *turn(const struct fair *f)
{
    struct member *m = f->ring;

    if (!m || (f->seats && f->used >= f->seats))
        return NULL;
    do {
        if (seat(f, m, 1) == FAIR_OK)
            return m;
        m = m->next;
    } while (m != f->ring);
    return NULL;
}

bool fair_ready(const struct fair *f)
{
    return turn(f) != NULL;
}

struct fair_job *fair_next(struct fair *f)
{
    struct member *m = turn(f);

    if (!m)
        return NULL;
    struct fair_job *job = m->first;
    m->first = job->next;
    if (!m->first)
        m->last = NULL;
    f->waiting--;
    if (f->seats) {
        m->used++;
        f->used++;
    }
    if (--m->waiting == 0) {
        ring_out(f, m);
    } else if (--m->credit <= 0) {
        m->credit = MAX(m->flow.weight, 1);
        if (f->ring == m)
            f->ring = m->next;
        else {
            ring_out(f, m);
            ring_in(f, m);
        }
    }
    settle(f, m);
    return job;
}

/* ---- figures */

void fair_counts(const struct fair *f, struct fair_counts *out)
{
    *out = (struct fair_counts){
        .seats = f->seats,
        .used = f->used,
        .waiting = f->waiting,
        .held_back = f->held_back,
        .flows = (int64_t)f->busy,
    };
}

int64_t fair_held(const struct fair *f, uint64_t key)
{
    const struct member *m = find(f, key);

    return m ? m->used : 0;
}
