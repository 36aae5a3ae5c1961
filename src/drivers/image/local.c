/* SPDX-License-Identifier: Apache-2.0 */
/* The image store of a host: who makes an image and when, and what is told of it meanwhile.  What
 * is there then lies on the shelf (shelf.c). */
#include "drivers/image/local.h"
#include "drivers/image/shelf.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "codec/json.h"
#include "codec/text.h"
#include "os/file.h"
#include "os/thread.h"

enum { JOBS_MAX = 256, THREADS = 8, ASKERS_MAX = 8 };

struct job {
    struct job *next;
    struct local *s;
    char name[IMAGE_NAME_MAX + 1];
    enum image_status status;
    bool begun;
    uint64_t askers[ASKERS_MAX]; /* flows in whose turn it may begin */
    size_t n_askers;
    struct progress progress;
    char reason[160];
};

/* A running import, in its caller's frame. */
struct import {
    struct import *next;
    const char *name;
    struct manifest *m;
    bool dropped; /* nobody wants it any more */
};

struct local {
    struct image_store store;
    pthread_mutex_t lock;
    struct shelf shelf;
    struct pool *pool;
    struct image_paths paths;
    char *registries;
    struct job *jobs; /* running, waiting and failed ones */
    struct import *imports;
    int n_jobs;
};

static struct local *local_of(struct image_store *s)
{
    return (struct local *)s;
}

/* ---- jobs ---- */

void progress_set(struct progress *p, int percent, const char *step, const char *log)
{
    pthread_mutex_lock(p->lock);
    p->percent = MAX(p->percent, percent);
    snprintf(p->step, sizeof(p->step), "%s", step);
    snprintf(p->log, sizeof(p->log), "%s", log ? log : "");
    pthread_mutex_unlock(p->lock);
}

static struct job *job_find(struct local *s, const char *name)
{
    for (struct job *j = s->jobs; j; j = j->next)
        if (strcmp(j->name, name) == 0)
            return j;
    return NULL;
}

static void job_del(struct local *s, struct job *j)
{
    struct job **at = &s->jobs;

    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    s->n_jobs--;
    free(j);
}

/* Writes what was made: manifest first, then the name that points to it. */
static int publish(struct local *s, const char *name, const char *source, struct manifest *m,
                   struct err *e)
{
    struct name_record r = { name, source, .created_at = clock_wall(clock_system()) };
    char path[512];

    shelf_manifest_path(&s->shelf, m->digest, path);
    TRY(manifest_write(m, path, e));
    snprintf(r.digest, sizeof(r.digest), "%s", m->digest);
    return shelf_name_write(&s->shelf, &r, e);
}

static void job_do(struct job *j)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct local *s = j->s;
    const struct recipe *r = recipe_find(j->name);
    struct manifest *m = arena_new(&a, struct manifest);
    struct pin pin = { .m = m };
    struct err e = { 0 };

    pthread_mutex_lock(&s->lock);
    shelf_pin(&s->shelf, &pin);
    pthread_mutex_unlock(&s->lock);
    int result = r ? image_build(&s->paths, &a, r, &j->progress, m, &e)
                   : image_pull(&s->paths, &a, j->name, &j->progress, m, &e);

    pthread_mutex_lock(&s->lock);
    shelf_unpin(&s->shelf, &pin);
    if (result == 0)
        result = publish(s, j->name, r ? "recipe" : "registry", m, &e);
    if (result < 0) {
        log_err(LOG_WARN, "image_failed", &e);
        j->status = IMAGE_FAILED;
        snprintf(j->reason, sizeof(j->reason), "%s", e.msg);
        shelf_collect(&s->shelf);
    } else {
        job_del(s, j);
    }
    pthread_mutex_unlock(&s->lock);
}

/* A place in the queue: whose turn comes first begins what several wait for. */
struct ask {
    struct local *s;
    char name[IMAGE_NAME_MAX + 1];
};

/* What a build or a pull took of the heap is given back: the next one may be days away. */
static void ask_run(void *ctx, void *worker _unused_)
{
    _cleanup_free_ struct ask *ask = ctx;
    struct local *s = ask->s;

    pthread_mutex_lock(&s->lock);
    struct job *j = job_find(s, ask->name);
    bool mine = j && j->status == IMAGE_BUILDING && !j->begun && !atomic_load(&s->shelf.closing);
    if (mine)
        j->begun = true;
    pthread_mutex_unlock(&s->lock);
    if (!mine)
        return;
    job_do(j);
    malloc_trim(0);
}

