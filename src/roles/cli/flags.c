/* SPDX-License-Identifier: Apache-2.0 */
/* Turns arguments into a request by the route's tables: names and types of flags are looked up
 * there and nowhere else.  Ranges are not checked here; the server's tables do that and name every
 * fault. */

#include "roles/cli/flags.h"

#include <assert.h>
#include <termios.h>

#include "codec/json.h"
#include "codec/text.h"
#include "os/file.h"

enum { VALUE_FILE_MAX = 1 << 20 };

/* True if the first 'n' characters of a field's name are this flag. */
static bool name_is(const char *field, size_t n, struct str flag)
{
    if (flag.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (field[i] != flag.p[i] && !(field[i] == '_' && flag.p[i] == '-'))
            return false;
    return true;
}

/* "--vpc" means vpc_id. */
static bool is_field(const struct field *f, struct str flag)
{
    size_t n = strlen(f->name);

    if (name_is(f->name, n, flag) || (f->alias && name_is(f->alias, strlen(f->alias), flag)))
        return true;
    return f->type == F_REF && n > 3 && !strcmp(f->name + n - 3, "_id") &&
           name_is(f->name, n - 3, flag);
}

static const struct field *body_field(const struct command *c, struct str flag)
{
    const struct record *r = c->route->in;

    for (size_t i = 0; r && i < r->n_fields; i++)
        if (is_field(&r->fields[i], flag) && flags_takes(c, &r->fields[i]))
            return &r->fields[i];
    return NULL;
}

static const struct field *query_field(const struct command *c, struct str flag)
{
    const struct route *t = c->route;

    for (size_t i = 0; t->query && i < t->query->n_fields; i++)
        if (is_field(&t->query->fields[i], flag))
            return &t->query->fields[i];
    if (!t->list)
        return NULL;
    for (size_t i = 0; i < cli_paging_record.n_fields; i++)
        if (is_field(&cli_paging_record.fields[i], flag))
            return &cli_paging_record.fields[i];
    for (size_t i = 0; t->out && i < t->out->n_fields; i++)
        if (t->out->fields[i].flags & FF_FILTER && is_field(&t->out->fields[i], flag))
            return &t->out->fields[i];
    return NULL;
}

/* ---- the client's own */

static int take_format(struct cli_common *o, const char *v, struct err *e)
{
    static const char *const names[] = { "table", "json", "yaml", "id" };

    assert(o);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], v) != 0)
            continue;
        o->format = (enum cli_format)i;
        o->format_given = true;
        return 1;
    }
    return err_set(e, ERR_INVALID, "--output is table, json, yaml or id, not \"%.40s\"", v);
}

int flags_common(struct cli_common *o, int argc, const char *const *argv, int *at, struct err *e)
{
    const struct {
        const char *name, *brief;
        bool *yes;
        const char **text;
    } known[] = {
        { "--all", NULL, &o->all },       { "--watch", "-w", &o->watch },
        { "--wait", NULL, &o->wait },     { "--follow", "-f", &o->follow },
        { "--help", "-h", &o->help },     { "--url", NULL, NULL, &o->url },
        { "--ca", NULL, NULL, &o->ca },   { "--tenant", NULL, NULL, &o->tenant },
        { "--output", "-o", NULL, NULL }, { "--profile", NULL, NULL, &o->profile },
    };
    const char *arg = argv[*at];

    if (!strncmp(arg, "--api-key", 9))
        return err_set(e, ERR_INVALID,
                       "a key on the command line can be read by others: set BRUME_API_KEY, or "
                       "run `brume login`");
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t n = strlen(known[i].name);
        const char *v = NULL;

        if (known[i].yes) {
            if (strcmp(arg, known[i].name) != 0 &&
                (!known[i].brief || strcmp(arg, known[i].brief) != 0))
                continue;
            *known[i].yes = true;
            (*at)++;
            return 1;
        }
        if (!strncmp(arg, known[i].name, n) && arg[n] == '=')
            v = arg + n + 1;
        else if (known[i].brief && !strncmp(arg, known[i].brief, 2) && arg[2])
            v = arg + 2;
        else if (strcmp(arg, known[i].name) != 0 &&
                 (!known[i].brief || strcmp(arg, known[i].brief) != 0))
            continue;
        else if (*at + 1 < argc)
            v = argv[++*at];
        else
            return err_set(e, ERR_INVALID, "%s needs a value", arg);
        (*at)++;
        if (!known[i].text)
            return take_format(o, v, e);
        *known[i].text = v;
        return 1;
    }
    return 0;
}

/* ---- flags of the tables */

