/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/http/peer.h"

static _Atomic(struct http_req *) parked;
static _Atomic int gone_seen, drain_seen, written, cut, told, full;

/* ---- the application */

static void from_worker(struct http_req *r)
{
    char line[64];

    http_header(r, "Content-Type", "text/event-stream");
    http_stream_begin(r, 200);
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(line, sizeof(line), "data: %d\n\n", i);
        stream_put(r, (struct str){ line, (size_t)n });
    }
    http_stream_end(r);
}

static void worker(struct http_req *r)
{
    elsewhere(r, from_worker);
}

static void inline_stream(struct http_req *r)
{
    http_stream_begin(r, 200);
    http_stream_write(r, STR("one"));
    http_stream_write(r, (struct str){ "", 0 });
    http_stream_write(r, STR("two"));
    http_stream_end(r);
}

/* Gives up in the middle. */
static void part(struct http_req *r)
{
    http_stream_begin(r, 200);
    http_stream_write(r, STR("half"));
    http_stream_cut(r);
}

static void part_elsewhere(struct http_req *r)
{
    elsewhere(r, part);
}

static void on_gone(void *ctx _unused_, struct http_req *r, bool draining)
{
    atomic_fetch_add(draining ? &drain_seen : &gone_seen, 1);
    if (draining)
        http_stream_write(r, STR("goodbye"));
    http_stream_end(r);
}

static void follow(struct http_req *r)
{
    http_stream_begin(r, 200);
    http_stream_write(r, STR("hello"));
    http_on_gone(r, on_gone, NULL);
    atomic_store(&parked, r);
}

/* Writes 32 MiB, waiting for the reader. */
static void much(struct http_req *r)
{
    static char block[300000];

    memset(block, 'z', sizeof(block));
    http_stream_begin(r, 200);
    for (int i = 0; i < 100; i++) {
        if (stream_put(r, (struct str){ block, sizeof(block) }) < 0) {
            atomic_fetch_add(&cut, 1);
            break;
        }
        atomic_fetch_add(&written, 1);
    }
    http_stream_end(r);
}

static void much_elsewhere(struct http_req *r)
{
    elsewhere(r, much);
}

/* Never waits. */
static void flood(struct http_req *r)
{
    static char block[100000];

    http_stream_begin(r, 200);
    for (int i = 0; i < 1000; i++) {
        if (http_stream_write(r, (struct str){ block, sizeof(block) }) < 0) {
            atomic_fetch_add(&cut, 1);
            break;
        }
        nap(1);
    }
    http_stream_end(r);
}

static void flood_elsewhere(struct http_req *r)
{
    elsewhere(r, flood);
}

static char whole[3 << 20];

static void whole_one(struct http_req *r)
{
    http_stream_begin(r, 200);
    http_stream_write(r, (struct str){ whole, sizeof(whole) });
    http_stream_end(r);
}

static void whole_elsewhere(struct http_req *r)
{
    elsewhere(r, whole_one);
}

static void on_room(void *ctx _unused_)
{
    atomic_fetch_add(&told, 1);
}

/* Until there is no room, and asks to be told of some. */
static void fill(struct http_req *r)
{
    static char block[100000];

    while (http_stream_room(r) > 0) {
        if (http_stream_write(r, (struct str){ block, sizeof(block) }) < 0)
            break;
        nap(5);
    }
    if (!http_stream_wait(r, on_room, NULL))
        atomic_store(&full, 1);
}

static void told_of_room(struct http_req *r)
{
    http_stream_begin(r, 200);
    atomic_store(&parked, r);
    fill(r);
}

static void told_elsewhere(struct http_req *r)
{
    elsewhere(r, told_of_room);
}

static void settled(struct http_req *r)
{
    const struct http_head *h = http_req_head(r);
    char text[100];

    http_req_settle(r);
    struct str one = http1_header(h, "x-one");
    int n = snprintf(text, sizeof(text), "%.*s|%.*s|%.*s|%.*s", (int)h->path.n, h->path.p,
                     (int)h->query.n, h->query.p, (int)h->host.n, h->host.p, (int)one.n, one.p);
    http_stream_begin(r, 200);
    http_stream_write(r, (struct str){ text, (size_t)n });
    http_stream_end(r);
}

static const struct spot spots[] = {
    { "/worker", worker },
    { "/inline", inline_stream },
    { "/follow", follow },
    { "/much", much_elsewhere },
    { "/flood", flood_elsewhere },
    { "/part", part },
    { "/part-afar", part_elsewhere },
    { "/whole", whole_elsewhere },
    { "/told", told_elsewhere },
    { "/settled", settled },
};

