/* SPDX-License-Identifier: Apache-2.0 */
/* One request and its answer, and what to say when it fails.  Hides where url and credential come
 * from (flags over environment over profile) and how a slow answer is shown. */

#include <pthread.h>

#include "base/clock.h"
#include "roles/cli/cli.h"

const char *cli_env(const struct cli *c, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; c->env && c->env[i]; i++)
        if (!strncmp(c->env[i], name, n) && c->env[i][n] == '=' && c->env[i][n + 1])
            return c->env[i] + n + 1;
    return NULL;
}

int cli_usage(struct cli *c, const char *fmt, ...)
{
    va_list ap;

    fputs("brume: ", c->err);
    va_start(ap, fmt);
    vfprintf(c->err, fmt, ap);
    va_end(ap);
    fputc('\n', c->err);
    return CLI_USAGE;
}

int cli_misused(struct cli *c, const struct command *k, const struct err *e)
{
    return cli_usage(c, "%s. Usage: brume %s; --help says more.", e->msg,
                     cli_usage_of(c->arena, k, true));
}

static void over(const char **to, const char *v)
{
    if (v)
        *to = v;
}

/* The address in its one form; a key belongs to the cloud of its profile 'p': to another one it is
 * not shown. */
static int settle_url(struct cli *c, const struct profile *p)
{
    const char *own = p && p->url ? profile_url(c->arena, p->url) : NULL;
    const char *given = c->who.url ? c->who.url : "http://127.0.0.1:8080";
    const char *url = profile_url(c->arena, given);

    if (!url)
        return cli_usage(c,
                         "\"%s\" is no address: give http://HOST:PORT, https://HOST or unix:/PATH",
                         output_clean(c->arena, given, strlen(given), 0));
    if (p && p->api_key && c->who.api_key == p->api_key && p->url &&
        (!own || strcmp(own, url) != 0))
        c->who.api_key = NULL;
    c->who.url = url;
    return CLI_OK;
}

int cli_who(struct cli *c)
{
    const char *home = cli_env(c, "HOME");
    const char *name = c->common.profile ? c->common.profile : cli_env(c, "BRUME_PROFILE");
    struct profiles all = { 0 };
    struct profile *p = NULL;
    struct err e;

    c->who = (struct profile){ 0 };
    if (home) {
        c->profile_file = profiles_path(c->arena, home);
        if (profiles_load(c->arena, c->profile_file, &all, &e) < 0)
            return cli_usage(c, "%s", e.msg);
    }
    if (!name)
        name = all.current;
    if (name && !(p = profiles_find(&all, name)) && (c->common.profile || name != all.current))
        return cli_usage(c, "there is no profile \"%s\"; `brume config profiles` lists them", name);
    if (p)
        c->who = *p;
    c->found_profile = p != NULL;
    over(&c->who.url, cli_env(c, "BRUME_URL"));
    over(&c->who.api_key, cli_env(c, "BRUME_API_KEY"));
    over(&c->who.tenant, cli_env(c, "BRUME_TENANT"));
    over(&c->who.url, c->common.url);
    over(&c->who.tenant, c->common.tenant);
    over(&c->who.ca, c->common.ca);
    return settle_url(c, p);
}

/* ---- a line that shows that something goes on, once it has taken a second */

struct progress {
    struct cli *cli;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool over, shown, started;
};

