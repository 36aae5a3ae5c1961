/* SPDX-License-Identifier: Apache-2.0 */
/* The test world: a whole cloud put together in one process over a store of its own, and what its
 * requests have covered. */
#include "tests/world_private.h"

#include <dirent.h>
#include <signal.h>

#include "drivers/drivers.h"
#include "os/file.h"

enum { COVERED = 1024 };

void (*world_configure)(struct config *c);
const char *world_settings;

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
    if (code == ERR_NOT_FOUND && who == AS_STRANGER)
        cover(route, HIT_STRANGER);
}

/* ---- birth and death */

void must(bool ok, const char *what, const struct err *e)
{
    if (!ok)
        fail_msg("%s: %s (%s)", what, e ? e->msg : "", e ? e->cause : "");
}

static void configure(struct world *w)
{
    static const char *const none[] = { NULL };
    struct buf faults = BUF(KIB(16));
    struct err e = { 0 };

    w->config = config_load_text(settings_of(all_services, all_drivers).of,
                                 str_of(world_settings ? world_settings : ""), "world", 0, none,
                                 none, &faults, &e);
    must(w->config && w->n_inforce < ARRAY_LEN(w->inforce), buf_cstr(&faults), &e);
    w->inforce[w->n_inforce++].config = w->config;
    w->settings = world_settings;
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
        .drivers = w->inforce[0].drivers,
        .outgoing = w->outgoing,
        .master_key = w->master,
        .installation = "0a0b0c0d",
        .workers = 4,
        .io_threads = 1,
        .manual_loops = true,
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
    struct drivers_opts o = {
        .classes = all_drivers, .config = w->config, .host = "", .installation = "0a0b0c0d"
    };
    struct err e = { 0 };
    must((w->inforce[0].drivers = drivers_open(&o, &e)) != NULL, "drivers", &e);
    w->outgoing = outgoing_fake_new();
    start(w);
    return w;
}

void world_restart(struct world *w)
{
    stop(w);
    if (w->settings != world_settings)
        configure(w);
    start(w);
}

void world_reload(struct world *w, const char *settings)
{
    struct err e;

    world_settings = settings;
    configure(w);
    struct inforce *new = &w->inforce[w->n_inforce - 1];
    new->drivers = drivers_renew(w->inforce[0].drivers, w->config, &e);
    must(new->drivers &&app_reload(w->app, w->config, new->drivers, &e) == 0, "reload", &e);
}

void world_free(struct world *w)
{
    if (!w)
        return;
    stop(w);
    while (w->n_inforce) {
        struct inforce *last = &w->inforce[--w->n_inforce];

        drivers_free(last->drivers);
        config_free(last->config);
    }
    world_settings = NULL;
    outgoing_free(w->outgoing);
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

static int take_name(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct buf *names = ctx;

    buf_printf(names, "%.*s\n", (int)cols[0].n, cols[0].s);
    return 0;
}

/* "table n" of each table that the query names and that has rows of the tenant (NULL: of all). */
static const char *counts(struct world *w, const char *tables, const struct uuid *tenant)
{
    struct buf names = BUF(KIB(64)), out = BUF(KIB(64));
    struct err e = { 0 };
    struct db *db = store_reader(w->store, &e);
    const char *where = tenant ? fmt(" WHERE tenant_id = '%s'", tenant->s) : "";

    must(db && db_each(db, tables, NO_ARGS, take_name, &names, &e) == 0, "tables", &e);
    store_reader_back(w->store, db);
    for (const char *at = buf_cstr(&names); *at; at += strcspn(at, "\n") + 1) {
        const char *name = fmt("%.*s", (int)strcspn(at, "\n"), at);
        int64_t n = world_int(w, fmt("SELECT count(*) FROM %s%s", name, where));

        if (n)
            buf_printf(&out, "%s %lld\n", name, (long long)n);
    }
    const char *text = arena_dup(&w->arena, out.p, out.n);
    buf_free(&names);
    buf_free(&out);
    return text;
}

/* What counts requests is no effect of one. */
const char *world_rows(struct world *w)
{
    return counts(w,
                  "/*lite: SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> "
                  "'core_rate' */"
                  "/*pg: SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
                  " AND tablename <> 'core_rate' */ ORDER BY 1",
                  NULL);
}

const char *world_rows_of(struct world *w, const struct uuid *tenant)
{
    return counts(w,
                  "/*lite: SELECT t.name FROM sqlite_schema t, pragma_table_info(t.name) c"
                  " WHERE t.type = 'table' AND c.name = 'tenant_id' */"
                  "/*pg: SELECT table_name FROM information_schema.columns"
                  " WHERE table_schema = 'public' AND column_name = 'tenant_id' */ ORDER BY 1",
                  tenant);
}

int world_port(struct world *w)
{
    return w->port;
}
