/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how a program is kept from internal addresses: not by looking at the name it is given (it
 * looks that up again, and is sent elsewhere by whom it asks), but by being the only way out.  A
 * thread a connection: there are few, and each waits most of the time. */
#include "drivers/image/gate.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/log.h"
#include "codec/text.h"
#include "os/address.h"
#include "os/netlink.h"
#include "os/ns.h"
#include "os/thread.h"

enum {
    CONNECTIONS = 64,
    HEAD_BYTES = 8192,
    RELAY_BYTES = 65536,
    DIAL_MS = 10000,
    HEAD_MS = 10000,
    SEND_SECONDS = 60,
    PORTS = 3
};

struct connection {
    struct gate *gate;
    pthread_t thread;
    int fd, port; /* 'port': straight to it on the local host; 0: by CONNECT */
    bool used, ended;
};

struct gate {
    char *allowed;
    char local[256];      /* host of the local registry, "" if none */
    int ns, quit;         /* 'quit': an event that stays */
    int listeners[PORTS]; /* the first is the proxy's */
    int ports[PORTS];
    size_t n_listeners;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock; /* around what follows */
    struct connection all[CONNECTIONS];
    char refusal[160];
    bool unreachable;
};

/* ---- what is allowed ---- */

bool gate_split(const char *text, char host[256], int *port)
{
    bool six = *text == '[';
    const char *end = six ? strchr(text, ']') : text + strcspn(text, ":");
    const char *from = text + six;
    int64_t number;

    if (!end || end == from || end - from > 255)
        return false;
    snprintf(host, 256, "%.*s", (int)(end - from), from);
    end += six;
    if (*end == '\0')
        return true;
    if (*end != ':' || !int_parse(str_of(end + 1), 1, 65535, &number))
        return false;
    *port = (int)number;
    return true;
}

static bool is_listed(const char *one, const char *host, int port, const struct ip *ip)
{
    char name[256];
    struct cidr net;
    int at = 0;

    if (ip && cidr_parse(str_of(one), false, &net) && cidr_contains(&net, ip))
        return true;
    return gate_split(one, name, &at) && strcasecmp(name, host) == 0 && (at == 0 || at == port);
}

bool gate_lists(const char *allowed, const char *host, int port, const struct ip *ip)
{
    struct str rest = str_of(allowed), part;
    char one[300];

    while (str_part(&rest, ',', &part)) {
        if (part.n == 0 || part.n >= sizeof(one))
            continue;
        snprintf(one, sizeof(one), STR_FMT, STR_ARG(part));
        if (is_listed(one, host, port, ip))
            return true;
    }
    return false;
}

static bool may_reach(struct gate *g, const char *host, int port, const struct ip *ip)
{
    char text[IP_TEXT];

    if (gate_lists(g->allowed, host, port, ip) || (ip_is_public(ip) && !ip_is_own(ip)))
        return true;
    ip_format(ip,
              text); /* for the log alone: names of this network are not for tenants to resolve */
    log_event(LOG_INFO, "pull_refused", L_STR("host", host), L_STR("address", text));
    return false;
}

/* ---- connections ---- */

/* False when the gate closes, or nothing comes in time. */
static bool wait_for(struct gate *g, int fd, short events, int ms)
{
    struct pollfd p[2] = { { .fd = fd, .events = events }, { .fd = g->quit, .events = POLLIN } };
    int n;

    do
        n = poll(p, 2, ms);
    while (n < 0 && errno == EINTR);
    return n > 0 && p[1].revents == 0;
}

static int dial_one(struct gate *g, const struct sockaddr *sa, socklen_t len)
{
    int why = 0;
    socklen_t n = sizeof(why);
    _cleanup_close_ int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || (connect(fd, sa, len) < 0 && errno != EINPROGRESS))
        return -1;
    if (!wait_for(g, fd, POLLOUT, DIAL_MS) || getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0 ||
        why != 0)
        return -1;
    if (fcntl(fd, F_SETFL, 0) < 0)
        return -1;
    return TAKE_FD(fd);
}

/* The one look-up: what is judged is what is connected to. */
static int dial(struct gate *g, const char *host, int port, bool *refused)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all = NULL;
    char service[8];
    struct ip ip;
    int fd = -1;

    snprintf(service, sizeof(service), "%d", port);
    *refused = false;
    if (getaddrinfo(host, service, &hints, &all) != 0)
        all = NULL;
    for (const struct addrinfo *i = all; i && fd < 0; i = i->ai_next) {
        if (!ip_of_sockaddr(i->ai_addr, &ip))
            continue;
        if (may_reach(g, host, port, &ip))
            fd = dial_one(g, i->ai_addr, i->ai_addrlen);
        else
            *refused = true;
    }
    if (all)
        freeaddrinfo(all);
    *refused = *refused && fd < 0;
    if (fd < 0) {
        pthread_mutex_lock(&g->lock);
        if (*refused)
            snprintf(g->refusal, sizeof(g->refusal), "%.60s leads to an internal address", host);
        else
            g->unreachable = true;
        pthread_mutex_unlock(&g->lock);
    }
    return fd;
}

