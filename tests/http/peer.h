/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A server on loopback with an application of a few paths, and a peer that speaks to it byte by
 * byte: what the tests of http/ share. */

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

#include "http/server.h"
#include "os/thread.h"

struct spot {
    const char *path;
    void (*fn)(struct http_req *r);
};

struct house {
    struct http_server *server;
    int listener, port;
    void (*before)(struct house *h); /* is called before anybody is served */
    const struct spot *spots;
    size_t n_spots;
    _Atomic int sent, given_up, last_status, rounds;
    struct http_limits limits;
    struct clock *clock;
    int threads;
    const char *cert, *key;
    bool (*cold)(void *ctx, struct http_req *r); /* http_app.on_cold */
    bool by_address;                             /* connections are bound for each address */
};

static inline void house_head(void *ctx, struct http_req *r, int io _unused_)
{
    struct house *h = ctx;
    struct str path = http_req_head(r)->path;

    for (size_t i = 0; i < h->n_spots; i++) {
        if (str_is(path, h->spots[i].path)) {
            h->spots[i].fn(r);
            return;
        }
    }
    http_reply(r, 404, STR("nothing here"));
}

static inline void house_error(void *ctx _unused_, struct http_req *r, const struct err *e,
                               struct buf *body)
{
    http_header(r, "Content-Type", "text/plain");
    buf_printf(body, "%s: %s", err_wire(e->code), e->msg);
}

static inline void house_round(void *ctx, int io _unused_)
{
    atomic_fetch_add(&((struct house *)ctx)->rounds, 1);
}

static inline bool house_many(void *ctx, const struct ip *peer _unused_)
{
    return !((const struct house *)ctx)->by_address;
}

static inline void house_sent(void *ctx, struct http_req *r _unused_, int status, int64_t sent)
{
    struct house *h = ctx;

    atomic_store(&h->last_status, status);
    atomic_fetch_add(sent < 0 ? &h->given_up : &h->sent, 1);
}

static inline void house_opened(void *ctx, struct http_server *s)
{
    struct house *h = ctx;

    h->server = s;
    if (h->before)
        h->before(h);
}

/* Opens it; 'before', 'limits', 'clock' and 'threads' may be set before. */
static inline void house_open(struct house *h, const struct spot *spots, size_t n)
{
    struct err e = { 0 };

    h->spots = spots;
    h->n_spots = n;
    if (!h->limits.max_head)
        h->limits = http_limits_default;
    h->listener = http_listen("127.0.0.1", 0, 128, &e);
    if (h->listener < 0)
        fail_msg("listen: %s %s", e.msg, e.cause);
    h->port = http_listen_port(h->listener);
    struct http_opts o = {
        .app = { h, house_head, house_error, house_round, house_many, house_sent, house_opened,
                 h->cold },
        .limits = h->limits,
        .threads = h->threads ? h->threads : 2,
        .listeners = &h->listener,
        .n_listeners = 1,
        .tls_cert = h->cert,
        .tls_key = h->key,
        .clock = h->clock,
    };
    h->server = http_server_new(&o, &e);
    if (!h->server)
        fail_msg("server: %s %s", e.msg, e.cause);
}

/* Waits until the one thread of 'h' has gone round often enough to have seen what lies before it.
 */
static inline void house_settle(struct house *h)
{
    int from = atomic_load(&h->rounds), left = 10000;
    struct timespec ts = { 0, 1000000 };

    while (atomic_load(&h->rounds) < from + 3 && --left)
        nanosleep(&ts, NULL);
    assert_true(left > 0);
}

static inline void house_close(struct house *h)
{
    if (h->server)
        http_server_free(h->server);
    if (h->listener > 0)
        close(h->listener);
    *h = (struct house){ 0 };
}
#define HOUSE(name) _cleanup_(house_close) struct house name = { 0 }

/* ---- the peer */

/* From 127.0.0.'from'. */
static inline int peer_open_from(const struct house *h, uint8_t from)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)h->port) };
    struct timeval patience = { 10, 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    struct sockaddr_in mine = { .sin_family = AF_INET };
    mine.sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~255u) | from);
    if (bind(fd, (struct sockaddr *)&mine, sizeof(mine)) < 0 ||
        connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
        fail_msg("connect: %s", strerrordesc_np(errno));
    return fd;
}

static inline int peer_open(const struct house *h)
{
    return peer_open_from(h, 1);
}

static inline void peer_put(int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n) {
        ssize_t put = send(fd, at, n, MSG_NOSIGNAL);
        if (put <= 0)
            fail_msg("send: %s", strerrordesc_np(errno));
        at += put;
        n -= (size_t)put;
    }
}

static inline void peer_say(int fd, const char *text)
{
    peer_put(fd, text, strlen(text));
}

struct answer {
    int status;
    char head[8192];
    char *body; /* freed by answer_free() */
    size_t n;
    bool chunked;
};

static inline void answer_free(struct answer *a)
{
    free(a->body);
    a->body = NULL;
}
#define ANSWER(name) _cleanup_(answer_free) struct answer name = { 0 }

/* One byte, or -1 at the end. */
static inline int peer_byte(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        fail_msg("the server says nothing");
    return n == 1 ? (uint8_t)c : -1;
}

