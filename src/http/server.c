/* SPDX-License-Identifier: Apache-2.0 */
/* The server as a whole: its threads, its listeners, its end. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "http/internal.h"
#include "os/thread.h"

const struct http_limits http_limits_default = {
    .max_head = KIB(16),
    .max_path = KIB(8),
    .max_connections = 10000,
    .head_timeout = SECONDS(10),
    .body_timeout = SECONDS(30),
    .body_rate = 1024,
    .idle_timeout = SECONDS(75),
    .write_timeout = SECONDS(30),
    .drain_timeout = SECONDS(30),
};

/* ---- listening */

static int listen_unix(const char *path, int backlog, struct err *e)
{
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    struct stat st;

    if (strlen(path) >= sizeof(un.sun_path))
        return err_set(e, ERR_INVALID, "the socket's path %s is too long", path);
    memcpy(un.sun_path, path, strlen(path));
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    /* A socket on which nobody listens any more is swept away, nothing else. */
    if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0 && errno == ECONNREFUSED)
        unlink(path);
    if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, backlog) < 0)
        return err_sys(e, errno, "listen on unix:%s", path);
    return TAKE_FD(fd);
}

static socklen_t address_of(const char *text, int port, struct sockaddr_storage *out)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
    struct ip ip;

    if (!ip_parse(str_of(text), &ip))
        return 0;
    if (ip.family == 4) {
        memcpy(&in.sin_addr, ip.b, 4);
        memcpy(out, &in, sizeof(in));
        return sizeof(in);
    }
    memcpy(&in6.sin6_addr, ip.b, 16);
    memcpy(out, &in6, sizeof(in6));
    return sizeof(in6);
}

int http_listen(const char *address, int port, int backlog, struct err *e)
{
    struct sockaddr_storage ss = { 0 };
    int one = 1;

    if (strncmp(address, "unix:", 5) == 0)
        return listen_unix(address + 5, backlog, e);
    if (port < 0 || port > 65535)
        return err_set(e, ERR_INVALID, "port %d is out of range", port);
    socklen_t n = address_of(address, port, &ss);
    if (n == 0)
        return err_set(e, ERR_INVALID, "%s is no IP address to listen on", address);
    _cleanup_close_ int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, errno, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&ss, n) < 0 || listen(fd, backlog) < 0)
        return err_sys(e, errno, "listen on %s port %d", address, port);
    return TAKE_FD(fd);
}

int http_listen_port(int fd)
{
    struct sockaddr_storage ss = { 0 };
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    socklen_t n = sizeof(ss);

    if (getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
        return -1;
    memcpy(&in, &ss, sizeof(in));
    memcpy(&in6, &ss, sizeof(in6));
    if (ss.ss_family == AF_INET)
        return ntohs(in.sin_port);
    return ss.ss_family == AF_INET6 ? ntohs(in6.sin6_port) : -1;
}

/* ---- birth */

static int open_all(struct http_server *s, struct err *e)
{
    const struct http_opts *o = &s->opts;
    int one = 1;

    if (o->tls_cert) {
        void *ctx = tls_ctx_new(o->tls_cert, o->tls_key, e);
        if (!ctx)
            return -1;
        s->ssl_ctx = ctx;
    }
    /* Connections inherit it; no system call for each. */
    for (size_t i = 0; i < o->n_listeners; i++)
        setsockopt(o->listeners[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (int i = 0; i < o->threads; i++) {
        s->ios[i].epoll = s->ios[i].wake.fd = s->ios[i].spare = -1;
        s->threads = i + 1;
        TRY(io_open(&s->ios[i], s, i, e));
    }
    return 0;
}

static void close_ios(struct http_server *s)
{
    for (int i = 0; i < s->threads; i++)
        io_close(&s->ios[i]);
    tls_ctx_free(s->ssl_ctx);
    pthread_mutex_destroy(&s->tls_lock);
    pthread_mutex_destroy(&s->peers_lock);
    fair_free(s->peers);
    free(s->ios);
    free(s);
}

struct http_server *http_server_new(const struct http_opts *o, struct err *e)
{
    if (o->threads < 1) {
        err_set(e, ERR_INVALID, "the HTTP server needs at least one thread");
        return NULL;
    }
    struct http_server *s = calloc(1, sizeof(*s));
    if (!s || !(s->ios = calloc((size_t)o->threads, sizeof(*s->ios))))
        abort();
    s->opts = *o;
    pthread_mutex_init(&s->tls_lock, NULL);
    pthread_mutex_init(&s->peers_lock, NULL);
    s->limits = o->limits;
    s->peers = fair_new(MAX(s->limits.max_connections, 1), 1);
    s->clock = o->clock ? o->clock : clock_system();
    s->fake_clock = s->clock != clock_system();
    s->in_large = s->limits.max_head + KIB(20);
    if (open_all(s, e) < 0) {
        close_ios(s);
        return NULL;
    }
    if (o->app.on_open)
        o->app.on_open(o->app.ctx, s);
    for (int i = 0; i < s->threads; i++) {
        char name[16];
        snprintf(name, sizeof(name), "http-%d", i);
        s->ios[i].thread = thread_start(name, io_loop, &s->ios[i]);
    }
    return s;
}

/* ---- end */

static void nudge(struct io *io)
{
    uint64_t one = 1;
    ssize_t n = write(io->wake.fd, &one, sizeof(one));

    (void)n; /* it fails only when it is readable anyway */
}

void http_server_drain(struct http_server *s)
{
    for (int i = 0; i < s->threads; i++) {
        struct io *io = &s->ios[i];
        pthread_mutex_lock(&io->lock);
        io->want_drain = true;
        pthread_mutex_unlock(&io->lock);
        nudge(io);
    }
    for (int i = 0; i < s->threads; i++) {
        struct io *io = &s->ios[i];
        pthread_mutex_lock(&io->lock);
        while (!io->is_drained)
            pthread_cond_wait(&io->drained, &io->lock);
        pthread_mutex_unlock(&io->lock);
    }
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->threads; i++) {
        struct io *io = &s->ios[i];
        pthread_mutex_lock(&io->lock);
        io->want_stop = true;
        pthread_mutex_unlock(&io->lock);
        nudge(io);
    }
    for (int i = 0; i < s->threads; i++)
        pthread_join(s->ios[i].thread, NULL);
    close_ios(s);
}

void http_server_stats(const struct http_server *s, struct http_stats *out)
{
    *out = (struct http_stats){ 0 };
    for (int i = 0; i < s->threads; i++) {
        const struct io *io = &s->ios[i];
        out->requests += atomic_load_explicit(&io->requests, memory_order_relaxed);
        out->bytes_in += atomic_load_explicit(&io->bytes_in, memory_order_relaxed);
        out->bytes_out += atomic_load_explicit(&io->bytes_out, memory_order_relaxed);
    }
    out->connections = atomic_load(&s->open);
}

void http_server_peers(struct http_server *s, struct fair_counts *out)
{
    pthread_mutex_lock(&s->peers_lock);
    fair_counts(s->peers, out);
    pthread_mutex_unlock(&s->peers_lock);
}
