/* SPDX-License-Identifier: Apache-2.0 */
/* Containers as a host that takes orders: what is here, and which step an order asks for.  Hides
 * how two orders for one instance wait for each other and how a look at an instance never waits for
 * any. */
#include "drivers/compute/oci_impl.h"

#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "os/file.h"
#include "os/process.h"

enum { STOP_GRACE_S = 10 };

/* ---- instances ---- */

void oci_set_text(char **at, const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy)
        abort();
    free(*at);
    *at = copy;
}

const char *oci_path(struct oci *o, struct arena *a, const struct uuid *id, const char *name)
{
    return name ? arena_printf(a, "%s/%s/%s", o->dir, id->s, name)
                : arena_printf(a, "%s/%s", o->dir, id->s);
}

const char *oci_group(struct oci *o, struct arena *a, const struct uuid *id)
{
    return arena_printf(a, "brume/%s/%s", o->installation, id->s);
}

struct inst *oci_ref(struct inst *i)
{
    i->refs++;
    return i;
}

void oci_unref_locked(struct oci *o, struct inst *i)
{
    if (--i->refs > 0)
        return;
    if (i->range >= 0)
        o->ranges[i->range] = 0;
    if (i->shim_fd >= 0)
        close(i->shim_fd);
    if (i->init_fd >= 0)
        close(i->init_fd);
    arena_free(&i->arena);
    pthread_mutex_destroy(&i->order);
    free(i->ports);
    free(i->reason);
    free(i);
}

/* Under oci.lock: a new instance in the map, which holds a reference. */
struct inst *oci_add(struct oci *o, const struct uuid *id)
{
    struct inst *i = calloc(1, sizeof(*i));

    if (!i)
        abort();
    pthread_mutex_init(&i->order, NULL);
    i->id = *id;
    i->refs = 1;
    i->range = i->shim_fd = i->init_fd = -1;
    i->files_revision = -1;
    i->arena = ARENA(MIB(4));
    i->state = (struct compute_state){ .id = *id, .status = COMPUTE_CREATING, .boot = -1 };
    map_set(o->instances, id->s, strlen(id->s), i);
    return i;
}

static int take_range(struct oci *o)
{
    for (int n = 0; n < OCI_RANGES; n++)
        if (!o->ranges[n]) {
            o->ranges[n] = 1;
            return n;
        }
    return -1;
}

static struct inst *take(struct oci *o, const struct uuid *id, bool make, struct err *e)
{
    for (;;) {
        pthread_mutex_lock(&o->lock);
        struct inst *i = map_get(o->instances, id->s, strlen(id->s));
        if (!i && make) {
            int range = take_range(o);
            if (range >= 0) {
                i = oci_add(o, id);
                i->range = range;
            } else {
                err_set(e, ERR_QUOTA_EXCEEDED, "this host has no room for a further instance");
            }
        }
        if (i)
            oci_ref(i);
        pthread_mutex_unlock(&o->lock);
        if (!i)
            return NULL;
        pthread_mutex_lock(&i->order);
        if (!i->gone)
            return i;
        oci_release(o, i);
    }
}

struct inst *oci_take(struct oci *o, const struct uuid *id)
{
    struct err e;

    return take(o, id, false, &e);
}

void oci_release(struct oci *o, struct inst *i)
{
    pthread_mutex_unlock(&i->order);
    OCI_LOCK(o);
    oci_unref_locked(o, i);
}

static void show_locked(struct arena *a, const struct inst *i, struct compute_state *out)
{
    *out = i->state;
    if (out->boot < 0)
        out->boot = 0;
    out->ports = arena_strdup(a, i->ports);
    out->reason = arena_strdup(a, i->reason);
    if (i->stopping && i->shim_fd >= 0)
        out->status = COMPUTE_STOPPING;
}

/* ---- orders ---- */

