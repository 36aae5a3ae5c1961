/* SPDX-License-Identifier: Apache-2.0 */
/* Commands inside of real containers: their bytes, their ends, what they leave. */
#include "drivers/compute/oci_test_host.h"

static struct compute_exec_result exec_with(struct host *h, const struct uuid *id,
                                            struct compute_exec x)
{
    struct compute_exec_result r = { 0 };
    struct err e = { 0 };

    x.timeout = x.timeout ? x.timeout : SECONDS(10);
    if (compute_exec_in(h->c, &h->a, id, &x, &r, &e) < 0)
        fail_msg("exec: %s (%s)", e.msg, e.cause);
    return r;
}

/* What the instance's processes are called, one a line; zombies in brackets. */
static const char *processes(struct host *h, const struct uuid *id)
{
    struct compute_exec_result r = exec_in(h, id, "[\"ps\",\"-o\",\"pid,stat,args\"]");

    if (r.exit_code != 0 || !strstr(r.out.p, "ps -o")) /* it sees itself */
        fail_msg("ps: %lld %s", (long long)r.exit_code, r.err.p);
    return r.out.p;
}

static bool goes(struct host *h, const struct uuid *id, const char *what)
{
    for (int i = 0; i < 500; i++) {
        if (!strstr(processes(h, id), what))
            return true;
        pause_ms(20);
    }
    return false;
}

/* What was a zombie at one look is none at the next: there may always be one of the look before. */
static bool zombies_go(struct host *h, const struct uuid *id)
{
    const char *before = processes(h, id);

    for (int i = 0; i < 500; i++) {
        const char *now = processes(h, id);
        bool stays = false;

        for (const char *line = now; *line; line += strcspn(line, "\n"), line += *line == '\n') {
            char pid[16] = "", stat[8] = "", same[32];

            if (sscanf(line, "%15s %7s", pid, stat) != 2 || stat[0] != 'Z')
                continue;
            snprintf(same, sizeof(same), "%s Z", pid);
            stays = stays || strstr(before, same);
        }
        if (!stays)
            return true;
        before = now;
        pause_ms(20);
    }
    return false;
}

/* The groups of its commands go with the last of their processes. */
static bool groups_go(struct host *h, const struct uuid *id)
{
    struct err e = { 0 };
    struct cgroups *g = cgroups_open(&e);
    const char *group = arena_printf(&h->a, "brume/%s/%s", installation, id->s), **names;
    size_t n = 1;

    for (int i = 0; i < 200 && n > 0; i++) {
        pause_ms(10);
        assert_int_equal(cgroup_children(g, &h->a, group, &names, &n, &e), 0);
    }
    cgroups_close(g);
    return n == 0;
}

TEST_HOST(any_bytes_go_in_and_come_out)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    char all[512];

    ensure(h, &s);
    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)i;
    struct compute_exec x = { .cmd = "[\"sh\",\"-c\",\"tee /dev/stderr\"]", .input = { all, 512 } };
    struct compute_exec_result r = exec_with(h, &s.id, x);
    assert_int_equal(r.out.n, sizeof(all));
    assert_memory_equal(r.out.p, all, sizeof(all));
    assert_int_equal(r.err.n, sizeof(all));
    assert_memory_equal(r.err.p, all, sizeof(all));
}

TEST_HOST(output_is_truncated_when_it_is_longer_and_not_when_it_is_as_long)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    ensure(h, &s);
    struct compute_exec_result r =
        exec_in(h, &s.id, "[\"sh\",\"-c\",\"head -c 1048576 /dev/zero\"]");
    assert_int_equal(r.out.n, 1 << 20);
    assert_false(r.out_cut || r.err_cut);
    r = exec_in(h, &s.id, "[\"sh\",\"-c\",\"head -c 1048577 /dev/zero >&2; echo end\"]");
    assert_int_equal(r.err.n, 1 << 20);
    assert_string_equal(r.out.p, "end\n");
    assert_true(r.err_cut && !r.out_cut);
}

TEST_HOST(a_folder_that_cannot_be_entered_is_said_and_nothing_runs)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_exec x = { .cmd = "[\"touch\",\"/ran\"]", .cwd = "/nope" };
    struct compute_exec_result r;
    struct err e = { 0 };

    ensure(h, &s);
    r = exec_with(h, &s.id, x);
    assert_string_equal(r.cwd_fault, "does not exist in the instance");
    x.cwd = "/etc/passwd";
    assert_string_equal(exec_with(h, &s.id, x).cwd_fault, "is no folder");
    assert_int_equal(exec_in(h, &s.id, "[\"ls\",\"/ran\"]").exit_code, 1);
    x.cwd = "etc";
    assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &x, &r, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    x = (struct compute_exec){ .cmd = "[\"pwd\"]", .cwd = "/etc" };
    r = exec_with(h, &s.id, x);
    assert_null(r.cwd_fault);
    assert_string_equal(r.out.p, "/etc\n");
}

