/* SPDX-License-Identifier: Apache-2.0 */
/* Images as the hosts have them: a row that is not ready yet asks the host's store again and again
 * how far it is, and shows that; one that is deleted goes with its last instance. */
#include "codec/text.h"
#include "services/compute/compute_private.h"
#include "services/identity/identity.h"

enum {
    IMAGE_POLL_MS = 250,
    STILL_HOURS = 2, /* without any progress */
    SHARE_BYTES = 8
};

static const char sql_waiting[] =
    "SELECT id FROM instances WHERE image_id = $1 AND status IN ('pending', 'provisioning')";

struct waiting {
    struct arena *arena;
    struct uuid *ids;
    size_t n, cap;
};

static int waiting_add(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct waiting *w = ctx;

    w->ids = arena_more(w->arena, w->ids, w->n, &w->cap, sizeof(*w->ids));
    snprintf(w->ids[w->n++].s, sizeof(struct uuid), "%s", cols[0].s);
    return 0;
}

/* By the tenant's plan, which a visit does not know. */
static int visit_quota(struct call *c, int64_t n, struct err *e)
{
    struct principal who = *c->who;
    struct call of_tenant = *c;

    const char *plan;

    TRY(identity_plan(c->db, c->arena, &c->tenant, &plan, e));
    snprintf(who.plan, sizeof(who.plan), "%s", plan);
    of_tenant.who = &who;
    return quota_take(&of_tenant, &quota_image_bytes, n, e);
}

/* What is more than the tenant may have is an error, and no bytes of his. */
static int image_count(struct call *c, const struct image *old, struct image *now, struct err *e)
{
    if (visit_quota(c, image_own_bytes(now) - image_own_bytes(old), e) == 0)
        return 0;
    if (e->code != ERR_QUOTA_EXCEEDED)
        return -1;
    now->status = IMAGE_ROW_ERROR;
    now->status_reason = arena_strdup(c->arena, e->msg);
    now->digest = NULL;
    now->size_bytes = now->progress = 0;
    return visit_quota(c, -image_own_bytes(old), e);
}

/* Writes what the store says; instances that waited for the image are visited at once. */
static int image_moved(struct visit *v, struct call *c, void *arg, struct err *e)
{
    const struct image *old = v->row;
    struct image said = *(const struct image *)arg, *now = &said;
    struct waiting w = { .arena = v->arena };

    TRY(image_count(c, old, now, e));
    TRY(call_update(c, &image_record, old, now,
                    FIELD_SET(image, status, status_reason, digest, size_bytes, progress), e));
    if (now->status != IMAGE_ROW_READY && now->status != IMAGE_ROW_ERROR)
        return 0;
    TRY(db_each(c->db, sql_waiting, ARGS(A(&old->id)), waiting_add, &w, e));
    for (size_t i = 0; i < w.n; i++)
        TRY(call_due(c, &instance_loop, &w.ids[i], c->now, e));
    return 0;
}

/* '*ran' is false when the row was changed meanwhile: come again. */
static int image_save(struct visit *v, struct image *now, bool *ran, struct err *e)
{
    const struct image *old = v->row;

    *ran = true;
    if (old->status == now->status && old->progress == now->progress &&
        same_text(old->status_reason, now->status_reason))
        return 0;
    return visit_write(v, image_moved, now, ran, e);
}

/* An import lives in the request that uploads it; one whose request is gone has failed, and none of
 * its bytes stay. */
static int import_visit(struct visit *v, struct image *now, struct err *e)
{
    const char *name = image_store_name(v->arena, now);
    struct image_state st;
    bool ran;

    if (now->status == IMAGE_ROW_BUILDING && v->now >= now->updated_at + HOURS(IMPORT_HOURS)) {
        TRY(image_inspect(app_images(v->app, v->mode), v->arena, name, &st, e));
        if (st.status == IMAGE_BUILDING) /* slow, but alive */
            return visit_again(v, SECONDS(60));
        now->status = IMAGE_ROW_ERROR;
        now->status_reason = "the upload was interrupted";
        TRY(image_save(v, now, &ran, e));
        if (!ran)
            return visit_again(v, 0);
    }
    if (now->status == IMAGE_ROW_ERROR)
        TRY(image_remove(app_images(v->app, v->mode), name, e));
    return visit_settled(v);
}

static const char sql_wanted[] =
    "SELECT count(*) FROM images WHERE name = $1 AND mode = $2 AND status <> 'error'";

