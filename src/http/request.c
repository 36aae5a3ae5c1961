/* SPDX-License-Identifier: Apache-2.0 */
/* Requests between a connection and the application.  Hides who holds one: each of the two lets go
 * once, in any order, and what other threads ask for is done here, on the request's own thread. */
#include "http/internal.h"

/* ---- memory */

struct http_req *req_new(struct conn *c)
{
    struct io *io = c->io;
    struct http_req *r = io->free_reqs;

    if (r) {
        io->free_reqs = r->next_free;
        io->n_free_reqs--;
    } else {
        r = calloc(1, sizeof(*r));
        if (!r)
            abort();
        r->post.kind = POST_REQ;
        r->io = io;
        r->arena = ARENA(HTTP_ARENA);
        r->headers = BUF(HEADERS_MAX);
        r->stream = BUF(2 * STREAM_MAX);
        r->file = r->cold_fd = -1;
        pthread_mutex_init(&r->lock, NULL);
        pthread_cond_init(&r->moved, NULL);
    }
    r->conn = c;
    r->peer = c->peer;
    r->tls = c->ssl != NULL;
    r->start = io->now;
    return r;
}

void req_destroy(struct http_req *r)
{
    arena_free(&r->arena);
    buf_free(&r->headers);
    buf_free(&r->body);
    buf_free(&r->stream);
    ws_free(r->ws);
    free(r->ring);
    free(r->reply_p);
    if (r->file >= 0)
        close(r->file);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->moved);
    free(r);
}

/* As new, with the memory that the next request will want too. */
static void reset(struct http_req *r)
{
    arena_reset(&r->arena, ARENA_KEEP);
    if (r->headers.cap > ARENA_KEEP)
        buf_free(&r->headers);
    buf_clear(&r->headers);
    buf_free(&r->body);
    buf_free(&r->stream);
    free(TAKE(r->ring));
    free(TAKE(r->reply_p));
    if (r->file >= 0)
        close(TAKE_FD(r->file));
    in_put(r->io, TAKE(r->in));
    r->user = NULL;
    r->tls = r->begun = r->app_done = r->streaming = r->finished = r->answered = false;
    r->close_after = r->closing = r->gone_called = r->paused = r->body_failed = false;
    atomic_store_explicit(&r->gone, false, memory_order_relaxed);
    r->status = 0;
    r->sent = 0;
    r->reply_n = 0;
    r->ask = r->mode = BODY_UNASKED;
    r->body_max = r->body_got = 0;
    r->collect_fn = NULL;
    r->collect_ctx = NULL;
    r->meter_fn = NULL;
    r->metered = 0;
    r->spool_fn = NULL;
    r->spool_due = false;
    r->ring_at = r->ring_n = r->stream_inflight = 0;
    r->ring_over = r->ring_paused = r->ring_failed = false;
    r->gone_fn = NULL;
    r->gone_ctx = NULL;
    r->room_fn = NULL;
    r->room_ctx = NULL;
    ws_free(TAKE(r->ws));
}

/* Both have let go.  One that is in the queue of its thread waits there for its end. */
static void release(struct http_req *r)
{
    struct io *io = r->io;

    pthread_mutex_lock(&io->lock);
    bool queued = r->post.queued;
    pthread_mutex_unlock(&io->lock);
    if (queued)
        return;
    if (io->n_free_reqs >= POOL_KEEP) {
        in_put(io, TAKE(r->in));
        req_destroy(r);
        return;
    }
    reset(r);
    r->next_free = io->free_reqs;
    io->free_reqs = r;
    io->n_free_reqs++;
}

/* ---- letting go */

static void tell_sent(struct http_req *r, int64_t sent)
{
    struct http_app *app = &r->io->server->opts.app;

    if (r->begun && app->on_sent)
        app->on_sent(app->ctx, r, r->status, sent);
}

void req_detach(struct http_req *r)
{
    struct err e;
    bool whole = r->answered && (!r->conn->dead || r->ws);

    r->conn = NULL;
    if (whole)
        tell_sent(r, r->sent);
    else if (r->app_done && r->begun)
        tell_sent(r, -1);
    if (!r->begun || r->app_done) {
        if (!r->cold) /* else who reads for it lets go */
            release(r);
        return;
    }
    /* It must hear of it, or it would wait for a body for ever. */
    err_set(&e, ERR_INVALID, "the connection was lost");
    r->finished = true; /* keeps 'r' until the calls below are over */
    req_gone(r);
    if (!r->app_done)
        body_fail(r, &e);
    r->finished = false;
    if (r->app_done) {
        tell_sent(r, -1);
        release(r);
    }
}

void req_let_go(struct http_req *r)
{
    r->app_done = true;
    if (r->conn || r->finished)
        return;
    tell_sent(r, -1);
    release(r);
}

void req_tell_gone(struct http_req *r, bool draining)
{
    if (r->gone_called || r->answered || r->app_done)
        return;
    pthread_mutex_lock(&r->lock);
    void (*fn)(void *ctx, struct http_req *r, bool draining) = r->gone_fn;
    void *ctx = r->gone_ctx;
    pthread_mutex_unlock(&r->lock);
    if (!fn)
        return;
    r->gone_called = true;
    fn(ctx, r, draining);
}

void req_gone(struct http_req *r)
{
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->gone, true);
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    req_tell_gone(r, false);
    stream_tell(r, true);
}

void req_drain(struct http_req *r)
{
    req_tell_gone(r, true);
    stream_tell(r, true);
}

void http_on_gone(struct http_req *r, void (*fn)(void *ctx, struct http_req *r, bool draining),
                  void *ctx)
{
    pthread_mutex_lock(&r->lock);
    r->gone_fn = fn;
    r->gone_ctx = ctx;
    pthread_mutex_unlock(&r->lock);
    /* It may have happened already: the thread looks, and calls from its loop. */
    io_post(r->io, &r->post, &r->ops, OP_GONE);
}

