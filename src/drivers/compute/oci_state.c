/* SPDX-License-Identifier: Apache-2.0 */
/* What outlives the agent, and how it is found again.
 *
 * order.json is the last order and the range of ids, fsynced before it is said to be done.
 * state.json is how far it was done; it may be lost with the machine, for then nothing runs.
 * shim.pid is locked as long as the shim lives.  exit.json is the shim's last word. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/id.h"
#include "codec/text.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/thread.h"

enum { FILE_MAX = 1 << 20 };

/* ---- files ---- */

int oci_save_order(struct oci *o, struct inst *i, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct buf b = BUF(FILE_MAX);
    struct json_out j = JSON_OUT(&b);
    struct compute_spec kept = i->spec;

    kept.files = NULL; /* secrets; a start's order brings them */
    json_open(&j, '{');
    json_kint(&j, "range", i->range);
    json_key(&j, "spec");
    json_dump_row(&j, &compute_spec_record, &kept);
    json_close(&j);
    int r = json_done(&j) < 0
                ? err_set(e, ERR_TOO_LARGE, "the order is too large")
                : file_write(oci_path(o, &a, &i->id, "order.json"), b.p, b.n, 0600, e);
    buf_free(&b);
    return r;
}

int oci_sync_order(struct oci *o, struct inst *i, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(16));

    return file_sync(oci_path(o, &a, &i->id, "order.json"), e);
}

int oci_save_state(struct oci *o, struct inst *i, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct buf b = BUF(FILE_MAX);
    struct json_out j = JSON_OUT(&b);
    struct compute_state s;

    {
        OCI_LOCK(o);
        s = i->state;
        s.ports = arena_strdup(&a, i->ports);
        s.reason = arena_strdup(&a, i->reason);
    }
    json_open(&j, '{');
    json_kint(&j, "range", i->range);
    json_kbool(&j, "attached", i->attached);
    json_kint(&j, "root", i->root);
    json_key(&j, "state");
    json_dump_row(&j, &compute_state_record, &s);
    json_close(&j);
    int r = json_done(&j) < 0
                ? err_set(e, ERR_INTERNAL, "internal error")
                : file_write(oci_path(o, &a, &i->id, "state.json"), b.p, b.n, 0600, e);
    buf_free(&b);
    return r;
}

static struct json_value *load(struct oci *o, struct arena *a, const struct uuid *id,
                               const char *name)
{
    struct str text;
    struct err e;

    if (file_read(a, oci_path(o, a, id, name), FILE_MAX, &text, &e) < 0)
        return NULL;
    return json_parse(text, &e);
}

static int64_t load_pid(struct oci *o, struct arena *a, const struct uuid *id, const char *name)
{
    struct str text;
    struct err e;
    int64_t pid = 0;

    if (file_read(a, oci_path(o, a, id, name), 64, &text, &e) < 0)
        return 0;
    while (text.n && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == ' '))
        text.n--;
    return int_parse(text, 2, INT32_MAX, &pid) ? pid : 0;
}

/* ---- exits ---- */

/* What the shim left, or "unknown" and the rest of the instance killed. */
static void read_exit(struct oci *o, struct arena *a, const struct uuid *id, int64_t *code,
                      int64_t *finished)
{
    _cleanup_(json_freep) struct json_value *v = load(o, a, id, "exit.json");
    struct err e = { 0 };

    *code = json_get_int(v, "exit_code", -1);
    *finished = json_get_int(v, "finished_at", 0);
    if (v)
        return;
    *finished = clock_wall(clock_system());
    if (cgroup_kill(o->groups, oci_group(o, a, id), SECONDS(5), &e) < 0)
        log_err(LOG_WARN, "instance_kill_failed", &e);
}

void oci_push_event(struct oci *o, const struct uuid *id, enum compute_event what)
{
    /* What was printed never makes a change be forgotten. */
    if (what == COMPUTE_PRINTED && o->n_events >= OCI_EVENTS / 2)
        return;
    if (o->n_events == OCI_EVENTS) { /* the oldest goes: whoever missed it looks at the list */
        o->first_event = (o->first_event + 1) % OCI_EVENTS;
        o->n_events--;
    }
    o->events[(o->first_event + o->n_events++) % OCI_EVENTS] = (struct oci_event){ *id, what };
}

/* Nobody is behind its published ports any more. */
void oci_unpublish(struct oci *o, const struct uuid *id)
{
    struct err e;

    if (o->net && net_unpublish(o->net, id, &e) < 0)
        log_err(LOG_WARN, "instance_ports_stay", &e);
}

