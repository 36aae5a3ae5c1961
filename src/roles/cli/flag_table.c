/* SPDX-License-Identifier: Apache-2.0 */
/* Which flags a command has: its fields by the route's tables, and the client's own.  Parsing, help
 * and completion ask here, so that none of them offers what another refuses. */

#include "roles/cli/flags.h"

/* clang-format off */
struct paging {
    int64_t limit, offset, created_after, created_before, updated_after;
    const char *cursor, *sort;
};
#define T struct paging
static const struct field paging_fields[] = {
    FIELD_INT (T, limit,          FF_CREATE, .doc = "At most so many on a page."),
    FIELD_STR (T, cursor,         FF_CREATE, .doc = "Goes on where a page ended."),
    FIELD_INT (T, offset,         FF_CREATE, .doc = "Leaves out so many."),
    FIELD_STR (T, sort,           FF_CREATE, .doc = "A field, '-' before it for descending."),
    FIELD_TIME(T, created_after,  FF_CREATE, .doc = "Made after this time or date."),
    FIELD_TIME(T, created_before, FF_CREATE, .doc = "Made before this time or date."),
    FIELD_TIME(T, updated_after,  FF_CREATE, .doc = "Changed after this time or date."),
};
#undef T
const struct record cli_paging_record = RECORD(paging, NULL, paging_fields);
/* clang-format on */

bool field_is_secret(const struct field *f)
{
    size_t n = strlen(f->name);

    return f->flags & FF_SECRET || (n >= 8 && !strcmp(f->name + n - 8, "password")) ||
           !strcmp(f->name, "secret");
}

const char *flag_name(struct arena *a, const struct field *f)
{
    char *s = arena_strdup(a, f->name);

    for (char *p = s; *p; p++)
        if (*p == '_')
            *p = '-';
    return s;
}

bool flags_takes(const struct command *c, const struct field *f)
{
    bool update = c->route->method == PATCH || c->route->partial;

    return f->flags & (update ? FF_UPDATE : FF_CREATE);
}

const struct field *flags_rest(const struct command *c)
{
    static const char *const names[] = { "cmd", "command", "argv" };
    const struct record *r = c->route->in;

    for (size_t i = 0; r && i < ARRAY_LEN(names); i++) {
        const struct field *f = record_field(r, names[i]);

        if (f && (f->type == F_LIST || f->type == F_JSON))
            return f;
    }
    return NULL;
}

bool field_of(const struct record *r, const struct field *f)
{
    return r && f >= r->fields && f < r->fields + r->n_fields;
}

bool flags_needs(const struct command *c, const struct field *f)
{
    if (field_of(c->route->query, f))
        return f->flags & FF_REQUIRED;
    return flags_takes(c, f) && f->flags & FF_REQUIRED && c->route->method == POST;
}

void flags_each(const struct command *c, void (*fn)(void *ctx, const struct field *f), void *ctx)
{
    const struct route *r = c->route;

    for (size_t i = 0; r->in && i < r->in->n_fields; i++)
        if (flags_takes(c, &r->in->fields[i]))
            fn(ctx, &r->in->fields[i]);
    for (size_t i = 0; r->query && i < r->query->n_fields; i++)
        fn(ctx, &r->query->fields[i]);
    for (size_t i = 0; r->list && r->out && i < r->out->n_fields; i++)
        if (r->out->fields[i].flags & FF_FILTER)
            fn(ctx, &r->out->fields[i]);
    for (size_t i = 0; r->list && i < cli_paging_record.n_fields; i++)
        fn(ctx, &cli_paging_record.fields[i]);
}

const struct cli_flag cli_flags[] = {
    { "--output", "-o", "table|json|yaml|id", FLAG_ANY, "How the answer is shown." },
    { "--profile", NULL, "NAME", FLAG_ANY, "Cloud and key: see `brume config profiles`." },
    { "--url", NULL, "URL", FLAG_ANY, "The cloud's address." },
    { "--tenant", NULL, "ID", FLAG_ANY, "Acts in this tenant." },
    { "--ca", NULL, "FILE", FLAG_ANY, "Certificates to trust, in PEM." },
    { "--data", "-d", "JSON|@FILE|-", FLAG_BODY,
      "The whole body at once; other flags go over it." },
    { "--data", "-d", "@FILE|-", FLAG_FILE, "The file that is sent." },
    { "--clear", NULL, "FIELD", FLAG_CLEAR, "Empties a field." },
    { "--all", NULL, "", FLAG_LIST, "Every page." },
    { "--watch", "-w", "", FLAG_READ, "Shows every change, until Ctrl-C." },
    { "--wait", NULL, "", FLAG_WAIT, "Until its status stands still." },
    { "--help", "-h", "", FLAG_ANY, "Shows this." },
    { NULL, NULL, NULL, 0, NULL },
};

static bool can_clear(const struct command *c)
{
    const struct record *r = c->route->in;

    for (size_t i = 0; r && i < r->n_fields; i++)
        if (flags_takes(c, &r->fields[i]) && r->fields[i].flags & FF_CLEAR)
            return c->route->method != POST;
    return false;
}

bool cli_flag_fits(const struct command *c, const struct cli_flag *f)
{
    const struct route *r = c->route;

    switch (f->when) {
    case FLAG_ANY:
        return true;
    case FLAG_BODY:
        return r->body != BODY_RAW && (r->in || r->body == BODY_FREE);
    case FLAG_FILE:
        return r->body == BODY_RAW;
    case FLAG_CLEAR:
        return can_clear(c);
    case FLAG_LIST:
        return route_lists(r);
    case FLAG_READ:
        return r->method == GET && r->work != WRITE && r->work != STREAM && !r->bytes;
    case FLAG_WAIT:
        return r->method != GET;
    }
    return false;
}

struct names {
    struct arena *arena;
    const char **v;
    size_t n, most;
};

static void add_name(void *ctx, const struct field *f)
{
    struct names *x = ctx;

    if (x->n < x->most)
        x->v[x->n++] = arena_printf(x->arena, "--%s", flag_name(x->arena, f));
}

size_t flags_names(struct arena *a, const struct command *c, const char **out, size_t most)
{
    struct names x = { a, out, 0, most };

    flags_each(c, add_name, &x);
    for (const struct cli_flag *f = cli_flags; f->name && x.n < most; f++)
        if (cli_flag_fits(c, f))
            x.v[x.n++] = f->name;
    return x.n;
}

/* How many letters must be changed, added or left out to make 'b' of 'a'; more than 'most': most
 * + 1. */
static size_t distance(const char *a, const char *b, size_t most)
{
    enum { LONGEST = 40 };
    size_t row[LONGEST + 1], n = strlen(b);

    if (n > LONGEST || strlen(a) > LONGEST)
        return most + 1;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t left = row[0]++;

        for (size_t j = 1; j <= n; j++) {
            size_t above = row[j];
            size_t same = left + (a[i] != b[j - 1] && !(a[i] == '_' && b[j - 1] == '-'));

            size_t least = MIN(above, row[j - 1]) + 1;

            row[j] = MIN(same, least);
            left = above;
        }
    }
    return MIN(row[n], most + 1);
}

const char *word_nearest(const char *word, const char *const *all, size_t n)
{
    size_t most = strlen(word) < 7 ? 1 : 2, best = most + 1;
    const char *found = NULL;

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(word, all[i], most);

        /* "--vis" begins --visibility-timeout. */
        if (d > most && strlen(word) >= 3 && !strncmp(all[i], word, strlen(word)))
            d = most;
        if (d < best) {
            best = d;
            found = all[i];
        }
    }
    return found;
}
