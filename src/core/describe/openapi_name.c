/* SPDX-License-Identifier: Apache-2.0 */
/* Names of operations, such as a client's methods have.  Hides how a row's path and action become
 * one: the verb is the action's or the path's last word, the noun the collection's. */
#include "core/describe/openapi_private.h"

enum { SEGMENTS = 16 };

struct words {
    const char *all[SEGMENTS]; /* NULL where the path has a parameter */
    size_t n;
    const char *last;       /* the last that is no parameter */
    const char *before;     /* the one right before that, if it is no parameter */
    const char *collection; /* the nearest before that which names many */
    bool one;               /* the path ends with a parameter */
};

static bool plural(const char *s)
{
    size_t n = strlen(s);

    return n > 1 && s[n - 1] == 's';
}

static void split(struct arena *a, const char *path, struct words *w)
{
    size_t at = 0;

    while (*path && w->n < SEGMENTS) {
        size_t n = strcspn(++path, "/");
        bool version = w->n == 0 && n == 2 && memcmp(path, "v1", 2) == 0;

        if (!version)
            w->all[w->n++] = path[0] == '{' ? NULL : arena_dup(a, path, n);
        path += n;
    }
    for (size_t i = 0; i < w->n; i++)
        if (w->all[i])
            at = i;
    w->last = w->all[at] ? w->all[at] : "root";
    w->one = w->n && at + 1 < w->n;
    w->before = at > 0 ? w->all[at - 1] : NULL;
    for (size_t i = 0; i < at; i++)
        if (w->all[i] && plural(w->all[i]))
            w->collection = w->all[i];
}

/* "instance-types" as InstanceTypes, or instanceTypes. */
static const char *camel(struct arena *a, const char *s, bool small)
{
    char *out = arena_alloc(a, strlen(s) + 1), *to = out;
    bool up = !small;

    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');

        if (!letter && (*s < '0' || *s > '9')) {
            up = true;
            continue;
        }
        *to++ = up && *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A') : *s;
        up = false;
    }
    *to = '\0';
    return out;
}

static const char *singular(struct arena *a, const char *s)
{
    size_t n = strlen(s);

    if (n > 3 && strcmp(s + n - 3, "ies") == 0)
        return camel(a, arena_printf(a, "%.*sy", (int)n - 3, s), false);
    return camel(a, plural(s) ? arena_dup(a, s, n - 1) : s, false);
}

static const char *verb_of(struct arena *a, const struct route *r, const char *dflt)
{
    const char *colon = r->action ? strchr(r->action, ':') : NULL;

    return colon ? arena_dup(a, colon + 1, strcspn(colon + 1, "-")) : dflt;
}

static const char *base_name(struct arena *a, const struct route *r, const struct words *w)
{
    if (r->method == GET && (r->list || r->rows))
        return arena_printf(a, "%s%s%s", verb_of(a, r, "list"),
                            w->before && plural(w->before) ? singular(a, w->before) : "",
                            camel(a, w->last, false));
    if (r->method == GET && w->one)
        return arena_printf(a, "get%s", singular(a, w->last));
    if (r->method == GET)
        return arena_printf(a, "get%s%s",
                            w->collection ? singular(a, w->collection)
                            : w->before   ? camel(a, w->before, false)
                                          : "",
                            camel(a, w->last, false));
    if (r->method == POST && !w->one && !plural(w->last))
        return arena_printf(a, "%s%s", camel(a, w->last, true),
                            w->collection ? singular(a, w->collection) : "");
    const char *verb = r->method == POST     ? verb_of(a, r, "create")
                       : r->method == PUT    ? "put"
                       : r->method == PATCH  ? verb_of(a, r, "update")
                       : r->method == DELETE ? verb_of(a, r, "delete")
                                             : "call";
    return arena_printf(a, "%s%s", verb, singular(a, w->last));
}

const char *operation_name(struct arena *a, const struct entry *en)
{
    const struct route *r = en->route;
    unsigned both = CLASSIC | PLATFORM, on = r->on ? r->on : both;
    struct words w = { .n = 0 };

    split(a, r->path, &w);
    const char *base = r->name ? r->name : base_name(a, r, &w);
    const char *surface = on == both && en->surface == CLASSIC ? "Classic" : "";
    return en->alias ? arena_printf(a, "%s%sAlias%d", base, surface, en->alias)
                     : arena_printf(a, "%s%s", base, surface);
}