/* Under the lock: the job may begin in the turn of this flow too. */
static bool job_ask(struct local *s, struct job *j, const char *share)
{
    struct flow flow = { .key = share ? flow_key(share, strlen(share)) : FLOW_SYSTEM };

    for (size_t i = 0; i < j->n_askers; i++)
        if (j->askers[i] == flow.key)
            return true;
    if (j->begun || j->n_askers == ASKERS_MAX)
        return true;
    struct ask *ask = calloc(1, sizeof(*ask));
    if (!ask)
        abort();
    ask->s = s;
    memcpy(ask->name, j->name, sizeof(ask->name));
    if (pool_submit_for(s->pool, &flow, ask_run, ask) != FAIR_OK) {
        free(ask);
        return false;
    }
    j->askers[j->n_askers++] = flow.key;
    return true;
}

/* Failed jobs are kept to be told of; the oldest make room. */
static bool make_room(struct local *s)
{
    struct job *last = NULL;

    if (s->n_jobs < JOBS_MAX)
        return true;
    for (struct job *j = s->jobs; j; j = j->next)
        if (j->status == IMAGE_FAILED)
            last = j;
    if (last)
        job_del(s, last);
    return last != NULL;
}

static struct job *job_start(struct local *s, const char *name, const char *share, struct err *e)
{
    struct job *j = calloc(1, sizeof(*j));

    if (!j)
        abort();
    j->s = s;
    j->status = IMAGE_BUILDING;
    j->progress = (struct progress){ .lock = &s->lock, .step = "waiting" };
    snprintf(j->name, sizeof(j->name), "%s", name);
    if (!make_room(s) || !job_ask(s, j, share)) {
        free(j);
        err_set(e, ERR_OVERLOADED, "too many images are being made");
        return NULL;
    }
    j->next = s->jobs;
    s->jobs = j;
    s->n_jobs++;
    return j;
}

static struct import *import_find(struct local *s, const char *name)
{
    for (struct import *i = s->imports; i; i = i->next)
        if (strcmp(i->name, name) == 0)
            return i;
    return NULL;
}

/* Under the lock; several may have one name. True if there is one. */
static bool imports_drop(struct local *s, const char *name)
{
    bool any = false;

    for (struct import *i = s->imports; i; i = i->next)
        if (strcmp(i->name, name) == 0)
            i->dropped = any = true;
    return any;
}

static void import_del(struct local *s, struct import *i)
{
    struct import **at = &s->imports;

    while (*at != i)
        at = &(*at)->next;
    *at = i->next;
}

/* ---- showing ---- */

/* The last line of a growing text. */
static const char *last_line(struct arena *a, const char *path, int *lines)
{
    struct str text;
    struct err e;

    *lines = 0;
    if (!*path || file_read(a, path, MIB(8), &text, &e) < 0 || text.n == 0)
        return NULL;
    char *t = arena_dup(a, text.p, text.n), *line, *last = NULL;
    while ((line = strsep(&t, "\n")))
        if (strncmp(line, "I: ", 3) == 0) {
            last = line + 3;
            (*lines)++;
        }
    return last;
}

static struct image_state show_job(struct arena *a, const struct job *j)
{
    struct image_state st = {
        .name = arena_strdup(a, j->name),
        .status = j->status,
        .source = recipe_find(j->name) ? "recipe" : "registry",
        .progress = j->progress.percent,
        .step = arena_strdup(a, j->progress.step),
    };

    if (j->status == IMAGE_FAILED) {
        st.step = NULL;
        st.reason = arena_strdup(a, j->reason);
        return st;
    }
    int lines;
    const char *line = last_line(a, j->progress.log, &lines);
    if (line) {
        st.step = arena_strdup(a, line);
        st.progress = MIN(90, st.progress + 6 * lines);
    }
    return st;
}

static int show_name(const struct local *s, struct arena *a, const char *path,
                     struct image_state *out, struct err *e)
{
    struct manifest *m = arena_new(a, struct manifest);
    struct name_record r;
    char file[512];

