/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket connections.  The handshake is ours, frames are wslay's.  Hides who may send: any
 * thread queues messages here, the I/O thread alone speaks to wslay. */
#include <sodium.h>
#include <wslay/wslay.h>

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
    struct post post; /* first */
    struct io *io;
    struct conn *conn; /* the I/O thread's; NULL before it is attached and after it has gone */
    struct http_ws_app app;
    wslay_event_context_ptr frames;
    char accept[32];
    bool over, closed; /* I/O thread: on_close is called; nothing more will be sent */
    bool stepping;     /* ws_step() will free it */
    int reads;         /* left in this step */

    pthread_mutex_t lock; /* guards the rest */
    struct ws_out *queue, **queue_tail;
    size_t queued; /* bytes here and in wslay */
    bool gone;
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
    if (c->readable && ws->reads-- > 0)
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

    if (m->opcode == WSLAY_TEXT_FRAME || m->opcode == WSLAY_BINARY_FRAME)
        ws->app.on_message(ws->app.ctx, ws, m->opcode == WSLAY_BINARY_FRAME, data);
}

/* ---- life */

static void ws_free(struct http_ws *ws)
{
    while (ws->queue) {
        struct ws_out *m = ws->queue;
        ws->queue = m->next;
        free(m);
    }
    wslay_event_context_free(ws->frames);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
}

/* on_close has been called: frees it, unless it still stands in the queue of its thread. */
static void ws_release(struct http_ws *ws)
{
    pthread_mutex_lock(&ws->io->lock);
    bool queued = ws->post.queued;
    pthread_mutex_unlock(&ws->io->lock);
    if (!queued)
        ws_free(ws);
}

void ws_gone(struct conn *c)
{
    struct http_ws *ws = TAKE(c->ws);

    pthread_mutex_lock(&ws->lock);
    ws->gone = true;
    pthread_mutex_unlock(&ws->lock);
    ws->conn = NULL;
    if (ws->app.on_close)
        ws->app.on_close(ws->app.ctx, ws);
    ws->over = true;
    if (!ws->stepping)
        ws_release(ws);
}

struct http_ws *http_ws_accept(struct http_req *r, const struct http_ws_app *app, struct err *e)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .on_msg_recv_callback = on_message,
    };

    char accept[32];

    if (check(&r->head, e) < 0 ||
        accept_key(http1_header(&r->head, "sec-websocket-key"), accept, e) < 0)
        return NULL;
    struct http_ws *ws = calloc(1, sizeof(*ws));
    if (!ws)
        abort();
    ws->post.kind = POST_WS;
    ws->io = r->io;
    ws->app = *app;
    ws->queue_tail = &ws->queue;
    pthread_mutex_init(&ws->lock, NULL);
    memcpy(ws->accept, accept, sizeof(ws->accept));
    if (wslay_event_context_server_init(&ws->frames, &callbacks, ws) != 0)
        abort();
    wslay_event_config_set_max_recv_msg_length(ws->frames, WS_MESSAGE_MAX);
    r->ws = ws;
    r->status = 101;
    /* Also on its own thread only from the loop: until then no frame is read, so that the caller
     * has 'ws' in its hands before the first message comes. */
    req_post_end(r, OP_WS);
    return ws;
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
        if (ws->app.on_close)
            ws->app.on_close(ws->app.ctx, ws);
        ws->over = true;
        ws_release(ws);
        req_let_go(r);
        return;
    }
    buf_printf(&head,
               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Accept: %s\r\n",
               ws->accept);
    buf_put(&head, r->headers.p, r->headers.n);
    buf_puts(&head, "\r\n");
    r->app_done = r->answered = true;
    ws->conn = c;
    c->ws = ws;
    struct iovec v = { head.p, head.n };
    conn_write(c, &v, 1, head.p);
    if (c->dead)
        return;
    c->req = NULL;
    c->state = CONN_WS;
    c->pin = 0;
    req_detach(r);
    if (c->in && c->in_at == c->in->n) {
        in_put(c->io, TAKE(c->in));
        c->in_at = 0;
    }
    if (c->io->draining)
        ws_drain(c);
    ws_op(ws);
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
    bool slow = !ws->gone && ws->queued + data.n > STREAM_MAX;
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
        io_post(ws->io, &ws->post, NULL, 0);
    return ok ? 0 : -1;
}

int http_ws_send(struct http_ws *ws, bool binary, struct str data)
{
    return enqueue(ws, binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, data);
}

void http_ws_close(struct http_ws *ws, int code)
{
    pthread_mutex_lock(&ws->lock);
    bool tell = !ws->gone && !ws->close_code;
    if (tell)
        ws->close_code = code;
    pthread_mutex_unlock(&ws->lock);
    if (tell)
        io_post(ws->io, &ws->post, NULL, 0);
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
    if (code && !ws->closed) {
        ws->closed = true;
        wslay_event_queue_close(ws->frames, (uint16_t)code, NULL, 0);
    }
    return !cut;
}

void ws_op(struct http_ws *ws)
{
    if (ws->over) {
        ws_release(ws); /* it only waited to leave the queue */
        return;
    }
    if (ws->conn)
        conn_run(ws->conn);
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

    ws->stepping = true;
    ws->reads = WS_READS;
    /* Who does not take what we have is not read from either. */
    if (ok && wslay_event_get_queued_msg_length(ws->frames) < STREAM_HELD &&
        wslay_event_want_read(ws->frames))
        ok = wslay_event_recv(ws->frames) == 0;
    ok = ok && take_queue(ws);
    if (ok && wslay_event_want_write(ws->frames))
        ok = wslay_event_send(ws->frames) == 0;
    settle(ws);
    if (!ok || finished(ws)) {
        conn_close(c);
        ws_release(ws);
        return false;
    }
    ws->stepping = false;
    return (c->readable || c->in) && !wslay_event_want_write(ws->frames);
}

void ws_drain(struct conn *c)
{
    http_ws_close(c->ws, WSLAY_CODE_GOING_AWAY);
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
