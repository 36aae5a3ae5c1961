/* SPDX-License-Identifier: Apache-2.0 */
/* `brume doctor`: looks at this machine as brume will find it.  Each check is a row; each line says
 * what is so, and where it is not well, what to do. */

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "codec/text.h"
#include "core/app.h"
#include "db/db.h"
#include "http/client.h"
#include "http/server.h"
#include "os/file.h"
#include "os/process.h"
#include "roles/roles.h"

enum grade { OK, WARN, FAIL };
struct look {
    struct arena *a;
    const struct config *c;
    const char *say; /* what was seen, or what to do */
};

static enum grade say(struct look *l, enum grade g, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static enum grade say(struct look *l, enum grade g, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    l->say = arena_vprintf(l->a, fmt, ap);
    va_end(ap);
    return g;
}

/* What a user who is not root cannot see is no fault. */
static enum grade by_root(struct look *l)
{
    return say(l, WARN, "only root can look");
}

static enum grade check_root(struct look *l)
{
    if (geteuid() == 0)
        return say(l, OK, "running as root");
    return say(l, FAIL, "not root: `sudo %s doctor` sees all, and serving needs it",
               clone_command(l->a));
}

static enum grade check_kernel(struct look *l)
{
    struct utsname u;
    int major = 0, minor = 0;

    uname(&u);
    if (sscanf(u.release, "%d.%d", &major, &minor) != 2)
        return say(l, WARN, "cannot read the version %s", u.release);
    if (major < 5 || (major == 5 && minor < 10))
        return say(l, FAIL, "Linux %s: brume needs 5.10 or newer", u.release);
    if (major == 5 && minor < 12)
        return say(l, WARN,
                   "Linux %s: without idmapped mounts (5.12) layers are copied per instance",
                   u.release);
    return say(l, OK, "Linux %s", u.release);
}

static enum grade check_user(struct look *l)
{
    uid_t uid;
    gid_t gid;
    struct err e;

    if (user_find(l->c->edge_user, &uid, &gid, &e) < 0 || user_find(l->c->user, &uid, &gid, &e) < 0)
        return say(l, FAIL, "%s", e.msg);
    return say(l, OK, "%s is %d:%d", l->c->user, (int)uid, (int)gid);
}

/* Runs 'fn' in a child of its own: its namespaces and mounts go with it. */
static int in_child(int (*fn)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(fn(arg));
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : -1;
}

static int try_namespaces(void *arg _unused_)
{
    return unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID |
                   CLONE_NEWUSER) < 0
               ? errno
               : 0;
}

static enum grade check_namespaces(struct look *l)
{
    int rc = in_child(try_namespaces, NULL);

    if (rc == 0)
        return say(l, OK, "mount, net, pid, ipc, uts and user can be made");
    if (rc == EPERM && geteuid() != 0)
        return by_root(l);
    return say(l, FAIL,
               "cannot be made (%s): in a container, run it privileged; else check "
               "/proc/sys/user/max_user_namespaces",
               rc > 0 ? strerror(rc) : "no child");
}

static const char *read_line(struct look *l, const char *path)
{
    struct str s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char line[512];
    ssize_t n;

    if (fd < 0)
        return NULL;
    n = read(fd, line, sizeof(line));
    close(fd);
    s = (struct str){ line, n > 0 ? (size_t)n : 0 };
    while (s.n && s.p[s.n - 1] == '\n')
        s.n--;
    return arena_dup(l->a, s.p, s.n);
}

static enum grade check_cgroups(struct look *l)
{
    static const char *const needed[] = { "cpu", "memory", "pids" };
    const char *v2 = read_line(l, "/sys/fs/cgroup/cgroup.controllers");
    const char *side = read_line(l, "/sys/fs/cgroup/unified/cgroup.controllers");
    struct buf missing = BUF(256);
    const char *all;
    enum grade g;