static void *progress_main(void *arg)
{
    struct progress *p = arg;
    struct timespec at;
    int s = 0;

    clock_gettime(CLOCK_MONOTONIC, &at);
    pthread_mutex_lock(&p->lock);
    while (!p->over) {
        at.tv_sec++;
        while (!p->over && pthread_cond_timedwait(&p->wake, &p->lock, &at) != ETIMEDOUT)
            ;
        if (p->over)
            break;
        fprintf(p->cli->err, "\r\033[Kwaiting for %s … %d s", p->cli->who.url, ++s);
        fflush(p->cli->err);
        p->shown = true;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void progress_start(struct progress *p, struct cli *c)
{
    pthread_condattr_t attr;

    p->cli = c;
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->wake, &attr);
    pthread_condattr_destroy(&attr);
    p->started = pthread_create(&p->thread, NULL, progress_main, p) == 0;
}

static void progress_end(struct progress *p)
{
    pthread_mutex_lock(&p->lock);
    p->over = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (p->started)
        pthread_join(p->thread, NULL);
    if (p->shown)
        fputs("\r\033[K", p->cli->err);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
}

/* ---- */

static int nobody(struct cli *c, const struct err *e, const char *reason)
{
    const char *why = reason && *reason ? reason : e->msg;
    bool local = !strncmp(c->who.url, "unix:", 5) || strstr(c->who.url, "//127.") ||
                 strstr(c->who.url, "//localhost") || strstr(c->who.url, "//[::1]");

    fprintf(c->err, "brume: cannot reach %s: %s. %s\n", c->who.url, why,
            local ? "Is `brume serve` running there? `brume doctor` checks this machine."
                  : "Check the address: --url, BRUME_URL, or `brume config profiles`.");
    return CLI_CONNECT;
}

/* The address, who asks, what is sent: all but how long it may take. */
static void fill(struct cli *c, struct arena *a, const char *path, struct client_request *q,
                 struct client_header *headers)
{
    if (!strncmp(c->who.url, "unix:", 5)) {
        q->unix_socket = c->who.url + 5;
        q->url = arena_printf(a, "http://localhost%s", path);
    } else {
        q->url = arena_printf(a, "%s%s", c->who.url, path);
    }
    q->ca_file = c->who.ca;
    q->max_body = MIB(64);
    q->headers = headers;
    headers[q->n_headers++] = (struct client_header){ "User-Agent", "brume-cli/" BRUME_VERSION };
    headers[q->n_headers++] =
        (struct client_header){ "Accept", q->on_data ? "*/*" : "application/json" };
    if (c->who.api_key)
        headers[q->n_headers++] = (struct client_header){ "X-API-Key", c->who.api_key };
    if (c->who.tenant)
        headers[q->n_headers++] = (struct client_header){ "X-Tenant-ID", c->who.tenant };
    if (q->body.p)
        headers[q->n_headers++] = (struct client_header){ "Content-Type", "application/json" };
    if (q->upload_fd > 0)
        headers[q->n_headers++] =
            (struct client_header){ "Content-Type", "application/octet-stream" };
}

static int send_it(struct cli *c, struct arena *a, const char *path, struct client_request *q,
                   struct cli_answer *out)
{
    struct client_header headers[6];
    struct progress progress = { 0 };
    struct err e = { 0 };
    int rc;

    *out = (struct cli_answer){ 0 };
    fill(c, a, path, q, headers);
    if (c->err_tty && !q->on_data)
        progress_start(&progress, c);
    rc = client_do(a, q, &out->http, &e);
    if (progress.cli)
        progress_end(&progress);
    if (rc < 0 && q->on_data && ferror(c->out))
        return CLI_API; /* it was not the peer that ended it */
    if (rc < 0)
        return nobody(c, &e, out->http.reason);
    out->status = out->http.status;
    out->body = out->http.body;
    if (out->body.n)
        out->json = json_parse(out->body, &e);
    return CLI_OK;
}

int cli_ask(struct cli *c, struct arena *a, enum method m, const char *path, struct str body,
            const struct cli_stream *stream, struct cli_answer *out)
{
    struct client_request q = { .method = method_name(m), .body = body, .timeout = MINUTES(5) };

    if (stream) {
        q.timeout = -1;
        q.on_data = stream->on_data;
        q.ctx = stream->ctx;
    }
    return send_it(c, a, path, &q, out);
}

int cli_upload(struct cli *c, struct arena *a, enum method m, const char *path, int fd,
               struct cli_answer *out)
{
    struct client_request q = { .method = method_name(m), .upload_fd = fd, .timeout = -1 };

    return send_it(c, a, path, &q, out);
}

/* ---- refusals */

struct refusal {
    int status;
    const char *code, *message, *field; /* field: of the only fault */
    const char *help;                   /* the server's own advice, or NULL */
    const char *retry, *request;
};

static int exit_of(int status)
{
    switch (status) {
    case 401:
    case 403:
        return CLI_DENIED;
    case 404:
        return CLI_MISSING;
    case 409:
    case 412:
        return CLI_CONFLICT;
    case 429:
    case 503:
        return CLI_LATER;
    default:
        return CLI_API;
    }
}

/* The command that lists what the last parameter of 'k' names: beside it, or, of things that are
 * listed below others, the shortest one that lists their like. */
static const struct command *list_near(const struct cli *c, struct arena *a,
                                       const struct command *k)
{
    const char *path = k->route->path, *last = strrchr(path, '{');
    const struct command *list, *held;

    if (!last-- || !strchr(last, '}'))
        return NULL;
    list = commands_route(&c->commands, GET, arena_dup(a, path, (size_t)(last - path)));
    if (list && route_lists(list->route))
        return list;
    held = commands_holder(&c->commands, a, path, (size_t)(strchr(last, '}') + 1 - path));
    list = NULL;
    for (size_t i = 0; held && held->route->out && i < c->commands.n; i++) {
        const struct command *o = &c->commands.v[i];

        if (route_lists(o->route) && !strcmp(o->word[0], k->word[0]) &&
            o->route->out == held->route->out && (!list || o->n_words < list->n_words))
            list = o;
    }
    return list;
}

static const char *missing_advice(const struct cli *c, struct arena *a, const struct command *k,
                                  const struct refusal *r)
{
    const struct command *list = k ? list_near(c, a, k) : NULL;

    if (!strcmp(r->code, "route_not_found"))
        return arena_printf(a, "%s does not know this command: is it an older brume?", c->who.url);
    if (list)
        return arena_printf(a, "`brume %s` shows what there is.", cli_usage_of(a, list, false));
    return r->help;
}

static const char *denied_advice(struct arena *a, const struct command *k, const struct refusal *r)
{
    if (!strcmp(r->code, "quota_exceeded"))
        return "Delete something of that kind, or ask the operator for a larger plan.";
    if (k && k->route->action && strstr(r->message, k->route->action) &&
        strstr(r->message, "scope"))
        return arena_printf(a,
                            "`brume key list` shows what your keys may do; this needs one with "
                            "the scope %s.",
                            k->route->action);
    if (strstr(r->message, "viewer") || strstr(r->message, "admin") || strstr(r->message, "role"))
        return "It is your role in the tenant that counts: `brume tenant member list TENANT` shows "
               "who can change it.";
    if (strstr(r->message, "tenant"))
        return "`brume tenant list` shows where you are a member.";
    return r->help;
}

/* What to do next, or NULL. */
static const char *advice(const struct cli *c, struct arena *a, const struct command *k,
                          const struct refusal *r)
{
    switch (r->status) {
    case 400:
        if (r->field && !strcmp(r->field, "X-Tenant-ID"))
            return "`brume tenant list` shows their ids.";
        return k ? arena_printf(a, "`brume %s --help` shows what it takes.", cli_words_of(a, k))
                 : r->help;
    case 401:
        if (k && k->route->public)
            return "`brume auth forgot-password --email ADDRESS` mails a token that sets a new one.";
        return c->who.api_key ? "`brume login` gets a new one."
                              : "Run `brume login`, or set BRUME_API_KEY.";
    case 403:
        return denied_advice(a, k, r);
    case 404:
        return missing_advice(c, a, k, r);
    case 429:
    case 503:
        return r->retry ? arena_printf(a, "Try again in %s s.", r->retry)
                        : "Try again in a moment.";
    case 500:
        return arena_printf(a, "The server's log has the reason under %s.",
                            r->request ? r->request : "this time");
    default:
        return r->help;
    }
}

/* A credential that is missing or wrong, in the words of who uses the client. */
static const char *unauthorized(const struct cli *c, struct arena *a)
{
    if (!c->who.api_key)
        return arena_printf(a, "you are not logged in to %s", c->who.url);
    if (cli_env(c, "BRUME_API_KEY"))
        return arena_printf(a, "the key in BRUME_API_KEY is not valid at %s", c->who.url);
    return arena_printf(a, "the key in profile \"%s\" is not valid at %s (any more)", c->who.name,
                        c->who.url);
}

struct flag_search {
    struct str name; /* as the server has it */
    bool found;
};

static void same_name(void *ctx, const struct field *f)
{
    struct flag_search *x = ctx;

    x->found = x->found || str_is(x->name, f->name);
}

/* The member or parameter that a fault is about, as who types the command knows it: of what has a
 * flag its name, "--ports[1]". */
static const char *flag_of(struct arena *a, const struct command *k, const char *field)
{
    size_t n = strcspn(field, "[.");
    struct flag_search x = { .name = { field, n } };
    char *flag;

    if (k)
        flags_each(k, same_name, &x);
    if (!x.found)
        return field;
    flag = arena_printf(a, "--%s", field);
    for (size_t i = 0; i < n + 2; i++)
        if (flag[i] == '_')
            flag[i] = '-';
    return flag;
}

static void fault_lines(struct cli *c, struct arena *a, const struct command *k,
                        const struct json_value *faults)
{
    for (size_t i = 0; i < json_len(faults); i++) {
        const struct json_value *d = json_at(faults, i);

        if (json_type_of(d) == JSON_OBJ)
            fprintf(c->err, "  %s: %s\n", flag_of(a, k, json_get_str(a, d, "field", "?")),
                    json_get_str(a, d, "message", "is wrong"));
    }
}

/* The answer's own words made harmless for a terminal. */
static const char *clean(struct arena *a, const char *s)
{
    return s ? output_clean(a, s, strlen(s), 0) : NULL;
}

int cli_refused(struct cli *c, const struct command *k, const struct cli_answer *x)
{
    struct arena a = ARENA(MIB(4));
    const struct json_value *error =
        x->json && json_type_of(x->json) == JSON_OBJ ? json_get(x->json, "error") : NULL;
    const struct json_value *details, *one;
    struct refusal r = { .status = x->status, .retry = client_header(&x->http, "retry-after") };
    const char *next;
    bool many;

    if (!error || json_type_of(error) != JSON_OBJ) {
        fprintf(c->err,
                "brume: %s answered with status %d, and not as brume does. Check the address: "
                "--url, BRUME_URL, or `brume config profiles`.\n",
                c->who.url, x->status);
        return exit_of(x->status);
    }
    r.code = clean(&a, json_get_str(&a, error, "code", ""));
    r.message = clean(&a, json_get_str(&a, error, "message", "it was refused"));
    r.request = clean(&a, json_get_str(&a, error, "request_id", NULL));
    r.help = clean(&a, json_get_str(&a, error, "details", NULL));
    details = json_get(error, "details");
    many = details && json_type_of(details) == JSON_ARR;
    one = many && json_len(details) == 1 ? json_at(details, 0) : NULL;
    if (one && json_type_of(one) == JSON_OBJ) {
        many = false;
        r.field = clean(&a, json_get_str(&a, one, "field", "it"));
        r.message = arena_printf(&a, "%s%s%s", flag_of(&a, k, r.field), *r.field ? " " : "",
                                 clean(&a, json_get_str(&a, one, "message", "is wrong")));
    }
    if (r.status == 401 && !strcmp(r.code, "unauthorized") && !(k && k->route->public))
        r.message = unauthorized(c, &a);
    next = advice(c, &a, k, &r);
    fprintf(c->err, "brume: %s (%s)%s%s\n", r.message, r.code, next ? ". " : "", next ? next : "");
    if (many)
        fault_lines(c, &a, k, details);
    arena_free(&a);
    return exit_of(r.status);
}
