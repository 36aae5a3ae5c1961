/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "codec/text.h"
#include "os/file.h"
#include "roles/roles.h"
#include "roles/supervisor.h"

/* The supervisor runs in a child of the test, and this very program is its roles: with "role" as
 * the second word, main() below becomes one. What the roles do is told to the test by a pipe. */

enum { TELL = 5 }; /* the pipe's descriptor in a role */

static void tell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *fmt, ...)
{
    char line[128];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    (void)!write(TELL, line, (size_t)n);
}

/* "steady" runs until SIGTERM; "frail" dies at once; "hopeless" ends with 78; "deaf" ignores
 * SIGTERM. */
static int role(const char *kind)
{
    sigset_t had, wait;
    int sig;

    sigprocmask(SIG_SETMASK, NULL, &had);
    if (sigismember(&had, SIGTERM) || sigismember(&had, SIGCHLD))
        tell("%s masked\n", kind);
    sigemptyset(&wait);
    sigaddset(&wait, SIGTERM);
    sigaddset(&wait, SIGHUP);
    sigprocmask(SIG_BLOCK, &wait, NULL);
    (void)!write(FD_READY, "ready\n", 6);
    tell("%s %d\n", kind, (int)getpid());
    if (!strcmp(kind, "frail"))
        raise(SIGKILL);
    if (!strcmp(kind, "hopeless"))
        return EXIT_HOPELESS;
    for (;;) {
        if (sigwait(&wait, &sig) != 0)
            return 1;
        tell("%s signal %d\n", kind, sig);
        if (sig == SIGTERM && strcmp(kind, "deaf") != 0)
            return 0;
    }
}

struct run {
    pid_t pid; /* the supervisor */
    int pipe;  /* what the roles tell */
    char text[4096];
    size_t n;
};

static void run_paused(struct run *r, const char *const *kinds, size_t n, int64_t drain,
                       int64_t pause)
{
    int p[2];

    memset(r, 0, sizeof(*r));
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid == 0) {
        const char *argv[CHILDREN_MAX][4];
        struct child children[CHILDREN_MAX] = { 0 };
        int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int fds[] = { null, -1, p[1] };
        struct supervisor s = { .children = children,
                                .n = n,
                                .backoff_min = pause,
                                .backoff_max = 4 * pause,
                                .healthy = SECONDS(60),
                                .drain = drain };
        struct err e;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        log_init(LOG_ERROR + 1, false, "test");
        for (size_t i = 0; i < n; i++) {
            argv[i][0] = "supervisor_test";
            argv[i][1] = "role";
            argv[i][2] = kinds[i];
            argv[i][3] = NULL;
            children[i] = (struct child){ .name = kinds[i],
                                          .exe_fd = exe,
                                          .argv = argv[i],
                                          .fds = fds,
                                          .n_fds = ARRAY_LEN(fds),
                                          .hopeless = EXIT_HOPELESS };
        }
        _exit(supervise(&s, &e));
    }
    close(p[1]);
    r->pipe = p[0];
}

static void run_start(struct run *r, const char *const *kinds, size_t n, int64_t drain)
{
    run_paused(r, kinds, n, drain, MILLIS(20));
}

/* Reads until 'what' has been told 'times' times, or for five seconds. */
static bool told(struct run *r, const char *what, int times)
{
    int64_t until = clock_mono(clock_system()) + SECONDS(5);

    for (;;) {
        struct pollfd f = { .fd = r->pipe, .events = POLLIN };
        int seen = 0;

        for (const char *p = r->text; (p = strstr(p, what)); p++)
            seen++;
        if (seen >= times)
            return true;
        if (clock_mono(clock_system()) > until || r->n == sizeof(r->text) - 1)
            return false;
        if (poll(&f, 1, 100) > 0) {
            ssize_t n = read(r->pipe, r->text + r->n, sizeof(r->text) - 1 - r->n);

            if (n <= 0)
                return false;
            r->n += (size_t)n;
        }
    }
}

