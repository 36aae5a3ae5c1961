/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: default, what stands in its place, file, environment, flags, in this order;
 * the later wins.  Hides how a value becomes a member of struct config and how it is shown again.
 * Secrets stand in files: what looks like one is refused in flags, which every user of the machine
 * can read, and masked in print. */
#include "core/config/config.h"

#include <assert.h>
#include <ctype.h>

#include "codec/text.h"
#include "core/config/config_yaml.h"
#include "os/file.h"

enum { MAX_FILE = 256 * 1024, MAX_VALUE = 64 * 1024, MAX_FAULTS = 200 };

void config_fault(struct config_load *l, const char *where, const char *fmt, ...)
{
    va_list ap;

    if (l->n_faults++ >= MAX_FAULTS)
        return;
    buf_printf(l->faults, "%s: ", where);
    va_start(ap, fmt);
    buf_vprintf(l->faults, fmt, ap);
    va_end(ap);
    buf_putc(l->faults, '\n');
}

struct config_key *config_find(const struct config *c, struct str name)
{
    for (size_t i = 0; i < c->n_keys; i++)
        if (str_is(name, c->keys[i].is->name))
            return &c->keys[i];
    return NULL;
}

/* "scheme://user:password@host", or a parameter password=. */
bool config_has_password(const char *text)
{
    const char *rest = strstr(text, "://");

    if (strstr(text, "password=") || strstr(text, "sslpassword="))
        return true;
    if (!rest)
        return false;
    rest += 3;
    const char *at = strrchr(rest, '@');
    const char *colon = strchr(rest, ':');
    return at && colon && colon < at && colon + 1 < at;
}

static const char *text_fault(struct config_load *l, const struct setting *k, struct str s)
{
    if (s.n > MAX_VALUE)
        return "is too long";
    if (!utf8_valid(s))
        return "must be UTF-8 text";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 && s.p[i] != '\n' && s.p[i] != '\t')
            return "must not have control characters";
    if (k->words && (s.n || k->dflt[0])) {
        const char *word = arena_printf(&l->c->arena, " %.*s ", STR_ARG(s));

        if (memchr(s.p, ' ', s.n) || !strstr(k->words, word))
            return arena_printf(&l->c->arena, "must be one of:%s", k->words);
    }
    return NULL;
}

void config_set(struct config_load *l, struct config_key *key, struct str text, const char *where,
                const char *origin)
{
    const struct setting *k = key->is;
    int64_t i;

    switch (k->type) {
    case SET_STR: {
        const char *wrong = text_fault(l, k, text);

        if (wrong) {
            config_fault(l, where, "%s", wrong);
            return;
        }
        *(const char **)key->at = arena_dup(&l->c->arena, text.p, text.n);
        break;
    }
    case SET_INT:
        if (!int_parse(text, k->min, k->max, &i)) {
            config_fault(l, where, "must be an integer from %lld to %lld", (long long)k->min,
                         (long long)k->max);
            return;
        }
        *(int64_t *)key->at = i;
        break;
    case SET_BOOL:
        if (!str_is(text, "true") && !str_is(text, "false")) {
            config_fault(l, where, "must be true or false");
            return;
        }
        *(bool *)key->at = str_is(text, "true");
        break;
    }
    key->origin = origin;
}

/* ---- environment */

