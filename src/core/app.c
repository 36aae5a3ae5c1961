/* SPDX-License-Identifier: Apache-2.0 */
/* The api role as one object: its parts in the order of their birth, and the thread that looks
 * after what has had its time. */
#include <assert.h>
#include <sodium.h>

#include "base/log.h"
#include "core/event_stream.h"
#include "core/feed/feed.h"
#include "core/limit/lease.h"
#include "core/loop/consumer.h"
#include "core/loop/deliver.h"
#include "core/loop/reconcile.h"
#include "core/loop/sweep.h"
#include "core/request/request.h"
#include "core/rows/blobs.h"
#include "core/rows/columns.h"
#include "core/rows/rowcache.h"
#include "core/secret/seal.h"
#include "http/outgoing_fake.h"
#include "os/memory.h"

enum { RATE_WINDOWS = 65536, CREDENTIALS = 8192, QUEUED_JOBS = 2048 };
enum {
    FRONT_THREADS = 4,
    SIGN_THREADS = 2,
    BODY_THREADS = 4,
    HOST_THREADS = 8,
    LANE_THREADS = 1024
};
enum { SHARED_READERS = 32 }; /* seats of loops, sweeps, statements that stand alone */

/* ---- small parts */

static void *worker_new(void *arg)
{
    struct worker *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    w->app = arg;
    return w;
}

static void worker_free(void *worker)
{
    struct worker *w = worker;

    store_reader_back(w->app->store, w->db);
    free(w);
}

/* What the worker did in a row has been answered: now those who sleep are woken, once. */
static void worker_rest(void *worker)
{
    struct worker *w = worker;

    if (w->db)
        db_read_done(w->db);
    http_release();
}

static void row_changed(struct app *app, const struct record *r, const struct uuid *id,
                        uint64_t commits)
{
    rowcache_drop(app->rows, r, id, commits);
}

static void answers(bool begin)
{
    if (begin)
        http_hold();
    else
        http_release();
}

static const char *next_word(const char **at)
{
    static const char separators[] = ", \t";

    *at += strspn(*at, separators);
    const char *word = *at;
    *at += strcspn(*at, separators);
    return *at > word ? word : NULL;
}

static bool read_networks(const char *text, struct cidr *out, size_t max, size_t *n)
{
    const char *at = text ? text : "", *word;

    while ((word = next_word(&at)))
        if (*n == max ||
            !cidr_parse((struct str){ word, (size_t)(at - word) }, false, &out[(*n)++]))
            return false;
    return true;
}

static const struct lists *read_lists(struct app *app, const struct config *c, struct err *e)
{
    struct lists *l = arena_new(&app->arena, struct lists);
    const char *at, *word;

    if (!read_networks(c->trusted_proxies, l->proxies, PROXY_MAX, &l->n_proxies)) {
        err_set(e, ERR_INVALID, "server.trusted_proxies: at most %d networks", PROXY_MAX);
        return NULL;
    }
    if (!read_networks(c->allowed_networks, l->networks, NETWORKS_MAX, &l->n_networks)) {
        err_set(e, ERR_INVALID, "outgoing.allowed_networks: at most %d networks", NETWORKS_MAX);
        return NULL;
    }
    at = c->cors_origins ? c->cors_origins : "";
    while ((word = next_word(&at))) {
        if (l->n_origins == CORS_MAX) {
            err_set(e, ERR_INVALID, "server.cors_origins: over %d origins", CORS_MAX);
            return NULL;
        }
        l->origins[l->n_origins++] = arena_dup(&app->arena, word, (size_t)(at - word));
    }
    return l;
}

struct all_settings settings_of(const struct service *const *services,
                                const struct driver_class *const *drivers)
{
    struct all_settings all = { { NULL } };
    size_t n = 0;

    for (; *services; services++)
        if ((*services)->settings)
            all.of[n++] = (*services)->settings;
    for (; *drivers; drivers++)
        if ((*drivers)->settings)
            all.of[n++] = (*drivers)->settings;
    assert(n < ARRAY_LEN(all.of));
    return all;
}