#define OPEN(h)                   \
    HOUSE(h);                     \
    atomic_store(&parked, NULL);  \
    atomic_store(&gone_seen, 0);  \
    atomic_store(&drain_seen, 0); \
    atomic_store(&written, 0);    \
    atomic_store(&cut, 0);        \
    atomic_store(&told, 0);       \
    atomic_store(&full, 0);       \
    house_open(&h, spots, ARRAY_LEN(spots))

/* ---- tests */

static void check_lines(const struct answer *a)
{
    struct buf b = BUF(MIB(1));

    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "data: %d\n\n", i);
    assert_int_equal(a->n, b.n);
    assert_memory_equal(a->body, b.p, b.n);
    buf_free(&b);
}

static void a_worker_streams_in_chunks_and_the_connection_stays(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (int i = 0; i < 3; i++) {
        peer_say(fd, "GET /worker HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_true(a.chunked);
        check_lines(&a);
        peer_say(fd, "GET /inline HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.n, 6);
        assert_memory_equal(a.body, "onetwo", 6);
    }
    house_threads_done();
}

static void to_http_1_0_a_stream_ends_with_the_connection(void **state _unused_)
{
    OPEN(h);
    ANSWER(a);

    assert_int_equal(once(&h, "GET /worker HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &a), 200);
    assert_false(a.chunked);
    assert_string_equal(answer_header(&a, "connection"), "close");
    check_lines(&a);
    house_threads_done();
}

static void a_head_request_to_a_stream_gets_its_head(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (int i = 0; i < 2; i++) {
        peer_say(fd, "HEAD /worker HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_true(peer_answer_to(fd, &a, true));
        assert_int_equal(a.status, 200);
    }
    house_threads_done();
}

static void events_arrive_as_they_are_written(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    char got[2000];

    peer_say(fd, "GET /follow HTTP/1.1\r\nHost: a\r\n\r\n");
    EVENTUALLY(atomic_load(&parked) != NULL);
    struct http_req *r = atomic_load(&parked);
    size_t n = 0;
    while (n < 7 || memcmp(got + n - 7, "hello\r\n", 7) != 0)
        assert_int_equal(peer_get(fd, got + n++, 1), 1);
    assert_int_equal(http_stream_write(r, STR("more")), 0);
    assert_int_equal(peer_get(fd, got, 9), 9);
    assert_memory_equal(got, "4\r\nmore\r\n", 9);
    http_stream_end(r);
    assert_int_equal(peer_get(fd, got, 5), 5);
    assert_memory_equal(got, "0\r\n\r\n", 5);
    EVENTUALLY(atomic_load(&h.sent) == 1);
    assert_int_equal(atomic_load(&gone_seen), 0);
}

/* RFC 9112, 8: chunked content without its last chunk is incomplete. */
static void a_stream_that_is_not_whole_has_no_last_chunk_and_closes(void **state _unused_)
{
    static const char *const paths[] = { "/part", "/part-afar" };
    OPEN(h);

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        _cleanup_close_ int fd = peer_open(&h);
        char got[2000], ask[100];

        snprintf(ask, sizeof(ask), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
        peer_say(fd, ask);
        size_t n = peer_get(fd, got, sizeof(got));
        assert_memory_equal(got, "HTTP/1.1 200", 12);
        assert_memory_equal(got + n - 9, "4\r\nhalf\r\n", 9);
    }
    EVENTUALLY(atomic_load(&h.sent) == 2);
    house_threads_done();
}

static void a_reader_that_leaves_ends_its_stream(void **state _unused_)
{
    OPEN(h);

    for (int i = 0; i < 20; i++) {
        int fd = peer_open(&h);
        atomic_store(&parked, NULL);
        peer_say(fd, "GET /follow HTTP/1.1\r\nHost: a\r\n\r\n");
        EVENTUALLY(atomic_load(&parked) != NULL);
        close(fd);
        EVENTUALLY(atomic_load(&gone_seen) == i + 1);
    }
    EVENTUALLY(atomic_load(&h.sent) + atomic_load(&h.given_up) == 20);
}

static void *drain(void *server)
{
    http_server_drain(server);
    return NULL;
}

static void draining_gives_streams_their_end(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    pthread_t t;
    ANSWER(a);

    peer_say(fd, "GET /follow HTTP/1.1\r\nHost: a\r\n\r\n");
    EVENTUALLY(atomic_load(&parked) != NULL);
    nap(20);
    t = thread_start("drain", drain, h.server);
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.n, 12);
    assert_memory_equal(a.body, "hellogoodbye", 12);
    assert_true(peer_ended(fd));
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&drain_seen), 1);
    assert_int_equal(atomic_load(&gone_seen), 0);
}

static void a_waiting_writer_keeps_to_its_readers_pace(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /much HTTP/1.1\r\nHost: a\r\n\r\n");
    nap(300);
    assert_true(atomic_load(&written) < 90);
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.n, 30000000);
    assert_int_equal(strspn(a.body, "z"), 30000000);
    house_threads_done();
    assert_int_equal(atomic_load(&cut), 0);
}

static void a_waiting_writer_is_woken_when_its_reader_leaves(void **state _unused_)
{
    OPEN(h);
    int fd = peer_open(&h);

    peer_say(fd, "GET /much HTTP/1.1\r\nHost: a\r\n\r\n");
    nap(100);
    close(fd);
    EVENTUALLY(atomic_load(&cut) == 1);
    house_threads_done();
    EVENTUALLY(atomic_load(&h.given_up) == 1);
}

/* What is too large for the rest is no reason to cut off where it is all there is. */
static void one_write_may_be_larger_than_all_that_is_held(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    peer_say(fd, "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_true(peer_answer(fd, &a));
    assert_int_equal(a.n, sizeof(whole));
    house_threads_done();
}

static void a_writer_is_told_of_room_once_and_of_a_reader_that_left(void **state _unused_)
{
    OPEN(h);
    int fd = peer_open(&h);
    char got[4096];

    peer_say(fd, "GET /told HTTP/1.1\r\nHost: a\r\n\r\n");
    EVENTUALLY(atomic_load(&full) == 1);
    nap(50);
    assert_int_equal(atomic_load(&told), 0);
    while (atomic_load(&told) == 0)
        assert_int_equal(peer_get(fd, got, sizeof(got)), sizeof(got));
    assert_true(http_stream_room(atomic_load(&parked)) >= 128 * 1024);
    fill(atomic_load(&parked));
    nap(50);
    assert_int_equal(atomic_load(&told), 1);
    close(fd);
    EVENTUALLY(atomic_load(&told) == 2);
    http_stream_end(atomic_load(&parked));
    EVENTUALLY(atomic_load(&h.given_up) == 1);
}

static void a_settled_head_says_the_same(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    ANSWER(a);

    for (int i = 0; i < 3; i++) {
        peer_say(fd, "GET /settled?a=b HTTP/1.1\r\nHost: a\r\nX-One: two\r\n\r\n");
        assert_true(peer_answer(fd, &a));
        assert_int_equal(a.n, 18);
        assert_memory_equal(a.body, "/settled|a=b|a|two", 18);
    }
}

static void a_reader_too_slow_is_cut_off(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h);
    struct http_stats st;

    peer_say(fd, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    EVENTUALLY(atomic_load(&cut) == 1);
    house_threads_done();
    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 0));
    EVENTUALLY(atomic_load(&h.given_up) == 1);
}

