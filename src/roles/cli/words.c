/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how a path becomes words.  Nothing here knows any resource by name. */

#include "roles/cli/words.h"

#include <ctype.h>

#include "base/buf.h"
#include "codec/text.h"

enum { PATH_SEGMENTS = 16, COMMANDS_MAX = 4096 };

struct segment {
    struct str text;
    bool param;
    bool holds; /* a thing's kind: "queues" in /queues/{id} */
};
struct parts {
    struct segment v[PATH_SEGMENTS];
    size_t n;
};

static void split(const char *path, struct parts *out)
{
    *out = (struct parts){ 0 };
    for (const char *p = path; *p == '/' && out->n < PATH_SEGMENTS;) {
        size_t n = strcspn(++p, "/");

        out->v[out->n++] = (struct segment){ { p, n }, *p == '{', false };
        p += n;
    }
}

const char *word_singular(struct arena *a, struct str s)
{
    const char *ends = s.n >= 4 ? s.p + s.n - 4 : "    ";

    if (s.n < 4 || s.p[s.n - 1] != 's' || strchr("sui", s.p[s.n - 2]) || str_is(s, "dns"))
        return arena_dup(a, s.p, s.n);
    if (!memcmp(ends + 1, "ies", 3))
        return arena_printf(a, "%.*sy", (int)s.n - 3, s.p);
    if (!memcmp(ends, "sses", 4) || !memcmp(ends + 1, "xes", 3))
        return arena_dup(a, s.p, s.n - 2);
    return arena_dup(a, s.p, s.n - 1);
}

static bool under(const char *path, const char *base, size_t n)
{
    return !strncmp(path, base, n) && !strncmp(path + n, "/{", 2);
}

/* True if the path of 'n' bytes holds things: something is listed there, made and read there, or a
 * {parameter} stands below it. */
static bool holds_things(const struct service *const *services, const char *path, size_t n)
{
    bool read = false, made = false;

    for (; *services; services++) {
        for (const struct route *r = (*services)->routes; r && r->path; r++) {
            if (under(r->path, path, n))
                return true;
            if (strlen(r->path) != n || memcmp(r->path, path, n) != 0)
                continue;
            if (route_lists(r))
                return true;
            read |= r->method == GET;
            made |= r->method == POST;
        }
    }
    return read && made;
}

/* By its action, "queue:list" or "tenant:list-members", where the row does not say it. */
bool route_lists(const struct route *r)
{
    const char *verb = r->action ? strchr(r->action, ':') : NULL;

    return r->method == GET &&
           (r->list || (verb && !strncmp(verb, ":list", 5) && (verb[5] == '\0' || verb[5] == '-')));
}

static size_t methods_of(const struct service *const *services, const char *path)
{
    unsigned seen = 0;

    for (; *services; services++)
        for (const struct route *r = (*services)->routes; r && r->path; r++)
            if (!strcmp(r->path, path))
                seen |= 1U << r->method;
    return (size_t)__builtin_popcount(seen);
}

static bool has_method(const struct service *const *services, const char *path, enum method m)
{
    for (; *services; services++)
        for (const struct route *r = (*services)->routes; r && r->path; r++)
            if (r->method == m && !strcmp(r->path, path))
                return true;
    return false;
}

static void push(struct arena *a, struct command *c, const char *word, struct str plural)
{
    if (c->n_words == COMMAND_WORDS)
        return;
    c->word[c->n_words] = word;
    if (plural.n && !str_is(plural, word))
        c->also[c->n_words] = arena_dup(a, plural.p, plural.n);
    c->n_words++;
}

