/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a request: conditions, compression, the headers that every answer has, counting. Hides
 * that the request is gone the moment it is handed to the server. */
#include <time.h>
#include <zlib.h>
#include <zstd.h>

#include "base/log.h"
#include "base/put.h"
#include "core/request/request.h"

enum { COMPRESS_FROM = 1024 };
enum coding { PLAIN, GZIP, ZSTD };

static struct metric requests_total =
    METRIC(METRIC_COUNTER, "brume_http_requests_total", "Requests answered.");
static struct metric request_seconds = METRIC(METRIC_HISTOGRAM, "brume_http_request_seconds",
                                              "Time from a request's head to its answer.");

/* ---- counting */

static const int statuses[STATUS_CELLS] = { 200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403,
                                            404, 405, 406, 408, 409, 412, 413, 414, 415, 416, 422,
                                            428, 429, 431, 500, 501, 502, 503, 505, 507, 101 };

static size_t status_index(int status)
{
    for (size_t i = 0; i < STATUS_CELLS - 1; i++)
        if (statuses[i] == status)
            return i;
    return STATUS_CELLS - 1;
}

static struct route_info no_route = { .route = &system_route };

static void count(struct call_private *p, int64_t micros)
{
    struct route_info *info = p->mount ? p->mount->info : &no_route;
    size_t i = status_index(p->status);
    struct metric_cell *cell = atomic_load_explicit(&info->count[i], memory_order_acquire);
    char labels[120];

    if (!cell) {
        snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%.70s\",status=\"%d\"",
                 p->mount ? method_name(info->route->method) : "none",
                 p->mount ? info->route->path : "none", p->status);
        cell = metric_labels(&requests_total, labels);
        atomic_store_explicit(&info->count[i], cell, memory_order_release);
    }
    metric_cell_add(&requests_total, cell, 1);
    metric_time(&request_seconds, micros);
}

/* ---- headers */

static void header_int(struct http_req *r, const char *name, int64_t v)
{
    char text[PUT_INT_MAX + 1];

    text[put_int(text, v)] = '\0';
    http_header(r, name, text);
}

static void put_text(char **at, const char *s)
{
    size_t n = strlen(s);

    memcpy(*at, s, n);
    *at += n;
}

static void rate_headers(struct call_private *p)
{
    const struct ratelimit_answer *l = &p->limit.answer;
    int64_t now = clock_wall(p->c.app->clock);
    int64_t left = l->reset > now ? (l->reset - now + 999999) / 1000000 : 0;
    char text[80], *at = text;

    header_int(p->r, "X-RateLimit-Limit", l->limit);
    header_int(p->r, "X-RateLimit-Remaining", l->remaining);
    header_int(p->r, "X-RateLimit-Reset", (l->reset + 999999) / 1000000);
    put_text(&at, "\"default\";q=");
    at += put_int(at, l->limit);
    put_text(&at, ";w=60");
    *at = '\0';
    http_header(p->r, "RateLimit-Policy", text);
    at = text;
    put_text(&at, "\"default\";r=");
    at += put_int(at, l->remaining);
    put_text(&at, ";t=");
    at += put_int(at, left);
    *at = '\0';
    http_header(p->r, "RateLimit", text);
}

static bool origin_allowed(const struct lists *l, struct str origin, bool *any)
{
    for (size_t i = 0; i < l->n_origins; i++) {
        *any = strcmp(l->origins[i], "*") == 0;
        if (*any || str_is(origin, l->origins[i]))
            return true;
    }
    return false;
}

static bool cors_headers(struct call_private *p)
{
    const struct lists *lists = p->c.app->lists;
    struct str origin = { NULL, 0 };
    bool any = false;

    if (lists->n_origins == 0)
        return false;
    origin = http1_header(http_req_head(p->r), "origin");
    if (!origin.p || !origin_allowed(lists, origin, &any))
        return true;
    http_header(p->r, "Access-Control-Allow-Origin",
                any ? "*" : arena_dup(p->c.arena, origin.p, origin.n));
    http_header(p->r, "Access-Control-Expose-Headers",
                "X-Request-Id, ETag, Link, Retry-After, Accept-Ranges, Content-Range, "
                "Content-Disposition, X-RateLimit-Limit, X-RateLimit-Remaining, "
                "X-RateLimit-Reset, Idempotent-Replayed, Deprecation, Sunset");
    return !any;
}

static void timing_header(struct http_req *r, int64_t micros)
{
    char text[48], *at = text;

    put_text(&at, "app;dur=");
    at += put_micro(at, micros * 1000);
    *at = '\0';
    http_header(r, "Server-Timing", text);
}

