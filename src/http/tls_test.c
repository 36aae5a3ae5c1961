/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <openssl/ssl.h>

#include <netinet/tcp.h>

#include "http/client.h"
#include "tests/http/cert.h"
#include "tests/http/peer.h"

/* ---- the application */

static void hello(struct http_req *r)
{
    http_reply(r, 200, http_req_tls(r) ? STR("secret hello") : STR("plain hello"));
}

static void collected(void *ctx _unused_, struct http_req *r, struct str body, struct err *e)
{
    if (e)
        http_reply(r, err_status(e->code), str_of(e->msg));
    else
        http_reply(r, 200, body);
}

static void echo(struct http_req *r)
{
    http_body_collect(r, MIB(4), collected, NULL);
}

static void file(struct http_req *r)
{
    FILE *f = tmpfile();

    assert_non_null(f);
    for (int i = 0; i < 3000000; i++)
        fputc('a' + i % 23, f);
    fflush(f);
    http_reply_file(r, 200, dup(fileno(f)), 5, 2999990);
    fclose(f);
}

static void stream_worker(struct http_req *r)
{
    static char block[100000];

    memset(block, 'q', sizeof(block));
    http_stream_begin(r, 200);
    for (int i = 0; i < 50; i++)
        stream_put(r, (struct str){ block, sizeof(block) });
    http_stream_end(r);
}

static void stream(struct http_req *r)
{
    elsewhere(r, stream_worker);
}

static const struct spot spots[] = {
    { "/", hello }, { "/echo", echo }, { "/file", file }, { "/stream", stream }
};

#define OPEN(h)    \
    HOUSE(h);      \
    h.cert = cert; \
    h.key = key;   \
    house_open(&h, spots, ARRAY_LEN(spots))

static int ask(const struct house *h, struct arena *a, const char *path, struct str body,
               struct client_response *out, struct err *e)
{
    char url[100];

    snprintf(url, sizeof(url), "https://127.0.0.1:%d%s", h->port, path);
    struct client_request q = {
        .method = body.p ? "POST" : "GET", .url = url, .body = body, .ca_file = cert
    };
    return client_do(a, &q, out, e);
}

/* ---- tests */

static void requests_are_served_over_tls(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    struct client_response out;
    struct err e;
    OPEN(h);

    assert_int_equal(ask(&h, &a, "/", (struct str){ 0 }, &out, &e), 0);
    assert_int_equal(out.status, 200);
    assert_true(str_is(out.body, "secret hello"));
}

static void large_bodies_pass_over_tls_both_ways(void **state _unused_)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct client_response out;
    struct err e;
    char *p = arena_alloc(&a, 3000000);
    OPEN(h);

    for (int i = 0; i < 3000000; i++)
        p[i] = (char)('a' + i % 23);
    assert_int_equal(ask(&h, &a, "/echo", (struct str){ p, 3000000 }, &out, &e), 0);
    assert_int_equal(out.body.n, 3000000);
    assert_memory_equal(out.body.p, p, 3000000);
    assert_int_equal(ask(&h, &a, "/file", (struct str){ 0 }, &out, &e), 0);
    assert_int_equal(out.body.n, 2999990);
    assert_memory_equal(out.body.p, p + 5, 2999990);
    assert_int_equal(ask(&h, &a, "/stream", (struct str){ 0 }, &out, &e), 0);
    assert_int_equal(out.body.n, 5000000);
    house_threads_done();
}

/* Shakes hands with 'protocol' offered; the one chosen in 'out', "" if none. False if it failed. */
static bool handshake(const struct house *h, int max_version, const char *protocol, char out[16])
{
    _cleanup_close_ int fd = peer_open(h);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    unsigned char list[16];
    const unsigned char *chosen;
    unsigned n = (unsigned)strlen(protocol);

    SSL_set_max_proto_version(ssl, max_version);
    SSL_set_security_level(ssl, 0);
    list[0] = (unsigned char)n;
    memcpy(list + 1, protocol, n);
    if (n)
        SSL_set_alpn_protos(ssl, list, n + 1);
    SSL_set_fd(ssl, fd);
    bool ok = SSL_connect(ssl) == 1;
    char byte;
    if (ok && SSL_write(ssl, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27) == 27)
        ok = SSL_read(ssl, &byte, 1) == 1;
    SSL_get0_alpn_selected(ssl, &chosen, &n);
    snprintf(out, 16, "%.*s", (int)n, (const char *)chosen);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return ok;
}

static void tls_1_2_and_newer_speak_http_1_1(void **state _unused_)
{
    char chosen[16];
    OPEN(h);

    assert_true(handshake(&h, TLS1_3_VERSION, "http/1.1", chosen));
    assert_string_equal(chosen, "http/1.1");
    assert_true(handshake(&h, TLS1_2_VERSION, "http/1.1", chosen));
    assert_true(handshake(&h, TLS1_3_VERSION, "", chosen));
    assert_string_equal(chosen, "");
    assert_false(handshake(&h, TLS1_1_VERSION, "http/1.1", chosen));
    assert_false(handshake(&h, TLS1_3_VERSION, "h3", chosen));
}

static void plain_http_is_seen_as_such_and_what_is_neither_is_closed(void **state _unused_)
{
    OPEN(h);
    _cleanup_close_ int fd = peer_open(&h), other = peer_open(&h);
    char text[1024] = "";
    size_t n = 0;
    ssize_t got;

    peer_say(fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)got;
    assert_non_null(strstr(text, "plain hello"));
    peer_say(other, "\x05\x01 no TLS, and no HTTP");
    assert_true(peer_ended(other));
}

