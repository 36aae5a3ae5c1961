/* SPDX-License-Identifier: Apache-2.0 */
/* Answers without a known end.  Hides two hands: the writer's bytes gather, framed, in the request;
 * the I/O thread takes all of them whenever the connection has nothing left to write.  Nobody waits
 * here: who finds no room is told when there is some. */
#include "http/internal.h"

void http_stream_begin(struct http_req *r, int status)
{
    r->status = status;
    if (!req_here(r))
        io_post(r->io, &r->post, &r->ops, OP_BEGIN);
    else if (r->conn)
        reply_begin(r);
}

/* What is with us of the stream.  Under the lock. */
static size_t held_of(const struct http_req *r)
{
    return r->ws ? ws_held(r->ws) : r->stream.n + r->stream_inflight;
}

void stream_tell(struct http_req *r, bool anyhow)
{
    void (*fn)(void *ctx) = NULL;

    if (r->app_done)
        return;
    pthread_mutex_lock(&r->lock);
    if (anyhow || held_of(r) <= STREAM_HELD / 2)
        fn = TAKE(r->room_fn);
    void *ctx = r->room_ctx;
    pthread_mutex_unlock(&r->lock);
    if (fn)
        fn(ctx);
}

/* True if there was something to take. */
static bool take(struct http_req *r, struct buf *taken)
{
    pthread_mutex_lock(&r->lock);
    *taken = r->stream;
    r->stream = BUF(2 * STREAM_MAX);
    r->stream_inflight = taken->n;
    pthread_mutex_unlock(&r->lock);
    if (taken->n == 0)
        buf_free(taken);
    return taken->n > 0;
}

void stream_pump(struct http_req *r)
{
    struct conn *c = r->conn;
    struct buf taken;

    if (c->out || r->answered)
        return;
    if (take(r, &taken)) {
        struct iovec v = { taken.p, taken.n };
        conn_write(c, &v, 1, taken.p);
        if (c->dead)
            return;
    }
    if (!c->out && taken.n) {
        pthread_mutex_lock(&r->lock);
        r->stream_inflight = 0;
        pthread_mutex_unlock(&r->lock);
    }
    /* Nothing is queued behind the end. */
    if (r->finished)
        r->answered = true;
    else
        stream_tell(r, false);
}

/* Frames 'data' as one chunk where the peer knows chunks. Under the lock. */
static void append(struct http_req *r, struct str data)
{
    /* One write may be of any size where nothing else is held. */
    r->stream.max = MAX(r->stream.max, r->stream.n + data.n + 32);
    if (r->head.minor == 1)
        buf_printf(&r->stream, "%zx\r\n", data.n);
    buf_put(&r->stream, data.p, data.n);
    if (r->head.minor == 1)
        buf_put(&r->stream, "\r\n", 2);
}

int http_stream_write(struct http_req *r, struct str data)
{
    if (http_req_gone(r))
        return -1;
    if (r->ws)
        return ws_write(r->ws, data);
    if (data.n == 0 || r->head.method == HEAD)
        return 0;
    pthread_mutex_lock(&r->lock);
    bool fits = held_of(r) == 0 || held_of(r) + data.n <= STREAM_MAX;
    if (fits)
        append(r, data);
    pthread_mutex_unlock(&r->lock);
    if (!fits)
        atomic_store(&r->gone, true);
    if (!req_here(r))
        io_post(r->io, &r->post, &r->ops, fits ? OP_DATA : OP_CUT);
    else if (r->conn && fits)
        conn_ready(r->conn);
    else if (r->conn)
        io_post(r->io, &r->post, &r->ops, OP_CUT);
    return fits ? 0 : -1;
}

size_t http_stream_room(struct http_req *r)
{
    pthread_mutex_lock(&r->lock);
    size_t held = held_of(r);
    pthread_mutex_unlock(&r->lock);
    return held < STREAM_HELD ? STREAM_HELD - held : 0;
}

bool http_stream_wait(struct http_req *r, void (*fn)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&r->lock);
    bool room = held_of(r) <= STREAM_HELD / 2;
    if (!room) {
        r->room_fn = fn;
        r->room_ctx = ctx;
    }
    pthread_mutex_unlock(&r->lock);
    /* It may have come to be meanwhile: the thread looks. */
    if (!room)
        io_post(r->io, &r->post, &r->ops, OP_ROOM);
    return room;
}

void stream_ended(struct http_req *r, bool whole)
{
    if (!r->conn) {
        req_let_go(r);
        return;
    }
    r->app_done = r->finished = true;
    if (r->ws) {
        r->answered = true;
        ws_end(r, whole);
    } else {
        r->closing |= !whole;
    }
}

static void stream_over(struct http_req *r, bool whole)
{
    struct conn *c = r->conn;

    if (!req_here(r)) {
        req_post_end(r, whole ? OP_END : OP_PART);
        return;
    }
    stream_ended(r, whole);
    if (c)
        conn_ready(c);
}

void http_stream_end(struct http_req *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->head.minor == 1 && r->head.method != HEAD && !r->ws)
        buf_put(&r->stream, "0\r\n\r\n", 5);
    pthread_mutex_unlock(&r->lock);
    stream_over(r, true);
}

void http_stream_cut(struct http_req *r)
{
    stream_over(r, false);
}
