/* SPDX-License-Identifier: Apache-2.0 */
/* Containers for real: needs root, an OCI runtime and busybox; each test leaves the machine as it
 * found it, which is checked. */
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
    int mounts, processes;
    int64_t revision;
};

/* Mounts that any test of this file could have left. */
static int count_mounts(void)
{
    FILE *f = fopen("/proc/self/mounts", "re");
    char line[4096];
    int n = 0;

    while (f && fgets(line, sizeof(line), f))
        n += strstr(line, "/brume-oci-") != NULL;
    if (f)
        fclose(f);
    return n;
}

/* Processes of ours: shims, and whatever stands in our control groups. */
static int count_processes(void)
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
        n += strstr(text, installation) != NULL;
        if (in)
            fclose(in);
    }
    if (d)
        closedir(d);
    return n;
}

static ssize_t read_file(void *ctx, void *p, size_t n, _unused_ struct err *e)
{
    return (ssize_t)fread(p, 1, n, ctx);
}

static void must_run(struct arena *a, const char *const *argv)
{
    struct process_opts p = { .argv = argv };
    struct process_result r;
    struct err e = { 0 };

    if (process_check(a, &p, &r, &e) < 0)
        fail_msg("%s: %s (%s)", argv[0], e.msg, e.cause);
}

/* A root of busybox and little else, imported as an image. */
static void make_image(struct host *h)
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

static struct compute *open_driver(struct host *h)
{
    const char *shim = getenv("BRUME_TEST_SHIM");
    struct compute_oci_opts o = { .dir = arena_printf(&h->a, "%s/instances", h->dir),
                                  .installation = installation,
                                  .runtime = getenv("BRUME_TEST_RUNTIME"),
                                  .shim_path = shim ? shim : "brume-shim",
                                  .images = h->images };
    struct err e = { 0 };
    struct compute *c = compute_oci(&o, &e);

    if (!c)
        fail_msg("driver: %s (%s)", e.msg, e.cause);
    return c;
}

static struct image_store *open_images(struct host *h)
{
    struct image_local_opts o = { .dir = arena_printf(&h->a, "%s/images", h->dir),
                                  .cache_dir = arena_printf(&h->a, "%s/cache", h->dir) };
    struct err e = { 0 };
    struct image_store *s = image_local(&o, &e);

    if (!s)
        fail_msg("images: %s (%s)", e.msg, e.cause);
    return s;
}

static int setup(void **state)
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
    h->mounts = count_mounts();
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

static void pause_ms(int ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&t, NULL);
}

/* In how many trees a group is. */
static int group_folders(struct cgroups *g, struct host *h, const char *group)
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

static int teardown(void **state)
{
    struct host *h = *state;
    struct compute_state *all;
    size_t n = 0;
    struct err e = { 0 };

    if (!h)
        return 0;
    assert_int_equal(compute_list(h->c, &h->a, &all, &n, &e), 0);
    for (size_t i = 0; i < n; i++)
        if (compute_destroy(h->c, &all[i].id, INT64_MAX, 0, &e) < 0)
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
    assert_int_equal(count_mounts(), h->mounts);
    struct stat st;
    assert_int_equal(dir_remove(h->dir, &e), 0);
    assert_int_equal(stat(h->dir, &st), -1);
    arena_free(&h->a);
    free(h);
    return 0;
}

/* ---- orders ---- */

static struct compute_spec spec_of(struct host *h, const char *cmd)
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

static struct compute_state ensure(struct host *h, const struct compute_spec *s)
{
    struct compute_state st;
    struct err e = { 0 };

    if (compute_ensure(h->c, &h->a, s, &st, &e) < 0)
        fail_msg("ensure: %s (%s)", e.msg, e.cause);
    if (st.reason)
        print_message("reason: %s\n", st.reason);
    return st;
}

static struct compute_state await(struct host *h, const struct uuid *id, enum compute_status want)
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
};

static int on_line(void *ctx, int stream, _unused_ int64_t at, struct str line)
{
    struct lines *l = ctx;

    if (stream == 0)
        return 0;
    buf_printf(&l->b, "%d:" STR_FMT "\n", stream, STR_ARG(line));
    l->n++;
    return l->want && l->n >= l->want ? -1 : 0;
}

