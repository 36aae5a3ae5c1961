/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "http/client.h"
#include "tests/http/peer.h"

/* ---- the application: says what it was asked */

static void collected(void *ctx _unused_, struct http_req *r, struct str body, struct err *e)
{
    const struct http_head *h = http_req_head(r);
    struct buf b = BUF(MIB(8));

    if (e) {
        http_reply(r, err_status(e->code), str_of(e->msg));
        return;
    }
    buf_printf(&b, "%.*s %.*s %.*s [%.*s] ", STR_ARG(h->method_text), STR_ARG(h->target),
               STR_ARG(http1_header(h, "x-one")), STR_ARG(http1_header(h, "content-type")));
    buf_put(&b, body.p, body.n);
    http_header(r, "X-Reply", "  spaced ");
    http_header(r, "X-Empty", "");
    http_reply_buf(r, 203, &b);
}

static void tell(struct http_req *r)
{
    http_body_collect(r, MIB(8), collected, NULL);
}

static void away(struct http_req *r)
{
    http_header(r, "Location", "/tell");
    http_reply(r, 302, STR(""));
}

static void big(struct http_req *r)
{
    static const char block[100000];

    http_reply(r, 200, (struct str){ block, sizeof(block) });
}

static _Atomic(struct http_req *) parked;
static void park(struct http_req *r)
{
    atomic_store(&parked, r);
}

static const struct spot spots[] = {
    { "/tell", tell }, { "/away", away }, { "/big", big }, { "/park", park }
};

static struct client_response out;
static struct err err;

#define OPEN(h)                                                \
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(32)); \
    HOUSE(h);                                                  \
    house_open(&h, spots, ARRAY_LEN(spots))

static const char *url(const struct house *h, const char *path)
{
    static char text[200];

    snprintf(text, sizeof(text), "http://127.0.0.1:%d%s", h->port, path);
    return text;
}

/* ---- tests */

static void a_request_goes_out_as_it_was_given(void **state _unused_)
{
    OPEN(h);
    struct client_header one = { "X-One", "1" };
    struct client_request q = { .method = "POST",
                                .url = url(&h, "/tell?a=b"),
                                .headers = &one,
                                .n_headers = 1,
                                .body = STR("the body") };

    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_int_equal(out.status, 203);
    assert_string_equal(out.body.p, "POST /tell?a=b 1 [] the body");
    assert_string_equal(client_header(&out, "x-reply"), "spaced");
    assert_string_equal(client_header(&out, "x-empty"), "");
    assert_null(client_header(&out, "x-none"));
    q.method = "DELETE";
    q.body = (struct str){ NULL, 0 };
    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_string_equal(out.body.p, "DELETE /tell?a=b 1 [] ");
    q.method = "HEAD";
    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_int_equal(out.body.n, 0);
}

static void a_file_can_be_the_body(void **state _unused_)
{
    OPEN(h);
    struct client_header type = { "Content-Type", "a/b" };
    struct client_request q = {
        .method = "PUT", .url = url(&h, "/tell"), .headers = &type, .n_headers = 1
    };
    FILE *f = tmpfile();

    assert_non_null(f);
    fputs("from a file", f);
    rewind(f);
    q.upload_fd = fileno(f);
    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_string_equal(out.body.p, "PUT /tell  [a/b] from a file");
    fclose(f);
}

static void redirects_are_shown_not_followed(void **state _unused_)
{
    OPEN(h);
    struct client_request q = { .method = "GET", .url = url(&h, "/away") };

    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_int_equal(out.status, 302);
    assert_string_equal(client_header(&out, "location"), "/tell");
}

static void the_environment_names_no_proxy(void **state _unused_)
{
    OPEN(h);
    struct client_request q = { .method = "GET", .url = url(&h, "/tell") };

    setenv("http_proxy", "http://127.0.0.1:1", 1);
    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    unsetenv("http_proxy");
    assert_int_equal(out.status, 203);
}

