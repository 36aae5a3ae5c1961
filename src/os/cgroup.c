/* SPDX-License-Identifier: Apache-2.0 */
/* Hides that control groups come in two generations, and on some machines in both at once.  We
 * write the files ourselves: an OCI runtime that manages groups walks a dozen trees, of which an
 * instance needs six, and refuses machines where v2 stands beside v1. */
#include "os/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "os/file.h"

enum controller { C_MEMORY, C_CPU, C_CPUACCT, C_PIDS, C_FREEZER, C_BLKIO, N_CONTROLLERS };

static const char *const v1_names[N_CONTROLLERS] = {
    "memory", "cpu", "cpuacct", "pids", "freezer", "blkio",
};

struct cgroups {
    struct arena arena;
    bool v2;                             /* all in one tree */
    const char *hybrid;                  /* a v2 tree beside v1 trees */
    const char *tree[N_CONTROLLERS];     /* of each controller, NULL: none */
    const char *distinct[N_CONTROLLERS]; /* each tree once */
    size_t n_distinct;
    bool v2_has[N_CONTROLLERS];
};

enum { PATH_BYTES = 512, TEXT_BYTES = 4096 };

static bool has_word(const char *list, const char *word, const char *separators)
{
    size_t n = strlen(word);

    for (const char *p = list; *p; p += strcspn(p, separators), p += strspn(p, separators))
        if (strcspn(p, separators) == n && memcmp(p, word, n) == 0)
            return true;
    return false;
}

/* Reads a small kernel file into 'out'; false if it cannot be read. */
static bool peek(const char *path, char out[TEXT_BYTES])
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, TEXT_BYTES - 1);

    out[n < 0 ? 0 : n] = '\0';
    return n >= 0;
}

static bool poke(const char *dir, const char *group, const char *file, const char *text)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "%s/%s/%s", dir, group, file);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static int64_t number_in(const char *dir, const char *group, const char *file)
{
    char path[PATH_BYTES], text[TEXT_BYTES];

    snprintf(path, sizeof(path), "%s/%s/%s", dir, group, file);
    return peek(path, text) ? strtoll(text, NULL, 10) : 0;
}

/* The number behind 'key' in a file of "key number" lines. */
static int64_t keyed_in(const char *dir, const char *group, const char *file, const char *key)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    size_t n = strlen(key);

    snprintf(path, sizeof(path), "%s/%s/%s", dir, group, file);
    if (!peek(path, text))
        return 0;
    for (const char *p = text; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
        if (strncmp(p, key, n) == 0 && p[n] == ' ')
            return strtoll(p + n, NULL, 10);
    return 0;
}

static void take_v1(struct cgroups *g, const char *dir, const char *options)
{
    const char *kept = arena_strdup(&g->arena, dir);
    bool used = false;

    for (int c = 0; c < N_CONTROLLERS; c++)
        if (!g->tree[c] && has_word(options, v1_names[c], ",\n")) {
            g->tree[c] = kept;
            used = true;
        }
    if (used)
        g->distinct[g->n_distinct++] = kept;
}

static void take_v2(struct cgroups *g, const char *dir)
{
    char path[PATH_BYTES], text[TEXT_BYTES];

    g->v2 = true;
    g->hybrid = NULL;
    g->n_distinct = 1;
    g->distinct[0] = dir;
    snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
    peek(path, text);
    for (int c = 0; c < N_CONTROLLERS; c++) {
        g->tree[c] = dir;
        const char *name = c == C_BLKIO ? "io" : c == C_CPUACCT ? "cpu" : v1_names[c];
        g->v2_has[c] = c == C_FREEZER || has_word(text, name, " \n");
    }
}

