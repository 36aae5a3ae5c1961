/* SPDX-License-Identifier: Apache-2.0 */
/* Images as tenants see them: a row a name.  The bytes are the hosts'. */
#include "codec/id.h"
#include "services/compute/compute_private.h"

enum { NAME_MAX_BYTES = 255 };

static const struct enum_name source_names[] = {
    { IMAGE_RECIPE, "recipe" }, { IMAGE_REGISTRY, "registry" }, { IMAGE_IMPORT, "import" }, { 0 }
};
static const struct enum_name status_names[] = {
    { IMAGE_ROW_PENDING, "pending" },   { IMAGE_ROW_BUILDING, "building" },
    { IMAGE_ROW_READY, "ready" },       { IMAGE_ROW_ERROR, "error" },
    { IMAGE_ROW_DELETING, "deleting" }, { 0 }
};

/* A recipe's or local name, or what registries call a reference: host[:port]/path[:tag][@digest].
 */
static const char *check_image_name(struct arena *a _unused_, const char **v)
{
    const char *s = *v;

    if (strncmp(s, "docker://", 9) == 0)
        s += 9;
    if (strncmp(s, "img-", 4) == 0)
        return "must not begin with 'img-': the hosts name what tenants import like that";
    if (s[0] == '\0' || strchr("-./:@_", s[0]) || strstr(s, "..") || strstr(s, "//") ||
        s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/:@")])
        return "must be the name of an image such as nginx or registry.example/team/app:1.2";
    if (id_looks_like(str_of(s)))
        return "must not look like an id";
    return NULL;
}

static const struct form form_image = {
    .check = check_image_name,
    .pattern = "^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
    .example = "nginx",
};

static const char *check_local_name(struct arena *a, const char **v)
{
    if (strpbrk(*v, "/:@"))
        return "must not contain '/', ':' or '@', which names of registries have";
    return check_image_name(a, v);
}

static const struct form form_local_image = {
    .check = check_local_name,
    .pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$",
    .example = "shop-web",
};

/* clang-format off */
#define T struct image
static const struct field image_fields[] = {
    OWNED_FIELDS(T),
    FIELD_STR (T, name,          FF_CREATE | FF_REQUIRED | FF_FILTER | FF_SORT, .min = 1, .max = NAME_MAX_BYTES, .form = &form_image,
                                 .doc = "A built-in recipe (nginx), or a registry's reference (host/name:tag)."),
    FIELD_ENUM(T, source,        enum image_source, FF_FILTER, .names = source_names, .doc = "recipe, registry or import."),
    FIELD_ENUM(T, status,        enum image_row_status, FF_FILTER, .names = status_names, .doc = "pending, building, ready or error; or deleting, until its last instances have gone."),
    FIELD_STR (T, status_reason, 0, .max = 500, .doc = "What is being done, or why it failed."),
    FIELD_STR (T, digest,        0, .doc = "Digest of the manifest."),
    FIELD_INT (T, size_bytes,    0, .doc = "Bytes of its layers."),
    FIELD_INT (T, progress,      0, .doc = "Percent."),
    FIELD_MAP (T, tags,          FF_CREATE | FF_UPDATE | FF_CLEAR, .doc = "Labels of your own."),
    FIELD_INT (T, archive_bytes, 0, .doc = "Bytes of what was imported, which /images/{id}/archive gives back; 0: that is not kept."),
    FIELD_UUID(T, archive_id,    FF_HIDDEN, .doc = "Where that is."),
    FIELD_INT (T, deleted_at,    FF_HIDDEN, .doc = "When its deletion was asked for."),
};
#undef T
/* clang-format on */
#define GB(n) ((int64_t)(n) << 30)
const struct quota quota_images = { "images", { 5, 20, 100, 500, 10000 } };
/* Of imports and of what registries gave; built-in images are everybody's. */
const struct quota quota_image_bytes = { "image_bytes",
                                         { GB(2), GB(20), GB(100), GB(500), GB(10240) } };
const struct record image_record =
    RECORD(image, "images", image_fields, .prefix = "img", .arn_service = "compute",
           .arn_type = "image", .quota = &quota_images);

enum import_format { IMPORT_OCI = 1, IMPORT_ROOTFS };
static const struct enum_name format_names[] = { { IMPORT_OCI, "oci" },
                                                 { IMPORT_ROOTFS, "rootfs" },
                                                 { 0 } };

struct image_import_args {
    const char *name, *cmd;
    enum import_format format;
    bool archive;
};
/* clang-format off */
static const struct field image_import_fields[] = {
    FIELD_STR (struct image_import_args, name,   FF_CREATE | FF_REQUIRED, .min = 1, .max = 64, .form = &form_local_image, .doc = "Its name in your tenant."),
    FIELD_ENUM(struct image_import_args, format, enum import_format, FF_CREATE, .names = format_names, .dflt = IMPORT_OCI, .doc = "An OCI or docker archive, or a tarball of files (rootfs)."),
    FIELD_STR (struct image_import_args, cmd,    FF_CREATE, .max = 4096, .doc = "Command of a rootfs as a JSON list; [\"/bin/sh\"] if left out."),
    FIELD_BOOL(struct image_import_args, archive, FF_CREATE, .dflt = 1, .doc = "Keeps the archive too, for GET /images/{id}/archive; its bytes count as the image's do."),
};
/* clang-format on */
const struct record image_import_query = RECORD(image_import_args, NULL, image_import_fields);

struct image_recipe_row {
    const char *name, *doc, *status;
    int64_t progress;
};
/* clang-format off */
static const struct field image_recipe_fields[] = {
    FIELD_STR(struct image_recipe_row, name,     FF_ALWAYS, .doc = "What to launch."),
    FIELD_STR(struct image_recipe_row, doc,      FF_ALWAYS, .doc = "What is in it."),
    FIELD_STR(struct image_recipe_row, status,   FF_ALWAYS, .doc = "absent (built when first used), building, ready or failed."),
    FIELD_INT(struct image_recipe_row, progress, 0, .doc = "Percent."),
};
/* clang-format on */
const struct record image_recipe_record = RECORD(image_recipe_row, NULL, image_recipe_fields);

const char *image_store_name(struct arena *a, const struct image *i)
{
    return i->source == IMAGE_IMPORT ? arena_printf(a, "img-%s", i->id.s) : i->name;
}

static bool is_recipe(const char *name)
{
    for (const struct image_recipe *r = image_recipes; r->name; r++)
        if (strcmp(r->name, name) == 0)
            return true;
    return false;
}

int64_t image_own_bytes(const struct image *i)
{
    return i->source == IMAGE_RECIPE ? 0 : i->size_bytes;
}

/* ---- handlers */

static int image_make(struct call *c, struct image *i, struct err *e)
{
    i->source = is_recipe(i->name) ? IMAGE_RECIPE : IMAGE_REGISTRY;
    i->status = IMAGE_ROW_PENDING;
    TRY(call_insert(c, &image_record, i, e));
    return call_due(c, &image_loop, &i->id, c->now, e);
}

int image_create(struct call *c, struct err *e)
{
    struct image *i = c->in;

    TRY(image_make(c, i, e));
    return reply_row(c, &image_record, i);
}

static const char sql_by_id[] = "SELECT @ FROM images WHERE id = $1 /*pg: FOR UPDATE */";

static int try_again(struct call *c, struct image *i, struct err *e)
{
    struct image old = *i;

    i->status = IMAGE_ROW_PENDING;
    i->status_reason = NULL;
    TRY(call_update(c, &image_record, &old, i, FIELD_SET(image, status, status_reason), e));
    return call_due(c, &image_loop, &i->id, c->now, e);
}

int image_retry(struct call *c, const struct uuid *id, struct err *e)
{
    struct image i;

    TRY(db_one(c->db, c->arena, &image_record, sql_by_id, ARGS(A(id)), &i, e));
    return i.status == IMAGE_ROW_ERROR && i.source != IMAGE_IMPORT ? try_again(c, &i, e) : 0;
}

/* It failed before: a new launch is a new try. */
static int image_usable(struct call *c, struct image *i, struct err *e)
{
    if (i->status != IMAGE_ROW_ERROR)
        return 0;
    if (i->source == IMAGE_IMPORT)
        return err_set(e, ERR_INVALID_STATE, "image '%s' was not imported: %s", i->name,
                       i->status_reason ? i->status_reason : "import it anew");
    return try_again(c, i, e);
}

/* What a project has imported is its own; recipes and registries are there for all. */
static bool of_another_project(const struct call *c, const struct image *i)
{
    return i->source == IMAGE_IMPORT && !uuid_is_nil(&c->who->project_id) &&
           !uuid_eq(&c->who->project_id, &i->project_id);
}

void image_check(struct call *c, const char *name)
{
    struct uuid id;

    if (id_parse((struct str){ name, strlen(name) }, image_record.prefix, &id) == ID_OK)
        return;
    const char *fault = check_image_name(c->arena, &name);
    if (fault)
        fault_add(c, "image", "malformed", "%s", fault);
}

int image_for_launch(struct call *c, const char *name, struct image *out, struct err *e)
{
    struct uuid id;

    if (id_parse((struct str){ name, strlen(name) }, image_record.prefix, &id) == ID_OK) {
        TRY(call_ref(c, &image_record, "image", &id, out, e));
        return image_usable(c, out, e);
    }
    int found = call_find(c, image, name, name, out, e);
    TRY(found);
    if (!found) {
        *out = (struct image){ .name = name };
        int rc = image_make(c, out, e);
        if (rc < 0 && e->code == ERR_ALREADY_EXISTS)
            e->code = ERR_BUSY; /* another launch has just made it: run again and find it */
        return rc;
    }
    if (of_another_project(c, out))
        return err_set(e, ERR_NOT_FOUND, "There is no such image: image");
    return image_usable(c, out, e);
}

static const char sql_users[] = "SELECT (SELECT count(*) FROM instances WHERE image_id = $1) +"
                                " (SELECT count(*) FROM unit_instances WHERE image_id = $1)";

int image_users(struct db *db, const struct uuid *id, int64_t *out, struct err *e)
{
    return db_int(db, sql_users, ARGS(A(id)), 0, out, e);
}

static const char sql_staying[] =
    "SELECT (SELECT count(*) FROM instances WHERE image_id = $1 AND deleted_at = 0) +"
    " (SELECT count(*) FROM unit_instances WHERE image_id = $1 AND deleted_at = 0)";

int image_erase(struct call *c, const struct image *i, struct err *e)
{
    TRY(call_delete(c, &image_record, i, e));
    TRY(quota_take(c, &quota_image_bytes, -image_own_bytes(i), e));
    if (!uuid_is_nil(&i->archive_id))
        TRY(blob_drop(c, &i->archive_id, &quota_image_bytes, e));
    return call_due(c, &image_loop, &i->id, c->now, e);
}

int image_delete(struct call *c, struct err *e)
{
    const struct record *r = &image_record;
    struct image old, i;
    int64_t users;

    TRY(call_target(c, r, &old, e));
    TRY(db_int(c->db, sql_staying, ARGS(A(&old.id)), 0, &users, e));
    if (users > 0)
        return err_set(e, ERR_INVALID_STATE, "image '%s' is in use by %lld instance%s", old.name,
                       (long long)users, users == 1 ? "" : "s");
    TRY(image_users(c->db, &old.id, &users, e));
    if (users == 0) {
        TRY(image_erase(c, &old, e));
        return reply_deleted(c, "image deleted");
    }
    if (!old.deleted_at) {
        i = old;
        i.status = IMAGE_ROW_DELETING;
        i.status_reason = "waiting for the last instances of it to be gone";
        i.deleted_at = c->now;
        TRY(call_update(c, r, &old, &i, FIELD_SET(image, status, status_reason, deleted_at), e));
        TRY(call_due(c, &image_loop, &i.id, c->now, e));
    }
    return reply_deleted(c, "image is being deleted");
}

/* Who deletes it beside this has committed, or counts without the instance that goes here. */
static const char sql_deleted[] = "SELECT deleted_at FROM images WHERE id = $1 /*pg: FOR SHARE */";

int image_left(struct call *c, const struct uuid *id, struct err *e)
{
    int64_t deleted;

    TRY(db_int(c->db, sql_deleted, ARGS(A(id)), 0, &deleted, e));
    return deleted ? call_due(c, &image_loop, id, c->now, e) : 0;
}

int image_recipes_route(struct call *c, struct err *e)
{
    struct image_store *s = app_images(c->app, c->who->mode);
    size_t n = 0;

    while (image_recipes[n].name)
        n++;
    struct image_recipe_row *rows = arena_new_n(c->arena, struct image_recipe_row, n);
    for (size_t i = 0; i < n; i++) {
        struct image_state st;

        TRY(image_inspect(s, c->arena, image_recipes[i].name, &st, e));
        rows[i] = (struct image_recipe_row){
            .name = image_recipes[i].name,
            .doc = image_recipes[i].doc,
            .status = enum_to_str(image_status_names, (int)st.status),
            .progress = st.progress,
        };
    }
    return reply_rows(c, &image_recipe_record, &(struct rows){ rows, n });
}

/* ---- import: the row first, the bytes next, then what became of them */

static uint64_t import_fields(void)
{
    return FIELD_SET(image, status, status_reason, digest, size_bytes, progress, archive_id,
                     archive_bytes);
}

/* What the first run of this request had made, where that run was cut short: 1 if it is there. */
static int import_again(struct call *c, struct err *e)
{
    struct image *i = c->in, old;
    struct uuid id;
    struct rows got;

    if (!call_resumed(c, &id) || uuid_is_nil(&id))
        return 0;
    TRY(db_query(c->db, c->arena, &image_record, sql_by_id, ARGS(A(&id)), &got, e));
    if (got.n == 0 || ((struct image *)got.v)->deleted_at)
        return 0;
    old = *(struct image *)got.v;
    i->id = old.id;
    TRY(call_get(c, &image_record, &i->id, i, e));
    i->status = IMAGE_ROW_BUILDING;
    i->status_reason = "being imported again";
    TRY(call_update(c, &image_record, &old, i, import_fields(), e));
    return 1;
}

static int import_begin(struct call *c, struct err *e)
{
    struct image *i = c->in;
    int again = import_again(c, e);

    TRY(again);
    if (again)
        return call_due(c, &image_loop, &i->id, c->now + HOURS(IMPORT_HOURS), e);
    TRY(call_insert(c, &image_record, i, e));
    return call_due(c, &image_loop, &i->id, c->now + HOURS(IMPORT_HOURS), e);
}

/* The row of this import, if nobody has deleted it meanwhile. */
static int import_row(struct call *c, struct image *out, struct err *e)
{
    struct image *i = c->in;

    TRY(call_get(c, &image_record, &i->id, out, e));
    return out->deleted_at
               ? err_set(e, ERR_NOT_FOUND, "image '%s' was deleted while it was uploaded", i->name)
               : 0;
}

/* The row goes, or says what was wrong where an instance waits for it; the loop removes what the
 * host has got of it. */
static int import_failed(struct call *c, struct err *e)
{
    struct image *i = c->in, old;
    int64_t users;

    TRY(import_row(c, &old, e));
    TRY(image_users(c->db, &i->id, &users, e));
    if (users > 0) {
        i->status = IMAGE_ROW_ERROR;
        TRY(call_update(c, &image_record, &old, i, import_fields(), e));
        return call_due(c, &image_loop, &i->id, c->now, e);
    }
    return image_erase(c, &old, e);
}

static int import_done(struct call *c, struct err *e)
{
    struct image *i = c->in, old;
    const struct kept_blob *archive = c->checked;

    TRY(import_row(c, &old, e));
    TRY(quota_take(c, &quota_image_bytes, i->size_bytes - image_own_bytes(&old), e));
    if (archive) {
        TRY(blob_keep(c, archive, &quota_image_bytes, e));
        i->archive_id = archive->id;
        i->archive_bytes = archive->size;
    }
    TRY(call_update(c, &image_record, &old, i, import_fields(), e));
    return reply_row(c, &image_record, i);
}

/* The image was deleted while it was uploaded: the loop removes its bytes. */
static int import_left(struct call *c, struct err *e)
{
    return call_due(c, &image_loop, &((struct image *)c->in)->id, c->now, e);
}

static void import_undo(struct call *c, int (*how)(struct call *c, struct err *e))
{
    struct err e;

    if (call_write(c, how, &e) < 0 && e.code != ERR_NOT_FOUND)
        log_err(LOG_WARN, "image_import_not_undone", &e);
}

/* It is larger than its tenant may have: nothing of it stays. */
static void import_refused(struct call *c, const struct err *why)
{
    struct image *i = c->in;
    struct err e;

    if (image_remove(app_images(c->app, c->who->mode), image_store_name(c->arena, i), &e) < 0)
        log_err(LOG_WARN, "image_bytes_stay", &e); /* the loop tries again */
    i->status = IMAGE_ROW_ERROR;
    i->status_reason = arena_strdup(c->arena, why->msg);
    i->digest = NULL;
    i->size_bytes = i->progress = i->archive_bytes = 0;
    i->archive_id = (struct uuid){ "" };
    import_undo(c, import_failed);
}

static ssize_t import_read(void *ctx, void *p, size_t n, struct err *e)
{
    return body_read(ctx, p, n, e);
}

void image_import_check(struct call *c)
{
    const struct image_import_args *q = c->query;
    struct texts words;

    if (!q->cmd || !q->format)
        return;
    if (q->format != IMPORT_ROOTFS) {
        fault_add(c, "cmd", "not_allowed", "is for rootfs only: an OCI archive brings its own");
        return;
    }
    if (!texts_read(c->arena, q->cmd, &words) || !words.n || !words.v[0][0])
        fault_add(c, "cmd", "wrong_type", "must be a JSON list such as [\"/bin/sh\"]");
}

int image_import_admit(struct call *c, struct err *e)
{
    const struct image_import_args *q = c->query;
    struct image other;
    int taken = call_find(c, image, name, q->name, &other, e);

    TRY(taken);
    return taken ? err_set(e, ERR_ALREADY_EXISTS, "an image named '%s' exists already", q->name)
                 : 0;
}

int image_import_route(struct call *c, struct err *e)
{
    const struct image_import_args *q = c->query;
    struct image *i = arena_new(c->arena, struct image);
    const char *cmd = q->cmd ? q->cmd : "[\"/bin/sh\"]";
    bool rootfs = q->format == IMPORT_ROOTFS;
    struct image_state st;

    *i = (struct image){ .name = q->name,
                         .source = IMAGE_IMPORT,
                         .status = IMAGE_ROW_BUILDING,
                         .status_reason = "being imported" };
    c->in = i;
    TRY(call_write(c, import_begin, e));
    const char *config = rootfs ? arena_printf(c->arena, "{\"cmd\":%s}", cmd) : NULL;
    if (image_import(app_images(c->app, c->who->mode), c->arena, image_store_name(c->arena, i),
                     rootfs ? IMAGE_ROOTFS_TAR : IMAGE_OCI_ARCHIVE, config, import_read, c, &st,
                     e) < 0 ||
        body_end(c, e) < 0) {
        i->status_reason = arena_strdup(c->arena, e->msg);
        import_undo(c, import_failed);
        return -1;
    }
    if (q->archive) {
        struct kept_blob *archive = arena_new(c->arena, struct kept_blob);

        if (body_blob(c, archive, e) < 0) {
            import_refused(c, e);
            return -1;
        }
        c->checked = archive;
    }
    i->status = IMAGE_ROW_READY;
    i->status_reason = NULL;
    i->digest = st.digest;
    i->size_bytes = st.size_bytes;
    i->progress = 100;
    if (call_write(c, import_done, e) == 0)
        return 0;
    if (e->code == ERR_NOT_FOUND)
        import_undo(c, import_left);
    if (e->code == ERR_QUOTA_EXCEEDED)
        import_refused(c, e);
    return -1;
}

/* ---- what was imported, as it came */

static const char *archive_name(struct arena *a, const struct image *i)
{
    char *name = arena_printf(a, "%.64s.tar", i->name);

    for (char *p = name; *p; p++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", *p))
            *p = '_';
    return name;
}

int image_archive(struct call *c, struct err *e)
{
    struct image i;

    TRY(call_target(c, &image_record, &i, e));
    if (uuid_is_nil(&i.archive_id))
        return err_set(e, ERR_INVALID_STATE, "image '%s' has no archive: %s", i.name,
                       i.source == IMAGE_IMPORT
                           ? "it is not imported yet, or was without keeping it"
                           : "only what was imported has one");
    struct bytes_known k = { .name = archive_name(c->arena, &i) };
    return reply_blob(c, &i.archive_id, &k, e);
}
