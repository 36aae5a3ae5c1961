/* SPDX-License-Identifier: Apache-2.0 */
/* The OCI runtime's config.json.  What an instance may do is decided here: Docker's default
 * capabilities, no new privileges, the default seccomp profile, masked kernel files, every kind of
 * namespace, root as an unprivileged id of the host. */
#include <fcntl.h>
#include <linux/openat2.h> /* RESOLVE_NO_XDEV */
#include <signal.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "drivers/compute/oci_impl.h"
#include "os/file.h"
#include "os/process.h"

enum { CONFIG_MAX = 1 << 20, PASSWD_MAX = 1 << 20, MAX_GROUPS = 65536 /* the kernel's */ };

/* clang-format off */
static const char *const capabilities[] = {
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
};
static const char *const masked[] = {
    "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
};
static const char *const read_only[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};
static const struct {
    const char *to, *type, *from, *options; /* separated by ',' */
} mounts[] = {
    { "/proc",       "proc",   "proc",   "nosuid,noexec,nodev" },
    { "/dev",        "tmpfs",  "tmpfs",  "nosuid,strictatime,mode=755,size=65536k" },
    { "/dev/pts",    "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
    { "/dev/shm",    "tmpfs",  "shm",    "nosuid,noexec,nodev,mode=1777,size=65536k" },
    { "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
    { "/sys",        "sysfs",  "sysfs",  "nosuid,noexec,nodev,ro" },
};
/* clang-format on */

/* As conversion.md of the image specification calls it. */
#define STOP_SIGNAL "org.opencontainers.image.stopSignal"

static void strings(struct json_out *j, const char *key, const char *const *at, size_t n)
{
    json_key(j, key);
    json_open(j, '[');
    for (size_t k = 0; k < n; k++)
        json_str(j, at[k]);
    json_close(j);
}

/* ---- users ---- */

struct user {
    int64_t uid, gid;
    int64_t *groups;
    size_t n_groups;
    const char *home;
};

/* A file of the finished root as the instance sees it; empty if there is none. */
static struct str root_file(struct oci_boot *b, const char *path)
{
    _cleanup_close_ int fd = fd_open_in(b->root, path, O_RDONLY | O_NONBLOCK, RESOLVE_NO_XDEV);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PASSWD_MAX)
        return STR("");
    char *p = arena_alloc(b->a, (size_t)st.st_size + 1);
    ssize_t n = read(fd, p, (size_t)st.st_size);
    return (struct str){ p, n > 0 ? (size_t)n : 0 };
}

/* The line of 'file' (fields by ':') whose field 'key' is 'name'. */
static bool find_line(struct arena *a, struct str file, int key, struct str name, char *fields[8])
{
    char *text = arena_dup(a, file.p, file.n), *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        size_t n = 0;
        for (char *p = line; n < 8; n++) {
            fields[n] = p;
            char *colon = p ? strchr(p, ':') : NULL;
            if (colon)
                *colon = '\0';
            p = colon ? colon + 1 : NULL;
        }
        if (fields[key] && str_is(name, fields[key]))
            return true;
    }
    return false;
}

static int64_t id_of(const char *s)
{
    int64_t v;

    return s && int_parse(str_of(s), 0, OCI_RANGE_IDS - 1, &v) ? v : -1;
}

/* Groups whose members name 'user'. */
static void find_groups(struct arena *a, struct str file, const char *user, struct user *u)
{
    char *text = arena_dup(a, file.p, file.n), *save = NULL, *inner;
    size_t lines = 1;

    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    u->groups = arena_new_n(a, int64_t, lines);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *members = strrchr(line, ':'), *gid = strchr(line, ':');
        bool is_in = false;
        gid = gid ? strchr(gid + 1, ':') : NULL;
        if (!gid || !members || members <= gid)
            continue;
        *members++ = '\0';
        int64_t id = id_of(gid + 1);
        for (char *m = strtok_r(members, ",", &inner); m; m = strtok_r(NULL, ",", &inner))
            is_in = is_in || strcmp(m, user) == 0;
        if (is_in && id >= 0 && u->n_groups < MAX_GROUPS)
            u->groups[u->n_groups++] = id;
    }
}

static bool is_number(struct str s)
{
    int64_t v;

    return int_parse(s, 0, INT64_MAX, &v);
}

static const char *unknown(struct oci_boot *b, const char *what, struct str name)
{
    return is_number(name)
               ? arena_printf(b->a, "%s " STR_FMT " of the image is over %d", what, STR_ARG(name),
                              OCI_RANGE_IDS - 1)
               : arena_printf(b->a, "%s '" STR_FMT "' is not in the image", what, STR_ARG(name));
}

