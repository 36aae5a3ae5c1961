/* SPDX-License-Identifier: Apache-2.0 */
/* One SQL text for two databases: what differs stands in comments, and is decided here, on the text
 * alone, before any driver sees it. */
#include "db/driver.h"

void sql_columns(struct buf *out, const struct record *r, struct str qualifier)
{
    bool first = true;

    for (size_t i = 0; i < r->n_fields; i++) {
        if (!field_has_column(&r->fields[i]))
            continue;
        if (!first) {
            buf_puts(out, ", ");
            buf_put(out, qualifier.p, qualifier.n);
        }
        buf_puts(out, r->fields[i].name);
        first = false;
    }
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* "q." at the end of 'b', or nothing. */
static struct str qualifier_of(const struct buf *b)
{
    size_t at = b->n;

    if (at < 2 || b->p[at - 1] != '.')
        return (struct str){ NULL, 0 };
    at--;
    while (at > 0 && is_word(b->p[at - 1]))
        at--;
    return (struct str){ b->p + at, b->n - at };
}

/* One past the quoted text that begins at 'p'; a doubled quote reads as two texts, which does no
 * harm. */
static const char *skip_quoted(const char *p)
{
    const char *end = strchr(p + 1, *p);

    return end ? end + 1 : p + strlen(p);
}

/* One past the comment that begins at 'p', or 'p' when none does. */
static const char *skip_comment(const char *p)
{
    if (p[0] == '-' && p[1] == '-')
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*') {
        const char *end = strstr(p + 2, "*/");

        return end ? end + 2 : p + strlen(p);
    }
    return p;
}

static void render_at(struct buf *out, const struct record *r)
{
    char name[64];
    struct str q = qualifier_of(out);

    /* A copy, for 'out' may move. */
    if (q.n >= sizeof(name))
        q.n = 0;
    if (q.n)
        memcpy(name, q.p, q.n);
    sql_columns(out, r, (struct str){ name, q.n });
}

void sql_render(struct buf *out, const char *sql, const struct record *r, bool postgres)
{
    const char *mine = postgres ? "/*pg:" : "/*lite:";
    size_t mine_n = strlen(mine);
    bool inside = false;

    for (const char *p = sql; *p;) {
        const char *next;

        if (*p == '\'' || *p == '"') {
            next = skip_quoted(p);
            buf_put(out, p, (size_t)(next - p));
        } else if (inside && p[0] == '*' && p[1] == '/') {
            inside = false;
            next = p + 2;
        } else if (!inside && strncmp(p, mine, mine_n) == 0) {
            inside = true;
            next = p + mine_n;
        } else if ((next = skip_comment(p)) != p) {
            buf_putc(out, ' ');
        } else if (*p == '@' && r) {
            render_at(out, r);
            next = p + 1;
        } else {
            buf_putc(out, *p);
            next = p + 1;
        }
        p = next;
    }
}

/* Whether the ';' at 'p' is the last of its line. */
static bool ends_line(const char *p)
{
    p += 1 + strspn(p + 1, " \t\r");
    return *p == '\0' || *p == '\n' || (p[0] == '-' && p[1] == '-');
}

static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", p[i]))
            return false;
    return true;
}

bool sql_next(const char **at, struct str *out)
{
    const char *start = *at, *p = *at;

    while (*p) {
        const char *after = skip_comment(p);

        if (after != p) {
            p = after;
        } else if (*p == '\'' || *p == '"') {
            p = skip_quoted(p);
        } else if (*p == ';' && ends_line(p)) {
            *out = (struct str){ start, (size_t)(p - start) };
            *at = p + 1;
            if (!is_blank(out->p, out->n))
                return true;
            start = ++p;
        } else {
            p++;
        }
    }
    *out = (struct str){ start, (size_t)(p - start) };
    *at = p;
    return !is_blank(out->p, out->n);
}
