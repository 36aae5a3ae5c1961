/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request (contracts 2), in its order, on its I/O thread: route, method, credential,
 * limit, scope, body, idempotency, validation; then run.c.  Hides that a credential nobody
 * remembers takes the request to a worker and back. */
#include "base/log.h"
#include "core/limit/lease.h"
#include "core/request/request.h"

enum { SMALL_BODY = 65536, AT_ONCE_MAX = 100, WRITE_WEIGHT = 5 };

static void after_credential(struct call_private *p);
static void answer_denied(struct call_private *p, const struct err *e);
static void with_body(struct call_private *p);

static void answer_error(struct call_private *p, const struct err *e)
{
    reply_error(p, e);
    reply_send(p);
}

/* ---- who asks, and under which name */

/* The last element that is left of a list, without the spaces around it. */
static struct str take_last(struct str *list)
{
    const char *comma = memrchr(list->p, ',', list->n);
    struct str last = { comma ? comma + 1 : list->p, 0 };

    last.n = (size_t)(list->p + list->n - last.p);
    list->n = comma ? (size_t)(comma - list->p) : 0;
    while (last.n && (*last.p == ' ' || *last.p == '\t')) {
        last.p++;
        last.n--;
    }
    while (last.n && (last.p[last.n - 1] == ' ' || last.p[last.n - 1] == '\t'))
        last.n--;
    return last;
}

/* Several lines of a field are one list (RFC 9110 5.3): the last element of the last line is what
 * the nearest proxy wrote.  False when none is left. */
static bool forwarded_for(const struct http_head *h, size_t *line, struct str *list,
                          struct str *out)
{
    while (list->n == 0) {
        if (*line == 0)
            return false;
        if (str_is_nocase(h->headers[--*line].name, "x-forwarded-for"))
            *list = h->headers[*line].value;
    }
    *out = take_last(list);
    return true;
}

static void client_ip(struct call_private *p)
{
    const struct lists *lists = p->c.app->lists;
    const struct http_head *h = http_req_head(p->r);
    struct ip ip = *http_req_peer(p->r), next;
    struct str list = { NULL, 0 }, last;
    size_t line = h->n_headers;

    for (;;) {
        bool trusted = false;

        for (size_t i = 0; i < lists->n_proxies && !trusted; i++)
            trusted = cidr_contains(&lists->proxies[i], &ip);
        if (!trusted || !forwarded_for(h, &line, &list, &last) || !ip_parse(last, &next))
            break;
        ip = next;
    }
    if (ip.family)
        ip_format(&ip, p->ip);
    p->client = ip;
}

static void name_request(struct call_private *p)
{
    struct uuid id;
    struct str s = { NULL, 0 };

    if (p->r && http_req_head(p->r))
        s = http1_header(http_req_head(p->r), "x-request-id");
    if (s.n == 36 && uuid_parse(s, &id)) {
        memcpy(p->request_id, s.p, s.n); /* as it was sent */
        return;
    }
    uuid_new(p->c.app->clock, &id);
    typeid_format("req", &id, p->request_id);
}

/* W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>. */
static void trace_of(struct call_private *p)
{
    struct str s = http1_header(http_req_head(p->r), "traceparent");

    if (s.n < 55 || s.p[2] != '-' || s.p[35] != '-' || s.p[52] != '-')
        return;
    for (size_t i = 3; i < 35; i++)
        if (!strchr("0123456789abcdef", s.p[i]) || s.p[i] == '\0')
            return;
    memcpy(p->trace_id, s.p + 3, 32);
}

static int read_accept(struct call_private *p, struct err *e)
{
    static const char *const named_only[] = { "application/problem+json", "text/event-stream" };
    struct str accept = http1_header(http_req_head(p->r), "accept");
    bool named, any = false;

    if (!accept.n)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(named_only); i++)
        if (accept_quality(accept, named_only[i], &named) && named) {
            any = true;
            p->problem_json |= i == 0;
        }
    if ((p->mount && !p->c.route->out) || any || accept_quality(accept, "application/json", &named))
        return 0;
    return err_set(e, ERR_NOT_ACCEPTABLE, "The answer is application/json");
}

static const char *const versions[] = { "2026-01-01", "2026-04-01" };

