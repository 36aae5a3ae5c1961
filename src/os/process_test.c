/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "os/process.h"

static struct arena a;

static int begin(void **state _unused_)
{
    a = ARENA(MIB(64));
    return 0;
}

static size_t open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    size_t n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static size_t descriptors_before;

static int count_descriptors(void **state)
{
    descriptors_before = open_descriptors();
    return begin(state);
}

/* No child and no descriptor may be left, whatever the test did. */
static int end(void **state _unused_)
{
    arena_free(&a);
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD &&
                   open_descriptors() == descriptors_before
               ? 0
               : -1;
}

static struct process_result run(const char *const *argv, struct process_opts o)
{
    struct process_result r = { 0 };
    struct err e;

    o.argv = argv;
    if (process_run(&a, &o, &r, &e) < 0)
        fail_msg("%s: %s (%s)", argv[0], e.msg, e.cause);
    return r;
}
#define RUN(o, ...) run((const char *const[]){ __VA_ARGS__, NULL }, o)
#define PLAIN       ((struct process_opts){ 0 })

static void output_and_status_come_back(void **state _unused_)
{
    struct process_result r = RUN(PLAIN, "sh", "-c", "echo out; echo err >&2; exit 3");

    assert_int_equal(r.status, 3);
    assert_string_equal(r.out.p, "out\n");
    assert_string_equal(r.err.p, "err\n");
    assert_false(r.timed_out);
    assert_int_equal(RUN(PLAIN, "sh", "-c", "kill -TERM $$").status, 128 + SIGTERM);
    assert_int_equal(RUN(PLAIN, "/bin/true").status, 0);
}

static void the_environment_is_clean(void **state _unused_)
{
    const char *env[] = { "ONLY=this", NULL };

    setenv("BRUME_TEST_SECRET", "x", 1);
    assert_string_equal(RUN(PLAIN, "/usr/bin/env").out.p,
                        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
                        "LANG=C.UTF-8\nHOME=/\n");
    assert_string_equal(RUN((struct process_opts){ .env = env }, "/usr/bin/env").out.p,
                        "ONLY=this\n");
    assert_string_equal(RUN(PLAIN, "pwd").out.p, "/\n");
    assert_string_equal(RUN((struct process_opts){ .cwd = "/usr" }, "pwd").out.p, "/usr\n");
}

static void descriptors_are_inherited_by_name_only(void **state _unused_)
{
    int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int leaky = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
    int keep[] = { kept, -1 };
    char want[32];

    snprintf(want, sizeof(want), "/dev/fd/%d", kept);
    assert_int_equal(RUN((struct process_opts){ .keep_fds = keep }, "test", "-e", want).status, 0);
    assert_int_equal(RUN(PLAIN, "test", "-e", want).status, 1);
    snprintf(want, sizeof(want), "/dev/fd/%d", leaky);
    assert_int_equal(RUN(PLAIN, "test", "-e", want).status, 1);
    close(kept);
    close(leaky);
}

static void input_reaches_the_program(void **state _unused_)
{
    char *big = arena_alloc(&a, 500000);

    memset(big, 'x', 500000);
    struct process_opts o = { .input = { big, 500000 }, .max_output = 600000 };
    struct process_result r = RUN(o, "cat");
    assert_int_equal(r.out.n, 500000);
    assert_memory_equal(r.out.p, big, 500000);
    assert_int_equal(RUN(o, "true").status, 0); /* who does not read it harms nobody */
    assert_int_equal(RUN(PLAIN, "cat").out.n, 0);
}

static void output_is_bounded_and_the_rest_is_swallowed(void **state _unused_)
{
    struct process_opts o = { .max_output = 1000 };
    struct process_result r = RUN(o, "sh", "-c", "head -c 3000000 /dev/zero; echo done >&2");

    assert_int_equal(r.status, 0);
    assert_int_equal(r.out.n, 1000);
    assert_string_equal(r.err.p, "done\n");
}

static void past_its_time_the_whole_group_is_killed(void **state _unused_)
{
    const char *argv[] = { "sh", "-c", "echo begun; sleep 1000 & echo $!; wait", NULL };
    struct process_opts o = { .argv = argv, .timeout = MILLIS(300) };
    struct process_result r;
    struct err e;
    int64_t begun = clock_mono(clock_system());

    assert_int_equal(process_run(&a, &o, &r, &e), -1);
    assert_true(clock_mono(clock_system()) - begun < SECONDS(10));
    assert_true(r.timed_out);
    assert_non_null(strstr(e.cause, "killed after 300 ms"));
    assert_memory_equal(r.out.p, "begun\n", 6);
    pid_t sleeper = (pid_t)strtoll(r.out.p + 6, NULL, 10);
    assert_true(sleeper > 1);
    for (int i = 0; i < 200 && kill(sleeper, 0) == 0; i++) {
        char path[64], text[64] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", sleeper);
        FILE *f = fopen(path, "re");
        if (f && fgets(text, sizeof(text), f) && strstr(text, ") Z")) { /* init will reap it */
            fclose(f);
            return;
        }
        if (f)
            fclose(f);
        usleep(10000);
    }
    assert_int_equal(kill(sleeper, 0), -1);
}

