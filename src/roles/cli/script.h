/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A server that answers from a script and remembers what it was asked, and the client run against
 * it with its output caught. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "http/server.h"
#include "os/file.h"
#include "roles/cli/cli.h"
#include "roles/cli/sample.h"

enum { STEPS = 16 };

struct step {
    const char *ask; /* "GET /things?limit=100" */
    int status;
    const char *body;
    const char *link; /* a Link header, or NULL */
};
static struct {
    struct http_server *http;
    int listener;
    const struct step *steps;
    size_t n_steps;
    _Atomic size_t at;
    char asked[STEPS][256];
    char body[STEPS][512];
    char key[STEPS][64], tenant[STEPS][64];
} server;
static char home[64], url[64];

static void reply(struct http_req *r, struct str body)
{
    const struct http_head *h = http_req_head(r);
    struct str key = http1_header(h, "x-api-key"), tenant = http1_header(h, "x-tenant-id");
    size_t i = server.at++;
    const struct step *s = i < server.n_steps ? &server.steps[i] : NULL;

    if (i < STEPS) {
        snprintf(server.asked[i], sizeof(server.asked[i]), STR_FMT " " STR_FMT,
                 STR_ARG(h->method_text), STR_ARG(h->target));
        snprintf(server.body[i], sizeof(server.body[i]), STR_FMT, STR_ARG(body));
        snprintf(server.key[i], sizeof(server.key[i]), STR_FMT, STR_ARG(key));
        snprintf(server.tenant[i], sizeof(server.tenant[i]), STR_FMT, STR_ARG(tenant));
    }
    if (s && s->link)
        http_header(r, "Link", s->link);
    http_header(r, "Content-Type", "application/json");
    http_reply(r, s ? s->status : 500, str_of(s ? s->body : "{}"));
}

static void on_body(void *ctx _unused_, struct http_req *r, struct str body, struct err *e)
{
    reply(r, e ? STR("?") : body);
}

static void on_head(void *ctx _unused_, struct http_req *r, int io _unused_)
{
    const struct http_head *h = http_req_head(r);

    if (h->content_length > 0 || h->chunked)
        http_body_collect(r, 65536, on_body, NULL);
    else
        reply(r, STR(""));
}

static void on_error(void *ctx _unused_, struct http_req *r _unused_, const struct err *e _unused_,
                     struct buf *body)
{
    buf_puts(body, "{}");
}

static int prepare(void **state _unused_)
{
    struct err e = { 0 };
    struct http_opts o = { .app = { .on_head = on_head, .on_error = on_error },
                           .limits = http_limits_default,
                           .threads = 1,
                           .listeners = &server.listener,
                           .n_listeners = 1,
                           .clock = clock_system() };

    log_init(LOG_ERROR, false, "test");
    snprintf(home, sizeof(home), "/tmp/brume-cli-XXXXXX");
    server.listener = http_listen("127.0.0.1", 0, 16, &e);
    if (server.listener < 0 || !mkdtemp(home))
        return -1;
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", http_listen_port(server.listener));
    server.http = http_server_new(&o, &e);
    return server.http ? 0 : -1;
}

static int tidy(void **state _unused_)
{
    struct err e;

    http_server_drain(server.http);
    http_server_free(server.http);
    close(server.listener);
    return dir_remove(home, &e);
}

struct result {
    int rc;
    char out[8192], err[8192];
};

static struct result run_env(const char *const *more, int argc, const char *const *argv)
{
    static struct result r;
    struct arena a = ARENA(MIB(512));
    char home_env[96], url_env[96];
    const char *env[8] = { home_env, url_env };
    struct cli c = { .env = env, .services = sample_services, .arena = &a };

    memset(&r, 0, sizeof(r));
    snprintf(home_env, sizeof(home_env), "HOME=%s", home);
    snprintf(url_env, sizeof(url_env), "BRUME_URL=%s", url);
    for (size_t i = 0; more && more[i] && i < 5; i++)
        env[2 + i] = more[i];
    c.out = fmemopen(r.out, sizeof(r.out) - 1, "w");
    c.err = fmemopen(r.err, sizeof(r.err) - 1, "w");
    r.rc = cli_main(&c, argc, argv);
    fclose(c.out);
    fclose(c.err);
    arena_free(&a);
    return r;
}
#define ARGV(...)                                                                               \
    (int)(sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *)), (const char *const[]) \
    {                                                                                           \
        __VA_ARGS__                                                                             \
    }
#define RUN(...) run_env(NULL, ARGV(__VA_ARGS__))
#define SCRIPT(...)                                     \
    static const struct step steps[] = { __VA_ARGS__ }; \
    server.steps = steps;                               \
    server.n_steps = ARRAY_LEN(steps);                  \
    server.at = 0
/* Every step was asked for, in order, and nothing else. */
static void assert_asked(void)
{
    assert_int_equal(server.at, server.n_steps);
    for (size_t i = 0; i < server.n_steps; i++)
        assert_string_equal(server.asked[i], server.steps[i].ask);
}
