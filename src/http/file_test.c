/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "tests/http/peer.h"

enum { SIZE = 6 * 1024 * 1024 };

static int on_disk = -1;

/* On a disk, whole, and nowhere else. */
static int make_file(void **state _unused_)
{
    static char bytes[SIZE];

    on_disk = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)('a' + i / 1000 % 26);
    return write(on_disk, bytes, SIZE) == SIZE && fsync(on_disk) == 0 ? 0 : -1;
}

static int drop_file(void **state _unused_)
{
    return close(on_disk);
}

static void forget(void)
{
    assert_int_equal(posix_fadvise(on_disk, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static void file(struct http_req *r)
{
    http_reply_file(r, 200, dup(on_disk), 0, SIZE);
}

static void hello(struct http_req *r)
{
    http_reply(r, 200, STR("hello"));
}

static void longer(struct http_req *r)
{
    http_reply_file(r, 200, dup(on_disk), SIZE - 10, 20);
}

static const struct spot spots[] = { { "/file", file }, { "/", hello }, { "/longer", longer } };

static void is_the_file(const struct answer *a)
{
    assert_int_equal(a->n, SIZE);
    for (size_t i = 0; i < a->n; i++)
        if (a->body[i] != (char)('a' + i / 1000 % 26))
            fail_msg("byte %zu is %c", i, a->body[i]);
}

/* ---- an application with one slow thread */

static _Atomic int asked, refusing;
static _Atomic(struct http_req *) held;

static bool cold(void *ctx _unused_, struct http_req *r)
{
    atomic_fetch_add(&asked, 1);
    if (atomic_load(&refusing) > 0) {
        atomic_fetch_sub(&refusing, 1);
        return false;
    }
    elsewhere(r, http_file_warm);
    return true;
}

static bool cold_held(void *ctx _unused_, struct http_req *r)
{
    atomic_store(&held, r);
    return true;
}

static void what_is_not_in_memory_is_read_elsewhere(void **state _unused_)
{
    HOUSE(h);
    ANSWER(a);
    ANSWER(b);

    h.cold = cold;
    atomic_store(&asked, 0);
    house_open(&h, spots, ARRAY_LEN(spots));
    forget();
    assert_int_equal(once(&h, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
    is_the_file(&a);
    int first = atomic_load(&asked);
    assert_in_range(first, 1, SIZE / (1024 * 1024) + 1);
    assert_int_equal(once(&h, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n", &b), 200);
    is_the_file(&b);
    assert_int_equal(atomic_load(&asked), first); /* now it is in memory */
    house_threads_done();
}

static void without_a_thread_it_is_asked_for_again(void **state _unused_)
{
    HOUSE(h);
    ANSWER(a);

    h.cold = cold;
    atomic_store(&refusing, 3);
    house_open(&h, spots, ARRAY_LEN(spots));
    forget();
    assert_int_equal(once(&h, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
    is_the_file(&a);
    assert_int_equal(atomic_load(&refusing), 0);
    house_threads_done();
}

static void an_application_without_threads_is_served_too(void **state _unused_)
{
    HOUSE(h);
    ANSWER(a);

    house_open(&h, spots, ARRAY_LEN(spots));
    forget();
    assert_int_equal(once(&h, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n", &a), 200);
    is_the_file(&a);
}

static struct http_req *wait_held(void)
{
    EVENTUALLY(atomic_load(&held) != NULL);
    return atomic_exchange(&held, NULL);
}

static void while_the_disk_is_waited_for_others_are_served(void **state _unused_)
{
    HOUSE(h);
    ANSWER(a);
    ANSWER(b);

    h.threads = 1;
    h.cold = cold_held;
    house_open(&h, spots, ARRAY_LEN(spots));
    forget();
    _cleanup_close_ int fd = peer_open(&h);
    peer_say(fd, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_held();
    for (int i = 0; i < 10; i++) {
        answer_free(&b);
        assert_int_equal(once(&h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &b), 200);
    }
    /* The rest is read by whoever is asked. */
    for (int left = SIZE / (1024 * 1024); left > 0; left--) {
        http_file_warm(r);
        nap(20);
        if (!(r = atomic_exchange(&held, NULL)))
            break;
    }
    if (r)
        http_file_warm(r);
    assert_true(peer_answer(fd, &a));
    is_the_file(&a);
}

static void a_peer_that_leaves_while_the_disk_is_waited_for(void **state _unused_)
{
    HOUSE(h);
    ANSWER(b);

    h.threads = 1;
    h.cold = cold_held;
    house_open(&h, spots, ARRAY_LEN(spots));
    forget();
    int fd = peer_open(&h);
    peer_say(fd, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
    struct http_req *r = wait_held();
    struct linger now = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
    EVENTUALLY(atomic_load(&h.given_up) == 1);
    http_file_warm(r);
    assert_int_equal(once(&h, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &b), 200);
}

static void a_file_that_ends_early_costs_the_connection(void **state _unused_)
{
    HOUSE(h);

    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int fd = peer_open(&h);
    char text[4096];
    ssize_t got, sum = 0;

    peer_say(fd, "GET /longer HTTP/1.1\r\nHost: a\r\n\r\n");
    while ((got = recv(fd, text + sum, sizeof(text) - 1 - (size_t)sum, 0)) > 0)
        sum += got;
    text[sum] = '\0';
    assert_non_null(strstr(text, "Content-Length: 20\r\n"));
    assert_int_equal(strlen(strstr(text, "\r\n\r\n") + 4), 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_in_memory_is_read_elsewhere),
        cmocka_unit_test(without_a_thread_it_is_asked_for_again),
        cmocka_unit_test(an_application_without_threads_is_served_too),
        cmocka_unit_test(while_the_disk_is_waited_for_others_are_served),
        cmocka_unit_test(a_peer_that_leaves_while_the_disk_is_waited_for),
        cmocka_unit_test(a_file_that_ends_early_costs_the_connection),
    };

    return cmocka_run_group_tests(tests, make_file, drop_file);
}
