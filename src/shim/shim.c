/* SPDX-License-Identifier: Apache-2.0 */
/* brume-shim: the parent of one instance.
 *
 * It outlives every role of brume, so all that must not be lost with them is here: the pipes of the
 * instance's output, its exit status, the sockets that reserve its published ports (inherited and
 * merely kept).  It restarts nothing and decides nothing.  Each instance pays for one, so it links
 * libc alone, uses no stdio and allocates nothing.
 *
 *     brume-shim run   -d DIR -b PATH -r FD [-c FD]… [-m FD] [-u FD] [-n FD] [-x PATH]…
 *                      [-s PROCS]… [-g PROCS]… -- RUNTIME ARG…
 *     brume-shim exec  -o FILE -i FILE -t MS [-e UID] [-k 1] [-d DIR -b PATH] [-x PATH]…
 *                      [-s PROCS]… [-g PROCS]… -- RUNTIME ARG…
 *
 * run: DIR is the instance's folder, the runtime's bundle, which it finds at -b.  -r: where
 * to tell "R <pid>\n" or "F <text>\n" once the runtime is done, -c: a descriptor (a published
 * port's socket) that stays open as long as the shim lives, -m: a detached mount to be put on
 * DIR/root, -u: a user namespace to be found at DIR/userns, -n: the network namespace to be in, -x:
 * a mount that the runtime must not see, -s and -g: cgroup.procs files that the shim, and the
 * runtime with the instance, move into.  The mounts are made in a mount namespace of the runtime's
 * own: they go with the instance, however it ends.
 *
 * exec: a command inside of a running instance; see exec.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h> /* rename */
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim/shim.h"

enum {
    LINE_MAX_BYTES = 16384, /* longer lines are logged in parts, marked P */
    RECORD_MAX_BYTES = LINE_MAX_BYTES + 64,
    RECORD_TAG = 38, /* where it stands: behind the time and the stream's name */
    LOG_FILES = 5,
    LOG_BYTES = 10 << 20,
    BATCH_BYTES = 64 << 10, /* written at once, where so much is there */
};

struct source { /* stdout or stderr */
    int fd;
    const char *name;
    bool begun; /* the last record is a part, whose rest is to come */
    bool lost;  /* a record found no room */
    size_t n;
    char line[LINE_MAX_BYTES];
};

static struct {
    int log, lock, ready;
    int64_t log_size, log_number;
    pid_t runtime, init;
    bool runtime_done, ended;
    int status; /* of init */
    struct {
        pid_t pid;
        int status;
    } reaped[SHIM_MAX_REAPED]; /* who ended before we knew init's pid */
    int n_reaped;
} shim = { .log = -1, .ready = -1 };

static struct source sources[2] = { { .fd = -1, .name = " stdout " },
                                    { .fd = -1, .name = " stderr " } };

/* ---- small text ---- */

char *shim_put_text(char *p, const char *s)
{
    size_t n = strlen(s);

    memcpy(p, s, n);
    return p + n;
}

char *shim_put_number(char *p, int64_t v, int width)
{
    char digits[24];
    int n = 0;

    if (v < 0) {
        *p++ = '-';
        v = -v;
    }
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    for (int i = n; i < width; i++)
        *p++ = '0';
    while (n)
        *p++ = digits[--n];
    return p;
}

/* RFC 3339 with nanoseconds, as Kubernetes' log form wants it. */
static char *put_time(char *p)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    int64_t days = t.tv_sec / 86400, rest = t.tv_sec % 86400;
    /* Civil date of a day number: years begin in March, eras have 146,097 days. */
    int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9, year = yoe + era * 400 + (month <= 2);

    p = shim_put_number(p, year, 4);
    *p++ = '-';
    p = shim_put_number(p, month, 2);
    *p++ = '-';
    p = shim_put_number(p, doy - (153 * mp + 2) / 5 + 1, 2);
    *p++ = 'T';
    p = shim_put_number(p, rest / 3600, 2);
    *p++ = ':';
    p = shim_put_number(p, rest / 60 % 60, 2);
    *p++ = ':';
    p = shim_put_number(p, rest % 60, 2);
    *p++ = '.';
    p = shim_put_number(p, t.tv_nsec, 9);
    *p++ = 'Z';
    return p;
}

