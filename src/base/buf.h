/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Growable bytes with a maximum.  Going past 'max' sets 'failed' and changes nothing more, so a
 * writer checks once, at the end.  Memory is the heap's; buf_free() releases it. */

#include "base/base.h"

struct buf {
    char *p;
    size_t n, cap, max;
    bool failed;
};

#define BUF(max_) ((struct buf){ .max = (max_) })

void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Room for 'n' more bytes at the returned address, or NULL; buf_grew() says how many were used. */
char *buf_room(struct buf *b, size_t n);
static inline void buf_grew(struct buf *b, size_t n)
{
    b->n += n;
}
/* Drops the first 'n' bytes. */
void buf_eat(struct buf *b, size_t n);
/* Empties it; keeps memory. */
static inline void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}
/* Ends the bytes with a NUL that is not counted and returns them ("" when empty or failed). */
const char *buf_cstr(struct buf *b);
static inline struct str buf_str(const struct buf *b)
{
    return (struct str){ b->p, b->n };
}
void buf_free(struct buf *b);
