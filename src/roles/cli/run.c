/* SPDX-License-Identifier: Apache-2.0 */
/* Runs one command of the tables: arguments to request, answer to output.  Names in place of ids
 * are looked up here where the server does not take them. */

#include "roles/cli/cli.h"

#include <fcntl.h>

#include "base/clock.h"
#include "codec/id.h"
#include "codec/text.h"

enum { PAGES_MAX = 1000, OUTPUT_MAX = 256 << 20, PAGE = 100 };
enum { RAN_TOO_LONG = 124 }; /* as of timeout(1) */

/* What 'c->out' does not take is told where the program ends. */
static int print(struct cli *c, struct buf *b)
{
    int rc = b->failed ? CLI_API : CLI_OK;

    if (b->failed)
        fputs("brume: the answer is too large to show\n", c->err);
    else if (b->n)
        fwrite(b->p, 1, b->n, c->out);
    fflush(c->out);
    buf_free(b);
    return rc;
}

static bool is_id(const char *s)
{
    return id_looks_like(str_of(s));
}

/* The row of that name; where the list has no filter for it, all of it is looked through. */
static const char *id_of_name(struct cli *c, const struct json_value *rows, const char *name)
{
    const char *id = NULL;

    for (size_t i = 0; i < json_len(rows); i++) {
        const struct json_value *row = json_at(rows, i);

        if (json_type_of(row) != JSON_OBJ ||
            (strcmp(json_get_str(c->arena, row, "name", ""), name) != 0 &&
             strcmp(json_get_str(c->arena, row, "slug", ""), name) != 0))
            continue;
        if (id)
            return NULL; /* two of that name */
        id = json_get_str(c->arena, row, "id", NULL);
    }
    return id;
}

/* The id of the thing of that name, by its list.  A name in the path that nobody bears stays as it
 * is: the server says so; in a flag ('flag') it is said here, for the server knows ids only. */
static int look_up(struct cli *c, const struct record *r, const char *flag, const char **value)
{
    const struct command *list;
    const struct field *name;
    struct cli_answer x;
    const struct json_value *rows;
    const char *id, *query = "";
    struct str enc;
    int rc;

    if (!*value || is_id(*value) || !(list = commands_list_of(&c->commands, r)) ||
        !(name = record_field(list->route->out, "name")))
        return CLI_OK;
    percent_encode(c->arena, str_of(*value), &enc);
    if (name->flags & FF_FILTER)
        query = arena_printf(c->arena, "?limit=2&name=" STR_FMT, STR_ARG(enc));
    rc = cli_ask(c, c->arena, GET, arena_printf(c->arena, "%s%s", list->path, query),
                 (struct str){ 0 }, NULL, &x);
    if (rc != CLI_OK)
        return rc;
    if (x.status != 200) {
        rc = cli_refused(c, list, &x);
    } else if (x.json && (rows = output_list(x.json))) {
        id = id_of_name(c, rows, *value);
        if (id) {
            *value = id;
        } else if (flag) {
            fprintf(c->err,
                    "brume: --%s: there is no %s of the name \"%s\". `brume %s` shows what "
                    "there is.\n",
                    flag, list->word[0], *value, cli_usage_of(c->arena, list, false));
            rc = CLI_MISSING;
        }
    }
    cli_answer_done(&x);
    return rc;
}

/* The record whose id is the i-th parameter of the path, as far as the tables tell. */
static const struct record *param_record(struct cli *c, const struct command *k, size_t i)
{
    const char *p = k->route->path;
    const struct command *get;

    for (size_t n = 0; (p = strchr(p, '{')); n++) {
        p = strchr(p, '}');
        if (!p)
            break;
        if (n < i)
            continue;
        get = commands_holder(&c->commands, c->arena, k->route->path,
                              (size_t)(p + 1 - k->route->path));
        return get ? get->route->out : NULL;
    }
    return NULL;
}

static int resolve(struct cli *c, const struct command *k, struct flags *f)
{
    int rc;

    for (size_t i = 0; i < f->n_values; i++) {
        const struct record *r;

        if (k->route->by_name && i == 0 && k->path == k->route->path)
            continue; /* the server takes names there */
        r = param_record(c, k, i);
        if (r && (rc = look_up(c, r, NULL, &f->value[i])) != CLI_OK)
            return rc;
    }
    for (size_t i = 0; i < f->n_body + f->n_query; i++) {
        struct flag_value *v = i < f->n_body ? &f->body[i] : &f->query[i - f->n_body];
        const char *text;

        if (v->field->type != F_REF || !v->field->ref || v->clear || !v->text.n)
            continue;
        text = arena_dup(c->arena, v->text.p, v->text.n);
        if ((rc = look_up(c, v->field->ref, flag_name(c->arena, v->field), &text)) != CLI_OK)
            return rc;
        v->text = str_of(text);
    }
    return CLI_OK;
}