int64_t shim_get_number(const char *s)
{
    int64_t v = 0;

    while (*s >= '0' && *s <= '9' && v < INT32_MAX)
        v = v * 10 + (*s++ - '0');
    return v;
}

bool shim_write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* Tells the agent, once. */
static void tell(const char *p, size_t n)
{
    if (shim.ready < 0)
        return;
    shim_write_all(shim.ready, p, n);
    close(shim.ready);
    shim.ready = -1;
}

static void tell_failure(const char *what, int errnum)
{
    char text[300], *p = shim_put_text(text, "F ");
    const char *why = errnum ? strerrordesc_np(errnum) : NULL;

    memcpy(p, what, strnlen(what, 200));
    p += strnlen(what, 200);
    if (why) {
        p = shim_put_text(p, ": ");
        p = shim_put_text(p, why);
    }
    *p++ = '\n';
    tell(text, (size_t)(p - text));
}

/* ---- the log ---- */

/* log/1, log/2, …: the greatest number is the newest, and no file ever changes its name. */
static void log_name(char out[48], int64_t number)
{
    char *p = shim_put_text(out, "log/");

    *shim_put_number(p, number, 1) = '\0';
}

static int64_t log_newest(void)
{
    _Alignas(struct dirent64) char some[4096];
    int fd = open("log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int64_t newest = 1;
    ssize_t n;

    while (fd >= 0 && (n = getdents64(fd, some, sizeof(some))) > 0)
        for (ssize_t at = 0; at < n;) {
            const struct dirent64 *d = (const void *)(some + at);
            int64_t number = shim_get_number(d->d_name);
            newest = number > newest ? number : newest;
            at += d->d_reclen;
        }
    if (fd >= 0)
        close(fd);
    return newest;
}

/* A record that was cut by the machine's or an earlier shim's end becomes a part whose rest never
 * comes; of less than its head nothing is kept. */
static void log_mend(const char *name)
{
    static char last[RECORD_MAX_BYTES];
    int fd = open(name, O_RDWR | O_CLOEXEC);
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)sizeof(last) ? size - (off_t)sizeof(last) : 0;
    ssize_t n = size > 0 ? pread(fd, last, (size_t)(size - from), from) : 0;

    if (n > 0 && last[n - 1] != '\n') {
        const char *nl = memrchr(last, '\n', (size_t)n);
        off_t begin = from + (nl ? nl + 1 - last : 0);
        if (size - begin <= RECORD_TAG + 1 || pwrite(fd, "P", 1, begin + RECORD_TAG) != 1 ||
            pwrite(fd, "\n", 1, size) != 1)
            if (ftruncate(fd, begin) < 0)
                shim_write_all(fd, "\n", 1);
    }
    if (fd >= 0)
        close(fd);
}

static void log_open(void)
{
    char name[48];
    struct stat st;

    log_name(name, shim.log_number);
    shim.log = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    shim.log_size = shim.log >= 0 && fstat(shim.log, &st) == 0 ? st.st_size : 0;
}

static void log_begin(void)
{
    char name[48];

    shim.log_number = log_newest();
    log_name(name, shim.log_number);
    log_mend(name);
    log_open();
}

static void log_rotate(void)
{
    char oldest[48];

    close(shim.log);
    shim.log_number++;
    log_name(oldest, shim.log_number - LOG_FILES);
    if (shim.log_number > LOG_FILES) /* first: the new one may find room only then */
        unlink(oldest);
    log_open();
}

static struct { /* whole records, all of one source */
    size_t n;
    char p[BATCH_BYTES];
} batch;

