/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of blobs: which there are, whose, and which are to go.  Hides that a file's life goes on
 * behind its row's commit. */
#include "core/rows/blobs.h"
#include "base/log.h"
#include "core/request/request.h"
#include "core/service/blobs.h"

enum { SOME = 200 };

static struct metric blobs_files = METRIC(METRIC_GAUGE, "brume_blobs", "Blobs that are kept.");
static struct metric blobs_bytes = METRIC(METRIC_GAUGE, "brume_blob_bytes", "Their bytes.");

static const char sql_keep[] =
    "INSERT INTO core_blobs (id, tenant_id, size, sha256, md5, created_at, dropped_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, 0)";
static const char sql_drop[] =
    "UPDATE core_blobs SET dropped_at = $3"
    " WHERE id = $1 AND tenant_id = $2 AND dropped_at = 0 RETURNING size";
static const char sql_find[] = "SELECT size, sha256, md5, created_at FROM core_blobs"
                               " WHERE id = $1 AND tenant_id = $2 AND dropped_at = 0";
static const char sql_wanted[] = "SELECT COUNT(*) FROM core_blobs WHERE id = $1 AND dropped_at = 0";
static const char sql_dropped[] =
    "SELECT id FROM core_blobs WHERE dropped_at > 0 ORDER BY dropped_at LIMIT 200";
static const char sql_gone[] = "DELETE FROM core_blobs WHERE id = $1 AND dropped_at > 0";

struct blobs *app_blobs(struct app *app)
{
    return app->blobs;
}

int blob_done(struct blob_new *n, struct kept_blob *out, struct err *e)
{
    struct kept_blob b = { .size = blob_size(n) };

    TRY(blob_link(n, &b.id, &b.sums, e));
    *out = b;
    return 0;
}

int blob_keep(struct call *c, const struct kept_blob *b, const struct quota *q, struct err *e)
{
    const char *md5 = b->sums.md5[0] ? b->sums.md5 : NULL;
    const char *sha256 = b->sums.sha256[0] ? b->sums.sha256 : NULL;

    TRY(quota_take(c, q, b->size, e));
    return db_exec(c->db, sql_keep,
                   ARGS(A(&b->id), A(&c->tenant), A(b->size), A(sha256), A(md5), A(c->now)), e);
}

static int take_size(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    *(int64_t *)ctx = cols[0].i;
    return 0;
}

int blob_drop(struct call *c, const struct uuid *id, const struct quota *q, struct err *e)
{
    int64_t size = -1;

    TRY(db_each(c->db, sql_drop, ARGS(A(id), A(&c->tenant), A(c->now)), take_size, &size, e));
    if (size < 0)
        return err_set(e, ERR_NOT_FOUND, "these bytes are not there");
    c->p->commit.blobs_dropped = true;
    return quota_take(c, q, -size, e);
}

static int take_blob(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct kept_blob *b = ctx;

    b->size = cols[0].i;
    snprintf(b->sums.sha256, sizeof(b->sums.sha256), "%s", cols[1].s ? cols[1].s : "");
    snprintf(b->sums.md5, sizeof(b->sums.md5), "%s", cols[2].s ? cols[2].s : "");
    b->created_at = cols[3].i;
    return 0;
}

int blob_open(struct call *c, const struct uuid *id, struct kept_blob *out, int *fd, struct err *e)
{
    struct kept_blob b = { .id = *id, .size = -1 };

    TRY(db_each(c->db, sql_find, ARGS(A(id), A(&c->tenant)), take_blob, &b, e));
    if (b.size < 0)
        return err_set(e, ERR_NOT_FOUND, "these bytes are not there");
    int got = blob_fd(c->app->blobs, id, e);
    if (got < 0 && e->code == ERR_NOT_FOUND)
        return err_cause(e, ERR_INVALID_STATE, id->s,
                         "its bytes are gone: they were deleted after the backup was made that "
                         "this installation was restored from");
    if (got < 0)
        return -1;
    *out = b;
    *fd = got;
    return 0;
}

int reply_blob(struct call *c, const struct uuid *id, const struct bytes_known *k, struct err *e)
{
    struct bytes_known known = *k;
    struct kept_blob b;
    int fd;

    TRY(blob_open(c, id, &b, &fd, e));
    known.etag = arena_strdup(c->arena, b.sums.sha256[0] ? b.sums.sha256 : b.id.s);
    if (!known.modified)
        known.modified = b.created_at;
    return reply_file(c, &known, fd, b.size, e);
}

/* ---- what becomes of files */

static int wanted(void *ctx, const struct uuid *id, struct err *e)
{
    int64_t n;

    TRY(db_int(ctx, sql_wanted, ARGS(A(id)), 0, &n, e));
    return n > 0;
}

struct dropped {
    struct uuid ids[SOME];
    size_t n;
};

static int take_dropped(void *ctx, const struct col *cols, size_t n _unused_,
                        struct err *e _unused_)
{
    struct dropped *d = ctx;

    if (d->n < SOME)
        snprintf(d->ids[d->n++].s, sizeof(struct uuid), "%s", cols[0].s);
    return 0;
}

/* Their rows are the proof that the files may go, and go last. */
static int forget_rows(struct call *c, void *arg, struct err *e)
{
    const struct dropped *d = arg;

    for (size_t i = 0; i < d->n; i++)
        TRY(db_exec(c->db, sql_gone, ARGS(A(&d->ids[i])), e));
    return 0;
}

/* The number, or -1. */
static int remove_dropped(struct app *app, struct db *db, struct err *e)
{
    struct dropped d = { .n = 0 };

    TRY(db_each(db, sql_dropped, NO_ARGS, take_dropped, &d, e));
    for (size_t i = 0; i < d.n; i++)
        TRY(blob_unlink(app->blobs, &d.ids[i], e));
    if (d.n)
        TRY(app_write(app, forget_rows, &d, e));
    return (int)d.n;
}

static int count_all(struct db *db, struct err *e)
{
    int64_t n, bytes;

    TRY(db_int(db, "SELECT COUNT(*) FROM core_blobs WHERE dropped_at = 0", NO_ARGS, 0, &n, e));
    TRY(db_int(db,
               "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM core_blobs WHERE dropped_at = 0",
               NO_ARGS, 0, &bytes, e));
    metric_set(&blobs_files, n);
    metric_set(&blobs_bytes, bytes);
    return 0;
}

void blobs_tick(struct app *app, bool all, bool count)
{
    struct db *db = store_any_reader(app->store);
    bool moved = atomic_exchange(&app->blobs_left, false) | blobs_moved(app->blobs);
    bool dropped = atomic_exchange(&app->blobs_dropped, false);
    struct err e;
    int rc = 0;

    if (moved || all)
        rc = blobs_settle(app->blobs, SOME, wanted, db, &e);
    if (rc >= SOME)
        atomic_store(&app->blobs_left, true);
    if (rc >= 0 && (dropped || all) && !app->stopping)
        rc = remove_dropped(app, db, &e);
    if (rc >= SOME && (dropped || all))
        atomic_store(&app->blobs_dropped, true);
    if (rc >= 0 && count)
        rc = count_all(db, &e);
    if (rc < 0)
        log_err(LOG_WARN, "blobs_not_settled", &e);
}
