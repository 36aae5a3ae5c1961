/* SPDX-License-Identifier: Apache-2.0 */
/* TLS by OpenSSL below the same state machine.  Hides the two ways in which TLS crosses directions:
 * a read that waits for the socket to take bytes, and a write that waits for some to come. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "http/internal.h"
#include "os/openssl.h"

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

/* TLS 1.2 with forward secrecy and authenticated encryption alone: no CBC, no key exchange by RSA.
 */
static const char suites[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

/* ---- certificate and key */

static int check_file(const char *what, const char *path, struct err *e)
{
    struct stat st;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 && errno == EACCES)
        return err_set(e, ERR_INVALID, "%s %s cannot be read by uid %d: permission denied", what,
                       path, (int)geteuid());
    if (fd < 0)
        return err_set(e, ERR_INVALID, "%s %s cannot be read: %s", what, path,
                       strerrordesc_np(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s %s is no file", what, path);
    return 0;
}

/* Nobody is there to type one; that it was asked for is the reason. */
static int no_passphrase(char *buf _unused_, int size _unused_, int writing _unused_, void *asked)
{
    *(bool *)asked = true;
    return -1;
}

/* The first of what OpenSSL tells is the cause, the rest is the way up. */
static bool failed_by(int lib, int reason)
{
    unsigned long code = ERR_peek_error();

    return ERR_GET_LIB(code) == lib && ERR_GET_REASON(code) == reason;
}

static int bad_cert(const char *cert, struct err *e)
{
    const char *why = ERR_reason_error_string(ERR_peek_error());

    if (failed_by(ERR_LIB_PEM, PEM_R_NO_START_LINE))
        err_set(e, ERR_INVALID, "the TLS certificate %s holds no certificate in PEM form", cert);
    else
        err_set(e, ERR_INVALID, "the TLS certificate %s cannot be used: %s", cert,
                why ? why : "it is damaged");
    ERR_clear_error();
    return -1;
}

static int bad_key(const char *cert, const char *key, bool asked, struct err *e)
{
    if (failed_by(ERR_LIB_X509, X509_R_KEY_VALUES_MISMATCH) ||
        failed_by(ERR_LIB_X509, X509_R_KEY_TYPE_MISMATCH) ||
        failed_by(ERR_LIB_SSL, SSL_R_NO_CERTIFICATE_ASSIGNED)) /* of that kind of key */
        err_set(e, ERR_INVALID, "the TLS key %s does not belong to the certificate %s", key, cert);
    else if (asked)
        err_set(e, ERR_INVALID, "the TLS key %s has a pass phrase: give it without one", key);
    else
        err_set(e, ERR_INVALID, "the TLS key %s holds no private key in PEM form", key);
    ERR_clear_error();
    return -1;
}

static int load(SSL_CTX *ctx, const char *cert, const char *key, struct err *e)
{
    bool asked = false;

    TRY(check_file("the TLS certificate", cert, e));
    TRY(check_file("the TLS key", key, e));
    SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        return bad_cert(cert, e);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return bad_key(cert, key, asked, e);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    return 0;
}

void *tls_ctx_new(const char *cert, const char *key, struct err *e)
{
    if (crypto_open(e) < 0 || ssl_open(e) < 0)
        return NULL;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        abort();
    ERR_clear_error();
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    if (SSL_CTX_set_cipher_list(ctx, suites) != 1)
        abort();
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
    if (ctx)
        SSL_CTX_free(ctx);
}

int http_tls_check(const char *cert, const char *key, int *days, struct err *e)
{
    SSL_CTX *ctx = tls_ctx_new(cert, key, e);
    int seconds;

    if (!ctx)
        return -1;
    if (ASN1_TIME_diff(days, &seconds, NULL, X509_get0_notAfter(SSL_CTX_get0_certificate(ctx))) !=
        1)
        *days = 0;
    else if (*days == 0 && seconds < 0)
        *days = -1;
    SSL_CTX_free(ctx);
    return 0;
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
    if (ssl)
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
