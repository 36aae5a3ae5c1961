/* SPDX-License-Identifier: Apache-2.0 */
/* Rate limits in memory.  What this file hides: a key is known by its SipHash-128 under a random
 * seed alone, so that a window has one size; one entry holds all three counts of a key (window,
 * weight, requests at once); each shard is a fixed array of entries that are chained into buckets
 * and into one list by last use.  Arrays are calloc'ed whole: pages that were never used cost
 * nothing.  In the file each entry has one place, with a checksum of its own: what a process that
 * was killed has written in part only is not taken up.  What changed since the last writing stands
 * at the front of the lists, so that a writing costs what has changed. */
#include "core/limit/ratelimit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/map.h"
#include "base/pages.h"

enum { MAX_SHARDS = 64, MIN_PER_SHARD = 256, FORM = 1 };
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
    uint32_t round;                    /* the shard's when it was last used */
};

/* What is kept of an entry. */
struct kept {
    struct key128 key;
    int64_t start, used, spent, spent_at, weight_start, weight_used;
    uint64_t sum; /* of all before it, under the seed */
};

struct kept_head {
    char magic[8];
    uint32_t form, n; /* n: places */
    uint8_t seed[16]; /* hash of the magic under it, not itself */
    uint8_t rest[32];
};

struct shard {
    pthread_mutex_t lock;
    struct entry *entries;
    uint32_t *buckets;
    uint32_t n, max, mask;
    uint32_t newest, oldest;
    uint32_t round; /* of writings */
} __attribute__((aligned(64)));

struct ratelimit {
    uint8_t seed[16];
    size_t n_shards;         /* a power of two */
    int file;                /* -1: nothing is kept */
    struct kept_head *head;  /* the file, mapped; its places follow */
    struct kept *changed;    /* room for a shard's */
    uint32_t *changed_place; /* of each of them */
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
    r->file = -1;
    randombytes_buf(r->seed, sizeof(r->seed));
    for (size_t i = 0; i < shards; i++) {
        struct shard *s = &r->shards[i];

        pthread_mutex_init(&s->lock, NULL);
        s->max = (uint32_t)(max / shards);
        s->mask = power_of_two(s->max) - 1;
        s->entries = pages_new(s->max, sizeof(*s->entries));
        s->buckets = pages_new(s->mask + 1, sizeof(*s->buckets));
    }
    return r;
}

static size_t kept_size(const struct ratelimit *r)
{
    return sizeof(struct kept_head) + r->n_shards * r->shards[0].max * sizeof(struct kept);
}

void ratelimit_free(struct ratelimit *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_shards; i++) {
        pthread_mutex_destroy(&r->shards[i].lock);
        pages_free(r->shards[i].entries, r->shards[i].max, sizeof(*r->shards[i].entries));
        pages_free(r->shards[i].buckets, r->shards[i].mask + 1, sizeof(*r->shards[i].buckets));
    }
    if (r->head)
        munmap(r->head, kept_size(r));
    if (r->file >= 0)
        close(r->file);
    free(r->changed);
    free(r->changed_place);
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
        e->round = s->round;
        return e;
    }
    if (!make)
        return NULL;
    uint32_t number = entry_take(s);
    struct entry *e = &s->entries[number - 1];
    *e = (struct entry){ .key = *k, .chain = *bucket, .round = s->round };
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

/* ---- the file */

static uint64_t kept_sum(const struct ratelimit *r, const struct kept *k)
{
    uint8_t h[16];
    uint64_t sum;

    hash_sip128(r->seed, k, offsetof(struct kept, sum), h);
    memcpy(&sum, h, sizeof(sum));
    return sum;
}

static struct kept kept_of(const struct ratelimit *r, const struct entry *e)
{
    struct kept k = { .key = e->key,
                      .start = e->start,
                      .used = e->used,
                      .spent = e->spent,
                      .spent_at = e->spent_at,
                      .weight_start = e->weight_start,
                      .weight_used = e->weight_used };

    k.sum = kept_sum(r, &k);
    return k;
}

static void save_shard(struct ratelimit *r, size_t which)
{
    struct shard *s = &r->shards[which];
    struct kept *places = (struct kept *)(void *)(r->head + 1) + which * s->max;
    size_t n = 0;

    /* The file may be on a disk that makes one wait: not under the lock. */
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = s->newest; i && s->entries[i - 1].round == s->round;
         i = s->entries[i - 1].older) {
        r->changed_place[n] = i - 1;
        r->changed[n++] = kept_of(r, &s->entries[i - 1]);
    }
    s->round++;
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < n; i++)
        places[r->changed_place[i]] = r->changed[i];
}

