/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket connections.  The handshake is ours, frames are wslay's.  Hides who may send: any
 * thread queues messages here, the I/O thread alone speaks to wslay.  A connection is its request's
 * and lives as long as that. */
#include <sodium.h>
#include <wslay/wslay.h>

#include "codec/text.h"
#include "http/internal.h"
#include "os/digest.h"

enum { WS_MESSAGE_MAX = 1024 * 1024, WS_KEY = 24, WS_READS = 16 };

struct ws_out {
    struct ws_out *next;
    size_t n;
    uint8_t opcode;
    uint8_t p[];
};

struct http_ws {
    struct http_req *r;
    struct conn *conn; /* the I/O thread's; NULL before it is attached and after it has gone */
    struct http_ws_app app;
    wslay_event_context_ptr frames;
    char accept[32];
    bool closed; /* I/O thread: nothing more will be sent */
    int reads;   /* left in this step */

    pthread_mutex_t lock; /* guards the rest */
    struct ws_out *queue, **queue_tail;
    size_t queued; /* bytes here and in wslay */
    bool gone, paused;
    bool cut;
    int close_code;
};

/* ---- the handshake */

/* RFC 6455, 4.2.2. */
static int accept_key(struct str key, char out[32], struct err *e)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    _cleanup_digest_ struct digest *d = digest_new(DIGEST_SHA1, e);
    uint8_t sum[DIGEST_MAX];

    if (!d)
        return -1;
    digest_add(d, key.p, WS_KEY);
    digest_add(d, guid, sizeof(guid) - 1);
    sodium_bin2base64(out, 32, sum, digest_end(d, sum), sodium_base64_VARIANT_ORIGINAL);
    return 0;
}

