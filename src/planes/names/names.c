/* SPDX-License-Identifier: Apache-2.0 */
/* Hides that there is one agent at a time: who comes anew takes the place of the one before, which
 * has died or given up. */
#include "planes/names/names.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "drivers/net/handover.h"
#include "os/unixsock.h"
#include "services/compute/names.h"

struct names {
    struct resolver *resolver;
    struct zones *fresh; /* of a snapshot that is not whole yet */
    int listener, agent, epoll;
};

/* ---- the feed */

static void begin(void *ctx)
{
    struct names *n = ctx;

    zones_free(n->fresh);
    n->fresh = zones_new();
}

static int put(void *ctx, const void *row, struct err *e)
{
    struct names *n = ctx;
    const struct vpc_name *x = row;

    return n->fresh ? zones_put(n->fresh, &x->id, &x->vpc_id, x->name, x->private_ip, e)
                    : resolver_put(n->resolver, &x->id, &x->vpc_id, x->name, x->private_ip, e);
}

static void gone(void *ctx, const struct uuid *id)
{
    const struct names *n = ctx;

    resolver_forget(n->resolver, id);
}

static void end(void *ctx)
{
    struct names *n = ctx;

    resolver_names(n->resolver, TAKE(n->fresh));
}

struct feed_sink names_sink(struct names *n)
{
    return (struct feed_sink){ .part = "names",
                               .record = &vpc_name_record,
                               .ctx = n,
                               .begin = begin,
                               .row = put,
                               .gone = gone,
                               .end = end };
}

/* ---- the agent */

static void agent_gone(struct names *n)
{
    if (n->agent >= 0)
        close(n->agent);
    n->agent = -1;
}

static int tell_held(struct names *n, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    struct held *held;
    size_t count = resolver_held(n->resolver, &a, &held);
    struct door d = { .verb = DOOR_END };
    int r = 0;

    for (size_t i = 0; i < count; i++) {
        char address[IP_TEXT];
        struct door one = {
            .verb = DOOR_HOLDS, .vpc = held[i].vpc, .address = address, .netns = held[i].netns
        };

        ip_format(&held[i].addr, address);
        if (r == 0)
            r = door_send(n->agent, &one, held[i].fds, e);
        for (size_t k = 0; k < ARRAY_LEN(held[i].fds); k++)
            if (held[i].fds[k] >= 0)
                close(held[i].fds[k]);
    }
    return r == 0 ? door_send(n->agent, &d, NULL, e) : -1;
}

static int welcome(struct names *n, int fd, struct err *e)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
    struct timeval patience = { .tv_sec = 1 };
    uid_t uid;
    pid_t pid;

    TRY(unix_peer(fd, &uid, &pid, e));
    if (uid != 0)
        return err_set(e, ERR_FORBIDDEN, "user %d is no agent", (int)uid);
    agent_gone(n);
    n->agent = fd;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (epoll_ctl(n->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        return err_sys(e, errno, "watch the agent");
    return tell_held(n, e);
}

static void agent_comes(struct names *n)
{
    struct err e;
    int fd = accept4(n->listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0 || welcome(n, fd, &e) == 0)
        return;
    log_err(LOG_WARN, "agent_refused", &e);
    if (n->agent == fd)
        agent_gone(n);
    else
        close(fd);
}

static int do_as_told(struct names *n, const struct door *d, const int fds[DOOR_FDS], struct err *e)
{
    struct held h = { .vpc = d->vpc, .netns = d->netns, .fds = { fds[0], fds[1] } };

    if (d->address && !ip_parse(str_of(d->address), &h.addr))
        return err_set(e, ERR_INVALID, "an address of the agent is malformed");
    if (d->verb == DOOR_HOLDS)
        return err_set(e, ERR_INVALID, "the agent says what only the edge may");
    if (d->verb == DOOR_GIVE)
        return resolver_take(n->resolver, &h, e);
    if (d->verb == DOOR_DROP)
        resolver_drop(n->resolver, &d->vpc, d->address ? &h.addr : NULL);
    return 0;
}

static void agent_says(struct names *n)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(16));
    int fds[DOOR_FDS];
    struct door d;
    struct err e = { 0 };
    int r = door_receive(n->agent, &a, &d, fds, &e);

    if (r < 0)
        log_err(LOG_WARN, "agent_misunderstood", &e);
    if (r <= 0)
        agent_gone(n);
    else if (do_as_told(n, &d, fds, &e) < 0)
        log_err(LOG_ERROR, "names_not_answered", &e);
}

int names_fd(const struct names *n)
{
    return n->epoll;
}

void names_serve(struct names *n)
{
    struct epoll_event ev;

    if (epoll_wait(n->epoll, &ev, 1, 0) != 1)
        return;
    if (ev.data.fd == n->listener)
        agent_comes(n);
    else
        agent_says(n);
}

/* ---- its life */

struct names *names_new(int listener, const char *resolv_conf, struct err *e)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = listener };
    _cleanup_(names_freep) struct names *n = calloc(1, sizeof(*n));

    if (!n)
        abort();
    *n = (struct names){ .listener = listener, .agent = -1 };
    n->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (n->epoll < 0 || epoll_ctl(n->epoll, EPOLL_CTL_ADD, listener, &ev) < 0) {
        err_sys(e, errno, "make an event loop");
        return NULL;
    }
    n->resolver = resolver_new(resolv_conf, e);
    return n->resolver ? TAKE(n) : NULL;
}

void names_free(struct names *n)
{
    if (!n)
        return;
    agent_gone(n);
    resolver_free(n->resolver);
    zones_free(n->fresh);
    if (n->epoll >= 0)
        close(n->epoll);
    free(n);
}

struct resolver *names_resolver(struct names *n)
{
    return n->resolver;
}
