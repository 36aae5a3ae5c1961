/* SPDX-License-Identifier: Apache-2.0 */
/* The api role: puts store, services, drivers and HTTP server together, and takes them apart again.
 * Its order of birth is the order in which its rights go: listeners, then the user, then the
 * filter; nothing that comes from outside is read before. */

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "base/log.h"
#include "core/app.h"
#include "core/feed/feed.h"
#include "core/secret/seal.h"
#include "drivers/drivers.h"
#include "http/server.h"
#include "os/file.h"
#include "roles/hosts.h"
#include "roles/roles.h"
#include "services/identity/identity.h"
#include "services/services.h"

/* For visits that wait for an agent; a destroy may wait ten seconds for its instance. */
static const int64_t LEAVE = SECONDS(2);

/* A configuration that has been in force, if only for a moment: requests may still read it. */
struct inforce {
    struct inforce *before;
    struct config *config;
    struct drivers *drivers;
};

struct api {
    struct config *config;
    struct launch *launch;
    char installation[9];
    uint8_t master[32];
    int lock;
    struct store *store;
    struct app *app;
    struct hosts *hosts;
    struct http_server *server;
    struct control *control;
    int signals;
    struct inforce first, *all; /* 'all': what SIGHUP brought */
    const struct inforce *now;
    bool serving;  /* the start is done */
    bool hopeless; /* what went wrong stays wrong */
};

static int hopeless(struct api *p)
{
    p->hopeless = true;
    return -1;
}

/* Where a later start may succeed (a database that cannot be reached) it is worth another try; what
 * a PostgreSQL server says of itself may change too. */
static int lasting(struct api *p, const struct err *e)
{
    bool passes = err_retry(e->code) || (e->code == ERR_INTERNAL && !place_store_file(p->config));

    return passes ? -1 : hopeless(p);
}

/* As root, or as whoever started it: what needs the right to. */
static int take_places(struct api *p, struct err *e)
{
    struct config *c = p->config;
    struct launch *l = p->launch;
    struct listen_address at;
    uid_t uid;
    gid_t gid;

    if (!l->supervisor && geteuid() == 0 &&
        (user_find(c->user, &uid, &gid, e) < 0 || place_make(c, uid, gid, e) < 0))
        return hopeless(p);
    if (place_installation(c->state_dir, p->installation, e) < 0)
        return hopeless(p);
    if (!l->n_listeners) {
        size_t n = (size_t)serve_io_threads(c);

        if (listen_parse(c->listen, &at, e) < 0 || listen_open(&at, n, l->listeners, e) < 0)
            return hopeless(p);
        l->n_listeners = n;
    }
    if (geteuid() == 0 && sandbox_drop(c->user, e) < 0)
        return hopeless(p);
    TRY(role_bind(l, e));
    return sandbox_filter(e);
}