/* A full disk loses the batch, never stops the instance. */
static void log_flush(struct source *s)
{
    if (!batch.n)
        return;
    if (shim.log < 0) /* there was no room for it */
        log_open();
    if (shim.log >= 0 && shim.log_size > 0 && shim.log_size + (int64_t)batch.n > LOG_BYTES)
        log_rotate();
    s->lost = shim.log < 0 || !shim_write_all(shim.log, batch.p, batch.n);
    if (!s->lost)
        shim.log_size += (int64_t)batch.n;
    else if (shim.log >= 0 && ftruncate(shim.log, shim.log_size) < 0) /* it is whole or not there */
        shim.log_size = lseek(shim.log, 0, SEEK_END);
    batch.n = 0;
}

/* One record: Kubernetes' form, whose tag may go on after a colon.  C: the line's beginning is in
 * the record before of its stream.  L: what was printed before this found no room. */
static void log_record(struct source *s, bool whole, const char *p, size_t n)
{
    if (batch.n + RECORD_MAX_BYTES > sizeof(batch.p))
        log_flush(s);
    char *o = put_time(batch.p + batch.n);
    o = shim_put_text(o, s->name);
    *o++ = whole ? 'F' : 'P';
    if (s->begun)
        o = shim_put_text(o, ":C");
    if (s->lost)
        o = shim_put_text(o, ":L");
    *o++ = ' ';
    memcpy(o, p, n);
    o += n;
    *o++ = '\n';
    s->begun = !whole;
    s->lost = false;
    batch.n = (size_t)(o - batch.p);
}

/* Logs the whole lines of what a source has, keeps the rest. */
static void source_lines(struct source *s, bool end)
{
    char *p = s->line, *stop = s->line + s->n, *nl;

    while (p < stop && (nl = memchr(p, '\n', (size_t)(stop - p)))) {
        log_record(s, true, p, (size_t)(nl - p));
        p = nl + 1;
    }
    size_t rest = (size_t)(stop - p);
    if ((rest && (end || rest == sizeof(s->line))) || (end && s->begun)) {
        log_record(s, end, p, rest);
        rest = 0;
    }
    log_flush(s);
    if (rest && p != s->line)
        memmove(s->line, p, rest);
    s->n = rest;
}

/* Reads what is there; false at the end. */
static bool source_read(struct source *s)
{
    ssize_t n = read(s->fd, s->line + s->n, sizeof(s->line) - s->n);

    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    s->n += (size_t)n;
    source_lines(s, n == 0);
    if (n > 0)
        return true;
    close(s->fd);
    s->fd = -1;
    return false;
}

static void source_drain(struct source *s)
{
    struct pollfd p = { .fd = s->fd, .events = POLLIN };

    while (s->fd >= 0 && poll(&p, 1, 0) > 0 && source_read(s))
        ;
    source_lines(s, true);
}

/* ---- the runtime ---- */

void shim_join_groups(const struct shim_list *l)
{
    for (int i = 0; i < l->n; i++) {
        int fd = open(l->at[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1) {
            tell_failure(l->at[i], errno);
            _exit(125);
        }
        close(fd);
    }
}

void shim_must(int result, const char *what)
{
    if (result >= 0)
        return;
    tell_failure(what, errno);
    _exit(125);
}

/* A mount namespace of its own, without what the runtime must not see. */
void shim_enter_mounts(const struct shim_args *a)
{
    shim_must(unshare(CLONE_NEWNS), "new mount namespace");
    shim_must(mount("", "/", "none", MS_REC | MS_PRIVATE, NULL), "private mounts");
    for (int i = 0; i < a->hidden.n; i++)
        umount2(a->hidden.at[i], MNT_DETACH);
    /* A runtime that finds itself where nobody can write to it need not make such a place and start
     * anew from there, as it does against instances that overwrite it.  It may fail: then it does.
     */
    const char *runtime = a->runtime[0];
    if (mount(runtime, runtime, "none", MS_BIND, NULL) == 0)
        shim_must(mount("", runtime, "none", MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), runtime);
}

void shim_oom_score(const char *score)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        shim_write_all(fd, score, strlen(score));
        close(fd);
    }
}

void shim_default_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
}