static int check_json(const char *text, enum json_type type, const char *what, struct err *e)
{
    if (!text)
        return 0;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(text), e);
    if (!v)
        return -1;
    if (json_type_of(v) != type)
        return err_set(e, ERR_INVALID, "'%s' is not of the right type", what);
    for (size_t i = 0; i < json_len(v) && strcmp(what, "ports") != 0; i++) {
        const char *key;
        const struct json_value *m = type == JSON_ARR ? json_at(v, i) : json_member(v, i, &key);
        if (!json_str_of(m, NULL))
            return err_set(e, ERR_INVALID, "'%s' holds what is no text", what);
    }
    return 0;
}

static int check_spec(const struct compute_spec *s, struct err *e)
{
    struct uuid id;

    if (!uuid_parse((struct str){ s->id.s, strlen(s->id.s) }, &id) || !uuid_eq(&id, &s->id))
        return err_set(e, ERR_INVALID, "the order names no instance");
    if (!s->image || !s->image[0])
        return err_set(e, ERR_INVALID, "the order names no image");
    if (s->name && (strlen(s->name) > 63 || strpbrk(s->name, "/ \t\r\n")))
        return err_set(e, ERR_INVALID, "the instance's name cannot be a host name");
    if (s->cpu_milli < 0 || s->memory_mb < 0 || s->disk_mb < 0 || s->pids < 0 ||
        s->cpu_milli > 1000000 || s->memory_mb > 1 << 30 || s->disk_mb > 1 << 30)
        return err_set(e, ERR_INVALID, "a limit is out of range");
    if (s->data && (s->data[0] != '/' || !s->data[1] || strstr(s->data, "..")))
        return err_set(e, ERR_INVALID, "the folder of data must begin with '/' and not lead up");
    TRY(check_json(s->entrypoint, JSON_ARR, "entrypoint", e));
    TRY(check_json(s->cmd, JSON_ARR, "cmd", e));
    TRY(check_json(s->env, JSON_OBJ, "env", e));
    return check_json(s->ports, JSON_ARR, "ports", e);
}

static const char *keep(struct inst *i, const char *s)
{
    return arena_strdup(&i->arena, s);
}

/* The order becomes the instance's: its strings are copied, but for its files, which are the
 * order's and not kept. */
static void keep_spec(struct inst *i, const struct compute_spec *s)
{
    struct arena was = i->arena;

    i->arena = ARENA(MIB(4));
    i->spec = *s;
    i->spec.name = keep(i, s->name);
    i->spec.image = keep(i, s->image);
    i->spec.entrypoint = keep(i, s->entrypoint);
    i->spec.cmd = keep(i, s->cmd);
    i->spec.env = keep(i, s->env);
    i->spec.user_data = keep(i, s->user_data);
    i->spec.vpc_cidr = keep(i, s->vpc_cidr);
    i->spec.subnet_cidr = keep(i, s->subnet_cidr);
    i->spec.ip = keep(i, s->ip);
    i->spec.gateway = keep(i, s->gateway);
    i->spec.dns = keep(i, s->dns);
    i->spec.ports = keep(i, s->ports);
    i->spec.data = keep(i, s->data);
    arena_free(&was);
}

static enum compute_status status_of(struct oci *o, struct inst *i)
{
    OCI_LOCK(o);
    return i->state.status;
}

static bool is_alive(enum compute_status s)
{
    return s == COMPUTE_RUNNING || s == COMPUTE_PAUSED;
}

static void set_status(struct oci *o, struct inst *i, enum compute_status s, const char *reason)
{
    OCI_LOCK(o);
    i->state.status = s;
    oci_set_text(&i->reason, reason);
}

static int pause_as_wanted(struct oci *o, struct arena *a, struct inst *i, struct err *e)
{
    bool want = i->spec.want == COMPUTE_WANT_PAUSED, frozen;

    {
        OCI_LOCK(o);
        if (!is_alive(i->state.status))
            return 0;
        frozen = i->state.status == COMPUTE_PAUSED;
    }
    if (want == frozen)
        return 0;
    TRY(cgroup_freeze(o->groups, oci_group(o, a, &i->id), want, e));
    OCI_LOCK(o);
    if (is_alive(i->state.status))
        i->state.status = want ? COMPUTE_PAUSED : COMPUTE_RUNNING;
    return 0;
}