static bool send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t did = send(fd, p, n, MSG_NOSIGNAL);
        if (did < 0 && errno == EINTR)
            continue;
        if (did <= 0)
            return false;
        p += did;
        n -= (size_t)did;
    }
    return true;
}

/* Passes on what there is; false when this direction has ended. */
static bool pass(int from, int to, char *buf, bool *broken)
{
    ssize_t n = recv(from, buf, RELAY_BYTES, 0);

    if (n > 0 && send_all(to, buf, (size_t)n))
        return true;
    if (n < 0 && errno == EINTR)
        return true;
    *broken = *broken || n != 0;
    shutdown(to, SHUT_WR);
    return false;
}

static void relay(struct gate *g, int a, int b)
{
    struct pollfd p[3] = { { a, POLLIN, 0 }, { b, POLLIN, 0 }, { g->quit, POLLIN, 0 } };
    char *buf = malloc(RELAY_BYTES);
    bool broken = false;

    if (!buf)
        abort();
    while (!broken && (p[0].fd >= 0 || p[1].fd >= 0)) {
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            break;
        if (p[2].revents)
            break;
        for (int i = 0; i < 2; i++)
            if (p[i].fd >= 0 && p[i].revents && !pass(i ? b : a, i ? a : b, buf, &broken))
                p[i].fd = -1;
    }
    free(buf);
}

/* "CONNECT host:port HTTP/1.1" and whatever fields; nothing else is spoken here. */
static bool read_request(struct gate *g, int fd, char host[256], int *port)
{
    char head[HEAD_BYTES + 1];
    size_t n = 0;

    while (n < HEAD_BYTES) {
        if (!wait_for(g, fd, POLLIN, HEAD_MS))
            return false;
        ssize_t got = recv(fd, head + n, HEAD_BYTES - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        head[n] = '\0';
        if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    char *space = strncmp(head, "CONNECT ", 8) == 0 ? strchr(head + 8, ' ') : NULL;
    if (!space || strncmp(space, " HTTP/1.", 8) != 0)
        return false;
    *space = '\0';
    *port = 443;
    return gate_split(head + 8, host, port);
}

static int reach(struct connection *c)
{
    static const char yes[] = "HTTP/1.1 200 OK\r\n\r\n";
    static const char bad[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    static const char no[] = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n";
    static const char away[] = "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n";
    char host[256];
    bool refused;
    int port;

    if (c->port)
        return dial(c->gate, c->gate->local, c->port, &refused);
    if (!read_request(c->gate, c->fd, host, &port)) {
        send_all(c->fd, bad, sizeof(bad) - 1);
        return -1;
    }
    int out = dial(c->gate, host, port, &refused);
    if (out < 0)
        refused ? send_all(c->fd, no, sizeof(no) - 1) : send_all(c->fd, away, sizeof(away) - 1);
    else if (!send_all(c->fd, yes, sizeof(yes) - 1)) {
        close(out);
        return -1;
    }
    return out;
}

static void *serve(void *ctx)
{
    struct connection *c = ctx;
    struct timeval patience = { .tv_sec = SEND_SECONDS };

    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    int out = reach(c);
    if (out >= 0) {
        setsockopt(out, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        relay(c->gate, c->fd, out);
        close(out);
    }
    close(c->fd);
    pthread_mutex_lock(&c->gate->lock);
    c->ended = true;
    pthread_mutex_unlock(&c->gate->lock);
    return NULL;
}

static void begin(struct gate *g, int fd, int port)
{
    struct connection *free_one = NULL;

    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        struct connection *c = &g->all[i];
        if (c->used && c->ended) {
            pthread_join(c->thread, NULL);
            c->used = false;
        }
        if (!c->used)
            free_one = c;
    }
    if (free_one) {
        *free_one = (struct connection){ .gate = g, .fd = fd, .port = port, .used = true };
        free_one->thread = thread_start("gate", serve, free_one);
    } else {
        close(fd);
    }
    pthread_mutex_unlock(&g->lock);
}

static void *listen_all(void *ctx)
{
    struct gate *g = ctx;

    for (;;) {
        struct pollfd p[PORTS + 1] = { { g->quit, POLLIN, 0 } };
        for (size_t i = 0; i < g->n_listeners; i++)
            p[i + 1] = (struct pollfd){ g->listeners[i], POLLIN, 0 };
        if (poll(p, g->n_listeners + 1, -1) < 0 && errno != EINTR)
            return NULL;
        if (p[0].revents)
            return NULL;
        for (size_t i = 0; i < g->n_listeners; i++) {
            int fd = p[i + 1].revents ? accept4(g->listeners[i], NULL, NULL, SOCK_CLOEXEC) : -1;
            if (fd >= 0)
                begin(g, fd, i ? g->ports[i] : 0);
        }
    }
}

/* ---- its life ---- */

static int listen_at(struct gate *g, int port, struct err *e)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    socklen_t n = sizeof(sa);
    int fd = ns_socket(g->ns, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, e);

    TRY(fd);
    g->listeners[g->n_listeners] = fd;
    g->ports[g->n_listeners++] = port;
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, CONNECTIONS) < 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &n) < 0)
        return err_sys(e, errno, "listen in a namespace");
    g->ports[g->n_listeners - 1] = ntohs(sa.sin_port);
    return 0;
}

