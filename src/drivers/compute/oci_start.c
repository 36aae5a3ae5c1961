/* SPDX-License-Identifier: Apache-2.0 */
/* From an order to a running process, and back.
 *
 * The namespaces that need the host's root to prepare (users, network) and the root file system are
 * made here and handed to the shim as descriptors; the runtime makes the rest.  So nothing of a
 * starting instance has a name in the host's mount table, and what is not handed over vanishes with
 * its descriptor, also when the agent is killed between any two lines. */
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/mount.h"
#include "os/ns.h"
#include "os/process.h"
#include "os/thread.h"

enum { MAX_LAYERS = 128, START_TIMEOUT_MS = 30000, STACK_BYTES = 16384 };

struct cgroup_limits oci_limits(const struct compute_spec *s)
{
    return (struct cgroup_limits){ .memory_bytes = s->memory_mb << 20,
                                   .cpu_milli = s->cpu_milli,
                                   .pids = s->pids };
}

/* ---- namespaces ---- */

static int write_map(pid_t pid, const char *file, int range, struct err *e)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    snprintf(text, sizeof(text), "0 %u %d\n", OCI_FIRST_ID + (unsigned)range * OCI_RANGE_IDS,
             OCI_RANGE_IDS);
    return file_poke(path, text, e);
}

static int open_ns(pid_t pid, const char *kind, struct err *e)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? err_sys(e, errno, "open %s", path) : fd;
}

/* What the process inside the new namespaces does: nothing but system calls, for our memory is its
 * own (a copy would cost a millisecond), which is also why the sanitizer keeps no book of it.  It
 * is killed when its namespaces are held; if its maker dies, it ends by itself. */
static __attribute__((no_sanitize("address"))) int wait_inside(_unused_ void *arg)
{
    struct timespec patience = { .tv_sec = 10 };

    prctl(PR_SET_PDEATHSIG, SIGKILL, 0L, 0L, 0L);
    syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &patience, NULL);
    _exit(0);
}

/* A user namespace with the ids of 'range' and a network namespace that belongs to it, so that its
 * root may bind port 80.  A process waits inside until both are held by a descriptor. */
static int make_namespaces(int range, int *userns, int *netns, struct err *e)
{
    _Alignas(16) char stack[STACK_BYTES];
    pid_t pid = clone(wait_inside, stack + sizeof(stack),
                      CLONE_VM | CLONE_NEWUSER | CLONE_NEWNET | SIGCHLD, NULL);
    int r = -1;

    if (pid < 0)
        return err_sys(e, errno, "new namespaces");
    if (write_map(pid, "uid_map", range, e) == 0 && write_map(pid, "gid_map", range, e) == 0 &&
        (*userns = open_ns(pid, "user", e)) >= 0 && (*netns = open_ns(pid, "net", e)) >= 0)
        r = 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return r;
}

/* Inside the instance's network: loopback up, low ports and ping for users that are not root. */
static int network_basics(_unused_ void *ctx, struct err *e)
{
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
        return err_sys(e, errno, "loopback up");
    TRY(file_poke("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0", e));
    return file_poke("/proc/sys/net/ipv4/ping_group_range", "0 65535", e);
}

/* ---- ports ---- */

static int read_ports(struct oci *o, struct inst *i, struct oci_boot *b, struct err *e)
{
    _cleanup_(json_freep) struct json_value *list = NULL, *was = NULL;
    struct err none;

    if (!i->spec.ports)
        return 0;
    list = json_parse(str_of(i->spec.ports), e);
    if (!list)
        return -1;
    if (json_len(list) > OCI_MAX_PORTS)
        return err_set(e, ERR_INVALID, "more than %d published ports", OCI_MAX_PORTS);
    {
        OCI_LOCK(o);
        was = i->ports ? json_parse(str_of(i->ports), &none) : NULL;
    }
    for (size_t k = 0; k < json_len(list); k++) {
        const struct json_value *p = json_at(list, k);
        int64_t host = json_get_int(p, "host", 0), port = json_get_int(p, "port", 0);
        const char *protocol = json_get_str(b->a, p, "protocol", "tcp");

        if (host == 0 && was) /* what was picked for an earlier start */
            host = json_get_int(json_at(was, k), "host", 0);
        if (host < 0 || host > 65535 || port < 1 || port > 65535)
            return err_set(e, ERR_INVALID, "a published port is out of range");
        b->publish[k] = (struct net_publish){ .host_port = (int)host,
                                              .port = (int)port,
                                              .udp = strcmp(protocol, "udp") == 0 };
    }
    b->n_publish = json_len(list);
    return 0;
}