/* A line of mountinfo: "… mount point options - type source super-options". */
static void take_mount(struct cgroups *g, char *line)
{
    char *dash = strstr(line, " - "), *save = NULL, *at = NULL, *word = line;

    if (!dash || strncmp(dash + 3, "cgroup", 6) != 0)
        return;
    for (int i = 0; i < 5 && (at = strtok_r(word, " ", &save)); i++)
        word = NULL;
    if (!at)
        return;
    if (strncmp(dash + 3, "cgroup2 ", 8) == 0) {
        if (!g->hybrid)
            g->hybrid = arena_strdup(&g->arena, at);
        return;
    }
    const char *options = strrchr(dash + 3, ' ');
    if (options)
        take_v1(g, at, options + 1);
}

struct cgroups *cgroups_open(struct err *e)
{
    struct cgroups *g = calloc(1, sizeof(*g));
    char *save = NULL;

    if (!g)
        abort();
    g->arena = ARENA(MIB(16));
    _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    struct buf text = BUF(MIB(8));
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0) {
        char *room = buf_room(&text, KIB(16));
        n = room ? read(fd, room, KIB(16)) : 0;
        buf_grew(&text, n > 0 ? (size_t)n : 0);
    }
    char *all = arena_strdup(&g->arena, buf_cstr(&text));
    buf_free(&text);
    for (char *line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        take_mount(g, line);
    if (g->n_distinct == 0 && g->hybrid)
        take_v2(g, g->hybrid);
    if (g->n_distinct == 0) {
        cgroups_close(g);
        err_set(e, ERR_ENGINE_UNAVAILABLE, "this machine has no control groups mounted");
        return NULL;
    }
    return g;
}

void cgroups_close(struct cgroups *g)
{
    if (!g)
        return;
    arena_free(&g->arena);
    free(g);
}

const char *cgroups_lacks(const struct cgroups *g)
{
    static const enum controller needed[] = { C_MEMORY, C_CPU, C_PIDS, C_FREEZER };

    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (g->v2 ? !g->v2_has[needed[i]] : !g->tree[needed[i]])
            return v1_names[needed[i]];
    return NULL;
}

const char *cgroups_hybrid(const struct cgroups *g)
{
    return g->v2 ? NULL : g->hybrid;
}

/* On v2 a group's controllers are switched on in the group above. */
static void delegate(const char *dir, const char *group)
{
    static const char *const on[] = { "+memory", "+cpu", "+pids", "+io" };

    for (size_t i = 0; i < ARRAY_LEN(on); i++)
        poke(dir, group, "cgroup.subtree_control", on[i]);
}

/* 0, or why not. */
static int make_path(struct cgroups *g, const char *dir, const char *group)
{
    char path[PATH_BYTES];

    /* Mostly only the last folder is missing. */
    snprintf(path, sizeof(path), "%s/%s", dir, group);
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return 0;
    if (errno != ENOENT)
        return errno;
    for (size_t i = 0; group[i]; i++) {
        if (group[i] != '/')
            continue;
        snprintf(path, sizeof(path), "%s/%.*s", dir, (int)i, group);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return errno;
        if (g->v2) {
            delegate(dir, "");
            delegate(dir, path + strlen(dir) + 1);
        }
    }
    snprintf(path, sizeof(path), "%s/%s", dir, group);
    return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : errno;
}

static int make_in(struct cgroups *g, const char *dir, const char *group, struct err *e)
{
    int why = make_path(g, dir, group);

    /* Another installation may tidy up in between what we share with it. */
    for (int tries = 0; why == ENOENT && tries < 5; tries++)
        why = make_path(g, dir, group);
    return why ? err_sys(e, why, "mkdir %s/%s", dir, group) : 0;
}

int cgroup_make(struct cgroups *g, const char *path, struct err *e)
{
    for (size_t i = 0; i < g->n_distinct; i++)
        TRY(make_in(g, g->distinct[i], path, e));
    return 0;
}

static int limit_one(struct cgroups *g, enum controller c, const char *path, const char *file,
                     int64_t value, struct err *e)
{
    char text[32];

    if (!g->tree[c])
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "this machine cannot limit %s", v1_names[c]);
    snprintf(text, sizeof(text), "%lld", (long long)value);
    if (!poke(g->tree[c], path, file, text))
        return err_sys(e, errno, "write %s of %s", file, path);
    return 0;
}

