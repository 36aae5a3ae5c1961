/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between a connection and its socket.  Hides whether TLS lies between, and what could not be
 * written at once: most answers leave in one system call and leave nothing here. */
#include <assert.h>
#include <sys/socket.h>

#include "http/internal.h"

ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
    if (c->ssl && !c->tls_seen)
        tls_sniff(c);
    if (c->ssl)
        return tls_recv(c, p, n);

    ssize_t got;
    do
        got = recv(c->source.fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        /* A short read has emptied the socket, unless the end of input stands behind. */
        if ((size_t)got < n && !c->half_closed)
            c->readable = false;
        c->progress = true;
        stat_add(&c->io->bytes_in, got);
        return got;
    }
    if (got == 0) {
        c->ended = true;
        c->readable = false;
        return 0;
    }
    c->readable = false;
    return errno == EAGAIN ? -1 : -2;
}

/* Over TLS piece by piece: one record each, at most. */
static ssize_t send_tls(struct conn *c, struct iovec *v, int n)
{
    ssize_t sum = 0;

    for (int i = 0; i < n; i++) {
        size_t at = 0;
        while (at < v[i].iov_len) {
            ssize_t put = tls_send(c, (char *)v[i].iov_base + at, v[i].iov_len - at);
            if (put < 0)
                return sum ? sum : put;
            sum += put;
            at += (size_t)put;
        }
    }
    return sum;
}

ssize_t conn_send(struct conn *c, struct iovec *v, int n)
{
    struct msghdr m = { .msg_iov = v, .msg_iovlen = (size_t)n };
    ssize_t put;

    do
        if (c->ssl)
            put = send_tls(c, v, n);
        else if (n == 1)
            put = send(c->source.fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL);
        else
            put = sendmsg(c->source.fd, &m, MSG_NOSIGNAL);
    while (put < 0 && !c->ssl && errno == EINTR);
    if (put < 0 && !c->ssl) {
        c->writable = false;
        return errno == EAGAIN ? -1 : -2;
    }
    if (put > 0) {
        c->progress = true;
        stat_add(&c->io->bytes_out, put);
        if (c->req)
            c->req->sent += put;
    }
    return put;
}

/* ---- what waits */

static struct out *out_add(struct conn *c)
{
    struct out *o = calloc(1, sizeof(*o));

    if (!o)
        abort();
    o->fd = -1;
    *c->out_tail = o;
    c->out_tail = &o->next;
    return o;
}

static void out_drop(struct conn *c)
{
    struct out *o = c->out;

    c->out = o->next;
    if (!c->out)
        c->out_tail = &c->out;
    free(o->p);
    if (o->fd >= 0)
        close(o->fd);
    free(o);
}

void out_free_all(struct conn *c)
{
    while (c->out)
        out_drop(c);
}

/* Keeps what of 'v' lies behind its first 'put' bytes. */
static void keep_rest(struct conn *c, const struct iovec *v, int n, size_t put, char *owned)
{
    for (int i = 0; i < n; i++) {
        size_t skip = MIN(put, v[i].iov_len), rest = v[i].iov_len - skip;

        put -= skip;
        if (rest == 0)
            continue;
        struct out *o = out_add(c);
        if (owned && i == n - 1) {
            o->p = owned;
            o->at = (size_t)((char *)v[i].iov_base - owned) + skip;
            o->n = o->at + rest;
            owned = NULL;
            continue;
        }
        o->p = malloc(rest);
        if (!o->p)
            abort();
        memcpy(o->p, (char *)v[i].iov_base + skip, rest);
        o->n = rest;
    }
    free(owned);
}

void conn_write(struct conn *c, struct iovec *v, int n, char *owned)
{
    ssize_t put = 0;

    if (!c->out && c->writable && !c->dead)
        put = conn_send(c, v, n);
    if (put == -2 || c->dead) {
        free(owned);
        conn_close(c);
        return;
    }
    keep_rest(c, v, n, put < 0 ? 0 : (size_t)put, owned);
}

void out_file(struct conn *c, int fd, int64_t offset, int64_t n)
{
    struct out *o = out_add(c);

    o->fd = fd;
    o->offset = offset;
    o->left = n;
}

static ssize_t send_some(struct conn *c)
{
    struct out *o = c->out;
    struct iovec v[16];
    int n = 0;

    if (o->fd >= 0)
        return o->left ? file_send(c, o) : 0;
    for (; o && o->fd < 0 && n < (int)ARRAY_LEN(v); o = o->next, n++)
        v[n] = (struct iovec){ o->p + o->at, o->n - o->at };
    ssize_t put = conn_send(c, v, n);
    for (ssize_t left = put; left > 0;) {
        o = c->out;
        assert(o);
        size_t took = MIN((size_t)left, o->n - o->at);
        o->at += took;
        left -= (ssize_t)took;
        if (o->at == o->n && left > 0)
            out_drop(c);
    }
    return put;
}

bool conn_flush(struct conn *c)
{
    int64_t budget = 4 * FILE_STEP;

    while (c->out && c->writable && !(c->req && c->req->cold)) {
        struct out *o = c->out;
        bool over = o->fd >= 0 ? o->left == 0 : o->at == o->n;

        if (over) {
            out_drop(c);
            continue;
        }
        if (budget <= 0) {
            conn_ready(c);
            break;
        }
        ssize_t put = send_some(c);
        if (put == -2) {
            conn_close(c);
            return false;
        }
        budget -= put > 0 ? put : 0;
    }
    return !c->out;
}