    if (!v2 && access("/sys/fs/cgroup/memory", F_OK) == 0)
        return say(l, OK, "version 1%s%s", side ? ", version 2 beside it" : "",
                   side && *side ? " (owning some controllers: crun refuses, runc is used)" : "");
    if (!v2)
        return say(l, FAIL, "no cgroups at /sys/fs/cgroup: mount -t cgroup2 none /sys/fs/cgroup");
    all = arena_printf(l->a, " %s ", v2);
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!strstr(all, arena_printf(l->a, " %s ", needed[i])))
            buf_printf(&missing, " %s", needed[i]);
    if (missing.n)
        g = say(l, FAIL, "version 2 without%s: delegate them (systemd: Delegate=yes)",
                buf_cstr(&missing));
    else
        g = say(l, OK, "version 2: %s", v2);
    buf_free(&missing);
    return g;
}

/* A tmpfs with three folders, in a mount namespace of our own. */
static int try_overlay(void *arg _unused_)
{
    const char *at = "/tmp";

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", at, "tmpfs", 0, NULL) < 0 || chdir(at) < 0 || mkdir("l", 0755) < 0 ||
        mkdir("u", 0755) < 0 || mkdir("w", 0755) < 0 || mkdir("m", 0755) < 0)
        return errno;
    return mount("none", "m", "overlay", 0, "lowerdir=l,upperdir=u,workdir=w") < 0 ? errno : 0;
}

static enum grade check_overlay(struct look *l)
{
    int rc = in_child(try_overlay, NULL);

    if (rc == 0)
        return say(l, OK, "mounts");
    return say(l, FAIL, "does not mount (%s): `modprobe overlay`",
               rc > 0 ? strerror(rc) : "no child");
}

static int try_idmap(void *arg)
{
    const char *dir = arg;
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };
    char path[64];
    int tree, ns, go[2], rc;
    pid_t pid;

    if (pipe2(go, O_CLOEXEC) < 0 || (pid = fork()) < 0)
        return errno;
    if (pid == 0) {
        char c;

        close(go[1]);
        if (unshare(CLONE_NEWUSER) < 0)
            _exit(1);
        _exit(read(go[0], &c, 1) < 0);
    }
    close(go[0]);
    /* Wait until its user namespace is another one than ours. */
    for (int i = 0; i < 200; i++) {
        struct stat mine, its;

        snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
        if (stat("/proc/self/ns/user", &mine) == 0 && stat(path, &its) == 0 &&
            mine.st_ino != its.st_ino)
            break;
        usleep(1000);
    }
    snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
    rc = open(path, O_WRONLY | O_CLOEXEC);
    if (rc < 0 || write(rc, "0 1879048192 65536", 18) != 18)
        return errno;
    snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
    rc = open(path, O_WRONLY | O_CLOEXEC);
    if (rc < 0 || write(rc, "0 1879048192 65536", 18) != 18)
        return errno;
    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    ns = open(path, O_RDONLY | O_CLOEXEC);
    tree = (int)syscall(SYS_open_tree, AT_FDCWD, dir, OPEN_TREE_CLONE | O_CLOEXEC);
    attr.userns_fd = (unsigned)ns;
    rc = ns < 0 || tree < 0 ||
                 syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0
             ? errno
             : 0;
    close(go[1]);
    waitpid(pid, NULL, 0);
    return rc;
}

/* The nearest folder above 'path' that is there. */
static char *existing(struct look *l, const char *path)
{
    char *p = arena_strdup(l->a, path);

    while (access(p, F_OK) < 0) {
        char *slash = strrchr(p, '/');

        if (!slash || slash == p)
            return arena_strdup(l->a, "/");
        *slash = '\0';
    }
    return p;
}

static enum grade check_idmap(struct look *l)
{
    int rc = in_child(try_idmap, existing(l, l->c->state_dir));

    if (rc == 0)
        return say(l, OK, "work on %s", l->c->state_dir);
    return say(l, WARN,
               "do not work on %s (%s): layers are copied once per id range instead, which "
               "takes room; ext4, xfs and btrfs can do it",
               l->c->state_dir, rc > 0 ? strerror(rc) : "no child");
}

static enum grade check_nftables(struct look *l)
{
    const char *const argv[] = { "nft", "list", "tables", NULL };
    struct process_opts o = { .argv = argv, .timeout = SECONDS(5) };
    struct process_result r;
    struct err e = { 0 };

    if (!process_which(l->a, "nft"))
        return say(l, WARN, "nft is not installed to look with; brume itself uses libnftables");
    if (process_check(l->a, &o, &r, &e) < 0)
        return say(l, FAIL, "the kernel does not take rules (%s): `modprobe nf_tables`", e.cause);
    return say(l, OK, "the kernel takes rules");
}