static const char *upper(struct arena *a, const char *s, size_t n)
{
    char *out = arena_dup(a, s, n);

    for (char *p = out; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return out;
}

static void push_param(struct arena *a, struct command *c, const struct segment *before,
                       struct str text)
{
    const char *name;

    if (c->n_params == COMMAND_PARAMS)
        return;
    text = (struct str){ text.p + 1, text.n - 2 };
    if (text.n > 3 && !memcmp(text.p + text.n - 3, "...", 3))
        text.n -= 3;
    if (str_is(text, "id") && before && before->holds) {
        name = word_singular(a, before->text);
        name = upper(a, name, strlen(name));
    } else {
        name = upper(a, text.p, text.n);
    }
    c->param[c->n_params++] = name;
}

static const char *verb_of(const struct service *const *services, const struct route *r, bool one,
                           bool holds)
{
    switch (r->method) {
    case GET:
        return route_lists(r) || (holds && !one) ? "list" : "get";
    case POST:
        return "create";
    case PUT:
        return has_method(services, r->path, PATCH) ? "replace" : "update";
    case PATCH:
        return "update";
    case DELETE:
        return one || !holds ? "delete" : "clear";
    default:
        return "call";
    }
}

static void words_given(struct arena *a, struct command *c)
{
    for (const char *p = c->route->cli; *p;) {
        size_t n = strcspn(p, " ");

        push(a, c, arena_dup(a, p, n), (struct str){ 0 });
        p += n + (p[n] == ' ');
    }
}

static void words_derived(struct arena *a, const struct service *const *services,
                          const struct parts *parts, bool whole, struct command *c)
{
    const struct segment *last = &parts->v[parts->n - 1];
    size_t first = 0;

    while (first < parts->n && !parts->v[first].holds)
        first++;
    if (first == parts->n || whole)
        first = 0;
    for (size_t i = first; i < parts->n; i++) {
        const struct segment *s = &parts->v[i];

        if (s->param)
            continue;
        if (s->holds)
            push(a, c, word_singular(a, s->text), s->text);
        else /* a file's ending says nothing here */
            push(a, c, arena_dup(a, s->text.p, MIN(s->text.n, strcspn(s->text.p, "."))),
                 (struct str){ 0 });
    }
    if (last->param || last->holds || c->n_words < 2 || methods_of(services, c->route->path) > 1)
        push(a, c, verb_of(services, c->route, last->param, last->holds), (struct str){ 0 });
}

static bool same_words(const struct command *a, const struct command *b)
{
    if (a->n_words != b->n_words)
        return false;
    for (size_t i = 0; i < a->n_words; i++)
        if (strcmp(a->word[i], b->word[i]) != 0)
            return false;
    return true;
}

static bool taken(const struct commands *all, const struct command *c)
{
    for (size_t i = 0; i < all->n; i++)
        if (same_words(&all->v[i], c))
            return true;
    return false;
}

/* Who takes its words first: who was given them, then what makes, shows, changes and deletes one
 * thing or lists them, then further verbs, then short forms; last, quietly, the paths of those that
 * were given theirs. */
enum turn { TURN_GIVEN, TURN_THINGS, TURN_VERBS, TURN_SHORT, TURN_QUIET, TURNS };

static void put(struct commands *all, const struct command *c)
{
    if (all->n < COMMANDS_MAX && c->n_words && !taken(all, c))
        all->v[all->n++] = *c;
}

/* A collection below another thing whose members are shown on their own: its commands without the
 * other thing's word. */
static void add_short(struct arena *a, const struct service *const *services,
                      const struct parts *parts, const struct command *c, struct commands *all)
{
    const struct segment *last = &parts->v[parts->n - 1];
    const char *top = arena_printf(a, "/" STR_FMT, STR_ARG(last->text));
    struct command s = *c;
    bool alone = false;

    if (parts->n < 3 || !last->holds)
        return;
    for (size_t i = 0; services[i]; i++)
        for (const struct route *r = services[i]->routes; r && r->path; r++)
            alone |= under(r->path, top, strlen(top));
    if (!alone)
        return;
    s.n_words = 0;
    memset(s.also, 0, sizeof(s.also));
    push(a, &s, word_singular(a, last->text), last->text);
    push(a, &s, verb_of(services, s.route, false, true), (struct str){ 0 });
    put(all, &s);
}

static void add_derived(struct arena *a, const struct service *const *services,
                        const struct parts *parts, struct command *c, struct commands *all)
{
    words_derived(a, services, parts, false, c);
    if (taken(all, c)) {
        /* Two paths with the same words: the later one keeps what stands before its resource. */
        c->n_words = 0;
        memset(c->also, 0, sizeof(c->also));
        words_derived(a, services, parts, true, c);
    }
    /* The same words still, as of POST …/messages/delete: many at once. */
    if (taken(all, c) && c->n_words)
        c->word[c->n_words - 1] = arena_printf(a, "%s-many", c->word[c->n_words - 1]);
    put(all, c);
}

static void add(struct arena *a, const struct service *const *services, const struct service *s,
                const struct route *r, enum turn turn, struct commands *all)
{
    struct command c = { .route = r, .service = s, .quiet = turn == TURN_QUIET };
    bool versioned = !strncmp(r->path, "/v1/", 4); /* a path of the platform's alone */
    struct parts parts;

    split(versioned ? r->path + 3 : r->path, &parts);
    if (!parts.n || (r->cli && !*r->cli))
        return;
    c.path = !r->on || r->on & CLASSIC || versioned ? r->path : arena_printf(a, "/v1%s", r->path);
    for (size_t i = 0; i < parts.n; i++) {
        struct segment *g = &parts.v[i];

        g->holds =
            !g->param && holds_things(services, r->path, (size_t)(g->text.p + g->text.n - r->path));
        if (g->param)
            push_param(a, &c, i ? g - 1 : NULL, g->text);
    }
    if (turn == TURN_GIVEN) {
        words_given(a, &c);
        put(all, &c);
    } else if (turn == TURN_SHORT) {
        add_short(a, services, &parts, &c, all);
    } else {
        add_derived(a, services, &parts, &c, all);
    }
}

static bool has_turn(const struct service *const *services, const struct route *r, enum turn turn)
{
    size_t n = strlen(r->path);
    bool thing = r->path[n - 1] == '}' || holds_things(services, r->path, n);

    switch (turn) {
    case TURN_GIVEN:
    case TURN_QUIET:
        return r->cli;
    case TURN_THINGS:
    case TURN_SHORT:
        return !r->cli && thing;
    case TURN_VERBS:
        return !r->cli && !thing;
    case TURNS:
        break;
    }
    return false;
}

void commands_build(struct arena *a, const struct service *const *services, struct commands *out)
{
    size_t most = 0;

    for (size_t i = 0; services[i]; i++)
        for (const struct route *r = services[i]->routes; r && r->path; r++)
            most += 2;
    *out = (struct commands){ arena_alloc(a, sizeof(struct command) * (most + 1)), 0 };
    for (enum turn turn = TURN_GIVEN; turn < TURNS; turn++)
        for (size_t i = 0; services[i]; i++)
            for (const struct route *r = services[i]->routes; r && r->path; r++)
                if (has_turn(services, r, turn))
                    add(a, services, services[i], r, turn, out);
}

static bool same_word(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b)))
            return false;
    return *a == *b;
}

