/* SPDX-License-Identifier: Apache-2.0 */
/* The test world: a whole cloud put together in one process over a store of its own, and what its
 * requests have covered. */
#include "tests/world_private.h"

#include <dirent.h>
#include <signal.h>

#include "os/file.h"

enum { COVERED = 1024 };

void (*world_configure)(struct config *c);

/* ---- what has been covered, over all worlds of the program */

static struct {
    const struct route *route;
    unsigned hits;
} covered[COVERED];
static size_t n_covered;
static pthread_mutex_t covered_lock = PTHREAD_MUTEX_INITIALIZER;

static void cover(const struct route *route, unsigned hit)
{
    pthread_mutex_lock(&covered_lock);
    size_t i = 0;
    while (i < n_covered && covered[i].route != route)
        i++;
    if (i < COVERED) {
        covered[i].route = route;
        covered[i].hits |= hit;
        if (i == n_covered)
            n_covered++;
    }
    pthread_mutex_unlock(&covered_lock);
}

unsigned world_hits(const struct route *route)
{
    for (size_t i = 0; i < n_covered; i++)
        if (covered[i].route == route)
            return covered[i].hits;
    return 0;
}

static void observe(void *ctx, const struct route *route, const struct call *c, int status,
                    enum err_code code)
{
    struct world *w = ctx;

    pthread_mutex_lock(&w->lock);
    struct seen *s = &w->seen[w->n_seen++ % SEEN];
    snprintf(s->request_id, sizeof(s->request_id), "%s", c->request_id);
    s->route = route;
    s->surface = c->surface;
    enum speaker who = w->speaking;
    pthread_mutex_unlock(&w->lock);
    if (!route)
        return;
    if (status < 400)
        cover(route, HIT_OK);
    if (code == ERR_INVALID || code == ERR_INVALID_JSON)
        cover(route, HIT_FAULT);
    if (code == ERR_NOT_FOUND && who == AS_STRANGER)
        cover(route, HIT_STRANGER);
    if (status == 403)
        cover(route, HIT_SCOPE);
    if (status == 401)
        cover(route, HIT_NOBODY);
}

/* ---- birth and death */

void must(bool ok, const char *what, const struct err *e)
{
    if (!ok)
        fail_msg("%s: %s (%s)", what, e ? e->msg : "", e ? e->cause : "");
}

static bool runtime_ok(void *ctx)
{
    struct world *w = ctx;
    struct arena a = ARENA(MIB(4));
    struct compute_state *all;
    struct err e;
    size_t n;
    bool ok = compute_list(w->live, &a, &all, &n, &e) == 0;

    arena_free(&a);
    return ok;
}

static void configure(struct world *w)
{
    static const char *const none[] = { NULL };
    struct buf faults = BUF(KIB(16));
    struct err e = { 0 };

    w->config = config_load_text(STR(""), "world", 0, none, none, &faults, &e);
    must(w->config, "configuration", &e);
    buf_free(&faults);
    w->config->state_dir = arena_strdup(&w->config->arena, w->dir);
    w->config->run_dir = w->config->cache_dir = w->config->state_dir;
    w->config->argon2_memory_kib = 64;
    w->config->argon2_passes = 1;
    w->config->fake_drivers = true;
    if (world_configure)
        world_configure(w->config);
}

static void start(struct world *w)
{
    struct err e = { 0 };
    struct store_opts so = { .url = w->url, .clock = &w->clock, .workers = 2 };
    struct http_opts ho = {
        .limits = http_limits_default,
        .threads = 1,
        .listeners = &w->listener,
        .n_listeners = 1,
        .clock = clock_system(),
    };

    ho.limits.drain_timeout = SECONDS(2);
    must((w->store = store_open(&so, &e)), "store", &e);
    world_store_migrate(w->store);
    struct app_opts ao = {
        .config = w->config,
        .clock = &w->clock,
        .store = w->store,
        .services = all_services,
        .compute_live = w->live,
        .compute_test = w->test,
        .images_live = w->images_live,
        .images_test = w->images_test,
        .mail = w->mail,
        .outgoing = w->outgoing,
        .master_key = w->master,
        .installation = "0a0b0c0d",
        .workers = 4,
        .io_threads = 1,
        .manual_loops = true,
        .runtime_ok = runtime_ok,
        .runtime_ctx = w,
        .observe = observe,
        .observe_ctx = w,
    };
    must((w->app = app_new(&ao, &e)), "app", &e);
    must(app_start(w->app, &e) == 0, "start", &e);
    ho.app = app_http(w->app);
    must((w->listener = http_listen("127.0.0.1", 0, 64, &e)) >= 0, "listen", &e);
    w->port = http_listen_port(w->listener);
    must((w->server = http_server_new(&ho, &e)), "server", &e);
}