TEST_HOST(what_cannot_be_run_says_why)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    ensure(h, &s);
    struct compute_exec_result r = exec_in(h, &s.id, "[\"nothing-here\"]");
    assert_int_equal(r.exit_code, 127);
    assert_string_equal(r.err.p, "command 'nothing-here' was not found\n");
    r = exec_in(h, &s.id, "[\"/etc/passwd\"]");
    assert_int_equal(r.exit_code, 126);
    assert_string_equal(r.err.p, "command '/etc/passwd' cannot be executed\n");
    exec_in(h, &s.id, "[\"sh\",\"-c\",\"echo nonsense > /text; chmod 755 /text\"]");
    r = exec_in(h, &s.id, "[\"/text\"]");
    assert_int_equal(r.exit_code, 126);
    assert_string_equal(r.err.p, "command '/text' is no program that this machine can run\n");
}

TEST_HOST(what_a_command_leaves_running_lives_on_unless_asked)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_exec x = {
        .cmd = "[\"sh\",\"-c\",\"(while :; do echo x; sleep 0.0123; done) & (sleep 0.7; echo y > "
               "/y) & echo done\"]"
    };

    ensure(h, &s);
    int64_t began = clock_mono(clock_system());
    assert_non_null(strstr(exec_with(h, &s.id, x).out.p, "done\n"));
    assert_true(clock_mono(clock_system()) - began < SECONDS(5)); /* not at its time-out */
    for (int i = 0; i < 200 && exec_in(h, &s.id, "[\"test\",\"-s\",\"/y\"]").exit_code; i++)
        pause_ms(20);
    assert_string_equal(exec_in(h, &s.id, "[\"cat\",\"/y\"]").out.p, "y\n");
    assert_non_null(strstr(processes(h, &s.id), "while :"));
    x.cmd = "[\"sh\",\"-c\",\"sleep 78 & sleep 78 & echo done\"]";
    x.kill_background = true;
    assert_string_equal(exec_with(h, &s.id, x).out.p, "done\n");
    assert_true(goes(h, &s.id, "sleep 78"));
    assert_non_null(strstr(processes(h, &s.id), "while :"));
}

/* 'sleep' as an instance's first process never asks for the end of anybody. */
static bool at_once(void *ctx _unused_)
{
    return true;
}

TEST_HOST(many_commands_leave_no_zombie)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    s.pids = 64;
    ensure(h, &s);
    for (int i = 0; i < 150; i++) {
        struct compute_exec_result r =
            exec_in(h, &s.id, "[\"sh\",\"-c\",\"(sleep 0.01; true) & (true &) & exit 4\"]");
        if (r.exit_code != 4)
            fail_msg("%d: %lld %s", i, (long long)r.exit_code, r.err.p);
    }
    assert_true(zombies_go(h, &s.id));
    struct compute_exec killed = { .cmd =
                                       "[\"sh\",\"-c\",\"sleep 301 & (sleep 302 &) & sleep 303\"]",
                                   .timeout = MILLIS(300) };
    struct compute_exec rest = { .cmd = "[\"sh\",\"-c\",\"sleep 304 & sleep 305 & echo\"]",
                                 .timeout = SECONDS(10),
                                 .kill_background = true };
    struct compute_exec_result r;
    struct err e = { 0 };
    for (int i = 0; i < 8; i++) {
        assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &killed, &r, &e), 0);
        assert_true(r.timed_out);
        assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &rest, &r, &e), 0);
        killed.gone = at_once; /* and those that are given up */
        assert_int_equal(compute_exec_in(h->c, &h->a, &s.id, &killed, &r, &e), -1);
        assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
        killed.gone = NULL;
    }
    assert_true(goes(h, &s.id, "sleep 30"));
    assert_true(zombies_go(h, &s.id));
}

TEST_HOST(a_command_that_is_killed_shows_as_128_and_the_signal)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    ensure(h, &s);
    assert_int_equal(exec_in(h, &s.id, "[\"sh\",\"-c\",\"kill -TERM $$\"]").exit_code, 143);
}

TEST_HOST(a_command_that_ends_its_init_ends_with_it)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_exec x = { .cmd = "[\"sh\",\"-c\",\"kill -KILL $PPID; sleep 306\"]" };

    ensure(h, &s);
    assert_int_equal(exec_with(h, &s.id, x).exit_code, 137);
    assert_true(goes(h, &s.id, "sleep 306"));
    x.kill_background = true;
    assert_int_equal(exec_with(h, &s.id, x).exit_code, 137);
    assert_true(goes(h, &s.id, "sleep 306"));
    assert_true(groups_go(h, &s.id));
}

