/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/resource.h>
#include <sys/un.h>

#include "tests/http/peer.h"

/* ---- the application */

static _Atomic(struct http_req *) parked;
static _Atomic int gone_seen, drain_seen;

static void say_hello(struct http_req *r)
{
    http_header(r, "Content-Type", "text/plain");
    http_reply(r, 200, STR("hello"));
}

static void say_path(struct http_req *r)
{
    struct str q = http_req_head(r)->query;

    http_reply(r, 200, q);
}

static void reply_elsewhere(struct http_req *r)
{
    http_headerf(r, "X-Thread", "%s", "another");
    http_reply(r, 201, STR("from afar"));
}

static void go_elsewhere(struct http_req *r)
{
    elsewhere(r, reply_elsewhere);
}

static void big_elsewhere(struct http_req *r)
{
    struct buf b = BUF(MIB(9));
    char *p = buf_room(&b, MIB(8));

    memset(p, 'x', MIB(8));
    buf_grew(&b, MIB(8));
    http_reply_buf(r, 200, &b);
}

static void big(struct http_req *r)
{
    elsewhere(r, big_elsewhere);
}

static void on_gone(void *ctx _unused_, struct http_req *r _unused_, bool draining)
{
    atomic_fetch_add(draining ? &drain_seen : &gone_seen, 1);
}

static void park(struct http_req *r)
{
    http_on_gone(r, on_gone, NULL);
    atomic_store(&parked, r);
}

static void drop(struct http_req *r)
{
    http_drop(r);
}

static void nothing(struct http_req *r)
{
    http_header(r, "X-Odd", "a\r\nSet-Cookie: b\x01");
    http_header(r, "Content-Length", "7");
    http_reply(r, 204, STR("never seen"));
}

static void file(struct http_req *r)
{
    FILE *f = tmpfile();
    char block[4096];

    assert_non_null(f);
    for (int i = 0; i < 1024; i++) {
        memset(block, 'a' + i % 26, sizeof(block));
        fwrite(block, 1, sizeof(block), f);
    }
    fflush(f);
    http_reply_file(r, 200, dup(fileno(f)), 1, 4096 * 1024 - 2);
    fclose(f);
}

static void close_after(struct http_req *r)
{
    http_close_after(r);
    http_reply(r, 200, STR("bye"));
}

static const struct spot spots[] = {
    { "/", say_hello }, { "/query", say_path }, { "/afar", go_elsewhere },
    { "/big", big },    { "/park", park },      { "/drop", drop },
    { "/file", file },  { "/204", nothing },    { "/close", close_after },
};

static struct http_req *wait_parked(void)
{
    EVENTUALLY(atomic_load(&parked) != NULL);
    return atomic_exchange(&parked, NULL);
}

#define OPEN(h) \
    HOUSE(h);   \
    house_open(&h, spots, ARRAY_LEN(spots))

/* ---- requests and answers */

static void a_request_is_answered_and_the_connection_stays(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (int i = 0; i < 3; i++) {
        peer_say(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, 200);
        assert_true(answer_is(&a, "hello"));
        assert_string_equal(answer_header(&a, "content-type"), "text/plain");
        assert_non_null(answer_header(&a, "date"));
        assert_null(answer_header(&a, "connection"));
    }
    EVENTUALLY(atomic_load(&h.sent) == 3);
    struct http_stats st;
    http_server_stats(h.server, &st);
    assert_int_equal(st.connections, 1);
    assert_int_equal(st.requests, 3);
    assert_int_equal(st.bytes_in, 3 * 27);
    assert_true(st.bytes_out > 300);
    assert_true(atomic_load(&h.rounds) > 0);
}