static int block_signals(struct api *p, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    /* Before any thread is made: all inherit it. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    p->signals = signalfd(-1, &set, SFD_CLOEXEC);
    return p->signals < 0 ? err_sys(e, errno, "signalfd") : 0;
}

static int open_store(struct api *p, struct err *e)
{
    struct arena a = ARENA(KIB(64));
    struct store_opts o = { .url = p->config->store, .clock = clock_system() };
    struct migration_set sets[64] = { { "core", core_migrations } };
    size_t n = 1;

    if (place_store_file(p->config)) {
        p->lock = place_lock(arena_printf(&a, "%s/lock", p->config->state_dir), e);
        if (p->lock < 0 && e->code == ERR_INVALID_STATE)
            err_set(e, ERR_INVALID_STATE, "another brume has this store open: %s",
                    p->config->store);
    }
    arena_free(&a);
    if (p->lock < 0 && place_store_file(p->config))
        return -1;
    if (master_key_load(arena_printf(&p->config->arena, "%s/master.key", p->config->state_dir),
                        p->master, e) < 0)
        return hopeless(p);
    if (!(p->store = store_open(&o, e)))
        return lasting(p, e);
    for (size_t i = 0; all_services[i] && n < ARRAY_LEN(sets); i++)
        if (all_services[i]->migrations)
            sets[n++] =
                (struct migration_set){ all_services[i]->name, all_services[i]->migrations };
    return store_migrate(p->store, sets, n, e) < 0 ? lasting(p, e) : 0;
}

static int open_drivers(struct api *p, struct err *e)
{
    struct drivers_opts o = { .classes = all_drivers,
                              .config = p->config,
                              .host = place_agent_socket(&p->config->arena, p->config),
                              .installation = p->installation };

    p->first.drivers = drivers_open(&o, e);
    return p->first.drivers ? 0 : -1;
}

int api_workers(const struct config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return c->workers > 0 ? (int)c->workers : (int)MAX(4L, MIN(cores * 4, 64L));
}

static int open_app(struct api *p, struct err *e)
{
    struct config *c = p->config;
    struct app_opts o = {
        .config = c,
        .clock = clock_system(),
        .store = p->store,
        .services = all_services,
        .drivers = p->first.drivers,
        .edge = !c->fake_drivers,
        .master_key = p->master,
        .installation = p->installation,
        .limits_file = arena_printf(&c->arena, "%s/ratelimit", c->run_dir),
        .workers = api_workers(c),
        .io_threads = (int)p->launch->n_listeners,
    };

    if (!(p->app = app_new(&o, e)))
        return lasting(p, e);
    return app_start(p->app, e);
}

static int open_server(struct api *p, struct err *e)
{
    const struct config *c = p->config;
    struct http_opts h = {
        .limits = http_limits_default,
        .threads = (int)p->launch->n_listeners,
        .listeners = p->launch->listeners,
        .n_listeners = p->launch->n_listeners,
        .tls_cert = *c->tls_cert ? c->tls_cert : NULL,
        .tls_key = *c->tls_key ? c->tls_key : NULL,
        .clock = clock_system(),
    };

    h.app = app_http(p->app);
    h.limits.max_connections = (int)c->max_connections;
    if (!(p->server = http_server_new(&h, e)))
        return hopeless(p);
    return 0;
}

/* The first user, where there is none yet; what it may know is told to the supervisor alone. */
static int first_run(struct api *p, struct err *e)
{
    struct arena a = ARENA(KIB(256));
    const char *key = NULL, *password = NULL;
    bool made = false;
    int rc = identity_first_run(p->app, &a, &key, &password, &made, e);

    if (rc == 0 && made) {
        role_say(p->launch, "key %s", key);
        if (password)
            role_say(p->launch, "password %s", password);
        if (p->launch->ready_fd < 0)
            fprintf(stderr, "brume: made admin@localhost; its key, shown once: %s\n", key);
    }
    arena_free(&a);
    return rc;
}

/* Where there is no agent, there is no edge. */
static int open_feed(struct api *p, struct err *e)
{
    struct config *c = p->config;
    struct feed_opts o = { .socket_path = place_feed_socket(&c->arena, c),
                           .installation = p->installation };
    gid_t gid;

    if (c->fake_drivers)
        return 0;
    TRY(user_find(c->edge_user, &o.edge_uid, &gid, e));
    return feed_serve(p->app, &o, e);
}

static int start(struct api *p, struct err *e)
{
    TRY(take_places(p, e));
    TRY(block_signals(p, e));
    TRY(open_store(p, e));
    p->first.config = p->config;
    p->now = &p->first;
    TRY(open_drivers(p, e));
    TRY(open_app(p, e));
    TRY(open_feed(p, e));
    p->hosts = hosts_new(p->app);
    TRY(first_run(p, e));
    if (!(p->control = control_new(place_control_socket(&p->config->arena, p->config), p->store,
                                   p->config->state_dir, e)))
        return -1;
    /* Last: clients may have waited at the listeners, and whoever comes before the first user would
     * take its place. */
    return open_server(p, e);
}

static void known(void *ctx _unused_, const struct setting *key _unused_)
{
}

/* All or nothing of what may change while it runs. */
static int take_over(struct api *p, const struct inforce *new, struct err *e)
{
    const struct config *c = new->config;

    /* The same files as before: a certificate that has been renewed. */
    TRY(http_server_tls(p->server, *c->tls_cert ? c->tls_cert : NULL, c->tls_key, e));
    TRY(app_reload(p->app, c, new->drivers, e));
    role_log_level(c);
    p->now = new;
    return 0;
}

static void reload(struct api *p)
{
    const struct launch *l = p->launch;
    struct inforce *new = arena_new(&p->config->arena, struct inforce);
    struct err e = { 0 };

    new->config = l->supervisor ? role_config(&e) : serve_config(l->argc, l->argv, l->env);
    if (!new->config) {
        log_event(LOG_ERROR, "not_reloaded", L_STR("reason", "the configuration has faults"));
        return;
    }
    new->before = TAKE(p->all);
    p->all = new;
    /* Where there is a supervisor, that says it. */
    config_follow(new->config, p->config, l->supervisor ? known : role_needs_restart, NULL);
    new->drivers = drivers_renew(p->first.drivers, new->config, &e);
    if (!new->drivers || take_over(p, new, &e) < 0)
        log_err(LOG_ERROR, "not_reloaded", &e);
    else
        log_event(LOG_INFO, "reloaded");
}

static void serve(struct api *p)
{
    struct signalfd_siginfo info;

    for (;;) {
        struct pollfd f[] = { { .fd = p->signals, .events = POLLIN },
                              { .fd = control_fd(p->control), .events = POLLIN } };

        if (poll(f, ARRAY_LEN(f), -1) < 0 && errno != EINTR)
            abort();
        if (f[1].revents & POLLIN)
            control_accept(p->control);
        if (!(f[0].revents & POLLIN) ||
            read(p->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
            continue;
        if (info.ssi_signo != SIGHUP)
            return;
        reload(p);
    }
}

/* In the reverse order of birth. */
static void stop(struct api *p)
{
    if (p->server)
        http_server_drain(p->server);
    control_free(p->control);
    hosts_free(p->hosts);
    if (p->app)
        feed_close(p->app);
    if (p->serving)
        role_leave_within(LEAVE);
    if (p->app)
        app_stop(p->app);
    http_server_free(p->server);
    app_free(p->app);
    for (struct inforce *x = p->all; x; x = x->before) {
        drivers_free(x->drivers);
        config_free(x->config);
    }
    drivers_free(p->first.drivers);
    store_free(p->store);
    explicit_bzero(p->master, sizeof(p->master));
    if (p->lock >= 0)
        close(p->lock);
    if (p->signals >= 0)
        close(p->signals);
}

/* One line, as the supervisor says what it cannot do. */
static void say_hopeless(const struct err *e)
{
    if (e->code == ERR_INTERNAL && e->cause[0] && strcmp(e->msg, "internal error") != 0)
        fprintf(stderr, "brume: %s: %s\n", e->msg, e->cause);
    else
        fprintf(stderr, "brume: %s\n", e->code == ERR_INTERNAL && e->cause[0] ? e->cause : e->msg);
}

int api_run(struct config *c, struct launch *l)
{
    struct api p = { .config = c, .launch = l, .lock = -1, .signals = -1 };
    int64_t began = clock_mono(clock_system());
    struct err e = { 0 };
    int rc = start(&p, &e);

    if (rc == 0) {
        log_event(LOG_INFO, "serving", L_STR("listen", c->listen),
                  L_INT("io_threads", l->n_listeners),
                  L_INT("start_us", clock_mono(clock_system()) - began));
        role_say(l, "ready");
        p.serving = true;
        serve(&p);
        log_event(LOG_INFO, "draining");
    } else if (p.hopeless) {
        say_hopeless(&e);
    } else {
        log_err(LOG_ERROR, "api_failed", &e);
    }
    stop(&p);
    if (rc == 0)
        return 0;
    return p.hopeless ? EXIT_HOPELESS : 1;
}