TEST_HOST(a_command_that_stops_its_init_is_killed_in_time_and_leaves_nothing)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct compute_exec x = { .cmd = "[\"sh\",\"-c\",\"kill -STOP $PPID; sleep 307\"]",
                              .timeout = MILLIS(300) };

    ensure(h, &s);
    assert_true(exec_with(h, &s.id, x).timed_out);
    assert_true(goes(h, &s.id, "sleep 307"));
    assert_true(groups_go(h, &s.id));
}

/* Waits for the file that a command makes first. */
static void await_began(struct host *h, const struct uuid *id)
{
    const char *upper = arena_printf(&h->a, "%s/instances/%s/upper/began", h->dir, id->s);

    for (int i = 0; i < 500 && access(upper, F_OK) < 0; i++)
        pause_ms(10);
    assert_int_equal(access(upper, F_OK), 0);
}

/* An agent that has a command run and is killed meanwhile. */
static void die_in_the_middle(struct host *h, const struct compute_spec *s, int64_t timeout)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct compute_exec x = { .cmd = "[\"sh\",\"-c\",\"touch /began; sleep 79; touch /late\"]",
                                  .timeout = timeout };
        struct compute_exec_result r;
        struct compute_state st;
        struct err e;
        h->c = open_driver(h);
        if (compute_ensure(h->c, &h->a, s, &st, &e) < 0)
            _exit(1);
        _exit(compute_exec_in(h->c, &h->a, &s->id, &x, &r, &e) < 0 ? 2 : 3);
    }
    await_began(h, &s->id);
    assert_int_equal(kill(pid, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

TEST_HOST(an_agent_that_dies_leaves_no_command_without_its_time_out)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");

    compute_free(h->c);
    die_in_the_middle(h, &s, SECONDS(6));
    h->c = open_driver(h);
    await(h, &s.id, COMPUTE_RUNNING);
    const char *there = processes(h, &s.id);
    if (!strstr(there, "sleep 79"))
        fail_msg("it did not live on: %s", there);
    pause_ms(4000);
    for (int i = 0; i < 4 && !goes(h, &s.id, "sleep 79"); i++)
        ;
    assert_null(strstr(processes(h, &s.id), "sleep 79"));
    const char *dir = arena_printf(&h->a, "%s/instances/%s", h->dir, s.id.s);
    assert_true(groups_go(h, &s.id));
    DIR *d = opendir(dir);
    for (struct dirent *f; (f = readdir(d));)
        assert_int_not_equal(strncmp(f->d_name, "exec-", 5), 0);
    closedir(d);
}

TEST_HOST(a_command_runs_as_the_images_user)
{
    HOST;
    struct compute_spec s = spec_of(h, NULL);
    FILE *in = fopen(arena_printf(&h->a, "%s/rootfs.tar", h->dir), "re");
    struct image_state st;
    struct err e = { 0 };

    assert_non_null(in);
    if (image_import(h->images, &h->a, "of-guest", IMAGE_ROOTFS_TAR,
                     "{\"cmd\":[\"sleep\",\"600\"],\"user\":\"guest\"}", read_file, in, &st,
                     &e) < 0)
        fail_msg("import: %s (%s)", e.msg, e.cause);
    fclose(in);
    s.image = st.digest;
    ensure(h, &s);
    struct compute_exec_result r =
        exec_in(h, &s.id, "[\"sh\",\"-c\",\"id -u; echo said > /dev/stderr\"]");
    assert_string_equal(r.out.p, "1000\n");
    assert_string_equal(r.err.p, "said\n");
    struct compute_exec x = { .cmd = "[\"true\"]", .cwd = "/closed" };
    assert_string_equal(exec_with(h, &s.id, x).cwd_fault, "does not exist in the instance");
}

struct call {
    struct host *h;
    struct uuid id;
    int64_t code;
    const char *cmd;
    bool again; /* until it fails */
};

static void *one_call(void *ctx)
{
    struct call *c = ctx;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    struct compute_exec x = { .cmd = c->cmd };
    struct compute_exec_result r = { .exit_code = -1 };
    struct err e;

    do
        c->code = compute_exec_in(c->h->c, &a, &c->id, &x, &r, &e) < 0 ? -1 : r.exit_code;
    while (c->again && c->code >= 0);
    return NULL;
}

TEST_HOST(commands_run_beside_each_other)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct call c[8];
    pthread_t t[8];

    s.pids = 256;
    ensure(h, &s);
    for (int i = 0; i < 8; i++) {
        c[i] = (struct call){ h, s.id, 0, "[\"sh\",\"-c\",\"sleep 0.2; exit 9\"]" };
        t[i] = thread_start("exec", one_call, &c[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(c[i].code, 9);
    }
}

/* The shim of the one command that runs: of those that stand in the group of shims. */
static pid_t shim_of_command(struct host *h)
{
    struct err e = { 0 };
    struct cgroups *g = cgroups_open(&e);
    const char *group = arena_printf(&h->a, "brume/%s/shims", installation), **files;
    size_t n;
    int pid = 0;

    assert_int_equal(cgroup_procs_files(g, &h->a, group, &files, &n, &e), 0);
    cgroups_close(g);
    FILE *f = fopen(files[0], "re");
    assert_non_null(f);
    while (fscanf(f, "%d", &pid) == 1) {
        const char *words = arena_printf(&h->a, "/proc/%d/cmdline", pid);
        char text[512] = "";
        FILE *in = fopen(words, "re");
        size_t got = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
        if (in)
            fclose(in);
        if (got && strcmp(text + strlen(text) + 1, "exec") == 0)
            break;
        pid = 0;
    }
    fclose(f);
    return pid;
}

TEST_HOST(a_command_whose_shim_was_killed_is_ended_within_seconds)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct call c = { h, s.id, 0, "[\"sh\",\"-c\",\"touch /began; sleep 308\"]" };
    pid_t shim = 0;

    ensure(h, &s);
    pthread_t t = thread_start("exec", one_call, &c);
    await_began(h, &s.id);
    for (int i = 0; i < 200 && !(shim = shim_of_command(h)); i++)
        pause_ms(20);
    int64_t began = clock_mono(clock_system());
    assert_int_equal(kill(shim, SIGKILL), 0);
    pthread_join(t, NULL);
    assert_true(clock_mono(clock_system()) - began < SECONDS(15));
    assert_int_equal(c.code, -1);
    assert_true(goes(h, &s.id, "sleep 308"));
    assert_true(groups_go(h, &s.id));
}

TEST_HOST(a_command_that_comes_while_its_instance_goes_brings_nothing_back)
{
    HOST;
    struct call c[4];
    pthread_t t[4];

    for (int k = 0; k < 10; k++) {
        struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
        const char *dir = arena_printf(&h->a, "%s/instances/%s", h->dir, s.id.s);
        const char *group = arena_printf(&h->a, "brume/%s/%s", installation, s.id.s);
        struct err e = { 0 };

        ensure(h, &s);
        for (int i = 0; i < 4; i++) {
            c[i] = (struct call){ h, s.id, 0, "[\"true\"]", .again = true };
            t[i] = thread_start("exec", one_call, &c[i]);
        }
        pause_ms(30);
        assert_int_equal(destroy_now(h, &s.id, &e), 0);
        for (int i = 0; i < 4; i++) {
            pthread_join(t[i], NULL);
            assert_int_equal(c[i].code, -1);
        }
        struct cgroups *g = cgroups_open(&e);
        assert_int_equal(group_folders(g, h, group), 0);
        cgroups_close(g);
        assert_int_equal(access(dir, F_OK), -1);
    }
}

TEST_HOST(groups_that_nobody_is_in_go_when_an_agent_begins)
{
    HOST;
    struct compute_spec s = spec_of(h, "[\"sleep\",\"600\"]");
    struct err e = { 0 };
    struct cgroups *g = cgroups_open(&e);

    ensure(h, &s);
    exec_in(h, &s.id, "[\"sh\",\"-c\",\"sleep 309 & echo\"]");
    compute_free(h->c);
    const char *left = /* by one that was killed before its shim began */
        arena_printf(&h->a, "brume/%s/%s/exec-left", installation, s.id.s);
    assert_int_equal(cgroup_make(g, left, &e), 0);
    h->c = open_driver(h);
    assert_int_equal(group_folders(g, h, left), 0);
    cgroups_close(g);
    assert_non_null(strstr(processes(h, &s.id), "sleep 309"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOST_TEST(any_bytes_go_in_and_come_out),
        HOST_TEST(output_is_truncated_when_it_is_longer_and_not_when_it_is_as_long),
        HOST_TEST(a_folder_that_cannot_be_entered_is_said_and_nothing_runs),
        HOST_TEST(what_cannot_be_run_says_why),
        HOST_TEST(what_a_command_leaves_running_lives_on_unless_asked),
        HOST_TEST(many_commands_leave_no_zombie),
        HOST_TEST(a_command_that_is_killed_shows_as_128_and_the_signal),
        HOST_TEST(a_command_that_ends_its_init_ends_with_it),
        HOST_TEST(a_command_that_stops_its_init_is_killed_in_time_and_leaves_nothing),
        HOST_TEST(an_agent_that_dies_leaves_no_command_without_its_time_out),
        HOST_TEST(a_command_runs_as_the_images_user),
        HOST_TEST(commands_run_beside_each_other),
        HOST_TEST(a_command_whose_shim_was_killed_is_ended_within_seconds),
        HOST_TEST(a_command_that_comes_while_its_instance_goes_brings_nothing_back),
        HOST_TEST(groups_that_nobody_is_in_go_when_an_agent_begins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
