/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that starts programs.  By vfork, for a role may hold much memory and many threads:
 * the child shares it until exec and touches nothing but system calls.  Input stands in a memory
 * file, so only output and the end are waited for. */
#include "os/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "codec/text.h"
#include "os/file.h"

enum {
    TIMEOUT_DEFAULT = 60,
    OUTPUT_DEFAULT = 1 << 20,
    PATH_LONGEST = 4096,
    STOP_LOOK_MS = 500,
    READS_MAX = 128
};

static const char safe_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* ---- finding */

static bool executable(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static const char *find_in(struct arena *a, const char *list, const char *name)
{
    while (list && *list) {
        size_t n = strcspn(list, ":");
        char path[PATH_LONGEST];

        /* A relative folder in PATH would run what lies where we happen to stand. */
        int len = snprintf(path, sizeof(path), "%.*s/%s", (int)n, list, name);
        if (n && list[0] == '/' && len < (int)sizeof(path) && executable(path))
            return arena_strdup(a, path);
        list += n + (list[n] == ':');
    }
    return NULL;
}

const char *process_which(struct arena *a, const char *name)
{
    if (!*name)
        return NULL;
    if (strchr(name, '/'))
        return executable(name) ? arena_strdup(a, name) : NULL;
    const char *found = find_in(a, getenv("PATH"), name);
    return found ? found : find_in(a, safe_path, name);
}

/* ---- starting */

struct child {
    const char *path;
    const struct process_opts *opts;
    int fds[3];
    int told[2]; /* a pipe that exec closes: errno of what failed before it, or nothing */
};

/* Runs in the child, in the parent's memory: system calls only. */
static void __attribute__((noreturn, noinline)) child_main(struct child *c)
{
    static const char *const env_default[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
        "HOME=/", NULL
    };
    const char *const *env = c->opts->env ? c->opts->env : env_default;
    const char *cwd = c->opts->cwd ? c->opts->cwd : "/";
    /* The kernel's own form of a default action: the C library refuses the two signals it keeps to
     * itself, which may be ignored all the same where somebody above did it so. */
    static const uint64_t dfl[4] = { 0 };
    sigset_t none;
    int error;

    for (int s = 1; s < NSIG; s++)
        syscall(SYS_rt_sigaction, s, dfl, NULL, sizeof(uint64_t)); /* refused for KILL and STOP */
    sigemptyset(&none);
    if (setpgid(0, 0) < 0 || dup2(c->fds[0], 0) < 0 || dup2(c->fds[1], 1) < 0 ||
        dup2(c->fds[2], 2) < 0 || close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        goto failed;
    for (const int *fd = c->opts->keep_fds; fd && *fd >= 0; fd++)
        if (fcntl(*fd, F_SETFD, 0) < 0)
            goto failed;
    if (chdir(cwd) < 0)
        goto failed;
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(c->path, (char *const *)(uintptr_t)c->opts->argv, (char *const *)(uintptr_t)env);
failed:
    error = errno;
    if (write(c->told[1], &error, sizeof(error)) != (ssize_t)sizeof(error))
        _exit(126);
    _exit(127);
}

static pid_t __attribute__((noinline)) child_start(struct child *c)
{
    pid_t pid = vfork();

    if (pid == 0)
        child_main(c);
    return pid;
}

/* ---- the run */

struct run {
    struct child child;
    pid_t pid;
    int pidfd;
    int input;     /* the child's stdin */
    int theirs[2]; /* the child's ends of stdout and stderr */
    int ours[2];
    struct buf got[2];
};

static void run_closep(struct run *r)
{
    int *fds[] = { &r->pidfd, &r->input, &r->theirs[0], &r->theirs[1], &r->ours[0], &r->ours[1] };

    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (*fds[i] >= 0)
            close(TAKE_FD(*fds[i]));
    buf_free(&r->got[0]);
    buf_free(&r->got[1]);
}

/* Above 2, so that no dup2() in the child overwrites one that is still needed. */
static int lift(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int was = errno;
    close(fd);
    errno = was;
    return high;
}

static int open_input(struct str input, struct err *e)
{
    if (!input.n)
        return lift(open("/dev/null", O_RDONLY | O_CLOEXEC));
    _cleanup_close_ int fd = lift(memfd_create("stdin", MFD_CLOEXEC));
    if (fd < 0 || fd_write_all(fd, input.p, input.n, e) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return -1;
    return TAKE_FD(fd);
}

static int open_pipes(struct run *r, const struct process_opts *o, struct err *e)
{
    r->input = open_input(o->input, e);
    if (r->input < 0)
        return err_sys(e, errno, "%s: its input", o->argv[0]);
    for (int i = 0; i < 2; i++) {
        int p[2];

        if (pipe2(p, O_CLOEXEC) < 0)
            return err_sys(e, errno, "%s: pipe", o->argv[0]);
        r->ours[i] = lift(p[0]);
        r->theirs[i] = lift(p[1]);
        if (r->ours[i] < 0 || r->theirs[i] < 0 || fd_set_nonblock(r->ours[i]) < 0)
            return err_sys(e, errno, "%s: pipe", o->argv[0]);
        r->got[i] = BUF(o->max_output ? o->max_output : OUTPUT_DEFAULT);
    }
    return 0;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int start(struct run *r, struct err *e)
{
    const char *name = r->child.opts->argv[0];
    sigset_t all, was;

    r->child.fds[0] = r->input;
    r->child.fds[1] = r->theirs[0];
    r->child.fds[2] = r->theirs[1];
    if (pipe2(r->child.told, O_CLOEXEC) < 0)
        return err_sys(e, errno, "%s: pipe", name);
    /* A handler of ours must not run in the child while it shares our memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    r->pid = child_start(&r->child);
    int error = errno, failed = 0;
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    close(r->child.told[1]);
    ssize_t told = 0;
    while (r->pid >= 0 && (told = read(r->child.told[0], &failed, sizeof(failed))) < 0 &&
           errno == EINTR)
        ;
    close(r->child.told[0]);
    if (r->pid < 0)
        return err_sys(e, error, "%s: fork", name);
    if (told == (ssize_t)sizeof(failed)) {
        reap(r->pid);
        return err_sys(e, failed, "start %s", name);
    }
    r->pidfd = pidfd_open(r->pid, 0);
    if (r->pidfd < 0) {
        err_sys(e, errno, "%s: pidfd", name);
        kill(-r->pid, SIGKILL);
        reap(r->pid);
        return -1;
    }
    for (int i = 0; i < 2; i++)
        close(TAKE_FD(r->theirs[i]));
    return 0;
}

/* Takes what stands in a pipe now; closes it at its end.  Who never stops writing does not hold us
 * from looking at the clock. */
static void drain(struct run *r, int i)
{
    char spill[16384];

    for (int reads = 0; r->ours[i] >= 0 && reads < READS_MAX; reads++) {
        ssize_t n = read(r->ours[i], spill, sizeof(spill));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close(TAKE_FD(r->ours[i]));
            return;
        }
        size_t room = r->got[i].max - r->got[i].n;
        buf_put(&r->got[i], spill, MIN((size_t)n, room));
    }
}

static bool is_to_stop(const struct process_opts *o)
{
    return o->stop && o->stop(o->stop_ctx);
}

/* Until the program has ended, or its time is over or it is to stop (false).  A grandchild that
 * keeps the pipes open does not hold us. */
static bool wait_for_end(struct run *r, int64_t deadline)
{
    const struct process_opts *o = r->child.opts;
    const int64_t most = o->stop ? STOP_LOOK_MS : 60000;

    for (;;) {
        int64_t left = deadline - clock_mono(clock_system());
        struct pollfd p[] = { { .fd = r->pidfd, .events = POLLIN },
                              { .fd = r->ours[0], .events = POLLIN },
                              { .fd = r->ours[1], .events = POLLIN } };

        if (left <= 0 || is_to_stop(o))
            return false;
        if (poll(p, ARRAY_LEN(p), (int)MIN(left / 1000 + 1, most)) < 0 && errno != EINTR)
            return false;
        drain(r, 0);
        drain(r, 1);
        if (p[0].revents) {
            drain(r, 0);
            drain(r, 1);
            return true;
        }
    }
}

static int end_status(struct run *r)
{
    siginfo_t info = { 0 };

    while (waitid(P_PIDFD, (id_t)r->pidfd, &info, WEXITED) < 0)
        if (errno != EINTR)
            return 127;
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

int process_run(struct arena *a, const struct process_opts *o, struct process_result *out,
                struct err *e)
{
    _cleanup_(run_closep) struct run r = {
        .pidfd = -1, .input = -1, .theirs = { -1, -1 }, .ours = { -1, -1 }
    };
    int64_t timeout = o->timeout > 0 ? o->timeout : SECONDS(TIMEOUT_DEFAULT);
    int64_t deadline = clock_mono(clock_system()) + timeout;
    struct process_result res = { 0 };

    r.child.opts = o;
    r.child.path = process_which(a, o->argv[0]);
    if (!r.child.path)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "program %s is not installed", o->argv[0]);
    TRY(open_pipes(&r, o, e));
    TRY(start(&r, e));
    res.timed_out = !wait_for_end(&r, deadline);
    if (res.timed_out) {
        kill(-r.pid, SIGKILL);
        pidfd_send_signal(r.pidfd, SIGKILL, NULL, 0); /* should it have left its group */
    }
    res.status = end_status(&r);
    drain(&r, 0);
    drain(&r, 1);
    res.out = (struct str){ arena_dup(a, r.got[0].p, r.got[0].n), r.got[0].n };
    res.err = (struct str){ arena_dup(a, r.got[1].p, r.got[1].n), r.got[1].n };
    *out = res;
    if (res.timed_out && clock_mono(clock_system()) < deadline)
        return err_set(e, ERR_REQUEST_TIMEOUT, "%s was told to stop", o->argv[0]);
    if (res.timed_out) {
        char cause[100];

        snprintf(cause, sizeof(cause), "%s was killed after %lld ms", o->argv[0],
                 (long long)(timeout / 1000));
        return err_cause(e, ERR_INTERNAL, cause, "internal error");
    }
    return 0;
}

static struct str last_line(struct str s)
{
    while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == '\r' || s.p[s.n - 1] == ' '))
        s.n--;
    const char *nl = s.n ? memrchr(s.p, '\n', s.n) : NULL;
    if (!nl)
        return s;
    return (struct str){ nl + 1, s.n - (size_t)(nl + 1 - s.p) };
}

int process_check(struct arena *a, const struct process_opts *o, struct process_result *out,
                  struct err *e)
{
    TRY(process_run(a, o, out, e));
    if (out->status == 0)
        return 0;
    struct str line = last_line(out->err);
    char cause[160];
    snprintf(cause, sizeof(cause), "%.40s ended with %d: %.*s", o->argv[0], out->status,
             (int)MIN(line.n, (size_t)110), line.n ? line.p : "");
    return err_cause(e, ERR_INTERNAL, cause, "internal error");
}

/* ---- signals */

enum { SIGNAL_MAX = 64, REALTIME_MIN = 34 /* the first that a C library leaves to programs */ };

static int realtime(const char *s)
{
    int64_t offset = 0;
    bool from_max = strncasecmp(s, "RTMAX", 5) == 0;

    if (!from_max && strncasecmp(s, "RTMIN", 5) != 0)
        return 0;
    s += 5;
    if (*s && (*s != (from_max ? '-' : '+') ||
               !int_parse(str_of(s + 1), 0, SIGNAL_MAX - REALTIME_MIN, &offset)))
        return 0;
    return from_max ? SIGNAL_MAX - (int)offset : REALTIME_MIN + (int)offset;
}

int process_signal(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } also[] = { { "IO", SIGIO }, { "IOT", SIGIOT }, { "CLD", SIGCHLD } };
    int64_t number;

    if (int_parse(str_of(name), 1, SIGNAL_MAX, &number))
        return (int)number;
    if (strncasecmp(name, "SIG", 3) == 0)
        name += 3;
    for (int i = 1; i < REALTIME_MIN; i++)
        if (sigabbrev_np(i) && strcasecmp(sigabbrev_np(i), name) == 0)
            return i;
    for (size_t i = 0; i < ARRAY_LEN(also); i++)
        if (strcasecmp(also[i].name, name) == 0)
            return also[i].number;
    return realtime(name);
}