/* NULL: there is no such version. */
static const char *version_of(struct str v)
{
    for (size_t i = 0; i < ARRAY_LEN(versions); i++)
        if (str_is(v, versions[i]))
            return versions[i];
    return NULL;
}

static int read_version(struct call_private *p, struct err *e)
{
    struct str v = http1_header(http_req_head(p->r), "x-api-version");

    if (!v.p || (p->version = version_of(v)))
        return 0;
    return err_set(e, ERR_UNSUPPORTED_VERSION, "X-API-Version must be 2026-01-01 or 2026-04-01");
}

/* Where no header says it: the version of the credential's first use, which may be this one. */
static void settle_version(struct call_private *p)
{
    if (!p->version)
        p->version = version_of(str_of(p->who.version));
    if (!p->version)
        p->version = versions[ARRAY_LEN(versions) - 1];
}

/* ---- the route */

const char *dispatch_allow(struct call_private *p)
{
    struct buf b = BUF(128);

    for (int m = GET; m < METHOD_OTHER; m++)
        if (m != OPTIONS && ((p->match.methods >> m) & 1))
            buf_printf(&b, "%s%s%s", b.n ? ", " : "", method_name((enum method)m),
                       m == GET && p->head_too && !((p->match.methods >> HEAD) & 1) ? ", HEAD"
                                                                                    : "");
    buf_printf(&b, "%sOPTIONS", b.n ? ", " : "");
    const char *s = arena_strdup(p->c.arena, buf_cstr(&b));
    buf_free(&b);
    return s;
}

static bool head_fits(const struct mount *m)
{
    return m->info->class == CLASS_READ && m->info->route->work != WRITE &&
           m->info->route->work != STREAM;
}

/* What Allow names: what is mounted and what is planned, HEAD where GET only reads. */
static void look_at_methods(struct call_private *p)
{
    const struct http_head *h = http_req_head(p->r);
    unsigned planned = planned_methods(p->c.app, h->path), get = 1u << GET;
    struct router_match m;

    if (!(p->match.methods & get))
        p->head_too = (planned & get) != 0;
    else if (router_find(p->c.app->router, p->c.arena, GET, h->path, &m) == ROUTER_FOUND)
        p->head_too = head_fits(m.value);
    p->match.methods |= planned;
}

static void answer_options(struct call_private *p)
{
    const struct http_head *h = http_req_head(p->r);
    struct str want = http1_header(h, "access-control-request-headers");

    p->status = 204;
    reply_header(&p->c, "Allow", dispatch_allow(p));
    if (http1_header(h, "origin").p && http1_header(h, "access-control-request-method").p) {
        reply_header(&p->c, "Access-Control-Allow-Methods", dispatch_allow(p));
        if (want.p)
            reply_header(&p->c, "Access-Control-Allow-Headers",
                         arena_dup(p->c.arena, want.p, MIN(want.n, (size_t)1024)));
        reply_header(&p->c, "Access-Control-Max-Age", "600");
    }
    reply_send(p);
}

static int not_allowed(struct call_private *p, struct str method, struct err *e)
{
    look_at_methods(p);
    p->not_allowed = true;
    return err_set(e, ERR_METHOD_NOT_ALLOWED, "%.*s is not offered here",
                   (int)MIN(method.n, (size_t)32), method.p);
}

/* No row serves this method at this path: 1: answered; -1. */
static int no_route(struct call_private *p, struct err *e)
{
    const struct http_head *h = http_req_head(p->r);
    unsigned planned = planned_methods(p->c.app, h->path), get = 1u << GET;

    if (!p->match.methods && !planned)
        return err_set(e, ERR_ROUTE_NOT_FOUND, "There is no such path");
    if (h->method == OPTIONS) {
        look_at_methods(p);
        answer_options(p);
        return 1;
    }
    if ((planned >> h->method & 1) || (h->method == HEAD && (planned & get)))
        return err_set(e, ERR_NOT_IMPLEMENTED, "This is planned, and not built yet");
    return not_allowed(p, h->method_text, e);
}

