/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how changes are found: the row core_feed_head gives each the next revision, and stays
 * locked until its commit, so revisions are seen in their order; core_feed keeps each row's last
 * one. */
#include "core/feed/feed.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/log.h"
#include "codec/id.h"
#include "core/feed/line.h"
#include "core/inside.h"
#include "core/request/request.h"
#include "os/link.h"
#include "os/unixsock.h"

enum { PAGE = 500, CHANGES = 256, BACKLOG_TEXT = 256 << 10, ID_NAME = 40 };

/* How long another process' commit stays unseen (PostgreSQL). */
static const int LOOK_MS = 1000, RETRY_MS = 1000;
/* An edge that does not read for so long comes anew when it does. */
static const struct timeval patience = { .tv_sec = 5 };

struct feed {
    struct app *app;
    pthread_t thread;
    bool serving;
    int wake, quit, listener;
    char *path, *installation;
    uid_t edge_uid;
    struct link *link; /* NULL: no edge */
    int64_t sent;      /* what the edge has */
    int64_t swept;
    char epoch[ID_NAME];
    atomic_bool followed;
};

/* ---- what services say */

static const char sql_next[] = "UPDATE core_feed_head SET revision = revision + 1 WHERE id = 1";
static const char sql_changed[] =
    "INSERT INTO core_feed (part, id, revision)"
    " SELECT $1, $2, revision FROM core_feed_head WHERE id = 1"
    " ON CONFLICT (part, id) DO UPDATE SET revision = excluded.revision";

int call_feed(struct call *c, const struct feed_part *part, const struct uuid *id, struct err *e)
{
    TRY(db_exec(c->db, sql_next, NO_ARGS, e));
    TRY(db_exec(c->db, sql_changed, ARGS(A(part->name), A(id)), e));
    c->p->commit.fed = true;
    return 0;
}