/* A detached mount onto a folder of the bundle. */
static void place(int mount, const char *folder)
{
    if (mount < 0)
        return;
    shim_must(
        (int)syscall(SYS_move_mount, mount, "", AT_FDCWD, folder, 4 /* from: the fd itself */),
        folder);
    close(mount);
}

static void become_runtime(const struct shim_args *a)
{
    shim_default_signals();
    shim_join_groups(&a->groups);
    shim_enter_mounts(a);
    /* The runtime looks at its bundle as the instance's root, who may not pass the host's folders.
     */
    shim_must(mount(".", a->bundle, "none", MS_BIND, NULL), "place the bundle");
    shim_must(chdir(a->bundle), a->bundle);
    place(a->mount, "root");
    place(a->files, "files");
    place(a->disk, "disk");
    if (a->userns >= 0) {
        char path[40], *p = shim_put_text(path, "/proc/self/fd/");
        *shim_put_number(p, a->userns, 1) = '\0';
        shim_must(mount(path, "userns", "none", MS_BIND, NULL), "place the user namespace");
    }
    if (a->netns >= 0)
        shim_must(setns(a->netns, CLONE_NEWNET), "enter the network");
    shim_oom_score("0");
    execv(a->runtime[0], a->runtime);
    shim_must(-1, a->runtime[0]);
}

static void start_runtime(const struct shim_args *a)
{
    int out[2], err[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);

    shim_must(null, "/dev/null");
    shim_must(pipe2(out, O_CLOEXEC), "pipe");
    shim_must(pipe2(err, O_CLOEXEC), "pipe");
    shim.runtime = fork();
    shim_must(shim.runtime, "fork");
    if (shim.runtime == 0) {
        dup2(null, 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        become_runtime(a);
    }
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    close(null);
    close(out[1]);
    close(err[1]);
    if (a->mount >= 0)
        close(a->mount);
    if (a->files >= 0)
        close(a->files);
    if (a->disk >= 0)
        close(a->disk);
    if (a->userns >= 0)
        close(a->userns);
    if (a->netns >= 0)
        close(a->netns);
    sources[0].fd = out[0];
    sources[1].fd = err[0];
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
}

/* ---- endings ---- */

static void save_exit(int status)
{
    char text[160], *p = shim_put_text(text, "{\"exit_code\":");
    struct timespec now;
    int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);

    clock_gettime(CLOCK_REALTIME, &now);
    p = shim_put_number(p, code, 1);
    p = shim_put_text(p, ",\"finished_at\":");
    p = shim_put_number(p, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, 1);
    p = shim_put_text(p, "}\n");
    int fd = open("exit.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (shim_write_all(fd, text, (size_t)(p - text)) && fsync(fd) == 0)
        rename("exit.json.new", "exit.json");
    close(fd);
}

static void init_known(void)
{
    char text[32], said[40], *p = shim_put_text(said, "R ");
    int fd = open("init.pid", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0) {
        tell_failure("the runtime left no pid", 0);
        _exit(125);
    }
    text[n] = '\0';
    shim.init = (pid_t)shim_get_number(text);
    for (int i = 0; i < shim.n_reaped; i++)
        if (shim.reaped[i].pid == shim.init) {
            shim.ended = true;
            shim.status = shim.reaped[i].status;
        }
    p = shim_put_number(p, shim.init, 1);
    *p++ = '\n';
    tell(said, (size_t)(p - said));
}

static void runtime_ended(int status)
{
    shim.runtime_done = true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        init_known();
        return;
    }
    source_drain(&sources[0]);
    source_drain(&sources[1]);
    tell_failure("the runtime failed", 0);
    _exit(125);
}

static void reap(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == shim.runtime && !shim.runtime_done) {
            runtime_ended(status);
        } else if (shim.runtime_done && pid == shim.init) {
            shim.ended = true;
            shim.status = status;
        } else if (!shim.runtime_done && shim.n_reaped < SHIM_MAX_REAPED) {
            shim.reaped[shim.n_reaped].pid = pid;
            shim.reaped[shim.n_reaped++].status = status;
        }
    }
}

