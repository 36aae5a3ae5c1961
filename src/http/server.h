/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* HTTP/1.1 server on epoll (contracts 5).  Knows no JSON and no SQL: it hands heads to the
 * application, bodies as it asks for them, and sends what it answers.
 *
 * Life of a request: the application's on_head runs on the I/O thread.  It either answers at once
 * (http_reply), or asks for the body (http_body_collect, http_body_stream), or keeps the request
 * for another thread, which answers later; http_reply may be called from any thread.  A request
 * lives until its answer is sent or its peer is gone AND the application has let go: exactly one of
 * http_reply(), http_stream_end(), http_stream_cut() or http_drop() must be called for each
 * request, once; after it the request is no longer the application's to touch.
 *
 * End: http_server_drain(), then what runs requests elsewhere (pools), then http_server_free(). */

#include <sys/types.h>

#include "base/base.h"
#include "base/buf.h"
#include "base/clock.h"
#include "codec/cidr.h"
#include "codec/http1.h"

struct http_server;
struct http_req;

struct http_limits {
    size_t max_head;       /* 16 KiB: 431 */
    size_t max_path;       /* 8 KiB: 414 */
    int max_connections;   /* over it, or over what one address (IPv6: its /64) may have of it
                              (base/fair.h): accepted and closed with a 503 */
    int64_t head_timeout;  /* 10 s */
    int64_t body_timeout;  /* without progress, 30 s; after as long the rate holds, too */
    int64_t body_rate;     /* bytes a second that a body must bring on average, 1024; 0: any */
    int64_t idle_timeout;  /* 75 s */
    int64_t write_timeout; /* without progress, 30 s */
    int64_t drain_timeout; /* 30 s */
};
extern const struct http_limits http_limits_default;

struct http_app {
    void *ctx;
    /* A head has been read; on the I/O thread 'io' (0…threads-1). */
    void (*on_head)(void *ctx, struct http_req *r, int io);
    /* The server itself refuses (malformed, too large, timed out): fill 'body' with the answer in
     * the application's error shape and add headers by http_header().  Not called for what is no
     * HTTP. */
    void (*on_error)(void *ctx, struct http_req *r, const struct err *e, struct buf *body);
    /* A round of epoll is over on this thread: end read transactions and the like. May be NULL. */
    void (*on_round)(void *ctx, int io);
    /* Whether this peer speaks for many (a proxy, this machine itself), so that its connections are
     * bound by the total alone; any I/O thread.  May be NULL: none does. */
    bool (*many)(void *ctx, const struct ip *peer);
    /* An answer has been sent, or given up (sent < 0): for the access log.  Also for what on_error
     * has answered, which on_head may never have seen.  'status' 0: dropped. May be NULL. */
    void (*on_sent)(void *ctx, struct http_req *r, int status, int64_t sent);
    /* The server is there, and serves nobody before this returns: who waits at a listener may be
     * served before http_server_new() has returned.  May be NULL. */
    void (*on_open)(void *ctx, struct http_server *s);
    /* The next piece of the file that answers 'r' is not in memory: has http_file_warm(r) called on
     * a thread that may wait for a disk, once; false: not now, ask again in a moment.  On the I/O
     * thread; 'r' and its user stay until then.  May be NULL: the I/O thread waits itself. */
    bool (*on_cold)(void *ctx, struct http_req *r);
};

struct http_opts {
    struct http_app app;
    struct http_limits limits;
    int threads; /* I/O threads, 1… */
    const int *
        listeners; /* n_listeners listening sockets, spread over the threads; owned by the caller */
    size_t n_listeners;
    /* PEM files; NULL: plain.  With them a peer that speaks plain HTTP is served too, and seen by
     * http_req_tls(): the application refuses it. */
    const char *tls_cert, *tls_key;
    struct clock *clock; /* time-outs use its mono() */
};
struct http_server *http_server_new(const struct http_opts *o, struct err *e);
/* Whether a server would take these files, read as this process may: else 'e' says why not. '*days'
 * until the certificate expires, below 0 since then. */