    TRY(shelf_name_read(a, path, &r, e));
    shelf_manifest_path(&s->shelf, r.digest, file);
    TRY(manifest_read(a, file, m, e));
    *out = (struct image_state){
        .name = r.name,
        .status = IMAGE_READY,
        .digest = arena_printf(a, "sha256:%s", m->digest),
        .source = r.source,
        .size_bytes = m->size,
        .progress = 100,
        .entrypoint = m->entrypoint,
        .cmd = m->cmd,
        .env = m->env,
        .cwd = m->cwd,
        .user = m->user,
        .stop_signal = m->stop_signal,
        .created_at = r.created_at,
    };
    return 0;
}

/* Under the lock. */
static struct image_state show(struct local *s, struct arena *a, const char *name)
{
    struct image_state st = { .name = arena_strdup(a, name) };
    struct job *j = job_find(s, name);
    char path[512];
    struct err e;

    if (import_find(s, name)) {
        st.status = IMAGE_BUILDING;
        st.source = "import";
        return st;
    }
    shelf_name_path(&s->shelf, name, path);
    if (access(path, F_OK) == 0) {
        if (show_name(s, a, path, &st, &e) == 0)
            return st;
        log_err(LOG_WARN, "image_record_unreadable", &e);
    }
    return j ? show_job(a, j) : (struct image_state){ .name = st.name };
}

/* ---- the class ---- */

