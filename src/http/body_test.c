/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/http/peer.h"

static _Atomic(struct http_req *) parked;
static _Atomic int hold, wrong_thread;
static _Atomic int64_t worker_read;
static _Thread_local int on_io; /* set where heads are seen */

/* ---- the application */

static void collected(void *ctx _unused_, struct http_req *r, struct str body, struct err *e)
{
    if (!on_io)
        atomic_fetch_add(&wrong_thread, 1);
    if (e) {
        struct buf b = BUF(1024);
        buf_printf(&b, "%s: %s", err_wire(e->code), e->msg);
        http_reply_buf(r, err_status(e->code), &b);
        return;
    }
    http_reply(r, 200, body);
}

static void echo(struct http_req *r)
{
    on_io = 1;
    http_body_collect(r, MIB(1), collected, NULL);
}

static void small(struct http_req *r)
{
    on_io = 1;
    http_body_collect(r, 10, collected, NULL);
}

static void ask_elsewhere(struct http_req *r)
{
    http_body_collect(r, MIB(1), collected, NULL);
}

static void later(struct http_req *r)
{
    on_io = 1;
    elsewhere(r, ask_elsewhere);
}

/* Reads all of it and answers with its length and sum. */
static void digest(struct http_req *r)
{
    char p[5000];
    struct err e;
    int64_t n = 0;
    uint32_t sum = 0;
    ssize_t got;

    while (atomic_load(&hold))
        nap(5);
    while ((got = http_body_read(r, p, sizeof(p), &e)) > 0) {
        n += got;
        atomic_store(&worker_read, n);
        for (ssize_t i = 0; i < got; i++)
            sum = sum * 31 + (uint8_t)p[i];
    }
    struct buf b = BUF(1024);
    if (got < 0)
        buf_printf(&b, "%s: %s", err_wire(e.code), e.msg);
    else
        buf_printf(&b, "%lld %u", (long long)n, sum);
    http_reply_buf(r, got < 0 ? err_status(e.code) : 200, &b);
}

static void stream(struct http_req *r)
{
    on_io = 1;
    http_body_stream(r, MIB(64));
    elsewhere(r, digest);
}

static void stream_small(struct http_req *r)
{
    on_io = 1;
    http_body_stream(r, 10);
    elsewhere(r, digest);
}

static void digest_later(struct http_req *r)
{
    http_body_stream(r, MIB(64));
    digest(r);
}

static void stream_later(struct http_req *r)
{
    on_io = 1;
    elsewhere(r, digest_later);
}

static void refuse(struct http_req *r)
{
    http_reply(r, 401, STR("who are you"));
}

/* Answers where it is told, once nothing more comes. */
static void take(void *ctx _unused_, struct http_req *r)
{
    char p[5000];
    struct err e;
    ssize_t n;

    while ((n = http_body_take(r, p, sizeof(p), &e)) > 0)
        ;
    if (n == HTTP_BODY_LATER)
        http_body_more(r);
    else
        http_reply(r, n < 0 ? err_status(e.code) : 200, STR("taken"));
}

static void spool(struct http_req *r)
{
    http_body_spool(r, 100, take, NULL);
}

static void park(struct http_req *r)
{
    on_io = 1;
    atomic_store(&parked, r);
}

static const struct spot spots[] = {
    { "/echo", echo },     { "/small", small },
    { "/later", later },   { "/stream", stream },
    { "/refuse", refuse }, { "/stream-small", stream_small },
    { "/park", park },     { "/stream-later", stream_later },
    { "/spool", spool },
};

#define OPEN(h)                    \
    HOUSE(h);                      \
    atomic_store(&hold, 0);        \
    atomic_store(&worker_read, 0); \
    house_open(&h, spots, ARRAY_LEN(spots))

static char *noise(size_t n)
{
    char *p = malloc(n + 1);
    uint32_t x = 12345;

    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (char)(x >> 24);
    }
    p[n] = '\0';
    return p;
}

static void say_head(int fd, const char *path, const char *framing)
{
    char head[200];

    snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", path, framing);
    peer_say(fd, head);
}