/* ---- lists */

/* Path and query of the page that a Link header calls next, or NULL. */
static const char *next_page(struct arena *a, const struct cli_answer *x)
{
    const char *link = client_header(&x->http, "link");
    const char *end, *slash;

    for (; link && (link = strchr(link, '<')); link = end) {
        if (!(end = strchr(link, '>')))
            return NULL;
        if (strncmp(end, ">; rel=\"next\"", 13) != 0)
            continue;
        link++;
        slash = strstr(link, "://");
        slash = slash && slash < end ? strchr(slash + 3, '/') : link;
        return slash && *slash == '/' && slash < end ? arena_dup(a, slash, (size_t)(end - slash))
                                                     : NULL;
    }
    return NULL;
}

/* Where no Link stands: the envelope's cursor put behind the path. */
static const char *next_by_cursor(struct arena *a, const char *path, const struct json_value *v)
{
    const char *cursor =
        json_type_of(v) == JSON_OBJ ? json_get_str(a, v, "next_cursor", NULL) : NULL;
    const char *old = strstr(path, "cursor=");
    struct str enc;

    if (!cursor)
        return NULL;
    percent_encode(a, str_of(cursor), &enc);
    if (old)
        path = arena_dup(a, path, (size_t)(old - path) - 1);
    return arena_printf(a, "%s%ccursor=" STR_FMT, path, strchr(path, '?') ? '&' : '?',
                        STR_ARG(enc));
}

static bool has_query(const struct flags *f, const char *name)
{
    for (size_t i = 0; i < f->n_query; i++)
        if (!strcmp(f->query[i].field->name, name))
            return true;
    return false;
}

struct pages {
    struct json_value **v;
    size_t n, rows;
};

static void pages_free(struct pages *p)
{
    for (size_t i = 0; i < p->n; i++)
        json_free(p->v[i]);
}

static int run_list(struct cli *c, const struct command *k, const char *path, const struct flags *f)
{
    struct pages all = { arena_alloc(c->arena, sizeof(struct json_value *) * PAGES_MAX), 0, 0 };
    const struct json_value **rows;
    const char *next = path;
    struct buf b = BUF(OUTPUT_MAX);
    size_t n = 0;
    int rc = CLI_OK;

    do {
        struct cli_answer x;

        rc = cli_ask(c, c->arena, GET, next, (struct str){ 0 }, NULL, &x);
        if (rc == CLI_OK && x.status != 200)
            rc = cli_refused(c, k, &x);
        else if (rc == CLI_OK && (!x.json || !output_list(x.json)))
            rc = cli_refused(c, k, &x);
        if (rc != CLI_OK) {
            cli_answer_done(&x);
            break;
        }
        all.v[all.n++] = x.json;
        all.rows += json_len(output_list(x.json));
        path = next;
        if (!(next = next_page(c->arena, &x)))
            next = next_by_cursor(c->arena, path, x.json);
    } while (next && f->common.all && all.n < PAGES_MAX);
    if (rc == CLI_OK) {
        rows = arena_alloc(c->arena, sizeof(const struct json_value *) * (all.rows + 1));
        for (size_t i = 0; i < all.n; i++)
            for (size_t j = 0; j < json_len(output_list(all.v[i])); j++)
                rows[n++] = json_at(output_list(all.v[i]), j);
        output_rows(c->arena, k->route->out, rows, n, f->common.format, clock_wall(clock_system()),
                    &b);
        rc = print(c, &b);
        if (next)
            fputs("brume: there are more; --all shows them, --limit N more at once\n", c->err);
    }
    pages_free(&all);
    return rc;
}

/* ---- streams */

struct tap {
    struct cli *cli;
    struct buf start; /* what may be an error's body */
    bool flowing;
};

static int on_data(void *ctx, struct str data)
{
    struct tap *t = ctx;

    /* An error is one JSON object with "error" first; all else is the stream. */
    if (!t->flowing) {
        static const char mark[] = "{\"error\"";

        buf_put(&t->start, data.p, data.n);
        if (t->start.n <= 65536 && !memcmp(t->start.p, mark, MIN(t->start.n, sizeof(mark) - 1)))
            return 0;
        t->flowing = true;
        data = buf_str(&t->start);
    }
    if (fwrite(data.p, 1, data.n, t->cli->out) != data.n || fflush(t->cli->out) != 0)
        return -1;
    return 0;
}