static void answers_that_were_held_leave_at_the_release(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int one = peer_open(&h), two = peer_open(&h);
    ANSWER(a);

    http_release(); /* of nothing */
    for (int i = 0; i < 20; i++) {
        struct http_req *r[2];

        peer_say(one, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
        r[0] = wait_parked();
        peer_say(two, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
        r[1] = wait_parked();
        http_hold();
        http_reply(r[0], 200, STR("first"));
        http_reply(r[1], 200, STR("second"));
        http_release();
        assert_true(peer_answer(one, &a));
        assert_true(answer_is(&a, "first"));
        assert_true(peer_answer(two, &a));
        assert_true(answer_is(&a, "second"));
    }
}

static void a_slow_peer_may_send_byte_by_byte(void **state _unused_)
{
    static const char text[] = "\r\nGET /query?x=1 HTTP/1.1\r\nHost: a.example:80\r\nX: y\r\n\r\n";
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        peer_put(fd, text + i, 1);
        nap(1);
    }
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "x=1"));
}

static void pipelined_requests_are_answered_in_order(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);
    struct buf b = BUF(MIB(1));

    for (int i = 0; i < 200; i++) {
        buf_printf(&b, "GET /query?%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
        if (i % 7 == 0)
            buf_puts(&b, "GET /afar HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    peer_put(fd, b.p, b.n);
    buf_free(&b);
    for (int i = 0; i < 200; i++) {
        char want[16];
        snprintf(want, sizeof(want), "%d", i);
        assert_true(peer_answer(fd, &a));
        assert_true(answer_is(&a, want));
        if (i % 7 == 0) {
            assert_true(peer_answer(fd, &a));
            assert_int_equal(a.status, 201);
            assert_true(answer_is(&a, "from afar"));
            assert_string_equal(answer_header(&a, "x-thread"), "another");
        }
    }
    house_threads_done();
}

static void a_head_request_gets_the_length_and_no_body(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);
    static const char *const paths[] = { "/", "/file", "/afar" };
    static const char *const lengths[] = { "5", "4194302", "9" };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char text[100];
        snprintf(text, sizeof(text), "HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
        peer_say(fd, text);
        assert_true(peer_answer_to(fd, &a, true));
        assert_string_equal(answer_header(&a, "content-length"), lengths[i]);
    }
    peer_say(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "hello"));
    house_threads_done();
}

static void http_1_0_closes_unless_it_asks_to_stay(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_string_equal(answer_header(&a, "connection"), "keep-alive");
    peer_say(fd, "GET / HTTP/1.0\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd));
}

static void close_is_said_and_done(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    _cleanup_close_ int fd2 = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /close HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd));
    peer_say(fd2, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_true(peer_answer(fd2, &a));
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd2));
}

static void no_header_value_can_end_its_line(void **state _unused_)
{
    OPEN(h);
    ANSWER(a);

    assert_int_equal(once(&h, "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n", &a), 204);
    assert_string_equal(answer_header(&a, "x-odd"), "a  Set-Cookie: b ");
    assert_null(answer_header(&a, "set-cookie"));
    assert_null(answer_header(&a, "content-length"));
}

static void a_file_is_sent_whole(void **state _unused_)
{
    OPEN(h);
    ANSWER(a);

    assert_int_equal(once(&h, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
    assert_int_equal(a.n, 4096 * 1024 - 2);
    for (size_t i = 0; i < a.n; i++)
        if (a.body[i] != 'a' + (int)((i + 1) / 4096 % 26))
            fail_msg("byte %zu is %c", i, a.body[i]);
}

static void a_large_answer_waits_for_its_reader(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    nap(100);
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.n, MIB(8));
    assert_int_equal(strspn(a.body, "x"), MIB(8));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "hello"));
    house_threads_done();
}

/* ---- refusals */