static void keep_ports(struct oci *o, struct inst *i, const struct oci_boot *b)
{
    struct buf text = BUF(KIB(64));
    struct json_out j = JSON_OUT(&text);

    json_open(&j, '[');
    for (size_t k = 0; k < b->n_publish; k++) {
        json_open(&j, '{');
        json_kint(&j, "host", b->publish[k].host_port);
        json_kint(&j, "port", b->publish[k].port);
        json_kstr(&j, "protocol", b->publish[k].udp ? "udp" : "tcp");
        json_close(&j);
    }
    json_close(&j);
    OCI_LOCK(o);
    oci_set_text(&i->ports, b->n_publish ? buf_cstr(&text) : NULL);
    buf_free(&text);
}

static int attach(struct oci *o, struct inst *i, struct oci_boot *b, struct err *e)
{
    struct net_port p = { .instance = i->id, .vpc = i->spec.vpc_id };

    if (!o->net || uuid_is_nil(&i->spec.vpc_id))
        return 0;
    p.vpc_cidr = i->spec.vpc_cidr;
    p.subnet_cidr = i->spec.subnet_cidr;
    p.ip = i->spec.ip;
    p.gateway = i->spec.gateway;
    p.dns = i->spec.dns;
    p.mbps = i->spec.network_mbps;
    p.publish = b->publish;
    p.n_publish = b->n_publish;
    i->attached = true; /* an earlier start's interface is replaced; its ports stay taken */
    TRY(net_attach(o->net, &p, b->netns, b->listen, e));
    keep_ports(o, i, b);
    return 0;
}

/* ---- root file system ---- */

static int stack_layers(struct oci_boot *b, int disk, bool idmap, struct err *e)
{
    int lower[MAX_LAYERS];
    size_t n = 0;
    int r = 0;

    for (; n < b->n_layers && r == 0; n++) {
        lower[n] = mount_clone(b->layers[n], false, e);
        if (lower[n] < 0 || (idmap && mount_idmap(lower[n], b->userns, e) < 0))
            r = -1;
    }
    if (r == 0) {
        b->root = mount_overlay(lower, n, arena_printf(b->a, "/proc/self/fd/%d/upper", disk),
                                arena_printf(b->a, "/proc/self/fd/%d/work", disk), e);
        r = b->root < 0 ? -1 : 0;
    }
    while (n)
        if (lower[--n] >= 0)
            close(lower[n]);
    return r;
}

/* Layers belong to the host's root, and are shown under the ids of the instance.  Where the kernel
 * cannot (a file system without idmapped mounts, an overlay that does not take them), the instance
 * has copies. */
static int make_root(struct oci *o, struct inst *i, struct oci_boot *b, int disk, struct err *e)
{
    if (b->n_layers == 0 || b->n_layers > MAX_LAYERS)
        return err_set(e, ERR_INVALID, "the image has %zu layers", b->n_layers);
    TRY(oci_disk_root(i, disk, b->layers[0], e));
    if (!o->copy_layers) {
        if (stack_layers(b, disk, true, e) == 0) {
            struct err late;

            if (oci_layers_drop(o, i, b->a, &late) < 0) /* of an older kernel */
                log_err(LOG_WARN, "layers_not_dropped", &late);
            return 0;
        }
        if (e->code != ERR_NOT_IMPLEMENTED)
            return -1;
        log_err(LOG_INFO, "layers_are_copied", e);
    }
    TRY(oci_layers_copy(o, i, b, e));
    return stack_layers(b, disk, false, e);
}

/* ---- the shim ---- */