/* 0: found; 1: answered; -1. */
static int find_route(struct call_private *p, struct err *e)
{
    struct app *app = p->c.app;
    const struct http_head *h = http_req_head(p->r);

    if (h->method == OPTIONS && str_is(h->target, "*")) {
        p->head_too = true;
        p->match.methods = 1u << GET | 1u << POST | 1u << PUT | 1u << PATCH | 1u << DELETE;
        answer_options(p);
        return 1;
    }
    switch (router_find(app->router, p->c.arena, h->method, h->path, &p->match)) {
    case ROUTER_FOUND:
        break;
    case ROUTER_BAD_PATH:
        return err_set(e, ERR_INVALID, "The path is not percent-encoded as it should be");
    case ROUTER_NO_PATH:
    case ROUTER_NO_METHOD:
        return no_route(p, e);
    }
    p->mount = p->match.value;
    if (h->method == HEAD && p->mount->info->route->method != HEAD && !head_fits(p->mount)) {
        p->mount = NULL;
        return not_allowed(p, h->method_text, e);
    }
    p->c.route = p->mount->info->route;
    p->c.surface = p->mount->surface;
    p->status = p->c.route->status;
    return 0;
}

/* {id} as an id of either form, or as a name where the route takes one. */
static int read_id(struct call_private *p, struct err *e)
{
    const struct record *target = p->mount->info->target;
    struct call *c = &p->c;
    char prefix[64];

    for (size_t i = 0; i < p->match.n_params; i++) {
        struct str v = p->match.params[i].value;

        if (strcmp(p->match.params[i].name, "id") != 0)
            continue;
        if (uuid_parse(v, &c->id))
            return 0;
        if (typeid_parse(v, prefix, &c->id)) {
            p->id_prefix = arena_strdup(c->arena, prefix);
            return 0;
        }
        if (c->route->by_name && c->surface == CLASSIC && v.n <= 255 && utf8_valid(v)) {
            c->id_name = arena_dup(c->arena, v.p, v.n);
            return 0;
        }
        return err_set(e, ERR_NOT_FOUND, "There is no such %s", target ? target->name : "object");
    }
    return 0;
}

/* Refused, not redirected, so that a secret that was sent in clear is noticed. */
static int check_tls(struct call_private *p, struct err *e)
{
    const char *cert = p->c.app->config->tls_cert;

    if (!cert || !*cert || http_req_tls(p->r))
        return 0;
    http_close_after(p->r);
    return err_set(e, ERR_HTTPS_REQUIRED, "This is served over https only");
}

/* Of two lines nobody could say which counts. */
static int read_singles(struct call_private *p, struct err *e)
{
    static const char *const singles[] = { "content-type", "idempotency-key", "x-api-version",
                                           "x-tenant-id" };

    for (size_t i = 0; i < ARRAY_LEN(singles); i++)
        if (http1_header_count(http_req_head(p->r), singles[i]) > 1)
            return err_set(e, ERR_INVALID, "The header %s was given more than once", singles[i]);
    return 0;
}

static int read_head(struct call_private *p, struct err *e)
{
    TRY(check_tls(p, e));
    int rc = find_route(p, e);

    if (rc)
        return rc;
    TRY(read_singles(p, e));
    TRY(read_version(p, e));
    TRY(read_accept(p, e));
    return p->c.route->public ? 0 : auth_credential(p, e);
}

/* ---- credential */

static void looked_up(void *ctx)
{
    struct call_private *p = ctx;

    if (p->why.code != ERR_NONE)
        answer_error(p, &p->why);
    else
        after_credential(p);
}

static void look_up(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    struct db *db = worker_db(worker, &p->why);

    http_release();
    if (db && auth_lookup(p, db, &p->why) == 0)
        p->why.code = ERR_NONE;
    if (db)
        db_read_done(db);
    http_run(p->c.app->server, p->io, looked_up, p);
}

