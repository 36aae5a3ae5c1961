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

int config_find(struct str name)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (str_is(name, config_keys[i].name))
            return (int)i;
    return -1;
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

static const char *text_fault(struct config_load *l, const struct config_key *k, struct str s)
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

void config_set(struct config_load *l, int key, struct str text, const char *where,
                const char *origin)
{
    const struct config_key *k = &config_keys[key];
    void *at = (char *)l->c + k->offset;
    int64_t i;

    switch (k->type) {
    case CFG_STR: {
        const char *wrong = text_fault(l, k, text);

        if (wrong) {
            config_fault(l, where, "%s", wrong);
            return;
        }
        *(const char **)at = arena_dup(&l->c->arena, text.p, text.n);
        break;
    }
    case CFG_INT:
        if (!int_parse(text, k->min, k->max, &i)) {
            config_fault(l, where, "must be an integer from %lld to %lld", (long long)k->min,
                         (long long)k->max);
            return;
        }
        *(int64_t *)at = i;
        break;
    case CFG_BOOL:
        if (!str_is(text, "true") && !str_is(text, "false")) {
            config_fault(l, where, "must be true or false");
            return;
        }
        *(bool *)at = str_is(text, "true");
        break;
    }
    l->c->origin[key] = origin;
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
static bool env_ours(struct str name)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        char begin[80];

        env_name(config_keys[i].name, begin);
        size_t n = 6 + strcspn(config_keys[i].name, ".") + 1;
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
        int key = -1;

        if (!eq || strncmp(*env, "BRUME_", 6) != 0)
            continue;
        for (size_t i = 0; i < config_n_keys; i++) {
            char n[80];

            env_name(config_keys[i].name, n);
            if (str_is(name, n))
                key = (int)i;
        }
        const char *where =
            arena_printf(&l->c->arena, "environment %.*s", (int)MIN(name.n, (size_t)80), name.p);
        if (key >= 0)
            config_set(l, key, str_of(eq + 1), where, where);
        else if (env_ours(name))
            config_fault(l, where, "no such key");
    }
}

/* ---- flags */

static int flag_find(struct str name)
{
    for (size_t i = 0; i < config_n_keys; i++)
        if (str_is(name, config_keys[i].name) ||
            (config_keys[i].flag && str_is(name, config_keys[i].flag)))
            return (int)i;
    return -1;
}

struct flag {
    struct str name;   /* without dashes */
    const char *value; /* NULL: none given */
};

/* Splits argv[*i]; takes the next word as its value where there is no '='. */
static bool flag_next(int argc, const char *const *argv, int *i, struct flag *f)
{
    const char *a = argv[*i];

    if (strncmp(a, "--", 2) != 0 || !a[2])
        return false;
    const char *eq = strchr(a, '=');
    f->name = (struct str){ a + 2, eq ? (size_t)(eq - a - 2) : strlen(a + 2) };
    f->value = eq ? eq + 1 : NULL;
    int key = flag_find(f->name);
    bool is_bool = key >= 0 && config_keys[key].type == CFG_BOOL;
    if (!eq && !is_bool && *i + 1 < argc && strncmp(argv[*i + 1], "--", 2) != 0)
        f->value = argv[++*i];
    else if (!eq && is_bool)
        f->value = "true";
    return true;
}

static void read_flag(struct config_load *l, const struct flag *f, bool seen[CONFIG_MAX_KEYS])
{
    const char *where =
        arena_printf(&l->c->arena, "--%.*s", (int)MIN(f->name.n, (size_t)80), f->name.p);
    int key = flag_find(f->name);

    if (str_is(f->name, "role") || str_is(f->name, "config")) {
        if (!f->value)
            config_fault(l, where, "needs a value");
        return;
    }
    if (key < 0) {
        config_fault(l, where, "no such flag");
        return;
    }
    const struct config_key *k = &config_keys[key];
    if (!f->value)
        config_fault(l, where, "needs a value");
    else if (seen[key])
        config_fault(l, where, "is given twice");
    else if (k->secret)
        config_fault(l, where,
                     "is a secret, and every user of this machine can read flags: put it "
                     "in the file or the environment");
    else if (config_has_password(f->value))
        config_fault(
            l, where,
            "has a password in it, and every user of this machine can read flags: leave it "
            "out and name its file by %s, or put the whole into the environment",
            strncmp(k->name, "mail.", 5) == 0 ? "mail.smtp_password_file" : "store.password_file");
    else
        config_set(l, key, str_of(f->value), where, arena_printf(&l->c->arena, "flag %s", where));
    seen[key] = true;
}

