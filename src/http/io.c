/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of an I/O thread.  Hides how other threads reach it: a list under a lock, and an eventfd
 * that is written only when the thread sleeps, so that a burst of answers costs one wake-up. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/log.h"
#include "http/internal.h"

enum { MAX_EVENTS = 256 };

_Thread_local struct io *io_here;
/* Threads that this one has posted to and not woken yet. */
static _Thread_local struct {
    bool on;
    size_t n;
    struct io *ios[16];
} held;

/* ---- messages */

static void wake(struct io *io)
{
    uint64_t one = 1;
    ssize_t n = write(io->wake.fd, &one, sizeof(one));

    (void)n; /* it fails only when it is readable anyway */
}

/* Under io's lock.  False when it must be woken now. */
static bool hold(struct io *io)
{
    if (!held.on)
        return false;
    for (size_t i = 0; i < held.n; i++)
        if (held.ios[i] == io)
            return true;
    if (held.n == ARRAY_LEN(held.ios))
        return false;
    held.ios[held.n++] = io;
    return true;
}

void http_hold(void)
{
    held.on = true;
}

void http_release(void)
{
    for (size_t i = 0; i < held.n; i++) {
        struct io *io = held.ios[i];

        pthread_mutex_lock(&io->lock);
        bool due = io->posts && io->sleeping && !io->woken;
        io->woken |= due;
        pthread_mutex_unlock(&io->lock);
        if (due)
            wake(io);
    }
    held.n = 0;
    held.on = false;
}

void io_post(struct io *io, struct post *p, unsigned *ops, unsigned add)
{
    bool due = false;

    pthread_mutex_lock(&io->lock);
    if (ops)
        *ops |= add;
    if (!p->queued) {
        p->queued = true;
        p->next = NULL;
        *io->posts_tail = p;
        io->posts_tail = &p->next;
        due = io->sleeping && !io->woken && !hold(io);
        io->woken |= due;
    }
    pthread_mutex_unlock(&io->lock);
    if (due)
        wake(io);
}

static void take_one(struct io *io, struct post *p)
{
    struct run *run;
    unsigned ops;

    switch (p->kind) {
    case POST_REQ:
        pthread_mutex_lock(&io->lock);
        p->queued = false;
        ops = ((struct http_req *)p)->ops;
        ((struct http_req *)p)->ops = 0;
        pthread_mutex_unlock(&io->lock);
        req_op((struct http_req *)p, ops);
        break;
    default:
        run = (struct run *)p;
        run->fn(run->ctx);
        free(run);
        break;
    }
}

/* What is posted meanwhile waits for the next round, so that a round ends. */
void io_take_posts(struct io *io)
{
    pthread_mutex_lock(&io->lock);
    struct post *p = io->posts;
    io->posts = NULL;
    io->posts_tail = &io->posts;
    pthread_mutex_unlock(&io->lock);
    while (p) {
        /* 'next' is read before 'queued' falls: from then on p may be in the list again. */
        struct post *next = p->next;
        take_one(io, p);
        p = next;
    }
}

void http_run(struct http_server *s, int io, void (*fn)(void *ctx), void *ctx)
{
    struct run *run = malloc(sizeof(*run));

    if (!run)
        abort();
    *run = (struct run){ .post = { .kind = POST_RUN }, .fn = fn, .ctx = ctx };
    io_post(&s->ios[io], &run->post, NULL, 0);
}

/* ---- new connections */

static void peer_of(const struct sockaddr_storage *ss, struct ip *out)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    *out = (struct ip){ 0 };
    if (ss->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, ss, sizeof(in));
        out->family = 4;
        memcpy(out->b, &in.sin_addr, 4);
    } else if (ss->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, ss, sizeof(in6));
        bool four = memcmp(&in6.sin6_addr, mapped, sizeof(mapped)) == 0;
        out->family = four ? 4 : 6;
        memcpy(out->b, (const uint8_t *)&in6.sin6_addr + (four ? 12 : 0), four ? 4 : 16);
    }
}

/* No descriptors are left: the spare one lets the connection be taken and closed, or the listener
 * would be ready for ever. */