int app_reload(struct app *app, const struct config *c, struct drivers *drivers, struct err *e)
{
    const struct lists *l = read_lists(app, c, e);

    if (!l)
        return -1;
    app->lists = l;
    app->config = c;
    app->drivers = drivers;
    auth_cache_drop(app->auth_cache, NULL, NULL); /* what is known of a plan may have changed */
    live_revoked(app, NULL, NULL);
    return 0;
}

/* core's own routes stand before the services'. */
static void list_services(struct app *app)
{
    size_t n = 0;

    while (app->o.services && app->o.services[n])
        n++;
    const struct service **all = arena_new_n(&app->arena, const struct service *, n + 2);
    all[0] = &core_service;
    for (size_t i = 0; i < n; i++)
        all[i + 1] = app->o.services[i];
    app->services = all;
    for (size_t i = 0; i < n + 1; i++)
        if (all[i]->auth)
            app->auth = all[i]->auth;
}

static int reads_of(int workers)
{
    return workers > 0 ? workers : 4;
}

static int lane_threads(int64_t n)
{
    return (int)MIN(n, (int64_t)LANE_THREADS);
}

static int open_lanes(struct app *app, struct err *e)
{
    const struct share_bounds *bounds = app->config->share;
    const struct pool_opts lanes[LANES] = {
        [LANE_FRONT] = { .name = "front", .threads = FRONT_THREADS },
        [LANE_SIGN] = { .name = "sign", .threads = SIGN_THREADS },
        [LANE_BODY] = { .name = "body", .threads = BODY_THREADS },
        [LANE_READ] = { .name = "read", .threads = reads_of(app->o.workers) },
        [LANE_CALL] = { .name = "call", .threads = lane_threads(bounds[SHARE_CALLS].total) },
        [LANE_HOST] = { .name = "host", .threads = HOST_THREADS },
    };

    for (int i = 0; i < LANES; i++) {
        struct pool_opts o = lanes[i];

        o.queue = QUEUED_JOBS;
        o.worker_new = worker_new;
        o.worker_free = worker_free;
        o.worker_rest = worker_rest;
        o.arg = app;
        if (!(app->lanes[i] = pool_new(&o, e)))
            return -1;
    }
    return 0;
}

/* Without a file the limits are exact all the same, until this process ends. */
static void keep_limits(struct app *app)
{
    static const uint8_t what[] = "brume rate limits";
    uint8_t secret[16];
    struct err e;

    if (!app->o.limits_file)
        return;
    crypto_generichash(secret, sizeof(secret), what, sizeof(what), app->o.master_key, 32);
    if (ratelimit_keep(app->limits, app->o.limits_file, secret, clock_wall(app->clock), &e) < 0)
        log_err(LOG_WARN, "limits_not_kept", &e);
    sodium_memzero(secret, sizeof(secret));
}

/* ---- birth and death */

int app_readers(const struct config *c, int workers)
{
    return FRONT_THREADS + SIGN_THREADS + reads_of(workers) +
           lane_threads(c->share[SHARE_CALLS].total) + SHARED_READERS;
}

static const char *seal_column(const void *keys, struct arena *a, struct str plain,
                               struct str bound_to)
{
    return keyring_seal(keys, a, plain, bound_to);
}

static int unseal_column(const void *keys, struct arena *a, const char *sealed, struct str bound_to,
                         struct str *plain, struct err *e)
{
    return keyring_unseal(keys, a, sealed, bound_to, plain, e);
}

static void open_outgoing(struct app *app)
{
    struct outgoing_opts o = { .allowed = app->lists->networks,
                               .n_allowed = app->lists->n_networks };

    if (!app->o.outgoing)
        app->own_outgoing = outgoing_new(&o);
    app->outgoing = app->o.outgoing ? app->o.outgoing : app->own_outgoing;
    app->simulation = outgoing_simulation_new();
}