static enum grade check_runtime(struct look *l)
{
    const char *crun = process_which(l->a, "crun"), *runc = process_which(l->a, "runc");

    if (!crun && !runc)
        return say(l, FAIL, "neither crun nor runc: `apt install crun runc`");
    return say(l, OK, "%s%s%s", crun ? crun : "", crun && runc ? ", " : "", runc ? runc : "");
}

static enum grade check_images(struct look *l)
{
    static const struct {
        const char *name, *what;
    } tools[] = { { "skopeo", "pulling from registries" },
                  { "mmdebstrap", "the built-in images" } };

    for (size_t i = 0; i < ARRAY_LEN(tools); i++)
        if (!process_which(l->a, tools[i].name))
            return say(l, WARN, "%s is missing, so %s will not work: `apt install %s`",
                       tools[i].name, tools[i].what, tools[i].name);
    return say(l, OK, "skopeo, mmdebstrap");
}

static enum grade check_shim(struct look *l)
{
    const char *shim = place_shim(l->a);

    return shim ? say(l, OK, "%s", shim)
                : say(l, FAIL, "not installed beside brume: install the package again");
}

/* The process that made the socket, 0 if nobody answers there. */
static pid_t server_of(const char *socket_path)
{
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    struct sockaddr_un at = { .sun_family = AF_UNIX };

    if (strlen(socket_path) >= sizeof(at.sun_path))
        return 0;
    memcpy(at.sun_path, socket_path, strlen(socket_path) + 1);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        _cleanup_close_ int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
        struct ucred peer = { 0 };
        socklen_t n = sizeof(peer);

        if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 &&
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0)
            return peer.pid;
    }
    return 0;
}

static pid_t api_pid(struct look *l)
{
    return server_of(place_control_socket(l->a, l->c));
}

/* True if what answers there is brume, whose every answer has such an id; also one by TLS says so
 * to who comes without. */
static bool answers_as_brume(struct look *l, const struct listen_address *at)
{
    bool unix_socket = !strncmp(at->host, "unix:", 5), six = strchr(at->host, ':') != NULL;
    bool any = !strcmp(at->host, "0.0.0.0") || !strcmp(at->host, "::");
    const char *host = any ? six ? "::1" : "127.0.0.1" : at->host;
    struct client_request q = { .method = "GET", .timeout = SECONDS(3), .max_body = MIB(1) };
    struct client_response answer = { 0 };
    const char *id;
    struct err e;

    q.unix_socket = unix_socket ? at->host + 5 : NULL;
    q.url =
        unix_socket
            ? "http://localhost/health/live"
            : arena_printf(l->a, six ? "http://[%s]:%d/health/live" : "http://%s:%d/health/live",
                           host, at->port);
    if (client_do(l->a, &q, &answer, &e) < 0)
        return false;
    id = client_header(&answer, "x-request-id");
    return id && !strncmp(id, "req_", 4);
}

/* A brume answers there: of this installation, or of another one on the machine. */
static enum grade look_whose(struct look *l, const struct listen_address *at)
{
    pid_t api = api_pid(l);
    char who[128];

    if (api && listen_held(at, api))
        return say(l, OK, "%s: brume serves there", l->c->listen);
    if (geteuid() != 0)
        return say(l, WARN, "%s: a brume serves there, and only root can look whether it is this",
                   l->c->listen);
    listen_owner(at, who, sizeof(who));
    return say(l, FAIL,
               "%s is used by another brume, %s: stop it, or take another address with --listen",
               l->c->listen, who);
}

static enum grade check_port(struct look *l)
{
    struct listen_address at;
    struct err e;
    int fd;

    if (listen_parse(l->c->listen, &at, &e) < 0)
        return say(l, FAIL, "%s", e.msg);
    if (answers_as_brume(l, &at))
        return look_whose(l, &at);
    if (listen_open(&at, 1, &fd, &e) < 0) {
        bool root = at.port < 1024 && e.code != ERR_ALREADY_EXISTS;

        return root && geteuid() != 0 ? by_root(l) : say(l, FAIL, "%s", e.msg);
    }
    close(fd);
    if (!strncmp(at.host, "unix:", 5))
        unlink(at.host + 5);
    return say(l, OK, "%s is free", l->c->listen);
}

