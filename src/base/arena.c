/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks grow with use: the first is small, so that a request of a few hundred bytes stays cheap.
 */
#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    max_align_t data[];
};

enum { ARENA_FIRST = 4096 - sizeof(struct arena_chunk), ARENA_MOST = 65536 };

static size_t chunk_size(const struct arena *a, size_t need)
{
    size_t size = a->head ? a->head->size * 2 : ARENA_FIRST;

    if (size > ARENA_MOST)
        size = ARENA_MOST;
    return size < need ? need : size;
}

static size_t aligned(size_t size)
{
    return (size + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
}

static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
    size_t size = chunk_size(a, need);

    if (a->used + size > a->limit)
        abort();
    struct arena_chunk *c = malloc(sizeof(*c) + size);
    if (!c)
        abort();
    *c = (struct arena_chunk){ .next = a->head, .size = size };
    a->head = c;
    a->used += size;
    return c;
}

void *arena_alloc(struct arena *a, size_t size)
{
    if (size > a->limit)
        abort();
    size = aligned(size);

    struct arena_chunk *c = a->head;
    if (!c || c->size - c->used < size)
        c = chunk_add(a, size);
    void *p = (char *)c->data + c->used;
    c->used += size;
    return memset(p, 0, size);
}

void *arena_more(struct arena *a, void *v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return v;
    *cap = *cap ? *cap * 2 : 16;
    void *more = arena_alloc(a, *cap * size);
    if (n)
        memcpy(more, v, n * size);
    return more;
}

char *arena_dup(struct arena *a, const char *s, size_t n)
{
    char *p = arena_alloc(a, n + 1);

    if (n)
        memcpy(p, s, n);
    return p;
}

void *arena_try(struct arena *a, size_t size)
{
    if (size > a->limit)
        return NULL;

    const struct arena_chunk *c = a->head;
    size_t need = aligned(size);
    bool there = c && c->size - c->used >= need;
    return there || chunk_size(a, need) <= a->limit - a->used ? arena_alloc(a, size) : NULL;
}

char *arena_try_dup(struct arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? arena_try(a, n + 1) : NULL;

    if (p && n)
        memcpy(p, s, n);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return s ? arena_dup(a, s, strlen(s)) : NULL;
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    va_list again;

    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        abort();
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}

void arena_reset(struct arena *a, size_t keep)
{
    struct arena_chunk *kept = NULL;

    while (a->head) {
        struct arena_chunk *c = a->head;

        a->head = c->next;
        if (c->size <= keep && (!kept || c->size > kept->size)) {
            free(kept);
            kept = c;
        } else {
            free(c);
        }
    }
    a->used = 0;
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
        a->head = kept;
        a->used = kept->size;
    }
}

void arena_free(struct arena *a)
{
    arena_reset(a, 0);
}
