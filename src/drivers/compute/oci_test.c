/* SPDX-License-Identifier: Apache-2.0 */
/* Containers for real: needs root, an OCI runtime and busybox; each test leaves the machine as it
 * found it, which is checked. */
#include <sys/mount.h>

#include "drivers/compute/oci_test_host.h"

/* ---- tests ---- */

TEST_HOST(an_instance_runs_stops_keeps_its_data_and_is_gone)
{
    HOST;
    struct compute_spec s = spec_of(
        h,
        "[\"sh\",\"-c\",\"trap 'exit 0' TERM; echo boot | tee -a /data; while :; do sleep 0.1; done\"]");
    struct compute_state st = ensure(h, &s);
    struct err e = { 0 };

    assert_int_equal(st.status, COMPUTE_RUNNING);
    assert_true(st.pid > 1);
    await_output(h, &s.id);
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
    for (int i = 0; i < 200 && strlen(exec_in(h, &s.id, "[\"cat\",\"/data\"]").out.p) < 10; i++)
        pause_ms(20);
    assert_string_equal(exec_in(h, &s.id, "[\"cat\",\"/data\"]").out.p, "boot\nboot\n");
    s.revision -= 2;
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
    assert_int_equal(destroy_now(h, &s.id, &e), 0);
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
    struct uuid id;

    ensure(h, &s);
    for (int heard = 0; l.n < l.want; heard++) {
        if (heard > 0) {
            assert_int_equal(compute_watch(h->c, SECONDS(5), &id, &e), COMPUTE_PRINTED);
            assert_true(uuid_eq(&id, &s.id));
        }
        assert_int_equal(compute_logs(h->c, &s.id, &o, on_line, &l, &e), 0);
        o.from = l.after;
    }
    assert_string_equal(buf_cstr(&l.b), "1:1\n1:2\n1:3\n1:4\n1:5\n");
    buf_free(&l.b);
}

static int count_gaps(void *ctx, const struct compute_line *line)
{
    *(int *)ctx += line->kind == COMPUTE_LINE_GAP;
    return 0;
}

TEST_HOST(a_log_goes_on_where_there_is_room_for_its_files_and_no_more)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"yes $(seq -s - 2000) | head -c 62000000\"]");
    const char *own = arena_printf(&h->a, "%s/instances/%s", h->dir, s.id.s);
    const char *dir = arena_printf(&h->a, "%s/log", own);
    struct compute_log_opts o = { .tail = -1 };
    struct err e = { 0 };
    int gaps = 0;

    assert_int_equal(dir_make(own, 0711, &e), 0);
    assert_int_equal(dir_make(dir, 0700, &e), 0);
    assert_int_equal(mount("log", dir, "tmpfs", 0, "nr_inodes=6"), 0); /* itself and five */
    ensure(h, &s);
    await(h, &s.id, COMPUTE_EXITED);
    int rc = compute_logs(h->c, &s.id, &o, count_gaps, &gaps, &e);
    bool first = access(arena_printf(&h->a, "%s/1", dir), F_OK) == 0;
    assert_int_equal(umount(dir), 0);
    assert_int_equal(rc, 0);
    assert_false(first);
    assert_int_equal(gaps, 1); /* of what is no longer kept */
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
    assert_int_equal(r.exit_code, 0);
    assert_null(strstr(r.out.p, "sleep 77"));
}

