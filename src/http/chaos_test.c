/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that break off anywhere, against workers that answer in every way: nothing may be lost,
 * freed twice or left behind.  Worth its name under the sanitizers. */
#include "tests/http/peer.h"

enum { PEERS = 6, ROUNDS = 150, WORKERS = 4, QUEUE = 64 };
enum { REQUESTS = 500 }; /* so many are seen at least, however early the peers break off */

static struct pool *pool;
static _Atomic bool over; /* the peers go home */

/* ---- the application */

static void collected(void *ctx _unused_, struct http_req *r, struct str body, struct err *e)
{
    if (e)
        http_reply(r, err_status(e->code), str_of(e->msg));
    else
        http_reply(r, 200, body);
}

static void gone(void *ctx _unused_, struct http_req *r _unused_, bool draining _unused_)
{
}

/* What a worker does, by the query's first letter. */
static void work(void *ctx, void *worker _unused_)
{
    struct http_req *r = ctx;
    struct str q = http_req_head(r)->query;
    char p[3000];
    struct err e;
    ssize_t n;

    switch (q.n ? q.p[0] : 'r') {
    case 'c':
        http_body_collect(r, KIB(64), collected, NULL);
        break;
    case 'b':
        http_body_stream(r, MIB(1));
        while ((n = http_body_read(r, p, sizeof(p), &e)) > 0)
            ;
        http_reply(r, n < 0 ? err_status(e.code) : 200, STR("read"));
        break;
    case 's':
        http_on_gone(r, gone, NULL);
        http_stream_begin(r, 200);
        memset(p, 's', sizeof(p));
        for (int i = 0; i < 200; i++)
            if (stream_put(r, (struct str){ p, sizeof(p) }) < 0)
                break;
        http_stream_end(r);
        break;
    case 'd':
        http_drop(r);
        break;
    default:
        http_on_gone(r, gone, NULL);
        http_reply(r, 200, STR("afar"));
        break;
    }
}

static void head(struct http_req *r)
{
    struct str q = http_req_head(r)->query;

    if (q.n && q.p[0] == 'i')
        http_reply(r, 200, STR("inline"));
    else if (q.n && q.p[0] == 'e')
        http_body_collect(r, KIB(64), collected, NULL);
    else if (!pool_submit(pool, work, r))
        http_reply(r, 503, STR("full"));
}

static const struct spot spots[] = { { "/", head } };

/* ---- the peers */

static uint32_t next(uint32_t *x)
{
    *x = *x * 1664525 + 1013904223;
    return *x >> 8;
}

/* A few requests in a row. */
static void compose(uint32_t *x, struct buf *b)
{
    static const char kinds[] = "icbesrd";

    for (uint32_t i = next(x) % 5 + 1; i; i--) {
        size_t n = next(x) % 3 ? next(x) % 200 : next(x) % 60000;
        char kind = kinds[next(x) % (sizeof(kinds) - 1)];
        bool chunked = next(x) % 3 == 0;

        buf_printf(b, "POST /?%c HTTP/1.1\r\nHost: a\r\n%s", kind,
                   next(x) % 7 ? "" : "Expect: 100-continue\r\n");
        if (chunked)
            buf_printf(b, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n ? n : 1);
        else
            buf_printf(b, "Content-Length: %zu\r\n\r\n", n);
        memset(buf_room(b, n + 1), 'x', n + 1);
        buf_grew(b, chunked && !n ? 1 : n);
        if (chunked)
            buf_puts(b, next(x) % 20 ? "\r\n0\r\n\r\n" : "oops");
    }
}

