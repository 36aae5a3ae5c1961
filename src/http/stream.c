/* SPDX-License-Identifier: Apache-2.0 */
/* Answers without a known end.  Hides two hands: the writer's bytes gather, framed, in the request;
 * the I/O thread takes all of them whenever the connection has nothing left to write. */
#include "http/internal.h"

enum { STREAM_PIECE = 128 * 1024 };

void http_stream_begin(struct http_req *r, int status)
{
    r->status = status;
    if (!req_here(r))
        io_post(r->io, &r->post, &r->ops, OP_BEGIN);
    else if (r->conn)
        reply_begin(r);
}

void stream_pump(struct http_req *r)
{
    struct conn *c = r->conn;
    struct buf taken;

    if (c->out || r->answered)
        return;
    pthread_mutex_lock(&r->lock);
    taken = r->stream;
    r->stream = BUF(2 * STREAM_MAX);
    r->stream_inflight = taken.n;
    pthread_cond_broadcast(&r->moved);
    pthread_mutex_unlock(&r->lock);
    if (taken.n) {
        struct iovec v = { taken.p, taken.n };
        conn_write(c, &v, 1, taken.p);
        if (c->dead)
            return;
    } else {
        buf_free(&taken);
    }
    if (!c->out && taken.n) {
        pthread_mutex_lock(&r->lock);
        r->stream_inflight = 0;
        pthread_cond_broadcast(&r->moved);
        pthread_mutex_unlock(&r->lock);
    }
    /* Nothing is queued behind the end. */
    if (r->finished)
        r->answered = true;
}

/* Frames 'data' as one chunk where the peer knows chunks. Under the lock. */
static void append(struct http_req *r, struct str data)
{
    if (r->head.minor == 1)
        buf_printf(&r->stream, "%zx\r\n", data.n);
    buf_put(&r->stream, data.p, data.n);
    if (r->head.minor == 1)
        buf_put(&r->stream, "\r\n", 2);
}

/* Under the lock: 0 when 'data' may be queued, -1 when the peer is gone or too far behind. */
static int make_room(struct http_req *r, struct str data, bool wait)
{
    while (wait && !atomic_load(&r->gone) && r->stream.n + r->stream_inflight > STREAM_HELD)
        pthread_cond_wait(&r->moved, &r->lock);
    if (atomic_load(&r->gone))
        return -1;
    if (wait || r->stream.n + r->stream_inflight + data.n <= STREAM_MAX)
        return 0;
    atomic_store(&r->gone, true);
    io_post(r->io, &r->post, &r->ops, OP_CUT);
    return -1;
}

int http_stream_write(struct http_req *r, struct str data, bool wait)
{
    bool here = req_here(r);

    if (http_req_gone(r))
        return -1;
    while (data.n && r->head.method != HEAD) {
        size_t n = wait ? MIN(data.n, (size_t)STREAM_PIECE) : data.n;
        struct str piece = { data.p, n };

        pthread_mutex_lock(&r->lock);
        int rc = make_room(r, piece, wait && !here);
        if (rc == 0)
            append(r, piece);
        pthread_mutex_unlock(&r->lock);
        if (rc < 0)
            return -1;
        if (!here)
            io_post(r->io, &r->post, &r->ops, OP_DATA);
        else if (r->conn)
            conn_ready(r->conn);
        data.p += n;
        data.n -= n;
    }
    return 0;
}

static void stream_over(struct http_req *r, unsigned op)
{
    if (!req_here(r)) {
        req_post_end(r, op);
    } else if (r->conn) {
        r->app_done = r->finished = true;
        r->closing |= op == OP_PART;
        conn_ready(r->conn);
    } else {
        req_let_go(r);
    }
}

void http_stream_end(struct http_req *r)
{
    pthread_mutex_lock(&r->lock);
    if (r->head.minor == 1 && r->head.method != HEAD)
        buf_put(&r->stream, "0\r\n\r\n", 5);
    pthread_mutex_unlock(&r->lock);
    stream_over(r, OP_END);
}

void http_stream_cut(struct http_req *r)
{
    stream_over(r, OP_PART);
}