static void ended(struct oci *o, struct inst *i)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    int64_t code, finished;
    siginfo_t info;

    epoll_ctl(o->epoll, EPOLL_CTL_DEL, i->shim_fd, NULL);
    waitid(P_PIDFD, (id_t)i->shim_fd, &info, WEXITED); /* ECHILD: an earlier agent's child */
    read_exit(o, &a, &i->id, &code, &finished);
    bool oom = cgroup_oom_killed(o->groups, oci_group(o, &a, &i->id));
    oci_unpublish(o, &i->id);

    OCI_LOCK(o);
    i->state.exit_code = code;
    i->state.finished_at = finished;
    i->state.oom_killed = oom;
    i->state.pid = 0;
    i->state.status = i->stopping ? COMPUTE_STOPPED : COMPUTE_EXITED;
    oci_set_text(&i->reason, i->stopping ? NULL
                             : oom       ? "it ran out of memory"
                             : code < 0  ? "its end was not seen"
                                         : NULL);
    close(i->shim_fd);
    if (i->init_fd >= 0)
        close(i->init_fd);
    i->shim_fd = i->init_fd = -1;
    oci_push_event(o, &i->id, COMPUTE_CHANGED);
    pthread_cond_broadcast(&o->changed);
    oci_unref_locked(o, i);
}

void oci_watch_shim(struct oci *o, struct inst *i, int shim_fd, int init_fd)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = i };
    OCI_LOCK(o);

    i->shim_fd = shim_fd;
    i->init_fd = init_fd;
    oci_ref(i);
    if (epoll_ctl(o->epoll, EPOLL_CTL_ADD, shim_fd, &ev) < 0)
        abort(); /* a pidfd can always be waited for */
}

static void *monitor(void *ctx)
{
    struct oci *o = ctx;
    struct epoll_event ev[16];

    for (;;) {
        int n = epoll_wait(o->epoll, ev, ARRAY_LEN(ev), -1);
        for (int k = 0; k < n; k++) {
            if (!ev[k].data.ptr)
                return NULL;
            if (ev[k].data.ptr == &o->printed)
                oci_printed(o);
            else
                ended(o, ev[k].data.ptr);
        }
    }
}

int oci_monitor_start(struct oci *o, struct err *e)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };

    o->epoll = epoll_create1(EPOLL_CLOEXEC);
    o->quit = eventfd(0, EFD_CLOEXEC);
    if (o->epoll < 0 || o->quit < 0 || epoll_ctl(o->epoll, EPOLL_CTL_ADD, o->quit, &ev) < 0)
        return err_sys(e, errno, "epoll");
    TRY(oci_logs_begin(o, e));
    o->monitor = thread_start("compute", monitor, o);
    o->monitoring = true;
    return 0;
}

void oci_monitor_stop(struct oci *o)
{
    uint64_t one = 1;

    if (o->monitoring && write(o->quit, &one, sizeof(one)) == sizeof(one))
        pthread_join(o->monitor, NULL);
    oci_logs_end(o);
    if (o->epoll >= 0)
        close(o->epoll);
    if (o->quit >= 0)
        close(o->quit);
    o->monitoring = false;
}

bool oci_wait_ended(struct oci *o, struct inst *i, int64_t timeout)
{
    struct timespec until;
    OCI_LOCK(o);

    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout % 1000000 * 1000;
    until.tv_sec += timeout / 1000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    while (i->shim_fd >= 0)
        if (pthread_cond_timedwait(&o->changed, lock_, &until) == ETIMEDOUT)
            return i->shim_fd < 0;
    return true;
}

/* ---- adoption ---- */

/* A descriptor of the living shim of this folder, or -1. */
static int living_shim(struct oci *o, struct arena *a, const struct uuid *id, int64_t *pid)
{
    _cleanup_close_ int lock = open(oci_path(o, a, id, "shim.pid"), O_RDWR | O_CLOEXEC);

    if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) == 0)
        return -1;
    *pid = load_pid(o, a, id, "shim.pid");
    int fd = *pid ? pidfd_open((pid_t)*pid, 0) : -1;
    /* Still locked: the descriptor is of who holds the lock, not of a later process of that number.
     */
    if (fd >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int64_t parent_of(struct arena *a, int64_t pid)
{
    struct str text;
    int64_t ppid = 0;
    _cleanup_close_ int fd =
        open(arena_printf(a, "/proc/%lld/stat", (long long)pid), O_RDONLY | O_CLOEXEC);
    char *buf = arena_alloc(a, 1024);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, 1023);

    text = (struct str){ n > 0 ? memrchr(buf, ')', (size_t)n) : NULL, 0 };
    if (!text.p || strlen(text.p) < 5)
        return 0;
    text.p += 4; /* ") S " */
    text.n = strcspn(text.p, " ");
    return int_parse(text, 0, INT32_MAX, &ppid) ? ppid : 0;
}

