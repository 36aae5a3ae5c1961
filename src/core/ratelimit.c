/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits in memory.  What this file hides: a key is known by its SipHash-128 under a random
 * seed alone, so that a window has one size; one entry holds all three counts of a key (window,
 * weight, requests at once); each shard is a fixed array of entries that are chained into buckets
 * and into one list by last use.  Arrays are calloc'ed whole: pages that were never used cost
 * nothing. */
#include "core/ratelimit.h"

#include <pthread.h>
#include <sodium.h>

#include "base/map.h"

enum { MAX_SHARDS = 64, MIN_PER_SHARD = 256 };
static const int64_t WINDOW = SECONDS(60);
static const int64_t REFILL = SECONDS(600);
static const int64_t MAX_BURST = 1000000000;

struct key128 {
    uint64_t a, b;
};

struct entry {
    struct key128 key;
    int64_t start, used;               /* the window */
    int64_t spent, spent_at;           /* burst: tokens missing, each worth REFILL */
    int64_t weight_start, weight_used; /* the secondary window */
    uint32_t active;                   /* requests at once */
    uint32_t chain;                    /* next of its bucket; numbers are index + 1, 0 ends */
    uint32_t newer, older;             /* list by last use */
};

struct shard {
    pthread_mutex_t lock;
    struct entry *entries;
    uint32_t *buckets;
    uint32_t n, max, mask;
    uint32_t newest, oldest;
} __attribute__((aligned(64)));

struct ratelimit {
    uint8_t seed[16];
    size_t n_shards; /* a power of two */
    struct shard shards[];
};

static uint32_t power_of_two(size_t n)
{
    uint32_t p = 1;

    while (p < n && p < 1u << 30)
        p <<= 1;
    return p;
}

struct ratelimit *ratelimit_new(size_t max_windows)
{
    size_t max = MIN(MAX(max_windows, (size_t)1), (size_t)1 << 26);
    size_t shards = 1;

    while (shards < MAX_SHARDS && max / (shards * 2) >= MIN_PER_SHARD)
        shards *= 2;
    size_t size = sizeof(struct ratelimit) + shards * sizeof(struct shard);
    struct ratelimit *r = aligned_alloc(64, (size + 63) & ~(size_t)63);
    if (!r)
        abort();
    memset(r, 0, size);
    r->n_shards = shards;
    randombytes_buf(r->seed, sizeof(r->seed));
    for (size_t i = 0; i < shards; i++) {
        struct shard *s = &r->shards[i];

        pthread_mutex_init(&s->lock, NULL);
        s->max = (uint32_t)(max / shards);
        s->mask = power_of_two(s->max) - 1;
        s->entries = calloc(s->max, sizeof(*s->entries));
        s->buckets = calloc(s->mask + 1, sizeof(*s->buckets));
        if (!s->entries || !s->buckets)
            abort();
    }
    return r;
}

void ratelimit_free(struct ratelimit *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_shards; i++) {
        pthread_mutex_destroy(&r->shards[i].lock);
        free(r->shards[i].entries);
        free(r->shards[i].buckets);
    }
    free(r);
}

static void list_out(struct shard *s, struct entry *e)
{
    if (e->newer)
        s->entries[e->newer - 1].older = e->older;
    else
        s->newest = e->older;
    if (e->older)
        s->entries[e->older - 1].newer = e->newer;
    else
        s->oldest = e->newer;
}

static void list_in(struct shard *s, struct entry *e, uint32_t number)
{
    e->newer = 0;
    e->older = s->newest;
    if (s->newest)
        s->entries[s->newest - 1].newer = number;
    else
        s->oldest = number;
    s->newest = number;
}

static void bucket_out(struct shard *s, const struct entry *e, uint32_t number)
{
    uint32_t *at = &s->buckets[e->key.b & s->mask];

    while (*at != number)
        at = &s->entries[*at - 1].chain;
    *at = e->chain;
}

/* The entry to give to a new key: a fresh one, or the least recently used one that has no request
 * running (those are put in front instead; when all have one, the oldest goes). */
static uint32_t entry_take(struct shard *s)
{
    if (s->n < s->max)
        return ++s->n;
    for (uint32_t i = 0; i < s->max; i++) {
        uint32_t number = s->oldest;
        struct entry *e = &s->entries[number - 1];

        list_out(s, e);
        if (e->active && i + 1 < s->max) {
            list_in(s, e, number);
            continue;
        }
        bucket_out(s, e, number);
        return number;
    }
    abort();
}

static struct shard *shard_of(struct ratelimit *r, const void *key, size_t n, struct key128 *k)
{
    uint8_t h[16];