static void a_flood_of_output_does_not_outlive_the_time(void **state _unused_)
{
    const char *argv[] = { "cat", "/dev/zero", NULL };
    struct process_opts o = { .argv = argv, .timeout = MILLIS(300), .max_output = 4096 };
    struct process_result r;
    struct err e;

    assert_int_equal(process_run(&a, &o, &r, &e), -1);
    assert_true(r.timed_out);
    assert_int_equal(r.out.n, 4096);
}

static void a_grandchild_with_our_pipes_does_not_hold_us(void **state _unused_)
{
    int64_t begun = clock_mono(clock_system());
    struct process_result r = RUN(PLAIN, "sh", "-c", "sleep 20 & echo $!");

    assert_true(clock_mono(clock_system()) - begun < SECONDS(5));
    assert_int_equal(r.status, 0);
    kill((pid_t)strtoll(r.out.p, NULL, 10), SIGKILL);
}

static void what_cannot_start_is_told(void **state _unused_)
{
    const char *none[] = { "brume-no-such-program", NULL }, *folder[] = { "/tmp", NULL };
    const char *ok[] = { "true", NULL };
    struct process_opts o = { .argv = none };
    struct process_result r;
    struct err e;

    assert_int_equal(process_run(&a, &o, &r, &e), -1);
    assert_int_equal(e.code, ERR_ENGINE_UNAVAILABLE);
    o.argv = folder;
    assert_int_equal(process_run(&a, &o, &r, &e), -1);
    o.argv = ok;
    o.cwd = "/no/such/folder";
    assert_int_equal(process_run(&a, &o, &r, &e), -1);
    assert_non_null(strstr(e.cause, "No such file"));
    assert_string_equal(process_which(&a, "sh") + strlen(process_which(&a, "sh")) - 3, "/sh");
    assert_null(process_which(&a, ""));
    assert_null(process_which(&a, "/etc/passwd"));
}

static void a_failed_check_says_the_last_line_of_stderr(void **state _unused_)
{
    const char *argv[] = { "sh", "-c", "echo first >&2; echo 'the reason' >&2; exit 2", NULL };
    struct process_opts o = { .argv = argv };
    struct process_result r;
    struct err e;

    assert_int_equal(process_check(&a, &o, &r, &e), -1);
    assert_string_equal(e.cause, "sh ended with 2: the reason");
    assert_string_equal(e.msg, "internal error");
}

static void signals_are_at_their_defaults_in_it(void **state _unused_)
{
    signal(SIGPIPE, SIG_IGN);
    sigset_t set, was;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &was);
    struct process_result r = RUN(PLAIN, "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status");
    assert_string_equal(r.out.p, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    sigprocmask(SIG_SETMASK, &was, NULL);
    signal(SIGPIPE, SIG_DFL);
}

static void signals_are_known_by_name_and_number(void **state _unused_)
{
    static const struct {
        const char *name;
        int number;
    } cases[] = {
        { "SIGTERM", 15 },    { "TERM", 15 },       { "15", 15 },         { "SIGQUIT", 3 },
        { "SIGIO", 29 },      { "POLL", 29 },       { "64", 64 },         { "SIGRTMIN", 34 },
        { "SIGRTMIN+3", 37 }, { "RTMAX-14", 50 },   { "SIGRTMAX", 64 },   { "", 0 },
        { "0", 0 },           { "65", 0 },          { "-1", 0 },          { "SIG", 0 },
        { "sigterm", 15 },    { "SIGNONE", 0 },     { "SIGRTMIN+31", 0 }, { "SIGRTMIN-1", 0 },
        { "SIGRTMIN+", 0 },   { "15 ", 0 },         { "SIG15", 0 },       { "quit", 3 },
        { "Sigio", 29 },      { "sigrtmin+3", 37 }, { "rtmax", 64 },      { "sigterms", 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (process_signal(cases[i].name) != cases[i].number)
            fail_msg("'%s' is %d", cases[i].name, process_signal(cases[i].name));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, count_descriptors, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signals_are_known_by_name_and_number),
        TEST(output_and_status_come_back),
        TEST(the_environment_is_clean),
        TEST(descriptors_are_inherited_by_name_only),
        TEST(input_reaches_the_program),
        TEST(output_is_bounded_and_the_rest_is_swallowed),
        TEST(past_its_time_the_whole_group_is_killed),
        TEST(a_flood_of_output_does_not_outlive_the_time),
        TEST(a_grandchild_with_our_pipes_does_not_hold_us),
        TEST(what_cannot_start_is_told),
        TEST(a_failed_check_says_the_last_line_of_stderr),
        TEST(signals_are_at_their_defaults_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