/* Sends it in pieces, reads now and then, breaks off sometimes. */
static void misbehave(uint32_t *x, int fd, const struct buf *b)
{
    struct linger hard = { 1, 0 };
    char p[20000];
    size_t stop = next(x) % 3 ? b->n : next(x) % (b->n + 1), at = 0;

    while (at < stop && !atomic_load(&over)) {
        size_t piece = next(x) % 4 ? next(x) % 5000 + 1 : next(x) % 20 + 1;
        ssize_t n = send(fd, b->p + at, MIN(piece, stop - at), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            break;
        at += n > 0 ? (size_t)n : 0;
        while (recv(fd, p, sizeof(p), MSG_DONTWAIT) > 0 && next(x) % 2)
            ;
    }
    if (next(x) % 4 == 0)
        shutdown(fd, SHUT_WR);
    for (uint32_t reads = next(x) % 20; reads && recv(fd, p, sizeof(p), MSG_DONTWAIT) != 0; reads--)
        nap(next(x) % 8 == 0);
    if (next(x) % 3 == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

/* -1 when nobody takes connections any more. */
static int try_open(const struct house *h)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)h->port) };
    struct timeval patience = { 1, 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

struct peer {
    const struct house *h;
    pthread_t thread;
    uint32_t seed;
};

static bool seen_enough(const struct house *h)
{
    struct http_stats st;

    http_server_stats(h->server, &st);
    return st.requests > REQUESTS;
}

static void *peer_run(void *arg)
{
    struct peer *p = arg;
    struct buf b = BUF(MIB(2));

    for (int i = 0; (i < ROUNDS || !seen_enough(p->h)) && !atomic_load(&over); i++) {
        int fd = try_open(p->h);
        if (fd < 0)
            break;
        buf_clear(&b);
        compose(&p->seed, &b);
        misbehave(&p->seed, fd, &b);
        close(fd);
    }
    buf_free(&b);
    return NULL;
}

static void rage(bool drain)
{
    struct peer peers[PEERS];
    struct pool_opts o = { .name = "work", .threads = WORKERS, .queue = QUEUE };
    struct http_stats st = { 0 };
    struct err e;
    HOUSE(h);
    h.limits = http_limits_default;
    h.limits.drain_timeout = MILLIS(500);
    house_open(&h, spots, ARRAY_LEN(spots));
    ANSWER(a);

    atomic_store(&over, false);
    pool = pool_new(&o, &e);
    assert_non_null(pool);
    for (uint32_t i = 0; i < PEERS; i++) {
        peers[i] = (struct peer){ .h = &h, .seed = i * 7919 + drain };
        peers[i].thread = thread_start("peer", peer_run, &peers[i]);
    }
    if (drain) {
        nap(200);
        http_server_drain(h.server);
        atomic_store(&over, true);
    }
    for (int i = 0; i < PEERS; i++)
        pthread_join(peers[i].thread, NULL);
    if (!drain) {
        EVENTUALLY((http_server_stats(h.server, &st), st.connections == 0));
        assert_int_equal(once(&h, "GET /?i HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
        http_server_stats(h.server, &st);
        assert_true(st.requests > REQUESTS);
        EVENTUALLY(atomic_load(&h.sent) + atomic_load(&h.given_up) >= st.requests);
    }
    pool_free(pool);
}

/* ---- who is there before it */

static int early;

static void come_early(struct house *h)
{
    early = peer_open(h);
    peer_say(early, "GET /?i HTTP/1.1\r\nHost: a\r\n\r\n");
    nap(100);
    assert_int_equal(atomic_load(&h->rounds), 0);
}

static void a_server_is_known_before_it_serves(void **state _unused_)
{
    HOUSE(h);
    ANSWER(a);

    h.before = come_early;
    house_open(&h, spots, ARRAY_LEN(spots));
    assert_true(peer_answer(early, &a));
    assert_int_equal(a.status, 200);
    close(early);
}

static void peers_may_break_off_anywhere(void **state _unused_)
{
    rage(false);
}

static void a_server_may_drain_in_the_middle_of_it(void **state _unused_)
{
    rage(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_known_before_it_serves),
        cmocka_unit_test(peers_may_break_off_anywhere),
        cmocka_unit_test(a_server_may_drain_in_the_middle_of_it),
    };

    return cmocka_run_group_tests_name("chaos", tests, NULL, NULL);
}