/* config.md of the image specification, "User": "user", "user:group", names or numbers.  A number
 * need not be known; a group that is named leaves no other.  NULL, or why there is no such user. */
static const char *find_user(struct oci_boot *b, struct user *u)
{
    const char *said = b->config.user ? b->config.user : "";
    const char *colon = strchr(said, ':');
    struct str name = { said, colon ? (size_t)(colon - said) : strlen(said) };
    struct str group = str_of(colon ? colon + 1 : "");
    char *f[8];

    if (name.n == 0)
        name = STR("0");
    *u = (struct user){ .home = "/" };
    u->uid = is_number(name) ? id_of(arena_dup(b->a, name.p, name.n)) : -1;
    if (find_line(b->a, root_file(b, "etc/passwd"), is_number(name) ? 2 : 0, name, f)) {
        u->uid = id_of(f[2]);
        u->gid = id_of(f[3]);
        if (f[5] && f[5][0] == '/')
            u->home = arena_strdup(b->a, f[5]);
        if (group.n == 0)
            find_groups(b->a, root_file(b, "etc/group"), f[0], u);
    }
    if (u->uid < 0 || u->gid < 0)
        return unknown(b, "user", name);
    if (group.n == 0)
        return NULL;
    u->gid = is_number(group)                                          ? id_of(group.p)
             : find_line(b->a, root_file(b, "etc/group"), 0, group, f) ? id_of(f[2])
                                                                       : -1;
    return u->gid < 0 ? unknown(b, "group", group) : NULL;
}

/* ---- the process ---- */

static bool set_by(const struct json_value *map, const char *key)
{
    return map && json_get(map, key);
}