static int check_name(const char *name, struct err *e)
{
    size_t n = strlen(name);

    if (n == 0 || n > IMAGE_NAME_MAX || *name == '-' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:@+") != n)
        return err_set(e, ERR_INVALID, "an image's name has letters, digits and ._-/:@ only");
    return 0;
}

static int local_ensure(struct image_store *store, struct arena *a, const char *name,
                        const char *share, bool again, struct image_state *out, struct err *e)
{
    struct local *s = local_of(store);
    int result = 0;

    TRY(check_name(name, e));
    pthread_mutex_lock(&s->lock);
    struct image_state st = show(s, a, name);
    if (st.status == IMAGE_ABSENT || (st.status == IMAGE_FAILED && again)) {
        struct job *j = job_find(s, name);
        if (j)
            job_del(s, j);
        j = job_start(s, name, share, e);
        result = j ? 0 : -1;
        if (j)
            st = show_job(a, j);
    } else if (st.status == IMAGE_BUILDING) {
        struct job *j = job_find(s, name);
        if (j)
            (void)job_ask(s, j, share); /* else it waits for the turns it has */
    }
    if (result == 0)
        *out = st;
    pthread_mutex_unlock(&s->lock);
    return result;
}

static int local_inspect(struct image_store *store, struct arena *a, const char *name,
                         struct image_state *out, struct err *e)
{
    struct local *s = local_of(store);

    TRY(check_name(name, e));
    pthread_mutex_lock(&s->lock);
    *out = show(s, a, name);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

struct listing {
    struct arena *a;
    struct image_state *states;
    size_t n, cap;
};

static void list_put(struct listing *l, struct image_state st)
{
    if (l->n == l->cap) {
        struct image_state *old = l->states;
        l->cap = l->cap ? 2 * l->cap : 16;
        l->states = arena_new_n(l->a, struct image_state, l->cap);
        if (l->n)
            memcpy(l->states, old, l->n * sizeof(*old));
    }
    l->states[l->n++] = st;
}

static void list_name(const struct shelf *s _unused_, const char *path, const char *name _unused_,
                      void *ctx)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct listing *l = ctx;
    struct name_record r;
    struct err e;

    if (shelf_name_read(&a, path, &r, &e) == 0 && strcmp(r.source, "registry") == 0)
        list_put(l, (struct image_state){ .name = arena_strdup(l->a, r.name),
                                          .status = IMAGE_READY,
                                          .source = "registry" });
}

static int local_list(struct image_store *store, struct arena *a, struct image_state **out,
                      size_t *n, struct err *e _unused_)
{
    struct local *s = local_of(store);
    struct listing l = { .a = a };

    pthread_mutex_lock(&s->lock);
    shelf_each(&s->shelf, "names", list_name, &l);
    size_t ready = l.n;
    for (const struct job *j = s->jobs; j; j = j->next) {
        bool also = recipe_find(j->name) != NULL;
        for (size_t i = 0; i < ready; i++)
            also = also || strcmp(l.states[i].name, j->name) == 0;
        if (!also)
            list_put(&l, (struct image_state){ .name = arena_strdup(a, j->name),
                                               .status = j->status,
                                               .source = "registry" });
    }
    pthread_mutex_unlock(&s->lock);
    *out = l.states;
    *n = l.n;
    return 0;
}

static int import_into(struct local *s, struct arena *a, const struct import *i,
                       enum image_format f, const char *config, image_read_fn *read, void *ctx,
                       struct err *e)
{
    struct progress g = { .lock = &s->lock };
    struct manifest *m = i->m;
    char tmp[512];
    int result;

    if (f == IMAGE_ROOTFS_TAR) {
        TRY(manifest_config(a, config, m, e));
        TRY(layer_add(&s->paths, read, ctx, m, NULL, e));
        manifest_seal(m);
        result = 0;
    } else {
        TRY(layer_tmp(&s->paths, tmp, e));
        result = image_load_archive(&s->paths, a, tmp, read, ctx, &g, m, e);
        struct err ignored;
        if (dir_remove(tmp, &ignored) < 0)
            log_err(LOG_WARN, "image_rest_stays", &ignored);
    }
    if (result < 0)
        return -1;
    pthread_mutex_lock(&s->lock);
    result = i->dropped
                 ? err_set(e, ERR_INVALID_STATE, "%s was removed while it was imported", i->name)
                 : publish(s, i->name, "import", m, e);
    pthread_mutex_unlock(&s->lock);
    return result;
}

static int local_import(struct image_store *store, struct arena *a, const char *name,
                        enum image_format f, const char *config, image_read_fn *read, void *ctx,
                        struct image_state *out, struct err *e)
{
    struct local *s = local_of(store);
    struct import i = { .name = name, .m = arena_new(a, struct manifest) };
    struct pin pin = { .m = i.m };

    TRY(check_name(name, e));
    if (recipe_find(name))
        return err_set(e, ERR_ALREADY_EXISTS, "%s is a built-in image", name);
    pthread_mutex_lock(&s->lock);
    i.next = s->imports;
    s->imports = &i;
    shelf_pin(&s->shelf, &pin);
    pthread_mutex_unlock(&s->lock);
    int result = import_into(s, a, &i, f, config, read, ctx, e);
    pthread_mutex_lock(&s->lock);
    import_del(s, &i);
    shelf_unpin(&s->shelf, &pin);
    struct job *j = job_find(s, name);
    if (result == 0 && j && j->status == IMAGE_FAILED)
        job_del(s, j);
    shelf_collect(&s->shelf); /* what stood under the name before may be of no use now */
    if (result == 0)
        *out = show(s, a, name);
    pthread_mutex_unlock(&s->lock);
    return result;
}

static int local_remove(struct image_store *store, const char *name, struct err *e)
{
    struct local *s = local_of(store);
    char path[512];
    int result = 0;

    TRY(check_name(name, e));
    pthread_mutex_lock(&s->lock);
    struct job *j = job_find(s, name);
    if (imports_drop(s, name) || (j && j->status == IMAGE_BUILDING)) {
        result = err_set(e, ERR_INVALID_STATE, "%s is being made", name);
    } else {
        if (j)
            job_del(s, j);
        shelf_name_path(&s->shelf, name, path);
        if (unlink(path) < 0 && errno != ENOENT)
            result = err_sys(e, errno, "unlink %s", path);
        shelf_collect(&s->shelf);
    }
    pthread_mutex_unlock(&s->lock);
    return result;
}

static void local_free(struct image_store *store)
{
    struct local *s = local_of(store);

    /* What waits for its turn is begun by the next start, when it is asked for. */
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->shelf.closing, true);
    pthread_mutex_unlock(&s->lock);
    pool_free(s->pool);
    while (s->jobs)
        job_del(s, s->jobs);
    pthread_mutex_destroy(&s->lock);
    free(s->registries);
    free(s);
}

static const struct image_class local_class = {
    .name = "local",
    .ensure = local_ensure,
    .inspect = local_inspect,
    .list = local_list,
    .import = local_import,
    .remove = local_remove,
    .free = local_free,
};

/* ---- holding ---- */

