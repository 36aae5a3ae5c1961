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

static void over(const char **to, const char *v)
{
    if (v)
        *to = v;
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
    /* A key belongs to the cloud of its profile: to another one it is not shown. */
    if (p && p->api_key && c->who.api_key == p->api_key && p->url && c->who.url &&
        strcmp(p->url, c->who.url) != 0)
        c->who.api_key = NULL;
    if (!c->who.url)
        c->who.url = "http://127.0.0.1:8080";
    return CLI_OK;
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

    fprintf(c->err, "brume: cannot reach %s: %s\n", c->who.url, why);
    if (local)
        fputs("Is `brume serve` running there? `brume doctor` checks this machine.\n", c->err);
    else
        fputs("Check the address: --url, BRUME_URL, or `brume config profiles`.\n", c->err);
    return CLI_CONNECT;
}

/* The address, who asks, what is sent: all but how long it may take. */
static void fill(struct cli *c, struct arena *a, const char *path, struct client_request *q,
                 struct client_header *headers)
{
    size_t base = strlen(c->who.url);

    while (base && c->who.url[base - 1] == '/')
        base--;
    if (!strncmp(c->who.url, "unix:", 5)) {
        q->unix_socket = c->who.url + 5;
        q->url = arena_printf(a, "http://localhost%s", path);
    } else {
        q->url = arena_printf(a, "%.*s%s", (int)base, c->who.url, path);
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

/* What to do next about an answer of that status. */
static void advise(struct cli *c, const struct command *k, int status, const char *code)
{
    if (status == 401 && !c->who.api_key)
        fputs("You are not logged in: `brume login`, or set BRUME_API_KEY.\n", c->err);
    else if (status == 401)
        fputs("The key is not valid (any more): `brume login` gets a new one.\n", c->err);
    else if (status == 403 && code && !strcmp(code, "quota_exceeded"))
        fputs("Delete something of that kind, or ask the operator for a larger plan.\n", c->err);
    else if (status == 403 && k && k->route->action)
        fprintf(c->err, "This needs the scope %s; `brume key list` shows what your keys have.\n",
                k->route->action);
    else if (status == 404 && k && k->n_params && (!code || strcmp(code, "not_found") == 0))
        fprintf(c->err, "`brume %s list` shows what there is.\n", k->word[0]);
    else if (status == 404 && code && !strcmp(code, "route_not_found"))
        fprintf(c->err, "%s does not know this command: is it an older brume?\n", c->who.url);
    else if (status == 400 && k)
        fprintf(c->err, "`brume %s %s --help` shows what it takes.\n", k->word[0],
                k->n_words > 1 ? k->word[1] : "");
    else if (status == 429 || status == 503)
        fputs("Try again in a moment.\n", c->err);
}

int cli_refused(struct cli *c, const struct command *k, const struct cli_answer *x)
{
    struct arena a = ARENA(MIB(4));
    const struct json_value *error =
        x->json && json_type_of(x->json) == JSON_OBJ ? json_get(x->json, "error") : NULL;
    const struct json_value *details;
    const char *code, *id, *retry = client_header(&x->http, "retry-after");

    if (!error || json_type_of(error) != JSON_OBJ) {
        fprintf(c->err, "brume: %s answered with status %d, and not as brume does\n", c->who.url,
                x->status);
        return CLI_API;
    }
    code = json_get_str(&a, error, "code", "");
    fprintf(c->err, "brume: %s (%s)\n", json_get_str(&a, error, "message", "it was refused"), code);
    details = json_get(error, "details");
    if (details && json_type_of(details) == JSON_ARR) {
        for (size_t i = 0; i < json_len(details); i++) {
            const struct json_value *d = json_at(details, i);

            if (json_type_of(d) == JSON_OBJ)
                fprintf(c->err, "  %s: %s\n", json_get_str(&a, d, "field", "?"),
                        json_get_str(&a, d, "message", "is wrong"));
        }
    } else if (details && json_type_of(details) == JSON_STR) {
        fprintf(c->err, "  %s\n", json_str_of(details, NULL));
    }
    if (retry)
        fprintf(c->err, "  try again in %s s\n", retry);
    id = json_get_str(&a, error, "request_id", NULL);
    if (id)
        fprintf(c->err, "  request %s\n", id);
    advise(c, k, x->status, code);
    arena_free(&a);
    return CLI_API;
}
