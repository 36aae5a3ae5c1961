/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What tests of containers share: a host with a driver, a store and one small image, and words to
 * give it orders. */

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/id.h"
#include "drivers/compute/oci.h"
#include "drivers/image/image.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"

static char installation[9]; /* of this run: another may run beside it */

struct host {
    struct arena a;
    const char *dir;
    struct image_store *images;
    const char *digest;
    struct compute *c;
    bool copy_layers; /* the driver's option */
    int processes;
    int64_t revision;
};

/* Mounts in 'dir', or of something that lies there: other programs have theirs. */
static inline int count_mounts(const char *dir)
{
    FILE *f = fopen("/proc/self/mounts", "re");
    char line[4096];
    int n = 0;

    while (f && fgets(line, sizeof(line), f))
        n += strstr(line, dir) != NULL;
    if (f)
        fclose(f);
    return n;
}

/* It has ended, and whoever inherited it has not asked for its status yet. */
static inline bool is_zombie(const char *pid)
{
    char path[300], text[512] = "";

    snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    FILE *in = fopen(path, "re");
    if (in && !fgets(text, sizeof(text), in))
        *text = '\0';
    if (in)
        fclose(in);
    const char *name = strrchr(text, ')');
    return name && strncmp(name, ") Z", 3) == 0;
}

/* Processes of ours: shims, and whatever stands in our control groups. */
static inline int count_processes(void)
{
    DIR *d = opendir("/proc");
    int n = 0;

    for (struct dirent *f; d && (f = readdir(d));) {
        char path[300], text[4096];
        if (f->d_name[0] < '0' || f->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%s/cgroup", f->d_name);
        FILE *in = fopen(path, "re");
        size_t got = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
        text[got] = '\0';
        n += strstr(text, installation) != NULL && !is_zombie(f->d_name);
        if (in)
            fclose(in);
    }
    if (d)
        closedir(d);
    return n;
}

static inline ssize_t read_file(void *ctx, void *p, size_t n, _unused_ struct err *e)
{
    return (ssize_t)fread(p, 1, n, ctx);
}

static inline void must_run(struct arena *a, const char *const *argv)
{
    struct process_opts p = { .argv = argv };
    struct process_result r;
    struct err e = { 0 };

    if (process_check(a, &p, &r, &e) < 0)
        fail_msg("%s: %s (%s)", argv[0], e.msg, e.cause);
}

/* A root of busybox and little else, imported as an image. */
static inline void make_image(struct host *h)
{
    struct arena *a = &h->a;
    const char *root = arena_printf(a, "%s/rootfs", h->dir);
    const char *tar = arena_printf(a, "%s/rootfs.tar", h->dir);
    const char *bin = arena_printf(a, "%s/bin", root);
    const char *passwd = "root:x:0:0::/:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n";
    struct image_state st;
    struct err e = { 0 };

    assert_int_equal(dir_make(bin, 0755, &e), 0);
    assert_int_equal(dir_make(arena_printf(a, "%s/etc", root), 0755, &e), 0);
    assert_int_equal(dir_make(arena_printf(a, "%s/tmp", root), 0777, &e), 0);
    must_run(a, (const char *const[]){ "cp", "/usr/bin/busybox", bin, NULL });
    must_run(a, (const char *const[]){ arena_printf(a, "%s/busybox", bin), "--install", "-s", bin,
                                       NULL });
    /* Links as the instance sees them. */
    DIR *d = opendir(bin);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_type == DT_LNK) {
            const char *path = arena_printf(a, "%s/%s", bin, f->d_name);
            unlink(path);
            assert_int_equal(symlink("busybox", path), 0);
        }
    closedir(d);
    assert_int_equal(
        file_write(arena_printf(a, "%s/etc/passwd", root), passwd, strlen(passwd), 0644, &e), 0);
    must_run(a, (const char *const[]){ "tar", "-C", root, "-cf", tar, ".", NULL });
    FILE *in = fopen(tar, "re");
    assert_non_null(in);
    if (image_import(h->images, a, "busybox-test", IMAGE_ROOTFS_TAR,
                     "{\"cmd\":[\"sleep\",\"600\"]}", read_file, in, &st, &e) < 0)
        fail_msg("import: %s (%s)", e.msg, e.cause);
    fclose(in);
    h->digest = arena_strdup(a, st.digest);
}

