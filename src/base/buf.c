/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

char *buf_room(struct buf *b, size_t n)
{
    if (b->failed || n > b->max || b->n > b->max - n) {
        b->failed = true;
        return NULL;
    }
    if (b->cap - b->n < n) {
        size_t cap = b->cap ? b->cap : 256;

        while (cap - b->n < n)
            cap *= 2;
        char *p = realloc(b->p, cap);
        if (!p)
            abort();
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return;
    char *at = buf_room(b, n);
    if (at) {
        memcpy(at, p, n);
        b->n += n;
    }
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;

    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0)
        abort();
    /* vsnprintf ends with a NUL: room for it, which a full buffer may lack. */
    size_t max = b->max;
    b->max = max + 1;
    char *at = buf_room(b, (size_t)n + 1);
    b->max = max;
    if (at) {
        vsnprintf(at, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(b, fmt, ap);
    va_end(ap);
}

void buf_eat(struct buf *b, size_t n)
{
    b->n -= n;
    if (b->n)
        memmove(b->p, b->p + n, b->n);
}

const char *buf_cstr(struct buf *b)
{
    if (b->failed || b->n == 0)
        return "";
    size_t max = b->max;
    b->max = max + 1;
    char *at = buf_room(b, 1);
    b->max = max;
    *at = '\0';
    return b->p;
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = BUF(b->max);
}