static int layers_of(struct local *s, struct arena *a, const char *hex, const struct uuid *user,
                     const char *const **dirs, size_t *n, struct image_state *config, struct err *e)
{
    struct manifest *m = arena_new(a, struct manifest);
    char path[512];

    shelf_manifest_path(&s->shelf, hex, path);
    if (access(path, F_OK) < 0)
        return err_set(e, ERR_NOT_FOUND, "the host does not have the image");
    TRY(manifest_read(a, path, m, e));
    const char **list = arena_new_n(a, const char *, m->n_layers);
    for (size_t i = 0; i < m->n_layers; i++) {
        list[i] = arena_printf(a, "%s/%s", s->paths.layers, m->layers[i]);
        if (access(list[i], F_OK) < 0)
            return err_set(e, ERR_NOT_FOUND, "the host lost a layer of the image");
    }
    snprintf(path, sizeof(path), "%s/holds/%s", s->shelf.dir, user->s);
    TRY(file_write(path, hex, strlen(hex), 0600, e));
    if (config)
        *config = (struct image_state){
            .status = IMAGE_READY,
            .digest = arena_printf(a, "sha256:%s", hex),
            .size_bytes = m->size,
            .progress = 100,
            .entrypoint = m->entrypoint,
            .cmd = m->cmd,
            .env = m->env,
            .cwd = m->cwd,
            .user = m->user,
            .stop_signal = m->stop_signal,
        };
    *dirs = list;
    *n = m->n_layers;
    return 0;
}

int image_local_layers(struct image_store *store, struct arena *a, const char *digest,
                       const struct uuid *user, const char *const **dirs, size_t *n,
                       struct image_state *config, struct err *e)
{
    struct local *s = local_of(store);
    struct uuid same;

    if (strncmp(digest, "sha256:", 7) != 0 || !image_hex_ok(digest + 7) ||
        !uuid_parse(str_of(user->s), &same))
        return err_set(e, ERR_INVALID, "an image's digest is malformed");
    pthread_mutex_lock(&s->lock);
    int result = layers_of(s, a, digest + 7, user, dirs, n, config, e);
    pthread_mutex_unlock(&s->lock);
    return result;
}

void image_local_release(struct image_store *store, const struct uuid *user)
{
    struct local *s = local_of(store);
    struct uuid same;
    char path[512];

    if (!uuid_parse(str_of(user->s), &same))
        return;
    snprintf(path, sizeof(path), "%s/holds/%s", s->shelf.dir, user->s);
    pthread_mutex_lock(&s->lock);
    if (unlink(path) == 0)
        shelf_collect(&s->shelf);
    pthread_mutex_unlock(&s->lock);
}

/* ---- its life ---- */

static int prepare(struct local *s, const struct image_local_opts *o, struct err *e)
{
    static const char *const folders[] = {
        "", "/names", "/manifests", "/holds", "/layers", "/tmp"
    };
    char path[512];

    if (strlen(o->dir) >= sizeof(s->shelf.dir) || strlen(o->cache_dir) >= sizeof(s->shelf.dir) ||
        (o->mirror && strlen(o->mirror) >= sizeof(s->paths.mirror)))
        return err_set(e, ERR_INVALID, "a path of the image store is too long");
    snprintf(s->shelf.dir, sizeof(s->shelf.dir), "%s", o->dir);
    snprintf(s->paths.layers, sizeof(s->paths.layers), "%s/layers", o->dir);
    snprintf(s->paths.tmp, sizeof(s->paths.tmp), "%s/tmp", o->dir);
    snprintf(s->paths.cache, sizeof(s->paths.cache), "%s", o->cache_dir);
    if (!(s->registries = strdup(o->registries ? o->registries : "")))
        abort();
    s->paths.registries = s->registries;
    snprintf(s->paths.mirror, sizeof(s->paths.mirror), "%s", o->mirror ? o->mirror : "");
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof(path), "%s%s", o->dir, folders[i]);
        TRY(dir_make(path, 0700, e));
    }
    TRY(dir_make(o->cache_dir, 0755, e));
    shelf_sweep(&s->shelf);
    shelf_collect(&s->shelf);
    return 0;
}

struct image_store *image_local(const struct image_local_opts *o, struct err *e)
{
    const struct pool_opts threads = { .name = "image", .threads = THREADS, .queue = JOBS_MAX };
    struct local *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->store.class = &local_class;
    pthread_mutex_init(&s->lock, NULL);
    s->paths.lock = &s->lock;
    if (prepare(s, o, e) < 0 || !(s->pool = pool_new(&threads, e))) {
        pthread_mutex_destroy(&s->lock);
        free(s->registries);
        free(s);
        return NULL;
    }
    pthread_mutex_lock(&s->lock);
    s->shelf.pool = s->pool;
    shelf_remove_aside(&s->shelf);
    pthread_mutex_unlock(&s->lock);
    return &s->store;
}
