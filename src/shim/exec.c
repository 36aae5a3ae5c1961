/* SPDX-License-Identifier: Apache-2.0 */
/* A command inside of a running instance.
 *
 * The process that was started waits for the command's end alone.  Its child, which outlives it and
 * the agent, does the work: it has the runtime start brume-init (-i, see there) with the command,
 * carries the output to where ours goes, kills all of the command's control group when its time
 * (-t) is over or who waits was killed, and writes to -o how it ended: "E <status>", "T" (time), "D
 * <errno>" (no such folder), "X <errno>" (no such command), "R <status>" (the runtime failed).  The
 * pipes of its output belong to -e, so that it may open /dev/stderr.  What the command leaves
 * running lives on unless -k: its output is taken and dropped, for who writes to a closed pipe dies
 * of it.  Where brume-init is killed, all of it is.  The group goes with the last of them. */
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    INIT_FD = 3,   /* as brume-init and the runtime find them */
    REPORT_FD = 4, /* where brume-init says how it went */
    HIGH_FD = 10,
    TUBE_BYTES = 16384,
    LAST_BYTES = 2 << 20, /* of output that is still carried after the end */
    LAST_MS = 5000,
    KILL_MS = 5000,
    RMDIR_TRIES = 200, /* 5 ms apart */
};

struct tube { /* of one stream of output */
    int from, to;
    size_t at, n;
    char held[TUBE_BYTES];
};

static struct {
    const struct shim_args *args;
    struct tube tube[2];
    int report, signals, told;
    pid_t runtime; /* 0: it is done */
    int last;      /* status of who ended last beside it: of init, at the end */
    bool ended;    /* nobody is left */
    bool over;     /* how the command ended is known and told */
    char said;     /* by init while the runtime was not done; 0: nothing */
    int64_t said_number;
    int64_t deadline;
} x;

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- output ---- */

static void tube_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* One read or one write; false when there was nothing to do. */
static bool tube_move(struct tube *t)
{
    if (t->n == 0) {
        ssize_t n = t->from < 0 ? -1 : read(t->from, t->held, sizeof(t->held));
        if (n == 0)
            tube_close(&t->from);
        t->at = 0;
        t->n = n > 0 && t->to >= 0 ? (size_t)n : 0;
        return n > 0;
    }
    ssize_t n = write(t->to, t->held + t->at, t->n);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n < 0 && errno != EINTR) { /* the agent is gone */
        tube_close(&t->to);
        t->n = 0;
    }
    t->at += n > 0 ? (size_t)n : 0;
    t->n -= n > 0 ? (size_t)n : 0;
    return true;
}

static struct pollfd tube_wish(const struct tube *t)
{
    return (struct pollfd){ .fd = t->n ? t->to : t->from, .events = t->n ? POLLOUT : POLLIN };
}

/* What was printed before the end; who reads it may need a moment. */
static void carry_last(void)
{
    int64_t until = now_ms() + LAST_MS;

    for (int k = 0; k < 2; k++) {
        struct tube *t = &x.tube[k];
        for (size_t moved = 0; moved < LAST_BYTES && now_ms() < until;) {
            size_t before = t->n;
            if (tube_move(t)) {
                moved += t->n > before ? t->n : 0;
                continue;
            }
            struct pollfd p = tube_wish(t);
            if (!t->n || poll(&p, 1, 100) < 0)
                break;
        }
        t->n = 0;
        tube_close(&t->to);
    }
}

/* ---- the group ---- */

static void group_path(char out[512], const char *procs, const char *file)
{
    const char *slash = strrchr(procs, '/');
    size_t n = slash ? (size_t)(slash - procs) : 0;

    *out = '\0';
    if (n + strlen(file) + 2 > 512)
        return;
    memcpy(out, procs, n);
    *shim_put_text(out + n, file) = '\0';
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    shim_write_all(fd, text, strlen(text));
    close(fd);
}

