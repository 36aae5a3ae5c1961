/* SPDX-License-Identifier: Apache-2.0 */
/* Files as answers, by sendfile or, where TLS is not the kernel's, record by record.  Hides that a
 * file may lie on a disk that takes its time: what is not in memory is read by a thread of the
 * application's, a window at a time, and the I/O thread sends from memory alone. */
#include <fcntl.h>
#include <sys/sendfile.h>

#include "http/internal.h"

enum {
    TLS_STEP = 16 * 1024,
    PROBE_EVERY = 64 * 1024,   /* a kernel reads ahead in steps no smaller than this */
    COLD_WINDOW = 1024 * 1024, /* what a thread reads in one go */
    COLD_PIECE = 128 * 1024,   /* of it at once */
    COLD_AGAIN_US = 20 * 1000, /* no thread was to be had */
};

ssize_t file_peek(int fd, void *p, size_t n, int64_t at)
{
    struct iovec v = { p, n };

    return preadv2(fd, &v, 1, at, RWF_NOWAIT);
}

/* Whether a read of these bytes would not wait.  A file system that cannot say is taken to be slow.
 */
static bool in_memory(int fd, int64_t at, int64_t n)
{
    int64_t end = at + n;

    while (at < end) {
        char byte;

        if (file_peek(fd, &byte, 1, at) < 0)
            return false;
        int64_t next = (at / PROBE_EVERY + 1) * PROBE_EVERY;
        at = next >= end && at < end - 1 ? end - 1 : next;
    }
    return true;
}

/* What of it is in memory by now counts, and a file that cannot be read is found out by who sends
 * it. */
void http_file_warm(struct http_req *r)
{
    char *piece = malloc(COLD_PIECE);
    ssize_t got = 1;

    if (!piece)
        abort();
    while (r->cold_n > 0 && got > 0) {
        got = pread(r->cold_fd, piece, (size_t)MIN(r->cold_n, (int64_t)COLD_PIECE), r->cold_at);
        r->cold_at += got > 0 ? got : 0;
        r->cold_n -= got > 0 ? got : 0;
    }
    free(piece);
    if (r->cold_fd >= 0)
        close(TAKE_FD(r->cold_fd));
    io_post(r->io, &r->post, &r->ops, OP_WARM);
}

/* Asks for a thread; without one again in a moment, and at the end this one has to do. */
void file_cold(void *ctx)
{
    struct http_req *r = ctx;
    struct http_app *app = &r->io->server->opts.app;

    if (r->conn && app->on_cold && app->on_cold(app->ctx, r))
        return;
    if (r->conn && app->on_cold && !r->io->draining)
        timer_add(r->io, r->io->now + COLD_AGAIN_US, file_cold, r);
    else {
        if (!r->conn)
            r->cold_n = 0;
        http_file_warm(r);
    }
}

/* The next bytes may be sent; else they come. */
static bool ready(struct conn *c, struct out *o)
{
    struct http_req *r = c->req;
    int64_t n = MIN(o->left, (int64_t)FILE_STEP);

    if (o->offset < o->warm)
        return true;
    if (!r || in_memory(o->fd, o->offset, n)) {
        o->warm = o->offset + n;
        return true;
    }
    n = MIN(o->left, (int64_t)COLD_WINDOW);
    r->cold_fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 3);
    r->cold_at = o->offset;
    r->cold_n = n;
    o->warm = o->offset + n;
    r->cold = true;
    file_cold(r);
    return false;
}

ssize_t file_send(struct conn *c, struct out *o)
{
    if (!ready(c, o))
        return -1;

    size_t n = (size_t)MIN(o->warm - o->offset, (int64_t)FILE_STEP);
    off_t at = o->offset;
    ssize_t put;

    if (!c->ssl) {
        do
            put = sendfile(c->source.fd, o->fd, &at, n);
        while (put < 0 && errno == EINTR);
        if (put < 0 && errno == EAGAIN) {
            c->writable = false;
            return -1;
        }
    } else if ((put = tls_sendfile(c, o->fd, o->offset, n)) == -3) {
        /* What was read for a write that would block is read again the next time. */
        n = MIN(n, (size_t)TLS_STEP);
        put = pread(o->fd, c->io->scratch, n, o->offset);
        if (put > 0)
            put = tls_send(c, c->io->scratch, (size_t)put);
        else
            put = -2;
    }
    if (put == -1 && c->ssl)
        return -1;
    if (put <= 0)
        return -2;
    o->offset += put;
    o->left -= put;
    c->progress = true;
    stat_add(&c->io->bytes_out, put);
    if (c->req)
        c->req->sent += put;
    return put;
}