static inline size_t peer_get(int fd, char *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        ssize_t got = recv(fd, p + at, n - at, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            fail_msg("the server says nothing");
        if (got <= 0)
            break;
        at += (size_t)got;
    }
    return at;
}

static inline const char *answer_header(const struct answer *a, const char *name)
{
    static _Thread_local char value[1024];
    size_t n = strlen(name);

    for (const char *p = strstr(a->head, "\r\n"); p && p[2] != '\r'; p = strstr(p + 2, "\r\n")) {
        if (strncasecmp(p + 2, name, n) == 0 && p[2 + n] == ':') {
            const char *from = p + 3 + n + strspn(p + 3 + n, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(from, "\r"), from);
            return value;
        }
    }
    return NULL;
}

static inline void peer_chunks(int fd, struct answer *a)
{
    for (;;) {
        char line[32];
        size_t n = 0;
        for (int c; (c = peer_byte(fd)) != '\n' && c >= 0 && n < sizeof(line) - 1;)
            line[n++] = (char)c;
        line[n] = '\0';
        size_t size = strtoul(line, NULL, 16);
        a->body = realloc(a->body, a->n + size + 2);
        assert_non_null(a->body);
        if (peer_get(fd, a->body + a->n, size + 2) != size + 2)
            return;
        a->n += size;
        if (size == 0)
            return;
    }
}

/* Reads one answer; 'of_head': to a HEAD request. False if the connection ended before one. */
static inline bool peer_answer_to(int fd, struct answer *a, bool of_head)
{
    size_t n = 0;

    answer_free(a);
    *a = (struct answer){ 0 };
    while (n < sizeof(a->head) - 1) {
        int c = peer_byte(fd);
        if (c < 0)
            return false;
        a->head[n++] = (char)c;
        if (n >= 4 && memcmp(a->head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    a->status = (int)strtoul(a->head + 9, NULL, 10);
    const char *length = answer_header(a, "content-length");
    if (of_head || a->status == 100 || a->status == 204 || a->status == 304)
        return true;
    if (length) {
        size_t want = strtoul(length, NULL, 10);
        a->body = malloc(want + 1);
        assert_non_null(a->body);
        a->n = peer_get(fd, a->body, want);
        a->body[a->n] = '\0';
        return a->n == want;
    }
    a->chunked = answer_header(a, "transfer-encoding") != NULL;
    if (a->chunked) {
        peer_chunks(fd, a);
    } else if (a->status != 101) {
        a->body = malloc(1 << 20);
        assert_non_null(a->body);
        a->n = peer_get(fd, a->body, 1 << 20);
    }
    return true;
}

static inline bool peer_answer(int fd, struct answer *a)
{
    return peer_answer_to(fd, a, false);
}

static inline bool answer_is(const struct answer *a, const char *body)
{
    return a->n == strlen(body) && memcmp(a->body, body, a->n) == 0;
}

/* True once the server has closed. */
static inline bool peer_ended(int fd)
{
    char rest[4096];

    for (;;) {
        ssize_t n = recv(fd, rest, sizeof(rest), 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
        if (n < 0)
            return false;
    }
}

/* Says 'text' on a connection of its own, reads one answer and whether the connection ended then.
 */
static inline int once(const struct house *h, const char *text, struct answer *a)
{
    _cleanup_close_ int fd = peer_open(h);

    peer_say(fd, text);
    return peer_answer(fd, a) ? a->status : -1;
}

static inline void nap(int millis)
{
    struct timespec ts = { millis / 1000, (millis % 1000) * 1000000L };

    nanosleep(&ts, NULL);
}

/* Waits up to ten seconds for 'expr'. */
#define EVENTUALLY(expr)           \
    do {                           \
        int left_ = 2000;          \
        while (!(expr) && --left_) \
            nap(5);                \
        assert_true(expr);         \
    } while (0)

/* Runs 'fn' on a thread of its own that nobody waits for but house_threads_done(). */
extern _Atomic int house_threads;
_Atomic int house_threads;
struct house_job {
    void (*fn)(struct http_req *r);
    struct http_req *r;
};
static inline void *house_thread(void *arg)
{
    struct house_job job = *(struct house_job *)arg;

    free(arg);
    job.fn(job.r);
    atomic_fetch_sub(&house_threads, 1);
    return NULL;
}
static inline void elsewhere(struct http_req *r, void (*fn)(struct http_req *r))
{
    struct house_job *job = malloc(sizeof(*job));

    if (!job)
        abort();
    *job = (struct house_job){ fn, r };
    atomic_fetch_add(&house_threads, 1);
    pthread_detach(thread_start("elsewhere", house_thread, job));
}
static inline void there_is_room(void *flag)
{
    atomic_store((_Atomic int *)flag, 1);
}
/* A thread that has nothing else to do writes at its reader's pace: 0, or -1 if that has gone. */
static inline int stream_put(struct http_req *r, struct str data)
{
    _Atomic int room = 0;

    if (!http_stream_wait(r, there_is_room, &room))
        while (!atomic_load(&room))
            nap(1);
    return http_stream_write(r, data);
}
static inline void house_threads_done(void)
{
    EVENTUALLY(atomic_load(&house_threads) == 0);
}
