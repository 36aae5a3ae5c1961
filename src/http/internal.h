/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the server share.
 *
 * An I/O thread owns its connections and all that hangs off them; nothing of it is locked.  Other
 * threads reach a request only by its operations: they fill the request's own fields, set a bit and
 * post it to the thread (io_post).  A request leaves memory on its I/O thread, once the connection
 * has let go of it and the application too. */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "base/fair.h"
#include "http/server.h"

enum {
    IN_SMALL = 4096,          /* an input buffer at first */
    SCRATCH = 96 * 1024,      /* a thread's buffer for heads, small bodies, discarded input */
    SMALL_BODY = 48 * 1024,   /* bodies up to here are copied behind their head */
    HEADERS_MAX = 16 * 1024,  /* headers of an answer */
    ARENA_KEEP = 8 * 1024,    /* what a pooled request keeps */
    FILE_STEP = 512 * 1024,   /* of a file in a row */
    STREAM_HELD = 256 * 1024, /* back-pressure begins */
    STREAM_MAX = 1024 * 1024, /* who is further behind is cut off */
    DISCARD_MAX = 64 * 1024,  /* unread body that is read away to keep the connection */
    POOL_KEEP = 256,          /* free objects a thread keeps of each kind */
    STEP_BUDGET = 32,         /* steps of one connection in a row */
    ACCEPT_BUDGET = 64,       /* connections accepted in a row */
    REFUSED_MAX = 64,         /* connections over the maximum that still get their 503 */
    LINGER_US = 1000 * 1000,  /* how long input is discarded after a refusal */
};

/* ---- messages to a thread */

enum post_kind { POST_REQ, POST_RUN };
struct post {
    struct post *next;
    enum post_kind kind;
    bool queued;
};
enum op {
    OP_BODY = 1,
    OP_RESUME = 2,
    OP_BEGIN = 4,
    OP_DATA = 8,
    OP_CUT = 16,
    OP_GONE = 32,
    OP_REPLY = 64,
    OP_END = 128,
    OP_DROP = 256,
    OP_WS = 512,
    OP_MORE = 1024,
    OP_WARM = 4096,
    OP_PART = 2048, /* the end of a stream that is not whole */
    OP_ROOM = 4096, /* somebody waits for room */
};

/* ---- connections */

struct link {
    struct link *prev, *next;
};

enum source_kind { SOURCE_CONN, SOURCE_LISTENER, SOURCE_WAKE };
struct source {
    enum source_kind kind;
    int fd;
};

struct in_buf {
    struct in_buf *next; /* in the pool */
    size_t n, cap;
    char p[];
};

/* What waits to be written: memory, or a file's bytes. */
struct out {
    struct out *next;
    char *p; /* to be freed, or NULL for a file */
    size_t at, n;
    int fd;
    int64_t offset, left;
    int64_t warm; /* up to here it was seen in memory */
};

enum conn_state {
    CONN_HEAD,    /* waits for a request, or has part of its head */
    CONN_REQUEST, /* a request is with the application, or its answer on the way */
    CONN_DISCARD, /* reads the rest of a body that nobody asked for */
    CONN_LINGER,  /* all is said; reads until the peer has understood */
    CONN_WS,
};
enum wait { WAIT_IDLE, WAIT_HEAD, WAIT_BODY, WAIT_WRITE, WAIT_LINGER, WAIT_KINDS, WAIT_NONE };

struct conn {
    struct source source; /* first: what epoll hands back */
    struct io *io;
    struct link all;
    struct link waiting; /* in io->waits[wait] */
    int64_t deadline;
    struct conn *next_ready, *next_dead;
    struct http_req *req;
    struct in_buf *in;
    struct out *out, **out_tail;
    void *ssl; /* SSL, NULL when plain */
    struct http_ws *ws;
    size_t in_at; /* bytes of 'in' that are used up */
    size_t pin;   /* bytes of 'in' that a request points into */
    uint64_t body_left;
    struct http1_chunked chunks;
    uint64_t discarded;
    struct ip peer;
    uint64_t flow; /* of 'peer', once counted */
    uint8_t state, wait;
    bool readable, writable, half_closed, ended; /* ended: end of input was read */
    bool read_wants_write, write_wants_read;     /* TLS */
    bool busy, ready, dead, progress, fresh_input;
    bool chunked, body_over, continue_due;
    bool counted, linger, tls_up, tls_seen, ws_pinged; /* tls_seen: its first byte was looked at */
};

/* ---- requests */

enum body_mode { BODY_UNASKED, BODY_COLLECT, BODY_STREAM, BODY_GIVEN };

struct http_req {
    struct post post; /* first */
    struct io *io;
    struct conn *conn; /* NULL once the connection has let go; the I/O thread's */
    struct http_req *next_free;
    void *user;
    struct arena arena;
    struct buf headers; /* lines of the answer */
    struct in_buf *in;  /* what the head points into, after the connection has gone */
    struct ip peer;
    int64_t start;
    unsigned ops; /* guarded by io->lock */
    bool tls;
    bool begun;       /* the application, or an error of ours, has it */
    bool app_done;    /* the application has let go */
    bool streaming;   /* the head of a stream is out */
    bool finished;    /* the application has ended its stream */
    bool answered;    /* the whole answer is in 'out' or written */
    bool close_after; /* asked for */
    bool closing;     /* decided, and told the peer */
    bool gone_called;
    bool paused; /* the ring is full */
    _Atomic bool gone;
    int status;
    int64_t sent;