/* RFC 9745, RFC 8594. */
static void deprecation_headers(struct call_private *p, const struct route *route)
{
    time_t until = (time_t)route->sunset;
    char text[64];
    struct tm tm;

    http_headerf(p->r, "Deprecation", "@%lld", (long long)route->deprecated);
    if (route->sunset && gmtime_r(&until, &tm) &&
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm))
        http_header(p->r, "Sunset", text);
    if (route->successor)
        http_headerf(p->r, "Link", "<%s%s>; rel=\"successor-version\"",
                     p->c.surface == PLATFORM ? "/v1" : "", route->successor);
}

/* RFC 6797: over TLS alone. */
void secure_header(struct app *app, struct http_req *r)
{
    int64_t seconds = app->config->hsts_max_age;

    if (seconds > 0 && http_req_tls(r))
        http_headerf(r, "Strict-Transport-Security", "max-age=%lld", (long long)seconds);
}

void reply_headers(struct call_private *p, int64_t micros, bool vary_coding)
{
    bool vary_origin = cors_headers(p);

    http_header(p->r, "X-Request-Id", p->request_id);
    if (p->version)
        http_header(p->r, "X-API-Version", p->version);
    if (p->limit.known)
        rate_headers(p);
    if (p->code == ERR_RATE_LIMITED && !has_header(p, "Retry-After"))
        header_int(p->r, "Retry-After", MAX(p->limit.answer.retry_after, (int64_t)1));
    if (p->mount && p->c.route->deprecated)
        deprecation_headers(p, p->c.route);
    if (p->content_type && (p->body.n || p->streaming || p->bytes.known))
        http_header(p->r, "Content-Type", p->content_type);
    if (vary_coding || vary_origin)
        http_header(p->r, "Vary",
                    vary_coding && vary_origin ? "Accept-Encoding, Origin"
                    : vary_coding              ? "Accept-Encoding"
                                               : "Origin");
    if (!has_header(p, "Cache-Control"))
        http_header(p->r, "Cache-Control", p->etag ? "private, no-cache" : "no-store");
    http_header(p->r, "X-Content-Type-Options", "nosniff");
    secure_header(p->c.app, p->r);
    timing_header(p->r, micros);
    for (const struct reply_header *h = p->headers; h; h = h->next)
        http_header(p->r, h->name, h->value);
    if (p->replay)
        http_header(p->r, "Idempotent-Replayed", "true");
}

/* ---- encodings */

static enum coding coding_of(const struct call_private *p)
{
    struct str accept = { NULL, 0 };

    if (p->body.n < COMPRESS_FROM || p->bytes.known || has_header(p, "Content-Encoding"))
        return PLAIN;
    accept = http1_header(http_req_head(p->r), "accept-encoding");
    if (!accept.p)
        return PLAIN;
    int zstd = coding_quality(accept, "zstd"), gzip = coding_quality(accept, "gzip");
    if (zstd && zstd >= gzip)
        return ZSTD;
    return gzip ? GZIP : PLAIN;
}

static bool compress_gzip(struct str in, struct buf *out)
{
    z_stream z = { 0 };

    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    char *room = buf_room(out, in.n);
    bool ok = false;
    if (room) {
        z.next_in = (z_const Bytef *)(uintptr_t)in.p;
        z.avail_in = (uInt)in.n;
        z.next_out = (Bytef *)room;
        z.avail_out = (uInt)in.n;
        ok = deflate(&z, Z_FINISH) == Z_STREAM_END;
        if (ok)
            buf_grew(out, z.total_out);
    }
    deflateEnd(&z);
    return ok;
}

static bool compress_zstd(struct str in, struct buf *out)
{
    char *room = buf_room(out, in.n);
    size_t n = room ? ZSTD_compress(room, in.n, in.p, in.n, 1) : 0;

    if (!room || ZSTD_isError(n))
        return false;
    buf_grew(out, n);
    return true;
}

/* The entity tag as this representation bears it. */
static const char *tag_of(struct call_private *p, enum coding coding)
{
    static const char *const suffix[] = { "", "-gz", "-zst" };
    size_t n = strlen(p->etag);
    bool dated = p->version && strcmp(p->version, "2026-01-01") == 0;

    if (coding == PLAIN && !dated)
        return p->etag;
    return arena_printf(p->c.arena, "%.*s%s%s\"", (int)n - 1, p->etag, dated ? "-20260101" : "",
                        suffix[coding]);
}

