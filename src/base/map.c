/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing.  A removed entry leaves a mark, never moves another, so that
 * an iteration may remove what it stands on; marks go when the table is laid out anew. */
#include "base/map.h"

#include <sys/random.h>

struct slot {
    uint64_t hash;
    void *key; /* NULL: never used; 'gone': removed */
    size_t n;
    void *value;
};

struct map {
    uint8_t seed[16];
    struct slot *slots;
    size_t cap;  /* power of two */
    size_t live; /* entries */
    size_t used; /* entries and marks */
};

static char gone_mark;
#define GONE ((void *)&gone_mark)

/* ---- SipHash (Aumasson, Bernstein) */

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v1 = ROTL(s->v1, 13) ^ s->v0;
    s->v0 = ROTL(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = ROTL(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = ROTL(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = ROTL(s->v1, 17) ^ s->v2;
    s->v2 = ROTL(s->v2, 32);
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return v; /* little-endian machines only, as Linux on x86-64 and arm64 is */
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "SipHash reads little-endian words");

static uint64_t sip_end(struct sip *s, uint64_t mark)
{
    if (mark == 0xdd)
        s->v1 ^= mark;
    else
        s->v2 ^= mark;
    for (int i = 0; i < 4; i++)
        sip_round(s);
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static struct sip sip_absorb(const uint8_t key[16], const uint8_t *p, size_t n, bool wide)
{
    uint64_t k0 = load64(key), k1 = load64(key + 8);
    struct sip s = { k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u,
                     k1 ^ 0x7465646279746573u };
    uint64_t m = 0;
    size_t whole = n & ~(size_t)7;

    if (wide)
        s.v1 ^= 0xee;
    for (size_t i = 0; i < whole; i += 8) {
        m = load64(p + i);
        s.v3 ^= m;
        sip_round(&s);
        sip_round(&s);
        s.v0 ^= m;
    }
    m = (uint64_t)n << 56;
    for (size_t i = whole; i < n; i++)
        m |= (uint64_t)p[i] << (8 * (i - whole));
    s.v3 ^= m;
    sip_round(&s);
    sip_round(&s);
    s.v0 ^= m;
    return s;
}

uint64_t hash_sip64(const uint8_t key[16], const void *p, size_t n)
{
    struct sip s = sip_absorb(key, p, n, false);

    return sip_end(&s, 0xff);
}

void hash_sip128(const uint8_t key[16], const void *p, size_t n, uint8_t out[16])
{
    struct sip s = sip_absorb(key, p, n, true);
    uint64_t first = sip_end(&s, 0xee), second = sip_end(&s, 0xdd);

    memcpy(out, &first, 8);
    memcpy(out + 8, &second, 8);
}

/* ---- the map */

struct map *map_new(void)
{
    struct map *m = calloc(1, sizeof(*m));

    if (!m || getrandom(m->seed, sizeof(m->seed), 0) != (ssize_t)sizeof(m->seed))
        abort();
    return m;
}

void map_free(struct map *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key != GONE)
            free(m->slots[i].key);
    free(m->slots);
    free(m);
}

static struct slot *find(const struct map *m, uint64_t hash, const void *key, size_t n)
{
    if (!m->cap)
        return NULL;
    for (size_t i = (size_t)hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct slot *s = &m->slots[i];

        if (!s->key)
            return NULL;
        if (s->key != GONE && s->hash == hash && s->n == n && (!n || memcmp(s->key, key, n) == 0))
            return s;
    }
}

static void lay_out(struct map *m)
{
    size_t cap = 16;

    while (cap < (m->live + 1) * 2)
        cap *= 2;
    struct slot *slots = calloc(cap, sizeof(*slots));
    if (!slots)
        abort();
    for (size_t i = 0; i < m->cap; i++) {
        const struct slot *s = &m->slots[i];

        if (!s->key || s->key == GONE)
            continue;
        size_t at = (size_t)s->hash & (cap - 1);
        while (slots[at].key)
            at = (at + 1) & (cap - 1);
        slots[at] = *s;
    }
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->used = m->live;
}

void *map_get(const struct map *m, const void *key, size_t n)
{
    const struct slot *s = find(m, hash_sip64(m->seed, key, n), key, n);

    return s ? s->value : NULL;
}

void *map_set(struct map *m, const void *key, size_t n, void *value)
{
    uint64_t hash = hash_sip64(m->seed, key, n);
    struct slot *s = find(m, hash, key, n);

    if (s) {
        void *was = s->value;

        s->value = value;
        return was;
    }
    if ((m->used + 1) * 4 > m->cap * 3)
        lay_out(m);
    void *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    if (n)
        memcpy(copy, key, n);
    size_t i = (size_t)hash & (m->cap - 1);
    while (m->slots[i].key)
        i = (i + 1) & (m->cap - 1);
    m->slots[i] = (struct slot){ hash, copy, n, value };
    m->live++;
    m->used++;
    return NULL;
}

void *map_del(struct map *m, const void *key, size_t n)
{
    struct slot *s = find(m, hash_sip64(m->seed, key, n), key, n);

    if (!s)
        return NULL;
    void *was = s->value;
    free(s->key);
    *s = (struct slot){ .key = GONE };
    m->live--;
    return was;
}

size_t map_count(const struct map *m)
{
    return m->live;
}

bool map_next(const struct map *m, size_t *at, const void **key, size_t *n, void **value)
{
    while (*at < m->cap) {
        const struct slot *s = &m->slots[(*at)++];

        if (!s->key || s->key == GONE)
            continue;
        *key = s->key;
        *n = s->n;
        *value = s->value;
        return true;
    }
    return false;
}