/* Ends what runs, if anything does; 1: it still has its grace. */
static int end_it(struct oci *o, struct inst *i, int64_t grace, struct err *e)
{
    return is_alive(status_of(o, i)) ? oci_stop(o, i, grace, e) : 0;
}

/* A new start, whatever it is doing now; 1: what runs has to end first. */
static int boot(struct oci *o, struct arena *a, struct inst *i, struct err *e)
{
    const char *failed = NULL;
    int ending = end_it(o, i, SECONDS(STOP_GRACE_S), e);

    if (ending)
        return ending;
    if (oci_start(o, a, i, &failed, e) < 0) {
        set_status(o, i, COMPUTE_CREATING, e->msg);
        return -1;
    }
    if (failed) {
        OCI_LOCK(o);
        i->state.status = COMPUTE_FAILED;
        i->state.boot = i->spec.boot;
        oci_set_text(&i->reason, failed);
    }
    return 0;
}

static int stop_as_wanted(struct oci *o, struct inst *i, struct err *e)
{
    int ending = end_it(o, i, SECONDS(STOP_GRACE_S), e);

    if (ending)
        return ending;
    OCI_LOCK(o);
    if (i->state.status != COMPUTE_FAILED)
        i->state.status = COMPUTE_STOPPED;
    return 0;
}

static bool boots(struct oci *o, struct inst *i)
{
    OCI_LOCK(o);
    return i->spec.want != COMPUTE_WANT_STOPPED && i->spec.boot > i->state.boot;
}

/* 1: not there yet. */
static int step(struct oci *o, struct arena *a, struct inst *i, bool resized, struct err *e)
{
    if (i->spec.want == COMPUTE_WANT_STOPPED)
        return stop_as_wanted(o, i, e);
    if (boots(o, i)) {
        int ending = boot(o, a, i, e);

        if (ending)
            return ending;
    } else if (resized && is_alive(status_of(o, i))) {
        struct cgroup_limits l = oci_limits(&i->spec);
        TRY(cgroup_limit(o->groups, oci_group(o, a, &i->id), &l, e));
    }
    return pause_as_wanted(o, a, i, e);
}

static bool limits_differ(const struct compute_spec *x, const struct compute_spec *y)
{
    return x->cpu_milli != y->cpu_milli || x->memory_mb != y->memory_mb || x->pids != y->pids;
}

/* What a start finds, or what runs shall see from now on. */
static int place_files(struct oci *o, struct inst *i, bool starts, struct err *e)
{
    bool differ = i->files_revision != i->spec.files_revision;

    return i->spec.files && (starts || differ) ? oci_files_write(o, i, e) : 0;
}

/* 1: what runs has to end first. */
static int carry_out(struct oci *o, struct arena *a, struct inst *i, const struct compute_spec *s,
                     struct err *e)
{
    bool resized = limits_differ(s, &i->spec);

    if (s->revision < i->spec.revision)
        return err_set(e, ERR_INVALID_STATE, "the host has already done a newer order");
    if (i->range < 0)
        return err_set(e, ERR_INTERNAL,
                       "what this host keeps of the instance cannot be read: it can be deleted");
    if (mkdir(oci_path(o, a, &i->id, NULL), 0711) < 0 && errno != EEXIST)
        return err_sys(e, errno, "mkdir of the instance's folder");
    /* What a size is made of cannot change under a file system that exists. */
    bool same = s->revision == i->spec.revision && s->boot == i->spec.boot &&
                s->want == i->spec.want && !resized;
    keep_spec(i, s);
    if (!same || status_of(o, i) == COMPUTE_CREATING) {
        TRY(oci_save_order(o, i, e));
        if (!boots(o, i)) { /* else that is done beside the start */
            TRY(oci_sync_order(o, i, e));
            TRY(o->net ? net_sync(o->net, &i->id, e) : 0);
        }
    }
    int r = place_files(o, i, boots(o, i), e);
    if (r == 0)
        r = step(o, a, i, resized, e);
    i->spec.files = NULL;
    {
        OCI_LOCK(o);
        if (r == 0)
            i->state.revision = s->revision;
        pthread_cond_broadcast(&o->changed);
    }
    struct err later;
    if (oci_save_state(o, i, r >= 0 ? e : &later) < 0)
        return -1;
    return r;
}