    /* The answer, when another thread gave it. */
    char *reply_p;
    size_t reply_n;
    int file;
    int64_t file_at, file_n;
    /* A piece of a file that is not in memory: a thread of the application's reads it, and the
     * request stays until it has. */
    bool cold;
    int cold_fd;
    int64_t cold_at, cold_n;

    /* Body in. */
    enum body_mode ask; /* what was asked for; 'mode' is what the I/O thread knows of it */
    enum body_mode mode;
    bool body_failed;
    struct err body_err;
    uint64_t body_max, body_got;
    void (*collect_fn)(void *ctx, struct http_req *r, struct str body, struct err *e);
    void *collect_ctx;
    int (*meter_fn)(void *ctx, struct http_req *r, size_t n, struct err *e);
    size_t metered;
    struct buf body;
    int64_t body_since, paused_since; /* paused_since: while the ring is full; the first moves on
                                         by as long as that was */
    void (*spool_fn)(void *ctx, struct http_req *r);
    void *spool_ctx;
    bool spool_due; /* it is to be called */

    /* Guarded by 'lock', for others that read a body or write a stream. */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    char *ring;
    size_t ring_at, ring_n;
    bool ring_over, ring_paused, ring_failed;
    struct buf stream;      /* wire bytes not yet handed to the connection */
    size_t stream_inflight; /* handed over, not yet written */
    void (*gone_fn)(void *ctx, struct http_req *r, bool draining);
    void *gone_ctx;
    void (*room_fn)(void *ctx); /* who waits for room in 'stream', or NULL */
    void *room_ctx;

    struct http_ws *ws;
    struct http_head head; /* last: the largest */
};

/* ---- threads */

struct timer {
    int64_t at;
    uint64_t turn; /* equal times run in the order they were asked for */
    void (*fn)(void *ctx);
    void *ctx;
};
struct run {
    struct post post;
    void (*fn)(void *ctx);
    void *ctx;
};
struct listener {
    struct source source;
    bool shared;
};

struct io {
    struct http_server *server;
    int index, epoll, spare;
    struct source wake;
    pthread_t thread;
    int64_t now;
    struct listener *listeners;
    size_t n_listeners;
    struct link conns;
    struct link waits[WAIT_KINDS];
    struct conn *ready, **ready_tail;
    struct conn *dead;
    struct conn *free_conns;
    struct http_req *free_reqs;
    struct in_buf *free_ins;
    int n_free_conns, n_free_reqs, n_free_ins;
    int n_conns;
    struct timer *timers;
    size_t n_timers, cap_timers;
    uint64_t timer_turn;
    bool draining, stop, forced;
    int64_t drain_until;
    char date[48]; /* "Date: …\r\n" */
    size_t date_n;
    int64_t date_until; /* mono time at which 'date' is stale */
    char *scratch;

    pthread_mutex_t lock;
    pthread_cond_t drained;
    struct post *posts, **posts_tail;
    bool sleeping, woken, want_drain, want_stop, is_drained;

    _Atomic int64_t connections, requests, bytes_in, bytes_out;
};

struct http_server {
    struct http_opts opts;
    struct http_limits limits;
    struct clock *clock;
    bool fake_clock;
    size_t in_large;
    pthread_mutex_t tls_lock;
    void *_Atomic ssl_ctx; /* changed under the lock */
    struct io *ios;
    int threads;
    _Atomic int open, refused;
    pthread_mutex_t peers_lock;
    struct fair *peers; /* connections by address */
    _Atomic bool draining;
};

/* The thread that runs here, or NULL. */
extern _Thread_local struct io *io_here;