static void shed(struct io *io, int listener)
{
    if (io->spare >= 0)
        close(io->spare);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    io->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Counts one more connection of its address: false if that has all it may have. */
static bool peer_comes(struct http_server *s, const struct ip *peer, uint64_t *flow)
{
    const struct http_app *app = &s->opts.app;
    struct flow f = { .key = FLOW_SYSTEM };

    if (peer->family && !(app->many && app->many(app->ctx, peer))) {
        struct cidr c = cidr_of_client(peer);

        f.key = flow_key(c.ip.b, (size_t)c.bits / 8);
    }
    pthread_mutex_lock(&s->peers_lock);
    enum fair_result got = fair_take(s->peers, &f, 1);
    pthread_mutex_unlock(&s->peers_lock);
    *flow = f.key;
    return got == FAIR_OK;
}

void peer_leaves(struct http_server *s, uint64_t flow)
{
    pthread_mutex_lock(&s->peers_lock);
    fair_give(s->peers, flow, 1);
    pthread_mutex_unlock(&s->peers_lock);
}

static void accept_some(struct io *io, int listener)
{
    struct http_server *s = io->server;

    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        struct sockaddr_storage ss = { 0 };
        socklen_t n = sizeof(ss);
        struct ip peer;
        int fd = accept4(listener, (struct sockaddr *)&ss, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            shed(io, listener);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            return;
        if (fd < 0)
            continue;
        peer_of(&ss, &peer);
        uint64_t flow;
        bool refuse = !peer_comes(s, &peer, &flow);
        if (refuse && (s->ssl_ctx || atomic_load(&s->refused) >= REFUSED_MAX))
            close(fd);
        else
            conn_open(io, fd, &peer, flow, refuse);
    }
}

/* ---- draining */

void io_drain(struct io *io)
{
    io->draining = true;
    io->drain_until = io->now + io->server->limits.drain_timeout;
    for (size_t i = 0; i < io->n_listeners; i++) {
        struct source *l = &io->listeners[i].source;

        accept_some(io, l->fd); /* who is in the backlog already has been promised an answer */
        epoll_ctl(io->epoll, EPOLL_CTL_DEL, l->fd, NULL);
    }
    io->n_listeners = 0;
    for (struct link *l = io->conns.next, *next; l != &io->conns; l = next) {
        next = l->next;
        conn_drain(CONTAINER(l, struct conn, all));
    }
}

static void close_all(struct io *io)
{
    for (struct link *l = io->conns.next, *next; l != &io->conns; l = next) {
        next = l->next;
        conn_close(CONTAINER(l, struct conn, all));
    }
}

/* False: the thread is to end. */
static bool orders(struct io *io)
{
    pthread_mutex_lock(&io->lock);
    bool drain = io->want_drain && !io->draining;
    bool stop = io->want_stop;
    pthread_mutex_unlock(&io->lock);

    if (drain)
        io_drain(io);
    if (stop || (io->draining && !io->forced && io->now >= io->drain_until)) {
        io->forced = true;
        close_all(io);
    }
    if (io->draining && io->n_conns == 0 && !io->is_drained) {
        pthread_mutex_lock(&io->lock);
        io->is_drained = true;
        pthread_cond_broadcast(&io->drained);
        pthread_mutex_unlock(&io->lock);
    }
    return !stop;
}

/* ---- the loop */

static void run_ready(struct io *io)
{
    struct conn *c = io->ready;

    io->ready = NULL;
    io->ready_tail = &io->ready;
    while (c) {
        struct conn *next = c->next_ready;
        c->ready = false;
        conn_run(c);
        c = next;
    }
}

static int sleep_millis(struct io *io)
{
    int ms = timers_next(io);

    if (io->ready)
        return 0;
    if (io->draining && !io->is_drained) {
        int64_t left = (io->drain_until - io->now) / 1000 + 1;
        int most = left < 0 ? 0 : (int)MIN(left, (int64_t)1000);
        ms = ms < 0 || ms > most ? most : ms;
    }
    /* Nobody tells when a clock set by hand moves. */
    if (io->server->fake_clock && (ms < 0 || ms > 5))
        ms = 5;
    return ms;
}

static int wait_events(struct io *io, struct epoll_event *events)
{
    int ms = sleep_millis(io);

    pthread_mutex_lock(&io->lock);
    bool asked = io->posts || io->want_stop || (io->want_drain && !io->draining);
    io->sleeping = !asked;
    pthread_mutex_unlock(&io->lock);
    int n = epoll_wait(io->epoll, events, MAX_EVENTS, asked ? 0 : ms);
    pthread_mutex_lock(&io->lock);
    io->sleeping = false;
    io->woken = false;
    pthread_mutex_unlock(&io->lock);
    io->now = clock_mono(io->server->clock);
    return n;
}

static void handle(struct io *io, const struct epoll_event *ev)
{
    struct source *source = ev->data.ptr;
    uint64_t count;

    switch (source->kind) {
    case SOURCE_CONN:
        conn_event((struct conn *)source, ev->events);
        break;
    case SOURCE_LISTENER:
        if (!io->draining)
            accept_some(io, source->fd);
        break;
    default:
        if (read(source->fd, &count, sizeof(count)) < 0)
            break; /* already read */
        break;
    }
}

void *io_loop(void *arg)
{
    struct io *io = arg;
    struct http_app *app = &io->server->opts.app;
    struct epoll_event events[MAX_EVENTS];

    io_here = io;
    log_gather();
    do {
        int n = wait_events(io, events);

        for (int i = 0; i < n; i++)
            handle(io, &events[i]);
        io_take_posts(io);
        timers_run(io);
        waits_expire(io);
        run_ready(io);
        if (app->on_round)
            app->on_round(app->ctx, io->index);
        conn_reap(io);
        log_flush();
    } while (orders(io));
    io_take_posts(io);
    conn_reap(io);
    log_flush();
    io_here = NULL;
    return NULL;
}

/* ---- birth and end */

static int watch(struct io *io, struct source *source, uint32_t events, struct err *e)
{
    struct epoll_event ev = { .events = events, .data.ptr = source };

    if (epoll_ctl(io->epoll, EPOLL_CTL_ADD, source->fd, &ev) < 0)
        return err_sys(e, errno, "epoll_ctl");
    return 0;
}

/* Thread i serves the listeners i, i + threads, …; where there are fewer listeners than threads,
 * threads share one, and the kernel wakes one of them. */
static int watch_listeners(struct io *io, struct err *e)
{
    struct http_opts *o = &io->server->opts;
    size_t threads = (size_t)o->threads, me = (size_t)io->index, n = o->n_listeners;
    bool shared = n < threads;

    io->listeners = calloc(n + 1, sizeof(*io->listeners));
    if (!io->listeners)
        abort();
    for (size_t i = me; n > 0 && (i < n || i == me); i += threads) {
        struct listener *l = &io->listeners[io->n_listeners++];

        l->source = (struct source){ SOURCE_LISTENER, o->listeners[i % n] };
        TRY(watch(io, &l->source, EPOLLIN | (shared ? EPOLLEXCLUSIVE : 0u), e));
    }
    return 0;
}

int io_open(struct io *io, struct http_server *s, int index, struct err *e)
{
    io->server = s;
    io->index = index;
    link_init(&io->conns);
    for (int i = 0; i < WAIT_KINDS; i++)
        link_init(&io->waits[i]);
    io->ready_tail = &io->ready;
    io->posts_tail = &io->posts;
    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->drained, NULL);
    io->now = clock_mono(s->clock);
    io->scratch = malloc(SCRATCH);
    if (!io->scratch)
        abort();
    io->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    io->epoll = epoll_create1(EPOLL_CLOEXEC);
    io->wake = (struct source){ SOURCE_WAKE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (io->epoll < 0 || io->wake.fd < 0)
        return err_sys(e, errno, "an I/O thread's descriptors");
    TRY(watch(io, &io->wake, EPOLLIN | EPOLLET, e));
    return watch_listeners(io, e);
}

void io_close(struct io *io)
{
    io_here = io; /* what workers posted after the thread had ended is done here */
    io_take_posts(io);
    close_all(io);
    conn_reap(io);
    for (size_t i = 0; i < io->n_timers; i++)
        if (io->timers[i].fn == file_cold)
            file_cold(io->timers[i].ctx);
    io_take_posts(io);
    io_here = NULL;
    while (io->free_reqs) {
        struct http_req *r = io->free_reqs;
        io->free_reqs = r->next_free;
        io->n_free_reqs = POOL_KEEP;
        req_destroy(r);
    }
    while (io->free_ins) {
        struct in_buf *in = io->free_ins;
        io->free_ins = in->next;
        free(in);
    }
    while (io->free_conns) {
        struct conn *c = io->free_conns;
        io->free_conns = c->next_ready;
        free(c);
    }
    free(io->timers);
    free(io->listeners);
    free(io->scratch);
    if (io->spare >= 0)
        close(io->spare);
    if (io->wake.fd >= 0)
        close(io->wake.fd);
    if (io->epoll >= 0)
        close(io->epoll);
    pthread_cond_destroy(&io->drained);
    pthread_mutex_destroy(&io->lock);
}