    hash_sip128(r->seed, key, n, h);
    memcpy(k, h, sizeof(*k));
    return &r->shards[k->a & (r->n_shards - 1)];
}

/* The key's entry, now the most recently used; made if 'make', else NULL when unknown. */
static struct entry *entry_find(struct shard *s, const struct key128 *k, bool make)
{
    uint32_t *bucket = &s->buckets[k->b & s->mask];

    for (uint32_t i = *bucket; i; i = s->entries[i - 1].chain) {
        struct entry *e = &s->entries[i - 1];

        if (e->key.a != k->a || e->key.b != k->b)
            continue;
        if (s->newest != i) {
            list_out(s, e);
            list_in(s, e, i);
        }
        return e;
    }
    if (!make)
        return NULL;
    uint32_t number = entry_take(s);
    struct entry *e = &s->entries[number - 1];
    *e = (struct entry){ .key = *k, .chain = *bucket };
    *bucket = number;
    list_in(s, e, number);
    return e;
}

/* Starts a window anew when it is over, or when the clock was set back by more than one: threads
 * may come in slightly out of order, and that is no reason. */
static void window_roll(int64_t *start, int64_t *used, int64_t now)
{
    if (*start && now < *start + WINDOW && now > *start - WINDOW)
        return;
    *start = now;
    *used = 0;
}

/* Takes one token of the burst allowance. */
static bool burst_take(struct entry *e, int64_t burst, int64_t now)
{
    if (burst <= 0)
        return false;
    burst = MIN(burst, MAX_BURST);
    int64_t passed = MIN(MAX(now - e->spent_at, (int64_t)0), REFILL);
    int64_t spent = MAX(e->spent - passed * burst, (int64_t)0);
    if (spent > (burst - 1) * REFILL)
        return false;
    e->spent = spent + REFILL;
    e->spent_at = now;
    return true;
}

/* Whole seconds from the second in which 'now' lies to the one at whose beginning 'end' is over. */
static int64_t seconds_until(int64_t end, int64_t now)
{
    int64_t s = (end + SECONDS(1) - 1) / SECONDS(1) - now / SECONDS(1);

    return MAX(s, (int64_t)1);
}

void ratelimit_take(struct ratelimit *r, const void *key, size_t n, int64_t limit, int64_t burst,
                    int64_t now, struct ratelimit_answer *out)
{
    struct key128 k;
    struct shard *s = shard_of(r, key, n, &k);

    pthread_mutex_lock(&s->lock);
    struct entry *e = entry_find(s, &k, true);
    window_roll(&e->start, &e->used, now);
    bool inside = e->used < limit;
    if (inside)
        e->used++;
    bool allowed = inside || burst_take(e, burst, now);
    int64_t used = e->used, start = e->start;
    pthread_mutex_unlock(&s->lock);

    out->allowed = allowed;
    out->limit = limit;
    out->remaining = MAX(limit - used, (int64_t)0);
    out->reset = start + WINDOW;
    out->retry_after = allowed ? 0 : seconds_until(start + WINDOW, now);
}

bool ratelimit_weight(struct ratelimit *r, const void *key, size_t n, int64_t weight, int64_t limit,
                      int64_t now, int64_t *retry_after)
{
    struct key128 k;
    struct shard *s = shard_of(r, key, n, &k);

    pthread_mutex_lock(&s->lock);
    struct entry *e = entry_find(s, &k, true);
    window_roll(&e->weight_start, &e->weight_used, now);
    bool allowed = weight <= 0 || e->weight_used + weight <= limit;
    if (allowed)
        e->weight_used = MAX(e->weight_used + weight, (int64_t)0);
    int64_t end = e->weight_start + WINDOW;
    pthread_mutex_unlock(&s->lock);

    *retry_after = allowed ? 0 : seconds_until(end, now);
    return allowed;
}

bool ratelimit_enter(struct ratelimit *r, const void *key, size_t n, int64_t most)
{
    struct key128 k;
    struct shard *s = shard_of(r, key, n, &k);

    pthread_mutex_lock(&s->lock);
    struct entry *e = entry_find(s, &k, true);
    bool allowed = e->active < most;
    if (allowed)
        e->active++;
    pthread_mutex_unlock(&s->lock);
    return allowed;
}

void ratelimit_leave(struct ratelimit *r, const void *key, size_t n)
{
    struct key128 k;
    struct shard *s = shard_of(r, key, n, &k);

    pthread_mutex_lock(&s->lock);
    struct entry *e = entry_find(s, &k, false);
    if (e && e->active)
        e->active--;
    pthread_mutex_unlock(&s->lock);
}