static void loop(int signals)
{
    struct signalfd_siginfo info;

    while (!shim.ended) {
        struct pollfd p[3] = { { signals, POLLIN, 0 },
                               { sources[0].fd, POLLIN, 0 },
                               { sources[1].fd, POLLIN, 0 } };
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < 2; i++)
            if (p[i + 1].revents)
                source_read(&sources[i]);
        if (p[0].revents & POLLIN && read(signals, &info, sizeof(info)) > 0)
            reap();
    }
}

/* The lock says that this shim lives; the text, who it is. */
static void hold_lock(void)
{
    char text[24], *p = shim_put_number(text, getpid(), 1);

    *p++ = '\n';
    shim.lock = open("shim.pid", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    shim_must(shim.lock, "shim.pid");
    shim_must(flock(shim.lock, LOCK_EX | LOCK_NB), "another shim lives");
    shim_must(ftruncate(shim.lock, 0), "shim.pid");
    shim_must(pwrite(shim.lock, text, (size_t)(p - text), 0) > 0 ? 0 : -1, "shim.pid");
}

static int run(const struct shim_args *a)
{
    sigset_t set;

    shim.ready = a->ready;
    fcntl(a->ready, F_SETFD, FD_CLOEXEC);
    for (int i = 0; i < a->held.n; i++)
        fcntl((int)shim_get_number(a->held.at[i]), F_SETFD, FD_CLOEXEC);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    umask(0077);
    shim_must(chdir(a->dir), a->dir);
    hold_lock();
    log_begin();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    shim_must(signals, "signalfd");
    umask(0022);
    start_runtime(a);
    umask(0077);
    shim_join_groups(&a->own_groups); /* takes milliseconds; the runtime is busy meanwhile */
    shim_oom_score("-900");
    loop(signals);
    source_drain(&sources[0]);
    source_drain(&sources[1]);
    save_exit(shim.status);
    return 0;
}

static void list_add(struct shim_list *l, const char *s)
{
    if (l->n < SHIM_MAX_LIST)
        l->at[l->n++] = s;
}

static bool parse(int argc, char **argv, struct shim_args *a)
{
    int i = 2;

    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        const char *v = argv[i + 1];

        if (argv[i][0] != '-' || !argv[i][1] || argv[i][2])
            return false;
        switch (argv[i][1]) {
        case 'd':
            a->dir = v;
            break;
        case 'b':
            a->bundle = v;
            break;
        case 'r':
            a->ready = (int)shim_get_number(v);
            break;
        case 'c':
            list_add(&a->held, v);
            break;
        case 'm':
            a->mount = (int)shim_get_number(v);
            break;
        case 'u':
            a->userns = (int)shim_get_number(v);
            break;
        case 'n':
            a->netns = (int)shim_get_number(v);
            break;
        case 'f':
            a->files = (int)shim_get_number(v);
            break;
        case 'v':
            a->disk = (int)shim_get_number(v);
            break;
        case 'x':
            list_add(&a->hidden, v);
            break;
        case 's':
            list_add(&a->own_groups, v);
            break;
        case 'g':
            list_add(&a->groups, v);
            break;
        case 'o':
            a->end_file = v;
            break;
        case 'i':
            a->init = v;
            break;
        case 't':
            a->timeout_ms = shim_get_number(v);
            break;
        case 'e':
            a->owner = shim_get_number(v);
            break;
        case 'k':
            a->kill_rest = true;
            break;
        default:
            return false;
        }
    }
    a->runtime = argv + i + 1;
    return i + 1 < argc;
}

int main(int argc, char **argv)
{
    struct shim_args a = {
        .ready = -1, .mount = -1, .userns = -1, .netns = -1, .files = -1, .disk = -1
    };

    if (argc < 3 || !parse(argc, argv, &a))
        return 2;
    if (strcmp(argv[1], "exec") == 0 && a.end_file && a.init && (!a.dir || a.bundle))
        return shim_exec(&a);
    if (strcmp(argv[1], "run") == 0 && a.dir && a.bundle && a.ready >= 0)
        return run(&a);
    return 2;
}