static int check_type(const struct field *f, struct str v, const char *flag, struct err *e)
{
    int64_t n;

    if (f->type == F_INT && !int_parse(v, INT64_MIN, INT64_MAX, &n))
        return err_set(e, ERR_INVALID, "%.60s must be a whole number", flag);
    if (f->type == F_BOOL && !str_is(v, "true") && !str_is(v, "false"))
        return err_set(e, ERR_INVALID, "%.60s is true or false", flag);
    return 0;
}

static bool is_json(struct str s, char first)
{
    struct err e;
    struct json_value *v;

    while (s.n && strchr(" \t\r\n", s.p[0]))
        s = (struct str){ s.p + 1, s.n - 1 };
    if (!s.n || (first && s.p[0] != first) || !(v = json_parse(s, &e)))
        return false;
    json_free(v);
    return true;
}

/* "KEY=VALUE", or all of them as a JSON object. */
static int check_pair(const struct field *f, struct str v, const char *flag, struct err *e)
{
    if (f->type != F_MAP || is_json(v, '{'))
        return 0;
    if (v.n && memchr(v.p, '=', v.n) && v.p[0] != '=')
        return 0;
    return err_set(e, ERR_INVALID, "%.*s takes KEY=VALUE, not \"%.*s\"",
                   (int)MIN(strcspn(flag, "="), (size_t)60), flag, (int)MIN(v.n, (size_t)60),
                   v.n ? v.p : "");
}

static int store_value(struct arena *a, const struct field *f, struct str v, const char *flag,
                       struct flag_value *to, size_t *n, struct err *e)
{
    struct str text = v;

    if (*n == FLAG_VALUES)
        return err_set(e, ERR_INVALID, "too many flags");
    if (f->type != F_INT && f->type != F_BOOL)
        TRY(value_read(a, f, v, &text, e));
    TRY(check_type(f, text, flag, e));
    TRY(check_pair(f, text, flag, e));
    to[(*n)++] = (struct flag_value){ f, text, false };
    return 0;
}

static int take_clear(const struct command *c, const char *name, struct flags *out, struct err *e)
{
    const struct field *f = name ? body_field(c, str_of(name)) : NULL;

    if (!f || !(f->flags & FF_CLEAR))
        return err_set(e, ERR_INVALID, "--clear takes the name of a field that can be cleared");
    if (out->n_body == FLAG_VALUES)
        return err_set(e, ERR_INVALID, "too many flags");
    out->body[out->n_body++] = (struct flag_value){ f, STR(""), true };
    return 0;
}

/* argv[*at] is a flag of the route's tables: 1; 0 if it is none of them. */
static int take_flag(struct arena *a, const struct command *c, int argc, const char *const *argv,
                     int *at, struct flags *out, struct err *e)
{
    const char *arg = argv[*at];
    const char *eq = strchr(arg, '=');
    struct str name = { arg + 2, eq ? (size_t)(eq - arg) - 2 : strlen(arg) - 2 };
    bool off = name.n > 3 && !strncmp(name.p, "no-", 3);
    const struct field *f = body_field(c, name), *q = f ? NULL : query_field(c, name);
    struct str v;

    if (!f && !q && off) {
        name = (struct str){ name.p + 3, name.n - 3 };
        f = body_field(c, name);
        if (!f || f->type != F_BOOL)
            return 0;
    } else {
        off = false;
    }
    if (!f && !q)
        return 0;
    if (eq)
        v = str_of(eq + 1);
    else if ((f ? f : q)->type == F_BOOL)
        v = off ? STR("false") : STR("true");
    else if (*at + 1 < argc)
        v = str_of(argv[++*at]);
    else
        return err_set(e, ERR_INVALID, "%.60s needs a value", arg);
    (*at)++;
    if (f)
        TRY(store_value(a, f, v, arg, out->body, &out->n_body, e));
    else
        TRY(store_value(a, q, v, arg, out->query, &out->n_query, e));
    return 1;
}

