/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the grammar of these lists, in which a word inside of another, a comma in quotes or a
 * weight of 0 would mislead whoever looks for a text. */
#include "codec/negotiate.h"

static bool blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str trim(struct str s)
{
    while (s.n && blank(*s.p)) {
        s.p++;
        s.n--;
    }
    while (s.n && blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Takes what stands before the next 'end' outside of quotes off 's'; false when 's' is empty. */
static bool take(struct str *s, char end, struct str *out)
{
    bool quoted = false;
    size_t n = 0;

    if (s->n == 0)
        return false;
    for (; n < s->n && (quoted || s->p[n] != end); n++) {
        if (quoted && s->p[n] == '\\' && n + 1 < s->n)
            n++;
        else if (s->p[n] == '"')
            quoted = !quoted;
    }
    *out = trim((struct str){ s->p, n });
    n += n < s->n;
    s->p += n;
    s->n -= n;
    return true;
}

/* "0", "0.5", "1.000" as thousandths; -1 if it is no weight. */
static int weight(struct str s)
{
    int v, scale = 100;

    if (s.n == 0 || s.n > 5 || (s.p[0] != '0' && s.p[0] != '1') || (s.n > 1 && s.p[1] != '.'))
        return -1;
    v = s.p[0] == '1' ? 1000 : 0;
    for (size_t i = 2; i < s.n; i++, scale /= 10) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        v += scale * (s.p[i] - '0');
    }
    return v <= 1000 ? v : -1;
}

static int rank_type(struct str range, const char *type)
{
    size_t major = strcspn(type, "/") + 1;

    if (str_is_nocase(range, type))
        return 3;
    if (range.n == major + 1 && range.p[major] == '*' && strncasecmp(range.p, type, major) == 0)
        return 2;
    return str_is(range, "*/*");
}

static int rank_coding(struct str range, const char *coding)
{
    return str_is_nocase(range, coding) ? 2 : str_is(range, "*");
}

static int quality(struct str list, int (*rank)(struct str, const char *), const char *what,
                   int *best)
{
    struct str item, part;
    int q = 0;

    *best = 0;
    while (take(&list, ',', &item)) {
        int mine = 1000, level;

        if (!take(&item, ';', &part) || (level = rank(part, what)) == 0)
            continue;
        while (take(&item, ';', &part))
            if (part.n >= 2 && (part.p[0] == 'q' || part.p[0] == 'Q') && part.p[1] == '=')
                mine = weight((struct str){ part.p + 2, part.n - 2 });
        if (mine < 0 || level < *best)
            continue;
        q = level > *best || mine > q ? mine : q;
        *best = level;
    }
    return q;
}

int accept_quality(struct str accept, const char *type, bool *named)
{
    int best, q = quality(accept, rank_type, type, &best);

    *named = best == 3;
    return q;
}

int coding_quality(struct str accept, const char *coding)
{
    int best;

    return quality(accept, rank_coding, coding, &best);
}

bool etag_any(struct str value)
{
    return str_is(trim(value), "*");
}

bool etag_next(struct str *list, struct etag *out)
{
    struct str s = *list;

    while (s.n && (blank(*s.p) || *s.p == ',')) {
        s.p++;
        s.n--;
    }
    bool weak = s.n > 2 && s.p[0] == 'W' && s.p[1] == '/';
    size_t from = weak ? 3 : 1;
    const char *end =
        s.n > from && s.p[from - 1] == '"' ? memchr(s.p + from, '"', s.n - from) : NULL;
    if (!end)
        return false;
    struct str rest = { end + 1, (size_t)(s.p + s.n - end - 1) };
    while (rest.n && blank(*rest.p)) {
        rest.p++;
        rest.n--;
    }
    if (rest.n && *rest.p != ',')
        return false;
    *out = (struct etag){ { s.p + from, (size_t)(end - s.p) - from }, weak };
    *list = rest;
    return true;
}