static void a_reader_that_takes_nothing_times_out(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int fd = peer_open(&h);

    atomic_store(&cut, 0);
    atomic_store(&written, 0);
    peer_say(fd, "GET /much HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int before = -1; before != atomic_load(&written) || before < 1;) {
        before = atomic_load(&written);
        nap(200);
    }
    house_settle(&h);
    clock_advance(&clock, SECONDS(31));
    EVENTUALLY(atomic_load(&cut) == 1);
    house_threads_done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_streams_in_chunks_and_the_connection_stays),
        cmocka_unit_test(to_http_1_0_a_stream_ends_with_the_connection),
        cmocka_unit_test(a_head_request_to_a_stream_gets_its_head),
        cmocka_unit_test(events_arrive_as_they_are_written),
        cmocka_unit_test(a_stream_that_is_not_whole_has_no_last_chunk_and_closes),
        cmocka_unit_test(a_reader_that_leaves_ends_its_stream),
        cmocka_unit_test(draining_gives_streams_their_end),
        cmocka_unit_test(a_waiting_writer_keeps_to_its_readers_pace),
        cmocka_unit_test(a_waiting_writer_is_woken_when_its_reader_leaves),
        cmocka_unit_test(one_write_may_be_larger_than_all_that_is_held),
        cmocka_unit_test(a_writer_is_told_of_room_once_and_of_a_reader_that_left),
        cmocka_unit_test(a_settled_head_says_the_same),
        cmocka_unit_test(a_reader_too_slow_is_cut_off),
        cmocka_unit_test(a_reader_that_takes_nothing_times_out),
    };

    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