/* BRUME_SERVER_LISTEN of server.listen. */
static void env_name(const char *key, char out[80])
{
    size_t n = (size_t)snprintf(out, 80, "BRUME_%s", key);

    for (size_t i = 6; i < n; i++)
        out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

/* True if it begins as keys of ours do: BRUME_SERVER_… */
static bool env_ours(const struct config *c, struct str name)
{
    for (size_t i = 0; i < c->n_keys; i++) {
        const char *key = c->keys[i].is->name;
        char begin[80];

        env_name(key, begin);
        size_t n = 6 + strcspn(key, ".") + 1;
        if (name.n > n && strncmp(name.p, begin, n) == 0)
            return true;
    }
    return false;
}

static void read_env(struct config_load *l, const char *const *env)
{
    for (; env && *env; env++) {
        const char *eq = strchr(*env, '=');
        struct str name = { *env, eq ? (size_t)(eq - *env) : 0 };
        struct config_key *key = NULL;

        if (!eq || strncmp(*env, "BRUME_", 6) != 0)
            continue;
        for (size_t i = 0; i < l->c->n_keys; i++) {
            char n[80];

            env_name(l->c->keys[i].is->name, n);
            if (str_is(name, n))
                key = &l->c->keys[i];
        }
        const char *where =
            arena_printf(&l->c->arena, "environment %.*s", (int)MIN(name.n, (size_t)80), name.p);
        if (key)
            config_set(l, key, str_of(eq + 1), where, where);
        else if (env_ours(l->c, name))
            config_fault(l, where, "no such key");
    }
}

/* ---- flags */

static struct config_key *flag_find(const struct config *c, struct str name)
{
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct setting *k = c->keys[i].is;

        if (str_is(name, k->name) || (k->flag && str_is(name, k->flag)))
            return &c->keys[i];
    }
    return NULL;
}

struct flag {
    struct str name;   /* without dashes */
    const char *value; /* NULL: none given */
};

/* Splits argv[*i]; takes the next word as its value where there is no '='. */
static bool flag_next(const struct config *c, int argc, const char *const *argv, int *i,
                      struct flag *f)
{
    const char *a = argv[*i];

    if (strncmp(a, "--", 2) != 0 || !a[2])
        return false;
    const char *eq = strchr(a, '=');
    f->name = (struct str){ a + 2, eq ? (size_t)(eq - a - 2) : strlen(a + 2) };
    f->value = eq ? eq + 1 : NULL;
    const struct config_key *key = flag_find(c, f->name);
    bool is_bool = key && key->is->type == SET_BOOL;
    if (!eq && !is_bool && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0)
        f->value = argv[++*i];
    else if (!eq && is_bool)
        f->value = "true";
    return true;
}

static void read_flag(struct config_load *l, const struct flag *f, bool *seen)
{
    const char *where =
        arena_printf(&l->c->arena, "--%.*s", (int)MIN(f->name.n, (size_t)80), f->name.p);
    struct config_key *key = flag_find(l->c, f->name);

    if (str_is(f->name, "role") || str_is(f->name, "config")) {
        if (!f->value)
            config_fault(l, where, "needs a value");
        return;
    }
    if (!key) {
        config_fault(l, where, "no such flag");
        return;
    }
    const struct setting *k = key->is;
    size_t i = (size_t)(key - l->c->keys);
    if (!f->value)
        config_fault(l, where, "needs a value");
    else if (seen[i])
        config_fault(l, where, "is given twice");
    else if (k->secret)
        config_fault(l, where,
                     "is a secret, and every user of this machine can read flags: put it "
                     "in the file or the environment");
    else if (config_has_password(f->value))
        config_fault(
            l, where,
            "has a password in it, and every user of this machine can read flags: leave it "
            "out%s%s, or put the whole into the environment",
            k->password ? " and name its file by " : "", k->password ? k->password : "");
    else
        config_set(l, key, str_of(f->value), where, arena_printf(&l->c->arena, "flag %s", where));
    seen[i] = true;
}

static void read_flags(struct config_load *l, int argc, const char *const *argv)
{
    bool *seen = arena_new_n(&l->c->arena, bool, l->c->n_keys);

    for (int i = 0; i < argc && l->n_faults < MAX_FAULTS; i++) {
        struct flag f;

        if (flag_next(l->c, argc, argv, &i, &f))
            read_flag(l, &f, seen);
        else
            config_fault(l, "command line", "unexpected word '%.80s'", argv[i]);
    }
}

/* ---- what stands in place of defaults */