/* What the api's user finds in the files of TLS: told by memory that its process shares. */
struct tls_look {
    const struct config *c;
    struct err e;
    int days;
};

static int try_tls(void *arg)
{
    struct tls_look *t = arg;
    uid_t uid;
    gid_t gid;

    if (user_find(t->c->user, &uid, &gid, &t->e) < 0 || setgroups(0, NULL) < 0 ||
        setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return 2;
    return http_tls_check(t->c->tls_cert, t->c->tls_key, &t->days, &t->e) < 0;
}

static enum grade check_tls(struct look *l)
{
    struct tls_look *t;
    enum grade g;

    if (!*l->c->tls_cert)
        return say(l, OK, "no certificate: plain HTTP");
    if (geteuid() != 0)
        return by_root(l);
    t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        abort();
    t->c = l->c;
    int rc = in_child(try_tls, t);
    if (rc == 1)
        g = say(l, FAIL, "%s (the api runs as %s)", t->e.msg, l->c->user);
    else if (rc != 0)
        g = say(l, FAIL, "cannot look as the user %s", l->c->user);
    else if (t->days < 0)
        g = say(l, FAIL, "the certificate %s has expired: put a new one there, then SIGHUP",
                l->c->tls_cert);
    else if (t->days < 14)
        g = say(l, WARN, "the certificate %s expires in %d day%s", l->c->tls_cert, t->days,
                t->days == 1 ? "" : "s");
    else
        g = say(l, OK, "%s, good for %d days", l->c->tls_cert, t->days);
    munmap(t, sizeof(*t));
    return g;
}

static enum grade check_disk(struct look *l)
{
    const char *at = existing(l, l->c->state_dir);
    struct statvfs v;
    uint64_t mib;

    if (statvfs(at, &v) < 0)
        return say(l, FAIL, "%s: %s", at, strerror(errno));
    mib = (uint64_t)v.f_bavail * v.f_frsize >> 20;
    if (mib < 512)
        return say(l, FAIL, "%llu MiB left for %s: make room", (unsigned long long)mib,
                   l->c->state_dir);
    if (v.f_files > 0 && v.f_favail < 10000)
        return say(l, v.f_favail < 1000 ? FAIL : WARN, "%llu more files fit into %s: make room",
                   (unsigned long long)v.f_favail, l->c->state_dir);
    if (mib < 4096)
        return say(l, WARN, "%llu MiB left for %s: images need some GiB", (unsigned long long)mib,
                   l->c->state_dir);
    return say(l, OK, "%llu GiB left for %s", (unsigned long long)(mib >> 10), l->c->state_dir);
}

static enum grade check_state(struct look *l)
{
    struct stat st, key;
    const char *master = arena_printf(l->a, "%s/master.key", l->c->state_dir);

    if (stat(l->c->state_dir, &st) < 0)
        return errno == ENOENT ? say(l, OK, "%s will be made at the first start", l->c->state_dir)
                               : say(l, FAIL, "%s: %s", l->c->state_dir, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || st.st_mode & S_IRWXO)
        return say(l, FAIL, "%s must belong to root and be closed to others: `brume serve` sets it",
                   l->c->state_dir);
    if (stat(master, &key) < 0) {
        const char *store = place_store_file(l->c);

        if (errno == EACCES && geteuid() != 0)
            return by_root(l);
        if (errno == ENOENT && store && access(store, F_OK) == 0)
            return say(l, FAIL,
                       "%s is lost: secrets cannot be read any more; put it back from "
                       "where you keep it",
                       master);
        return say(l, OK, "%s", l->c->state_dir);
    }
    if (key.st_mode & (S_IRWXG | S_IRWXO))
        return say(l, FAIL, "others can read %s: `chmod 600 %s`", master, master);
    return say(l, OK, "%s", l->c->state_dir);
}

static int on_number(void *ctx, const struct col *cols, size_t n, struct err *e _unused_)
{
    if (n && cols[0].s)
        int_parse((struct str){ cols[0].s, cols[0].n }, 0, INT64_MAX, ctx);
    return 0;
}

static enum grade check_postgres(struct look *l)
{
    struct store_opts o = { .url = l->c->store, .clock = clock_system(), .workers = 1 };
    int64_t version = 0, most = 0, need = app_readers(l->c, api_workers(l->c)) + STORE_WRITERS;
    struct err e = { 0 };
    struct store *s = store_open(&o, &e);
    struct db *db = s ? store_reader(s, &e) : NULL;
    enum grade g;

    if (!db || db_each(db, "SHOW server_version_num", NO_ARGS, on_number, &version, &e) < 0 ||
        db_each(db, "SHOW max_connections", NO_ARGS, on_number, &most, &e) < 0)
        g = say(l, FAIL, "PostgreSQL does not answer: %s", e.cause[0] ? e.cause : e.msg);
    else if (version < 150000)
        g = say(l, FAIL, "PostgreSQL %lld: brume needs 15 or newer", (long long)version / 10000);
    else if (most < need)
        g = say(l, WARN,
                "PostgreSQL takes %lld connections and each api of this configuration may need"
                " %lld: raise max_connections, or lower server.workers",
                (long long)most, (long long)need);
    else
        g = say(l, OK, "PostgreSQL %lld answers", (long long)version / 10000);
    if (db)
        store_reader_back(s, db);
    store_free(s);
    return g;
}

static enum grade check_store(struct look *l)
{
    const char *file = place_store_file(l->c), *password = l->c->store_password_file;
    bool closed = file || (*password && access(password, R_OK) < 0);

    if (closed && geteuid() != 0)
        return by_root(l);
    if (!file)
        return check_postgres(l);
    if (api_pid(l))
        return say(l, OK, "SQLite, %s, in use by the running api", file);
    if (access(file, F_OK) < 0)
        return say(l, OK, "SQLite, %s, made at the first start", file);
    return access(file, R_OK | W_OK) == 0 ? say(l, OK, "SQLite, %s", file)
                                          : say(l, FAIL, "%s: %s", file, strerror(errno));
}

static enum grade check_agent(struct look *l)
{
    const char *path = place_agent_socket(l->a, l->c);

    if (geteuid() != 0)
        return by_root(l);
    if (server_of(path))
        return say(l, OK, "answers at %s", path);
    if (!api_pid(l))
        return say(l, OK, "brume is not running now");
    return say(l, FAIL, "the api runs and no agent answers at %s: see the log of `brume serve`",
               path);
}

static enum grade check_edge(struct look *l)
{
    const char *path = place_edge_socket(l->a, l->c);

    if (geteuid() != 0)
        return by_root(l);
    if (server_of(path))
        return say(l, OK, "answers at %s", path);
    if (!api_pid(l))
        return say(l, OK, "brume is not running now");
    return say(l, FAIL, "the api runs and no edge at %s: see the log of `brume serve`", path);
}

int doctor_main(int argc, const char *const *argv, const char *const *env)
{
    static const struct {
        const char *name;
        enum grade (*look)(struct look *l);
        bool root; /* nobody else can tell */
    } checks[] = {
        { "root", check_root },
        { "kernel", check_kernel },
        { "user", check_user },
        { "namespaces", check_namespaces },
        { "cgroups", check_cgroups },
        { "overlayfs", check_overlay, true },
        { "idmapped mounts", check_idmap, true },
        { "nftables", check_nftables, true },
        { "runtime", check_runtime },
        { "image tools", check_images },
        { "shim", check_shim },
        { "port", check_port },
        { "tls", check_tls },
        { "disk", check_disk },
        { "state", check_state },
        { "store", check_store },
        { "agent", check_agent },
        { "edge", check_edge },
    };
    static const char *const words[] = { "ok", "warn", "FAIL" };
    struct arena a = ARENA(MIB(16));
    size_t count[3] = { 0 };
    struct look l = { .a = &a };
    struct config *c = serve_config(argc, argv, env);

    if (!c)
        return 2;
    l.c = c;
    for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
        enum grade g = checks[i].root && geteuid() != 0 ? by_root(&l) : checks[i].look(&l);

        count[g]++;
        printf("%-4s  %-15s  %s\n", words[g], checks[i].name, l.say);
        fflush(stdout);
    }
    printf("%zu ok, %zu to think about, %zu to mend\n", count[OK], count[WARN], count[FAIL]);
    config_free(c);
    arena_free(&a);
    return count[FAIL] ? 1 : 0;
}
