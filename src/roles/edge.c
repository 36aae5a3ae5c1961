/* SPDX-License-Identifier: Apache-2.0 */
/* The edge role: carries tenants' bytes as the feed says.  Wiring only.  Its order of birth is the
 * order in which its rights go: places and its socket as root, then the user, then the filter. */
#include "roles/edge.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "os/unixsock.h"
#include "planes/feed/follow.h"
#include "planes/names/names.h"

/* For questions that wait for the host's resolvers. */
static const int64_t DRAIN = SECONDS(2);

struct edge {
    const struct config *config;
    const struct launch *launch;
    char installation[9];
    uid_t api_uid;
    int dir, listener, signals;
    struct names *names;
    struct feed_sink sinks[1];
    struct follow *follow;
};

static int take_places(struct edge *p, struct err *e)
{
    const struct config *c = p->config;
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    gid_t gid;

    TRY(user_find(c->user, &p->api_uid, &gid, e));
    TRY(place_make(c, p->api_uid, gid, e));
    TRY(place_installation(c->state_dir, p->installation, e));
    TRY(p->dir = place_edge(c, e));
    TRY(p->listener = unix_listen(place_edge_socket(&a, c), UNIX_SEQPACKET, 0600, e));
    role_raise_files();
    TRY(sandbox_drop(c->edge_user, e));
    TRY(role_bind(p->launch, e));
    return sandbox_filter(e);
}

static int block_signals(struct edge *p, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before the first thread, so that all inherit it */
    signal(SIGPIPE, SIG_IGN);
    p->signals = signalfd(-1, &set, SFD_CLOEXEC);
    return p->signals < 0 ? err_sys(e, errno, "signalfd") : 0;
}

static int start(struct edge *p, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));

    TRY(take_places(p, e));
    TRY(block_signals(p, e));
    if (!(p->names = names_new(p->listener, NULL, e)))
        return -1;
    p->sinks[0] = names_sink(p->names);
    p->follow = follow_new(&(struct follow_opts){ .socket_path = place_feed_socket(&a, p->config),
                                                  .installation = p->installation,
                                                  .api_uid = p->api_uid,
                                                  .dir = p->dir,
                                                  .sinks = p->sinks,
                                                  .n_sinks = ARRAY_LEN(p->sinks) });
    return 0;
}

static void reload(const struct edge *p)
{
    const struct launch *l = p->launch;
    struct err e = { 0 };
    struct config *c = l->supervisor ? role_config(&e) : serve_config(l->argc, l->argv, l->env);

    if (!c) {
        log_event(LOG_ERROR, "not_reloaded", L_STR("reason", "the configuration has faults"));
        return;
    }
    role_log_level(c);
    config_free(c);
    log_event(LOG_INFO, "reloaded");
}

static void serve(struct edge *p)
{
    struct signalfd_siginfo info;

    for (;;) {
        struct pollfd f[] = { { .fd = p->signals, .events = POLLIN },
                              { .fd = names_fd(p->names), .events = POLLIN } };

        if (poll(f, ARRAY_LEN(f), -1) < 0 && errno != EINTR)
            abort();
        if (f[1].revents & POLLIN)
            names_serve(p->names);
        if (!(f[0].revents & POLLIN) ||
            read(p->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        if (info.ssi_signo != SIGHUP)
            return;
        reload(p);
    }
}

static void stop(struct edge *p)
{
    follow_free(p->follow);
    names_free(p->names);
    for (size_t i = 0; i < 3; i++) {
        int fd = (int[]){ p->signals, p->listener, p->dir }[i];

        if (fd >= 0)
            close(fd);
    }
}

int edge_run(const struct config *c, const struct launch *l)
{
    struct edge p = { .config = c, .launch = l, .dir = -1, .listener = -1, .signals = -1 };
    struct err e = { 0 };
    int rc = start(&p, &e);

    if (rc == 0) {
        log_event(LOG_INFO, "edge_ready");
        role_say(l, "ready");
        serve(&p);
        log_event(LOG_INFO, "draining");
        resolver_drain(names_resolver(p.names), DRAIN);
    } else {
        log_err(LOG_ERROR, "edge_failed", &e);
    }
    stop(&p);
    return rc < 0 ? 1 : 0;
}