static const char *logs(struct host *h, const struct uuid *id, int64_t tail)
{
    struct lines l = { .b = BUF(MIB(4)) };
    struct compute_log_opts o = { .tail = tail };
    struct err e = { 0 };

    assert_int_equal(compute_logs(h->c, id, &o, on_line, &l, &e), 0);
    const char *text = arena_strdup(&h->a, buf_cstr(&l.b));
    buf_free(&l.b);
    return text;
}

static struct compute_exec_result exec_in(struct host *h, const struct uuid *id, const char *cmd)
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

/* ---- tests ---- */

TEST_HOST(an_instance_runs_stops_keeps_its_data_and_is_gone)
{
    HOST;
    struct compute_spec s = spec_of(
        h,
        "[\"sh\",\"-c\",\"trap 'exit 0' TERM; echo boot >>/data; while :; do sleep 0.1; done\"]");
    struct compute_state st = ensure(h, &s);
    struct err e = { 0 };

    assert_int_equal(st.status, COMPUTE_RUNNING);
    assert_true(st.pid > 1);
    pause_ms(300);
    s.revision = ++h->revision;
    s.want = COMPUTE_WANT_STOPPED;
    st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_STOPPED);
    assert_int_equal(st.exit_code, 0);
    s.revision = ++h->revision;
    s.want = COMPUTE_WANT_RUNNING;
    s.boot = 2;
    st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_RUNNING);
    assert_int_equal(st.boot, 2);
    pause_ms(300);
    assert_string_equal(exec_in(h, &s.id, "[\"cat\",\"/data\"]").out.p, "boot\nboot\n");
    s.revision -= 2;
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
    assert_int_equal(compute_destroy(h->c, &s.id, h->revision, 0, &e), 0);
    assert_int_equal(compute_destroy(h->c, &s.id, h->revision, 0, &e), 0);
    assert_int_equal(await(h, &s.id, COMPUTE_ABSENT).pid, 0);
}

TEST_HOST(an_exit_is_heard_of_with_its_code_and_is_not_started_again)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"exit 7\"]");
    struct uuid id;
    struct err e = { 0 };

    ensure(h, &s);
    assert_int_equal(compute_watch(h->c, SECONDS(5), &id, &e), 1);
    assert_true(uuid_eq(&id, &s.id));
    struct compute_state st = await(h, &s.id, COMPUTE_EXITED);
    assert_int_equal(st.exit_code, 7);
    assert_true(st.finished_at >= st.started_at);
    assert_false(st.oom_killed);
    st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_EXITED);
}

TEST_HOST(a_signal_shows_as_128_and_its_number)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_state st = ensure(h, &s);

    assert_true(st.pid > 1);
    assert_int_equal(kill((pid_t)st.pid, SIGKILL), 0);
    assert_int_equal(await(h, &s.id, COMPUTE_EXITED).exit_code, 137);
}

TEST_HOST(what_cannot_start_says_why)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"xyz\"]");
    struct compute_state st = ensure(h, &s);

    assert_int_equal(st.status, COMPUTE_FAILED);
    assert_string_equal(st.reason, "command 'xyz' was not found in the image");
    s = spec_of(h, "[\"/etc/passwd\"]");
    st = ensure(h, &s);
    assert_int_equal(st.status, COMPUTE_FAILED);
    assert_string_equal(st.reason, "command '/etc/passwd' cannot be executed");
    s = spec_of(h, "[\"true\"]");
    s.image = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    struct err e;
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_string_equal(e.msg, "the image is not on this host");
}

TEST_HOST(a_bad_order_is_refused)
{
    HOST;
    struct compute_spec s = spec_of(h, "{}");
    struct compute_state st;
    struct err e = { 0 };

    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    s = spec_of(h, NULL);
    memcpy(s.id.s, "../../../../../../../etc/passwd-xxxxx", 37);
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

TEST_HOST(output_is_kept_line_by_line)
{
    HOST;
    struct compute_spec s = spec_of(
        h, "[\"sh\",\"-c\",\"echo one; echo two >&2; sleep 0.2; echo three; printf four\"]");

    ensure(h, &s);
    await(h, &s.id, COMPUTE_EXITED);
    const char *all = logs(h, &s.id, -1);
    assert_non_null(strstr(all, "1:one\n"));
    assert_non_null(strstr(all, "2:two\n"));
    assert_string_equal(logs(h, &s.id, 2), "1:three\n1:four\n");
    assert_string_equal(logs(h, &s.id, 0), "");
}

TEST_HOST(a_long_line_comes_back_whole)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"head -c 50000 /dev/zero | tr '\\\\0' x; echo; echo end\"]");

    ensure(h, &s);
    await(h, &s.id, COMPUTE_EXITED);
    const char *all = logs(h, &s.id, -1);
    assert_int_equal(strlen(all), 2 + 50000 + 1 + 6);
    assert_string_equal(logs(h, &s.id, 1), "1:end\n");
}