/* 16 bytes in base64. */
static bool key_ok(struct str key)
{
    uint8_t raw[16];
    size_t n;

    return key.n == WS_KEY &&
           sodium_base642bin(raw, sizeof(raw), key.p, WS_KEY, NULL, &n, NULL,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           n == sizeof(raw);
}

static int check(const struct http_head *h, struct err *e)
{
    if (!h->upgrade_websocket || h->content_length > 0 || h->chunked)
        return err_set(e, ERR_INVALID, "the request asks for no WebSocket");
    if (http1_header_count(h, "sec-websocket-version") != 1 ||
        !str_is(http1_header(h, "sec-websocket-version"), "13"))
        return err_set(e, ERR_INVALID, "Sec-WebSocket-Version must be 13");
    if (http1_header_count(h, "sec-websocket-key") != 1 ||
        !key_ok(http1_header(h, "sec-websocket-key")))
        return err_set(e, ERR_INVALID, "Sec-WebSocket-Key must be 16 bytes in base64");
    return 0;
}

/* ---- what wslay asks of us */

static bool is_paused(struct http_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    bool paused = ws->paused;
    pthread_mutex_unlock(&ws->lock);
    return paused;
}

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *p, size_t n, int flags _unused_,
                       void *user)
{
    struct http_ws *ws = user;
    struct conn *c = ws->conn;
    size_t have = c->in ? c->in->n - c->in_at : 0;
    ssize_t got = -1;

    if (have) {
        n = MIN(n, have);
        memcpy(p, c->in->p + c->in_at, n);
        c->in_at += n;
        if (c->in_at == c->in->n) {
            in_put(c->io, TAKE(c->in));
            c->in_at = 0;
        }
        return (ssize_t)n;
    }
    if (c->readable && !is_paused(ws) && ws->reads-- > 0)
        got = conn_recv(c, p, n);
    if (got > 0) {
        c->ws_pinged = false;
        return got;
    }
    wslay_event_set_error(ctx, got == -1 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *p, size_t n, int flags _unused_,
                       void *user)
{
    struct http_ws *ws = user;
    struct iovec v = { NULL, n };
    ssize_t put = -1;

    memcpy(&v.iov_base, &p, sizeof(p));
    if (ws->conn->writable)
        put = conn_send(ws->conn, &v, 1);
    if (put > 0)
        return put;
    wslay_event_set_error(ctx, put == -1 ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void on_message(wslay_event_context_ptr ctx _unused_,
                       const struct wslay_event_on_msg_recv_arg *m, void *user)
{
    struct http_ws *ws = user;
    struct str data = { (const char *)m->msg, m->msg_length };

    if ((m->opcode != WSLAY_TEXT_FRAME && m->opcode != WSLAY_BINARY_FRAME) || ws->r->app_done)
        return;
    if (ws->app.on_message(ws->app.ctx, ws->r, m->opcode == WSLAY_BINARY_FRAME, data))
        return;
    pthread_mutex_lock(&ws->lock);
    ws->paused = true;
    pthread_mutex_unlock(&ws->lock);
}

/* ---- life */

void ws_free(struct http_ws *ws)
{
    if (!ws)
        return;
    while (ws->queue) {
        struct ws_out *m = ws->queue;
        ws->queue = m->next;
        free(m);
    }
    wslay_event_context_free(ws->frames);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
}

void ws_gone(struct conn *c)
{
    struct http_ws *ws = TAKE(c->ws);

    pthread_mutex_lock(&ws->lock);
    ws->gone = true;
    pthread_mutex_unlock(&ws->lock);
    ws->conn = NULL;
}

int http_ws_check(const struct http_req *r, struct err *e)
{
    return check(&r->head, e);
}

int http_ws_begin(struct http_req *r, const struct http_ws_app *app, struct err *e)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .on_msg_recv_callback = on_message,
    };

    char accept[32];

    TRY(http_ws_check(r, e));
    TRY(accept_key(http1_header(&r->head, "sec-websocket-key"), accept, e));
    struct http_ws *ws = calloc(1, sizeof(*ws));
    if (!ws)
        abort();
    ws->r = r;
    ws->app = *app;
    ws->queue_tail = &ws->queue;
    pthread_mutex_init(&ws->lock, NULL);
    memcpy(ws->accept, accept, sizeof(ws->accept));
    if (wslay_event_context_server_init(&ws->frames, &callbacks, ws) != 0)
        abort();
    wslay_event_config_set_max_recv_msg_length(ws->frames, app->max ? app->max : WS_MESSAGE_MAX);
    r->ws = ws;
    r->status = 101;
    /* Also on its own thread only from the loop: until then no frame is read, so that the caller
     * has gone on before the first message comes. */
    io_post(r->io, &r->post, &r->ops, OP_WS);
    return 0;
}

/* What is read behind the head is the connection's; the head stays the request's. */
static void part_input(struct conn *c, struct http_req *r)
{
    struct in_buf *in = c->in;
    size_t rest = in ? in->n - c->in_at : 0;

    c->in = NULL;
    if (rest) {
        c->in = in_get(c->io, MAX(rest, (size_t)IN_SMALL));
        memcpy(c->in->p, in->p + c->in_at, rest);
        c->in->n = rest;
    }
    c->in_at = c->pin = 0;
    r->in = in;
}

void ws_attach(struct http_req *r)
{
    struct http_ws *ws = r->ws;
    struct conn *c = r->conn;
    struct buf head = BUF(KIB(32));

    if (!c) {
        pthread_mutex_lock(&ws->lock);
        ws->gone = true;
        pthread_mutex_unlock(&ws->lock);
        return;
    }
    buf_printf(&head,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: %s\r\n",
               ws->accept);
    buf_put(&head, r->headers.p, r->headers.n);
    buf_puts(&head, "\r\n");
    buf_free(&r->headers);
    ws->conn = c;
    c->ws = ws;
    c->state = CONN_WS;
    part_input(c, r);
    struct iovec v = { head.p, head.n };
    conn_write(c, &v, 1, head.p);
}

/* ---- sending */

static int enqueue(struct http_ws *ws, uint8_t opcode, struct str data)
{
    struct ws_out *m = malloc(sizeof(*m) + data.n);

    if (!m)
        abort();
    *m = (struct ws_out){ .n = data.n, .opcode = opcode };
    if (data.n)
        memcpy(m->p, data.p, data.n);
    pthread_mutex_lock(&ws->lock);
    bool slow = !ws->gone && ws->queued > 0 && ws->queued + data.n > STREAM_MAX;
    bool ok = !ws->gone && !ws->cut && !ws->close_code && !slow;
    ws->cut |= slow;
    if (ok) {
        *ws->queue_tail = m;
        ws->queue_tail = &m->next;
        ws->queued += data.n + 16;
    }
    bool tell = ok || slow;
    pthread_mutex_unlock(&ws->lock);
    if (!ok)
        free(m);
    if (tell)
        io_post(ws->r->io, &ws->r->post, &ws->r->ops, OP_DATA);
    return ok ? 0 : -1;
}

int http_ws_send(struct http_req *r, bool binary, struct str data)
{
    return enqueue(r->ws, binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data);
}

int ws_write(struct http_ws *ws, struct str data)
{
    return enqueue(ws, utf8_valid(data) ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, data);
}

size_t ws_held(struct http_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    size_t n = ws->queued;
    pthread_mutex_unlock(&ws->lock);
    return n;
}

void http_ws_more(struct http_req *r)
{
    pthread_mutex_lock(&r->ws->lock);
    bool was = r->ws->paused;
    r->ws->paused = false;
    pthread_mutex_unlock(&r->ws->lock);
    if (was)
        io_post(r->io, &r->post, &r->ops, OP_DATA);
}

void http_ws_close(struct http_req *r, int code)
{
    struct http_ws *ws = r->ws;

    pthread_mutex_lock(&ws->lock);
    bool tell = !ws->gone && !ws->close_code;
    if (tell)
        ws->close_code = code;
    pthread_mutex_unlock(&ws->lock);
    if (tell)
        io_post(r->io, &r->post, &r->ops, OP_DATA);
}

/* Hands to wslay what other threads have queued; false if the peer is to be cut off. */
static bool take_queue(struct http_ws *ws)
{
    pthread_mutex_lock(&ws->lock);
    struct ws_out *m = TAKE(ws->queue);
    ws->queue_tail = &ws->queue;
    bool cut = ws->cut;
    int code = ws->close_code;
    pthread_mutex_unlock(&ws->lock);

    while (m) {
        struct ws_out *next = m->next;
        struct wslay_event_msg msg = { m->opcode, m->p, m->n };
        wslay_event_queue_msg(ws->frames, &msg); /* it copies; refuses after a close frame */
        free(m);
        m = next;
    }
    /* A close frame would overtake what waits before it. */
    if (code && !ws->closed && wslay_event_get_queued_msg_length(ws->frames) == 0) {
        ws->closed = true;
        wslay_event_queue_close(ws->frames, (uint16_t)code, NULL, 0);
    }
    return !cut;
}

static bool send_all(struct http_ws *ws)
{
    return !wslay_event_want_write(ws->frames) || wslay_event_send(ws->frames) == 0;
}

static void settle(struct http_ws *ws)
{
    size_t inside = wslay_event_get_queued_msg_length(ws->frames), n = 0;

    pthread_mutex_lock(&ws->lock);
    for (const struct ws_out *m = ws->queue; m; m = m->next)
        n += m->n + 16;
    ws->queued = inside + n;
    pthread_mutex_unlock(&ws->lock);
}

/* True when both sides have closed, or nothing can be read or written any more. */
static bool finished(struct http_ws *ws)
{
    return (wslay_event_get_close_received(ws->frames) && wslay_event_get_close_sent(ws->frames)) ||
           (!wslay_event_want_read(ws->frames) && !wslay_event_want_write(ws->frames));
}

bool ws_step(struct conn *c)
{
    struct http_ws *ws = c->ws;
    bool ok = take_queue(ws);

    ws->reads = WS_READS;
    /* Who does not take what we have is not read from either. */
    if (ok && wslay_event_get_queued_msg_length(ws->frames) < STREAM_HELD && !is_paused(ws) &&
        wslay_event_want_read(ws->frames))
        ok = wslay_event_recv(ws->frames) == 0;
    ok = ok && take_queue(ws) && send_all(ws);
    ok = ok && take_queue(ws) && send_all(ws); /* the close frame, behind all that */
    settle(ws);
    if (!ok || finished(ws)) {
        conn_close(c);
        return false;
    }
    stream_tell(ws->r, false);
    return (c->readable || c->in) && !is_paused(ws) && !wslay_event_want_write(ws->frames);
}

void ws_end(struct http_req *r, bool whole)
{
    http_ws_close(r, !whole            ? WSLAY_CODE_INTERNAL_SERVER_ERROR
                     : r->io->draining ? WSLAY_CODE_GOING_AWAY
                                       : WSLAY_CODE_NORMAL_CLOSURE);
}

/* Silence: a ping, then the end. */
void ws_expired(struct conn *c)
{
    struct wslay_event_msg ping = { WSLAY_PING, NULL, 0 };

    if (c->ws_pinged) {
        conn_close(c);
        return;
    }
    c->ws_pinged = true;
    wslay_event_queue_msg(c->ws->frames, &ping);
}
