/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a connection: a small state machine that takes steps as long as one is possible, so
 * that edge-triggered events, TLS, answers from afar and time-outs all end in the same place. */
#include <assert.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http/internal.h"

/* ---- input buffers */

struct in_buf *in_get(struct io *io, size_t cap)
{
    struct in_buf *in = io->free_ins;

    if (cap == IN_SMALL && in) {
        io->free_ins = in->next;
        io->n_free_ins--;
    } else {
        in = malloc(sizeof(*in) + cap);
        if (!in)
            abort();
        in->cap = cap;
    }
    in->n = 0;
    in->next = NULL;
    return in;
}

void in_put(struct io *io, struct in_buf *in)
{
    if (!in)
        return;
    if (in->cap != IN_SMALL || io->n_free_ins >= POOL_KEEP) {
        free(in);
        return;
    }
    in->next = io->free_ins;
    io->free_ins = in;
    io->n_free_ins++;
}

/* Nothing points into it at this time. */
static void in_grow(struct conn *c)
{
    struct in_buf *in = in_get(c->io, c->io->server->in_large);

    memcpy(in->p, c->in->p, c->in->n);
    in->n = c->in->n;
    in_put(c->io, c->in);
    c->in = in;
}

/* ---- opening and closing */

static void refuse_crowd(struct conn *c)
{
    bool not_http;
    struct err e;

    c->req = req_new(c);
    http1_parse((struct str){ "", 0 }, 1, 1, &c->req->head, &not_http, &e); /* an empty head */
    err_set(&e, ERR_OVERLOADED, "the server has too many connections");
    c->linger = true;
    req_refuse(c, &e);
    conn_run(c);
}