int http_tls_check(const char *cert, const char *key, int *days, struct err *e) _must_check_;
/* New connections get this certificate, or none; those that are open keep theirs.  Any thread. */
int http_server_tls(struct http_server *s, const char *cert, const char *key,
                    struct err *e) _must_check_;
/* Stops accepting, lets open requests finish, gives streams their end, closes; then returns. */
void http_server_drain(struct http_server *s);
void http_server_free(struct http_server *s);
DEFINE_CLEANUP(struct http_server *, http_server_free)
/* Opens a listening socket with SO_REUSEPORT; 'port' 0 picks one. "unix:PATH" works as address. */
int http_listen(const char *address, int port, int backlog, struct err *e);
int http_listen_port(int fd);
/* From http_hold() to http_release() an answer of this thread wakes no I/O thread: one that answers
 * many requests in a row wakes each once.  It must release before it waits for anything, and before
 * a server is freed.  A second http_hold() is the first; http_release() alone does nothing. */
void http_hold(void);
void http_release(void);

/* ---- the request */
const struct http_head *http_req_head(const struct http_req *r);
enum { HTTP_ARENA = 4 << 20 };
struct arena *http_req_arena(struct http_req *r); /* freed with the request; limit HTTP_ARENA */
const struct ip *http_req_peer(const struct http_req *r);
bool http_req_tls(const struct http_req *r);
int http_req_io(const struct http_req *r);
int64_t http_req_start(const struct http_req *r); /* mono time of its first byte */
/* For a request that stays long, on its I/O thread: its head moves to memory of its own size where
 * that is less.  What pointed into the head's bytes is void; what http_req_head() says is not. */
void http_req_settle(struct http_req *r);
void http_req_set_user(struct http_req *r, void *user);
void *http_req_user(const struct http_req *r);
/* True once the peer has gone: nobody will read the answer. Any thread. */
bool http_req_gone(const struct http_req *r);

/* ---- bodies in.  Each sends "100 Continue" first where it is expected. */
/* Reads the whole body (≤ max, else ERR_TOO_LARGE), then calls 'fn' on the I/O thread: e NULL and
 * the body (in the request's arena), or the error to answer. */
void http_body_collect(struct http_req *r, size_t max,
                       void (*fn)(void *ctx, struct http_req *r, struct str body, struct err *e),
                       void *ctx);
/* Before http_body_collect(): 'fn' (its ctx) is asked on the I/O thread for each 16 KiB that are to
 * be held, and may refuse with *e, which is then the answer. */
enum { HTTP_BODY_STEP = 16 * 1024 };
void http_body_meter(struct http_req *r,
                     int (*fn)(void *ctx, struct http_req *r, size_t n, struct err *e));
/* For workers that do not wait: 'fn' is called on the I/O thread once there is something to take
 * (half of the 256 KiB that are held, the end, or a failure); again only after http_body_more(). */
void http_body_spool(struct http_req *r, uint64_t max, void (*fn)(void *ctx, struct http_req *r),
                     void *ctx);
/* What is there, at most 'n' bytes: 0 at the end, -1 on error or when the peer is gone,
 * HTTP_BODY_LATER when there is nothing now. */
enum { HTTP_BODY_LATER = -2 };
ssize_t http_body_take(struct http_req *r, void *p, size_t n, struct err *e);
void http_body_more(struct http_req *r);
/* For a worker: afterwards http_body_read() blocks for bytes, at most 'n' into 'p': 0 at the end,
 * -1 on error or when the peer is gone.  At most 256 KiB are held; then the socket is not read. */
void http_body_stream(struct http_req *r, uint64_t max);
ssize_t http_body_read(struct http_req *r, void *p, size_t n, struct err *e);

/* ---- answers */
/* Adds a header to the coming answer; the strings are copied. From the thread that will answer.
 * Connection, Content-Length, Transfer-Encoding and Date are the server's and left out here;
 * control characters become spaces; over 16 KiB in all a header is left out. */