static int build(struct app *app, struct err *e)
{
    const struct app_opts *o = &app->o;

    app->config = o->config;
    app->clock = o->clock ? o->clock : clock_system();
    app->store = o->store;
    store_on_answers(app->store, answers);
    app->postgres = store_is_postgres(o->store);
    app->arena = ARENA(MIB(64));
    pthread_mutex_init(&app->tick_lock, NULL);
    pthread_cond_init(&app->tick_cond, NULL);
    pthread_mutex_init(&app->journal.lock, NULL);
    list_services(app);
    app->drivers = o->drivers;
    const struct lists *lists = read_lists(app, o->config, e);
    if (!lists)
        return -1;
    app->lists = lists;
    if (!(app->keys = keyring_open(o->store, o->master_key, e)))
        return -1;
    app->sealer = (struct db_sealer){ app->keys, seal_column, unseal_column };
    store_seal_by(app->store, &app->sealer);
    app->auth_cache = auth_cache_new(CREDENTIALS);
    app->limits = ratelimit_new(RATE_WINDOWS);
    app->leases = app->postgres ? leases_new(RATE_WINDOWS) : NULL;
    keep_limits(app);
    app->rows = app->postgres ? NULL : rowcache_new(MIB(64));
    app->told.row = app->rows ? row_changed : NULL;
    app->shares = shares_new(app->config);
    app->idem = idem_new();
    app->park = park_new(app);
    const char *dir = arena_printf(&app->arena, "%s/blobs", app->config->state_dir);
    if (!(app->blobs = blobs_new(dir, app->clock, e)))
        return -1;
    open_outgoing(app);
    app->live = live_new();
    app->feed = feed_new(app);
    app->told.feed = feed_wake;
    app->rounds = rounds_new(app);
    app->tails = tails_new();
    TRY(mount_all(app, e));
    TRY(columns_check(app, e));
    TRY(idem_load(app, e));
    store_readers_most(app->store, app_readers(app->config, o->workers));
    TRY(open_lanes(app, e));
    TRY(reconcile_open(app, e));
    TRY(deliveries_open(app, e));
    return consumers_open(app, e);
}

struct app *app_new(const struct app_opts *o, struct err *e)
{
    struct app *app = calloc(1, sizeof(*app));

    if (!app)
        abort();
    app->o = *o;
    if (build(app, e) == 0)
        return app;
    app_free(app);
    return NULL;
}

void app_free(struct app *app)
{
    if (!app)
        return;
    app_stop(app);
    consumers_close(app);
    deliveries_close(app);
    outgoing_free(app->own_outgoing);
    outgoing_free(app->simulation);
    if (app->reconcile)
        reconcile_close(app);
    for (size_t i = 0; i < IO_MAX; i++)
        store_reader_back(app->store, app->io_db[i]);
    feed_free(app->feed);
    rounds_free(app->rounds);
    tails_free(app->tails);
    live_free(app->live);
    blobs_free(app->blobs);
    park_free(app->park);
    idem_free(app->idem);
    shares_free(app->shares);
    rowcache_free(app->rows);
    leases_free(app->leases);
    ratelimit_free(app->limits);
    auth_cache_free(app->auth_cache);
    if (app->router)
        router_free(app->router);
    free(app->infos);
    if (app->sealer.ctx)
        store_seal_by(app->store, NULL);
    keyring_free(app->keys);
    pthread_mutex_destroy(&app->tick_lock);
    pthread_cond_destroy(&app->tick_cond);
    pthread_mutex_destroy(&app->journal.lock);
    arena_free(&app->arena);
    free(app);
}

/* ---- time */

/* Whether it is so long since '*last', which then is now. */
static bool due(_Atomic int64_t *last, int64_t now, int64_t every)
{
    int64_t then = atomic_load(last);

    return (!then || now - then >= every) && atomic_compare_exchange_strong(last, &then, now);
}

void app_tick(struct app *app)
{
    int64_t now = clock_mono(app->clock);

    park_tick(app->park, false);
    rounds_tick(app->rounds);
    int64_t saved = atomic_load(&app->limits_saved);
    if (now - saved >= MILLIS(400) &&
        atomic_compare_exchange_strong(&app->limits_saved, &saved, now))
        ratelimit_save(app->limits);
    int64_t swept = atomic_load(&app->swept);
    if (now - swept >= HOURS(1) && atomic_compare_exchange_strong(&app->swept, &swept, now))
        journal_sweep(app);
    bool all = due(&app->blobs_seen, now, MINUTES(1));
    blobs_tick(app, all, due(&app->blobs_counted, now, HOURS(1)));
}