static int pulled_remove(struct visit *v, enum mode mode, struct err *e)
{
    struct image_store *s = app_images(v->app, mode);
    const char *text = enum_to_str(mode_names, (int)mode);
    struct image_state *all;
    int64_t users;
    size_t n;

    TRY(image_list(s, v->arena, &all, &n, e));
    for (size_t i = 0; i < n; i++) {
        if (all[i].status == IMAGE_BUILDING || strcmp(all[i].source, "registry") != 0)
            continue;
        TRY(db_int(v->db, sql_wanted, ARGS(A(all[i].name), A(text)), 0, &users, e));
        if (users == 0)
            TRY(image_remove(s, all[i].name, e));
    }
    return 0;
}

/* What registries gave is one for all tenants: it goes with the last row of its name.  No row waits
 * for that: the next one that goes tries again. */
static void pulled_collect(struct visit *v, enum mode mode)
{
    struct err e;

    if (pulled_remove(v, mode, &e) < 0)
        log_err(LOG_WARN, "pulled_images_stay", &e);
}

static int image_end(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    return image_erase(c, v->row, e);
}

static int image_late(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    const struct image *old = v->row;
    struct image now = *old;

    now.status = IMAGE_ROW_ERROR;
    now.status_reason =
        "it was not deleted in time: instances of it are not gone; it goes with them";
    return call_update(c, &image_record, old, &now, FIELD_SET(image, status, status_reason), e);
}

/* It was deleted, and goes with the last instance of it. */
static int deleting_visit(struct visit *v, const struct image *now, struct err *e)
{
    bool ran = true;
    int64_t users;

    TRY(image_users(v->db, &now->id, &users, e));
    if (users == 0) {
        TRY(visit_write(v, image_end, NULL, &ran, e));
        return visit_again(v, 0);
    }
    if (now->status != IMAGE_ROW_ERROR && v->now > now->deleted_at + MINUTES(DELETION_MINUTES))
        TRY(visit_write(v, image_late, NULL, &ran, e));
    return visit_again(v, ran ? SECONDS(DELETION_LOOK_SECONDS) : 0);
}

/* Whose turn it takes at the host, which is to know no tenants. */
static const char *share_name(struct arena *a, const struct image *i)
{
    char *text = arena_alloc(a, 2 * SHARE_BYTES + 1);
    uint8_t sum[32];

    sha256(i->tenant_id.s, strlen(i->tenant_id.s), sum);
    hex_encode(sum, SHARE_BYTES, text);
    return text;
}

static int image_visit(struct visit *v, struct err *e)
{
    static const enum mode modes[] = { MODE_LIVE, MODE_TEST };
    struct image now;
    struct image_state st;
    bool ran;

    if (!v->row) {
        const char *name = arena_printf(v->arena, "img-%s", v->id.s);

        /* The row is gone, and with it whether the store was a real one. */
        for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
            TRY(image_remove(app_images(v->app, modes[m]), name, e));
            pulled_collect(v, modes[m]);
        }
        return visit_forget(v);
    }
    now = *(struct image *)v->row;
    if (now.deleted_at)
        return deleting_visit(v, &now, e);
    if (now.source == IMAGE_IMPORT)
        return import_visit(v, &now, e);
    if (now.status == IMAGE_ROW_READY || now.status == IMAGE_ROW_ERROR)
        return visit_settled(v);
    if (v->now > now.updated_at + HOURS(STILL_HOURS)) {
        now.status = IMAGE_ROW_ERROR;
        now.status_reason = "it was not made in time";
        TRY(image_save(v, &now, &ran, e));
        return ran ? visit_settled(v) : visit_again(v, 0);
    }
    TRY(image_ensure(app_images(v->app, v->mode), v->arena, now.name, share_name(v->arena, &now),
                     now.status == IMAGE_ROW_PENDING, &st, e));
    now.progress = st.progress;
    now.status_reason = st.step;
    if (st.status == IMAGE_READY) {
        now.status = IMAGE_ROW_READY;
        now.status_reason = NULL;
        now.digest = st.digest;
        now.size_bytes = st.size_bytes;
        now.progress = 100;
    } else if (st.status == IMAGE_FAILED) {
        now.status = IMAGE_ROW_ERROR;
        now.status_reason = st.reason;
    } else {
        now.status = IMAGE_ROW_BUILDING;
    }
    TRY(image_save(v, &now, &ran, e));
    if (!ran)
        return visit_again(v, 0);
    if (now.status == IMAGE_ROW_READY && now.source == IMAGE_REGISTRY)
        pulled_collect(v, now.mode); /* it may have been more than the quota */
    return now.status == IMAGE_ROW_BUILDING ? visit_again(v, MILLIS(IMAGE_POLL_MS))
                                            : visit_settled(v);
}

const struct reconciler image_loop = {
    .name = "image",
    .record = &image_record,
    .visit = image_visit,
    .budget = SECONDS(5),
    .backoff = { SECONDS(1), SECONDS(60) },
    .sweep = "SELECT id FROM images WHERE status IN ('pending', 'building') OR deleted_at > 0",
};