static void what_is_malformed_is_refused_in_the_applications_shape(void **state _unused_)
{
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        { "GET / HTTP/1.1\r\n\r\n", 400 },
        { "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400 },
        { "GET / HTTP/1.1\nHost: a\n\n", 400 },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          400 },
        { "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400 },
        { "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501 },
        { "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505 },
        { "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400 },
    };
    OPEN(h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_close_ int fd = peer_open(&h);
        peer_say(fd, cases[i].text);
        peer_say(fd, "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, cases[i].status);
        assert_string_equal(answer_header(&a, "connection"), "close");
        assert_string_equal(answer_header(&a, "content-type"), "text/plain");
        assert_true(a.n > 20);
        assert_false(peer_answer(fd, &a));
    }
}

static void what_is_no_http_gets_a_bare_refusal(void **state _unused_)
{
    static const char *const cases[] = { "hello there\r\n", "\x16\x03\x01\x02", "GET /\r\n" };
    OPEN(h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_close_ int fd = peer_open(&h);
        peer_say(fd, cases[i]);
        assert_true(peer_answer(fd, &a));
        assert_string_equal(a.head, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                                    "Connection: close\r\n\r\n");
        assert_true(peer_ended(fd));
    }
    assert_int_equal(atomic_load(&h.sent), 0);
}

static void heads_and_paths_have_their_limits(void **state _unused_)
{
    OPEN(h);
    ANSWER(a);
    struct buf b = BUF(MIB(1));

    buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    for (int i = 0; i < 17000; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\r\n\r\n");
    assert_int_equal(once(&h, buf_cstr(&b), &a), 431);
    buf_clear(&b);
    buf_puts(&b, "GET /");
    for (int i = 0; i < 9000; i++)
        buf_putc(&b, 'x');
    assert_int_equal(once(&h, buf_cstr(&b), &a), 414);
    buf_clear(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 64; i++)
        buf_printf(&b, "X-%d: y\r\n", i);
    buf_puts(&b, "\r\n");
    assert_int_equal(once(&h, buf_cstr(&b), &a), 431);
    buf_clear(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    for (int i = 0; i < 16000; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\r\n\r\n");
    assert_int_equal(once(&h, buf_cstr(&b), &a), 200);
    buf_free(&b);
}

/* ---- time */

static void what_takes_too_long_is_ended(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int idle = peer_open(&h), half = peer_open(&h), used = peer_open(&h);
    ANSWER(a);
    struct http_stats st = { 0 };

    peer_say(half, "GET / HTTP/1.1\r\nHos");
    peer_say(used, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(used, &a));
    EVENTUALLY((http_server_stats(h.server, &st), st.bytes_in == 19 + 27 && st.connections == 3));
    house_settle(&h);
    clock_advance(&clock, SECONDS(11));
    assert_true(peer_answer(half, &a));
    assert_int_equal(a.status, 408);
    assert_true(peer_ended(half));
    clock_advance(&clock, SECONDS(60));
    house_settle(&h);
    peer_say(used, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(used, &a));
    house_settle(&h);
    clock_advance(&clock, SECONDS(5));
    assert_true(peer_ended(idle));
    peer_say(used, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(used, &a));
    house_settle(&h);
    clock_advance(&clock, SECONDS(76));
    assert_true(peer_ended(used));
}

static _Atomic int ticks[4], n_ticks;

static void tick(void *ctx)
{
    atomic_store(&ticks[atomic_fetch_add(&n_ticks, 1)], *(int *)ctx);
}

static struct http_server *timer_server;
static void set_timers(void *ctx)
{
    static int n[] = { 1, 2, 3 };
    int64_t now = *(int64_t *)ctx;

    http_timer(timer_server, 0, now + SECONDS(3), tick, &n[2]);
    http_timer(timer_server, 0, now + SECONDS(1), tick, &n[0]);
    http_timer(timer_server, 0, now + SECONDS(2), tick, &n[1]);
}

static void timers_run_in_their_order(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    int64_t now = SECONDS(1000);
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    house_open(&h, spots, ARRAY_LEN(spots));

    timer_server = h.server;
    atomic_store(&n_ticks, 0);
    http_run(h.server, 0, set_timers, &now);
    nap(50);
    assert_int_equal(atomic_load(&n_ticks), 0);
    clock_advance(&clock, SECONDS(1) + MILLIS(20));
    EVENTUALLY(atomic_load(&n_ticks) == 1);
    clock_advance(&clock, SECONDS(5));
    EVENTUALLY(atomic_load(&n_ticks) == 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(atomic_load(&ticks[i]), i + 1);
}

/* ---- leaving */

static void a_peer_that_leaves_is_noticed(void **state _unused_)
{
    OPEN(h);
    int fd = peer_open(&h);

    atomic_store(&gone_seen, 0);
    peer_say(fd, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_parked();
    assert_false(http_req_gone(r));
    close(fd);
    EVENTUALLY(atomic_load(&gone_seen) == 1);
    assert_true(http_req_gone(r));
    http_reply(r, 200, STR("to nobody"));
    EVENTUALLY(atomic_load(&h.given_up) + atomic_load(&h.sent) == 1);
}

static void a_half_closed_peer_still_gets_its_answer(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_parked();
    shutdown(fd, SHUT_WR);
    EVENTUALLY(http_req_gone(r));
    http_reply(r, 200, STR("still here"));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "still here"));
    assert_true(peer_ended(fd));
}

static void a_dropped_request_closes_its_connection(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /drop HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_false(peer_answer(fd, &a));
    EVENTUALLY(atomic_load(&h.given_up) == 1);
}

static void a_server_may_end_while_requests_are_elsewhere(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);

    peer_say(fd, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_parked();
    h.limits.drain_timeout = 0;
    http_reply(r, 200, STR("late")); /* posted; the end of the server delivers or drops it */
}

/* ---- crowds */

static void a_thousand_idle_connections_cost_little(void **state _unused_)
{
    enum { N = 1000 };
    static int fds[N];
    struct rlimit lim = { 4096, 4096 };
    struct http_stats st = { 0 };
    OPEN(h);
    ANSWER(a);

    setrlimit(RLIMIT_NOFILE, &lim);
    for (int i = 0; i < N; i++)
        fds[i] = peer_open(&h);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == N));
    for (int i = 0; i < N; i += 37) {
        peer_say(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fds[i], &a));
        assert_int_equal(a.status, 200);
    }
    for (int i = 0; i < N; i++)
        close(fds[i]);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 0));
}

static void over_the_maximum_a_connection_gets_503(void **state _unused_)
{
    struct http_stats st = { 0 };
    HOUSE(h);
    h.limits = http_limits_default;
    h.limits.max_connections = 2;
    house_open(&h, spots, ARRAY_LEN(spots));
    int one = peer_open(&h);
    _cleanup_close_ int two = peer_open(&h);
    ANSWER(a);

    assert_true(two >= 0);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 2));
    assert_int_equal(once(&h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &a), 503);
    assert_non_null(strstr(a.body, "overloaded"));
    close(one);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 1));
    assert_int_equal(once(&h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
}

static void one_address_does_not_get_all_connections(void **state _unused_)
{
    enum { HOGS = 5 };
    struct http_stats st = { 0 };
    int fds[HOGS];
    HOUSE(h);
    h.limits = http_limits_default;
    h.limits.max_connections = 8;
    h.by_address = true;
    house_open(&h, spots, ARRAY_LEN(spots));
    ANSWER(a);

    for (int i = 0; i < HOGS; i++)
        fds[i] = peer_open_from(&h, 7);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 3)); /* three eighths */
    for (int i = 3; i < HOGS; i++) {
        assert_true(peer_answer(fds[i], &a));
        assert_int_equal(a.status, 503);
    }
    _cleanup_close_ int other = peer_open_from(&h, 8);
    peer_say(other, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(other, &a));
    assert_int_equal(a.status, 200);
    for (int i = 0; i < HOGS; i++)
        close(fds[i]);
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 1));
    _cleanup_close_ int again = peer_open_from(&h, 7);
    peer_say(again, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(again, &a));
    assert_int_equal(a.status, 200);
}

