/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/http/peer.h"

#include <poll.h>

static _Atomic(struct http_req *) open_ws;
static _Atomic int closed;

/* ---- the application */

static bool on_message(void *ctx _unused_, struct http_req *r, bool binary, struct str data)
{
    if (str_is(data, "close me"))
        http_ws_close(r, 4000);
    else
        http_ws_send(r, binary, data);
    return !str_is(data, "wait");
}

static void on_gone(void *ctx _unused_, struct http_req *r, bool draining _unused_)
{
    atomic_store(&open_ws, NULL);
    atomic_fetch_add(&closed, 1);
    http_stream_end(r);
}

static void accept_it(struct http_req *r)
{
    static const struct http_ws_app app = { NULL, 0, on_message };
    struct err e;

    if (http_ws_begin(r, &app, &e) < 0) {
        http_reply(r, err_status(e.code), str_of(e.msg));
        return;
    }
    http_on_gone(r, on_gone, NULL);
    http_ws_send(r, false, STR("welcome"));
    atomic_store(&open_ws, r); /* from now on the test may end it */
}

static void accept_elsewhere(struct http_req *r)
{
    elsewhere(r, accept_it);
}

static const struct spot spots[] = { { "/ws", accept_it }, { "/afar", accept_elsewhere } };

#define OPEN(h)                   \
    HOUSE(h);                     \
    atomic_store(&open_ws, NULL); \
    atomic_store(&closed, 0);     \
    house_open(&h, spots, ARRAY_LEN(spots))

/* ---- the peer */