static void write_env(struct json_out *j, const struct json_value *image,
                      const struct json_value *own, const struct user *u, const char *host)
{
    struct buf line = BUF(CONFIG_MAX);

    json_key(j, "env");
    json_open(j, '[');
    if (!set_by(image, "PATH") && !set_by(own, "PATH"))
        json_str(j, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if (!set_by(own, "HOSTNAME")) {
        buf_printf(&line, "HOSTNAME=%s", host);
        json_str(j, buf_cstr(&line));
    }
    if (!set_by(image, "HOME") && !set_by(own, "HOME")) {
        buf_clear(&line);
        buf_printf(&line, "HOME=%s", u->home);
        json_str(j, buf_cstr(&line));
    }
    for (int round = 0; round < 2; round++) {
        const struct json_value *map = round ? own : image;
        for (size_t k = 0; map && k < json_len(map); k++) {
            const char *key, *value = json_str_of(json_member(map, k, &key), NULL);
            if (!value || (round == 0 && set_by(own, key)))
                continue;
            buf_clear(&line);
            buf_printf(&line, "%s=%s", key, value);
            json_str(j, buf_cstr(&line));
        }
    }
    json_close(j);
    buf_free(&line);
}

static void write_process(struct json_out *j, struct inst *i, struct oci_boot *b,
                          const struct user *u, const char *host)
{
    static const char *const sets[] = { "bounding", "effective", "permitted" };
    struct err e;
    _cleanup_(json_freep) struct json_value *image =
        b->config.env ? json_parse(str_of(b->config.env), &e) : NULL;
    _cleanup_(json_freep) struct json_value *own =
        i->spec.env ? json_parse(str_of(i->spec.env), &e) : NULL;

    json_key(j, "process");
    json_open(j, '{');
    json_kbool(j, "terminal", false);
    json_key(j, "user");
    json_open(j, '{');
    json_kint(j, "uid", u->uid);
    json_kint(j, "gid", u->gid);
    json_key(j, "additionalGids");
    json_open(j, '[');
    for (size_t k = 0; k < u->n_groups; k++)
        json_int(j, u->groups[k]);
    json_close(j);
    json_close(j);
    json_key(j, "args");
    json_open(j, '[');
    for (size_t k = 0; k < json_len(b->cmd); k++)
        json_str(j, json_str_of(json_at(b->cmd, k), NULL));
    json_close(j);
    write_env(j, image, own, u, host);
    json_kstr(j, "cwd", oci_config_cwd(b->a, &b->config));
    json_key(j, "capabilities");
    json_open(j, '{');
    for (size_t k = 0; k < ARRAY_LEN(sets); k++)
        strings(j, sets[k], capabilities, ARRAY_LEN(capabilities));
    json_close(j);
    json_kbool(j, "noNewPrivileges", true);
    json_close(j);
}

/* ---- the rest ---- */

static void write_mount(struct json_out *j, const char *to, const char *type, const char *from,
                        const char *options)
{
    json_open(j, '{');
    json_kstr(j, "destination", to);
    json_kstr(j, "type", type);
    json_kstr(j, "source", from);
    json_key(j, "options");
    json_open(j, '[');
    for (const char *p = options; *p; p += strcspn(p, ","), p += *p == ',')
        json_strn(j, p, strcspn(p, ","));
    json_close(j);
    json_close(j);
}

static void write_mounts(struct json_out *j, const struct inst *i, struct oci_boot *b)
{
    static const char *const files[] = { "hosts", "hostname", "resolv.conf" };

    json_key(j, "mounts");
    json_open(j, '[');
    for (size_t k = 0; k < ARRAY_LEN(mounts); k++)
        write_mount(j, mounts[k].to, mounts[k].type, mounts[k].from, mounts[k].options);
    for (size_t k = 0; k < ARRAY_LEN(files); k++)
        write_mount(j, arena_printf(b->a, "/etc/%s", files[k]), "bind",
                    arena_printf(b->a, OCI_BUNDLE "/%s", files[k]), "bind,rprivate");
    if (b->files >= 0)
        write_mount(j, COMPUTE_FILES, "bind", OCI_BUNDLE "/files",
                    "bind,rprivate,ro,nosuid,nodev,noexec");
    if (i->spec.data)
        write_mount(j, i->spec.data, "bind",
                    b->loop >= 0 ? OCI_BUNDLE "/disk/data" : OCI_BUNDLE "/data",
                    "bind,rprivate,nosuid,nodev");
    json_close(j);
}

static void write_ids(struct json_out *j, const char *key, const struct inst *i)
{
    json_key(j, key);
    json_open(j, '[');
    json_open(j, '{');
    json_kint(j, "containerID", 0);
    json_kint(j, "hostID", OCI_FIRST_ID + (unsigned)i->range * OCI_RANGE_IDS);
    json_kint(j, "size", OCI_RANGE_IDS);
    json_close(j);
    json_close(j);
}

static void write_linux(struct oci *o, struct json_out *j, struct inst *i, struct oci_boot *b)
{
    static const char *const made[] = { "pid", "ipc", "uts", "mount", "cgroup" };

    json_key(j, "linux");
    json_open(j, '{');
    json_key(j, "namespaces");
    json_open(j, '[');
    json_open(j, '{');
    json_kstr(j, "type", "user");
    json_kstr(j, "path", OCI_BUNDLE "/userns");
    json_close(j);
    for (size_t k = 0; k < ARRAY_LEN(made); k++) {
        json_open(j, '{');
        json_kstr(j, "type", made[k]);
        json_close(j);
    }
    json_close(j);
    write_ids(j, "uidMappings", i);
    write_ids(j, "gidMappings", i);
    if (o->runtime == OCI_RUNC)
        json_kstr(j, "cgroupsPath", arena_printf(b->a, "/%s", oci_group(o, b->a, &i->id)));
    if (o->runtime == OCI_RUNC) { /* crun finds the program in an annotation */
        json_key(j, "seccomp");
        oci_seccomp(j);
    }
    strings(j, "maskedPaths", masked, ARRAY_LEN(masked));
    strings(j, "readonlyPaths", read_only, ARRAY_LEN(read_only));
    json_close(j);
}

/* A small file that the instance's root owns. */
static int write_owned(struct oci *o, struct inst *i, struct oci_boot *b, const char *name,
                       const char *text, struct err *e)
{
    const char *path = oci_path(o, b->a, &i->id, name);
    uid_t owner = oci_base_id(i);

    TRY(file_write(path, text, strlen(text), 0644, e));
    return lchown(path, owner, owner) < 0 ? err_sys(e, errno, "chown %s", path) : 0;
}

static int write_names(struct oci *o, struct inst *i, struct oci_boot *b, const char *host,
                       struct err *e)
{
    _cleanup_close_ int fd =
        open(oci_path(o, b->a, &i->id, "userns"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const char *dns = i->spec.dns ? i->spec.dns : "";
    /* The second and third are where the shim places what it is handed. */
    static const struct {
        const char *name;
        mode_t mode;
    } folders[] = { { "root", 0755 }, { "files", 0755 }, { "disk", 0755 }, { "log", 0700 } };

    for (size_t k = 0; k < ARRAY_LEN(folders); k++)
        if (mkdir(oci_path(o, b->a, &i->id, folders[k].name), folders[k].mode) < 0 &&
            errno != EEXIST)
            return err_sys(e, errno, "make the instance's folder");
    if (fd < 0)
        return err_sys(e, errno, "make the file of its user namespace");
    TRY(write_owned(o, i, b, "hostname", arena_printf(b->a, "%s\n", host), e));
    TRY(write_owned(o, i, b, "hosts",
                    arena_printf(b->a,
                                 "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n%s\t%s\n",
                                 i->spec.ip ? i->spec.ip : "127.0.1.1", host),
                    e));
    return write_owned(o, i, b, "resolv.conf",
                       dns[0] ? arena_printf(b->a, "nameserver %s\n", dns) : "", e);
}

/* The entrypoint's words, then the command's; of each the order's, else the image's, whose command
 * belongs to its own entrypoint alone. */
static int choose_command(struct inst *i, struct oci_boot *b, const char **failed, struct err *e)
{
    const char *const lists[] = {
        i->spec.entrypoint ? i->spec.entrypoint : b->config.entrypoint,
        i->spec.cmd || i->spec.entrypoint ? i->spec.cmd : b->config.cmd,
    };
    _cleanup_(buf_free) struct buf text = BUF(CONFIG_MAX);
    struct json_out j = JSON_OUT(&text);

    json_open(&j, '[');
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        _cleanup_(json_freep) struct json_value *v =
            lists[k] ? json_parse(str_of(lists[k]), e) : NULL;
        if (lists[k] && !v)
            return -1;
        for (size_t n = 0; v && n < json_len(v); n++)
            json_str(&j, json_str_of(json_at(v, n), NULL));
    }
    json_close(&j);
    if (json_done(&j) < 0)
        return err_set(e, ERR_TOO_LARGE, "the instance's command is too large");
    if (!(b->cmd = json_parse(buf_str(&text), e)))
        return -1;
    const char *first = json_str_of(json_at(b->cmd, 0), NULL);
    if (!first || !first[0])
        *failed = "the image has no command and the order gives none";
    return *failed ? 1 : 0;
}

int oci_config_write(struct oci *o, struct inst *i, struct oci_boot *b, const char **failed,
                     struct err *e)
{
    const char *host = i->spec.name && i->spec.name[0] ? i->spec.name : i->id.s + 24;
    struct buf text = BUF(CONFIG_MAX);
    struct json_out j = JSON_OUT(&text);
    struct user u;

    int r = choose_command(i, b, failed, e);
    if (r != 0)
        return r;
    if ((*failed = find_user(b, &u)))
        return 1;
    const char *filter = o->runtime == OCI_CRUN ? oci_seccomp_program(o, e) : "";
    if (!filter)
        return -1;
    TRY(write_names(o, i, b, host, e));
    TRY(oci_data_make(i, b->disk, u.uid, u.gid, e));
    json_open(&j, '{');
    json_kstr(&j, "ociVersion", "1.0.0");
    write_process(&j, i, b, &u, host);
    json_key(&j, "root");
    json_open(&j, '{');
    json_kstr(&j, "path", "root");
    json_kbool(&j, "readonly", false);
    json_close(&j);
    json_kstr(&j, "hostname", host);
    json_key(&j, "annotations");
    json_open(&j, '{');
    if (o->runtime == OCI_CRUN)
        json_kstr(&j, "run.oci.seccomp_bpf_data", filter);
    if (b->config.stop_signal && *b->config.stop_signal)
        json_kstr(&j, STOP_SIGNAL, b->config.stop_signal);
    json_close(&j);
    write_mounts(&j, i, b);
    write_linux(o, &j, i, b);
    json_close(&j);
    r = json_done(&j) < 0
            ? err_set(e, ERR_TOO_LARGE, "the instance's environment is too large")
            : file_write(oci_path(o, b->a, &i->id, "config.json"), text.p, text.n, 0600, e);
    buf_free(&text);
    return r;
}

const char *oci_config_cwd(struct arena *a, const struct image_state *config)
{
    const char *cwd = config->cwd ? config->cwd : "";

    return *cwd == '/' ? cwd : arena_printf(a, "/%s", cwd);
}

int oci_config_stop_signal(struct oci *o, struct arena *a, const struct uuid *id)
{
    struct str text;
    struct err e;

    if (file_read(a, oci_path(o, a, id, "config.json"), CONFIG_MAX, &text, &e) < 0)
        return SIGTERM;
    _cleanup_(json_freep) struct json_value *v = json_parse(text, &e);
    const struct json_value *notes = v ? json_get(v, "annotations") : NULL;
    int number = notes ? process_signal(json_get_str(a, notes, STOP_SIGNAL, "")) : 0;
    return number ? number : SIGTERM;
}