void ratelimit_save(struct ratelimit *r)
{
    for (size_t i = 0; r->head && i < r->n_shards; i++)
        save_shard(r, i);
}

/* Whether it still limits anything. */
static bool kept_counts(const struct kept *k, int64_t now)
{
    return (k->used > 0 && now < k->start + WINDOW && now > k->start - WINDOW) ||
           (k->weight_used > 0 && now < k->weight_start + WINDOW &&
            now > k->weight_start - WINDOW) ||
           (k->spent > 0 && now < k->spent_at + REFILL);
}

/* Takes up all, each at a place that is not behind its old one: so that one may be killed here too,
 * and the next finds everything once or twice. */
static void load(struct ratelimit *r, int64_t now)
{
    struct kept *places = (struct kept *)(void *)(r->head + 1);
    size_t n = r->n_shards * r->shards[0].max;

    for (size_t i = 0; i < n; i++) {
        struct kept k = places[i];
        struct shard *s = &r->shards[k.key.a & (r->n_shards - 1)];

        if (!k.sum || k.sum != kept_sum(r, &k) || !kept_counts(&k, now))
            continue;
        struct entry *e = entry_find(s, &k.key, true);
        if (e->start > k.start || (e->start == k.start && e->used > k.used))
            continue;
        e->start = k.start;
        e->used = k.used;
        e->spent = k.spent;
        e->spent_at = k.spent_at;
        e->weight_start = k.weight_start;
        e->weight_used = k.weight_used;
    }
    for (size_t i = 0; i < r->n_shards; i++) {
        struct shard *s = &r->shards[i];
        struct kept *own = places + i * s->max;

        for (uint32_t at = 0; at < s->n; at++)
            own[at] = kept_of(r, &s->entries[at]);
        for (uint32_t at = s->n; at < s->max; at++)
            if (own[at].sum)
                own[at].sum = 0;
    }
}

static struct kept_head head_of(const struct ratelimit *r)
{
    struct kept_head h = { .magic = "brumerl", .form = FORM };

    h.n = (uint32_t)(r->n_shards * r->shards[0].max);
    hash_sip128(r->seed, h.magic, sizeof(h.magic), h.seed);
    return h;
}

static int keep_open(struct ratelimit *r, const char *path, struct err *e)
{
    size_t size = kept_size(r);
    struct stat st;

    r->file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->file < 0 || fstat(r->file, &st) < 0)
        return err_sys(e, errno, "open %s", path);
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
        return err_set(e, ERR_INVALID, "%s must be a file that its owner alone may read", path);
    if (flock(r->file, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, ERR_INVALID_STATE, "another process keeps its limits in %s", path);
    if (st.st_size != (off_t)size && ftruncate(r->file, 0) < 0)
        return err_sys(e, errno, "truncate %s", path);
    /* A mapping without a place behind it is a SIGBUS on the day the disk is full. */
    int rc = posix_fallocate(r->file, 0, (off_t)size);
    if (rc != 0)
        return err_sys(e, rc, "make room for %s", path);
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->file, 0);
    if (at == MAP_FAILED)
        return err_sys(e, errno, "map %s", path);
    r->head = at;
    return 0;
}

int ratelimit_keep(struct ratelimit *r, const char *path, const uint8_t *secret, int64_t now,
                   struct err *e)
{
    size_t max = r->shards[0].max;

    memcpy(r->seed, secret, sizeof(r->seed));
    if (keep_open(r, path, e) < 0) {
        if (r->file >= 0)
            close(r->file);
        r->file = -1;
        return -1;
    }
    r->changed = calloc(max, sizeof(*r->changed));
    r->changed_place = calloc(max, sizeof(*r->changed_place));
    if (!r->changed || !r->changed_place)
        abort();
    struct kept_head want = head_of(r);
    if (memcmp(r->head, &want, sizeof(want)) == 0) {
        load(r, now);
    } else {
        memset(r->head, 0, kept_size(r));
        *r->head = want;
    }
    /* The file keeps all of it; this process maps again what it writes to. */
    madvise(r->head, kept_size(r), MADV_DONTNEED);
    return 0;
}
