/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "codec/http1.h"

static struct http_head head;
static struct err err;
static bool not_http;

static enum http1_result parse_n(const char *p, size_t n)
{
    not_http = false;
    memset(&err, 0, sizeof(err));
    return http1_parse((struct str){ p, n }, KIB(16), KIB(8), &head, &not_http, &err);
}

static enum http1_result parse(const char *text)
{
    return parse_n(text, strlen(text));
}

/* Status with which 'text' is refused; 200 if it is not; 100 if more is wanted. */
static int status(const char *text)
{
    enum http1_result r = parse(text);

    return r == HTTP1_OK ? 200 : r == HTTP1_MORE ? 100 : err_status(err.code);
}

static void a_head_is_read_into_its_parts(void **state _unused_)
{
    const char *text = "POST /a%20b/c?x=1?y HTTP/1.1\r\nHost: a.example:8080\r\n"
                       "Content-Length: 12\r\nX-Empty:\r\nX-Space: \t a  b \t\r\n\r\nbody";

    assert_int_equal(parse(text), HTTP1_OK);
    assert_int_equal(head.method, POST);
    assert_true(str_is(head.method_text, "POST"));
    assert_true(str_is(head.target, "/a%20b/c?x=1?y"));
    assert_true(str_is(head.path, "/a%20b/c"));
    assert_true(str_is(head.query, "x=1?y"));
    assert_true(str_is(head.host, "a.example:8080"));
    assert_int_equal(head.minor, 1);
    assert_int_equal(head.content_length, 12);
    assert_false(head.chunked);
    assert_true(head.keep_alive);
    assert_int_equal(head.n_headers, 4);
    assert_int_equal(head.size, strlen(text) - 4);
    assert_true(str_is(http1_header(&head, "x-space"), "a  b"));
    assert_int_equal(http1_header(&head, "x-empty").n, 0);
    assert_non_null(http1_header(&head, "x-empty").p);
    assert_null(http1_header(&head, "x-none").p);
    assert_int_equal(http1_header_count(&head, "host"), 1);
}

static void every_prefix_of_a_head_wants_more(void **state _unused_)
{
    static const char text[] = "\r\nDELETE http://h/x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                               "Chunked\r\nConnection: close\r\nExpect: 100-Continue\r\n\r\n";

    for (size_t n = 0; n < sizeof(text) - 1; n++)
        if (parse_n(text, n) != HTTP1_MORE)
            fail_msg("%zu bytes are not enough", n);
    assert_int_equal(parse(text), HTTP1_OK);
    assert_true(head.chunked);
    assert_true(head.expect_continue);
    assert_false(head.keep_alive);
    assert_true(str_is(head.host, "h"));
    assert_true(str_is(head.target, "/x?y"));
}