static int unknown_flag(struct arena *a, const struct command *c, const char *arg, struct err *e)
{
    const char *all[FLAG_VALUES], *near;
    size_t n = flags_names(a, c, all, ARRAY_LEN(all));
    size_t len = strcspn(arg, "=");
    const struct record *r = c->route->in;

    for (size_t i = 0; r && len > 2 && i < r->n_fields; i++)
        if (r->fields[i].flags & (FF_CREATE | FF_UPDATE) &&
            is_field(&r->fields[i], (struct str){ arg + 2, len - 2 }))
            return err_set(e, ERR_INVALID, "--%s cannot be %s", flag_name(a, &r->fields[i]),
                           c->route->method == POST ? "given at creation" : "changed");
    near = word_nearest(arena_dup(a, arg, len), all, n);
    return err_set(e, ERR_INVALID, "unknown flag %.*s%s%s%s", (int)MIN(len, (size_t)60), arg,
                   near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static int take_word(const struct command *c, const char *arg, struct flags *out, struct err *e)
{
    if (out->n_values == c->n_params)
        return err_set(e, ERR_INVALID, "\"%.60s\" is one word too many", arg);
    if (!*arg)
        return err_set(e, ERR_INVALID, "%s is empty", c->param[out->n_values]);
    out->value[out->n_values++] = arg;
    return 0;
}

static int take_one(struct arena *a, const struct command *c, int argc, const char *const *argv,
                    int *at, struct flags *out, struct err *e)
{
    const char *arg = argv[*at];
    int rc;

    if (arg[0] != '-' || !arg[1]) {
        (*at)++;
        return take_word(c, arg, out, e);
    }
    if (!strncmp(arg, "--", 2) && (rc = take_flag(a, c, argc, argv, at, out, e)) != 0)
        return rc;
    if (!strcmp(arg, "--data") || !strcmp(arg, "-d") || !strncmp(arg, "--data=", 7)) {
        if (arg[1] == '-' && arg[6] == '=')
            out->data = arg + 7;
        else if (*at + 1 < argc)
            out->data = argv[++*at];
        else
            return err_set(e, ERR_INVALID, "%s needs JSON, @file or -", arg);
        (*at)++;
        return 0;
    }
    if (!strcmp(arg, "--clear")) {
        TRY(take_clear(c, *at + 1 < argc ? argv[*at + 1] : NULL, out, e));
        *at += 2;
        return 0;
    }
    TRY(rc = flags_common(&out->common, argc, argv, at, e));
    if (rc == 0)
        return unknown_flag(a, c, arg, e);
    return 0;
}

/* A flag of the client that this command has no use for would be a wish unheard. */
static int check_common(const struct command *c, const struct cli_common *o, struct err *e)
{
    const struct route *r = c->route;

    if (o->all && !route_lists(r))
        return err_set(e, ERR_INVALID, "--all is for lists");
    if (o->watch && (r->method != GET || r->work == WRITE || r->work == STREAM || r->bytes))
        return err_set(e, ERR_INVALID, "--watch is for what shows or lists things");
    if (o->wait && r->method == GET)
        return err_set(e, ERR_INVALID, "--wait is for what makes or changes things: see --watch");
    if (o->follow && !(r->query && record_field(r->query, "follow")))
        return err_set(e, ERR_INVALID, "--follow is for logs: see --watch");
    return 0;
}

int flags_parse(struct arena *a, const struct command *c, int argc, const char *const *argv,
                struct flags *out, struct err *e)
{
    for (int at = 0; at < argc;) {
        if (!strcmp(argv[at], "--")) {
            out->rest = argv + at + 1;
            out->n_rest = argc - at - 1;
            break;
        }
        TRY(take_one(a, c, argc, argv, &at, out, e));
    }
    if (out->common.help)
        return 0;
    if (out->n_values < c->n_params)
        return err_set(e, ERR_INVALID, "%s is missing", c->param[out->n_values]);
    if (out->data && !c->route->in && c->route->body == BODY_AUTO)
        return err_set(e, ERR_INVALID, "this command sends no data");
    return check_common(c, &out->common, e);
}

static bool is_among(const struct flag_value *v, size_t n, const struct field *f)
{
    for (size_t i = 0; i < n; i++)
        if (v[i].field == f)
            return true;
    return false;
}

struct needed {
    struct arena *arena;
    const struct command *command;
    const struct flags *flags;
    struct buf missing;
    size_t n;
};

/* What comes as --data the server looks at. */
static void look_for(void *ctx, const struct field *q)
{
    struct needed *x = ctx;
    const struct flags *f = x->flags;
    bool of_body = field_of(x->command->route->in, q);

    if (!flags_needs(x->command, q) || (of_body && f->data) ||
        (f->n_rest && q == flags_rest(x->command)) || is_among(f->body, f->n_body, q) ||
        is_among(f->query, f->n_query, q))
        return;
    buf_printf(&x->missing, "%s--%s", x->n++ ? ", " : "", flag_name(x->arena, q));
}

int flags_required(struct arena *a, const struct command *c, const struct flags *f, struct err *e)
{
    struct needed x = { a, c, f, BUF(1024), 0 };
    const struct route *r = c->route;

    flags_each(c, look_for, &x);
    if (x.n)
        err_set(e, ERR_INVALID, "%.100s %s missing", buf_cstr(&x.missing), x.n == 1 ? "is" : "are");
    buf_free(&x.missing);
    if (x.n)
        return -1;
    if ((r->method == PATCH || r->partial) && r->in && !f->data && !f->n_body)
        return err_set(e, ERR_INVALID, "there is nothing to change: give a flag");
    return 0;
}

/* ---- values */

static int read_stdin(struct arena *a, bool line, struct str *out, struct err *e)
{
    struct buf b = BUF(VALUE_FILE_MAX);
    char piece[4096];
    ssize_t n;

    while ((n = read(STDIN_FILENO, piece, line ? 1 : sizeof(piece))) > 0) {
        if (line && piece[0] == '\n')
            break;
        buf_put(&b, piece, (size_t)n);
    }
    if (n < 0 || b.failed) {
        buf_free(&b);
        return err_set(e, ERR_INVALID,
                       n < 0 ? "standard input cannot be read"
                             : "standard input is longer than 1 MiB");
    }
    *out = (struct str){ arena_dup(a, b.n ? b.p : "", b.n), b.n };
    explicit_bzero(b.p, b.n);
    buf_free(&b);
    return 0;
}

/* A line typed without being shown. */
static int ask_hidden(struct arena *a, const char *what, struct str *out, struct err *e)
{
    struct termios old, quiet;
    int rc;

    if (tcgetattr(STDIN_FILENO, &old) < 0)
        return read_stdin(a, true, out, e);
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", what);
    fflush(stderr);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    rc = read_stdin(a, true, out, e);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stderr);
    return rc;
}

int value_read(struct arena *a, const struct field *f, struct str given, struct str *out,
               struct err *e)
{
    if (str_is(given, "-"))
        return f && field_is_secret(f) ? ask_hidden(a, f->name, out, e)
                                       : read_stdin(a, false, out, e);
    if (given.n > 1 && given.p[0] == '@' && given.p[1] == '@') {
        given.p++;
        given.n--;
    } else if (given.n > 1 && given.p[0] == '@') {
        TRY(file_read(a, arena_dup(a, given.p + 1, given.n - 1), VALUE_FILE_MAX, out, e));
        if (f && field_is_secret(f) && out->n && out->p[out->n - 1] == '\n')
            out->n--;
        return 0;
    }
    if (f && field_is_secret(f))
        return err_set(e, ERR_INVALID,
                       "a secret on the command line can be read by others: give %s as - (asked "
                       "for) or @file",
                       f->name);
    *out = given;
    return 0;
}

static const char *text_of(struct arena *a, struct str s)
{
    return arena_dup(a, s.p ? s.p : "", s.n);
}

/* The elements of a JSON array, without its brackets. */
static void put_elements(struct arena *a, struct json_out *o, struct str text)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = json_parse(text, &e);

    for (size_t i = 0; i < json_len(v); i++)
        json_raw(o, json_text(a, json_at(v, i)));
}