static int limit_v2(struct cgroups *g, const char *path, const struct cgroup_limits *l,
                    struct err *e)
{
    char text[64];

    if (l->memory_bytes > 0) {
        TRY(limit_one(g, C_MEMORY, path, "memory.max", l->memory_bytes, e));
        poke(g->tree[C_MEMORY], path, "memory.swap.max", "0");
        poke(g->tree[C_MEMORY], path, "memory.oom.group", "0");
    }
    if (l->pids > 0)
        TRY(limit_one(g, C_PIDS, path, "pids.max", l->pids, e));
    if (l->cpu_milli > 0) {
        snprintf(text, sizeof(text), "%lld 100000", (long long)l->cpu_milli * 100);
        if (!poke(g->tree[C_CPU], path, "cpu.max", text))
            return err_sys(e, errno, "write cpu.max of %s", path);
        TRY(limit_one(g, C_CPU, path, "cpu.weight",
                      MAX((int64_t)1, MIN((int64_t)10000, l->cpu_milli / 10)), e));
    }
    return 0;
}

int cgroup_limit(struct cgroups *g, const char *path, const struct cgroup_limits *l, struct err *e)
{
    if (g->v2)
        return limit_v2(g, path, l, e);
    if (l->memory_bytes > 0) {
        /* With swap both limits must not cross on the way: when one is refused, try the other
         * order. */
        struct err first;
        bool swap = number_in(g->tree[C_MEMORY] ? g->tree[C_MEMORY] : "", path,
                              "memory.memsw.limit_in_bytes") > 0;
        if (limit_one(g, C_MEMORY, path, "memory.limit_in_bytes", l->memory_bytes, &first) < 0) {
            if (swap)
                TRY(limit_one(g, C_MEMORY, path, "memory.memsw.limit_in_bytes", l->memory_bytes,
                              e));
            TRY(limit_one(g, C_MEMORY, path, "memory.limit_in_bytes", l->memory_bytes, e));
        } else if (swap) {
            TRY(limit_one(g, C_MEMORY, path, "memory.memsw.limit_in_bytes", l->memory_bytes, e));
        }
    }
    if (l->pids > 0)
        TRY(limit_one(g, C_PIDS, path, "pids.max", l->pids, e));
    if (l->cpu_milli > 0) {
        TRY(limit_one(g, C_CPU, path, "cpu.cfs_quota_us", l->cpu_milli * 100, e));
        TRY(limit_one(g, C_CPU, path, "cpu.shares",
                      MAX((int64_t)2, MIN((int64_t)262144, l->cpu_milli * 1024 / 1000)), e));
    }
    return 0;
}

/* A thread that moves itself alone, by v1's "tasks", need not stop the forks of the whole machine,
 * which takes the kernel up to some ten milliseconds. */
int cgroup_procs_files(struct cgroups *g, struct arena *a, const char *path, const char ***out,
                       size_t *n, _unused_ struct err *e)
{
    *out = arena_new_n(a, const char *, g->n_distinct);
    *n = g->n_distinct;
    for (size_t i = 0; i < g->n_distinct; i++)
        (*out)[i] =
            arena_printf(a, "%s/%s/%s", g->distinct[i], path, g->v2 ? "cgroup.procs" : "tasks");
    return 0;
}

int cgroup_freeze(struct cgroups *g, const char *path, bool frozen, struct err *e)
{
    const char *file = g->v2 ? "cgroup.freeze" : "freezer.state";
    const char *text = g->v2 ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");

    if (!g->tree[C_FREEZER])
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "this machine cannot pause instances");
    if (!poke(g->tree[C_FREEZER], path, file, text))
        return err_sys(e, errno, "write %s of %s", file, path);
    return 0;
}

/* ---- killing and removing ---- */