static void put_chunk(int fd, const char *p, size_t n)
{
    char line[32];

    snprintf(line, sizeof(line), "%zx;ext=\"a\"\r\n", n);
    peer_say(fd, line);
    peer_put(fd, p, n);
    peer_say(fd, "\r\n");
}

/* ---- collected */

static void a_body_comes_back_whole_however_it_is_framed(void **state _unused_)
{
    static const size_t sizes[] = { 0, 1, 100, 4000, 4096, 5000, 70000, 1048576 };
    static const char *const paths[] = { "/echo", "/later" };
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(sizes) * 2; i++) {
        size_t n = sizes[i / 2];
        _cleanup_free_ char *p = noise(n);
        char framing[64];

        snprintf(framing, sizeof(framing), "Content-Length: %zu", n);
        say_head(fd, paths[i % 2], framing);
        peer_put(fd, p, n);
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, 200);
        assert_int_equal(a.n, n);
        assert_memory_equal(a.body, p, n);

        say_head(fd, paths[i % 2], "Transfer-Encoding: chunked");
        for (size_t at = 0; at < n; at += MIN(n - at, (size_t)3000))
            put_chunk(fd, p + at, MIN(n - at, (size_t)3000));
        peer_say(fd, "0\r\nX-Sum: 1\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, 200);
        assert_int_equal(a.n, n);
        assert_memory_equal(a.body, p, n);
    }
    house_threads_done();
    assert_int_equal(atomic_load(&wrong_thread), 0);
}

static void bodies_may_be_pipelined(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
                 "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "1\r\nt\r\n2\r\nwo\r\n0\r\n\r\n"
                 "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nthree"
                 "POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "4\r\nfour\r\n0\r\n\r\n"
                 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfive");
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "one"));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "two"));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "three"));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "4 3149094"));
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "five"));
    house_threads_done();
}

static void a_body_may_come_byte_by_byte(void **state _unused_)
{
    static const char text[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\nA;x\r\n, the rest\r\n0\r\n\r\n";
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        peer_put(fd, text + i, 1);
        nap(1);
    }
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "hello, the rest"));
}

static void continue_is_said_when_the_body_is_wanted(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    _cleanup_close_ int fd2 = peer_open(&h);
    ANSWER(a);

    say_head(fd, "/later", "Expect: 100-continue\r\nContent-Length: 2");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 100);
    peer_say(fd, "ok");
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "ok"));
    /* Refused before: no "continue", and the body is not waited for. */
    say_head(fd2, "/refuse", "Expect: 100-continue\r\nContent-Length: 2");
    assert_true(peer_answer(fd2, &a));
    assert_int_equal(a.status, 401);
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd2));
    house_threads_done();
}

static void a_body_over_its_maximum_is_refused(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    say_head(fd, "/small", "Content-Length: 11");
    peer_say(fd, "hello world");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 413);
    /* So small, it was read away and the connection lives. */
    say_head(fd, "/small", "Content-Length: 10");
    peer_say(fd, "0123456789");
    assert_true(peer_answer(fd, &a));
    assert_true(answer_is(&a, "0123456789"));
    say_head(fd, "/small", "Transfer-Encoding: chunked");
    peer_say(fd, "6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 413);
    assert_true(peer_ended(fd));

    _cleanup_close_ int fd2 = peer_open(&h);
    say_head(fd2, "/small", "Content-Length: 999999999999");
    assert_true(peer_answer(fd2, &a));
    assert_int_equal(a.status, 413);
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd2));
}

static void an_unwanted_body_is_read_away_or_ends_the_connection(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    _cleanup_free_ char *p = noise(70000);
    ANSWER(a);

    say_head(fd, "/refuse", "Content-Length: 60000");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 401);
    assert_null(answer_header(&a, "connection"));
    peer_put(fd, p, 60000);
    say_head(fd, "/refuse", "Transfer-Encoding: chunked");
    put_chunk(fd, p, 50000);
    peer_say(fd, "0\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 401);
    say_head(fd, "/refuse", "Content-Length: 70000");
    assert_true(peer_answer(fd, &a));
    assert_string_equal(answer_header(&a, "connection"), "close");
    send(fd, p, 70000, MSG_NOSIGNAL); /* it may be cut off, but the answer was readable */
    assert_true(peer_ended(fd));
}