/* --cmd a --cmd b, or --cmd '["a","b"]'. */
static void put_list(struct arena *a, struct json_out *o, const struct flag_value *v, size_t n,
                     const struct field *f)
{
    json_open(o, '[');
    for (size_t i = 0; i < n; i++) {
        if (v[i].field != f || v[i].clear)
            continue;
        if (is_json(v[i].text, '['))
            put_elements(a, o, v[i].text);
        else
            json_strn(o, v[i].text.p, v[i].text.n);
    }
    json_close(o);
}

/* --env A=1 --env B=2, or --env '{"A":"1"}'. */
static void put_map(struct arena *a, struct json_out *o, const struct flag_value *v, size_t n,
                    const struct field *f)
{
    json_open(o, '{');
    for (size_t i = 0; i < n; i++) {
        struct str t = v[i].text;
        const char *eq;
        struct err e;

        if (v[i].field != f || v[i].clear)
            continue;
        if (is_json(t, '{')) {
            _cleanup_(json_freep) struct json_value *all = json_parse(t, &e);
            const char *key;

            for (size_t j = 0; j < json_len(all); j++) {
                const struct json_value *m = json_member(all, j, &key);

                json_key(o, key);
                json_raw(o, json_text(a, m));
            }
        } else if ((eq = memchr(t.p, '=', t.n))) {
            json_key(o, arena_dup(a, t.p, (size_t)(eq - t.p)));
            json_strn(o, eq + 1, (size_t)(t.p + t.n - eq) - 1);
        }
    }
    json_close(o);
}

/* --ports a --ports b, --ports a,b or --ports '["a","b"]': texts between commas, or an array if
 * one of them is. */