static void an_answer_has_its_maximum(void **state _unused_)
{
    OPEN(h);
    struct client_request q = { .method = "GET", .url = url(&h, "/big"), .max_body = 1000 };

    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    q.max_body = 100000;
    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_int_equal(out.body.n, 100000);
    /* Nor can it be larger than the arena that is to hold it. */
    _cleanup_(arena_free) struct arena small = ARENA(KIB(300));
    assert_int_equal(client_do(&small, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

static int count(void *ctx, struct str data)
{
    size_t *n = ctx;

    *n += data.n;
    return 0;
}

static int stop(void *ctx _unused_, struct str data _unused_)
{
    return -1;
}

static void an_answer_can_be_streamed_and_stopped(void **state _unused_)
{
    OPEN(h);
    size_t n = 0;
    struct client_request q = {
        .method = "GET", .url = url(&h, "/big"), .on_data = count, .ctx = &n
    };

    assert_int_equal(client_do(&arena, &q, &out, &err), 0);
    assert_int_equal(n, 100000);
    assert_int_equal(out.body.n, 0);
    q.on_data = stop;
    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_ENGINE_UNAVAILABLE);
}

static void what_cannot_be_reached_is_an_error_in_time(void **state _unused_)
{
    OPEN(h);
    struct client_request q = { .method = "GET", .url = url(&h, "/park"), .timeout = MILLIS(200) };

    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_ENGINE_UNAVAILABLE);
    assert_true(out.reason[0] != '\0');
    EVENTUALLY(atomic_load(&parked) != NULL);
    http_drop(atomic_exchange(&parked, NULL));
    q.url = "http://127.0.0.1:1/";
    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_ENGINE_UNAVAILABLE);
    q.url = "file:///etc/passwd";
    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    q.url = "nonsense://x";
    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void no_header_can_carry_another(void **state _unused_)
{
    OPEN(h);
    struct client_header evil = { "X-One", "1\r\nX-Two: 2" };
    struct client_request q = {
        .method = "GET", .url = url(&h, "/tell"), .headers = &evil, .n_headers = 1
    };

    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void a_url_for_the_public_alone_leads_to_nothing_private(void **state _unused_)
{
    OPEN(h);
    static const char *const urls[] = {
        "http://127.0.0.1:%d/tell",          "http://localhost:%d/tell",  "http://127.1:%d/tell",
        "http://2130706433:%d/tell",         "http://0x7f.0.0.1:%d/tell", "http://[::1]:%d/tell",
        "http://[::ffff:127.0.0.1]:%d/tell", "http://0.0.0.0:%d/tell",    "http://[::]:%d/tell",
        "http://[64:ff9b::7f00:1]:%d/tell",
    };
    char text[100];
    struct client_request q = { .method = "GET", .url = text, .public_only = true };

    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof(text), urls[i], h.port);
#pragma GCC diagnostic pop
        if (client_do(&arena, &q, &out, &err) == 0 || err.code != ERR_INVALID)
            fail_msg("%s: %s", text, err.msg);
        assert_string_equal(err.msg, "the URL leads to no public address");
    }
    q.unix_socket = "/dev/null";
    assert_int_equal(client_do(&arena, &q, &out, &err), -1);
    assert_int_equal(atomic_load(&h.sent), 0);
}

/* A network of its own, in which 8.8.8.8 is here. */
static int public_network(void)
{
    struct ifreq f = { .ifr_name = "lo" };
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x08080808) };
    _cleanup_close_ int fd = -1;

    if (unshare(CLONE_NEWNET) < 0)
        return -1;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(&f.ifr_addr, &in, sizeof(in));
    if (fd < 0 || ioctl(fd, SIOCSIFADDR, &f) < 0)
        return -1;
    f.ifr_flags = IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, &f);
}

static void *answer_one(void *arg)
{
    static const char text[] = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n"
                               "Content-Length: 2\r\nConnection: close\r\n\r\nhi";
    char in[1000];
    poll(&(struct pollfd){ .fd = *(int *)arg, .events = POLLIN }, 1, 10000);
    _cleanup_close_ int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0 && recv(fd, in, sizeof(in), 0) > 0)
        send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
    return NULL;
}

/* Run in a process of its own: 0, or which step failed. */
static int ask_in_public(void)
{
    _cleanup_(arena_free) struct arena arena = ARENA(MIB(32));
    struct client_request q = { .method = "GET", .public_only = true };
    struct err e;
    pthread_t t;

    if (public_network() < 0)
        return 2;
    _cleanup_close_ int fd = http_listen("8.8.8.8", 0, 8, &e);
    if (fd < 0)
        return 3;
    pthread_create(&t, NULL, answer_one, &fd);
    q.url = arena_printf(&arena, "http://8.8.8.8:%d/", http_listen_port(fd));
    if (client_do(&arena, &q, &out, &e) < 0) {
        fprintf(stderr, "%s (%s)\n", e.msg, e.cause);
        return 4;
    }
    pthread_join(t, NULL);
    return out.status == 302 && str_is(out.body, "hi") ? 0 : 5;
}

static void a_url_for_the_public_alone_leads_to_the_public_and_not_on(void **state _unused_)
{
    int status;

    if (geteuid() != 0)
        skip();
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_in_public());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_out_as_it_was_given),
        cmocka_unit_test(a_file_can_be_the_body),
        cmocka_unit_test(redirects_are_shown_not_followed),
        cmocka_unit_test(the_environment_names_no_proxy),
        cmocka_unit_test(an_answer_has_its_maximum),
        cmocka_unit_test(an_answer_can_be_streamed_and_stopped),
        cmocka_unit_test(what_cannot_be_reached_is_an_error_in_time),
        cmocka_unit_test(no_header_can_carry_another),
        cmocka_unit_test(a_url_for_the_public_alone_leads_to_nothing_private),
        cmocka_unit_test(a_url_for_the_public_alone_leads_to_the_public_and_not_on),
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