static void stop(struct world *w)
{
    if (w->server)
        http_server_drain(w->server);
    if (w->app)
        app_stop(w->app);
    http_server_free(TAKE(w->server));
    app_free(TAKE(w->app));
    store_free(TAKE(w->store));
    if (w->listener >= 0)
        close(w->listener);
    w->listener = -1;
}

struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    signal(SIGPIPE, SIG_IGN);
    w->arena = ARENA(MIB(256));
    w->listener = -1;
    w->clock = clock_fake(SECONDS(1793000000));
    pthread_mutex_init(&w->lock, NULL);
    memset(w->master, 7, sizeof(w->master));
    world_store_make(w);
    configure(w);
    w->live = compute_fake();
    w->test = compute_fake();
    w->images_live = image_fake();
    w->images_test = image_fake();
    w->outgoing = outgoing_fake_new();
    w->mail = mail_folder(arena_printf(&w->arena, "%s/mail", w->dir), "brume@localhost");
    start(w);
    return w;
}

void world_restart(struct world *w)
{
    stop(w);
    start(w);
}

void world_free(struct world *w)
{
    if (!w)
        return;
    stop(w);
    mail_free(w->mail);
    outgoing_free(w->outgoing);
    image_free(w->images_live);
    image_free(w->images_test);
    compute_free(w->live);
    compute_free(w->test);
    config_free(w->config);
    for (size_t i = 0; i < w->n_trees; i++)
        json_free(w->trees[i]);
    world_store_remove(w);
    pthread_mutex_destroy(&w->lock);
    arena_free(&w->arena);
    free(w);
}

void world_settle(struct world *w)
{
    struct err e = { 0 };

    must(reconcile_drain(w->app, &e) == 0, "reconcile", &e);
    for (int i = 0; i < 2; i++) { /* what became of deliveries makes events too */
        must(consumers_drain(w->app, &e) == 0, "consumers", &e);
        must(deliveries_drain(w->app, &e) == 0, "deliveries", &e);
    }
}

void world_sleep(struct world *w, int64_t micros)
{
    world_settle(w);
    clock_advance(&w->clock, micros);
    app_tick(w->app);
    world_settle(w);
}

const struct reconciler *world_loop(const char *name)
{
    for (size_t i = 0; all_services[i]; i++)
        for (const struct reconciler *const *l = all_services[i]->loops; l && *l; l++)
            if (strcmp((*l)->name, name) == 0)
                return *l;
    must(false, "no such loop", NULL);
    return NULL;
}

const char *world_mail(struct world *w)
{
    const char *folder = arena_printf(&w->arena, "%s/mail", w->dir), *newest = "";
    DIR *d = opendir(folder);
    struct dirent *f;

    while (d && (f = readdir(d)))
        if (f->d_name[0] != '.' && strcmp(f->d_name, newest) > 0)
            newest = arena_strdup(&w->arena, f->d_name);
    if (d)
        closedir(d);
    struct str text = { "", 0 };
    struct err e;
    if (*newest)
        must(file_read(&w->arena, arena_printf(&w->arena, "%s/%s", folder, newest), MIB(1), &text,
                       &e) == 0,
             "a mail", &e);
    return text.p;
}

struct app *world_app(struct world *w)
{
    return w->app;
}

struct clock *world_clock(struct world *w)
{
    return &w->clock;
}

struct compute *world_compute(struct world *w)
{
    return w->live;
}

struct outgoing *world_outgoing(struct world *w)
{
    return w->outgoing;
}

bool world_is_postgres(struct world *w)
{
    return store_is_postgres(w->store);
}

int64_t world_int(struct world *w, const char *sql)
{
    struct err e;
    struct db *db = store_reader(w->store, &e);
    int64_t n = -1;

    CHECK(db != NULL);
    CHECK_EQ(db_int(db, sql, NO_ARGS, -1, &n, &e), 0);
    store_reader_back(w->store, db);
    return n;
}

int world_port(struct world *w)
{
    return w->port;
}