void feed_wake(struct app *app)
{
    uint64_t one = 1;

    if (write(app->feed->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

/* ---- the head */

static const char sql_head[] = "SELECT epoch, revision, swept FROM core_feed_head WHERE id = 1";
static const char sql_name[] = "UPDATE core_feed_head SET epoch = $1 WHERE id = 1 AND epoch = ''";
static const char sql_swept[] = "UPDATE core_feed_head SET swept = $1 WHERE id = 1 AND swept < $1";
static const char sql_sweep[] = "DELETE FROM core_feed WHERE revision <= $1";

struct head {
    char epoch[ID_NAME];
    int64_t revision, swept;
};

static int take_head(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct head *h = ctx;

    if (n != 3 || !c[0].s || c[0].n >= sizeof(h->epoch))
        return err_set(e, ERR_INTERNAL, "the store's feed is damaged");
    memcpy(h->epoch, c[0].s, c[0].n + 1);
    h->revision = c[1].i;
    h->swept = c[2].i;
    return 0;
}

static int read_head(struct feed *f, struct head *h, struct err *e)
{
    *h = (struct head){ "" };
    return db_each(store_any_reader(f->app->store), sql_head, NO_ARGS, take_head, h, e);
}

static int name_epoch(struct call *c, void *arg, struct err *e)
{
    return db_exec(c->db, sql_name, ARGS(A((const char *)arg)), e);
}

/* A store that has none yet, or was restored from a backup, begins an epoch. */
static int need_epoch(struct feed *f, struct head *h, struct err *e)
{
    struct uuid epoch;

    TRY(read_head(f, h, e));
    if (h->epoch[0])
        return 0;
    uuid_new(f->app->clock, &epoch);
    TRY(app_write(f->app, name_epoch, epoch.s, e));
    return read_head(f, h, e);
}

static int sweep(struct call *c, void *arg, struct err *e)
{
    const int64_t *upto = arg;

    TRY(db_exec(c->db, sql_swept, ARGS(A(*upto)), e));
    return db_exec(c->db, sql_sweep, ARGS(A(*upto)), e);
}

/* Twice what is kept is there at most. */
static int sweep_old(struct feed *f, const struct head *h, struct err *e)
{
    int64_t upto = h->revision - FEED_KEPT;

    return upto - h->swept < FEED_KEPT ? 0 : app_write(f->app, sweep, &upto, e);
}

/* ---- lines */

static int send_line(struct feed *f, const struct feed_line *l, struct err *e)
{
    struct buf b = BUF(FRAME_MAX);
    int r = -1;

    feed_line_write(l, &b);
    if (b.failed)
        err_set(e, ERR_TOO_LARGE, "a row of the feed is over %d bytes", FRAME_MAX);
    else
        r = link_send(f->link, FRAME_JSON, FEED_STREAM, buf_str(&b), e);
    buf_free(&b);
    return r;
}

static int send_rows(struct feed *f, const struct feed_part *p, const struct rows *rows,
                     int64_t revision, struct err *e)
{
    const char *row = rows->v;
    int r = 0;

    for (size_t i = 0; i < rows->n && r == 0;) {
        struct buf text = BUF(FRAME_MAX);
        struct json_out o = JSON_OUT(&text);

        json_open(&o, '[');
        for (; i < rows->n && text.n < BACKLOG_TEXT; i++)
            json_dump_row(&o, p->record, row + i * p->record->size);
        json_close(&o);
        if (json_done(&o) < 0)
            r = err_set(e, ERR_TOO_LARGE, "a row of the feed is over %d bytes", FRAME_MAX);
        else
            r = send_line(f,
                          &(struct feed_line){ .kind = FEED_ROWS,
                                               .revision = revision,
                                               .part = p->name,
                                               .rows = buf_cstr(&text) },
                          e);
        buf_free(&text);
    }
    return r;
}

static const struct feed_part *part_named(const struct feed *f, const char *name)
{
    for (const struct service *const *s = f->app->services; *s; s++)
        for (const struct feed_part *const *p = (*s)->feeds; p && *p; p++)
            if (strcmp((*p)->name, name) == 0)
                return *p;
    return NULL;
}

/* ---- the snapshot */

static int send_part(struct feed *f, const struct feed_part *p, struct err *e)
{
    struct uuid after = { "" };
    size_t n = PAGE;

    while (n == PAGE) {
        _cleanup_(arena_free) struct arena a = ARENA(DB_BYTES_MAX);
        const char *sql = arena_printf(&a,
                                       "SELECT @ FROM (%s) AS r WHERE id > $1"
                                       " ORDER BY id COLLATE \"C\" LIMIT %d",
                                       p->rows, PAGE);
        struct rows rows;

        TRY(db_query(store_any_reader(f->app->store), &a, p->record, sql,
                     ARGS(A((const char *)after.s)), &rows, e));
        TRY(send_rows(f, p, &rows, 0, e));
        n = rows.n;
        if (n)
            after = *FIELD_CAT((const char *)rows.v + (n - 1) * p->record->size,
                               record_field(p->record, "id"), struct uuid);
    }
    return 0;
}

/* What it holds may be of later than its revision, and comes again then. */
static int send_snapshot(struct feed *f, const struct head *h, struct err *e)
{
    struct feed_line begin = { .kind = FEED_BEGIN, .revision = h->revision, .epoch = h->epoch };
    struct feed_line end = { .kind = FEED_END, .revision = h->revision };

    TRY(send_line(f, &begin, e));
    for (const struct service *const *s = f->app->services; *s; s++)
        for (const struct feed_part *const *p = (*s)->feeds; p && *p; p++)
            TRY(send_part(f, *p, e));
    TRY(send_line(f, &end, e));
    f->sent = h->revision;
    memcpy(f->epoch, h->epoch, sizeof(f->epoch));
    atomic_store(&f->followed, true);
    return 0;
}

/* ---- changes */

struct change {
    char part[ID_NAME];
    struct uuid id;
    int64_t revision;
};
struct changes {
    struct change v[CHANGES];
    size_t n;
};

static const char sql_changes[] =
    "SELECT part, id, revision FROM core_feed WHERE revision > $1 ORDER BY revision LIMIT $2";

static int take_change(void *ctx, const struct col *c, size_t n, struct err *e)
{
    struct changes *all = ctx;
    struct change *x = &all->v[all->n];

    if (n != 3 || all->n == CHANGES || !c[0].s || c[0].n >= sizeof(x->part) || !c[1].s ||
        c[1].n >= sizeof(x->id.s))
        return err_set(e, ERR_INTERNAL, "the store's feed is damaged");
    memset(x, 0, sizeof(*x));
    memcpy(x->part, c[0].s, c[0].n);
    memcpy(x->id.s, c[1].s, c[1].n);
    x->revision = c[2].i;
    all->n++;
    return 0;
}

static int send_change(struct feed *f, const struct change *x, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(DB_BYTES_MAX);
    const struct feed_part *p = part_named(f, x->part);
    struct rows rows;

    if (!p) /* of a service that this release does not have */
        return 0;
    const char *sql = arena_printf(&a, "SELECT @ FROM (%s) AS r WHERE id = $1", p->rows);
    TRY(db_query(store_any_reader(f->app->store), &a, p->record, sql, ARGS(A(&x->id)), &rows, e));
    if (rows.n)
        return send_rows(f, p, &rows, x->revision, e);
    struct feed_line gone = {
        .kind = FEED_GONE, .revision = x->revision, .part = p->name, .id = x->id
    };
    return send_line(f, &gone, e);
}

/* The next of what the edge lacks. */
static int send_changes(struct feed *f, struct err *e)
{
    struct changes all = { .n = 0 };

    TRY(db_each(store_any_reader(f->app->store), sql_changes, ARGS(A(f->sent), A(CHANGES)),
                take_change, &all, e));
    for (size_t i = 0; i < all.n; i++) {
        TRY(send_change(f, &all.v[i], e));
        f->sent = all.v[i].revision;
    }
    if (!all.n) /* they have been swept: a snapshot says as much */
        atomic_store(&f->followed, false);
    return 0;
}

static bool lacks_too_much(const struct feed *f, const struct head *h)
{
    return !f->followed || h->swept > f->sent || h->revision < f->sent ||
           strcmp(h->epoch, f->epoch) != 0;
}

static int send_news(struct feed *f, struct err *e)
{
    struct head h;

    do {
        TRY(need_epoch(f, &h, e));
        if (lacks_too_much(f, &h))
            TRY(send_snapshot(f, &h, e));
        else if (f->sent < h.revision)
            TRY(send_changes(f, e));
    } while (f->sent < h.revision);
    return sweep_old(f, &h, e);
}

/* ---- its thread */

static void let_go(struct feed *f, const struct err *why)
{
    if (!f->link)
        return;
    if (why)
        log_err(LOG_INFO, "edge_lost", why);
    link_break(f->link);
    link_unref(TAKE(f->link));
    atomic_store(&f->followed, false);
}

static int greet(struct feed *f, int fd, struct err *e)
{
    uid_t uid;
    pid_t pid;

    let_go(f, NULL);
    f->link = link_new(fd, "edge");
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    TRY(unix_peer(fd, &uid, &pid, e));
    if (uid != 0 && uid != f->edge_uid)
        return err_set(e, ERR_FORBIDDEN, "user %d may not follow the feed", (int)uid);
    return link_greet(f->link, f->installation, e);
}

/* 0: go on, 1: the end. */
static int wait_for_news(struct feed *f, int timeout, bool *came)
{
    struct pollfd p[] = { { f->quit, POLLIN, 0 },
                          { f->wake, POLLIN, 0 },
                          { f->listener, POLLIN, 0 },
                          { f->link ? f->link->fd : -1, POLLIN | POLLRDHUP, 0 } };
    uint64_t some;
    struct err e;

    if (poll(p, ARRAY_LEN(p), timeout) < 0 && errno != EINTR)
        abort();
    if (p[0].revents)
        return 1;
    if (p[1].revents && read(f->wake, &some, sizeof(some)) < 0 && errno != EAGAIN)
        abort();
    if (p[3].revents) /* it has nothing to say but its end */
        let_go(f, NULL);
    *came = false;
    if (p[2].revents) {
        int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);

        *came = fd >= 0;
        if (fd >= 0 && greet(f, fd, &e) < 0)
            let_go(f, &e);
    }
    return 0;
}

static void *serve(void *arg)
{
    struct feed *f = arg;
    int timeout = -1;
    bool came;
    struct err e;

    while (wait_for_news(f, timeout, &came) == 0) {
        timeout = f->link && f->app->postgres ? LOOK_MS : -1;
        if (!f->link || send_news(f, &e) == 0)
            continue;
        if (link_broken(f->link)) {
            let_go(f, &e);
        } else { /* the store's fault, for now */
            log_err(LOG_WARN, "feed_not_read", &e);
            atomic_store(&f->followed, false);
            timeout = RETRY_MS;
        }
    }
    let_go(f, NULL);
    return NULL;
}

/* ---- its life */

struct feed *feed_new(struct app *app)
{
    struct feed *f = calloc(1, sizeof(*f));

    if (!f)
        abort();
    f->app = app;
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->listener = -1;
    if (f->wake < 0 || f->quit < 0)
        abort();
    return f;
}

int feed_serve(struct app *app, const struct feed_opts *o, struct err *e)
{
    struct feed *f = app->feed;

    /* Anyone may connect: who it is decides (SO_PEERCRED), not the file's mode. */
    f->listener = unix_listen(o->socket_path, UNIX_STREAM, 0666, e);
    TRY(f->listener);
    f->path = strdup(o->socket_path);
    f->installation = strdup(o->installation);
    if (!f->path || !f->installation)
        abort();
    f->edge_uid = o->edge_uid;
    f->serving = true;
    f->thread = thread_start("feed", serve, f);
    return 0;
}

void feed_close(struct app *app)
{
    struct feed *f = app->feed;
    uint64_t one = 1;

    if (!f->serving)
        return;
    f->serving = false;
    if (write(f->quit, &one, sizeof(one)) < 0)
        abort();
    pthread_join(f->thread, NULL);
    unlink(f->path);
    close(f->listener);
    f->listener = -1;
}

bool feed_followed(struct app *app)
{
    return atomic_load(&app->feed->followed);
}

void feed_free(struct feed *f)
{
    if (!f)
        return;
    close(f->wake);
    close(f->quit);
    free(f->path);
    free(f->installation);
    free(f);
}
