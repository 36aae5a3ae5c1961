/* SPDX-License-Identifier: Apache-2.0 */
/* Cache of rendered objects.  What this file hides: the shard and the bucket come from record and
 * id alone, so that one drop finds every surface's entry under one lock; a bucket remembers the
 * highest commit that dropped something in it, and a row read before that commit is not taken in
 * (a neighbour in the same bucket may be refused too: it is put at the next miss). */
#include "core/rows/rowcache.h"

#include <pthread.h>
#include <sodium.h>

#include "base/pages.h"

enum { SHARDS = 16, MIN_BUCKETS = 16, BYTES_PER_BUCKET = 1024 };

struct item {
    struct item *chain;
    struct item *newer, *older;
    const struct record *record;
    int surface;
    struct uuid id;
    struct rowcache_entry entry; /* its body stands behind the item */
};

struct bucket {
    struct item *first;
    uint64_t dropped; /* rows read before this many commits are not taken */
};

struct shard {
    pthread_mutex_t lock;
    struct bucket *buckets;
    struct item *newest, *oldest;
    size_t bytes, max_bytes;
} __attribute__((aligned(64)));

struct rowcache {
    uint64_t seed[4];
    size_t mask; /* buckets of a shard, less one */
    struct shard shards[SHARDS];
};

struct rowcache *rowcache_new(size_t max_bytes)
{
    struct rowcache *c = aligned_alloc(64, (sizeof(*c) + 63) & ~(size_t)63);
    size_t buckets = MIN_BUCKETS;

    if (!c)
        abort();
    memset(c, 0, sizeof(*c));
    randombytes_buf(c->seed, sizeof(c->seed));
    while (buckets * SHARDS * BYTES_PER_BUCKET < max_bytes && buckets < 1u << 20)
        buckets *= 2;
    c->mask = buckets - 1;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        pthread_mutex_init(&s->lock, NULL);
        s->max_bytes = max_bytes / SHARDS;
        s->buckets = pages_new(buckets, sizeof(*s->buckets));
    }
    return c;
}

void rowcache_free(struct rowcache *c)
{
    if (!c)
        return;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        for (struct item *it = s->newest, *next; it; it = next) {
            next = it->older;
            free(it);
        }
        pages_free(s->buckets, c->mask + 1, sizeof(*s->buckets));
        pthread_mutex_destroy(&s->lock);
    }
    free(c);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;

    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* Only ids that the server gave are ever put, so a seeded multiplicative hash will do. */
static uint64_t hash_of(const struct rowcache *c, const struct record *r, const struct uuid *id)
{
    uint64_t w[5] = { 0 };

    memcpy(w, id->s, 36);
    uint64_t h = mix(w[0] ^ c->seed[0], w[1] ^ c->seed[1]);
    h ^= mix(w[2] ^ c->seed[2], w[3] ^ c->seed[3]);
    return mix(h ^ w[4] ^ (uint64_t)(uintptr_t)r, c->seed[1] | 1);
}

static struct bucket *bucket_of(struct rowcache *c, const struct record *r, const struct uuid *id,
                                struct shard **s)
{
    uint64_t h = hash_of(c, r, id);

    *s = &c->shards[h >> 60];
    return &(*s)->buckets[h & c->mask];
}

static void list_out(struct shard *s, struct item *it)
{
    if (it->newer)
        it->newer->older = it->older;
    else
        s->newest = it->older;
    if (it->older)
        it->older->newer = it->newer;
    else
        s->oldest = it->newer;
}

static void list_in(struct shard *s, struct item *it)
{
    it->newer = NULL;
    it->older = s->newest;
    if (s->newest)
        s->newest->newer = it;
    else
        s->oldest = it;
    s->newest = it;
}

static size_t item_size(size_t body)
{
    return sizeof(struct item) + body + 1;
}

/* Takes '*at' out of its chain and the list, and frees it. */
static void item_remove(struct shard *s, struct item **at)
{
    struct item *it = *at;

    *at = it->chain;
    list_out(s, it);
    s->bytes -= item_size(it->entry.body.n);
    free(it);
}

static bool same(const struct item *it, const struct record *r, const struct uuid *id)
{
    return it->record == r && memcmp(it->id.s, id->s, 36) == 0;
}

bool rowcache_get(struct rowcache *c, struct arena *a, const struct record *r,
                  const struct uuid *id, int surface, struct rowcache_entry *out)
{
    struct shard *s;
    struct bucket *b = bucket_of(c, r, id, &s);

    pthread_mutex_lock(&s->lock);
    struct item *it = b->first;
    while (it && !(it->surface == surface && same(it, r, id)))
        it = it->chain;
    if (it) {
        *out = it->entry;
        out->body.p = arena_dup(a, it->entry.body.p, it->entry.body.n);
        if (s->newest != it) {
            list_out(s, it);
            list_in(s, it);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return it != NULL;
}

/* Frees the least recently used items until 'size' more bytes fit. */
static void make_room(struct rowcache *c, struct shard *s, size_t size)
{
    while (s->oldest && s->bytes + size > s->max_bytes) {
        struct item *it = s->oldest;
        struct shard *own;
        struct item **at = &bucket_of(c, it->record, &it->id, &own)->first;

        while (*at != it)
            at = &(*at)->chain;
        item_remove(s, at);
    }
}

void rowcache_put(struct rowcache *c, const struct record *r, const struct uuid *id, int surface,
                  uint64_t commits, const struct rowcache_entry *e)
{
    struct shard *s;
    struct bucket *b = bucket_of(c, r, id, &s);
    size_t size = item_size(e->body.n);

    if (size > s->max_bytes)
        return;
    struct item *it = malloc(size);
    if (!it)
        abort();
    *it = (struct item){ .record = r, .surface = surface, .id = *id, .entry = *e };
    char *body = (char *)(it + 1);
    if (e->body.n)
        memcpy(body, e->body.p, e->body.n);
    body[e->body.n] = '\0';
    it->entry.body.p = body;

    pthread_mutex_lock(&s->lock);
    if (commits < b->dropped) {
        pthread_mutex_unlock(&s->lock);
        free(it);
        return;
    }
    for (struct item **at = &b->first; *at; at = &(*at)->chain)
        if ((*at)->surface == surface && same(*at, r, id)) {
            item_remove(s, at);
            break;
        }
    make_room(c, s, size);
    it->chain = b->first;
    b->first = it;
    list_in(s, it);
    s->bytes += size;
    pthread_mutex_unlock(&s->lock);
}

void rowcache_drop(struct rowcache *c, const struct record *r, const struct uuid *id,
                   uint64_t commits)
{
    struct shard *s;
    struct bucket *b = bucket_of(c, r, id, &s);

    pthread_mutex_lock(&s->lock);
    b->dropped = MAX(b->dropped, commits);
    for (struct item **at = &b->first; *at;)
        if (same(*at, r, id))
            item_remove(s, at);
        else
            at = &(*at)->chain;
    pthread_mutex_unlock(&s->lock);
}