/* A shim lives: so does the instance, unless its start was cut in half. */
static void adopt_living(struct oci *o, struct arena *a, struct inst *i, int shim_fd,
                         int64_t shim_pid)
{
    int64_t pid = load_pid(o, a, &i->id, "init.pid");
    int init_fd = pid ? pidfd_open((pid_t)pid, 0) : -1;
    struct err e = { 0 };

    if (init_fd >= 0 && parent_of(a, pid) == shim_pid) {
        if (i->state.status != COMPUTE_PAUSED)
            i->state.status = COMPUTE_RUNNING;
        i->state.pid = pid;
        oci_watch_shim(o, i, shim_fd, init_fd);
        return;
    }
    if (init_fd >= 0)
        close(init_fd);
    /* Either it is ending right now, or it never got a first process. */
    bool starting = i->state.status == COMPUTE_CREATING;
    if (starting) {
        pidfd_send_signal(shim_fd, SIGKILL, NULL, 0);
        if (cgroup_kill(o->groups, oci_group(o, a, &i->id), SECONDS(5), &e) < 0)
            log_err(LOG_WARN, "instance_kill_failed", &e);
        i->state.boot = -1;
        close(shim_fd);
        return;
    }
    oci_watch_shim(o, i, shim_fd, -1);
}

static void adopt_dead(struct oci *o, struct arena *a, struct inst *i)
{
    i->state.pid = 0;
    oci_unpublish(o, &i->id);
    if (i->state.status == COMPUTE_CREATING)
        i->state.boot = -1; /* the start was cut in half: the next order starts it */
    if (i->state.status != COMPUTE_RUNNING && i->state.status != COMPUTE_PAUSED)
        return;
    read_exit(o, a, &i->id, &i->state.exit_code, &i->state.finished_at);
    i->state.oom_killed = cgroup_oom_killed(o->groups, oci_group(o, a, &i->id));
    OCI_LOCK(o);
    i->state.status = COMPUTE_EXITED;
    oci_push_event(o, &i->id, COMPUTE_CHANGED);
}

/* Groups of commands that an agent made and was killed before anybody was in them; what still runs
 * has its own. */
static void tidy_groups(struct oci *o, struct arena *a, const struct uuid *id)
{
    const char *group = oci_group(o, a, id), **names;
    struct err e;
    size_t n;

    if (cgroup_children(o->groups, a, group, &names, &n, &e) < 0) {
        log_err(LOG_WARN, "exec_groups_stay", &e);
        return;
    }
    for (size_t k = 0; k < n; k++)
        cgroup_tidy(o->groups, arena_printf(a, "%s/%s", group, names[k]));
}

static bool exists(struct oci *o, struct arena *a, const struct uuid *id, const char *name)
{
    return access(oci_path(o, a, id, name), F_OK) == 0 || errno != ENOENT;
}

/* Whose ids its files have: as its order says, or its state, or they themselves; -1: nobody knows,
 * or another instance has them. */
static int range_of(struct oci *o, struct arena *a, const struct uuid *id,
                    const struct json_value *order, const struct json_value *state)
{
    int64_t range = json_get_int(order, "range", -1);
    struct stat st;

    if (range < 0)
        range = json_get_int(state, "range", -1);
    if (range < 0 && lstat(oci_path(o, a, id, "upper"), &st) == 0 && st.st_uid >= OCI_FIRST_ID)
        range = (st.st_uid - OCI_FIRST_ID) / OCI_RANGE_IDS;
    return range >= 0 && range < OCI_RANGES && !o->ranges[range] ? (int)range : -1;
}

/* What it was doing.  Of a state that is there and cannot be read it is found out by looking:
 * whether it runs, and if not, that it has ended. */