static int oci_ensure(struct compute *h, struct arena *a, const struct compute_spec *s,
                      struct compute_state *out, struct err *e)
{
    struct oci *o = oci_of(h);

    TRY(check_spec(s, e));
    struct inst *i = take(o, &s->id, true, e);
    if (!i)
        return -1;
    int r = carry_out(o, a, i, s, e);
    if (r >= 0) {
        OCI_LOCK(o);
        show_locked(a, i, out);
        if (r > 0) /* also where it has ended just now: the order is not done */
            out->status = COMPUTE_STOPPING;
    }
    oci_release(o, i);
    return MIN(r, 0);
}

static int oci_inspect(struct compute *h, struct arena *a, const struct uuid *id,
                       struct compute_state *out, _unused_ struct err *e)
{
    struct oci *o = oci_of(h);
    OCI_LOCK(o);
    const struct inst *i = map_get(o->instances, id->s, strlen(id->s));

    if (i)
        show_locked(a, i, out);
    else
        *out = (struct compute_state){ .id = *id };
    return 0;
}

static int oci_list(struct compute *h, struct arena *a, struct compute_state **out, size_t *n,
                    _unused_ struct err *e)
{
    struct oci *o = oci_of(h);
    OCI_LOCK(o);
    size_t at = 0, key_len, count = 0;
    const void *key;
    void *value;

    *out = arena_new_n(a, struct compute_state, map_count(o->instances));
    while (map_next(o->instances, &at, &key, &key_len, &value))
        show_locked(a, value, &(*out)[count++]);
    *n = count;
    return 0;
}

static int destroy_taken(struct oci *o, struct arena *a, struct inst *i, int64_t grace,
                         struct err *e)
{
    int ending = end_it(o, i, grace, e);

    if (ending)
        return ending;
    TRY(oci_clean(o, i, e));
    TRY(oci_files_remove(o, &i->id, e));
    TRY(dir_remove(oci_path(o, a, &i->id, NULL), e));
    if (o->images)
        image_local_release(o->images, &i->id);
    OCI_LOCK(o);
    map_del(o->instances, i->id.s, strlen(i->id.s));
    i->gone = true;
    pthread_cond_broadcast(&o->changed);
    oci_unref_locked(o, i); /* the map's */
    return 0;
}

static int oci_destroy(struct compute *h, const struct uuid *id, int64_t revision, int64_t grace,
                       struct err *e)
{
    struct oci *o = oci_of(h);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    struct inst *i = oci_take(o, id);

    if (!i)
        return 0;
    int r = revision < i->spec.revision
                ? err_set(e, ERR_INVALID_STATE, "the host has already done a newer order")
                : destroy_taken(o, &a, i, grace, e);
    oci_release(o, i);
    return r;
}

static int oci_watch(struct compute *h, int64_t timeout, struct uuid *id, _unused_ struct err *e)
{
    struct oci *o = oci_of(h);
    struct timespec until;
    OCI_LOCK(o);

    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout % 1000000 * 1000;
    until.tv_sec += timeout / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (o->n_events == 0)
        if (pthread_cond_timedwait(&o->changed, lock_, &until) == ETIMEDOUT)
            return 0;
    struct oci_event ev = o->events[o->first_event];
    o->first_event = (o->first_event + 1) % OCI_EVENTS;
    o->n_events--;
    *id = ev.id;
    return (int)ev.what;
}

/* ---- birth and end ---- */