static int run_end(struct run *r)
{
    int status;

    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    close(r->pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* True once the process is away (it is nobody's zombie: the supervisor was its parent). */
static bool gone(pid_t pid)
{
    for (int i = 0; i < 300; i++) {
        if (kill(pid, 0) < 0 && errno == ESRCH)
            return true;
        usleep(10000);
    }
    return false;
}

static pid_t pid_of(struct run *r, const char *kind)
{
    const char *p = strstr(r->text, kind);
    int64_t pid = 0;

    assert_non_null(p);
    p += strlen(kind) + 1;
    assert_true(int_parse((struct str){ p, strcspn(p, "\n") }, 1, INT32_MAX, &pid));
    return (pid_t)pid;
}

static void a_role_that_dies_is_started_again_and_the_other_stays(void **state _unused_)
{
    struct run r;

    run_start(&r, (const char *const[]){ "steady", "frail" }, 2, SECONDS(5));
    assert_true(told(&r, "frail", 4));
    assert_true(told(&r, "steady", 1));
    kill(r.pid, SIGTERM);
    assert_int_equal(run_end(&r), 0);
    assert_null(strstr(strstr(r.text, "steady") + 1, "steady 1"));
    assert_null(strstr(r.text, "masked"));
}

static void a_killed_role_comes_back_without_a_pause(void **state _unused_)
{
    struct run r;

    run_paused(&r, (const char *const[]){ "steady" }, 1, SECONDS(5), HOURS(1));
    assert_true(told(&r, "steady", 1));
    kill(pid_of(&r, "steady"), SIGKILL);
    assert_true(told(&r, "steady", 2));
    kill(r.pid, SIGTERM);
    assert_int_equal(run_end(&r), 0);
}

static void one_that_dies_again_pauses(void **state _unused_)
{
    struct run r;

    run_paused(&r, (const char *const[]){ "frail", "steady" }, 2, SECONDS(5), HOURS(1));
    assert_true(told(&r, "frail", 2) && told(&r, "steady", 1));
    kill(pid_of(&r, "steady"), SIGKILL); /* its own first death */
    assert_true(told(&r, "steady", 2));
    usleep(100000);
    kill(r.pid, SIGTERM);
    assert_true(told(&r, "steady signal 15", 1));
    assert_int_equal(run_end(&r), 0);
    assert_null(strstr(strstr(strstr(r.text, "frail") + 1, "frail") + 1, "frail"));
}

static void sigterm_drains_the_last_role_first(void **state _unused_)
{
    struct run r;

    run_start(&r, (const char *const[]){ "steady", "steadier" }, 2, SECONDS(5));
    assert_true(told(&r, "steady ", 1) && told(&r, "steadier ", 1));
    kill(r.pid, SIGTERM);
    assert_true(told(&r, "steady signal 15", 1));
    assert_true(strstr(r.text, "steadier signal 15") < strstr(r.text, "steady signal 15"));
    assert_int_equal(run_end(&r), 0);
}

static void a_role_that_does_not_drain_is_killed(void **state _unused_)
{
    struct run r;
    pid_t deaf;

    run_start(&r, (const char *const[]){ "deaf" }, 1, MILLIS(200));
    assert_true(told(&r, "deaf ", 1));
    deaf = pid_of(&r, "deaf");
    kill(r.pid, SIGTERM);
    assert_int_equal(run_end(&r), 0);
    assert_true(gone(deaf));
}

static void hangup_is_passed_on(void **state _unused_)
{
    struct run r;

    run_start(&r, (const char *const[]){ "steady" }, 1, SECONDS(5));
    assert_true(told(&r, "steady ", 1));
    usleep(50000); /* its "ready" is read by the supervisor */
    kill(r.pid, SIGHUP);
    assert_true(told(&r, "steady signal 1\n", 1));
    kill(r.pid, SIGTERM);
    assert_int_equal(run_end(&r), 0);
}

static void a_hopeless_role_ends_all(void **state _unused_)
{
    struct run r;

    run_start(&r, (const char *const[]){ "steady", "hopeless" }, 2, SECONDS(5));
    assert_int_equal(run_end(&r), EXIT_HOPELESS);
}

static void a_role_that_waits_for_its_work_leaves_it(void **state _unused_)
{
    int64_t began = clock_mono(clock_system());
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        log_init(LOG_ERROR, false, "api");
        role_leave_within(MILLIS(100));
        for (;;)
            pause();
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    int64_t took = clock_mono(clock_system()) - began;
    assert_true(took >= MILLIS(100) && took < SECONDS(5));
}

static void the_roles_die_with_their_supervisor(void **state _unused_)
{
    struct run r;
    pid_t steady;

    run_start(&r, (const char *const[]){ "steady" }, 1, SECONDS(5));
    assert_true(told(&r, "steady ", 1));
    steady = pid_of(&r, "steady");
    kill(r.pid, SIGKILL);
    run_end(&r);
    assert_true(gone(steady));
}

/* ---- listeners and places */

static void a_port_in_use_names_who_has_it(void **state _unused_)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof(at);
    struct listen_address where;
    char text[32], mine[64];
    int got, yes = 1;
    struct err e = { 0 };

    /* Also where the other one shares its port, as a second brume would. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
    assert_int_equal(listen_parse(text, &where, &e), 0);
    assert_int_equal(listen_open(&where, 1, &got, &e), -1);
    snprintf(mine, sizeof(mine), "(pid %d)", (int)getpid());
    assert_non_null(strstr(e.msg, mine));
    assert_non_null(strstr(e.msg, "--listen"));
}

static void listeners_share_a_free_port(void **state _unused_)
{
    struct listen_address where;
    int got[3];
    struct err e = { 0 };

    assert_int_equal(listen_parse("127.0.0.1:0", &where, &e), 0);
    assert_int_equal(listen_open(&where, 3, got, &e), 0);
    for (size_t i = 0; i < ARRAY_LEN(got); i++)
        close(got[i]);
}

static void addresses_are_read_or_refused(void **state _unused_)
{
    static const struct {
        const char *text;
        bool ok, loopback;
    } all[] = {
        { "127.0.0.1:80", true, true },
        { "localhost:80", true, true },
        { "[::1]:80", true, true },
        { "0.0.0.0:80", true, false },
        { "[::]:80", true, false },
        { "unix:/run/x.sock", true, true },
        { "80", false, false },
        { "127.0.0.1:", false, false },
        { "127.0.0.1:65536", false, false },
        { "example.com:80", false, false },
        { ":80", false, false },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct listen_address at = { 0 };
        struct err e;

        assert_int_equal(listen_parse(all[i].text, &at, &e) == 0, all[i].ok);
        assert_int_equal(at.loopback, all[i].loopback);
    }
}

static void an_installation_keeps_its_id(void **state _unused_)
{
    char dir[] = "/tmp/brume-place-XXXXXX", one[9], two[9];
    struct err e = { 0 };
    struct arena a = ARENA(KIB(64));

    assert_non_null(mkdtemp(dir));
    assert_int_equal(place_installation(dir, one, &e), 0);
    assert_int_equal(place_installation(dir, two, &e), 0);
    assert_string_equal(one, two);
    assert_int_equal(strspn(one, "0123456789abcdef"), 8);
    assert_int_equal(file_write(arena_printf(&a, "%s/installation", dir), "xyz", 3, 0600, &e), 0);
    assert_int_equal(place_installation(dir, two, &e), -1);
    dir_remove(dir, &e);
    arena_free(&a);
}

static void a_lock_is_held_by_one(void **state _unused_)
{
    char dir[] = "/tmp/brume-lock-XXXXXX";
    struct arena a = ARENA(KIB(64));
    const char *path;
    struct err e = { 0 };
    int one;

    assert_non_null(mkdtemp(dir));
    path = arena_printf(&a, "%s/lock", dir);
    one = place_lock(path, &e);
    assert_true(one >= 0);
    assert_int_equal(place_lock(path, &e), -1);
    assert_int_equal(e.code, ERR_INVALID_STATE);
    close(one);
    one = place_lock(path, &e);
    assert_true(one >= 0);
    close(one);
    dir_remove(dir, &e);
    arena_free(&a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_role_that_dies_is_started_again_and_the_other_stays),
        cmocka_unit_test(a_killed_role_comes_back_without_a_pause),
        cmocka_unit_test(one_that_dies_again_pauses),
        cmocka_unit_test(sigterm_drains_the_last_role_first),
        cmocka_unit_test(a_role_that_does_not_drain_is_killed),
        cmocka_unit_test(hangup_is_passed_on),
        cmocka_unit_test(a_hopeless_role_ends_all),
        cmocka_unit_test(a_role_that_waits_for_its_work_leaves_it),
        cmocka_unit_test(the_roles_die_with_their_supervisor),
        cmocka_unit_test(a_port_in_use_names_who_has_it),
        cmocka_unit_test(listeners_share_a_free_port),
        cmocka_unit_test(addresses_are_read_or_refused),
        cmocka_unit_test(an_installation_keeps_its_id),
        cmocka_unit_test(a_lock_is_held_by_one),
    };

    if (argc == 3 && !strcmp(argv[1], "role"))
        return role(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