TEST_HOST(a_follower_sees_new_lines)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; sleep 60\"]");
    struct lines l = { .b = BUF(KIB(4)), .want = 5 };
    struct compute_log_opts o = { .tail = -1, .follow = true };
    struct err e = { 0 };

    ensure(h, &s);
    assert_int_equal(compute_logs(h->c, &s.id, &o, on_line, &l, &e), 0);
    assert_string_equal(buf_cstr(&l.b), "1:1\n1:2\n1:3\n1:4\n1:5\n");
    buf_free(&l.b);
}

TEST_HOST(memory_has_a_limit)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"exec tail /dev/zero\"]"); /* keeps all that it reads */

    s.memory_mb = 16;
    ensure(h, &s);
    struct compute_state st = await(h, &s.id, COMPUTE_EXITED);
    assert_true(st.oom_killed);
    assert_int_equal(st.exit_code, 137);
}

TEST_HOST(processes_have_a_limit)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; sleep 60\"]");
    struct compute_stats st;
    struct err e = { 0 };

    s.pids = 5;
    ensure(h, &s);
    pause_ms(200);
    await(h, &s.id, COMPUTE_EXITED); /* the shell gives up when it cannot fork */
    assert_int_equal(compute_stats_of(h->c, &s.id, &st, &e), 0);
}

TEST_HOST(a_disk_has_a_limit)
{
    HOST;
    struct compute_spec s = spec_of(
        h, "[\"sh\",\"-c\",\"dd if=/dev/zero of=/full bs=1M count=100; echo done; sleep 60\"]");
    struct compute_stats st;
    struct err e = { 0 };

    s.disk_mb = 32;
    s.memory_mb = 0;
    ensure(h, &s);
    for (int i = 0; i < 200 && !strstr(logs(h, &s.id, -1), "done"); i++)
        pause_ms(20);
    assert_non_null(strstr(logs(h, &s.id, -1), "No space left on device"));
    assert_int_equal(compute_stats_of(h->c, &s.id, &st, &e), 0);
    assert_in_range(st.disk_bytes, 20 << 20, 32 << 20);
}

TEST_HOST(an_instance_is_shut_in)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    s.dns = "10.0.0.2";
    ensure(h, &s);
    const char *map = exec_in(h, &s.id, "[\"cat\",\"/proc/self/uid_map\"]").out.p;
    assert_non_null(strstr(map, "65536"));
    assert_int_equal(strtoll(map, NULL, 10), 0);
    assert_null(strstr(map, "4294967295"));
    assert_int_not_equal(exec_in(h, &s.id, "[\"mount\",\"-t\",\"tmpfs\",\"x\",\"/tmp\"]").exit_code,
                         0);
    assert_int_not_equal(exec_in(h, &s.id, "[\"mknod\",\"/sda\",\"b\",\"8\",\"0\"]").exit_code, 0);
    assert_string_equal(exec_in(h, &s.id, "[\"hostname\"]").out.p, "probe\n");
    assert_string_equal(exec_in(h, &s.id, "[\"cat\",\"/etc/resolv.conf\"]").out.p,
                        "nameserver 10.0.0.2\n");
    struct str net = exec_in(h, &s.id, "[\"ls\",\"/sys/class/net\"]").out;
    assert_string_equal(net.p, "lo\n");
    assert_non_null(
        strstr(exec_in(h, &s.id, "[\"grep\",\"NoNewPrivs\",\"/proc/self/status\"]").out.p, "1"));
    assert_non_null(
        strstr(exec_in(h, &s.id, "[\"grep\",\"Seccomp:\",\"/proc/self/status\"]").out.p, "2"));
    assert_non_null(
        strstr(exec_in(h, &s.id, "[\"grep\",\"Seccomp:\",\"/proc/1/status\"]").out.p, "2"));
    assert_int_not_equal(exec_in(h, &s.id, "[\"unshare\",\"-U\",\"true\"]").exit_code, 0);
    assert_string_equal(exec_in(h, &s.id, "[\"stat\",\"-c\",\"%u:%g\",\"/bin/busybox\"]").out.p,
                        "0:0\n");
}

