/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Arena: memory that lives exactly as long as one request or one reconciler visit.
 *
 * Nothing taken from an arena is freed on its own; arena_free() frees all of it.  An arena belongs
 * to one thread at a time.  Whatever comes from outside is bounded where it enters (body size, page
 * size, field .max), so running past 'limit' is a bug of ours and aborts.  A size that nothing
 * bounded before (a row of a database, a kept answer) asks by arena_try(). */

#include <stdarg.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *head; /* Newest chunk; older ones hang off it. */
    size_t used;              /* Bytes in all chunks. */
    size_t limit;             /* Never let 'used' pass this. */
};

#define ARENA(limit_) ((struct arena){ .limit = (limit_) })

/* Returns 'size' zeroed bytes aligned for any type, never NULL.  'size' may be 0. */
void *arena_alloc(struct arena *a, size_t size);

/* Copies 'n' bytes of 's' and ends them with NUL. */
char *arena_dup(struct arena *a, const char *s, size_t n);

/* As these two; NULL where that would pass the limit. */
void *arena_try(struct arena *a, size_t size);
char *arena_try_dup(struct arena *a, const char *s, size_t n);

/* Copies a C string; NULL gives NULL. */
char *arena_strdup(struct arena *a, const char *s);

char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));

/* Forgets what was handed out but keeps one chunk of at most 'keep' bytes for the next user. */
void arena_reset(struct arena *a, size_t keep);

/* The array 'v' of 'n' things of 'size' bytes with room for one more: 'v' itself while n < *cap,
 * else a copy with a larger *cap.  'v' may be NULL where n and *cap are 0. */
void *arena_more(struct arena *a, void *v, size_t n, size_t *cap, size_t size);
/* Frees everything 'a' handed out and leaves it empty and usable. */
void arena_free(struct arena *a);

#define arena_new(a, T)      ((T *)arena_alloc((a), sizeof(T)))
#define arena_new_n(a, T, n) ((T *)arena_alloc((a), sizeof(T) * (n)))
