/* SPDX-License-Identifier: Apache-2.0 */
/* The loop that owns the children.  It takes signals from a descriptor, so that nothing runs in a
 * signal handler, and asks the kernel who has ended instead of counting signals. */

#include "roles/supervisor.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "roles/roles.h"

struct loop {
    struct supervisor *s;
    int signals;
    bool stopping;
    int64_t kill_at;
    size_t stop_next; /* children [0, stop_next) have not been told to end */
    int result;
};

static int64_t now_us(void)
{
    return clock_mono(clock_system());
}

/* ---- starting */

/* In the child: its descriptors at their numbers, all else closed. */
static void child_fds(const struct child *c, int ready)
{
    int moved[CHILD_FDS];

    for (size_t i = 0; i < c->n_fds; i++) {
        moved[i] = fcntl(c->fds[i] < 0 ? ready : c->fds[i], F_DUPFD_CLOEXEC, 3 + CHILD_FDS);
        if (moved[i] < 0)
            _exit(127);
    }
    for (size_t i = 0; i < c->n_fds; i++)
        if (dup2(moved[i], 3 + (int)i) < 0)
            _exit(127);
    /* What we were started with ourselves is not for the roles. */
    close_range(3 + (unsigned)c->n_fds, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void child_exec(const struct child *c, int ready, pid_t supervisor)
{
    char pid[48];
    const char *env[64];
    size_t n = 0;
    sigset_t none;
    int exe;

    setpgid(0, 0);
    exe = fcntl(c->exe_fd, F_DUPFD_CLOEXEC, 3 + CHILD_FDS);
    child_fds(c, ready);
    snprintf(pid, sizeof(pid), ENV_SUPERVISOR "=%d", (int)supervisor);
    while (c->env && c->env[n] && n < ARRAY_LEN(env) - 2) {
        env[n] = c->env[n];
        n++;
    }
    env[n++] = pid;
    env[n] = NULL;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Until the role has set this for itself, a supervisor that dies takes it along. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor)
        _exit(127);
    execveat(exe, "", (char *const *)(uintptr_t)c->argv, (char *const *)(uintptr_t)env,
             AT_EMPTY_PATH);
    _exit(127);
}

static int64_t longer(const struct supervisor *s, int64_t backoff)
{
    return backoff ? MIN(backoff * 2, s->backoff_max) : s->backoff_min;
}

static void child_start(struct supervisor *s, struct child *c)
{
    pid_t self = getpid();
    int ready[2];

    c->started = now_us();
    if (pipe2(ready, O_CLOEXEC) < 0) {
        c->start_at = c->started + (c->backoff = longer(s, c->backoff));
        return;
    }
    c->pid = fork();
    if (c->pid == 0)
        child_exec(c, ready[1], self);
    close(ready[1]);
    if (c->pid < 0) {
        close(ready[0]);
        c->pid = 0;
        c->start_at = c->started + (c->backoff = longer(s, c->backoff));
        log_event(LOG_ERROR, "role_not_started", L_STR("role", c->name), L_INT("errno", errno));
        return;
    }
    c->ready_fd = ready[0];
    c->ready = false;
    c->line_n = 0;
    log_event(LOG_DEBUG, "role_started", L_STR("role", c->name), L_INT("pid", c->pid));
}

/* ---- lines from the children */

static void child_read(struct child *c)
{
    char piece[512];
    ssize_t n = read(c->ready_fd, piece, sizeof(piece));

    if (n <= 0) {
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            return;
        close(c->ready_fd);
        c->ready_fd = -1;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (piece[i] != '\n') {
            if (c->line_n < sizeof(c->line) - 1)
                c->line[c->line_n++] = piece[i];
            continue;
        }
        c->line[c->line_n] = '\0';
        c->line_n = 0;
        if (!strcmp(c->line, "ready"))
            c->ready = true;
        if (c->on_line)
            c->on_line(c->ctx, c->line);
        explicit_bzero(c->line, sizeof(c->line));
    }
    explicit_bzero(piece, sizeof(piece));
}

/* ---- ending */

static void stop_one(struct loop *l)
{
    while (l->stop_next) {
        struct child *c = &l->s->children[l->stop_next - 1];

        if (c->pid) {
            kill(c->pid, SIGTERM);
            l->kill_at = now_us() + l->s->drain;
            return;
        }
        l->stop_next--;
    }
}

static void stop_all(struct loop *l, int result)
{
    if (l->stopping)
        return;
    l->stopping = true;
    l->result = result;
    l->stop_next = l->s->n;
    stop_one(l);
}

static void kill_all(struct loop *l)
{
    for (size_t i = 0; i < l->s->n; i++)
        if (l->s->children[i].pid)
            kill(l->s->children[i].pid, SIGKILL);
}

static void child_ended(struct loop *l, struct child *c, int status)
{
    struct supervisor *s = l->s;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

    if (c->ready_fd >= 0) {
        child_read(c);
        if (c->ready_fd >= 0)
            close(c->ready_fd);
        c->ready_fd = -1;
    }
    c->pid = 0;
    if (l->stopping) {
        stop_one(l);
        return;
    }
    if (c->hopeless && code == c->hopeless) {
        stop_all(l, code);
        return;
    }
    bool again = c->died && now_us() - c->started < s->healthy;
    c->died = true;
    c->backoff = again ? longer(s, c->backoff) : 0;
    c->start_at = now_us() + c->backoff;
    log_event(LOG_ERROR, "role_ended", L_STR("role", c->name), L_INT("status", code),
              L_INT("again_ms", c->backoff / 1000));
}

static void reap(struct loop *l)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < l->s->n; i++)
            if (l->s->children[i].pid == pid)
                child_ended(l, &l->s->children[i], status);
}