static int run_stream(struct cli *c, const struct command *k, const char *path, struct str body)
{
    struct tap tap = { c, BUF(1 << 20), false };
    struct cli_stream stream = { on_data, &tap };
    struct cli_answer x;
    struct err e;
    int rc = cli_ask(c, c->arena, k->route->method, path, body, &stream, &x);

    if (rc == CLI_OK && x.status >= 300) {
        if (!x.json && tap.start.n)
            x.json = json_parse(buf_str(&tap.start), &e);
        rc = cli_refused(c, k, &x);
    } else if (rc == CLI_OK && !tap.flowing && tap.start.n) {
        fwrite(tap.start.p, 1, tap.start.n, c->out);
    }
    cli_answer_done(&x);
    buf_free(&tap.start);
    return rc;
}

/* ---- one object */

static const char *member_of(struct arena *a, const struct json_value *v, const char *one,
                             const char *other)
{
    const char *s = json_get_str(a, v, one, NULL);

    return s ? s : json_get_str(a, v, other, NULL);
}

/* Text, or bytes in base64 if 'encoding' says so. */
static void put_bytes(struct arena *a, FILE *to, const char *text, const char *encoding)
{
    size_t n = text ? strlen(text) : 0;
    const void *bytes = text;

    if (n && encoding && strcmp(encoding, "base64") == 0)
        bytes = base64_decode(a, str_of(text), false, &n);
    if (bytes)
        fwrite(bytes, 1, n, to);
}

static int show_value(struct cli *c, const struct command *k, const struct flags *f,
                      const struct json_value *v)
{
    struct buf b = BUF(OUTPUT_MAX);

    output_value(c->arena, k->route->out, v, f->common.format, clock_wall(clock_system()), &b);
    return print(c, &b);
}

/* Told beside the output, which alone does not show it. */
static int ended_early(struct cli *c, const struct json_value *v, int code)
{
    if (json_get_bool(v, "truncated", false)) {
        fputs("brume: the output is cut: the command printed more than an answer holds\n", c->err);
        code = code ? code : CLI_API;
    }
    if (json_get_bool(v, "timed_out", false)) {
        fputs("brume: the command was killed as its time was up; --timeout gives it more\n",
              c->err);
        code = RAN_TOO_LONG;
    }
    return code;
}

/* The result of a command run inside an instance: its exit code becomes ours, and its output too
 * unless the answer is asked for in a format. */
static bool ran_inside(struct cli *c, const struct command *k, const struct flags *f,
                       const struct json_value *v, int *rc)
{
    const char *out, *err;
    int failed = CLI_OK;

    if (!flags_rest(k) || json_type_of(v) != JSON_OBJ || !json_get(v, "exit_code") ||
        k->route->method != POST)
        return false;
    if (f->common.format_given) {
        failed = show_value(c, k, f, v);
    } else {
        out = member_of(c->arena, v, "stdout", "output");
        err = json_get_str(c->arena, v, "stderr", NULL);
        put_bytes(c->arena, c->out, out, json_get_str(c->arena, v, "stdout_encoding", NULL));
        put_bytes(c->arena, c->err, err, json_get_str(c->arena, v, "stderr_encoding", NULL));
        fflush(c->out);
    }
    *rc = ended_early(c, v, (int)(json_get_int(v, "exit_code", 0) & 0xff));
    *rc = *rc ? *rc : failed;
    return true;
}

static int show(struct cli *c, const struct command *k, const struct flags *f,
                const struct cli_answer *x)
{
    struct buf b = BUF(OUTPUT_MAX);
    int rc = CLI_OK;

    if (!x->json) {
        if (x->body.n)
            buf_put(&b, x->body.p, x->body.n);
        else if (k->route->method == DELETE && f->common.format == FORMAT_TABLE && f->n_values)
            buf_printf(&b, "Deleted %s.\n", f->value[f->n_values - 1]);
        return print(c, &b);
    }
    if (ran_inside(c, k, f, x->json, &rc))
        return rc;
    return show_value(c, k, f, x->json);
}

/* --data @FILE or -, sent as it is. */
static int upload(struct cli *c, const struct command *k, const char *path, const struct flags *f,
                  struct cli_answer *x)
{
    _cleanup_close_ int fd = -1;

