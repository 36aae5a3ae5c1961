/* SPDX-License-Identifier: Apache-2.0 */
/* Raw bodies on their way: into a new blob, a piece at a time as it comes, so that no thread waits
 * for a peer.  The handler runs when all of it is there, and reads it, or keeps it as it is. */
#include "base/log.h"
#include "core/blob/blob.h"
#include "core/request/request.h"
#include "core/service/blobs.h"

enum { PIECE = 64 * 1024, TURN_PIECES = 64 };

struct spool {
    struct blob_new *blob;
    int64_t most; /* bytes that its quota has left */
    int64_t at;   /* the handler has read so far */
};

static int over_quota(const struct call_private *p, int64_t left, struct err *e)
{
    return err_set(e, ERR_QUOTA_EXCEEDED, "quota '%s' has %lld left", p->c.route->body_quota->name,
                   (long long)left);
}

static int put(struct call_private *p, const char *bytes, size_t n, struct err *e)
{
    struct spool *s = p->spool;

    TRY(call_take(p, SHARE_UPLOAD_BYTES, (int64_t)n, e));
    if ((int64_t)n > s->most - blob_size(s->blob))
        return over_quota(p, s->most, e);
    return blob_append(s->blob, bytes, n, e);
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

static void spool_begin(struct call_private *p, int64_t most)
{
    const struct route *route = p->c.route;
    struct blob_new *blob;
    struct err e;

    if (call_take(p, SHARE_UPLOADS, 1, &e) < 0 ||
        !(blob = blob_begin(p->c.app->blobs, route->sums, &e))) {
        call_finish(p, -1, &e);
        return;
    }
    p->spool = arena_new(http_req_arena(p->r), struct spool);
    *p->spool = (struct spool){ .blob = blob, .most = most };
    http_body_spool(p->r, route->body_max ? route->body_max : MIB(1), something_came, p);
}

/* What can be said before the body is asked for. */
static int admit(struct call_private *p, int64_t *most, struct err *e)
{
    const struct route *route = p->c.route;

    if (route->admit)
        TRY(route->admit(&p->c, e));
    if (!route->body_quota)
        return 0;
    TRY(quota_left(&p->c, route->body_quota, most, e));
    return http_req_head(p->r)->content_length > *most ? over_quota(p, *most, e) : 0;
}

static void admit_on_worker(void *ctx, void *worker)
{
    struct call_private *p = ctx;
    int64_t most = INT64_MAX;
    struct err e = { 0 };
    struct db *db = worker_db(worker, &e);

    http_release();
    call_reset(p);
    p->c.db = db;
    int rc = db ? db_read_round(db, &e) : -1;
    if (rc == 0)
        rc = admit(p, &most, &e);
    if (rc < 0)
        call_finish(p, -1, &e);
    else
        spool_begin(p, most);
}

static void begin_on_worker(void *ctx, void *worker _unused_)
{
    http_release();
    spool_begin(ctx, INT64_MAX);
}

void spool_run(struct call_private *p)
{
    const struct route *route = p->c.route;
    /* A key's record may hold the answer: then what there is now does not matter. */
    bool asks = (route->admit || route->body_quota) && !p->idem.key;
    struct err e;

    /* To make a file may wait for the disk. */
    if (lane_take(p, asks ? LANE_READ : LANE_BODY, asks ? admit_on_worker : begin_on_worker, &e) <
        0)
        call_finish(p, -1, &e);
}

void spool_end(struct call_private *p)
{
    if (p->spool)
        blob_new_free(TAKE(p->spool->blob));
}

static int no_body(struct err *e)
{
    return err_cause(e, ERR_INTERNAL, "a route without a raw body reads one", "internal error");
}

ssize_t body_read(struct call *c, void *to, size_t n, struct err *e)
{
    struct spool *s = c->p->spool;

    if (!s)
        return no_body(e);
    ssize_t got = blob_read(s->blob, to, n, s->at, e);
    if (got < 0)
        return -1;
    s->at += got;
    if (got > 0 || n > 0)
        idem_body_read(c->p, to, (size_t)got);
    return got;
}

int body_blob(struct call *c, struct kept_blob *out, struct err *e)
{
    if (!c->p->spool)
        return no_body(e);
    if (c->p->idem.key) /* its record says which body it was for */
        TRY(body_end(c, e));
    c->p->body_over = true;
    return blob_done(c->p->spool->blob, out, e);
}