/* ---- what is asked for from afar */

void req_post_end(struct http_req *r, unsigned op)
{
    pthread_mutex_lock(&r->lock);
    r->gone_fn = NULL;
    r->room_fn = NULL;
    pthread_mutex_unlock(&r->lock);
    io_post(r->io, &r->post, &r->ops, op);
}

static void drop(struct http_req *r)
{
    struct conn *c = r->conn;

    r->app_done = true;
    if (c)
        conn_close(c); /* detaches and so releases it */
    else
        req_let_go(r);
}

void http_drop(struct http_req *r)
{
    if (req_here(r))
        drop(r);
    else
        req_post_end(r, OP_DROP);
}

/* The ends of a request: nothing may follow them. */
static void op_end(struct http_req *r, unsigned ops)
{
    if (ops & OP_REPLY) {
        char *p = TAKE(r->reply_p);
        reply_emit(r, (struct str){ p, r->reply_n }, p);
    } else if (ops & OP_DROP)
        drop(r);
    else
        stream_ended(r, !(ops & OP_PART));
}

void req_op(struct http_req *r, unsigned ops)
{
    struct conn *c = r->conn;

    if (ops & OP_WARM)
        r->cold = false;
    if (r->app_done && !c) {
        if (!r->cold)
            release(r); /* it only waited to leave the queue */
        return;
    }
    if (c && c->dead)
        return;
    if (ops & OP_GONE) {
        if (atomic_load(&r->gone))
            req_tell_gone(r, false);
        else if (r->io->draining)
            req_tell_gone(r, true);
    }
    if ((ops & OP_BODY) && !r->app_done)
        body_ask(r);
    if (ops & OP_RESUME)
        body_resume(r);
    if ((ops & OP_MORE) && !r->app_done) {
        r->spool_due = true;
        body_tell(r);
    }
    if ((ops & OP_BEGIN) && r->conn)
        reply_begin(r);
    if (ops & OP_ROOM)
        stream_tell(r, r->io->draining || atomic_load(&r->gone));
    if ((ops & OP_CUT) && r->conn)
        conn_close(r->conn);
    if (ops & OP_WS)
        ws_attach(r);
    if (ops & (OP_REPLY | OP_DROP | OP_END | OP_PART))
        op_end(r, ops);
    if (c)
        conn_run(c);
}

/* ---- beginnings */

void req_dispatch(struct conn *c)
{
    struct http_req *r = c->req;
    struct http_app *app = &c->io->server->opts.app;

    c->state = CONN_REQUEST;
    c->in_at = c->pin = r->head.size;
    r->begun = true;
    r->close_after = c->io->draining;
    stat_add(&c->io->requests, 1);
    body_begin(c);
    app->on_head(app->ctx, r, c->io->index);
}

/* What is no HTTP gets no more than this. */
static void refuse_bare(struct conn *c)
{
    static char text[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    struct iovec v = { text, sizeof(text) - 1 };

    c->req->answered = c->req->app_done = c->req->closing = true;
    c->state = CONN_REQUEST;
    conn_write(c, &v, 1, NULL);
}

void req_refuse(struct conn *c, const struct err *e)
{
    struct http_req *r = c->req;
    struct http_app *app = &c->io->server->opts.app;
    struct buf body = BUF(KIB(64));

    c->body_over = true; /* nothing more of it is looked at */
    c->continue_due = false;
    if (!e) {
        refuse_bare(c);
        return;
    }
    c->state = CONN_REQUEST;
    r->begun = true;
    r->close_after = true;
    if (app->on_error)
        app->on_error(app->ctx, r, e, &body);
    r->status = err_status(e->code);
    reply_emit(r, buf_str(&body), body.p);
}

/* ---- a head that stays long */

static void move(struct str *s, const struct in_buf *from, const struct in_buf *to)
{
    if (s->p >= from->p && s->p < from->p + from->n)
        s->p = to->p + (s->p - from->p);
}

void http_req_settle(struct http_req *r)
{
    struct conn *c = r->conn;
    struct http_head *h = &r->head;

    if (!c || !c->in || !c->body_over || c->in->n != c->in_at || c->in->n > IN_SMALL / 2)
        return;
    struct in_buf *was = c->in, *now = in_get(c->io, was->n);
    struct str *parts[] = { &h->method_text, &h->target, &h->path, &h->query, &h->host };

    memcpy(now->p, was->p, was->n);
    now->n = was->n;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        move(parts[i], was, now);
    for (size_t i = 0; i < h->n_headers; i++) {
        move(&h->headers[i].name, was, now);
        move(&h->headers[i].value, was, now);
    }
    c->in = now;
    in_put(c->io, was);
}

/* ---- what the application may ask */

const struct http_head *http_req_head(const struct http_req *r)
{
    return &r->head;
}

struct arena *http_req_arena(struct http_req *r)
{
    return &r->arena;
}

const struct ip *http_req_peer(const struct http_req *r)
{
    return &r->peer;
}

bool http_req_tls(const struct http_req *r)
{
    return r->tls;
}

int http_req_io(const struct http_req *r)
{
    return r->io->index;
}

int64_t http_req_start(const struct http_req *r)
{
    return r->start;
}

void http_req_set_user(struct http_req *r, void *user)
{
    r->user = user;
}

void *http_req_user(const struct http_req *r)
{
    return r->user;
}

bool http_req_gone(const struct http_req *r)
{
    return atomic_load_explicit(&r->gone, memory_order_relaxed);
}

void http_close_after(struct http_req *r)
{
    r->close_after = true;
}