void http_header(struct http_req *r, const char *name, const char *value);
void http_headerf(struct http_req *r, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends the whole answer; the body is copied (or taken, with http_reply_buf). HEAD: length without
 * body. Sets Date, Content-Length and, where due, Connection. */
void http_reply(struct http_req *r, int status, struct str body);
void http_reply_buf(struct http_req *r, int status, struct buf *body); /* takes the memory */
/* A file's bytes by sendfile (over TLS by the kernel's, else in pieces), as the peer takes them;
 * takes 'fd'.  A file that ends early costs the connection. */
void http_reply_file(struct http_req *r, int status, int fd, int64_t offset, int64_t length);
/* Reads the piece that http_app.on_cold asked for, and says so. */
void http_file_warm(struct http_req *r);
/* The connection is closed after this answer. */
void http_close_after(struct http_req *r);
/* Lets go without an answer: the connection closes. */
void http_drop(struct http_req *r);

/* Streams (SSE, follow, long bodies): chunked, or until close for HTTP/1.0. Any one thread at a
 * time; none of these waits. */
void http_stream_begin(struct http_req *r, int status);
/* Queues bytes: 0, or -1 if the peer is gone.  With over 1 MiB queued the peer is too slow: it is
 * cut off and -1 returned; but where nothing is queued, one write may be larger. */
int http_stream_write(struct http_req *r, struct str data);
/* How much may be queued before its writer should wait: 256 KiB at most. */
size_t http_stream_room(struct http_req *r);
/* True if at least half of that is free.  Else false, and 'fn' is called once on the I/O thread:
 * when it is, when the peer has gone, or when the server drains; not after the stream's end. */
bool http_stream_wait(struct http_req *r, void (*fn)(void *ctx), void *ctx);
void http_stream_end(struct http_req *r);
/* Ends what is not whole: what is queued leaves, then the connection closes without a last chunk,
 * by which the peer knows (RFC 9112, 8). */
void http_stream_cut(struct http_req *r);
/* Called once on the I/O thread, from its loop, when the peer leaves or the server drains, before
 * the request is over.  It may just run while another thread ends the request: what it uses lives
 * as long as the request does (its arena). */
void http_on_gone(struct http_req *r, void (*fn)(void *ctx, struct http_req *r, bool draining),
                  void *ctx);

/* ---- timers and hand-over */
/* Runs 'fn' on I/O thread 'io' as soon as it can. */
void http_run(struct http_server *s, int io, void (*fn)(void *ctx), void *ctx);
/* Runs 'fn' on the thread at mono time 'at' (coarse: 10 ms). Only from that thread. */
void http_timer(struct http_server *s, int io, int64_t at, void (*fn)(void *ctx), void *ctx);

/* ---- WebSocket (RFC 6455, by wslay): a stream both ways */
struct http_ws_app {
    void *ctx;
    size_t max; /* of a message that comes, 0: 1 MiB; a longer one ends the connection (1009) */
    /* A message has come, on the I/O thread, before the stream's end.  False: no more is read until
     * http_ws_more(); what was read with it still comes. */
    bool (*on_message)(void *ctx, struct http_req *r, bool binary, struct str data);
};
/* Whether the request asks for one as it should: 0, or what is wrong. */
int http_ws_check(const struct http_req *r, struct err *e) _must_check_;
/* Instead of http_stream_begin(): answers 101.  Each http_stream_write() is then a message, text if
 * it is UTF-8, else binary; http_stream_end() closes with 1000 (1001 when the server drains),
 * http_stream_cut() with 1011.  -1: it asks for no WebSocket, and waits for its answer as before.
 */
int http_ws_begin(struct http_req *r, const struct http_ws_app *app, struct err *e) _must_check_;
int http_ws_send(struct http_req *r, bool binary, struct str data); /* any thread; -1: gone */
void http_ws_more(struct http_req *r);
/* Says farewell with this code; the stream's end is still due. */
void http_ws_close(struct http_req *r, int code);

/* ---- for metrics */
struct http_stats {
    int64_t connections, requests, bytes_in, bytes_out;
};
void http_server_stats(const struct http_server *s, struct http_stats *out);
/* Connections as a share of the addresses. */
struct fair_counts;
void http_server_peers(struct http_server *s, struct fair_counts *out);
