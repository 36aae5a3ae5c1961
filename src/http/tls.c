/* SPDX-License-Identifier: Apache-2.0 */
/* TLS by OpenSSL below the same state machine.  Hides the two ways in which TLS crosses directions:
 * a read that waits for the socket to take bytes, and a write that waits for some to come. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "http/internal.h"

static int choose_protocol(SSL *ssl _unused_, const unsigned char **out, unsigned char *out_n,
                           const unsigned char *in, unsigned in_n, void *arg _unused_)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;

    if (SSL_select_next_proto(&chosen, out_n, ours, sizeof(ours) - 1, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int fail(struct err *e, const char *what, const char *path)
{
    char why[120];

    ERR_error_string_n(ERR_peek_last_error(), why, sizeof(why));
    ERR_clear_error();
    return err_cause(e, ERR_INVALID, why, "%s %s cannot be used", what, path);
}

static int load(SSL_CTX *ctx, const char *cert, const char *key, struct err *e)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return fail(e, "the TLS certificate", cert);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return fail(e, "the TLS key", key);
    return 0;
}

void *tls_ctx_new(const char *cert, const char *key, struct err *e)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (!ctx)
        abort();
    ERR_clear_error();
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (load(ctx, cert, key, e) < 0) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

void tls_ctx_free(void *ctx)
{
    SSL_CTX_free(ctx);
}

void *tls_new(struct http_server *s, int fd)
{
    SSL *ssl = NULL;

    if (!s->ssl_ctx)
        return NULL;
    pthread_mutex_lock(&s->tls_lock);
    if (s->ssl_ctx && (!(ssl = SSL_new(s->ssl_ctx)) || SSL_set_fd(ssl, fd) != 1))
        abort();
    pthread_mutex_unlock(&s->tls_lock);
    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}

int http_server_tls(struct http_server *s, const char *cert, const char *key, struct err *e)
{
    void *ctx = NULL;

    if (cert && !(ctx = tls_ctx_new(cert, key, e)))
        return -1;
    pthread_mutex_lock(&s->tls_lock);
    void *old = s->ssl_ctx;
    s->ssl_ctx = ctx;
    pthread_mutex_unlock(&s->tls_lock);
    tls_ctx_free(old); /* connections that are open hold it */
    return 0;
}

void tls_free(void *ssl)
{
    SSL_free(ssl);
}

void tls_bye(struct conn *c)
{
    ERR_clear_error();
    if (SSL_is_init_finished(c->ssl))
        SSL_shutdown(c->ssl);
    ERR_clear_error();
}

/* A handshake begins with 22, a method with a letter. */
void tls_sniff(struct conn *c)
{
    unsigned char first;

    if (c->tls_seen || recv(c->source.fd, &first, 1, MSG_PEEK) != 1)
        return;
    c->tls_seen = true;
    if ((first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z'))
        tls_free(TAKE(c->ssl));
}

/* What a call that moved nothing means: -1 would block, -2 error, 0 end of input. */
static ssize_t judge(struct conn *c, int rc, bool reading)
{
    int why = SSL_get_error(c->ssl, rc);

    ERR_clear_error();
    switch (why) {
    case SSL_ERROR_WANT_READ:
        c->readable = false;
        if (!reading) {
            c->writable = false;
            c->write_wants_read = true;
        }
        return -1;
    case SSL_ERROR_WANT_WRITE:
        c->writable = false;
        if (reading) {
            c->readable = false;
            c->read_wants_write = true;
        }
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        c->ended = reading;
        c->readable = false;
        return reading ? 0 : -2;
    default:
        c->readable = c->writable = false;
        return -2;
    }
}

ssize_t tls_recv(struct conn *c, void *p, size_t n)
{
    ERR_clear_error();
    int got = SSL_read(c->ssl, p, (int)MIN(n, (size_t)1 << 30));

    c->tls_up = SSL_is_init_finished(c->ssl);
    if (got <= 0)
        return judge(c, got, true);
    c->progress = true;
    stat_add(&c->io->bytes_in, got);
    return got;
}

ssize_t tls_send(struct conn *c, const void *p, size_t n)
{
    ERR_clear_error();
    int put = SSL_write(c->ssl, p, (int)MIN(n, (size_t)1 << 30));

    return put > 0 ? put : judge(c, put, false);
}

ssize_t tls_sendfile(struct conn *c, int fd, int64_t offset, size_t n)
{
    if (!BIO_get_ktls_send(SSL_get_wbio(c->ssl)))
        return -3;
    ERR_clear_error();
    ossl_ssize_t put = SSL_sendfile(c->ssl, fd, offset, n, 0);
    return put > 0 ? put : judge(c, (int)put, false);
}