void dispatch_head(void *ctx, struct http_req *r, int io)
{
    struct app *app = ctx;
    struct arena *a = http_req_arena(r);
    struct call_private *p = arena_new(a, struct call_private);
    struct err e;

    call_init(p, app, a);
    p->r = r;
    p->io = io;
    p->began = clock_mono(clock_system());
    http_req_set_user(r, p);
    name_request(p);
    trace_of(p);
    client_ip(p);
    int rc = read_head(p, &e);
    if (rc == 1)
        return;
    if (rc < 0) {
        if (e.code == ERR_METHOD_NOT_ALLOWED || !p->mount)
            read_accept(p, &p->why);
        answer_error(p, &e);
        return;
    }
    p->live.revocations = live_now(app->live);
    if (p->c.route->public ||
        auth_cache_get(app->auth_cache, p->auth.secret, &p->auth.tenant_wanted, &p->who)) {
        after_credential(p);
    } else if (lane_take(p, LANE_FRONT, look_up, &e) < 0) {
        answer_error(p, &e);
    }
}

/* ---- limits */

/* 0: counted, in p->limit.answer; 1: the store must be asked. */
static int limit_take(struct call_private *p, const char *name, int64_t rate, int64_t burst)
{
    struct app *app = p->c.app;

    p->limit.known = true;
    if (!app->leases) {
        ratelimit_take(app->limits, name, strlen(name), rate, burst, p->c.now, &p->limit.answer);
        return 0;
    }
    if (p->limit.key || /* it has been asked, and its answer is there */
        lease_take(app->leases, name, rate, p->c.now, clock_mono(app->clock), &p->limit.answer))
        return 0;
    p->limit.known = false;
    p->limit.key = arena_new(http_req_arena(p->r), struct limit_key);
    *p->limit.key = (struct limit_key){ .rate = rate, .burst = burst };
    snprintf(p->limit.key->name, sizeof(p->limit.key->name), "%s", name);
    return 1;
}

/* The plan's number, and beside it a weight a minute (spec 5, 10): who has a burst allowance may
 * read with all of it, and write as often as the plan says. */
static int limit_rate(struct call_private *p, struct err *e)
{
    struct ratelimit *limits = p->c.app->limits;
    const struct principal *who = &p->who;
    int64_t rate = who->rate > 0 ? who->rate : 60;
    size_t n = sizeof(who->key_id.s);

    if (limit_take(p, who->key_id.s, rate, who->burst))
        return 1;
    if (!p->limit.answer.allowed)
        return err_set(e, ERR_RATE_LIMITED, "Over %lld requests a minute", (long long)rate);
    if (ratelimit_weight(limits, who->key_id.s, n, p->mount->info->writes ? WRITE_WEIGHT : 1,
                         WRITE_WEIGHT * rate, p->c.now, &p->limit.answer.retry_after))
        return 0;
    p->limit.answer.allowed = false;
    return err_set(e, ERR_RATE_LIMITED, "Over a weight of %lld a minute, of which a write is %d",
                   (long long)(WRITE_WEIGHT * rate), WRITE_WEIGHT);
}

/* 0; 1: the store must be asked; -1. */
static int limit_key(struct call_private *p, struct err *e)
{
    const struct principal *who = &p->who;
    int rc = 0;

    if (who->mode == MODE_TEST) {
        p->limit.known = true;
        p->limit.answer =
            (struct ratelimit_answer){ true, 1000000, 1000000, p->c.now + MINUTES(1), 0 };
    } else {
        rc = limit_rate(p, e);
    }
    if (rc)
        return rc;
    p->limit.entered =
        ratelimit_enter(p->c.app->limits, who->key_id.s, sizeof(who->key_id.s), AT_ONCE_MAX);
    if (p->limit.entered)
        return 0;
    p->limit.answer.retry_after = 1;
    return err_set(e, ERR_RATE_LIMITED, "Over %d requests of this credential run at once",
                   AT_ONCE_MAX);
}

static int limit_ip(struct call_private *p, struct err *e)
{
    char key[192], client[CIDR_TEXT] = "";
    struct ip ip;

    if (ip_parse(str_of(p->ip), &ip)) {
        struct cidr c = cidr_of_client(&ip);
        cidr_format(&c, client);
    }
    snprintf(key, sizeof(key), "auth %s %s", client, p->c.route->path);
    if (limit_take(p, key, 5, 0))
        return 1;
    if (p->limit.answer.allowed)
        return 0;
    return err_set(e, ERR_RATE_LIMITED, "Over 5 requests a minute from %s", p->ip);
}

