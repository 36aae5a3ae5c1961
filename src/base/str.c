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