static void adopt_state(struct oci *o, struct arena *a, struct inst *i,
                        const struct json_value *state)
{
    struct err e;

    if (!state && !exists(o, a, &i->id, "state.json"))
        return;
    i->attached = json_get_bool(state, "attached", true);
    i->root = json_get_int(state, "root", i->spec.root);
    if (!state) {
        err_set(&e, ERR_INVALID, "the state of instance %s cannot be read", i->id.s);
    } else if (json_load_row(a, &compute_state_record, json_get(state, "state"), &i->state, &e) ==
               0) {
        oci_set_text(&i->ports, i->state.ports);
        oci_set_text(&i->reason, i->state.reason);
        i->state.ports = i->state.reason = NULL;
        i->state.id = i->id;
        return;
    }
    log_err(LOG_ERROR, "instance_state_unread", &e);
    i->attached = true;
    i->state = (struct compute_state){
        .id = i->id, .status = COMPUTE_RUNNING, .revision = i->spec.revision, .boot = i->spec.boot
    };
}

/* -1: nothing of it ever ran, and it has no data. */
static int adopt_one(struct oci *o, const struct uuid *id, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    _cleanup_(json_freep) struct json_value *order = load(o, &a, id, "order.json");
    _cleanup_(json_freep) struct json_value *state = load(o, &a, id, "state.json");
    int range = range_of(o, &a, id, order, state);
    int64_t shim_pid = 0;
    struct inst *i;

    if (!exists(o, &a, id, "order.json") ||
        (!order && range < 0 && !exists(o, &a, id, "upper") && !exists(o, &a, id, "disk.img")))
        return err_set(e, ERR_NOT_FOUND, "it has no order");
    {
        OCI_LOCK(o);
        i = oci_add(o, id);
        i->range = range;
        if (range >= 0)
            o->ranges[range] = 1;
    }
    /* The next order says it anew. */
    if (!order)
        err_set(e, ERR_INVALID, "the order of instance %s cannot be read", id->s);
    if (!order ||
        json_load_row(&i->arena, &compute_spec_record, json_get(order, "spec"), &i->spec, e) < 0) {
        log_err(LOG_ERROR, "instance_order_unread", e);
        i->spec = (struct compute_spec){ .id = *id };
    }
    adopt_state(o, &a, i, state);
    oci_exec_forget(o, id);
    int shim_fd = living_shim(o, &a, id, &shim_pid);
    if (shim_fd >= 0)
        adopt_living(o, &a, i, shim_fd, shim_pid);
    else
        adopt_dead(o, &a, i);
    tidy_groups(o, &a, id);
    /* Held again; an image that is gone shows at the next start. */
    const char *const *layers;
    size_t n;
    struct image_state config;
    struct err gone;
    if (o->images && i->spec.image &&
        image_local_layers(o->images, &a, i->spec.image, id, &layers, &n, &config, &gone) < 0)
        log_err(LOG_WARN, "image_of_instance_missing", &gone);
    return 0;
}

/* Groups of this installation that belong to no instance. */
static int sweep_groups(struct oci *o, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    const char *parent = arena_printf(&a, "brume/%s", o->installation), **names;
    size_t n;

    TRY(cgroup_children(o->groups, &a, parent, &names, &n, e));
    for (size_t k = 0; k < n; k++) {
        const char *path = arena_printf(&a, "%s/%s", parent, names[k]);
        if (strcmp(names[k], "shims") == 0 || map_get(o->instances, names[k], strlen(names[k])))
            continue;
        TRY(cgroup_kill(o->groups, path, SECONDS(5), e));
        TRY(cgroup_remove(o->groups, path, e));
    }
    return 0;
}

static int sweep_net(struct oci *o, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    size_t at = 0, key_len, n = 0;
    const void *key;
    void *value;

    if (!o->net)
        return 0;
    struct uuid *keep = arena_new_n(&a, struct uuid, map_count(o->instances));
    while (map_next(o->instances, &at, &key, &key_len, &value))
        keep[n++] = ((const struct inst *)value)->id;
    return net_sweep(o->net, keep, n, e);
}

int oci_adopt(struct oci *o, struct err *e)
{
    DIR *d = opendir(o->dir);
    struct err why;

    if (!d)
        return err_sys(e, errno, "opendir %s", o->dir);
    for (struct dirent *f; (f = readdir(d));) {
        _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
        struct uuid id;

        if (!uuid_parse(str_of(f->d_name), &id) || strcmp(id.s, f->d_name) != 0)
            continue;
        if (adopt_one(o, &id, &why) == 0)
            continue;
        /* Its maker was killed before the order was on disk. */
        log_err(LOG_WARN, "instance_folder_dropped", &why);
        if (dir_remove(oci_path(o, &a, &id, NULL), &why) < 0)
            log_err(LOG_WARN, "instance_folder_stays", &why);
    }
    closedir(d);
    oci_files_sweep(o);
    TRY(sweep_groups(o, e));
    return sweep_net(o, e);
}