static inline struct compute *open_driver(struct host *h)
{
    const char *shim = getenv("BRUME_TEST_SHIM");
    struct compute_oci_opts o = { .dir = arena_printf(&h->a, "%s/instances", h->dir),
                                  .installation = installation,
                                  .runtime = getenv("BRUME_TEST_RUNTIME"),
                                  .shim_path = shim ? shim : "brume-shim",
                                  .images = h->images,
                                  .copy_layers = h->copy_layers };
    struct err e = { 0 };
    struct compute *c = compute_oci(&o, &e);

    if (!c)
        fail_msg("driver: %s (%s)", e.msg, e.cause);
    return c;
}

static inline struct image_store *open_images(struct host *h)
{
    struct image_local_opts o = { .dir = arena_printf(&h->a, "%s/images", h->dir),
                                  .cache_dir = arena_printf(&h->a, "%s/cache", h->dir) };
    struct err e = { 0 };
    struct image_store *s = image_local(&o, &e);

    if (!s)
        fail_msg("images: %s (%s)", e.msg, e.cause);
    return s;
}

static inline int setup(void **state)
{
    struct host *h = calloc(1, sizeof(*h));
    char dir[] = "/var/tmp/brume-oci-XXXXXX";

    if (geteuid() != 0) {
        free(h);
        *state = NULL;
        return 0;
    }
    h->a = ARENA(MIB(64));
    snprintf(installation, sizeof(installation), "7e%06x", (unsigned)getpid() & 0xffffff);
    h->processes = count_processes();
    if (!mkdtemp(dir) || chmod(dir, 0711) < 0)
        return -1;
    h->dir = arena_strdup(&h->a, dir);
    h->images = open_images(h);
    make_image(h);
    h->c = open_driver(h);
    *state = h;
    return 0;
}

