/* SPDX-License-Identifier: Apache-2.0 */
/* Routes that the published references describe, or that belong to them, and that are not built
 * yet: they answer 501 not_implemented, so that a client can tell them from a typing error.  Their
 * rows stand in the services that will build them.
 *
 * Of two rows that fit a path the first is meant: fixed segments stand before parameters. */
#include "core/request/request.h"

/* Takes the first segment, without its slash, off 's'. */
static struct str next_segment(struct str *s)
{
    const char *slash = memchr(s->p + 1, '/', s->n - 1);
    size_t n = slash ? (size_t)(slash - s->p) : s->n;
    struct str segment = { s->p + 1, n - 1 };

    s->p += n;
    s->n -= n;
    return segment;
}

static bool fits(struct str pattern, struct str path)
{
    while (pattern.n && path.n) {
        struct str rest = path, want = next_segment(&pattern), got = next_segment(&path);
        bool parameter = want.n && want.p[0] == '{';

        if (parameter && want.n > 5 && memcmp(want.p + want.n - 4, "...}", 4) == 0)
            return rest.n > 1;
        if (parameter ? got.n == 0 : !str_eq(want, got))
            return false;
    }
    return !pattern.n && !path.n;
}

unsigned planned_row_methods(const struct planned *row)
{
    struct str rest = str_of(row->methods), word;
    unsigned methods = 0;

    while (str_part(&rest, ' ', &word))
        methods |= 1u << method_parse(word);
    return methods;
}

unsigned planned_methods(const struct app *app, struct str path)
{
    static const char *const prefixes[] = { "/api/v1", "/v1", "/v2" };
    unsigned surface = CLASSIC;

    for (size_t i = 0; i < ARRAY_LEN(prefixes) && surface == CLASSIC; i++) {
        size_t n = strlen(prefixes[i]);

        if (path.n <= n || memcmp(path.p, prefixes[i], n) != 0 || path.p[n] != '/')
            continue;
        surface = PLATFORM;
        path = (struct str){ path.p + n, path.n - n };
    }
    if (path.n == 0 || path.p[0] != '/')
        return 0;
    for (const struct service *const *s = app->services; *s; s++)
        for (const struct planned *p = (*s)->planned; p && p->path; p++)
            if ((!p->on || (p->on & surface)) && fits(str_of(p->path), path))
                return planned_row_methods(p);
    return 0;
}