bool etag_matches(struct str header, const char *tag)
{
    struct str own = str_of(tag);
    struct etag want, t;

    if (etag_any(header))
        return true;
    if (!etag_next(&own, &want))
        return false;
    while (etag_next(&header, &t))
        if (str_eq(t.opaque, want.opaque))
            return true;
    return false;
}

/* ---- the end */

bool leave_crowd(struct call_private *p)
{
    bool was = p->limit.entered;

    p->limit.entered = false;
    if (was)
        ratelimit_leave(p->c.app->limits, p->who.key_id.s, sizeof(p->who.key_id.s));
    return was;
}

static void let_go(struct call_private *p)
{
    struct app *app = p->c.app;
    int64_t wait;

    idem_end(p);
    live_del(p);
    stream_leave(p);
    spool_end(p);
    for (int kind = 0; kind < SHARE_KINDS; kind++)
        if (kind != SHARE_DOWNLOADS || !p->bytes.file) /* else until it is sent */
            call_give(p, (enum share_kind)kind);
    if (!leave_crowd(p))
        return;
    if (p->status == 304)
        ratelimit_weight(app->limits, p->who.key_id.s, sizeof(p->who.key_id.s), -1, INT64_MAX,
                         clock_wall(app->clock), &wait);
}

void reply_account(struct call_private *p, int64_t micros)
{
    struct app *app = p->c.app;

    let_go(p);
    count(p, micros);
    p->answered = true;
    if (app->o.observe)
        app->o.observe(app->o.observe_ctx, p->mount ? p->mount->info->route : NULL, &p->c,
                       p->status, p->code);
}

/* Frees what is the call's own, then hands 'body' over: 'p' lives in the request. */
static void hand_over(struct call_private *p, struct str body, struct buf *packed)
{
    struct http_req *r = p->r;
    struct arena own = p->own, large = p->large;
    struct buf buf = p->buf;
    int status = p->status;

    json_free(TAKE(p->json));
    p->own = p->large = ARENA(0);
    p->buf = BUF(0);
    p->c.arena = NULL;
    if (p->bytes.file)
        http_reply_file(r, status, TAKE_FD(p->bytes.fd), p->bytes.first, p->bytes.n);
    else if (packed->n)
        http_reply_buf(r, status, packed);
    else if (body.n && body.p == buf.p && body.n == buf.n)
        http_reply_buf(r, status, &buf);
    else
        http_reply(r, status, body);
    buf_free(packed);
    buf_free(&buf);
    arena_free(&own);
    arena_free(&large);
}

static void send_now(void *ctx)
{
    struct call_private *p = ctx;
    enum coding coding = coding_of(p);
    struct buf packed = BUF(p->body.n);
    int64_t micros = clock_mono(clock_system()) - p->began;
    bool vary = p->body.n >= COMPRESS_FROM && !p->bytes.known;

    if (p->etag && p->status == 200 && !p->bytes.known) {
        struct str none = http1_header(http_req_head(p->r), "if-none-match");
        enum method m = http_req_head(p->r)->method;

        p->etag = tag_of(p, coding);
        bool reads = p->mount && p->mount->info->class == CLASS_READ;
        if (none.p && reads && (m == GET || m == HEAD) && etag_matches(none, p->etag)) {
            p->status = 304;
            p->body = (struct str){ NULL, 0 };
            coding = PLAIN;
        }
    }
    if ((coding == GZIP && !compress_gzip(p->body, &packed)) ||
        (coding == ZSTD && !compress_zstd(p->body, &packed)))
        buf_clear(&packed);
    if (packed.n)
        http_header(p->r, "Content-Encoding", coding == GZIP ? "gzip" : "zstd");
    if (p->etag)
        http_header(p->r, "ETag", p->etag);
    reply_headers(p, micros, vary);
    reply_account(p, micros);
    hand_over(p, p->body, &packed);
}

void reply_send(struct call_private *p)
{
    struct app *app = p->c.app;

    /* Compressing is not for the writer's thread. */
    if (p->body.n >= COMPRESS_FROM && p->writer_thread && app->server && coding_of(p) != PLAIN)
        http_run(app->server, p->io, send_now, p);
    else
        send_now(p);
}

/* ---- who waits for it */

/* A store that does not answer says nothing of a credential: it is looked up again. */
static bool no_longer_allowed(struct call_private *p)
{
    struct err e;

    return live_check(p, store_any_reader(p->c.app->store), &e) < 0 && err_status(e.code) < 500;
}

bool call_gone(struct call *c)
{
    struct call_private *p = c->p;

    if (!p->r || p->idem.key)
        return false;
    live_add(p);
    return http_req_gone(p->r) || no_longer_allowed(p);
}
