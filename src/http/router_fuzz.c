/* SPDX-License-Identifier: Apache-2.0 */
/* Routes and a path, all from the input: the tree finds what a look at each row by itself finds.
 *
 * The first line is the path; each other line is a row: a letter for the method, then a pattern. */
#include "http/router.h"

enum { ROWS = 24, SEGMENTS = 40 };

struct row {
    enum method method;
    struct str parts[SEGMENTS]; /* of the pattern */
    size_t n;
    char score[SEGMENTS]; /* how literal each segment is that took one of the path */
};
struct path {
    struct str raw[SEGMENTS]; /* up to the end of the path */
    struct str parts[SEGMENTS];
    bool odd[SEGMENTS];
    size_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool right)
{
    if (!right)
        abort();
}

static struct str line_of(struct str *s)
{
    const char *end = s->n ? memchr(s->p, '\n', s->n) : NULL;
    struct str line = { s->p, end ? (size_t)(end - s->p) : s->n };

    s->p += line.n + (end != NULL);
    s->n -= line.n + (end != NULL);
    return line;
}

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = memchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c, 16);

    return at ? (int)(at - digits) : -1;
}

/* Our own way to undo the escapes. */
static bool undo(struct arena *a, struct str s, struct str *out)
{
    char *p = arena_alloc(a, s.n + 1);
    size_t n = 0;

    for (; s.n; s.p++, s.n--) {
        char c = *s.p;
        if (c == '%') {
            if (s.n < 3 || digit(s.p[1]) < 0 || digit(s.p[2]) < 0)
                return false;
            c = (char)(digit(s.p[1]) << 4 | digit(s.p[2]));
            if (c == '\0')
                return false;
            s.p += 2;
            s.n -= 2;
        }
        p[n++] = c;
    }
    *out = (struct str){ p, n };
    return true;
}

static bool cut(struct arena *a, struct str s, struct path *out)
{
    out->n = 0;
    while (s.n > 1 || out->n) {
        s.p++;
        s.n--;
        const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
        size_t n = slash ? (size_t)(slash - s.p) : s.n;
        out->raw[out->n] = s;
        if (!undo(a, (struct str){ s.p, n }, &out->parts[out->n]))
            return false;
        struct str d = out->parts[out->n];
        out->odd[out->n++] = d.n == 0 || str_is(d, ".") || str_is(d, "..");
        s.p += n;
        s.n -= n;
        if (!slash)
            break;
    }
    return true;
}

static bool fits(struct row *r, const struct path *p)
{
    for (size_t i = 0; i < r->n; i++) {
        struct str want = r->parts[i];
        bool rest = want.p[0] == '{' && want.n > 6 && memcmp(want.p + want.n - 4, "...}", 4) == 0;
        if (i >= p->n)
            return false;
        if (rest) {
            r->score[i] = 1;
            return p->raw[i].n > 0;
        }
        if (p->odd[i] || (want.p[0] != '{' && !str_eq(want, p->parts[i])))
            return false;
        r->score[i] = want.p[0] == '{' ? 2 : 3;
    }
    return r->n == p->n;
}

static size_t add_rows(struct router *r, struct row rows[ROWS], struct str s)
{
    static const char letters[] = "GHPUADO";
    size_t n = 0;

    while (s.n && n < ROWS) {
        struct str line = line_of(&s);
        char text[200];
        struct err e;
        struct row *row = &rows[n];
        const char *letter = line.n > 1 ? strchr(letters, line.p[0]) : NULL;
        if (!letter || !*letter || line.n > sizeof(text) || memchr(line.p, '\0', line.n))
            continue;
        row->method = (enum method)(GET + (letter - letters));
        snprintf(text, sizeof(text), "%.*s", (int)line.n - 1, line.p + 1);
        if (router_add(r, row->method, text, row, &e) < 0)
            continue;
        struct str left = { line.p + 1, line.n - 1 };
        for (row->n = 0; left.n > 1 || row->n;) {
            const char *slash = memchr(left.p + 1, '/', left.n - 1);
            size_t len = slash ? (size_t)(slash - left.p) : left.n;
            row->parts[row->n++] = (struct str){ left.p + 1, len - 1 };
            left.p += len;
            left.n -= len;
            if (!slash)
                break;
        }
        n++;
    }
    return n;
}

/* The row that the search must find for 'm', and the methods of all that fit. */
static struct row *best_of(struct row *rows, size_t n, const struct path *p, enum method m,
                           unsigned *methods)
{
    struct row *best = NULL;

    *methods = 0;
    for (size_t i = 0; i < n; i++)
        if (fits(&rows[i], p))
            *methods |= 1u << rows[i].method;
    for (size_t i = 0; i < n; i++) {
        memset(rows[i].score, 0, sizeof(rows[i].score));
        if (rows[i].method == m && fits(&rows[i], p) &&
            (!best || memcmp(rows[i].score, best->score, SEGMENTS) > 0))
            best = &rows[i];
    }
    return best;
}

static void look(const struct router *r, struct arena *a, struct row *rows, size_t n,
                 struct str path)
{
    struct path p;
    struct router_match m;
    unsigned methods;
    bool good = cut(a, path, &p);

    for (enum method want = GET; want <= OPTIONS; want++) {
        enum router_result got = router_find(r, a, want, path, &m);

        if (!good) {
            check(got == ROUTER_BAD_PATH);
            continue;
        }
        const struct row *best = best_of(rows, n, &p, want, &methods);
        check(m.methods == methods);
        if (want != HEAD)
            check(got == (best ? ROUTER_FOUND : methods ? ROUTER_NO_METHOD : ROUTER_NO_PATH));
        if (got == ROUTER_FOUND && want != HEAD)
            check(m.value == best);
        for (size_t i = 0; got == ROUTER_FOUND && i < m.n_params; i++)
            check(m.params[i].name && m.params[i].value.n <= path.n &&
                  !memchr(m.params[i].value.p, '\0', m.params[i].value.n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    _cleanup_(router_freep) struct router *r = router_new();
    struct row *rows = arena_new_n(&a, struct row, ROWS);
    struct str s = { (const char *)data, size }, path = line_of(&s);
    struct router_match m;

    size_t n = add_rows(r, rows, s), slashes = 0;
    for (size_t i = 0; i < path.n; i++)
        slashes += path.p[i] == '/';
    if (path.n && memchr(path.p, '\0', path.n)) /* the parser of heads lets none pass */
        return 0;
    if (path.n == 0 || path.p[0] != '/')
        check(router_find(r, &a, GET, path, &m) == ROUTER_NO_PATH);
    else if (slashes < 32)
        look(r, &a, rows, n, path);
    else
        router_find(r, &a, GET, path, &m);
    return 0;
}