/* brume-init, once the runtime has left it to us; 0: not known. */
static pid_t init_pid(void)
{
    char text[64];
    int fd = x.runtime ? -1 : open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return (pid_t)shim_get_number(text);
}

/* How many were there to be killed, beside 'spared'. */
static int kill_listed(const char *path, pid_t spared)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC), found = 0;
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    while (n > 0 && text[n - 1] != '\n') /* of a longer list a number may have come in part */
        n--;
    text[n > 0 ? n : 0] = '\0';
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        pid_t pid = (pid_t)shim_get_number(p);
        if (pid > 1 && pid != spared) {
            kill(pid, SIGKILL);
            found++;
        }
    }
    return found;
}

/* All of the group but 'spared' (0: nobody); false when some are left. */
static bool kill_all_but(pid_t spared)
{
    const struct timespec moment = { .tv_nsec = 2000000 };
    int64_t until = now_ms() + KILL_MS;
    char path[512];
    int found = 1;

    while (found && now_ms() < until) {
        found = 0;
        for (int i = 0; i < x.args->groups.n; i++) {
            if (!spared) {
                group_path(path, x.args->groups.at[i], "/cgroup.kill");
                write_file(path, "1");
            }
            group_path(path, x.args->groups.at[i], "/cgroup.procs");
            found += kill_listed(path, spared);
        }
        if (found)
            nanosleep(&moment, NULL);
    }
    return !found;
}

/* brume-init last, which then has nobody left to wait for and ends by itself, also where the
 * command has stopped it: what it leaves would be the instance's first process's, which may never
 * ask for its end. */
static void kill_group(void)
{
    pid_t init = init_pid();

    if (!init || !kill_all_but(init))
        kill_all_but(0);
    else
        kill(init, SIGCONT);
}

/* Who was killed, or has ended just now, may still be on the way out. */
static void remove_group(void)
{
    const struct timespec moment = { .tv_nsec = 5000000 };
    char path[512];

    for (int i = 0; i < x.args->groups.n; i++) {
        group_path(path, x.args->groups.at[i], "");
        for (int k = 0; k < RMDIR_TRIES && rmdir(path) < 0 && errno == EBUSY; k++)
            nanosleep(&moment, NULL);
    }
}

/* ---- endings ---- */

/* Once: the file first, then who waits for it, and takes our files away. */
static void over(char how, int64_t number)
{
    char text[40], *p = text;

    if (x.over)
        return;
    x.over = true;
    *p++ = how;
    *p++ = ' ';
    p = shim_put_number(p, number, 1);
    *p++ = '\n';
    carry_last();
    int fd = open(x.args->end_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        shim_write_all(fd, text, (size_t)(p - text));
        close(fd);
    }
    shim_write_all(x.told, "\n", 1);
    close(x.told);
}

static int code_of(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void runtime_ended(int status)
{
    x.runtime = 0;
    if (status != 0) {
        kill_group();
        over('R', code_of(status));
    } else if (x.said) {
        over(x.said, x.said_number);
    }
}

/* The first line that brume-init says. */
static void hear(void)
{
    char text[64];
    ssize_t n = read(x.report, text, sizeof(text) - 1);

    if (n > 2 && (text[0] == 'D' || text[0] == 'X' || text[0] == 'E')) {
        text[n] = '\0';
        x.said = text[0];
        x.said_number = shim_get_number(text + 2);
        if (!x.runtime)
            over(x.said, x.said_number);
    }
    tube_close(&x.report);
}

static void reap(void)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;

    while (read(x.signals, &info, sizeof(info)) > 0)
        ;
    if (x.report >= 0) { /* what it said before it ended */
        struct pollfd p = { .fd = x.report, .events = POLLIN };
        if (poll(&p, 1, 0) > 0)
            hear();
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == x.runtime)
            runtime_ended(status);
        else
            x.last = status;
    }
    if (pid < 0 && errno == ECHILD) {
        x.ended = true;
        kill_all_but(0); /* where init was killed: nobody is there to end them in time */
        over('E', code_of(x.last));
    }
}

