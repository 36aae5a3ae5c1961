/* SPDX-License-Identifier: Apache-2.0 */
/* Raw bodies on their way: into a nameless file, a piece at a time as it comes, so that no thread
 * waits for a peer.  The handler runs when all of it is there, and reads the file. */
#include <fcntl.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "core/request/request.h"
#include "os/file.h"

enum { PIECE = 64 * 1024, TURN_PIECES = 64, LOOK_EVERY = 8 << 20 };
/* So much of the disk is not for uploads: the store and the instances have to go on. */
enum { KEPT_PERCENT = 5 };
static const uint64_t KEPT_MOST = GIB(4);

struct spool {
    int fd;
    uint64_t size, looked; /* looked: size at which the disk is to be looked at again */
    off_t at;              /* the handler has read so far */
};

static int open_nameless(const char *dir, struct err *e)
{
    char path[4096];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd >= 0 ? fd : err_sys(e, errno, "open a file for an upload");
    snprintf(path, sizeof(path), "%s/.upload-XXXXXX", dir);
    if ((fd = mkostemp(path, O_CLOEXEC)) < 0)
        return err_sys(e, errno, "open a file for an upload");
    unlink(path);
    return fd;
}

static int look_at_disk(struct spool *s, struct err *e)
{
    struct statvfs v;

    if (s->size < s->looked)
        return 0;
    s->looked = s->size + LOOK_EVERY;
    if (fstatvfs(s->fd, &v) < 0)
        return err_sys(e, errno, "look at the disk of uploads");
    uint64_t all = (uint64_t)v.f_blocks * v.f_frsize, free = (uint64_t)v.f_bavail * v.f_frsize;
    if (free < MIN(all / 100 * KEPT_PERCENT, KEPT_MOST) + LOOK_EVERY)
        return err_set(e, ERR_NO_SPACE, "There is no room for uploads on this disk");
    return 0;
}

static int put(struct call_private *p, const char *bytes, size_t n, struct err *e)
{
    struct spool *s = p->spool;

    TRY(call_take(p, SHARE_UPLOAD_BYTES, (int64_t)n, e));
    TRY(look_at_disk(s, e));
    while (n > 0) {
        ssize_t put = write(s->fd, bytes, n);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return err_sys(e, errno, "write an upload");
        bytes += put;
        n -= (size_t)put;
        s->size += (uint64_t)put;
    }
    return 0;
}

static void spool_turn(void *ctx, void *worker _unused_)
{
    struct call_private *p = ctx;
    ssize_t n = 1;
    struct err e;
    char *piece = malloc(PIECE);

    if (!piece)
        abort();
    http_release();
    for (int i = 0; i < TURN_PIECES && n > 0; i++) {
        n = http_body_take(p->r, piece, PIECE, &e);
        if (n > 0 && put(p, piece, (size_t)n, &e) < 0)
            n = -1;
    }
    free(piece);
    int rc = 0;
    if (n == HTTP_BODY_LATER)
        http_body_more(p->r);
    else if (n > 0)
        rc = lane_take(p, LANE_BODY, spool_turn, &e);
    else if (n == 0)
        dispatch_run(p);
    if (n == -1 || rc < 0)
        call_finish(p, -1, &e);
}

/* On the I/O thread: there is something to take. */
static void something_came(void *ctx, struct http_req *r _unused_)
{
    struct call_private *p = ctx;
    struct err e;

    if (lane_take(p, LANE_BODY, spool_turn, &e) < 0)
        call_finish(p, -1, &e);
}

static void spool_begin(struct call_private *p)
{
    const struct route *route = p->c.route;
    const char *dir = p->c.app->config->state_dir;
    struct err e;
    int fd;

    if (call_take(p, SHARE_UPLOADS, 1, &e) < 0 || (fd = open_nameless(dir, &e)) < 0) {
        call_finish(p, -1, &e);
        return;
    }
    p->spool = arena_new(http_req_arena(p->r), struct spool);
    *p->spool = (struct spool){ .fd = fd };
    http_body_spool(p->r, route->body_max ? route->body_max : MIB(1), something_came, p);
}

static void admit_on_worker(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    struct err e = { 0 };
    struct db *db = worker_db(worker, &e);

    http_release();
    call_reset(p);
    p->c.db = db;
    int rc = db ? db_read_round(db, &e) : -1;
    if (rc == 0)
        rc = p->c.route->admit(&p->c, &e);
    if (rc < 0)
        call_finish(p, -1, &e);
    else
        spool_begin(p);
}

static void begin_on_worker(void *ctx, void *worker _unused_)
{
    http_release();
    spool_begin(ctx);
}

void spool_run(struct call_private *p)
{
    /* A key's record may hold the answer: then what there is now does not matter. */
    bool admit = p->c.route->admit && !p->idem.key;
    struct err e;

    /* To make a file may wait for the disk. */
    if (lane_take(p, admit ? LANE_READ : LANE_BODY, admit ? admit_on_worker : begin_on_worker, &e) <
        0)
        call_finish(p, -1, &e);
}

void spool_end(struct call_private *p)
{
    if (p->spool && p->spool->fd >= 0)
        close(TAKE_FD(p->spool->fd));
}

ssize_t body_read(struct call *c, void *to, size_t n, struct err *e)
{
    struct spool *s = c->p->spool;

    if (!s)
        return err_cause(e, ERR_INTERNAL, "a route without a raw body reads one", "internal error");
    ssize_t got = pread(s->fd, to, n, s->at);
    if (got < 0)
        return err_sys(e, errno, "read an upload");
    s->at += got;
    if (got > 0 || n > 0)
        idem_body_read(c->p, to, (size_t)got);
    return got;
}