static int ws_connect(const struct house *h, const char *path)
{
    int fd = peer_open(h);
    char text[300];
    ANSWER(a);

    snprintf(
        text, sizeof(text),
        "GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path);
    peer_say(fd, text);
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.status, 101);
    assert_string_equal(answer_header(&a, "sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    return fd;
}

static void put_frame(int fd, uint8_t first, const char *p, size_t n)
{
    static const uint8_t mask[4] = { 1, 2, 3, 4 };
    uint8_t head[14] = { first };
    size_t h = 2;

    if (n < 126) {
        head[1] = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        h = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
        h = 10;
    }
    memcpy(head + h, mask, 4);
    peer_put(fd, head, h + 4);
    _cleanup_free_ char *masked = malloc(n ? n : 1);
    assert_non_null(masked);
    for (size_t i = 0; i < n; i++)
        masked[i] = (char)(p[i] ^ mask[i % 4]);
    peer_put(fd, masked, n);
}

/* First byte of the frame, or -1; the payload in 'p'. */
static int get_frame(int fd, char *p, size_t *n)
{
    uint8_t head[2], more[8];

    if (peer_get(fd, (char *)head, 2) != 2)
        return -1;
    *n = head[1];
    size_t wide = *n == 126 ? 2 : *n == 127 ? 8 : 0;
    assert_int_equal(peer_get(fd, (char *)more, wide), wide);
    if (wide)
        *n = 0;
    for (size_t i = 0; i < wide; i++)
        *n = *n << 8 | more[i];
    assert_int_equal(peer_get(fd, p, *n), *n);
    return head[0];
}

static void expect_text(int fd, const char *text)
{
    char p[1000];
    size_t n;

    assert_int_equal(get_frame(fd, p, &n), 0x81);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(p, text, n);
}

/* ---- tests */

static void messages_come_back(void **state _unused_)
{
    static char big[1000000], got[1000000];
    size_t n;
    OPEN(h);

    for (int i = 0; i < 2; i++) {
        _cleanup_close_ int fd = ws_connect(&h, i ? "/afar" : "/ws");
        expect_text(fd, "welcome");
        put_frame(fd, 0x81, "hello", 5);
        expect_text(fd, "hello");
        put_frame(fd, 0x01, "two ", 4); /* fragmented */
        put_frame(fd, 0x80, "parts", 5);
        expect_text(fd, "two parts");
        memset(big, 7, sizeof(big));
        put_frame(fd, 0x82, big, sizeof(big));
        assert_int_equal(get_frame(fd, got, &n), 0x82);
        assert_int_equal(n, sizeof(big));
        assert_memory_equal(got, big, n);
        put_frame(fd, 0x89, "ping", 4);
        assert_int_equal(get_frame(fd, got, &n), 0x8a);
        assert_memory_equal(got, "ping", 4);
    }
    EVENTUALLY(atomic_load(&closed) == 2);
    house_threads_done();
}

static void any_thread_may_send(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = ws_connect(&h, "/ws");

    expect_text(fd, "welcome");
    EVENTUALLY(atomic_load(&open_ws) != NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(http_ws_send(atomic_load(&open_ws), false, STR("tick")), 0);
    for (int i = 0; i < 100; i++)
        expect_text(fd, "tick");
}

static void either_side_may_close(void **state _unused_)
{
    char p[200];
    size_t n;
    OPEN(h);
    _cleanup_close_ int fd = ws_connect(&h, "/ws"), fd2 = ws_connect(&h, "/ws");

    expect_text(fd, "welcome");
    put_frame(fd, 0x81, "close me", 8);
    assert_int_equal(get_frame(fd, p, &n), 0x88);
    assert_int_equal((uint8_t)p[0] << 8 | (uint8_t)p[1], 4000);
    put_frame(fd, 0x88, p, 2);
    assert_true(peer_ended(fd));
    expect_text(fd2, "welcome");
    put_frame(fd2, 0x88, "\x03\xe8", 2);
    assert_int_equal(get_frame(fd2, p, &n), 0x88);
    assert_true(peer_ended(fd2));
    EVENTUALLY(atomic_load(&closed) == 2);
}

static void what_breaks_the_protocol_is_closed(void **state _unused_)
{
    char p[200];
    size_t n;
    OPEN(h);
    _cleanup_close_ int bare = ws_connect(&h, "/ws"), odd = ws_connect(&h, "/ws"),
                        huge = ws_connect(&h, "/ws");

    expect_text(bare, "welcome");
    peer_put(bare, "\x81\x02hi", 4); /* not masked */
    while (get_frame(bare, p, &n) >= 0)
        ;
    expect_text(odd, "welcome");
    put_frame(odd, 0x81, "\xff\xfe", 2); /* no UTF-8 */
    assert_int_equal(get_frame(odd, p, &n), 0x88);
    assert_int_equal((uint8_t)p[0] << 8 | (uint8_t)p[1], 1007);
    expect_text(huge, "welcome");
    peer_put(huge, "\x82\xff\0\0\0\0\x40\0\0\0\1\2\3\4x", 15);
    assert_int_equal(get_frame(huge, p, &n), 0x88);
    assert_int_equal((uint8_t)p[0] << 8 | (uint8_t)p[1], 1009);
    close(TAKE_FD(odd));
    close(TAKE_FD(huge));
    EVENTUALLY(atomic_load(&closed) == 3);
}

static void what_asks_for_no_websocket_is_refused(void **state _unused_)
{
    static const char *const cases[] = {
        "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n\r\n",
    };
    OPEN(h);
    ANSWER(a);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(once(&h, cases[i], &a), 400);
}

static void *drain(void *server)
{
    http_server_drain(server);
    return NULL;
}

static void draining_says_that_we_go_away(void **state _unused_)
{
    char p[200];
    size_t n;
    OPEN(h);
    _cleanup_close_ int fd = ws_connect(&h, "/ws");

    expect_text(fd, "welcome");
    pthread_t t = thread_start("drain", drain, h.server);
    assert_int_equal(get_frame(fd, p, &n), 0x88);
    assert_int_equal((uint8_t)p[0] << 8 | (uint8_t)p[1], 1001);
    put_frame(fd, 0x88, p, 2);
    assert_true(peer_ended(fd));
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&closed), 1);
}

static void silence_is_pinged_and_then_ended(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    char p[200];
    size_t n;
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    atomic_store(&closed, 0);
    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int fd = ws_connect(&h, "/ws");

    expect_text(fd, "welcome");
    for (int i = 0; i < 3; i++) {
        house_settle(&h);
        clock_advance(&clock, SECONDS(76));
        assert_int_equal(get_frame(fd, p, &n), 0x89);
        if (i < 2)
            put_frame(fd, 0x8a, "", 0);
    }
    house_settle(&h);
    clock_advance(&clock, SECONDS(76));
    assert_true(peer_ended(fd));
    EVENTUALLY(atomic_load(&closed) == 1);
}

static void who_wants_no_more_is_given_no_more_until_they_do(void **state _unused_)
{
    struct pollfd p = { .events = POLLIN };
    OPEN(h);
    _cleanup_close_ int fd = ws_connect(&h, "/ws");

    p.fd = fd;
    expect_text(fd, "welcome");
    put_frame(fd, 0x81, "wait", 4);
    expect_text(fd, "wait");
    put_frame(fd, 0x81, "late", 4);
    assert_int_equal(poll(&p, 1, 100), 0);
    http_ws_more(atomic_load(&open_ws));
    expect_text(fd, "late");
}

static void its_end_is_told_by_its_code(void **state _unused_)
{
    char p[200];
    size_t n;
    OPEN(h);

    for (int whole = 0; whole < 2; whole++) {
        _cleanup_close_ int fd = ws_connect(&h, "/afar");
        expect_text(fd, "welcome");
        EVENTUALLY(atomic_load(&open_ws) != NULL);
        struct http_req *r = atomic_exchange(&open_ws, NULL);
        assert_int_equal(http_stream_write(r, STR("last")), 0);
        if (whole)
            http_stream_end(r);
        else
            http_stream_cut(r);
        expect_text(fd, "last");
        assert_int_equal(get_frame(fd, p, &n), 0x88);
        assert_int_equal((uint8_t)p[0] << 8 | (uint8_t)p[1], whole ? 1000 : 1011);
        put_frame(fd, 0x88, p, 2);
        assert_true(peer_ended(fd));
    }
    house_threads_done();
    assert_int_equal(atomic_load(&closed), 0);
}

static void a_reader_too_slow_is_cut_off(void **state _unused_)
{
    static char block[100000];
    int rc = 0;
    OPEN(h);
    _cleanup_close_ int fd = ws_connect(&h, "/ws");

    expect_text(fd, "welcome");
    EVENTUALLY(atomic_load(&open_ws) != NULL);
    struct http_req *ws = atomic_load(&open_ws);
    for (int i = 0; i < 1000 && rc == 0; i++) {
        rc = http_ws_send(ws, true, (struct str){ block, sizeof(block) });
        nap(1);
    }
    assert_int_equal(rc, -1);
    EVENTUALLY(atomic_load(&closed) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),
        cmocka_unit_test(any_thread_may_send),
        cmocka_unit_test(either_side_may_close),
        cmocka_unit_test(what_breaks_the_protocol_is_closed),
        cmocka_unit_test(what_asks_for_no_websocket_is_refused),
        cmocka_unit_test(draining_says_that_we_go_away),
        cmocka_unit_test(silence_is_pinged_and_then_ended),
        cmocka_unit_test(who_wants_no_more_is_given_no_more_until_they_do),
        cmocka_unit_test(its_end_is_told_by_its_code),
        cmocka_unit_test(a_reader_too_slow_is_cut_off),
    };

    return cmocka_run_group_tests_name("ws", tests, NULL, NULL);
}