static void targets_have_four_forms_of_which_three_are_served(void **state _unused_)
{
    assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_OK);
    assert_true(str_is(head.path, "*"));
    assert_int_equal(status("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"), 501);
    assert_int_equal(parse("GET HTTP://[::1]:80 HTTP/1.1\r\nHost: other\r\n\r\n"), HTTP1_OK);
    assert_true(str_is(head.path, "/"));
    assert_true(str_is(head.host, "[::1]:80"));
    assert_int_equal(status("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

static void lines_are_strict(void **state _unused_)
{
    assert_int_equal(status("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400);
    assert_false(not_http);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"), 400);
    assert_int_equal(status("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(parse_n("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 38), HTTP1_BAD);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~0Az: b\r\n\r\n"), 200);
    assert_int_equal(parse("GET / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\r\n\r\n"), HTTP1_OK);
}

static void versions_are_two(void **state _unused_)
{
    assert_int_equal(status("GET / HTTP/1.0\r\n\r\n"), 200);
    assert_false(head.keep_alive);
    assert_int_equal(status("GET / HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n"), 200);
    assert_true(head.keep_alive);
    assert_int_equal(status("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), 505);
    assert_int_equal(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_int_equal(status("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/x\r\nHost: a\r\n\r\n"), 400);
    assert_false(not_http);
    assert_int_equal(status("GET / http/1.1\r\nHost: a\r\n\r\n"), 400);
    assert_true(not_http);
    assert_int_equal(status("GET /\r\n"), 400);
    assert_true(not_http);
    assert_int_equal(status("\x16\x03\x01"), 400);
    assert_true(not_http);
}

static void a_host_is_given_once_and_well_formed(void **state _unused_)
{
    static const char *const bad[] = { "",         "a b",  "a/b", "u@a",   "a:x",
                                       "a:123456", "[::1", "[]",  "a,b c", "a\\b" };
    static const char *const good[] = { "a",         "a.b-c_d", "a:",         "a:80",
                                        "1.2.3.4:1", "[::1]",   "[fe80::1]:9" };
    char text[200];

    assert_int_equal(status("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), 400);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", bad[i]);
        if (status(text) != 400)
            fail_msg("%s was taken", bad[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", good[i]);
        if (status(text) != 200)
            fail_msg("%s was refused", good[i]);
    }
}

static int framed(const char *fields)
{
    char text[400];

    snprintf(text, sizeof(text), "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", fields);
    return status(text);
}

static void framing_is_never_ambiguous(void **state _unused_)
{
    assert_int_equal(framed("Content-Length: 0"), 200);
    assert_int_equal(framed("Content-Length: 007"), 200);
    assert_int_equal(head.content_length, 7);
    assert_int_equal(framed("Content-Length: +1"), 400);
    assert_int_equal(framed("Content-Length: -1"), 400);
    assert_int_equal(framed("Content-Length: 0x1"), 400);
    assert_int_equal(framed("Content-Length: 1 2"), 400);
    assert_int_equal(framed("Content-Length: 1,1"), 400);
    assert_int_equal(framed("Content-Length:"), 400);
    assert_int_equal(framed("Content-Length: 999999999999999999"), 200);
    assert_int_equal(framed("Content-Length: 9999999999999999999"), 400);
    assert_int_equal(framed("Content-Length: 18446744073709551617"), 400);
    assert_int_equal(framed("Content-Length: 1\r\nContent-Length: 1"), 400);
    assert_int_equal(framed("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400);
    assert_int_equal(framed("Transfer-Encoding: chunked\r\nContent-Length: 1"), 400);
    assert_int_equal(framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400);
    assert_int_equal(framed("Transfer-Encoding: chunked, chunked"), 400);
    assert_int_equal(framed("Transfer-Encoding: identity"), 400);
    assert_int_equal(framed("Transfer-Encoding: xchunked"), 400);
    assert_int_equal(framed("Transfer-Encoding: chunked, identity"), 400);
    assert_int_equal(framed("Transfer-Encoding: gzip, chunked"), 501);
    assert_int_equal(framed("Transfer-Encoding:\x0b"
                            "chunked"),
                     400);
    assert_int_equal(framed("Transfer-Encoding : chunked"), 400);
    assert_int_equal(framed("Transfer-Encoding:"), 400);
    assert_int_equal(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

static void an_upgrade_needs_both_fields(void **state _unused_)
{
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
                            "Upgrade: h2c, WebSocket\r\n\r\n"),
                     200);
    assert_true(head.upgrade_websocket);
    assert_int_equal(status("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"), 200);
    assert_false(head.upgrade_websocket);
    assert_int_equal(framed("Upgrade: websocket\r\nConnection: upgrade"), 200);
    assert_false(head.upgrade_websocket);
}

static void sizes_have_their_limits(void **state _unused_)
{
    struct buf b = BUF(MIB(1));

    buf_puts(&b, "GET /");
    for (int i = 0; i < 8191; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status(buf_cstr(&b)), 200);
    buf_clear(&b);
    buf_puts(&b, "GET /");
    for (int i = 0; i < 8192; i++)
        buf_putc(&b, 'x');
    assert_int_equal(status(buf_cstr(&b)), 414);
    buf_puts(&b, " HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(status(buf_cstr(&b)), 414);
    buf_clear(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 63; i++)
        buf_printf(&b, "x%d: y\r\n", i);
    size_t n = b.n;
    buf_puts(&b, "\r\n");
    assert_int_equal(status(buf_cstr(&b)), 200);
    b.n = n;
    buf_puts(&b, "x63: y\r\n\r\n");
    assert_int_equal(status(buf_cstr(&b)), 431);
    buf_clear(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
    while (b.n < KIB(16) - 4)
        buf_putc(&b, 'y');
    buf_puts(&b, "\r\n\r\n");
    assert_int_equal(b.n, KIB(16));
    assert_int_equal(status(buf_cstr(&b)), 200);
    b.n -= 4;
    buf_puts(&b, "y\r\n\r\n");
    assert_int_equal(status(buf_cstr(&b)), 431);
    b.n -= 4;
    buf_puts(&b, "yyyyy");
    assert_int_equal(status(buf_cstr(&b)), 431);
    assert_int_equal(status("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n"),
                     501);
    buf_free(&b);
}

/* ---- chunked */

/* Decodes 'text' fed 'step' bytes at a time; the data joined in 'out'. Returns the last result. */
static enum http1_result decode(const char *text, size_t n, size_t step, char *out, size_t *out_n,
                                size_t *consumed)
{
    struct http1_chunked c = { 0 };
    enum http1_result r = HTTP1_MORE;
    size_t at = 0, used;
    struct str data;

    *out_n = 0;
    while (r == HTTP1_MORE && at < n) {
        r = http1_chunked(&c, (struct str){ text + at, MIN(step, n - at) }, &used, &data, &err);
        memcpy(out + *out_n, data.p, data.n);
        *out_n += data.n;
        at += used;
    }
    *consumed = at;
    return r;
}

static void chunks_come_out_joined_however_they_are_cut(void **state _unused_)
{
    static const char text[] = "5\r\nhello\r\n1;a=\"b\"\r\n,\r\n00A\r\n the rest!\r\n"
                               "0;last\r\nX-T: v\r\nY: \r\n\r\nGET /";
    char out[100];
    size_t n, used;

    for (size_t step = 1; step < sizeof(text); step++) {
        assert_int_equal(decode(text, sizeof(text) - 1, step, out, &n, &used), HTTP1_OK);
        assert_int_equal(used, sizeof(text) - 1 - 5);
        assert_int_equal(n, 16);
        assert_memory_equal(out, "hello, the rest!", 16);
    }
}

static void malformed_chunks_are_refused(void **state _unused_)
{
    static const char *const bad[] = {
        "\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "+5\r\nhello\r\n",
        "-5\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhelloo\r\n",
        "5\r\nhell\r\n",
        "g\r\n",
        ";a\r\n",
        "1000000000000000\r\n",
        "5;a\nb\r\n",
        "5;\x01\r\n",
        "5;\r\nhello\r\n",
        "5; \r\nhello\r\n",
        "5;;a\r\nhello\r\n",
        "5;=b\r\nhello\r\n",
        "5;a=\r\nhello\r\n",
        "5;a= ;b\r\nhello\r\n",
        "5;a \r\nhello\r\n",
        "5;a=b \r\nhello\r\n",
        "5;a b\r\nhello\r\n",
        "5;a=b c\r\nhello\r\n",
        "5;a=b=c\r\nhello\r\n",
        "5;a,b\r\nhello\r\n",
        "5;\"a\"\r\nhello\r\n",
        "5;a=\"b\r\nhello\r\n",
        "5;a=\"b\"c\r\nhello\r\n",
        "5;a=b\"c\"\r\nhello\r\n",
        "5;a=\"\\\"\r\nhello\r\n",
        "5;a=\"\x01\"\r\nhello\r\n",
        "5;a=\"\\\x01\"\r\nhello\r\n",
        "5;a=\xe4\r\nhello\r\n",
        "5 a\r\nhello\r\n",
        " ;a\r\n",
        "5\r\r\nhello",
        "0\r\n\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na b: c\r\n\r\n",
        "0\r\na: b\nc: d\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\na\r\n\r\n",
        "5\xc2\xa0\r\n",
    };
    char out[100];
    size_t n, used;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t step = 1; step < 10; step++)
            if (decode(bad[i], strlen(bad[i]), step, out, &n, &used) != HTTP1_BAD)
                fail_msg("case %zu was taken", i);
}

static void extensions_are_read_by_their_grammar(void **state _unused_)
{
    static const char *const good[] = {
        "",
        ";a",
        ";a=b",
        ";a=\"\"",
        ";a=\"b;c=d\"",
        ";a=\"\\\"\\\\\\\t\\\xe4\"",
        ";a=\"\xe4 \t\x7e\";b",
        ";a;b=c;d=\"e\"",
        " ;\ta \t=  b\t;c",
        "\t; a = \"b\" ; c",
        ";!#$%&'*+-.^_`|~09aZ=!#$%&'*+-.^_`|~09aZ",
    };
    char out[100];
    size_t n, used;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char text[200];
        int len = snprintf(text, sizeof(text), "5%s\r\nhello\r\n0%s\r\n\r\n", good[i], good[i]);

        for (size_t step = 1; step < 12; step++) {
            if (decode(text, (size_t)len, step, out, &n, &used) != HTTP1_OK)
                fail_msg("case %zu was refused", i);
            assert_int_equal(used, len);
            assert_int_equal(n, 5);
        }
    }
}

static void extensions_and_trailers_are_bounded(void **state _unused_)
{
    struct buf b = BUF(MIB(1));
    static char out[100];
    size_t n, used;

    buf_puts(&b, "1;");
    for (int i = 0; i < 2000; i++)
        buf_putc(&b, 'x');
    assert_int_equal(decode(b.p, b.n, b.n, out, &n, &used), HTTP1_BAD);
    buf_clear(&b);
    buf_puts(&b, "0\r\n");
    for (int i = 0; i < 2000; i++)
        buf_puts(&b, "x: yyyyyy\r\n");
    assert_int_equal(decode(b.p, b.n, b.n, out, &n, &used), HTTP1_BAD);
    buf_free(&b);
}

static void a_trailer_is_no_field_of_the_head(void **state _unused_)
{
    static const char *const refused[] = {
        "Content-Length: 0x",
        "content-length: 5",
        "Transfer-Encoding: chunked",
        "HOST: b",
        "Authorization: x",
        "Proxy-Authorization: x",
        "If-Unmodified-Since: x",
        "TE: trailers",
        "Cookie: a=b",
    };
    static const char *const taken[] = {
        "Content-Lengths: 5",
        "Content-Lengt: 5",
        "X-Content-Length: 5",
        "Hos: b",
        "T: x",
        "E-Tag: 1",
        "Proxy-Authorizations: x",
        "A-name-that-is-longer-than-all-that-are-known-here: x",
    };
    char out[100], text[200];
    size_t n, used;

    for (size_t step = 1; step < 10; step++) {
        for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
            snprintf(text, sizeof(text), "1\r\nx\r\n0\r\nX-Sum: 1\r\n%s\r\n\r\n", refused[i]);
            if (decode(text, strlen(text), step, out, &n, &used) != HTTP1_BAD)
                fail_msg("%s was taken", refused[i]);
        }
        for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
            snprintf(text, sizeof(text), "1\r\nx\r\n0\r\n%s\r\n%s\r\n\r\n", taken[i], taken[i]);
            if (decode(text, strlen(text), step, out, &n, &used) != HTTP1_OK || n != 1)
                fail_msg("%s was refused", taken[i]);
        }
    }
}

static void methods_have_their_names(void **state _unused_)
{
    for (int m = GET; m <= OPTIONS; m++)
        assert_int_equal(method_parse(str_of(method_name((enum method)m))), m);
    assert_int_equal(method_parse(STR("get")), METHOD_OTHER);
    assert_int_equal(method_parse(STR("TRACE")), METHOD_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_read_into_its_parts),
        cmocka_unit_test(every_prefix_of_a_head_wants_more),
        cmocka_unit_test(targets_have_four_forms_of_which_three_are_served),
        cmocka_unit_test(lines_are_strict),
        cmocka_unit_test(versions_are_two),
        cmocka_unit_test(a_host_is_given_once_and_well_formed),
        cmocka_unit_test(framing_is_never_ambiguous),
        cmocka_unit_test(an_upgrade_needs_both_fields),
        cmocka_unit_test(sizes_have_their_limits),
        cmocka_unit_test(chunks_come_out_joined_however_they_are_cut),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(extensions_are_read_by_their_grammar),
        cmocka_unit_test(extensions_and_trailers_are_bounded),
        cmocka_unit_test(a_trailer_is_no_field_of_the_head),
        cmocka_unit_test(methods_have_their_names),
    };

    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