static void limit_asked(void *ctx)
{
    struct call_private *p = ctx;

    if (p->why.code == ERR_NONE)
        after_credential(p);
    else
        answer_error(p, &p->why);
}

static void limit_ask(void *ctx, void *worker _unused_)
{
    struct call_private *p = ctx;
    struct app *app = p->c.app;
    const struct limit_key *k = p->limit.key;

    http_release();
    if (lease_ask(app->leases, app->store, app->clock, k->name, k->rate, k->burst, &p->limit.answer,
                  &p->why) == 0)
        p->why.code = ERR_NONE;
    http_run(app->server, p->io, limit_asked, p);
}

/* ---- a refusal is on record before it is answered; who stands before a wrong door, once a minute
 */

static int denied_run(struct db *db, void *ctx, struct err *e)
{
    return journal_write(ctx, db, OUTCOME_DENIED, IDEM_NONE, e);
}

static void denied_done(void *ctx, int rc, struct err *e)
{
    struct call_private *p = ctx;

    if (rc < 0)
        log_err(LOG_ERROR, "denial_not_recorded", e);
    p->writer_thread = true;
    reply_send(p);
}

static void answer_denied(struct call_private *p, const struct err *e)
{
    if (p->auth.wrong_door &&
        !auth_cache_turned_away(p->c.app->auth_cache, &p->who.key_id, p->c.now)) {
        answer_error(p, e);
        return;
    }
    reply_error(p, e);
    p->job = (struct db_job){
        .run = denied_run, .done = denied_done, .ctx = p, .turn = { .flow = *call_flow(p) }
    };
    if (store_submit(p->c.app->store, &p->job))
        return;
    struct err full;
    err_set(&full, ERR_OVERLOADED, "Too many writes are waiting");
    answer_error(p, &full);
}

/* 0; 1: the store must be asked for the limit, and then again; -1. */
static int check_caller(struct call_private *p, struct err *e)
{
    const struct route *route = p->c.route;

    if (route->limit == LIMIT_AUTH)
        return limit_ip(p, e);
    if (!route->public) {
        TRY(auth_admit(p, e));
        settle_version(p);
        int rc = limit_key(p, e);
        if (rc)
            return rc;
        TRY(auth_allowed(p, e));
        auth_touch(p);
    }
    return 0;
}

static int hold_body(void *ctx, struct http_req *r _unused_, size_t n, struct err *e)
{
    return call_take(ctx, SHARE_BODY_BYTES, (int64_t)n, e);
}

static void got_body(void *ctx, struct http_req *r _unused_, struct str body, struct err *e)
{
    struct call_private *p = ctx;

    if (e) {
        answer_error(p, e);
        return;
    }
    p->raw_body = body;
    with_body(p);
}

static void after_credential(struct call_private *p)
{
    const struct route *route = p->c.route;
    const struct http_head *h = http_req_head(p->r);
    struct err e;

    int rc = check_caller(p, &e);
    if (rc > 0) {
        rc = lane_take(p, LANE_FRONT, limit_ask, &e);
        if (rc == 0)
            return;
    }
    if (rc < 0) {
        if (e.code == ERR_FORBIDDEN)
            answer_denied(p, &e);
        else
            answer_error(p, &e);
        return;
    }
    if (body_check(p, &e) < 0) {
        answer_error(p, &e);
        return;
    }
    uint64_t max = route->body_max ? route->body_max : MIB(1);
    if (route->body == BODY_RAW) {
        with_body(p);
    } else if (h->content_length > 0 || h->chunked) {
        http_body_meter(p->r, hold_body);
        http_body_collect(p->r, (size_t)max, got_body, p);
    } else {
        with_body(p);
    }
}

/* ---- idempotency, validation */

/* A large body is read into an arena that may grow; a small one into the request's. */
static void reading_arena(struct call_private *p)
{
    if (p->raw_body.n <= SMALL_BODY)
        return;
    p->c.arena = &p->large;
    p->faults.arena = &p->large;
}

/* Handlers that hold more than a few rows have an arena of their own, emptied before each run. */
static void running_arena(struct call_private *p)
{
    if (p->c.route->work == QUICK && !p->c.route->list)
        return;
    p->c.arena = &p->own;
}