static int make(struct gate *g, const struct gate_opts *o, struct err *e)
{
    int port = 0;

    g->quit = eventfd(0, EFD_CLOEXEC);
    if (g->quit < 0)
        return err_sys(e, errno, "eventfd");
    TRY(g->ns = ns_anonymous(e));
    _cleanup_(nl_closep) struct nl *nl = nl_open(g->ns, e);
    if (!nl)
        return -1;
    nl_link_up(nl, "lo");
    TRY(nl_commit(nl, "bring up a loopback", e));
    TRY(listen_at(g, 0, e));
    if (o->local) {
        if (!gate_split(o->local, g->local, &port))
            return err_set(e, ERR_INVALID, "%.60s is no host", o->local);
        TRY(listen_at(g, port ? port : 443, e));
        if (!port)
            TRY(listen_at(g, 80, e));
    }
    g->thread = thread_start("gate", listen_all, g);
    g->running = true;
    return 0;
}

struct gate *gate_open(const struct gate_opts *o, struct err *e)
{
    _cleanup_(gate_freep) struct gate *g = calloc(1, sizeof(*g));

    if (!g || !(g->allowed = strdup(o->allowed ? o->allowed : "")))
        abort();
    pthread_mutex_init(&g->lock, NULL);
    g->ns = g->quit = -1;
    if (make(g, o, e) < 0)
        return NULL;
    return TAKE(g);
}

void gate_free(struct gate *g)
{
    uint64_t one = 1;

    if (!g)
        return;
    if (g->running && write(g->quit, &one, sizeof(one)) == sizeof(one)) {
        pthread_join(g->thread, NULL);
        for (size_t i = 0; i < CONNECTIONS; i++)
            if (g->all[i].used)
                pthread_join(g->all[i].thread, NULL);
    }
    for (size_t i = 0; i < g->n_listeners; i++)
        close(g->listeners[i]);
    if (g->ns >= 0)
        close(g->ns);
    if (g->quit >= 0)
        close(g->quit);
    pthread_mutex_destroy(&g->lock);
    free(g->allowed);
    free(g);
}

/* ---- running ---- */

struct run {
    struct arena *a;
    struct process_opts opts;
    struct process_result *out;
};

static int run_inside(void *ctx, struct err *e)
{
    struct run *r = ctx;

    return process_run(r->a, &r->opts, r->out, e);
}

int gate_run(struct gate *g, struct arena *a, const char *const *argv, int64_t timeout,
             struct process_result *out, struct err *e)
{
    const char *proxy = arena_printf(a, "=http://127.0.0.1:%d", g->ports[0]);
    const char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "LANG=C.UTF-8",
                                "HOME=/",
                                arena_printf(a, "HTTPS_PROXY%s", proxy),
                                arena_printf(a, "HTTP_PROXY%s", proxy),
                                NULL };
    struct run r = { a,
                     { .argv = argv, .env = env, .timeout = timeout, .max_output = MIB(4) },
                     out };

    /* The child is born where the thread is. */
    return ns_call(g->ns, run_inside, &r, e);
}

void gate_refusal(struct gate *g, char out[160], bool *unreachable)
{
    pthread_mutex_lock(&g->lock);
    snprintf(out, 160, "%s", g->refusal);
    *unreachable = g->unreachable;
    pthread_mutex_unlock(&g->lock);
}