void oci_word(struct oci_words *w, const char *flag, const char *value)
{
    if (w->n + 3 > OCI_MAX_WORDS)
        abort(); /* ports and trees have bounds */
    w->at[w->n++] = flag;
    if (value)
        w->at[w->n++] = value;
    w->at[w->n] = NULL;
}

int oci_word_groups(struct oci *o, struct arena *a, struct oci_words *w, const char *flag,
                    const char *group, struct err *e)
{
    const char **files;
    size_t n;

    TRY(cgroup_procs_files(o->groups, a, group, &files, &n, e));
    for (size_t k = 0; k < n; k++)
        oci_word(w, flag, files[k]);
    return 0;
}

static void add_fd(struct arena *a, struct oci_words *w, const char *flag, int fd)
{
    if (fd >= 0)
        oci_word(w, flag, arena_printf(a, "%d", fd));
}

static void add_runtime(struct oci *o, struct arena *a, struct oci_words *w, const struct uuid *id)
{
    const char *dir = oci_path(o, a, id, NULL);

    oci_word(w, "--", o->runtime_path);
    oci_word(w, "--root", o->runtime_root);
    oci_word(w, "--log", arena_printf(a, "%s/runtime.log", dir));
    if (o->runtime == OCI_CRUN)
        oci_word(w, "--cgroup-manager=disabled", NULL);
    oci_word(w, "run", "--detach");
    oci_word(w, "--bundle", OCI_BUNDLE);
    oci_word(w, "--pid-file", arena_printf(a, "%s/init.pid", dir));
    oci_word(w, id->s, NULL);
}

static int shim_words(struct oci *o, struct inst *i, struct oci_boot *b, int ready,
                      struct oci_words *w, struct err *e)
{
    struct arena *a = b->a;

    oci_word(w, o->shim, "run");
    oci_word(w, "-d", oci_path(o, a, &i->id, NULL));
    oci_word(w, "-b", OCI_BUNDLE);
    add_fd(a, w, "-r", ready);
    add_fd(a, w, "-m", b->root);
    add_fd(a, w, "-u", b->userns);
    add_fd(a, w, "-n", b->netns);
    add_fd(a, w, "-f", b->files);
    if (i->spec.data && b->loop >= 0) /* else it lies in the instance's folder */
        add_fd(a, w, "-v", b->disk);
    for (size_t k = 0; k < b->n_publish; k++)
        add_fd(a, w, "-c", b->listen[k]);
    if (cgroups_hybrid(o->groups))
        oci_word(w, "-x", cgroups_hybrid(o->groups));
    TRY(oci_word_groups(o, a, w, "-s", arena_printf(a, "brume/%s/shims", o->installation), e));
    if (o->runtime == OCI_CRUN)
        TRY(oci_word_groups(o, a, w, "-g", oci_group(o, a, &i->id), e));
    add_runtime(o, a, w, &i->id);
    return 0;
}

/* dup2() onto itself makes a descriptor outlive the exec of the child alone. */
static void inherit(posix_spawn_file_actions_t *actions, int fd)
{
    if (fd >= 0)
        posix_spawn_file_actions_adddup2(actions, fd, fd);
}