static void put_texts(struct arena *a, struct json_out *o, const struct flag_value *v, size_t n,
                      const struct field *f)
{
    struct buf b = BUF(MIB(1));
    bool array = false;

    for (size_t i = 0; i < n; i++)
        array |= v[i].field == f && is_json(v[i].text, '[');
    if (array) {
        put_list(a, o, v, n, f);
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (v[i].field == f && !v[i].clear)
            buf_printf(&b, "%s" STR_FMT, b.n ? "," : "", STR_ARG(v[i].text));
    json_str(o, arena_strdup(a, buf_cstr(&b)));
    buf_free(&b);
}

static void put_value(struct arena *a, struct json_out *o, const struct flag_value *v, size_t n,
                      const struct flag_value *one)
{
    const struct field *f = one->field;

    json_key(o, f->name);
    if (one->clear)
        json_null(o);
    else if (f->type == F_LIST)
        put_list(a, o, v, n, f);
    else if (f->type == F_MAP)
        put_map(a, o, v, n, f);
    else if (f->type == F_JSON && f->check_entry)
        put_texts(a, o, v, n, f);
    else if (f->type == F_INT || f->type == F_BOOL || (f->type == F_MICRO && is_json(one->text, 0)))
        json_raw(o, text_of(a, one->text));
    else if ((f->type == F_JSON || f->type == F_ROW || f->type == F_ROWS) && is_json(one->text, 0))
        json_raw(o, text_of(a, one->text));
    else
        json_strn(o, one->text.p ? one->text.p : "", one->text.n);
}

static bool given_by_flag(const struct flags *f, const char *key)
{
    for (size_t i = 0; i < f->n_body; i++)
        if (!strcmp(f->body[i].field->name, key) ||
            (f->body[i].field->alias && !strcmp(f->body[i].field->alias, key)))
            return true;
    return false;
}

static int put_data(struct arena *a, const struct flags *f, struct str data, struct json_out *o,
                    struct err *e)
{
    _cleanup_(json_freep) struct json_value *v = json_parse(data, e);

    if (!v)
        return -1;
    if (json_type_of(v) != JSON_OBJ)
        return err_set(e, ERR_INVALID, "--data must be a JSON object when flags stand beside it");
    for (size_t i = 0; i < json_len(v); i++) {
        const char *key;
        const struct json_value *m = json_member(v, i, &key);

        if (given_by_flag(f, key))
            continue;
        json_key(o, key);
        json_raw(o, json_text(a, m));
    }
    return 0;
}

int flags_body(struct arena *a, const struct command *c, const struct flags *f, struct buf *out,
               struct err *e)
{
    struct json_out o = JSON_OUT(out);
    const struct field *rest = f->n_rest ? flags_rest(c) : NULL;
    struct str data = { 0 };

    if (f->n_rest && !rest)
        return err_set(e, ERR_INVALID, "this command takes nothing after \"--\"");
    if (f->data)
        TRY(value_read(a, NULL, str_of(f->data), &data, e));
    if (f->data && !f->n_body && !rest) {
        buf_put(out, data.p, data.n);
        return out->failed ? err_set(e, ERR_TOO_LARGE, "--data is too long") : 0;
    }
    if (!f->n_body && !rest && !c->route->in)
        return 0;
    json_open(&o, '{');
    if (f->data)
        TRY(put_data(a, f, data, &o, e));
    for (size_t i = 0; i < f->n_body; i++) {
        size_t later = i + 1;

        /* The last one of a name counts; what has entries takes all, where the last stands. */
        while (later < f->n_body && f->body[later].field != f->body[i].field)
            later++;
        if (later == f->n_body)
            put_value(a, &o, f->body, f->n_body, &f->body[i]);
    }
    if (rest) {
        json_key(&o, rest->name);
        json_open(&o, '[');
        for (int i = 0; i < f->n_rest; i++)
            json_str(&o, f->rest[i]);
        json_close(&o);
    }
    json_close(&o);
    if (json_done(&o) < 0)
        return err_set(e, ERR_TOO_LARGE, "the request is too long");
    return 0;
}

const char *flags_query(struct arena *a, const struct flags *f)
{
    struct buf b = BUF(65536);
    const char *out;

    for (size_t i = 0; i < f->n_query; i++) {
        struct str enc;

        percent_encode(a, f->query[i].text, &enc);
        buf_printf(&b, "%c%s=" STR_FMT, i ? '&' : '?', f->query[i].field->name, STR_ARG(enc));
    }
    out = arena_strdup(a, buf_cstr(&b));
    buf_free(&b);
    return out;
}