static void read_below(struct config_load *l, const struct config_below *below)
{
    for (; below && below->key; below++) {
        struct config_key *key = config_find(l->c, str_of(below->key));

        assert(key);
        config_set(l, key, str_of(below->value), below->key, below->origin);
    }
}

/* ---- the tables */

/* Behind the others of its section. */
static void add_key(struct config_load *l, const struct setting *k, void *values)
{
    struct config *c = l->c;
    size_t n = strcspn(k->name, ".") + 1, at = c->n_keys;

    for (size_t i = 0; i < c->n_keys; i++) {
        const struct setting *other = c->keys[i].is;

        if (strcmp(other->name, k->name) == 0)
            config_fault(l, k->name, "is a key of two tables of settings");
        if (k->flag && other->flag && strcmp(other->flag, k->flag) == 0)
            config_fault(l, k->name, "has the flag --%s of %s", k->flag, other->name);
        if (strncmp(other->name, k->name, n) == 0)
            at = i + 1;
    }
    memmove(c->keys + at + 1, c->keys + at, (c->n_keys - at) * sizeof(*c->keys));
    c->keys[at] = (struct config_key){ .is = k, .at = (char *)values + k->offset };
    c->n_keys++;
}

static void add_tables(struct config_load *l, const struct settings *const *more)
{
    struct config *c = l->c;
    size_t keys = config_own.n, parts = 1;

    for (const struct settings *const *s = more; s && *s; s++, parts++)
        keys += (*s)->n;
    c->keys = arena_new_n(&c->arena, struct config_key, keys);
    c->parts = arena_new_n(&c->arena, struct config_part, parts);
    for (; c->n_parts < parts; c->n_parts++) {
        const struct settings *s = c->n_parts ? more[c->n_parts - 1] : &config_own;
        void *values = c->n_parts ? arena_alloc(&c->arena, s->size) : c;

        c->parts[c->n_parts] = (struct config_part){ s, values };
        for (size_t i = 0; i < s->n; i++)
            add_key(l, &s->keys[i], values);
    }
}

const void *config_values(const struct config *c, const struct settings *of)
{
    size_t i = 0;

    while (i < c->n_parts && c->parts[i].of != of)
        i++;
    assert(i < c->n_parts);
    return c->parts[i].values;
}

/* ---- the whole */

static struct config *config_new(struct config_load *l, const struct settings *const *more,
                                 struct buf *faults)
{
    struct config *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    c->arena = ARENA(MIB(64));
    *l = (struct config_load){ .c = c, .faults = faults };
    add_tables(l, more);
    return c;
}

static struct config *load(struct config_load *l, struct str yaml, const char *name, int argc,
                           const char *const *argv, const struct config_below *below,
                           const char *const *env, struct err *e)
{
    struct config *c = l->c;

    for (size_t i = 0; i < c->n_keys; i++) {
        const struct setting *k = c->keys[i].is;

        config_set(l, &c->keys[i], str_of(k->dflt), k->name, "default");
    }
    read_below(l, below);
    config_yaml(l, yaml, name);
    read_env(l, env);
    read_flags(l, argc, argv);
    config_check(l);
    if (!l->n_faults)
        return c;
    err_set(e, ERR_INVALID, "the configuration has %zu fault%s", l->n_faults,
            l->n_faults == 1 ? "" : "s");
    config_free(c);
    return NULL;
}

struct config *config_load_text(const struct settings *const *more, struct str yaml,
                                const char *name, int argc, const char *const *argv,
                                const char *const *env, struct buf *faults, struct err *e)
{
    struct config_load l;

    config_new(&l, more, faults);
    return load(&l, yaml, name, argc, argv, NULL, env, e);
}

