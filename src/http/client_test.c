/* SPDX-License-Identifier: Apache-2.0 */
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
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
