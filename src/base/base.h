/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every file may count on: the C library's basics and a few macros. */

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"

#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _must_check_  __attribute__((warn_unused_result))
#define _unused_      __attribute__((unused))

/* Number of elements of a real array; a pointer does not compile. */
#define ARRAY_LEN(a)                                                               \
    (sizeof(a) / sizeof((a)[0]) +                                                  \
     0 * sizeof(struct {                                                           \
         _Static_assert(!__builtin_types_compatible_p(typeof(a), typeof(&(a)[0])), \
                        "not an array");                                           \
         int x;                                                                    \
     }))

/* Hands the ownership of a pointer, or of a descriptor, out of its scope. */
#define TAKE(p)                       \
    ({                                \
        typeof(p) *take_p_ = &(p);    \
        typeof(p) take_v_ = *take_p_; \
        *take_p_ = NULL;              \
        take_v_;                      \
    })
#define TAKE_FD(fd)             \
    ({                          \
        int *take_p_ = &(fd);   \
        int take_v_ = *take_p_; \
        *take_p_ = -1;          \
        take_v_;                \
    })

/* Defines fn##p(T *) for _cleanup_: calls fn(*p) unless *p is NULL. */
#define DEFINE_CLEANUP(T, fn)      \
    static inline void fn##p(T *p) \
    {                              \
        if (*p)                    \
            fn(*p);                \
    }

/* The only macro that hides control flow: leaves the function with -1 when 'expr' is negative. */
#define TRY(expr)       \
    do {                \
        if ((expr) < 0) \
            return -1;  \
    } while (0)

static inline void base_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
#define _cleanup_close_ _cleanup_(base_closep)

static inline void base_freep(void *p)
{
    void *v;

    memcpy(&v, p, sizeof(v));
    free(v);
}
#define _cleanup_free_ _cleanup_(base_freep)

/* Durations in microseconds, sizes in bytes. */
#define MILLIS(n)  ((int64_t)(n)*1000)
#define SECONDS(n) ((int64_t)(n)*1000000)
#define MINUTES(n) SECONDS((int64_t)(n)*60)
#define HOURS(n)   SECONDS((int64_t)(n)*3600)
#define DAYS(n)    SECONDS((int64_t)(n)*86400)
#define KIB(n)     ((size_t)(n) << 10)
#define MIB(n)     ((size_t)(n) << 20)
#define GIB(n)     ((size_t)(n) << 30)

#define MIN(a, b)                          \
    ({                                     \
        typeof(a) min_a_ = (a);            \
        typeof(b) min_b_ = (b);            \
        min_a_ < min_b_ ? min_a_ : min_b_; \
    })
#define MAX(a, b)                          \
    ({                                     \
        typeof(a) max_a_ = (a);            \
        typeof(b) max_b_ = (b);            \
        max_a_ > max_b_ ? max_a_ : max_b_; \
    })

/* Bytes with a length; need not end with NUL.  'p' may be NULL when 'n' is 0. */
struct str {
    const char *p;
    size_t n;
};
#define STR(lit)   ((struct str){ (lit), sizeof(lit) - 1 })
#define STR_FMT    "%.*s"
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_of(const char *s)
{
    return (struct str){ s, s ? strlen(s) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *b)
{
    return str_eq(a, str_of(b));
}

/* As str_is(), ASCII letters compared without case. */
bool str_is_nocase(struct str a, const char *b);
/* 0 to 15; -1 if it is no hexadecimal digit. */
static inline int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
/* Takes the next part of a list off '*rest', as far as 'sep' or its end, without blanks around it;
 * false when nothing is left. */
bool str_part(struct str *rest, char sep, struct str *part);

/* A UUID as its 36 characters of lower-case text; "" is the nil one (none). */
struct uuid {
    char s[37];
};

static inline bool uuid_is_nil(const struct uuid *u)
{
    return u->s[0] == '\0';
}

static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->s, b->s, sizeof(a->s)) == 0;
}