TEST_HOST(a_command_runs_inside_with_output_code_and_time_out)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_exec x = { .cmd = "[\"cat\"]", .input = STR("hello"), .timeout = SECONDS(5) };
    struct compute_exec_result r;
    struct err e = { 0 };

    s.env = "{\"COLOUR\":\"blue\"}";
    ensure(h, &s);
    assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &x, &r, &e), 0);
    assert_string_equal(r.out.p, "hello");
    r = exec_in(h, &s.id, "[\"sh\",\"-c\",\"echo $COLOUR; echo bad >&2; exit 3\"]");
    assert_int_equal(r.exit_code, 3);
    assert_string_equal(r.out.p, "blue\n");
    assert_string_equal(r.err.p, "bad\n");
    r = exec_in(h, &s.id, "[\"nothing-here\"]");
    assert_int_equal(r.exit_code, 127);
    x = (struct compute_exec){ .cmd = "[\"sh\",\"-c\",\"sleep 77 & sleep 77\"]",
                               .timeout = MILLIS(300) };
    assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &x, &r, &e), 0);
    assert_true(r.timed_out);
    r = exec_in(h, &s.id, "[\"ps\"]");
    assert_null(strstr(r.out.p, "sleep 77"));
}

TEST_HOST(pause_stops_the_clock_of_its_processes)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"while :; do echo x; sleep 0.02; done\"]");

    ensure(h, &s);
    pause_ms(100);
    s.want = COMPUTE_WANT_PAUSED;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_PAUSED);
    pause_ms(100);
    size_t before = strlen(logs(h, &s.id, -1));
    pause_ms(200);
    assert_int_equal(strlen(logs(h, &s.id, -1)), before);
    s.want = COMPUTE_WANT_RUNNING;
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).status, COMPUTE_RUNNING);
    pause_ms(200);
    assert_true(strlen(logs(h, &s.id, -1)) > before);
    s.want = COMPUTE_WANT_PAUSED;
    s.revision = ++h->revision;
    ensure(h, &s); /* the teardown destroys a paused one */
}

TEST_HOST(an_instance_runs_as_the_user_of_its_image)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"id\",\"-u\"]");

    ensure(h, &s);
    await(h, &s.id, COMPUTE_EXITED);
    assert_string_equal(logs(h, &s.id, -1), "1:0\n");
}

TEST_HOST(a_shim_that_dies_takes_its_instance_along)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_state st = ensure(h, &s);
    char text[32];
    FILE *f = fopen(arena_printf(&h->a, "%s/instances/%s/shim.pid", h->dir, s.id.s), "re");

    assert_non_null(f);
    assert_non_null(fgets(text, sizeof(text), f));
    fclose(f);
    assert_int_equal(kill((pid_t)strtoll(text, NULL, 10), SIGKILL), 0);
    pid_t init = (pid_t)st.pid;
    st = await(h, &s.id, COMPUTE_EXITED);
    assert_int_equal(st.exit_code, -1);
    assert_string_equal(st.reason, "its end was not seen");
    /* Killed; whoever inherited it may not have asked for its status yet. */
    const char *stat = arena_printf(&h->a, "/proc/%d/stat", (int)init);
    FILE *p = fopen(stat, "re");
    char line[256] = "";
    if (p) {
        assert_non_null(fgets(line, sizeof(line), p));
        fclose(p);
        assert_non_null(strstr(line, ") Z "));
    }
}

/* The agent as a process of its own, which is killed while its instances run. */
static void in_another_process(struct host *h, const struct compute_spec *s, size_t n)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct compute_state st;
        struct err e = { 0 };
        h->c = open_driver(h);
        for (size_t i = 0; i < n; i++)
            if (compute_ensure(h->c, &h->a, &s[i], &st, &e) < 0)
                _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