static void *ticker(void *arg)
{
    struct app *app = arg;

    pthread_mutex_lock(&app->tick_lock);
    while (!app->stopping) {
        bool waiting = park_count(app->park) > 0;
        int64_t wait = waiting ? MILLIS(20) : MILLIS(500);
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        wait += until.tv_nsec / 1000;
        until.tv_sec += wait / 1000000;
        until.tv_nsec = wait % 1000000 * 1000;
        pthread_cond_timedwait(&app->tick_cond, &app->tick_lock, &until);
        pthread_mutex_unlock(&app->tick_lock);
        if (!app->stopping)
            app_tick(app);
        memory_settle();
        pthread_mutex_lock(&app->tick_lock);
    }
    pthread_mutex_unlock(&app->tick_lock);
    return NULL;
}

/* ---- start and stop */

int app_start(struct app *app, struct err *e)
{
    for (size_t i = 0; app->services[i]; i++) {
        const struct service *s = app->services[i];

        if (s->start)
            TRY(s->start(app, e));
        app->started = i + 1;
    }
    TRY(reconcile_start(app, e));
    TRY(deliveries_start(app, e));
    if (!app->o.manual_loops)
        consumers_start(app);
    app->swept = clock_mono(app->clock);
    app->ticker = thread_start("tick", ticker, app);
    app->ticking = true;
    return 0;
}

void app_stop(struct app *app)
{
    if (app->stopped)
        return;
    app->stopped = true;
    app->stopping = true;
    if (app->ticking) {
        pthread_mutex_lock(&app->tick_lock);
        pthread_cond_broadcast(&app->tick_cond);
        pthread_mutex_unlock(&app->tick_lock);
        pthread_join(app->ticker, NULL);
    }
    if (app->limits)
        ratelimit_save(app->limits);
    if (app->park)
        park_tick(app->park, true);
    consumers_stop(app);
    deliveries_stop(app);
    if (app->reconcile)
        reconcile_stop(app);
    /* What still runs ends here, while the server and the store are there. */
    for (int i = LANES; i-- > 0;)
        pool_free(TAKE(app->lanes[i]));
    if (app->ticking) /* a store that is restored now finds no bytes in doubt */
        blobs_tick(app, false, false);
    while (app->started > 0) {
        const struct service *s = app->services[--app->started];

        if (s->stop)
            s->stop(app);
    }
}

static void opened(void *ctx, struct http_server *s)
{
    struct app *app = ctx;

    app->server = s;
}

struct http_app app_http(struct app *app)
{
    return (struct http_app){
        .ctx = app,
        .on_head = dispatch_head,
        .on_error = dispatch_error,
        .on_round = dispatch_round,
        .on_sent = dispatch_sent,
        .many = dispatch_many,
        .on_open = opened,
        .on_cold = dispatch_cold,
    };
}

/* ---- parts, for services */

struct store *app_store(struct app *app)
{
    return app->store;
}

struct clock *app_clock(struct app *app)
{
    return app->clock;
}

const struct config *app_config(struct app *app)
{
    return app->config;
}

void app_signal(struct app *app, const char *topic)
{
    park_signal(app->park, topic);
}

const void *app_settings(struct app *app, const struct settings *of)
{
    return config_values(app->config, of);
}

void *app_driver(struct app *app, const struct driver_class *class, enum mode mode)
{
    return drivers_get(app->drivers, class, mode);
}

struct outgoing *app_outgoing(struct app *app, enum mode mode)
{
    return mode == MODE_TEST ? app->simulation : app->outgoing;
}

int app_check_url(struct app *app, const char *url, struct err *e)
{
    const struct lists *l = app->lists;

    return outgoing_check_url(url, l->networks, l->n_networks, e);
}

void app_hash_secret(struct app *app, struct str secret, char out[65])
{
    keyring_hash(app->keys, secret, out);
}

const char *app_seal(struct app *app, struct arena *a, struct str plain, struct str bound_to)
{
    return keyring_seal(app->keys, a, plain, bound_to);
}

int app_unseal(struct app *app, struct arena *a, const char *sealed, struct str bound_to,
               struct str *plain, struct err *e)
{
    return keyring_unseal(app->keys, a, sealed, bound_to, plain, e);
}
