/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of requests.  Hides where their bytes go: into one piece of memory, into a ring that a
 * worker empties (full: the socket is not read), or nowhere. */
#include "http/internal.h"

enum { PIECE = 64 * 1024, PUMP_BUDGET = 512 * 1024 };

enum moved { MOVED, STUCK };

void body_begin(struct conn *c)
{
    const struct http_head *h = &c->req->head;

    c->chunked = h->chunked;
    c->body_left = h->content_length > 0 ? (uint64_t)h->content_length : 0;
    c->body_over = !c->chunked && c->body_left == 0;
    c->chunks = (struct http1_chunked){ 0 };
    c->discarded = 0;
    c->continue_due = h->expect_continue && !c->body_over && c->in->n == c->in_at;
}

/* ---- what the application asks for */

static void ask(struct http_req *r, enum body_mode mode, uint64_t max)
{
    r->ask = mode;
    r->body_max = max;
    if (!req_here(r)) {
        io_post(r->io, &r->post, &r->ops, OP_BODY);
        return;
    }
    body_ask(r);
    if (r->conn && !r->conn->busy)
        conn_ready(r->conn);
}

void http_body_collect(struct http_req *r, size_t max,
                       void (*fn)(void *ctx, struct http_req *r, struct str body, struct err *e),
                       void *ctx)
{
    r->collect_fn = fn;
    r->collect_ctx = ctx;
    ask(r, BODY_COLLECT, max);
}

void http_body_meter(struct http_req *r,
                     int (*fn)(void *ctx, struct http_req *r, size_t n, struct err *e))
{
    r->meter_fn = fn;
}

void http_body_spool(struct http_req *r, uint64_t max, void (*fn)(void *ctx, struct http_req *r),
                     void *ctx)
{
    r->spool_fn = fn;
    r->spool_ctx = ctx;
    r->spool_due = true;
    ask(r, BODY_STREAM, max);
}

void http_body_more(struct http_req *r)
{
    io_post(r->io, &r->post, &r->ops, OP_MORE);
}

void http_body_stream(struct http_req *r, uint64_t max)
{
    ask(r, BODY_STREAM, max);
}

static void ring_end(struct http_req *r)
{
    pthread_mutex_lock(&r->lock);
    r->ring_over = true;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
}

static void deliver(struct http_req *r, struct str body)
{
    struct err e = r->body_err;

    r->mode = BODY_GIVEN;
    r->collect_fn(r->collect_ctx, r, body, r->body_failed ? &e : NULL);
}

/* 'last': the connection is closed after the answer, which may be given by who is told here. */
static void fail(struct http_req *r, const struct err *e, bool last)
{
    if (r->body_failed || r->mode == BODY_UNASKED || r->mode == BODY_GIVEN)
        return;
    pthread_mutex_lock(&r->lock);
    r->body_failed = true;
    r->body_err = *e;
    r->ring_failed = true;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    if (r->conn && last)
        r->conn->linger = true;
    bool collects = !r->conn && r->mode == BODY_COLLECT;
    body_tell(r);
    if (collects)
        deliver(r, (struct str){ NULL, 0 });
}

void body_fail(struct http_req *r, const struct err *e)
{
    fail(r, e, true);
}

void body_ask(struct http_req *r)
{
    struct conn *c = r->conn;
    int64_t length = r->head.content_length;
    struct err e;

    r->mode = r->ask;
    r->body_since = r->io->now;
    if (!c) {
        err_set(&e, ERR_INVALID, "the connection was lost");
        body_fail(r, &e);
        return;
    }
    if (length > 0 && (uint64_t)length > r->body_max) {
        err_set(&e, ERR_TOO_LARGE, "the body is over %llu bytes", (unsigned long long)r->body_max);
        fail(r, &e, false); /* small enough to be read away, it does not cost the connection */
        return;
    }
    if (r->mode == BODY_COLLECT)
        r->body = BUF(r->body_max + 2 * PIECE);
    else if (c->body_over) {
        ring_end(r);
        body_tell(r);
    } else if (!(r->ring = malloc(STREAM_HELD)))
        abort();
}

/* ---- endings */

void body_tell(struct http_req *r)
{
    if (!r->spool_fn || !r->spool_due)
        return;
    pthread_mutex_lock(&r->lock);
    bool tell =
        r->ring_n >= STREAM_HELD / 2 || r->ring_over || r->ring_failed || atomic_load(&r->gone);
    pthread_mutex_unlock(&r->lock);
    if (!tell)
        return;
    r->spool_due = false;
    r->spool_fn(r->spool_ctx, r);
}

void body_resume(struct http_req *r)
{
    if (r->paused)
        r->body_since += r->io->now - r->paused_since;
    r->paused = false;
}