TEST_HOST(instances_outlive_the_agent_and_are_found_again)
{
    HOST;
    struct compute_spec s[3] = { spec_of(h, "[\"sleep\",\"600\"]"),
                                 spec_of(h, "[\"sh\",\"-c\",\"sleep 0.3; exit 9\"]"),
                                 spec_of(h, "[\"sleep\",\"600\"]") };

    compute_free(h->c);
    s[2].want = COMPUTE_WANT_PAUSED;
    in_another_process(h, s, 3);
    pause_ms(600);
    h->c = open_driver(h);
    struct compute_state st = await(h, &s[0].id, COMPUTE_RUNNING);
    assert_int_equal(st.revision, s[0].revision);
    assert_int_equal(st.boot, 1);
    assert_int_equal(kill((pid_t)st.pid, 0), 0);
    assert_int_equal(await(h, &s[1].id, COMPUTE_EXITED).exit_code, 9);
    assert_int_equal(await(h, &s[2].id, COMPUTE_PAUSED).exit_code, 0);
    assert_int_equal(ensure(h, &s[0]).pid, st.pid); /* the same order changes nothing */
    assert_string_equal(exec_in(h, &s[0].id, "[\"echo\",\"alive\"]").out.p, "alive\n");
    assert_true(st.pid > 1);
    assert_int_equal(kill((pid_t)st.pid, SIGKILL), 0);
    assert_int_equal(await(h, &s[0].id, COMPUTE_EXITED).exit_code, 137);
}

static void *one_launch(void *ctx)
{
    struct {
        struct host *h;
        struct compute_spec s;
        struct compute_state st;
        int r;
    } *job = ctx;
    struct arena a = ARENA(MIB(8));
    struct err e = { 0 };

    job->r = compute_ensure(job->h->c, &a, &job->s, &job->st, &e);
    if (job->r < 0)
        fprintf(stderr, "launch: %s (%s)\n", e.msg, e.cause);
    arena_free(&a);
    return NULL;
}

TEST_HOST(eight_start_at_once)
{
    HOST;
    struct {
        struct host *h;
        struct compute_spec s;
        struct compute_state st;
        int r;
    } jobs[8];
    pthread_t t[8];

    for (int i = 0; i < 8; i++) {
        jobs[i].h = h;
        jobs[i].s = spec_of(h, "[\"sleep\",\"600\"]");
    }
    for (int i = 0; i < 8; i++)
        t[i] = thread_start("launch", one_launch, &jobs[i]);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(jobs[i].r, 0);
        await(h, &jobs[i].s.id, COMPUTE_RUNNING);
    }
}

TEST_HOST(a_start_is_quick)
{
    HOST;
    int64_t times[20];

    for (int i = 0; i < 20; i++) {
        struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
        s.disk_mb = getenv("BRUME_TEST_DISK") ? 1024 : 0;
        int64_t from = clock_mono(clock_system());
        ensure(h, &s);
        times[i] = clock_mono(clock_system()) - from;
        for (int k = i; k > 0 && times[k - 1] > times[k]; k--) {
            int64_t t = times[k];
            times[k] = times[k - 1];
            times[k - 1] = t;
        }
    }
    print_message("a start: p50 %.1f ms, best %.1f, worst %.1f\n", (double)times[10] / 1000,
                  (double)times[0] / 1000, (double)times[19] / 1000);
    assert_true(times[10] < SECONDS(1));
}

#define HOST_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(an_instance_runs_stops_keeps_its_data_and_is_gone),
        HOST_TEST(an_exit_is_heard_of_with_its_code_and_is_not_started_again),
        HOST_TEST(a_signal_shows_as_128_and_its_number),
        HOST_TEST(what_cannot_start_says_why),
        HOST_TEST(a_bad_order_is_refused),
        HOST_TEST(output_is_kept_line_by_line),
        HOST_TEST(a_long_line_comes_back_whole),
        HOST_TEST(a_follower_sees_new_lines),
        HOST_TEST(memory_has_a_limit),
        HOST_TEST(processes_have_a_limit),
        HOST_TEST(a_disk_has_a_limit),
        HOST_TEST(an_instance_is_shut_in),
        HOST_TEST(a_command_runs_inside_with_output_code_and_time_out),
        HOST_TEST(pause_stops_the_clock_of_its_processes),
        HOST_TEST(an_instance_runs_as_the_user_of_its_image),
        HOST_TEST(a_shim_that_dies_takes_its_instance_along),
        HOST_TEST(instances_outlive_the_agent_and_are_found_again),
        HOST_TEST(eight_start_at_once),
        HOST_TEST(a_start_is_quick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