    if (!f->data || (strcmp(f->data, "-") != 0 && f->data[0] != '@'))
        return cli_usage(c, "this command sends a file: --data @FILE, or - for standard input");
    fd = f->data[0] == '@' ? open(f->data + 1, O_RDONLY | O_CLOEXEC)
                           : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return cli_usage(c, "%s: %s", f->data + 1, strerror(errno));
    return cli_upload(c, c->arena, k->route->method, path, fd, x);
}

static int run_one(struct cli *c, const struct command *k, const char *path, struct str body,
                   const struct flags *f)
{
    struct cli_answer x = { 0 };
    int rc = k->route->body == BODY_RAW
                 ? upload(c, k, path, f, &x)
                 : cli_ask(c, c->arena, k->route->method, path, body, NULL, &x);

    if (rc == CLI_OK && x.status >= 300)
        rc = cli_refused(c, k, &x);
    else if (rc == CLI_OK && f->common.wait)
        rc = cli_wait(c, k, f, x.json, k->route->method == DELETE);
    else if (rc == CLI_OK)
        rc = show(c, k, f, &x);
    cli_answer_done(&x);
    return rc;
}

static const char *path_of(struct cli *c, const struct command *k, const struct flags *f)
{
    const char *path = command_path(c->arena, k, f->value);
    const char *query = flags_query(c->arena, f);

    if (!path)
        return NULL;
    if (f->common.follow && k->route->query && record_field(k->route->query, "follow") &&
        !has_query(f, "follow"))
        query = arena_printf(c->arena, "%s%cfollow=true", query, *query ? '&' : '?');
    if ((k->route->list || (k->route->query && record_field(k->route->query, "limit"))) &&
        route_lists(k->route) && !has_query(f, "limit")) {
        int page = k->route->page_max && k->route->page_max < PAGE ? k->route->page_max : PAGE;

        query = arena_printf(c->arena, "%s%climit=%d", query, *query ? '&' : '?', page);
    }
    return arena_printf(c->arena, "%s%s", path, query);
}

/* Secrets that the body must have and no flag gave are asked for. */
static int ask_secrets(struct cli *c, const struct command *k, struct flags *f, struct err *e)
{
    const struct record *r = k->route->in;

    for (size_t i = 0; r && !f->data && i < r->n_fields && isatty(STDIN_FILENO); i++) {
        const struct field *field = &r->fields[i];
        bool given = false;

        for (size_t j = 0; j < f->n_body; j++)
            given |= f->body[j].field == field;
        if (given || !(field->flags & FF_REQUIRED) || !field_is_secret(field) ||
            f->n_body == FLAG_VALUES)
            continue;
        f->body[f->n_body].field = field;
        TRY(value_read(c->arena, field, STR("-"), &f->body[f->n_body].text, e));
        f->n_body++;
    }
    return 0;
}

int cli_run(struct cli *c, const struct command *k, int argc, const char *const *argv)
{
    struct flags f = { .common = c->common };
    struct buf body = BUF(MIB(16));
    const char *path;
    struct str sent = { 0 };
    struct err e = { 0 };
    int rc;

    if (flags_parse(c->arena, k, argc, argv, &f, &e) < 0)
        return cli_misused(c, k, &e);
    c->common = f.common;
    if (f.common.help) {
        cli_help_command(c, k, c->out);
        return CLI_OK;
    }
    if (ask_secrets(c, k, &f, &e) < 0 || flags_required(c->arena, k, &f, &e) < 0)
        return cli_misused(c, k, &e);
    if (f.common.wait && !cli_waits(c, k))
        return cli_usage(c, "--wait: this is done at once, there is nothing to wait for");
    if ((rc = cli_who(c)) != CLI_OK || (rc = resolve(c, k, &f)) != CLI_OK)
        return rc;
    if (k->route->body != BODY_RAW && flags_body(c->arena, k, &f, &body, &e) < 0) {
        buf_free(&body);
        return cli_misused(c, k, &e);
    }
    if (body.n)
        sent = buf_str(&body);
    path = path_of(c, k, &f);
    if (!path)
        rc = cli_usage(c, "the arguments are too long");
    else if (f.common.watch && k->route->method == GET && k->route->work != STREAM)
        rc = cli_watch(c, k, path);
    else if (route_lists(k->route))
        rc = run_list(c, k, path, &f);
    else if (k->route->bytes && isatty(fileno(c->out)))
        rc = cli_usage(c, "this command gives a file: brume %s > FILE", cli_words_of(c->arena, k));
    else if (k->route->work == STREAM || k->route->bytes || f.common.follow)
        rc = run_stream(c, k, path, sent);
    else
        rc = run_one(c, k, path, sent, &f);
    buf_free(&body);
    return rc;
}