/* The connection cannot bring the rest: malformed, or its end. */
static void broken(struct conn *c, const struct err *e)
{
    if (c->state == CONN_REQUEST)
        body_fail(c->req, e);
    else
        conn_close(c);
}

static void ended_early(struct conn *c)
{
    struct err e;

    err_set(&e, ERR_INVALID, "the body ended early");
    broken(c, &e);
    if (!c->dead && c->req)
        req_gone(c->req);
}

/* ---- moving bytes */

static enum moved from_socket(struct conn *c, char *dst, size_t room, size_t *got)
{
    if (!c->readable)
        return STUCK;
    ssize_t n = conn_recv(c, dst, room);
    if (n == 0)
        ended_early(c);
    else if (n == -2)
        conn_close(c);
    if (n <= 0)
        return STUCK;
    *got = (size_t)n;
    return MOVED;
}

static enum moved move_plain(struct conn *c, char *dst, size_t room, size_t *got)
{
    size_t have = c->in ? c->in->n - c->in_at : 0;

    room = (size_t)MIN((uint64_t)room, c->body_left);
    if (have) {
        *got = MIN(have, room);
        memcpy(dst, c->in->p + c->in_at, *got);
        c->in_at += *got;
    } else if (from_socket(c, dst, room, got) == STUCK) {
        return STUCK;
    }
    c->body_left -= *got;
    c->body_over = c->body_left == 0;
    return MOVED;
}

static enum moved move_chunked(struct conn *c, char *dst, size_t room, size_t *got)
{
    struct str data;
    struct err e;
    size_t used;

    if (c->in_at == c->in->n) {
        c->in_at = c->in->n = c->pin;
        if (from_socket(c, c->in->p + c->in->n, c->in->cap - c->in->n, &used) == STUCK)
            return STUCK;
        c->in->n += used;
    }
    struct str in = { c->in->p + c->in_at, MIN(c->in->n - c->in_at, room) };
    enum http1_result res = http1_chunked(&c->chunks, in, &used, &data, &e);
    c->in_at += used;
    if (res == HTTP1_BAD) {
        broken(c, &e);
        return STUCK;
    }
    if (data.n)
        memcpy(dst, data.p, data.n);
    *got = data.n;
    c->body_over = res == HTTP1_OK;
    return MOVED;
}

static enum moved move(struct conn *c, char *dst, size_t room, size_t *got)
{
    *got = 0;
    return c->chunked ? move_chunked(c, dst, room, got) : move_plain(c, dst, room, got);
}

/* Who sends less than the rate once the time-out has passed holds what others could have.  True if
 * so: it has failed. */
static bool too_slow(struct conn *c, struct http_req *r)
{
    const struct http_limits *l = &c->io->server->limits;
    int64_t took = c->io->now - r->body_since;
    struct err e;

    if (!l->body_rate || c->body_over || took <= l->body_timeout ||
        r->body_got / (uint64_t)l->body_rate >= (uint64_t)(took / SECONDS(1)))
        return false;
    err_set(&e, ERR_REQUEST_TIMEOUT, "the body brings less than %lld bytes a second",
            (long long)l->body_rate);
    body_fail(r, &e);
    return true;
}

/* Whether so many bytes may be held; else it has failed. */
static bool metered(struct http_req *r, size_t n)
{
    struct err e;

    while (r->meter_fn && r->metered + HTTP_BODY_STEP <= n) {
        if (r->meter_fn(r->collect_ctx, r, HTTP_BODY_STEP, &e) < 0) {
            body_fail(r, &e);
            return false;
        }
        r->metered += HTTP_BODY_STEP;
    }
    return true;
}

/* ---- into one piece */

static bool collect(struct conn *c, struct http_req *r)
{
    size_t have = c->in->n - c->in_at, got;

    if (!c->chunked && !r->body.n && have >= c->body_left) {
        /* All of it came with the head: it is used where it lies. */
        struct str body = { c->in->p + c->in_at, (size_t)c->body_left };
        c->in_at += body.n;
        c->body_left = 0;
        c->body_over = true;
        deliver(r, body);
        return true;
    }
    size_t room = c->chunked ? PIECE : (size_t)MIN(c->body_left, (uint64_t)PIECE);
    char *at = buf_room(&r->body, room);
    if (move(c, at, room, &got) == STUCK)
        return !c->dead && r->body_failed;
    buf_grew(&r->body, got);
    r->body_got += got;
    if (r->body_got > r->body_max) {
        struct err e;
        err_set(&e, ERR_TOO_LARGE, "the body is over %llu bytes", (unsigned long long)r->body_max);
        body_fail(r, &e);
    } else if (!too_slow(c, r) && metered(r, r->body_got) && c->body_over) {
        deliver(r, buf_str(&r->body));
    }
    return true;
}