bool command_word_is(const struct command *c, size_t i, const char *word)
{
    return i < c->n_words &&
           (same_word(c->word[i], word) || (c->also[i] && same_word(c->also[i], word)));
}

const struct command *commands_find(const struct commands *c, int argc, const char *const *argv,
                                    int *used)
{
    const struct command *best = NULL;

    for (size_t i = 0; i < c->n; i++) {
        const struct command *k = &c->v[i];
        size_t w = 0;

        while (w < k->n_words && (int)w < argc && command_word_is(k, w, argv[w]))
            w++;
        if (w == k->n_words && (!best || w > best->n_words))
            best = k;
    }
    if (best)
        *used = (int)best->n_words;
    return best;
}

const char *command_path(struct arena *a, const struct command *c, const char *const *values)
{
    struct buf b = BUF(8192);
    const char *out;
    size_t next = 0;

    for (const char *p = c->path; *p;) {
        size_t n = strcspn(p, "{");

        buf_put(&b, p, n);
        p += n;
        if (*p != '{')
            break;
        n = strcspn(p, "}");
        if (next < c->n_params) {
            bool rest = n > 4 && !memcmp(p + n - 3, "...", 3);
            const char *v = values[next++];

            while (*v) {
                size_t m = rest ? strcspn(v, "/") : strlen(v);
                struct str enc;

                percent_encode(a, (struct str){ v, m }, &enc);
                buf_put(&b, enc.p, enc.n);
                v += m;
                if (*v) {
                    buf_putc(&b, '/');
                    v++;
                }
            }
        }
        p += n + (p[n] == '}');
    }
    out = b.failed ? NULL : arena_strdup(a, buf_cstr(&b));
    buf_free(&b);
    return out;
}

const struct command *commands_route(const struct commands *c, enum method m, const char *path)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].route->method == m && !strcmp(c->v[i].route->path, path))
            return &c->v[i];
    return NULL;
}

const struct command *commands_holder(const struct commands *c, struct arena *a, const char *path,
                                      size_t n)
{
    const char *one = arena_dup(a, path, n), *slash = strrchr(one, '/');
    const struct command *k = commands_route(c, GET, one);

    if (!k && slash && slash > one) {
        k = commands_route(c, GET, arena_dup(a, one, (size_t)(slash - one)));
        if (k && !route_lists(k->route))
            k = NULL;
    }
    return k;
}

const struct command *commands_list_of(const struct commands *c, const struct record *r)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct route *t = c->v[i].route;

        if (!route_lists(t) || !t->out || c->v[i].n_params)
            continue;
        if (t->out == r || (r->prefix && t->out->prefix && !strcmp(t->out->prefix, r->prefix)))
            return &c->v[i];
    }
    return NULL;
}