static void oci_free(struct compute *h)
{
    struct oci *o = oci_of(h);
    size_t at = 0, key_len;
    const void *key;
    void *value;

    oci_monitor_stop(o);
    oci_seccomp_end(o);
    while (o->instances && map_next(o->instances, &at, &key, &key_len, &value)) {
        struct inst *i = value;
        i->refs = 1;
        oci_unref_locked(o, i);
    }
    map_free(o->instances);
    if (o->groups) /* the parents of all groups go with the last of them */
        cgroup_tidy(o->groups, arena_printf(&o->arena, "brume/%s/shims", o->installation));
    cgroups_close(o->groups);
    pthread_cond_destroy(&o->changed);
    pthread_mutex_destroy(&o->lock);
    arena_free(&o->arena);
    free(o);
}

static int find_runtime(struct oci *o, const char *wanted, struct err *e)
{
    bool any = !wanted || !wanted[0] || strcmp(wanted, "auto") == 0;
    const char *crun = any || strcmp(wanted, "crun") == 0 ? process_which(&o->arena, "crun") : NULL;
    const char *runc = any || strcmp(wanted, "runc") == 0 ? process_which(&o->arena, "runc") : NULL;

    if (!crun && !runc)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "this host has no %s",
                       any ? "crun and no runc" : wanted);
    o->runtime = crun ? OCI_CRUN : OCI_RUNC;
    o->runtime_path = crun ? crun : runc;
    return 0;
}

static int prepare(struct oci *o, const struct compute_oci_opts *opts, struct err *e)
{
    o->dir = arena_strdup(&o->arena, opts->dir);
    o->installation = arena_strdup(&o->arena, opts->installation);
    const char *slash = strrchr(opts->shim_path, '/');
    o->shim = arena_strdup(&o->arena, opts->shim_path);
    o->init = arena_printf(&o->arena, "%.*sbrume-init",
                           slash ? (int)(slash + 1 - opts->shim_path) : 0, opts->shim_path);
    o->net = opts->net;
    o->images = opts->images;
    o->copy_layers = opts->copy_layers;
    if (access(o->shim, X_OK) < 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "brume-shim is missing");
    if (access(o->init, X_OK) < 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "brume-init is missing beside brume-shim");
    TRY(find_runtime(o, opts->runtime, e));
    o->runtime_root = arena_printf(&o->arena, "%s/.runtime", o->dir);
    o->files_dir = opts->files_dir ? arena_strdup(&o->arena, opts->files_dir)
                                   : arena_printf(&o->arena, "%s/.files", o->dir);
    TRY(dir_make(o->dir, 0711, e));
    TRY(dir_make(o->files_dir, 0700, e));
    TRY(dir_make(o->runtime_root, 0700, e));
    oci_seccomp_begin(o);
    o->groups = cgroups_open(e);
    if (!o->groups)
        return -1;
    const char *lacks = cgroups_lacks(o->groups);
    if (lacks)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "this host has no control group for %s", lacks);
    TRY(cgroup_make(o->groups, arena_printf(&o->arena, "brume/%s/shims", o->installation), e));
    TRY(oci_monitor_start(o, e));
    return oci_adopt(o, e);
}

static const struct compute_class oci_class = {
    .name = "oci",
    .ensure = oci_ensure,
    .inspect = oci_inspect,
    .destroy = oci_destroy,
    .list = oci_list,
    .logs = oci_logs,
    .stats = oci_stats,
    .exec = oci_exec,
    .probe = oci_probe,
    .watch = oci_watch,
    .free = oci_free,
};

struct compute *compute_oci(const struct compute_oci_opts *opts, struct err *e)
{
    struct oci *o = calloc(1, sizeof(*o));
    pthread_condattr_t attr;

    if (!o)
        abort();
    o->base.class = &oci_class;
    o->arena = ARENA(MIB(16));
    o->epoll = o->quit = o->printed = -1;
    o->instances = map_new();
    pthread_mutex_init(&o->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (prepare(o, opts, e) < 0) {
        oci_free(&o->base);
        return NULL;
    }
    log_event(LOG_INFO, "compute_ready", L_STR("runtime", o->runtime_path),
              L_INT("instances", (int64_t)map_count(o->instances)));
    return &o->base;
}