static void a_malformed_chunk_is_an_error_and_the_end(void **state _unused_)
{
    static const char *const cases[] = {
        "g\r\n",  "5\nhello", "5\r\nhelloX",           "-1\r\n", "0x5\r\n",
        " 5\r\n", "5 \r\n",   "FFFFFFFFFFFFFFFFF\r\n", ";x\r\n", "0\r\n bad\r\n\r\n"
    };
    OPEN(h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(cases) * 2; i++) {
        _cleanup_close_ int fd = peer_open(&h);
        say_head(fd, i % 2 ? "/echo" : "/stream", "Transfer-Encoding: chunked");
        peer_say(fd, cases[i / 2]);
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, 400);
        assert_true(peer_ended(fd));
    }
    house_threads_done();
}

static void
an_answer_given_where_a_failure_is_told_says_how_the_connection_goes_on(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h), other = peer_open(&h);
    ANSWER(a);

    say_head(fd, "/spool", "Transfer-Encoding: chunked");
    peer_say(fd, "g\r\n");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 400);
    assert_string_equal(answer_header(&a, "connection"), "close");
    assert_true(peer_ended(fd));
    say_head(other, "/spool", "Content-Length: 101"); /* is read away */
    assert_true(peer_answer(other, &a));
    assert_int_equal(a.status, 413);
    assert_null(answer_header(&a, "connection"));
    peer_put(other, (const char[101]){ 0 }, 101);
    say_head(other, "/spool", "Content-Length: 2");
    peer_say(other, "hi");
    assert_true(peer_answer(other, &a));
    assert_int_equal(a.status, 200);
}

static void a_peer_that_leaves_in_its_body_is_an_error(void **state _unused_)
{
    OPEN(h);

    for (int i = 0; i < 2; i++) {
        int fd = peer_open(&h);
        say_head(fd, i ? "/echo" : "/stream", "Content-Length: 100");
        peer_say(fd, "half");
        nap(20);
        close(fd);
        EVENTUALLY(atomic_load(&h.sent) + atomic_load(&h.given_up) == i + 1);
        assert_int_equal(atomic_load(&h.last_status), 400);
    }
    house_threads_done();
}

static void a_body_that_stands_still_times_out(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    house_open(&h, spots, ARRAY_LEN(spots));
    ANSWER(a);

    for (int i = 0; i < 2; i++) {
        _cleanup_close_ int fd = peer_open(&h);
        say_head(fd, i ? "/echo" : "/stream", "Content-Length: 100");
        peer_say(fd, "half");
        house_settle(&h);
        clock_advance(&clock, SECONDS(20));
        house_settle(&h);
        peer_say(fd, "x");
        house_settle(&h);
        clock_advance(&clock, SECONDS(20));
        house_settle(&h);
        clock_advance(&clock, SECONDS(11));
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, 408);
        assert_true(peer_ended(fd));
    }
    house_threads_done();
}

/* It goes on, but so slowly that what it holds is held for nothing. */
static void a_body_that_brings_too_little_times_out(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    char piece[20480];
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    house_open(&h, spots, ARRAY_LEN(spots));
    ANSWER(a);

    memset(piece, 'x', sizeof(piece));
    for (int i = 0; i < 3; i++) {
        _cleanup_close_ int fd = peer_open(&h);
        bool slow = i < 2;
        say_head(fd, i ? "/echo" : "/stream", "Content-Length: 102400");
        for (int k = 0; k < 5; k++) {
            house_settle(&h);
            clock_advance(&clock, SECONDS(10));
            if (slow)
                peer_say(fd, "x");
            else
                assert_int_equal(write(fd, piece, sizeof(piece)), sizeof(piece));
            house_settle(&h);
        }
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.status, slow ? 408 : 200);
    }
    house_threads_done();
}

/* ---- streamed */