/* ---- into the ring */

/* Where the next bytes may go; none: the worker is behind, and is to say when it has caught up. */
static size_t ring_room(struct http_req *r, char **at)
{
    pthread_mutex_lock(&r->lock);
    size_t end = (r->ring_at + r->ring_n) % STREAM_HELD;
    size_t room = STREAM_HELD - r->ring_n;
    r->ring_paused = room == 0;
    pthread_mutex_unlock(&r->lock);
    *at = r->ring + end;
    return MIN(room, STREAM_HELD - end);
}

static bool feed(struct conn *c, struct http_req *r)
{
    size_t budget = PUMP_BUDGET, got;
    struct err e;

    while (!c->body_over) {
        char *at;
        size_t room = ring_room(r, &at);

        if (room == 0 && !r->paused)
            r->paused_since = c->io->now;
        r->paused = room == 0;
        if (r->paused || move(c, at, room, &got) == STUCK)
            return false;
        r->body_got += got;
        if (r->body_got > r->body_max) {
            err_set(&e, ERR_TOO_LARGE, "the body is over %llu bytes",
                    (unsigned long long)r->body_max);
            body_fail(r, &e);
            return false;
        }
        pthread_mutex_lock(&r->lock);
        r->ring_n += got;
        r->ring_over = c->body_over;
        pthread_cond_broadcast(&r->moved);
        pthread_mutex_unlock(&r->lock);
        if (too_slow(c, r))
            return false;
        body_tell(r);
        if (c->dead)
            return false;
        if (budget <= got)
            return true;
        budget -= got;
    }
    return false;
}

static void ring_take(struct http_req *r, char *p, size_t n)
{
    size_t first = MIN(n, STREAM_HELD - r->ring_at);

    memcpy(p, r->ring + r->ring_at, first);
    memcpy(p + first, r->ring, n - first);
    r->ring_at = (r->ring_at + n) % STREAM_HELD;
    r->ring_n -= n;
}

static ssize_t read_ring(struct http_req *r, void *p, size_t n, bool wait, struct err *e)
{
    bool resume = false;
    ssize_t got = 0;

    pthread_mutex_lock(&r->lock);
    while (wait && !r->ring_n && !r->ring_over && !r->ring_failed && !atomic_load(&r->gone))
        pthread_cond_wait(&r->moved, &r->lock);
    if (r->ring_n) {
        n = MIN(n, r->ring_n);
        ring_take(r, p, n);
        got = (ssize_t)n;
        resume = r->ring_paused && r->ring_n <= STREAM_HELD / 2;
        r->ring_paused = r->ring_paused && !resume;
    } else if (r->ring_failed) {
        *e = r->body_err;
        got = -1;
    } else if (!r->ring_over) {
        got = atomic_load(&r->gone) ? err_set(e, ERR_INVALID, "the connection was lost")
                                    : HTTP_BODY_LATER;
    }
    pthread_mutex_unlock(&r->lock);
    if (resume)
        io_post(r->io, &r->post, &r->ops, OP_RESUME);
    return got;
}

ssize_t http_body_read(struct http_req *r, void *p, size_t n, struct err *e)
{
    return read_ring(r, p, n, true, e);
}

ssize_t http_body_take(struct http_req *r, void *p, size_t n, struct err *e)
{
    return read_ring(r, p, n, false, e);
}

/* ---- the step of a connection */

bool body_wanted(const struct conn *c)
{
    const struct http_req *r = c->req;

    return c->state == CONN_REQUEST && !c->body_over && !r->body_failed && !r->paused &&
           (r->mode == BODY_COLLECT || r->mode == BODY_STREAM);
}

static void say_continue(struct conn *c)
{
    static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct iovec v = { text, sizeof(text) - 1 };

    c->continue_due = false;
    conn_write(c, &v, 1, NULL);
    if (!c->dead)
        c->req->sent = 0;
}

bool body_pump(struct conn *c)
{
    struct http_req *r = c->req;

    if (r->mode != BODY_COLLECT && r->mode != BODY_STREAM)
        return false;
    if (r->body_failed || c->body_over) {
        if (r->mode == BODY_STREAM)
            return false;
        deliver(r, (struct str){ NULL, 0 });
        return true;
    }
    if (r->paused)
        return false;
    if (c->continue_due) {
        say_continue(c);
        return true;
    }
    return r->mode == BODY_COLLECT ? collect(c, r) : feed(c, r);
}

bool body_discard(struct conn *c)
{
    size_t got;
    bool any = move(c, c->io->scratch, SCRATCH, &got) == MOVED;

    c->discarded += got;
    return any && !c->dead;
}
