/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the connection and the file.  Lines are in force as they come; they are on the disk when
 * nothing more comes at once. */
#include "planes/feed/follow.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "core/feed/feed.h"
#include "os/file.h"
#include "os/link.h"
#include "os/memory.h"
#include "os/thread.h"
#include "os/unixsock.h"

enum { PIECE = 64 << 10, OUT_MAX = 2 << 20, GROWTH = 1 << 20 };
static const int64_t PAUSE_MIN = MILLIS(20), PAUSE_MAX = SECONDS(2), REFUSED_PAUSE = SECONDS(10),
                     NOT_KEPT_PAUSE = SECONDS(60);

struct follow {
    struct follow_opts o;
    char *path, *installation;
    struct feed_taker taker;
    pthread_t thread;
    int quit;
    struct link *link;
    int file;                /* -1: nothing is kept now */
    bool unsynced;           /* it has something that may not be on the disk */
    struct buf out;          /* for it */
    size_t written, compact; /* bytes of it; how many of them were the snapshot */
    int64_t not_kept_since;  /* 0: it is kept */
};

/* ---- the file */

static void read_kept(struct follow *f)
{
    _cleanup_close_ int fd = openat(f->o.dir, "feed", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    struct err e = { 0 };

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
        return;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return;
    size_t used = feed_take_all(&f->taker, (struct str){ p, (size_t)st.st_size }, &e);
    munmap(p, (size_t)st.st_size);
    if (e.code)
        log_err(LOG_WARN, "kept_feed_damaged", &e);
    feed_take_broken(&f->taker);
    log_event(LOG_INFO, "kept_feed_read", L_INT("bytes", (int64_t)used),
              L_INT("revision", f->taker.revision));
}

static void close_file(struct follow *f)
{
    if (f->file >= 0)
        close(f->file);
    f->file = -1;
    f->unsynced = false;
    buf_free(&f->out);
    f->out = BUF(OUT_MAX);
}

/* What is known is in force; it is kept from the next snapshot on. */
static void not_kept(struct follow *f, int errnum)
{
    struct err e;

    err_sys(&e, errnum, "keep the feed");
    log_err(LOG_ERROR, "feed_not_kept", &e);
    close_file(f);
    f->not_kept_since = clock_mono(clock_system());
}

static void write_out(struct follow *f)
{
    struct err e;

    if (f->file < 0 || !f->out.n)
        return;
    if (fd_write_all(f->file, f->out.p, f->out.n, &e) < 0) {
        not_kept(f, errno);
        return;
    }
    f->written += f->out.n;
    f->unsynced = true;
    buf_clear(&f->out);
}

static void sync_file(struct follow *f)
{
    write_out(f);
    if (f->file >= 0 && f->unsynced && fdatasync(f->file) < 0)
        not_kept(f, errno);
    f->unsynced = false;
}

static void put_in_place(struct follow *f)
{
    write_out(f);
    if (f->file < 0)
        return;
    if (fsync(f->file) < 0 || renameat(f->o.dir, "feed.new", f->o.dir, "feed") < 0 ||
        fsync(f->o.dir) < 0) {
        not_kept(f, errno);
        return;
    }
    f->unsynced = false;
    f->compact = f->written;
    f->not_kept_since = 0;
}

static void keep(struct follow *f, enum feed_kind kind, const struct message *m)
{
    uint8_t head[FRAME_HEAD];

    if (kind == FEED_BEGIN) {
        close_file(f);
        f->written = 0;
        f->file = openat(f->o.dir, "feed.new",
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (f->file < 0)
            not_kept(f, errno);
    }
    if (f->file < 0)
        return;
    frame_encode_head(m->kind, m->stream, m->n, head);
    buf_put(&f->out, head, sizeof(head));
    buf_put(&f->out, m->p, m->n);
    if (kind == FEED_END)
        put_in_place(f);
    else if (f->out.n >= PIECE)
        write_out(f);
}

/* ---- the connection */

static int take_message(struct follow *f, const struct message *m, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct feed_line l;

    if (m->kind != FRAME_JSON || m->stream != FEED_STREAM)
        return err_set(e, ERR_INVALID, "the api says what is no feed");
    TRY(feed_line_read(&a, (struct str){ m->p, m->n }, &l, e));
    TRY(feed_take(&f->taker, &l, e));
    keep(f, l.kind, m);
    if (l.kind != FEED_END)
        return 0;
    memory_settle();
    log_event(LOG_INFO, "feed_followed", L_INT("revision", f->taker.revision));
    return 0;
}

/* Something of the file waits for a new snapshot: it has grown, or could not be written. */
static bool wants_snapshot(const struct follow *f)
{
    bool grown = f->file >= 0 && !f->taker.taking && f->written > 2 * f->compact + GROWTH;
    bool lost =
        f->not_kept_since && clock_mono(clock_system()) - f->not_kept_since > NOT_KEPT_PAUSE;

    return grown || lost;
}

/* 1: it says something; 0: nothing for so long; -1: we are to end. */
static int wait_for(struct follow *f, int fd, int64_t timeout)
{
    struct pollfd p[] = { { f->quit, POLLIN, 0 }, { fd, POLLIN | POLLRDHUP, 0 } };
    int ms = timeout < 0 ? -1 : (int)((timeout + 999) / 1000);

    if (poll(p, ARRAY_LEN(p), ms) < 0 && errno != EINTR)
        abort();
    return p[0].revents ? -1 : p[1].revents != 0;
}

static int listen_on(struct follow *f, struct err *e)
{
    for (;;) {
        bool pending = f->out.n || (f->unsynced && !f->taker.taking);
        int r = wait_for(f, f->link->fd, pending ? 0 : f->not_kept_since ? NOT_KEPT_PAUSE : -1);
        if (r < 0)
            return 0;
        if (r == 0) {
            if (f->taker.taking)
                write_out(f);
            else
                sync_file(f);
            if (wants_snapshot(f))
                return 0;
            continue;
        }
        struct message *m = link_receive(f->link, e);
        if (!m)
            return -1;
        r = take_message(f, m, e);
        free(m);
        TRY(r);
    }
}

static int meet(struct follow *f, struct err *e)
{
    struct timeval patience = { .tv_sec = 5 }; /* for the rest of a frame */
    int fd = unix_connect(f->path, UNIX_STREAM, e);
    uid_t uid;
    pid_t pid;

    TRY(fd);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    f->link = link_new(fd, "api");
    TRY(unix_peer(fd, &uid, &pid, e));
    if (uid != 0 && uid != f->o.api_uid)
        return err_set(e, ERR_FORBIDDEN, "user %d may not feed the edge", (int)uid);
    return link_greet(f->link, f->installation, e);
}

/* One connection, from its birth to its end. Returns the pause before the next. */
static int64_t follow_once(struct follow *f, int64_t pause)
{
    struct err e = { 0 };
    int r = meet(f, &e);
    bool met = r == 0;

    if (met)
        r = listen_on(f, &e);
    if (f->link) {
        link_break(f->link);
        link_unref(TAKE(f->link));
    }
    feed_take_broken(&f->taker);
    sync_file(f);
    close_file(f);
    if (r == 0)
        return PAUSE_MIN;
    if (e.code == ERR_INVALID_STATE || e.code == ERR_FORBIDDEN || e.code == ERR_INVALID) {
        log_err(LOG_ERROR, "feed_refused", &e);
        return REFUSED_PAUSE;
    }
    log_err(met ? LOG_INFO : LOG_DEBUG, "feed_lost", &e);
    return met ? PAUSE_MIN : MIN(MAX(pause * 2, PAUSE_MIN), PAUSE_MAX);
}

static void *run(void *arg)
{
    struct follow *f = arg;
    int64_t pause = PAUSE_MIN;

    do
        pause = follow_once(f, pause);
    while (wait_for(f, -1, pause) == 0);
    return NULL;
}

/* ---- its life */

struct follow *follow_new(const struct follow_opts *o)
{
    struct follow *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->o = *o;
    f->path = strdup(o->socket_path);
    f->installation = strdup(o->installation);
    f->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!f->path || !f->installation || f->quit < 0)
        abort();
    f->taker = (struct feed_taker){ .sinks = o->sinks, .n = o->n_sinks };
    f->file = -1;
    f->out = BUF(OUT_MAX);
    read_kept(f);
    f->thread = thread_start("feed", run, f);
    return f;
}

void follow_free(struct follow *f)
{
    uint64_t one = 1;

    if (!f)
        return;
    if (write(f->quit, &one, sizeof(one)) < 0)
        abort();
    pthread_join(f->thread, NULL);
    close_file(f);
    buf_free(&f->out);
    close(f->quit);
    free(f->path);
    free(f->installation);
    free(f);
}