static void a_worker_reads_a_stream_of_any_length(void **state _unused_)
{
    static const size_t sizes[] = { 0, 1, 5000, 300000, 5000000 };
    static const char *const paths[] = { "/stream", "/stream-later" };
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(sizes) * 4; i++) {
        size_t n = sizes[i / 4];
        _cleanup_free_ char *p = noise(n);
        char text[64];
        uint32_t sum = 0;

        for (size_t k = 0; k < n; k++)
            sum = sum * 31 + (uint8_t)p[k];
        snprintf(text, sizeof(text), "Content-Length: %zu", n);
        say_head(fd, paths[i % 2], i & 2 ? text : "Transfer-Encoding: chunked");
        if (i & 2) {
            peer_put(fd, p, n);
        } else {
            for (size_t at = 0; at < n; at += MIN(n - at, (size_t)50000))
                put_chunk(fd, p + at, MIN(n - at, (size_t)50000));
            peer_say(fd, "0\r\n\r\n");
        }
        assert_true(peer_answer(fd, &a));
        snprintf(text, sizeof(text), "%zu %u", n, sum);
        assert_string_equal(a.body, text);
    }
    house_threads_done();
}

static void a_worker_that_does_not_read_stops_the_peer(void **state _unused_)
{
    enum { MUCH = 48 << 20 };
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    _cleanup_free_ char *p = noise(MUCH);
    struct http_stats st = { 0 };
    char head[64];
    size_t at = 0;
    ANSWER(a);

    atomic_store(&hold, 1);
    snprintf(head, sizeof(head), "Content-Length: %d", MUCH);
    say_head(fd, "/stream", head);
    for (int still = 0; still < 20;) {
        ssize_t n = send(fd, p + at, MUCH - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
        still = n > 0 ? 0 : still + 1;
        nap(10);
    }
    http_server_stats(h.server, &st);
    assert_true(at < MUCH);                              /* the kernel's buffers are full, */
    assert_true(st.bytes_in <= (int64_t)KIB(256) + 200); /* ours hold what they may */
    atomic_store(&hold, 0);
    peer_put(fd, p + at, MUCH - at);
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 200);
    assert_int_equal(atomic_load(&worker_read), MUCH);
    house_threads_done();
}

static void a_stream_over_its_maximum_is_an_error(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h), fd2 = peer_open(&h);
    ANSWER(a);

    say_head(fd, "/stream-small", "Content-Length: 11");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 413);
    say_head(fd2, "/stream-small", "Transfer-Encoding: chunked");
    peer_say(fd2, "b\r\nhello world\r\n0\r\n\r\n");
    assert_true(peer_answer(fd2, &a));
    assert_int_equal(a.status, 413);
    assert_true(peer_ended(fd2));
    house_threads_done();
}

static void a_body_asked_for_after_its_peer_has_left_is_an_error(void **state _unused_)
{
    OPEN(h);
    int fd = peer_open(&h);
    struct linger hard = { 1, 0 };

    atomic_store(&parked, NULL);
    say_head(fd, "/park", "Content-Length: 100");
    EVENTUALLY(atomic_load(&parked) != NULL);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd); /* a reset */
    struct http_req *r = atomic_exchange(&parked, NULL);
    EVENTUALLY(http_req_gone(r));
    ask_elsewhere(r);
    EVENTUALLY(atomic_load(&h.given_up) == 1);
    assert_int_equal(atomic_load(&h.last_status), 400);
    assert_int_equal(atomic_load(&wrong_thread), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_comes_back_whole_however_it_is_framed),
        cmocka_unit_test(bodies_may_be_pipelined),
        cmocka_unit_test(a_body_may_come_byte_by_byte),
        cmocka_unit_test(continue_is_said_when_the_body_is_wanted),
        cmocka_unit_test(a_body_over_its_maximum_is_refused),
        cmocka_unit_test(an_unwanted_body_is_read_away_or_ends_the_connection),
        cmocka_unit_test(a_malformed_chunk_is_an_error_and_the_end),
        cmocka_unit_test(an_answer_given_where_a_failure_is_told_says_how_the_connection_goes_on),
        cmocka_unit_test(a_peer_that_leaves_in_its_body_is_an_error),
        cmocka_unit_test(a_body_that_stands_still_times_out),
        cmocka_unit_test(a_body_that_brings_too_little_times_out),
        cmocka_unit_test(a_worker_reads_a_stream_of_any_length),
        cmocka_unit_test(a_worker_that_does_not_read_stops_the_peer),
        cmocka_unit_test(a_stream_over_its_maximum_is_an_error),
        cmocka_unit_test(a_body_asked_for_after_its_peer_has_left_is_an_error),
    };

    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