void conn_open(struct io *io, int fd, const struct ip *peer, uint64_t flow, bool refuse)
{
    struct http_server *s = io->server;
    struct conn *c = io->free_conns;

    if (c) {
        io->free_conns = c->next_ready;
        io->n_free_conns--;
    } else if (!(c = malloc(sizeof(*c)))) {
        abort();
    }
    *c = (struct conn){
        .source = { SOURCE_CONN, fd }, .io = io, .peer = *peer, .flow = flow, .writable = true
    };
    c->out_tail = &c->out;
    link_init(&c->waiting);
    link_end(&io->conns, &c->all);
    io->n_conns++;
    atomic_fetch_add(refuse ? &s->refused : &s->open, 1);
    c->counted = !refuse;
    stat_add(&io->connections, 1);
    c->ssl = tls_new(s, fd);

    struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
    if (epoll_ctl(io->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        conn_close(c);
    else if (refuse)
        refuse_crowd(c);
    else
        wait_set(c, c->ssl ? WAIT_HEAD : WAIT_IDLE,
                 c->ssl ? s->limits.head_timeout : s->limits.idle_timeout);
}

void conn_close(struct conn *c)
{
    struct io *io = c->io;

    if (c->dead)
        return;
    c->dead = true;
    epoll_ctl(io->epoll, EPOLL_CTL_DEL, c->source.fd, NULL);
    if (c->ssl) {
        tls_bye(c);
        tls_free(c->ssl);
        c->ssl = NULL;
    }
    close(c->source.fd);
    out_free_all(c);
    wait_set(c, WAIT_NONE, 0);
    link_out(&c->all);
    io->n_conns--;
    atomic_fetch_sub(c->counted ? &io->server->open : &io->server->refused, 1);
    if (c->counted)
        peer_leaves(io->server, c->flow);
    c->next_dead = io->dead;
    io->dead = c;
    if (c->ws)
        ws_gone(c);
    if (c->req) {
        struct http_req *r = TAKE(c->req);
        if (!r->in)
            r->in = TAKE(c->in);
        req_detach(r);
    }
    in_put(io, TAKE(c->in));
}

/* Frees the closed ones, to which events of the round that is over may have pointed. */
void conn_reap(struct io *io)
{
    struct conn *c = TAKE(io->dead);

    while (c) {
        struct conn *next = c->next_dead;
        if (c->ready || c->busy) {
            c->next_dead = io->dead;
            io->dead = c;
        } else if (io->n_free_conns < POOL_KEEP) {
            c->next_ready = io->free_conns;
            io->free_conns = c;
            io->n_free_conns++;
        } else {
            free(c);
        }
        c = next;
    }
}

/* All is said.  Where unread input would make the kernel answer our close with a reset, which may
 * overtake the answer, input is read away until the peer closes or a second has passed. */
static void finish(struct conn *c, bool unread)
{
    if (!unread) {
        conn_close(c);
        return;
    }
    if (c->ssl)
        tls_bye(c);
    shutdown(c->source.fd, SHUT_WR);
    c->state = CONN_LINGER;
    c->readable = true;
}

/* ---- steps */

/* The input behind the request that is over becomes the beginning of the next. */
static void next_request(struct conn *c)
{
    size_t rest = c->in ? c->in->n - c->in_at : 0;

    c->state = CONN_HEAD;
    c->fresh_input = rest > 0;
    if (rest == 0) {
        in_put(c->io, TAKE(c->in));
    } else {
        memmove(c->in->p, c->in->p + c->in_at, rest);
        c->in->n = rest;
        c->req = req_new(c);
    }
    c->in_at = c->pin = 0;
}

/* The answer has been written. */
static void answered(struct conn *c)
{
    struct http_req *r = TAKE(c->req);
    bool closing = r->closing || c->io->draining;
    bool unread = c->linger || !c->body_over || c->readable || (c->in && c->in->n > c->in_at);

    req_detach(r);
    if (c->dead)
        return;
    if (closing)
        finish(c, unread);
    else if (!c->body_over)
        c->state = CONN_DISCARD;
    else
        next_request(c);
}

/* Tries to read a head from what is there: true if there was one, or none ever will be. */
static bool parse(struct conn *c)
{
    const struct http_limits *l = &c->io->server->limits;

    assert(c->in);
    struct str input = { c->in->p, c->in->n };
    bool not_http;
    struct err e;

    c->fresh_input = false;
    switch (http1_parse(input, l->max_head, l->max_path, &c->req->head, &not_http, &e)) {
    case HTTP1_MORE:
        return false;
    case HTTP1_OK:
        if (c->req->head.chunked && c->in->cap == IN_SMALL) {
            /* Chunks are read behind the head: room for them. */
            in_grow(c);
            return parse(c);
        }
        if (c->wait == WAIT_HEAD)
            wait_set(c, WAIT_NONE, 0);
        req_dispatch(c);
        return true;
    default:
        c->linger = true;
        req_refuse(c, not_http ? NULL : &e);
        return true;
    }
}

/* Reads more of a head: false if nothing came. */
static bool read_head(struct conn *c)
{
    if (!c->in)
        c->in = in_get(c->io, IN_SMALL);
    if (c->in->n == c->in->cap)
        in_grow(c);

    char *at = c->in->p + c->in->n;
    ssize_t got = conn_recv(c, at, c->in->cap - c->in->n);
    if (got == 0 || got == -2) {
        conn_close(c);
        return false;
    }
    if (got < 0) {
        if (c->in->n == 0)
            in_put(c->io, TAKE(c->in));
        return false;
    }
    if (!c->req)
        c->req = req_new(c);
    /* A head ends with a line: what brings none need not be looked at, but for limits. */
    c->fresh_input = c->in->n == 0 || c->in->n + (size_t)got > c->io->server->limits.max_path ||
                     memchr(at, '\n', (size_t)got);
    c->in->n += (size_t)got;
    return true;
}

static bool head_step(struct conn *c)
{
    if (c->fresh_input && parse(c))
        return true;
    return !c->dead && c->readable && read_head(c);
}

static bool request_step(struct conn *c)
{
    struct http_req *r = c->req;

    assert(r);
    if (r->streaming)
        stream_pump(r);
    if (c->dead)
        return false;
    if (c->out)
        return c->writable;
    if (r->answered) {
        answered(c);
        return true;
    }
    return body_pump(c) || (!c->dead && r->answered); /* who was told of the body may have */
}

static bool discard_step(struct conn *c)
{
    if (!c->body_over && c->discarded > DISCARD_MAX)
        finish(c, true);
    else if (c->body_over)
        next_request(c);
    else
        return body_discard(c);
    return true;
}

static bool linger_step(struct conn *c)
{
    ssize_t n = recv(c->source.fd, c->io->scratch, SCRATCH, 0);

    if (n > 0)
        return true;
    if (n == 0 || errno != EAGAIN)
        conn_close(c);
    return false;
}

static bool step(struct conn *c)
{
    if (c->out && !conn_flush(c))
        return false;
    switch (c->state) {
    case CONN_HEAD:
        return head_step(c);
    case CONN_REQUEST:
        return request_step(c);
    case CONN_DISCARD:
        return discard_step(c);
    case CONN_LINGER:
        return linger_step(c);
    default:
        return ws_step(c);
    }
}

/* ---- what it waits for now */

static void arm(struct conn *c)
{
    const struct http_limits *l = &c->io->server->limits;
    const int64_t times[WAIT_KINDS] = {
        [WAIT_IDLE] = l->idle_timeout, [WAIT_HEAD] = l->head_timeout,
        [WAIT_BODY] = l->body_timeout, [WAIT_WRITE] = l->write_timeout,
        [WAIT_LINGER] = LINGER_US,
    };
    enum wait want = WAIT_NONE;

    if (c->req && c->req->cold)
        want = WAIT_NONE; /* it waits for us */
    else if (c->out)
        want = WAIT_WRITE;
    else if (c->state == CONN_HEAD)
        want = c->req || (c->ssl && !c->tls_up) ? WAIT_HEAD : WAIT_IDLE;
    else if (c->state == CONN_DISCARD || body_wanted(c))
        want = WAIT_BODY;
    else if (c->state == CONN_LINGER)
        want = WAIT_LINGER;
    else if (c->state == CONN_WS)
        want = WAIT_IDLE;
    /* A head and a farewell have a time in all; the rest only has to go on. */
    bool renew = c->progress && want != WAIT_HEAD && want != WAIT_LINGER;
    if (want != c->wait || renew || (want != WAIT_NONE && c->waiting.next == &c->waiting))
        wait_set(c, want, want == WAIT_NONE ? 0 : times[want]);
    c->progress = false;
}

void conn_run(struct conn *c)
{
    int budget = STEP_BUDGET;

    if (c->busy || c->dead)
        return;
    c->busy = true;
    while (!c->dead && step(c)) {
        if (--budget == 0) {
            conn_ready(c);
            break;
        }
    }
    c->busy = false;
    if (!c->dead)
        arm(c);
}

void conn_ready(struct conn *c)
{
    if (c->ready || c->dead)
        return;
    c->ready = true;
    c->next_ready = NULL;
    *c->io->ready_tail = c;
    c->io->ready_tail = &c->next_ready;
}

/* ---- what happens to it */

void conn_event(struct conn *c, uint32_t events)
{
    if (c->dead)
        return;
    if (events & EPOLLIN) {
        c->readable = true;
        if (c->write_wants_read)
            c->writable = true;
        c->write_wants_read = false;
    }
    if (events & EPOLLOUT) {
        c->writable = true;
        if (c->read_wants_write)
            c->readable = true;
        c->read_wants_write = false;
    }
    if (events & (EPOLLERR | EPOLLHUP)) {
        conn_close(c);
        return;
    }
    if (events & EPOLLRDHUP) {
        c->half_closed = true;
        c->readable = true;
        /* While a body is still read, its end decides. */
        if (c->state == CONN_REQUEST && c->body_over)
            req_gone(c->req);
    }
    conn_run(c);
}

void conn_expired(struct conn *c, enum wait wait)
{
    const struct http_limits *l = &c->io->server->limits;
    bool not_http;
    struct err e;

    if (wait == WAIT_HEAD && c->req && c->state == CONN_HEAD) /* what is known of it by now */
        http1_parse((struct str){ c->in->p, c->in->n }, l->max_head, l->max_path, &c->req->head,
                    &not_http, &e);
    err_set(&e, ERR_REQUEST_TIMEOUT, "the request did not arrive in time");
    if (wait == WAIT_IDLE && c->state == CONN_WS) {
        ws_expired(c);
    } else if (wait == WAIT_HEAD && c->req && c->state == CONN_HEAD) {
        c->linger = true;
        req_refuse(c, &e);
    } else if (wait == WAIT_BODY && c->state == CONN_REQUEST) {
        body_fail(c->req, &e);
    } else {
        conn_close(c);
    }
    conn_run(c);
}

void conn_drain(struct conn *c)
{
    if (c->state == CONN_REQUEST || c->state == CONN_WS)
        req_drain(c->req);
    else if (c->state == CONN_DISCARD || (c->state == CONN_HEAD && !c->req))
        conn_close(c);
}