static inline void pause_ms(int ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

/* In how many trees a group is. */
static inline int group_folders(struct cgroups *g, struct host *h, const char *group)
{
    const char **files;
    struct err e;
    int found = 0;
    size_t n;

    assert_int_equal(cgroup_procs_files(g, &h->a, group, &files, &n, &e), 0);
    for (size_t i = 0; i < n; i++)
        found += access(files[i], F_OK) == 0;
    return found;
}

/* Destroys it without a grace.  On a host that has much to do the kernel takes a while to end it.
 */
static inline int destroy_now(struct host *h, const struct uuid *id, struct err *e)
{
    int r;

    for (int asked = 0; (r = compute_destroy(h->c, id, INT64_MAX, 0, e)) == 1 && asked < 1000;
         asked++)
        pause_ms(10);
    return r;
}

static inline int teardown(void **state)
{
    struct host *h = *state;
    struct compute_state *all;
    size_t n = 0;
    struct err e = { 0 };

    if (!h)
        return 0;
    assert_int_equal(compute_list(h->c, &h->a, &all, &n, &e), 0);
    for (size_t i = 0; i < n; i++)
        if (destroy_now(h, &all[i].id, &e) != 0)
            fail_msg("destroy: %s (%s)", e.msg, e.cause);
    compute_free(h->c);
    image_free(h->images);
    struct cgroups *g = cgroups_open(&e);
    const char **names;
    const char *parent = arena_printf(&h->a, "brume/%s", installation);
    assert_int_equal(cgroup_children(g, &h->a, parent, &names, &n, &e), 0);
    assert_int_equal(n, 0);
    for (int i = 0; i < 100 && count_processes() > h->processes; i++)
        pause_ms(10);
    assert_int_equal(count_processes(), h->processes);
    assert_int_equal(group_folders(g, h, parent), 0); /* it went with the last of its groups */
    cgroups_close(g);
    assert_int_equal(count_mounts(h->dir), 0);
    struct stat st;
    assert_int_equal(dir_remove(h->dir, &e), 0);
    assert_int_equal(stat(h->dir, &st), -1);
    arena_free(&h->a);
    free(h);
    return 0;
}

/* ---- orders ---- */

static inline struct compute_spec spec_of(struct host *h, const char *cmd)
{
    struct compute_spec s = { .revision = ++h->revision,
                              .boot = 1,
                              .name = "probe",
                              .image = h->digest,
                              .cmd = cmd,
                              .memory_mb = 64,
                              .cpu_milli = 1000,
                              .pids = 64 };

    uuid_new(clock_system(), &s.id);
    return s;
}

/* Asks again while something has to end first, as who orders does. */
static inline struct compute_state ensure(struct host *h, const struct compute_spec *s)
{
    struct compute_state st = { .status = COMPUTE_STOPPING };
    struct err e = { 0 };

    for (int i = 0; i < 1500 && st.status == COMPUTE_STOPPING; i++) {
        if (i)
            pause_ms(10);
        if (compute_ensure(h->c, &h->a, s, &st, &e) < 0)
            fail_msg("ensure: %s (%s)", e.msg, e.cause);
    }
    if (st.reason)
        print_message("reason: %s\n", st.reason);
    return st;
}

static inline struct compute_state await(struct host *h, const struct uuid *id,
                                         enum compute_status want)
{
    struct compute_state st = { 0 };
    struct err e = { 0 };

    for (int i = 0; i < 500; i++) {
        assert_int_equal(compute_inspect(h->c, &h->a, id, &st, &e), 0);
        if (st.status == want)
            return st;
        pause_ms(10);
    }
    fail_msg("status is %d, not %d: %s", (int)st.status, (int)want, st.reason ? st.reason : "");
    return st;
}

struct lines {
    struct buf b;
    int n, want;
    struct compute_log_place after;
};

static inline int on_line(void *ctx, const struct compute_line *line)
{
    struct lines *l = ctx;

    l->after = line->after;
    if (line->kind == COMPUTE_LINE_IDLE)
        return 0;
    buf_printf(&l->b, "%d:" STR_FMT "%s\n", line->stream, STR_ARG(line->text),
               line->kind == COMPUTE_LINE_PART ? " …" : "");
    l->n++;
    return l->want && l->n >= l->want ? -1 : 0;
}

static inline const char *logs(struct host *h, const struct uuid *id, int64_t tail)
{
    struct lines l = { .b = BUF(MIB(4)) };
    struct compute_log_opts o = { .tail = tail };
    struct err e = { 0 };

    assert_int_equal(compute_logs(h->c, id, &o, on_line, &l, &e), 0);
    const char *text = arena_strdup(&h->a, buf_cstr(&l.b));
    buf_free(&l.b);
    return text;
}

/* Waits until it has printed something. */
static inline void await_output(struct host *h, const struct uuid *id)
{
    for (int i = 0; i < 500 && !*logs(h, id, -1); i++)
        pause_ms(10);
    assert_true(*logs(h, id, -1));
}

static inline struct compute_exec_result exec_in(struct host *h, const struct uuid *id,
                                                 const char *cmd)
{
    struct compute_exec x = { .cmd = cmd, .timeout = SECONDS(10) };
    struct compute_exec_result r = { 0 };
    struct err e = { 0 };

    if (compute_exec_in(h->c, &h->a, id, &x, &r, &e) < 0)
        fail_msg("exec: %s (%s)", e.msg, e.cause);
    return r;
}

#define TEST_HOST(name) static void name(void **state)

#define HOST                 \
    struct host *h = *state; \
    if (!h)                  \
    skip()

#define HOST_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
