/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool str_is_nocase(struct str a, const char *b)
{
    size_t i = 0;

    for (; i < a.n && b[i]; i++)
        if (lower(a.p[i]) != lower(b[i]))
            return false;
    return i == a.n && b[i] == '\0';
}

bool str_part(struct str *rest, char sep, struct str *part)
{
    const char *end = rest->n ? memchr(rest->p, sep, rest->n) : NULL;
    struct str s = { rest->p, end ? (size_t)(end - rest->p) : rest->n };

    if (rest->n == 0)
        return false;
    rest->p += s.n + (end != NULL);
    rest->n -= s.n + (end != NULL);
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    *part = s;
    return true;
}