static bool is_group(const struct dirent *d)
{
    return d->d_type == DT_DIR && d->d_name[0] != '.';
}

static int signal_all(const char *dir, int signum, int depth)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    int found = 0;

    snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
    if (peek(path, text)) {
        char *nl = strrchr(text, '\n'); /* of a longer list a number may have come in part */

        text[nl ? nl - text + 1 : 0] = '\0';
        for (char *p = text, *end; *p; p = end) {
            long long pid = strtoll(p, &end, 10);
            if (end == p)
                break;
            found++;
            if (pid > 1)
                kill((pid_t)pid, signum);
            while (*end == '\n')
                end++;
        }
    }
    DIR *d = depth < 8 ? opendir(dir) : NULL;
    for (struct dirent *f; d && (f = readdir(d));)
        if (is_group(f)) {
            snprintf(path, sizeof(path), "%s/%s", dir, f->d_name);
            found += signal_all(path, signum, depth + 1);
        }
    if (d)
        closedir(d);
    return found;
}

static void pause_ms(int ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

int cgroup_kill(struct cgroups *g, const char *path, int64_t timeout, struct err *e)
{
    const char *tree = g->v2 ? g->distinct[0] : g->tree[C_PIDS] ? g->tree[C_PIDS] : g->distinct[0];
    char dir[PATH_BYTES];
    struct err ignored;

    snprintf(dir, sizeof(dir), "%s/%s", tree, path);
    if (access(dir, F_OK) < 0)
        return 0;
    if (g->v2)
        poke(tree, path, "cgroup.kill", "1");
    for (int64_t waited = 0; signal_all(dir, SIGKILL, 0) > 0; waited += MILLIS(2)) {
        /* A frozen process dies only when it thaws. */
        if (waited == 0 && cgroup_freeze(g, path, false, &ignored) < 0)
            e->code = ERR_NONE;
        if (waited > timeout)
            return err_set(e, ERR_INTERNAL, "processes of %s do not end", path);
        pause_ms(2);
    }
    return 0;
}

static int remove_tree(const char *dir, int depth, struct err *e)
{
    char path[PATH_BYTES];

    for (int tries = 0; rmdir(dir) < 0; tries++) {
        if (errno == ENOENT)
            return 0;
        if (errno != EBUSY || tries > 200)
            return err_sys(e, errno, "rmdir %s", dir);
        DIR *d = depth < 8 && tries == 0 ? opendir(dir) : NULL;
        for (struct dirent *f; d && (f = readdir(d));)
            if (is_group(f)) {
                snprintf(path, sizeof(path), "%s/%s", dir, f->d_name);
                if (remove_tree(path, depth + 1, e) < 0) {
                    closedir(d);
                    return -1;
                }
            }
        if (d)
            closedir(d);
        if (tries > 0) /* its last process is still on its way out */
            pause_ms(5);
    }
    return 0;
}

int cgroup_remove(struct cgroups *g, const char *path, struct err *e)
{
    char dir[PATH_BYTES];

    for (size_t i = 0; i < g->n_distinct; i++) {
        snprintf(dir, sizeof(dir), "%s/%s", g->distinct[i], path);
        TRY(remove_tree(dir, 0, e));
    }
    return 0;
}

void cgroup_tidy(struct cgroups *g, const char *path)
{
    char dir[PATH_BYTES];

    for (size_t i = 0; i < g->n_distinct; i++) {
        snprintf(dir, sizeof(dir), "%s/%s", g->distinct[i], path);
        /* Its last process, dead and waited for, may still be on its way out. */
        for (int tries = 0;
             tries < 50 && rmdir(dir) < 0 && errno == EBUSY && signal_all(dir, 0, 0) == 0; tries++)
            pause_ms(2);
        while (strlen(dir) > strlen(g->distinct[i]) && (rmdir(dir) == 0 || errno == ENOENT))
            *strrchr(dir, '/') = '\0';
    }
}

int cgroup_children(struct cgroups *g, struct arena *a, const char *path, const char ***out,
                    size_t *n, _unused_ struct err *e)
{
    const char **all = NULL;
    size_t count = 0, cap = 0;
    char dir[PATH_BYTES];

    for (size_t i = 0; i < g->n_distinct; i++) {
        snprintf(dir, sizeof(dir), "%s/%s", g->distinct[i], path);
        DIR *d = opendir(dir);
        for (struct dirent *f; d && (f = readdir(d));) {
            size_t k = 0;
            while (k < count && strcmp(all[k], f->d_name) != 0)
                k++;
            if (!is_group(f) || k < count)
                continue;
            if (count == cap) {
                const char **more = arena_new_n(a, const char *, cap ? cap * 2 : 64);
                for (size_t j = 0; j < count; j++)
                    more[j] = all[j];
                all = more;
                cap = cap ? cap * 2 : 64;
            }
            all[count++] = arena_strdup(a, f->d_name);
        }
        if (d)
            closedir(d);
    }
    *out = all;
    *n = count;
    return 0;
}

/* ---- what it used ---- */

bool cgroup_oom_killed(struct cgroups *g, const char *path)
{
    if (!g->tree[C_MEMORY])
        return false;
    return keyed_in(g->tree[C_MEMORY], path, g->v2 ? "memory.events" : "memory.oom_control",
                    "oom_kill") > 0;
}

/* Sums "… Read n" and "… Write n" (v1) or "… rbytes=n wbytes=n" (v2). */
static void sum_io(struct cgroups *g, const char *path, struct cgroup_usage *out)
{
    char file[PATH_BYTES], text[TEXT_BYTES];
    const char *name = g->v2 ? "io.stat" : "blkio.throttle.io_service_bytes_recursive";
    const char *r = g->v2 ? " rbytes=" : " Read ", *w = g->v2 ? " wbytes=" : " Write ";

    snprintf(file, sizeof(file), "%s/%s/%s", g->tree[C_BLKIO], path, name);
    if (!peek(file, text))
        return;
    for (const char *p = text; (p = strstr(p, r)); p += strlen(r))
        out->io_read_bytes += strtoll(p + strlen(r), NULL, 10);
    for (const char *p = text; (p = strstr(p, w)); p += strlen(w))
        out->io_write_bytes += strtoll(p + strlen(w), NULL, 10);
}

int cgroup_usage(struct cgroups *g, const char *path, struct cgroup_usage *out, struct err *e)
{
    char dir[PATH_BYTES];

    snprintf(dir, sizeof(dir), "%s/%s", g->distinct[0], path);
    if (access(dir, F_OK) < 0)
        return err_set(e, ERR_NOT_FOUND, "no such control group");
    *out = (struct cgroup_usage){ 0 };
    if (g->v2) {
        out->cpu_usec = keyed_in(g->tree[0], path, "cpu.stat", "usage_usec");
        out->memory_bytes = number_in(g->tree[0], path, "memory.current");
        out->memory_limit_bytes = number_in(g->tree[0], path, "memory.max");
        out->pids = number_in(g->tree[0], path, "pids.current");
    } else {
        if (g->tree[C_CPUACCT])
            out->cpu_usec = number_in(g->tree[C_CPUACCT], path, "cpuacct.usage") / 1000;
        if (g->tree[C_MEMORY]) {
            out->memory_bytes = number_in(g->tree[C_MEMORY], path, "memory.usage_in_bytes");
            out->memory_limit_bytes = number_in(g->tree[C_MEMORY], path, "memory.limit_in_bytes");
        }
        if (g->tree[C_PIDS])
            out->pids = number_in(g->tree[C_PIDS], path, "pids.current");
    }
    if (out->memory_limit_bytes >= INT64_MAX / 2) /* the kernel's word for none */
        out->memory_limit_bytes = 0;
    if (g->tree[C_BLKIO])
        sum_io(g, path, out);
    return 0;
}