static int spawn_shim(struct oci *o, struct inst *i, struct oci_boot *b, int ready, pid_t *pid,
                      struct err *e)
{
    char *const env[] = { arena_strdup(b->a, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"), NULL };
    posix_spawn_file_actions_t actions;
    struct oci_words w = { .n = 0 };
    char *argv[OCI_MAX_WORDS];

    TRY(shim_words(o, i, b, ready, &w, e));
    for (size_t k = 0; k < w.n; k++)
        argv[k] = arena_strdup(b->a, w.at[k]);
    argv[w.n] = NULL;
    posix_spawn_file_actions_init(&actions);
    inherit(&actions, ready);
    inherit(&actions, b->root);
    inherit(&actions, b->userns);
    inherit(&actions, b->netns);
    inherit(&actions, b->files);
    inherit(&actions, b->loop >= 0 ? b->disk : -1);
    for (size_t k = 0; k < b->n_publish; k++)
        inherit(&actions, b->listen[k]);
    int r = posix_spawn(pid, o->shim, &actions, NULL, argv, env);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? 0 : err_sys(e, r, "start the shim");
}

/* What the shim says: "R <pid>", "F <text>", or "" when it ended without a word. */
static void hear(int fd, char *out, size_t size)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    size_t n = 0;

    while (n + 1 < size && poll(&p, 1, START_TIMEOUT_MS) > 0) {
        ssize_t got = read(fd, out + n, size - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    while (n && out[n - 1] == '\n')
        n--;
    out[n] = '\0';
}

/* The folder itself, or one above it that it lies in. */
static bool names_folder(const char *path, const char *folder)
{
    size_t n = strcspn(path, "`'\": ");

    return n > 1 && strncmp(path, folder, n) == 0 && (!folder[n] || folder[n] == '/');
}

/* Runtimes make it where it is missing, and name what they cannot make or enter. */
static bool is_of_cwd(const char *text, const char *cwd)
{
    if (strstr(text, "chdir") || strstr(text, "cwd"))
        return true;
    for (const char *p = text; (p = strstr(p, "mkdir "));) {
        p += strlen("mkdir ");
        if (names_folder(p + strspn(p, "`'\""), cwd))
            return true;
    }
    return false;
}

/* The runtime's complaint in plain words. */
static const char *explain(struct oci *o, const struct oci_boot *b, struct inst *i,
                           const char *said, const char *command)
{
    struct arena *a = b->a;
    const char *cwd = oci_config_cwd(a, &b->config);
    struct str log;
    struct err e;

    if (file_read(a, oci_path(o, a, &i->id, "runtime.log"), KIB(64), &log, &e) < 0 || log.n == 0)
        return arena_printf(a, "it cannot be started: %s", said[0] ? said + 2 : "the shim ended");
    char *text = arena_dup(a, log.p, log.n);
    for (char *p = text; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    log_event(LOG_WARN, "instance_start_failed", L_STR("instance", i->id.s),
              L_STR("runtime", text));
    if (strstr(text, "not found in $PATH") || strstr(text, "executable file"))
        return arena_printf(a, "command '%s' was not found in the image", command);
    if (strstr(text, "xec") && strstr(text, "No such file"))
        return arena_printf(a, "command '%s' was not found in the image", command);
    if (strstr(text, "Exec format error") || strstr(text, "exec format error"))
        return arena_printf(a, "command '%s' is no program that this machine can run", command);
    if (strstr(text, "ermission denied"))
        return arena_printf(a, "command '%s' cannot be executed", command);
    if (is_of_cwd(text, cwd))
        return arena_printf(a, "the working directory '%s' is no folder", cwd);
    size_t n = strlen(text);
    return arena_printf(a, "it cannot be started: %s", n > 400 ? text + n - 400 : text);
}

static void kill_shim(struct oci *o, struct arena *a, struct inst *i, pid_t pid)
{
    struct err e = { 0 };

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (cgroup_kill(o->groups, oci_group(o, a, &i->id), SECONDS(5), &e) < 0)
        log_err(LOG_WARN, "instance_kill_failed", &e);
}

/* ---- the whole ---- */

static int forget_last(struct oci *o, struct arena *a, struct inst *i, struct err *e)
{
    static const char *const files[] = { "exit.json", "init.pid", "runtime.log", "shim.pid" };
    const char *group = oci_group(o, a, &i->id);

    for (size_t k = 0; k < ARRAY_LEN(files); k++)
        unlink(oci_path(o, a, &i->id, files[k]));
    TRY(dir_remove(arena_printf(a, "%s/%s", o->runtime_root, i->id.s), e));
    TRY(cgroup_kill(o->groups, group, SECONDS(5), e));
    return cgroup_remove(o->groups, group, e);
}

static int launch(struct oci *o, struct inst *i, struct oci_boot *b, const char **failed,
                  struct err *e)
{
    struct compute_state was;
    int ready[2];
    char said[512];
    pid_t pid;

    {
        OCI_LOCK(o);
        was = i->state;
        i->state.status = COMPUTE_CREATING;
        i->state.boot = i->spec.boot;
        i->state.started_at = clock_wall(clock_system());
        i->stopping = false;
    }
    TRY(oci_save_state(o, i, e)); /* so that a shim found after a crash has its boot's number */
    if (pipe2(ready, O_CLOEXEC) < 0)
        return err_sys(e, errno, "pipe");
    int r = spawn_shim(o, i, b, ready[1], &pid, e);
    close(ready[1]);
    oci_disk_direct(b->loop); /* while the runtime is busy */
    if (r == 0)
        hear(ready[0], said, sizeof(said));
    close(ready[0]);
    if (r == 0 && said[0] == 'R') {
        int64_t init = strtoll(said + 2, NULL, 10);
        int shim_fd = pidfd_open(pid, 0);
        if (shim_fd < 0)
            abort(); /* our own child, not yet waited for */
        {
            OCI_LOCK(o);
            i->state.status = COMPUTE_RUNNING;
            i->state.pid = init;
            i->state.exit_code = i->state.finished_at = 0;
            i->state.oom_killed = false;
            oci_set_text(&i->reason, NULL);
        }
        oci_watch_shim(o, i, shim_fd, pidfd_open((pid_t)init, 0));
        return 0;
    }
    if (r == 0) {
        const char *command = json_str_of(json_at(b->cmd, 0), NULL);
        kill_shim(o, b->a, i, pid);
        *failed = explain(o, b, i, said, command ? command : "");
    }
    OCI_LOCK(o);
    i->state.boot = was.boot;
    return r;
}

/* What is slow and needs nothing of the rest, made by a thread of its own: the disk, the group, and
 * that the order is there after a loss of power too. */
struct side {
    struct oci *o;
    struct inst *i;
    pthread_t thread;
    struct arena arena;
    int disk, loop, result;
    struct err err;
};

static int side_make(struct side *s, struct err *e)
{
    struct cgroup_limits limits = oci_limits(&s->i->spec);
    const char *group = oci_group(s->o, &s->arena, &s->i->id);

    TRY(oci_disk_open(s->o, s->i, &s->arena, &s->disk, &s->loop, e));
    TRY(cgroup_make(s->o->groups, group, e));
    TRY(cgroup_limit(s->o->groups, group, &limits, e));
    return oci_sync_order(s->o, s->i, e);
}

static void *side_run(void *arg)
{
    struct side *s = arg;

    s->result = side_make(s, &s->err);
    return NULL;
}

static void side_begin(struct side *s, struct oci *o, struct inst *i)
{
    *s = (struct side){ .o = o, .i = i, .arena = ARENA(MIB(8)), .disk = -1, .loop = -1 };
    s->thread = thread_start("start", side_run, s);
}

static int side_end(struct side *s, struct err *e)
{
    pthread_join(s->thread, NULL);
    arena_free(&s->arena);
    if (s->result < 0)
        *e = s->err;
    return s->result;
}

/* The image, namespaces and network. */
static int make_place(struct oci *o, struct inst *i, struct oci_boot *b, const char **failed,
                      struct err *e)
{
    if (image_local_layers(o->images, b->a, i->spec.image, &i->id, &b->layers, &b->n_layers,
                           &b->config, e) < 0) {
        if (e->code == ERR_NOT_FOUND)
            err_set(e, ERR_NOT_FOUND, "the image is not on this host");
        return -1;
    }
    TRY(read_ports(o, i, b, e));
    TRY(make_namespaces(i->range, &b->userns, &b->netns, e));
    TRY(ns_call(b->netns, network_basics, NULL, e));
    if (attach(o, i, b, e) < 0) {
        if (e->code != ERR_INVALID) /* a port that is taken may be free soon: who ordered decides */
            return -1;
        *failed = arena_strdup(b->a, e->msg);
    }
    return 0;
}

static int start(struct oci *o, struct inst *i, struct oci_boot *b, const char **failed,
                 struct err *e)
{
    struct err later = { 0 };
    struct side side;

    TRY(forget_last(o, b->a, i, e));
    if (!o->images)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "this host has no image store");
    side_begin(&side, o, i);
    int r = make_place(o, i, b, failed, e);
    if (side_end(&side, r < 0 ? &later : e) < 0 && !*failed)
        r = -1;
    b->loop = side.loop;
    b->disk = side.disk;
    if (r == 0 && !*failed)
        r = oci_root_renew(o, i, b->a, b->disk, e);
    if (r == 0 && !*failed)
        r = make_root(o, i, b, b->disk, e);
    if (r == 0 && !*failed && i->spec.files)
        r = (b->files = oci_files_open(o, i, b->a, e)) < 0 ? -1 : 0;
    if (r == 0 && !*failed && oci_config_write(o, i, b, failed, e) != 0)
        r = *failed ? 0 : -1;
    return r < 0 || *failed ? r : launch(o, i, b, failed, e);
}

int oci_start(struct oci *o, struct arena *a, struct inst *i, const char **failed, struct err *e)
{
    struct oci_boot b = {
        .a = a, .userns = -1, .netns = -1, .root = -1, .files = -1, .disk = -1, .loop = -1
    };

    for (size_t k = 0; k < OCI_MAX_PORTS; k++)
        b.listen[k] = -1;
    *failed = NULL;
    int r = start(o, i, &b, failed, e);
    if (r < 0 || *failed)
        oci_unpublish(o, &i->id);
    const int made[] = { b.userns, b.netns, b.root, b.files, b.disk, b.loop };
    for (size_t k = 0; k < ARRAY_LEN(made); k++)
        if (made[k] >= 0)
            close(made[k]);
    for (size_t k = 0; k < OCI_MAX_PORTS; k++)
        if (b.listen[k] >= 0)
            close(b.listen[k]);
    json_free(b.cmd);
    return r;
}

/* Under the lock: asks once, by 'signum'.  False: its time is up. */
static bool ask_to_end(struct oci *o, struct arena *a, struct inst *i, int signum, int64_t grace)
{
    int64_t now = clock_mono(clock_system());
    struct err e;

    if (!i->stopping) {
        i->stopping = true;
        i->stop_by = now + grace;
        if (grace > 0 && i->init_fd >= 0)
            pidfd_send_signal(i->init_fd, signum, NULL, 0);
        /* What cannot be thawed is killed, which thaws by itself. */
        if (i->state.status == COMPUTE_PAUSED &&
            cgroup_freeze(o->groups, oci_group(o, a, &i->id), false, &e) < 0)
            i->stop_by = now;
    }
    i->stop_by = MIN(i->stop_by, now + grace);
    return now < i->stop_by;
}

int oci_stop(struct oci *o, struct inst *i, int64_t grace, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(8));
    int signum = grace > 0 ? oci_config_stop_signal(o, &a, &i->id) : SIGKILL;

    {
        OCI_LOCK(o);
        if (i->shim_fd < 0)
            return 0;
        if (ask_to_end(o, &a, i, signum, grace))
            return 1;
        if (i->init_fd >= 0)
            pidfd_send_signal(i->init_fd, SIGKILL, NULL, 0);
    }
    if (oci_wait_ended(o, i, MILLIS(500)))
        return 0;
    TRY(cgroup_kill(o->groups, oci_group(o, &a, &i->id), SECONDS(5), e));
    if (!oci_wait_ended(o, i, SECONDS(5)))
        return err_set(e, ERR_INTERNAL, "the instance does not end");
    return 0;
}

int oci_clean(struct oci *o, struct inst *i, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4)); /* the runtime may print 1 MiB twice */
    struct process_result ignored;

    if (o->runtime == OCI_RUNC) { /* it made groups in trees that we do not use */
        const char *argv[] = { o->runtime_path, "--root", o->runtime_root, "delete", "--force",
                               i->id.s,         NULL };
        struct process_opts p = { .argv = argv };
        TRY(process_run(&a, &p, &ignored, e));
    }
    if (o->net && i->attached)
        TRY(net_detach(o->net, &i->id, e));
    i->attached = false;
    return forget_last(o, &a, i, e);
}