static inline void stat_add(_Atomic int64_t *s, int64_t n)
{
    atomic_store_explicit(s, atomic_load_explicit(s, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void link_init(struct link *l)
{
    l->prev = l->next = l;
}
static inline void link_out(struct link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}
static inline void link_end(struct link *list, struct link *l)
{
    l->prev = list->prev;
    l->next = list;
    list->prev->next = l;
    list->prev = l;
}
#define CONTAINER(p, T, member) ((T *)(void *)((char *)(p)-offsetof(T, member)))

/* io.c */
int io_open(struct io *io, struct http_server *s, int index, struct err *e);
void io_close(struct io *io);
void *io_loop(void *arg);
/* Posts 'p' with 'ops' (a request's) from any thread. */
void io_post(struct io *io, struct post *p, unsigned *ops, unsigned add);
void io_take_posts(struct io *io);
void io_drain(struct io *io);
/* A connection counted as 'flow' is over. */
void peer_leaves(struct http_server *s, uint64_t flow);

/* timer.c */
void timer_add(struct io *io, int64_t at, void (*fn)(void *ctx), void *ctx);
void timers_run(struct io *io);
/* Milliseconds until something is due, -1: never. */
int timers_next(const struct io *io);
void wait_set(struct conn *c, enum wait wait, int64_t micros);
void waits_expire(struct io *io);

/* conn.c */
/* 'flow': what it is counted as, given back when it closes; FLOW_SYSTEM where 'refuse'. */
void conn_open(struct io *io, int fd, const struct ip *peer, uint64_t flow, bool refuse);
void conn_event(struct conn *c, uint32_t events);
void conn_run(struct conn *c);
/* Has it run at the end of this round. */
void conn_ready(struct conn *c);
void conn_close(struct conn *c);
void conn_reap(struct io *io);
void conn_expired(struct conn *c, enum wait wait);
void conn_drain(struct conn *c);
struct in_buf *in_get(struct io *io, size_t cap);
void in_put(struct io *io, struct in_buf *in);

/* out.c: writing */
/* Bytes moved; 0 at the end of input; -1 when it would block; -2 on error. */
ssize_t conn_recv(struct conn *c, void *p, size_t n);
ssize_t conn_send(struct conn *c, struct iovec *v, int n);
/* Writes what waits: true if nothing waits any more.  May close the connection. */
bool conn_flush(struct conn *c);
/* Sends now what can be, keeps the rest.  'owned' (freed when done) is what v[n - 1] points into.
 * May close the connection. */
void conn_write(struct conn *c, struct iovec *v, int n, char *owned);
void out_file(struct conn *c, int fd, int64_t offset, int64_t n);
void out_free_all(struct conn *c);

/* file.c */
/* Some of a file: bytes, -1 when it would block, -2 on error or when the file is shorter. */
ssize_t file_send(struct conn *c, struct out *o);
/* What a read gives without waiting for a disk; -1: nothing. */
ssize_t file_peek(int fd, void *p, size_t n, int64_t at);
/* Has the request's piece read, or tries so later. */
void file_cold(void *req);

/* request.c */
struct http_req *req_new(struct conn *c);
/* Its head is read: the application's turn. */
void req_dispatch(struct conn *c);
void req_op(struct http_req *r, unsigned ops);
/* Nobody will read the answer. */
void req_gone(struct http_req *r);
void req_tell_gone(struct http_req *r, bool draining);
/* The server drains. */
void req_drain(struct http_req *r);
/* Posts what ends the request: from now on nobody is told that its peer has gone. */
void req_post_end(struct http_req *r, unsigned op);
/* The connection lets go. */
void req_detach(struct http_req *r);
/* The application lets go. */
void req_let_go(struct http_req *r);
void req_destroy(struct http_req *r);
void req_refuse(struct conn *c, const struct err *e);
static inline bool req_here(const struct http_req *r)
{
    return io_here == r->io;
}

/* reply.c */
void reply_emit(struct http_req *r, struct str body, char *owned);
void reply_begin(struct http_req *r);
const char *reason_of(int status);

/* stream.c */
/* Hands what is queued to the connection if that has nothing to write; ends the answer. */
void stream_pump(struct http_req *r);
/* The application has ended its stream, on the I/O thread. */
void stream_ended(struct http_req *r, bool whole);
/* Calls who waits for room: if there is some, or 'anyhow'. */
void stream_tell(struct http_req *r, bool anyhow);

/* body.c */
void body_begin(struct conn *c);
void body_ask(struct http_req *r);
/* Moves body bytes on; true if it should be called again at once. */
bool body_pump(struct conn *c);
void body_fail(struct http_req *r, const struct err *e);
/* Tells who spools it, if there is something to tell. */
void body_tell(struct http_req *r);
/* The ring has room again. */
void body_resume(struct http_req *r);
/* True while the application waits for bytes of the peer. */
bool body_wanted(const struct conn *c);
/* Reads away what nobody asked for; false when nothing more can be done now. */
bool body_discard(struct conn *c);

/* tls.c */
void *tls_ctx_new(const char *cert, const char *key, struct err *e);
void tls_ctx_free(void *ctx);
/* For a new connection; NULL: it is plain. */
void *tls_new(struct http_server *s, int fd);
void tls_free(void *ssl);
void tls_bye(struct conn *c);
/* Before the handshake: lets TLS go where the peer speaks plain HTTP, so that it can be told so. */
void tls_sniff(struct conn *c);
ssize_t tls_recv(struct conn *c, void *p, size_t n);
ssize_t tls_send(struct conn *c, const void *p, size_t n);
/* As sendfile; -3 where the kernel does not encrypt. */
ssize_t tls_sendfile(struct conn *c, int fd, int64_t offset, size_t n);

/* ws.c */
void ws_attach(struct http_req *r);
void ws_free(struct http_ws *ws);
/* One message: text if it is UTF-8. */
int ws_write(struct http_ws *ws, struct str data);
/* Bytes that wait to be sent. */
size_t ws_held(struct http_ws *ws);
/* The application has ended it. */
void ws_end(struct http_req *r, bool whole);
/* Reads and writes frames; false when nothing more can be done now. */
bool ws_step(struct conn *c);
void ws_gone(struct conn *c);
void ws_expired(struct conn *c);