/* 0: to be run; 1: the answer is there; -1. */
static int prepare(struct call_private *p, struct db *db, struct err *e)
{
    int keyed = idem_header(p, e);

    TRY(keyed);
    if (keyed) {
        int rc = idem_begin(p, db, e);

        if (rc)
            return rc;
    }
    TRY(query_read(p, e));
    return read_id(p, e);
}

static void prepare_and_run(struct call_private *p, struct db *db)
{
    struct err e;

    reading_arena(p);
    int rc = prepare(p, db, &e);
    if (rc < 0) {
        answer_error(p, &e);
    } else if (rc == 1) {
        reply_send(p);
    } else {
        running_arena(p);
        if (p->c.route->body == BODY_RAW)
            spool_run(p);
        else
            dispatch_run(p);
    }
}

static void prepare_on_worker(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    struct err e;
    struct db *db = worker_db(worker, &e);

    http_release();
    if (!db) {
        answer_error(p, &e);
        return;
    }
    p->on_worker = true;
    prepare_and_run(p, db);
    db_read_done(db);
}

static void with_body(struct call_private *p)
{
    struct app *app = p->c.app;
    struct err e;

    /* Parsing a large text is not for a thread that others wait for. */
    if (p->raw_body.n > SMALL_BODY) {
        if (lane_take(p, LANE_READ, prepare_on_worker, &e) < 0)
            answer_error(p, &e);
        return;
    }
    struct db *db = app->postgres ? NULL : io_reader(app, p->io, &e);
    if (!app->postgres && !db)
        answer_error(p, &e);
    else
        prepare_and_run(p, db);
}

/* ---- what else the server asks */

void dispatch_error(void *ctx, struct http_req *r, const struct err *e, struct buf *body)
{
    struct app *app = ctx;
    struct call_private *p = http_req_user(r);
    struct call_private *mine = NULL;

    if (!p) {
        p = mine = arena_new(http_req_arena(r), struct call_private);
        call_init(mine, app, http_req_arena(r));
        name_request(mine);
        mine->began = clock_mono(clock_system());
        http_req_set_user(r, mine);
    }
    p->status = err_status(e->code);
    p->code = e->code;
    error_body(body, e, NULL, p->request_id, p->problem_json, NULL, NULL);
    http_header(r, "Content-Type",
                p->problem_json ? "application/problem+json" : "application/json");
    http_header(r, "X-Request-Id", p->request_id);
    http_header(r, "Cache-Control", "no-store");
    secure_header(app, r);
    if (p->status == 503)
        http_header(r, "Retry-After", "1");
    if (mine && app->o.observe)
        app->o.observe(app->o.observe_ctx, NULL, &mine->c, mine->status, mine->code);
}

void dispatch_round(void *ctx, int io)
{
    struct app *app = ctx;

    if (app->io_db[io])
        db_read_done(app->io_db[io]);
}

/* Behind a proxy stand many, and so they do on this machine. */
bool dispatch_many(void *ctx, const struct ip *peer)
{
    static const uint8_t one[16] = { [15] = 1 };
    const struct app *app = ctx;
    const struct lists *lists = app->lists;

    if (peer->family == 4 ? peer->b[0] == 127 : memcmp(peer->b, one, sizeof(one)) == 0)
        return true;
    for (size_t i = 0; i < lists->n_proxies; i++)
        if (cidr_contains(&lists->proxies[i], peer))
            return true;
    return false;
}

void dispatch_sent(void *ctx _unused_, struct http_req *r, int status, int64_t sent)
{
    struct call_private *p = http_req_user(r);

    if (p)
        call_give(p, SHARE_DOWNLOADS);
    if (!p || !log_on(LOG_INFO))
        return;
    log_event(LOG_INFO, "request", L_STR("method", p->mount ? method_name(p->c.route->method) : ""),
              L_STR("route", p->mount ? p->mount->pattern : ""), L_INT("status", status),
              L_REAL("ms", (double)(clock_mono(clock_system()) - p->began) / 1000.0),
              L_INT("bytes", sent), L_STR("tenant", p->who.tenant_id.s), L_STR("ip", p->ip),
              L_STR("trace_id", p->trace_id), L_STR("request_id", p->request_id));
}