static void on_signal(struct loop *l, int sig)
{
    switch (sig) {
    case SIGCHLD:
        reap(l);
        break;
    case SIGHUP:
        if (l->s->on_hangup)
            l->s->on_hangup(l->s->ctx);
        for (size_t i = 0; i < l->s->n; i++)
            if (l->s->children[i].pid && l->s->children[i].ready)
                kill(l->s->children[i].pid, SIGHUP);
        break;
    default:
        if (l->stopping)
            kill_all(l);
        else
            stop_all(l, 0);
        break;
    }
}

static bool any_running(const struct supervisor *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->children[i].pid)
            return true;
    return false;
}

/* Starts what is due, the last one first: it is the one that people wait for.  Returns milliseconds
 * until the next thing is due, -1 for never. */
static int due(struct loop *l)
{
    int64_t now = now_us(), next = INT64_MAX;

    for (size_t i = l->s->n; i > 0 && !l->stopping; i--) {
        struct child *c = &l->s->children[i - 1];

        if (!c->pid && c->start_at <= now)
            child_start(l->s, c);
        if (!c->pid)
            next = MIN(next, c->start_at);
    }
    if (l->stopping) {
        if (now >= l->kill_at) {
            kill_all(l);
            l->kill_at = now + SECONDS(1);
        }
        next = l->kill_at;
    }
    if (next == INT64_MAX)
        return -1;
    return next <= now ? 0 : (int)MIN((next - now + 999) / 1000, (int64_t)60000);
}

static void one_round(struct loop *l)
{
    struct pollfd p[1 + CHILDREN_MAX] = { { .fd = l->signals, .events = POLLIN } };
    struct signalfd_siginfo info;
    int timeout = due(l);

    for (size_t i = 0; i < l->s->n; i++)
        p[1 + i] = (struct pollfd){ .fd = l->s->children[i].ready_fd, .events = POLLIN };
    if (poll(p, 1 + l->s->n, timeout) < 0 && errno != EINTR)
        abort();
    for (size_t i = 0; i < l->s->n; i++)
        if (p[1 + i].revents && l->s->children[i].ready_fd == p[1 + i].fd)
            child_read(&l->s->children[i]);
    if (p[0].revents & POLLIN)
        while (read(l->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
            on_signal(l, (int)info.ssi_signo);
}

int supervise(struct supervisor *s, struct err *e)
{
    struct loop l = { .s = s };
    sigset_t set, old;

    if (s->n > CHILDREN_MAX)
        return err_set(e, ERR_INVALID, "too many children");
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, &old) < 0)
        return err_sys(e, errno, "sigprocmask");
    l.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (l.signals < 0)
        return err_sys(e, errno, "signalfd");
    for (size_t i = 0; i < s->n; i++) {
        struct child *c = &s->children[i];

        c->pid = 0;
        c->ready_fd = -1;
        c->start_at = c->wait ? now_us() + c->wait : 0;
        c->backoff = 0;
        c->died = false;
    }
    do
        one_round(&l);
    while (!l.stopping || any_running(s));
    for (size_t i = 0; i < s->n; i++)
        if (s->children[i].ready_fd >= 0)
            close(s->children[i].ready_fd);
    close(l.signals);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return l.result;
}