TEST_HOST(no_order_waits_for_the_grace_of_what_it_ends)
{
    HOST;
    struct compute_spec s =
        spec_of(h, "[\"sh\",\"-c\",\"trap '' TERM; echo up; while :; do sleep 1; done\"]");
    struct compute_state st;
    struct err e = { 0 };
    int asked = 0, r;

    ensure(h, &s);
    await_output(h, &s.id);
    s.want = COMPUTE_WANT_STOPPED;
    s.revision = ++h->revision;
    assert_int_equal(compute_ensure(h->c, &h->a, &s, &st, &e), 0);
    assert_int_equal(st.status, COMPUTE_STOPPING);
    assert_int_equal(compute_inspect(h->c, &h->a, &s.id, &st, &e), 0);
    assert_int_equal(st.status, COMPUTE_STOPPING);
    while ((r = compute_destroy(h->c, &s.id, h->revision, SECONDS(1), &e)) == 1 && asked++ < 1000)
        pause_ms(10);
    assert_int_equal(r, 0);
    assert_true(asked > 10); /* it had its second */
    assert_int_equal(compute_inspect(h->c, &h->a, &s.id, &st, &e), 0);
    assert_int_equal(st.status, COMPUTE_ABSENT);
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

static void spoil(struct host *h, const struct uuid *id, const char *name, const char *text)
{
    int fd = open(arena_printf(&h->a, "%s/instances/%s/%s", h->dir, id->s, name),
                  O_WRONLY | O_TRUNC | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static const char no_json[] = "{\"range\":", no_row[] = "{\"state\":{\"status\":7}}";

TEST_HOST(an_instance_goes_on_when_the_agent_cannot_read_its_own_files)
{
    HOST;
    const char *const states[] = { no_row, no_json, "" };
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"echo mine >> /data; exec sleep 600\"]");
    int64_t pid = ensure(h, &s).pid;

    for (size_t k = 0; k < ARRAY_LEN(states); k++) {
        compute_free(h->c);
        spoil(h, &s.id, "state.json", states[k]);
        h->c = open_driver(h);
        assert_int_equal(await(h, &s.id, COMPUTE_RUNNING).pid, pid);
        s.revision = ++h->revision;
        assert_int_equal(ensure(h, &s).pid, pid); /* not started anew */
    }
    compute_free(h->c);
    spoil(h, &s.id, "order.json", no_json);
    h->c = open_driver(h);
    assert_int_equal(await(h, &s.id, COMPUTE_RUNNING).pid, pid);
    s.revision = ++h->revision;
    assert_int_equal(ensure(h, &s).pid, pid); /* the order is on disk again, with its ids */
    compute_free(h->c);
    h->c = open_driver(h);
    s.revision = ++h->revision;
    s.boot = 2;
    (void)ensure(h, &s);
    for (int i = 0; i < 200 && strlen(exec_in(h, &s.id, "[\"cat\",\"/data\"]").out.p) < 10; i++)
        pause_ms(20);
    assert_string_equal(exec_in(h, &s.id, "[\"cat\",\"/data\"]").out.p, "mine\nmine\n");
}

TEST_HOST(what_an_instance_wrote_stays_until_it_is_deleted)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sh\",\"-c\",\"echo mine >> /data; exit 3\"]");
    struct compute_spec next = spec_of(h, "[\"sleep\",\"600\"]");
    const char *data = arena_printf(&h->a, "%s/instances/%s/upper/data", h->dir, s.id.s);
    struct stat mine, other;
    struct err e = { 0 };

    (void)ensure(h, &s);
    await(h, &s.id, COMPUTE_EXITED);
    compute_free(h->c);
    spoil(h, &s.id, "order.json", "");
    spoil(h, &s.id, "state.json", "");
    h->c = open_driver(h);
    assert_int_equal(await(h, &s.id, COMPUTE_EXITED).exit_code, 3);
    assert_int_equal(stat(data, &mine), 0);
    (void)ensure(h, &next); /* nobody else gets its ids */
    assert_int_equal(stat(arena_printf(&h->a, "%s/instances/%s/upper", h->dir, next.id.s), &other),
                     0);
    assert_int_not_equal(mine.st_uid, other.st_uid);
    assert_int_equal(compute_destroy(h->c, &s.id, ++h->revision, 0, &e), 0);
    assert_int_equal(access(data, F_OK), -1);
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
        HOST_TEST(a_log_goes_on_where_there_is_room_for_its_files_and_no_more),
        HOST_TEST(memory_has_a_limit),
        HOST_TEST(processes_have_a_limit),
        HOST_TEST(a_disk_has_a_limit),
        HOST_TEST(an_instance_is_shut_in),
        HOST_TEST(a_command_runs_inside_with_output_code_and_time_out),
        HOST_TEST(no_order_waits_for_the_grace_of_what_it_ends),
        HOST_TEST(pause_stops_the_clock_of_its_processes),
        HOST_TEST(an_instance_runs_as_the_user_of_its_image),
        HOST_TEST(a_shim_that_dies_takes_its_instance_along),
        HOST_TEST(instances_outlive_the_agent_and_are_found_again),
        HOST_TEST(an_instance_goes_on_when_the_agent_cannot_read_its_own_files),
        HOST_TEST(what_an_instance_wrote_stays_until_it_is_deleted),
        HOST_TEST(eight_start_at_once),
        HOST_TEST(a_start_is_quick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