static void loop(void)
{
    bool killed = false, given_up = false; /* who waited for its end was killed */

    while (!x.ended) {
        struct pollfd p[5] = { { x.signals, POLLIN, 0 },
                               { x.report, POLLIN, 0 },
                               tube_wish(&x.tube[0]),
                               tube_wish(&x.tube[1]),
                               { x.over ? -1 : x.told, 0, 0 } };
        int64_t left = x.over ? -1 : x.deadline - now_ms();
        if (!x.over && (left <= 0 || given_up)) {
            kill_group();
            over('T', 0);
            killed = true;
            continue;
        }
        if (x.over && x.args->kill_rest && !killed) {
            kill_group();
            killed = true;
        }
        if (poll(p, 5, x.over ? -1 : (int)(left < 60000 ? left : 60000)) < 0 && errno != EINTR)
            return;
        for (int k = 0; k < 2; k++)
            if (p[2 + k].revents)
                tube_move(&x.tube[k]);
        if (p[1].revents)
            hear();
        if (p[0].revents)
            reap();
        given_up = p[4].revents & POLLERR;
    }
}

/* ---- beginnings ---- */

static void become_runtime(int init, int report, int out, int err)
{
    shim_default_signals();
    dup2(out, 1);
    dup2(err, 2);
    dup2(init, INIT_FD);
    dup2(report, REPORT_FD);
    shim_join_groups(&x.args->groups);
    shim_enter_mounts(x.args);
    if (x.args->dir)
        shim_must(mount(x.args->dir, x.args->bundle, "none", MS_BIND, NULL), "place the bundle");
    shim_oom_score("0");
    execv(x.args->runtime[0], x.args->runtime);
    shim_must(-1, x.args->runtime[0]);
}

/* Above all that the runtime is to find at a number of its own. */
static int high(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

    shim_must(moved, "a descriptor");
    close(fd);
    return moved;
}

static void high_pipe(int p[2])
{
    shim_must(pipe2(p, O_CLOEXEC), "pipe");
    p[0] = high(p[0]);
    p[1] = high(p[1]);
}

static void start_runtime(void)
{
    int out[2], err[2], report[2];
    int init = open(x.args->init, O_RDONLY | O_CLOEXEC);

    shim_must(init, x.args->init);
    init = high(init);
    high_pipe(out);
    high_pipe(err);
    high_pipe(report);
    shim_must(fchown(out[1], (uid_t)x.args->owner, (gid_t)-1), "the owner of a pipe");
    shim_must(fchown(err[1], (uid_t)x.args->owner, (gid_t)-1), "the owner of a pipe");
    x.runtime = fork();
    shim_must(x.runtime, "fork");
    if (x.runtime == 0)
        become_runtime(init, report[1], out[1], err[1]);
    close(init);
    close(out[1]);
    close(err[1]);
    close(report[1]);
    x.report = report[0];
    x.tube[0] = (struct tube){ .from = out[0], .to = high(1) };
    x.tube[1] = (struct tube){ .from = err[0], .to = high(2) };
    for (int k = 0; k < 2; k++) {
        fcntl(x.tube[k].from, F_SETFL, O_NONBLOCK);
        fcntl(x.tube[k].to, F_SETFL, O_WRONLY | O_NONBLOCK);
    }
    close(0);
}

static void work(void)
{
    sigset_t set;

    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    x.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    shim_must(x.signals, "signalfd");
    x.signals = high(x.signals);
    x.deadline = now_ms() + x.args->timeout_ms;
    start_runtime();
    shim_join_groups(&x.args->own_groups);
    loop();
    remove_group();
}

int shim_exec(const struct shim_args *a)
{
    int told[2];
    char c;

    x.args = a;
    high_pipe(told);
    pid_t pid = fork();
    shim_must(pid, "fork");
    if (pid == 0) {
        close(told[0]);
        x.told = told[1];
        work();
        _exit(0);
    }
    close(told[1]);
    while (read(told[0], &c, 1) < 0 && errno == EINTR)
        ;
    return 0;
}