static void read_flags(struct config_load *l, int argc, const char *const *argv)
{
    bool seen[CONFIG_MAX_KEYS] = { false };

    for (int i = 0; i < argc && l->n_faults < MAX_FAULTS; i++) {
        struct flag f;

        if (flag_next(argc, argv, &i, &f))
            read_flag(l, &f, seen);
        else
            config_fault(l, "command line", "unexpected word '%.80s'", argv[i]);
    }
}

/* ---- the whole */

static void read_below(struct config_load *l, const struct config_below *below)
{
    for (; below && below->key; below++) {
        int key = config_find(str_of(below->key));

        assert(key >= 0);
        config_set(l, key, str_of(below->value), below->key, below->origin);
    }
}

static struct config *load(struct str yaml, const char *name, int argc, const char *const *argv,
                           const struct config_below *below, const char *const *env,
                           struct buf *faults, struct err *e)
{
    struct config *c = calloc(1, sizeof(*c));

    if (!c)
        abort();
    c->arena = ARENA(MIB(64));
    struct config_load l = { .c = c, .faults = faults };
    for (size_t i = 0; i < config_n_keys; i++)
        config_set(&l, (int)i, str_of(config_keys[i].dflt), config_keys[i].name, "default");
    read_below(&l, below);
    config_yaml(&l, yaml, name);
    read_env(&l, env);
    read_flags(&l, argc, argv);
    config_check(&l);
    if (!l.n_faults)
        return c;
    err_set(e, ERR_INVALID, "the configuration has %zu fault%s", l.n_faults,
            l.n_faults == 1 ? "" : "s");
    config_free(c);
    return NULL;
}

struct config *config_load_text(struct str yaml, const char *name, int argc,
                                const char *const *argv, const char *const *env, struct buf *faults,
                                struct err *e)
{
    return load(yaml, name, argc, argv, NULL, env, faults, e);
}

struct config *config_load(const char *file, int argc, const char *const *argv,
                           const struct config_below *below, const char *const *env,
                           struct buf *faults, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct str text = STR("");

    for (int i = 0; i < argc; i++) {
        struct flag f;

        if (flag_next(argc, argv, &i, &f) && str_is(f.name, "config") && f.value)
            file = f.value;
    }
    bool optional = file && strcmp(file, CONFIG_DEFAULT_FILE) == 0;
    if (file && !(optional && access(file, F_OK) < 0) &&
        file_read(&a, file, MAX_FILE, &text, e) < 0) {
        buf_printf(faults, "%s: cannot be read: %s\n", file, e->cause[0] ? e->cause : e->msg);
        err_set(e, ERR_INVALID, "the configuration file cannot be read");
        return NULL;
    }
    return load(text, file ? file : "configuration", argc, argv, below, env, faults, e);
}

void config_free(struct config *c)
{
    if (!c)
        return;
    arena_free(&c->arena);
    free(c);
}

/* ---- while it runs */

static size_t size_of(const struct config_key *k)
{
    switch (k->type) {
    case CFG_INT:
        return sizeof(int64_t);
    case CFG_BOOL:
        return sizeof(bool);
    case CFG_STR:
        break;
    }
    return sizeof(const char *);
}

static bool same_value(const struct config_key *k, const void *a, const void *b)
{
    if (k->type != CFG_STR)
        return memcmp(a, b, size_of(k)) == 0;
    return strcmp(*(char *const *)a, *(char *const *)b) == 0;
}

void config_follow(struct config *c, const struct config *old,
                   void (*changed)(void *ctx, const struct config_key *key), void *ctx)
{
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        char *now = (char *)c + k->offset;
        const char *before = (const char *)old + k->offset;

        if (k->reload)
            continue;
        if (!same_value(k, now, before))
            changed(ctx, k);
        memcpy(now, before, size_of(k));
        c->origin[i] = old->origin[i];
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
    for (size_t i = 0; i < config_n_keys; i++) {
        const struct config_key *k = &config_keys[i];
        const char *word = strchr(k->name, '.') + 1;
        size_t n = (size_t)(word - k->name);
        const void *at = (const char *)c + k->offset;

        if (strncmp(section, k->name, n) != 0)
            buf_printf(out, "%.*s:\n", (int)n - 1, k->name);
        section = k->name;
        buf_printf(out, "  # %s\n  # On a change: %s\n  # From: %s\n  %s: ", k->doc,
                   k->reload ? "reload (SIGHUP)" : "restart", c->origin[i], word);
        if (k->type == CFG_INT)
            buf_printf(out, "%lld", (long long)*(const int64_t *)at);
        else if (k->type == CFG_BOOL)
            buf_puts(out, *(const bool *)at ? "true" : "false");
        else if (k->secret || config_has_password(*(char *const *)at))
            print_masked(out, *(char *const *)at);
        else
            print_text(out, *(char *const *)at);
        buf_putc(out, '\n');
    }
}