/* Whether the kernel can encrypt at all. */
static bool kernel_has_tls(const struct house *h)
{
    _cleanup_close_ int fd = peer_open(h);

    return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
}

/* Whether the kernel encrypts for the server's end of 'fd', which is in this process too. */
static bool kernel_encrypts(int fd)
{
    struct sockaddr_in mine, theirs;
    socklen_t n = sizeof(mine);

    assert_int_equal(getsockname(fd, (struct sockaddr *)&mine, &n), 0);
    for (int other = 3; other < 1000; other++) {
        char name[16] = "";
        socklen_t len = sizeof(name);
        n = sizeof(theirs);
        if (getpeername(other, (struct sockaddr *)&theirs, &n) < 0 || n != sizeof(theirs) ||
            theirs.sin_family != AF_INET || theirs.sin_port != mine.sin_port)
            continue;
        return getsockopt(other, IPPROTO_TCP, TCP_ULP, name, &len) == 0 && strcmp(name, "tls") == 0;
    }
    fail_msg("the server's end is not there");
    return false;
}

/* Gets /file by TLS 1.2 in records of a size of RFC 6066 4; true if the kernel encrypted it. */
static bool get_file(const struct house *h, uint8_t size)
{
    static const char say[] = "GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    _cleanup_close_ int fd = peer_open(h);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    char block[16384], *p = malloc(MIB(4));
    size_t n = 0;
    int got;

    assert_non_null(p);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_tlsext_max_fragment_length(ctx, size), 1);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(SSL_write(ssl, say, sizeof(say) - 1), sizeof(say) - 1);
    assert_int_equal(SSL_read(ssl, p, 1), 1);
    bool kernel = kernel_encrypts(fd);
    for (n = 1; n < MIB(4) - sizeof(block) && (got = SSL_read(ssl, block, sizeof(block))) > 0;
         n += (size_t)got)
        memcpy(p + n, block, (size_t)got);
    const char *body = memmem(p, n, "\r\n\r\n", 4);
    assert_non_null(body);
    assert_int_equal((size_t)(p + n - (body + 4)), 2999990);
    for (int i = 0; i < 2999990; i++)
        if (body[4 + i] != 'a' + (i + 5) % 23)
            fail_msg("byte %d differs", i);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    free(p);
    return kernel;
}

/* The kernel makes records of full size only: with others there is no sendfile anywhere. */
static void a_file_is_the_same_whether_the_kernel_encrypts_it_or_we_do(void **state _unused_)
{
    OPEN(h);
    bool can = kernel_has_tls(&h);

    print_message("the kernel %s\n", can ? "encrypts" : "has no TLS: only our own is tested");
    assert_int_equal(get_file(&h, TLSEXT_max_fragment_length_DISABLED), can);
    assert_false(get_file(&h, TLSEXT_max_fragment_length_4096));
}

static bool shakes_hands(const struct house *h, const char *ciphers)
{
    _cleanup_close_ int fd = peer_open(h);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(ctx, ciphers), 1);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    bool yes = SSL_connect(ssl) == 1;
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return yes;
}

static void tls_1_2_is_spoken_with_authenticated_encryption_only(void **state _unused_)
{
    OPEN(h);

    assert_true(shakes_hands(&h, "ECDHE+AESGCM"));
    assert_true(shakes_hands(&h, "ECDHE+CHACHA20"));
    assert_false(shakes_hands(&h, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"));
    assert_false(shakes_hands(&h, "ALL:!AESGCM:!CHACHA20:@SECLEVEL=0"));
}

static void a_handshake_that_stands_still_times_out(void **state _unused_)
{
    struct clock clock = clock_fake(SECONDS(1000));
    struct http_stats st = { 0 };
    HOUSE(h);
    h.clock = &clock;
    h.threads = 1;
    h.cert = cert;
    h.key = key;
    house_open(&h, spots, ARRAY_LEN(spots));
    _cleanup_close_ int fd = peer_open(&h);

    EVENTUALLY((http_server_stats(h.server, &st), st.connections == 1));
    house_settle(&h);
    clock_advance(&clock, SECONDS(11));
    assert_true(peer_ended(fd));
}

static void a_certificate_that_cannot_be_used_is_refused(void **state _unused_)
{
    struct err e = { 0 };
    struct http_opts o = { .limits = http_limits_default,
                           .threads = 1,
                           .tls_cert = "/nowhere/cert.pem",
                           .tls_key = "/nowhere/key.pem" };

    assert_null(http_server_new(&o, &e));
    assert_int_equal(e.code, ERR_INVALID);
    assert_non_null(strstr(e.msg, "/nowhere/cert.pem"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_served_over_tls),
        cmocka_unit_test(large_bodies_pass_over_tls_both_ways),
        cmocka_unit_test(tls_1_2_and_newer_speak_http_1_1),
        cmocka_unit_test(plain_http_is_seen_as_such_and_what_is_neither_is_closed),
        cmocka_unit_test(a_file_is_the_same_whether_the_kernel_encrypts_it_or_we_do),
        cmocka_unit_test(tls_1_2_is_spoken_with_authenticated_encryption_only),
        cmocka_unit_test(a_handshake_that_stands_still_times_out),
        cmocka_unit_test(a_certificate_that_cannot_be_used_is_refused),
    };

    return cmocka_run_group_tests_name("tls", tests, make_certificate, remove_certificate);
}