/* ---- draining */

static void *drain(void *server)
{
    http_server_drain(server);
    return NULL;
}

static void draining_finishes_what_is_open(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int idle = peer_open(&h), busy = peer_open(&h);
    struct http_stats st = { 0 };
    pthread_t t;
    ANSWER(a);

    atomic_store(&drain_seen, 0);
    peer_say(busy, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_parked();
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 2));
    t = thread_start("drain", drain, h.server);
    assert_true(peer_ended(idle));
    EVENTUALLY(atomic_load(&drain_seen) == 1);
    http_reply(r, 200, STR("the last one"));
    assert_true(peer_answer(busy, &a));
    assert_true(answer_is(&a, "the last one"));
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(busy));
    pthread_join(t, NULL);
}

static void draining_ends_in_time_whatever_is_open(void **state _unused_)
{
    HOUSE(h);
    h.limits = http_limits_default;
    h.limits.drain_timeout = MILLIS(200);
    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int busy = peer_open(&h);

    peer_say(busy, "GET /park HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_parked();
    http_server_drain(h.server);
    assert_true(http_req_gone(r));
    assert_true(peer_ended(busy));
    http_drop(r);
}

static void a_unix_socket_serves_too(void **state _unused_)
{
    char path[] = "/tmp/brume-http-XXXXXX", address[64];
    struct err e;
    ANSWER(a);

    assert_non_null(mkdtemp(path));
    snprintf(address, sizeof(address), "unix:%s/s", path);
    for (int round = 0; round < 2; round++) { /* the second finds the dead socket of the first */
        HOUSE(h);
        house_open(&h, spots, ARRAY_LEN(spots));
        struct http_opts o = { .app = { &h, house_head, house_error, NULL, NULL },
                               .limits = http_limits_default,
                               .threads = 1,
                               .n_listeners = 1 };
        _cleanup_close_ int l = http_listen(address, 0, 8, &e);
        assert_true(l >= 0);
        o.listeners = &l;
        _cleanup_(http_server_freep) struct http_server *s = http_server_new(&o, &e);
        assert_non_null(s);
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un un = { .sun_family = AF_UNIX };
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
        assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
        peer_say(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_true(answer_is(&a, "hello"));
    }
    unlink(address + 5);
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_and_the_connection_stays),
        cmocka_unit_test(answers_that_were_held_leave_at_the_release),
        cmocka_unit_test(a_slow_peer_may_send_byte_by_byte),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_head_request_gets_the_length_and_no_body),
        cmocka_unit_test(http_1_0_closes_unless_it_asks_to_stay),
        cmocka_unit_test(close_is_said_and_done),
        cmocka_unit_test(no_header_value_can_end_its_line),
        cmocka_unit_test(a_file_is_sent_whole),
        cmocka_unit_test(a_large_answer_waits_for_its_reader),
        cmocka_unit_test(what_is_malformed_is_refused_in_the_applications_shape),
        cmocka_unit_test(what_is_no_http_gets_a_bare_refusal),
        cmocka_unit_test(heads_and_paths_have_their_limits),
        cmocka_unit_test(what_takes_too_long_is_ended),
        cmocka_unit_test(timers_run_in_their_order),
        cmocka_unit_test(a_peer_that_leaves_is_noticed),
        cmocka_unit_test(a_half_closed_peer_still_gets_its_answer),
        cmocka_unit_test(a_dropped_request_closes_its_connection),
        cmocka_unit_test(a_server_may_end_while_requests_are_elsewhere),
        cmocka_unit_test(a_thousand_idle_connections_cost_little),
        cmocka_unit_test(over_the_maximum_a_connection_gets_503),
        cmocka_unit_test(one_address_does_not_get_all_connections),
        cmocka_unit_test(draining_finishes_what_is_open),
        cmocka_unit_test(draining_ends_in_time_whatever_is_open),
        cmocka_unit_test(a_unix_socket_serves_too),
    };

    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