struct config *config_load(const struct settings *const *more, const char *file, int argc,
                           const char *const *argv, const struct config_below *below,
                           const char *const *env, struct buf *faults, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct config_load l;
    struct config *c = config_new(&l, more, faults);
    struct str text = STR("");

    for (int i = 0; i < argc; i++) {
        struct flag f;

        if (flag_next(c, argc, argv, &i, &f) && str_is(f.name, "config") && f.value)
            file = f.value;
    }
    bool optional = file && strcmp(file, CONFIG_DEFAULT_FILE) == 0;
    if (file && !(optional && access(file, F_OK) < 0) &&
        file_read(&a, file, MAX_FILE, &text, e) < 0) {
        buf_printf(faults, "%s: cannot be read: %s\n", file, e->cause[0] ? e->cause : e->msg);
        err_set(e, ERR_INVALID, "the configuration file cannot be read");
        config_free(c);
        return NULL;
    }
    return load(&l, text, file ? file : "configuration", argc, argv, below, env, e);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    arena_free(&c->arena);
    free(c);
}

/* ---- while it runs */

static size_t size_of(const struct setting *k)
{
    switch (k->type) {
    case SET_INT:
        return sizeof(int64_t);
    case SET_BOOL:
        return sizeof(bool);
    case SET_STR:
        break;
    }
    return sizeof(const char *);
}

static bool same_value(const struct setting *k, const void *a, const void *b)
{
    if (k->type != SET_STR)
        return memcmp(a, b, size_of(k)) == 0;
    return strcmp(*(char *const *)a, *(char *const *)b) == 0;
}

/* The tables are the same in both: so are the places of their keys. */
void config_follow(struct config *c, const struct config *old,
                   void (*changed)(void *ctx, const struct setting *key), void *ctx)
{
    for (size_t i = 0; i < c->n_keys; i++) {
        struct config_key *k = &c->keys[i];
        const struct config_key *before = &old->keys[i];

        if (k->is->reload)
            continue;
        if (!same_value(k->is, k->at, before->at))
            changed(ctx, k->is);
        memcpy(k->at, before->at, size_of(k->is));
        k->origin = before->origin;
    }
}

/* ---- print */

static void print_text(struct buf *out, const char *s)
{
    buf_putc(out, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            buf_printf(out, "\\%c", *s);
        else if (*s == '\n')
            buf_puts(out, "\\n");
        else if (*s == '\t')
            buf_puts(out, "\\t");
        else
            buf_putc(out, *s);
    }
    buf_putc(out, '"');
}

/* A URL with its password as stars; other texts that have one are not shown at all. */
static void print_masked(struct buf *out, const char *s)
{
    const char *rest = strstr(s, "://");
    const char *at = rest ? strrchr(rest, '@') : NULL;
    const char *colon = rest ? strchr(rest + 3, ':') : NULL;

    if (strstr(s, "password=") || !at || !colon || colon > at) {
        buf_puts(out, "\"****\"");
        return;
    }
    buf_printf(out, "\"%.*s:****%s\"", (int)(colon - s), s, at);
}

void config_print(const struct config *c, struct buf *out)
{
    const char *section = "";

    buf_puts(out, "# Later wins: default, file, environment, flag.\n");
    for (size_t i = 0; i < c->n_keys; i++) {
        const struct setting *k = c->keys[i].is;
        const char *word = strchr(k->name, '.') + 1;
        size_t n = (size_t)(word - k->name);
        const void *at = c->keys[i].at;

        if (strncmp(section, k->name, n) != 0)
            buf_printf(out, "%.*s:\n", (int)n - 1, k->name);
        section = k->name;
        buf_printf(out, "  # %s\n  # On a change: %s\n  # From: %s\n  %s: ", k->doc,
                   k->reload ? "reload (SIGHUP)" : "restart", c->keys[i].origin, word);
        if (k->type == SET_INT)
            buf_printf(out, "%lld", (long long)*(const int64_t *)at);
        else if (k->type == SET_BOOL)
            buf_puts(out, *(const bool *)at ? "true" : "false");
        else if (k->secret || config_has_password(*(char *const *)at))
            print_masked(out, *(char *const *)at);
        else
            print_text(out, *(char *const *)at);
        buf_putc(out, '\n');
    }
}
