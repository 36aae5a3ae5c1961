/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as handlers see them: bound to the caller's tenant, mode and project, stamped, counted by
 * revision, followed by their events.  Hides how ownership is checked: here and in crud.c only. */
#include "codec/id.h"
#include "core/request/request.h"
#include "core/rows/parent.h"
#include "core/rows/refs.h"

static const struct uuid *uuid_in(const struct record *r, const void *row, const char *name)
{
    const struct field *f = record_field(r, name);

    return f ? FIELD_CAT(row, f, struct uuid) : NULL;
}

/* True if the caller may know of this row. */
static bool visible(const struct call *c, const struct record *r, const void *row)
{
    const struct uuid *tenant = uuid_in(r, row, "tenant_id");
    const struct uuid *project = uuid_in(r, row, "project_id");
    const struct field *mode = record_field(r, "mode");

    if (call_is_system(c) && uuid_is_nil(&c->tenant))
        return true;
    if (tenant && !uuid_eq(tenant, &c->tenant))
        return false;
    if (mode && mode->type == F_ENUM && mode->names == mode_names &&
        *FIELD_CAT(row, mode, int) != (int)c->who->mode)
        return false;
    return !project || uuid_is_nil(&c->who->project_id) || uuid_eq(project, &c->who->project_id);
}

static int no_such(const struct record *r, struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "There is no such %s", r->name);
}

int call_stays(const struct record *r, const void *row, struct err *e)
{
    const struct field *at = record_field(r, "deleted_at"), *name = record_field(r, "name");

    if (!at || !*FIELD_CAT(row, at, int64_t))
        return 0;
    return err_set(e, ERR_INVALID_STATE, "%s '%s' is being deleted", r->name,
                   name ? *FIELD_CAT(row, name, const char *) : uuid_in(r, row, "id")->s);
}

/* How PostgreSQL locks what a handler is about to read. */
static const char *lock_of(const struct call *c, enum row_lock lock)
{
    if (!c->p->writing || lock == ROW_FREE)
        return "";
    return lock == ROW_SHARED ? " /*pg: FOR SHARE */" : " /*pg: FOR UPDATE */";
}

static int row_read(struct call *c, const struct record *r, const struct uuid *id,
                    enum row_lock lock, void *row, struct err *e)
{
    const char *sql =
        arena_printf(c->arena, "SELECT @ FROM %s WHERE id = $1%s", r->table, lock_of(c, lock));

    if (uuid_is_nil(id))
        return no_such(r, e);
    if (db_one(c->db, c->arena, r, sql, ARGS(A(id)), row, e) < 0)
        return e->code == ERR_NOT_FOUND ? no_such(r, e) : -1;
    return visible(c, r, row) ? 0 : no_such(r, e);
}

/* ---- If-Match */

/* True if one of the tags in 'header' is 'base' ("x-r1" with its quotes), bare or with a suffix. */
static bool match_strong(struct str header, const char *base)
{
    size_t n = strlen(base) - 2; /* without its quotes */
    struct etag t;

    if (etag_any(header))
        return true;
    while (etag_next(&header, &t))
        if (!t.weak && t.opaque.n >= n && memcmp(t.opaque.p, base + 1, n) == 0 &&
            (t.opaque.n == n || t.opaque.p[n] == '-'))
            return true;
    return false;
}

static int match_check(struct call *c, const struct record *r, const void *row, struct err *e)
{
    struct call_private *p = c->p;
    const struct field *rev = record_field(r, "revision");

    if (p->matched || !rev || !p->r || !p->mount || !p->mount->info->writes)
        return 0;
    p->matched = true;
    struct str want = http1_header(http_req_head(p->r), "if-match");
    if (!want.p && c->route->must_match)
        return err_set(e, ERR_PRECONDITION_REQUIRED, "This takes If-Match: the %s as it was read",
                       r->name);
    if (!want.p)
        return 0;
    const char *tag = etag_of(c->arena, uuid_in(r, row, "id"), *FIELD_CAT(row, rev, int64_t));
    if (match_strong(want, tag))
        return 0;
    return err_set(e, ERR_PRECONDITION_FAILED, "The %s has changed: it is at %s now", r->name, tag);
}

/* ---- reading */

static int target_by_id(struct call *c, const struct record *r, const struct uuid *id,
                        enum row_lock lock, void *row, struct err *e)
{
    bool own = !uuid_is_nil(&c->id) && uuid_eq(id, &c->id);

    if (own && c->p->id_prefix && (!r->prefix || strcmp(r->prefix, c->p->id_prefix) != 0))
        return no_such(r, e);
    TRY(row_read(c, r, id, lock, row, e));
    if (!own)
        return 0;
    if (!c->p->audit_kind)
        call_audit_object(c, r->name, id);
    return lock == ROW_ALONE ? match_check(c, r, row, e) : 0;
}

/* A name that has been given anew means its new owner; else the one that was deleted last. */
static const char sql_newest[] = " ORDER BY deleted_at > 0, deleted_at DESC LIMIT 1";

/* Below the route's parent, if it is of those that hang there. */
static int row_named(struct call *c, const struct record *r, const char *name, enum row_lock lock,
                     void *row, struct err *e)
{
    const struct field *above = parent_field_of(c, r);
    bool project = !uuid_is_nil(&c->who->project_id) && record_field(r, "project_id");
    struct arg args[5] = { A(&c->tenant), A(enum_to_str(mode_names, (int)c->who->mode)), A(name) };
    const char *more = "";
    size_t n = 3;
    struct rows got;

    if (project) {
        args[n++] = A(&c->who->project_id);
        more = arena_printf(c->arena, " AND project_id = $%zu", n);
    }
    if (above) {
        args[n++] = A(parent_id(c));
        more = arena_printf(c->arena, "%s AND %s = $%zu", more, above->name, n);
    }
    const char *sql = arena_printf(
        c->arena, "SELECT @ FROM %s WHERE tenant_id = $1 AND mode = $2 AND name = $3%s%s%s",
        r->table, more, record_field(r, "deleted_at") ? sql_newest : " LIMIT 2", lock_of(c, lock));
    TRY(db_query(c->db, c->arena, r, sql, args, n, &got, e));
    if (got.n == 0)
        return no_such(r, e);
    if (got.n > 1)
        return err_set(e, ERR_INVALID_STATE, "More than one %s is named '%.64s': use its id",
                       r->name, name);
    memcpy(row, got.v, r->size);
    return 0;
}

static int target_by_name(struct call *c, const struct record *r, enum row_lock lock, void *row,
                          struct err *e)
{
    TRY(row_named(c, r, c->id_name, lock, row, e));
    c->id = *uuid_in(r, row, "id");
    if (!c->p->audit_kind)
        call_audit_object(c, r->name, &c->id);
    return lock == ROW_ALONE ? match_check(c, r, row, e) : 0;
}

int call_get(struct call *c, const struct record *r, const struct uuid *id, void *row,
             struct err *e)
{
    return target_by_id(c, r, id, ROW_ALONE, row, e);
}

/* What the last parameter of the path names, below the route's parent. */
static int target_below(struct call *c, const struct record *r, enum row_lock lock, void *row,
                        struct err *e)
{
    const struct router_match *m = &c->p->match;
    const struct field *above = parent_field_of(c, r);
    struct uuid id;

    if (m->n_params < 2 || !above || !field_has_column(above))
        return err_cause(e, ERR_INTERNAL, r->name, "a route names no row below its parent");
    struct str v = m->params[m->n_params - 1].value;
    if (id_parse(v, r->prefix, &id) == ID_OK) {
        TRY(row_read(c, r, &id, lock, row, e));
        if (!uuid_eq(FIELD_CAT(row, above, struct uuid), parent_id(c)))
            return no_such(r, e);
    } else if (c->route->by_name && c->surface == CLASSIC && record_field(r, "name") &&
               v.n <= FIELD_TEXT_MAX && utf8_valid(v)) {
        TRY(row_named(c, r, arena_dup(c->arena, v.p, v.n), lock, row, e));
    } else {
        return no_such(r, e);
    }
    call_audit_object(c, r->name, uuid_in(r, row, "id"));
    return lock == ROW_ALONE ? match_check(c, r, row, e) : 0;
}

/* What is being deleted takes no more changes, but another deletion. */
int row_target(struct call *c, const struct record *r, enum row_lock lock, void *row, struct err *e)
{
    if (c->route->parent && r != c->route->parent)
        TRY(target_below(c, r, lock, row, e));
    else if (c->id_name && record_field(r, "name"))
        TRY(target_by_name(c, r, lock, row, e));
    else
        TRY(target_by_id(c, r, &c->id, lock, row, e));
    return c->p->writing && c->route->method != DELETE ? call_stays(r, row, e) : 0;
}

int call_target(struct call *c, const struct record *r, void *row, struct err *e)
{
    return row_target(c, r, ROW_ALONE, row, e);
}

int call_target_shared(struct call *c, const struct record *r, void *row, struct err *e)
{
    return row_target(c, r, ROW_SHARED, row, e);
}

int call_find_at(struct call *c, const struct record *r, size_t offset, const char *value,
                 void *row, struct err *e)
{
    const struct field *f = &r->fields[__builtin_ctzll(record_bit_at(r, offset))];
    const char *sql = arena_printf(
        c->arena, "SELECT @ FROM %s WHERE tenant_id = $1 AND mode = $2 AND %s = $3%s%s", r->table,
        f->name, record_field(r, "deleted_at") ? " AND deleted_at = 0" : "", lock_of(c, ROW_ALONE));

    if (db_one(c->db, c->arena, r, sql,
               ARGS(A(&c->tenant), A(enum_to_str(mode_names, (int)c->who->mode)), A(value)), row,
               e) < 0)
        return e->code == ERR_NOT_FOUND ? 0 : -1;
    return 1;
}

int row_for_ref(struct call *c, const struct record *r, const struct uuid *id, bool shared,
                void *row, struct err *e)
{
    TRY(row_read(c, r, id, shared ? ROW_SHARED : ROW_ALONE, row, e));
    return call_stays(r, row, e);
}

int call_ref(struct call *c, const struct record *r, const char *field, const struct uuid *id,
             void *row, struct err *e)
{
    const void *known = refs_row(c, r, id);

    if (known)
        memcpy(row, known, r->size);
    if (known || row_for_ref(c, r, id, false, row, e) == 0)
        return 0;
    if (e->code != ERR_NOT_FOUND)
        return -1;
    fault_add(c, field, "not_found", "there is no such %s", r->name);
    return err_set(e, ERR_NOT_FOUND, "There is no such %s: %s", r->name, field);
}

/* ---- events */

static const char *json_of(struct call *c, const struct record *r, const void *row)
{
    struct buf b = BUF(MIB(4));
    struct json_out o = JSON_OUT(&b);

    o.view = (struct json_view){ .typeid = true, .region = c->app->config->region };
    json_row(&o, r, row);
    const char *s = json_done(&o) < 0 ? "{}" : arena_dup(c->arena, b.p, b.n);
    buf_free(&b);
    return s;
}

/* The old values of the fields in 'set'. */
static const char *json_previous(struct call *c, const struct record *r, const void *old,
                                 uint64_t set)
{
    struct field *some = arena_new_n(c->arena, struct field, r->n_fields);
    struct record part = *r;

    part.fields = some;
    part.n_fields = 0;
    part.arn_service = NULL;
    for (size_t i = 0; i < r->n_fields; i++)
        if ((set >> i) & 1)
            some[part.n_fields++] = r->fields[i];
    return json_of(c, &part, old);
}

static void event_add(struct call *c, const char *type, const struct record *r, const void *row,
                      const char *previous)
{
    struct event *x = arena_new(c->arena, struct event);
    struct buf b = BUF(MIB(8));
    struct json_out o = JSON_OUT(&b);
    struct uuid id;

    uuid_new(c->app->clock, &id);
    o.view.typeid = true;
    json_open(&o, '{');
    json_key(&o, "id");
    json_id(&o, "evt", &id);
    json_kstr(&o, "type", type);
    json_ktime(&o, "created_at", c->now);
    if (r && row) {
        json_key(&o, "object");
        json_raw(&o, json_of(c, r, row));
    }
    if (previous) {
        json_key(&o, "previous");
        json_raw(&o, previous);
    }
    json_close(&o);
    if (json_done(&o) == 0) {
        x->json = arena_dup(c->arena, b.p, b.n);
        *c->p->commit.events_end = x;
        c->p->commit.events_end = &x->next;
    }
    buf_free(&b);
}

int call_event(struct call *c, const char *event, const struct record *r, const void *row,
               struct err *e)
{
    if (!c->p->writing)
        return err_cause(e, ERR_INTERNAL, "an event outside of a transaction", "internal error");
    event_add(c, event, r, row, NULL);
    return 0;
}

static void event_of(struct call *c, const struct record *r, const char *verb, const void *row,
                     const char *previous)
{
    char type[128];

    if (c->route->no_audit || r->quiet)
        return;
    snprintf(type, sizeof(type), "%s.%s", r->name, verb);
    event_add(c, type, r, row, previous);
}

/* ---- writing */

static void stamp_uuid(const struct record *r, void *row, const char *name, const struct uuid *v)
{
    const struct field *f = record_field(r, name);

    if (f && !uuid_is_nil(v))
        *FIELD_AT(row, f, struct uuid) = *v;
}

static void stamp_int(const struct record *r, void *row, const char *name, int64_t v)
{
    const struct field *f = record_field(r, name);

    if (f && (f->type == F_INT || f->type == F_TIME))
        *FIELD_AT(row, f, int64_t) = v;
}

static int duplicate(const struct record *r, const void *row, struct err *e)
{
    const struct field *f = record_field(r, "name");
    const char *name = f && f->type == F_STR ? *FIELD_CAT(row, f, const char *) : NULL;
    char cause[sizeof(e->cause)];

    if (e->code != ERR_ALREADY_EXISTS)
        return -1;
    memcpy(cause, e->cause, sizeof(cause));
    const char *article = strchr("aeio", r->name[0]) ? "An" : "A";
    if (name && r->unique.index && strstr(cause, r->unique.index))
        return err_cause(e, ERR_ALREADY_EXISTS, cause, "%s %s named '%.80s' %s", article, r->name,
                         name, r->unique.says);
    if (name)
        return err_cause(e, ERR_ALREADY_EXISTS, cause, "%s %s named '%.80s' exists already",
                         article, r->name, name);
    return err_cause(e, ERR_ALREADY_EXISTS, cause, "Such a %s exists already", r->name);
}

int call_insert(struct call *c, const struct record *r, void *row, struct err *e)
{
    const struct field *id = record_field(r, "id");
    const struct field *mode = record_field(r, "mode"), *above = parent_field_of(c, r);

    if (id && uuid_is_nil(FIELD_CAT(row, id, struct uuid)))
        uuid_new(c->app->clock, FIELD_AT(row, id, struct uuid));
    if (r->quota)
        TRY(quota_take(c, r->quota, 1, e));
    stamp_uuid(r, row, "tenant_id", &c->tenant);
    stamp_uuid(r, row, "user_id", &c->who->user_id);
    stamp_uuid(r, row, "project_id", &c->who->project_id);
    if (above && c->parent && uuid_is_nil(FIELD_CAT(row, above, struct uuid)))
        *FIELD_AT(row, above, struct uuid) = *parent_id(c);
    if (mode && mode->type == F_ENUM && mode->names == mode_names)
        *FIELD_AT(row, mode, int) = (int)c->who->mode;
    if (r->fill)
        TRY(r->fill(c, row, e));
    stamp_int(r, row, "revision", 1);
    stamp_int(r, row, "created_at", c->now);
    stamp_int(r, row, "updated_at", c->now);
    if (db_insert(c->db, c->arena, r, row, e) < 0)
        return duplicate(r, row, e);
    if (id && !r->quiet && !c->p->audit_kind && uuid_is_nil(&c->id))
        call_audit_object(c, r->name, FIELD_CAT(row, id, struct uuid));
    event_of(c, r, "created", row, NULL);
    return 0;
}

static uint64_t columns_only(const struct record *r, uint64_t set)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (r->fields[i].flags & FF_VIRTUAL)
            set &= ~(UINT64_C(1) << i);
    return set;
}

/* "updated", or the new status where that has changed. */
static const char *verb_of(const struct record *r, const void *old, const void *row, uint64_t set)
{
    const struct field *f = record_field(r, "status");

    if (!old || !f || !(set & record_bit(r, "status")))
        return "updated";
    if (f->type == F_ENUM && *FIELD_CAT(old, f, int) != *FIELD_CAT(row, f, int))
        return enum_to_str(f->names, *FIELD_CAT(row, f, int));
    if (f->type == F_STR) {
        const char *was = *FIELD_CAT(old, f, const char *), *is = *FIELD_CAT(row, f, const char *);

        if (was && is && strcmp(was, is) != 0)
            return is;
    }
    return "updated";
}

int call_update(struct call *c, const struct record *r, const void *old, void *row, uint64_t set,
                struct err *e)
{
    const struct field *rev = record_field(r, "revision");
    uint64_t given = set;

    if (rev) {
        int64_t was = *FIELD_CAT(old ? old : row, rev, int64_t);

        *FIELD_AT(row, rev, int64_t) = was + 1;
        set |= record_bit(r, "revision");
    }
    if (record_field(r, "updated_at")) {
        stamp_int(r, row, "updated_at", c->now);
        set |= record_bit(r, "updated_at");
    }
    set = columns_only(r, set);
    if (set && db_update(c->db, c->arena, r, row, set, e) < 0)
        return e->code == ERR_NOT_FOUND ? no_such(r, e) : duplicate(r, row, e);
    call_changed(c, r, uuid_in(r, row, "id"));
    const char *verb = verb_of(r, old, row, given);
    event_of(c, r, verb ? verb : "updated", row, old ? json_previous(c, r, old, given) : NULL);
    return 0;
}

int call_delete(struct call *c, const struct record *r, const void *row, struct err *e)
{
    const struct uuid *id = uuid_in(r, row, "id");
    const char *sql = arena_printf(c->arena, "DELETE FROM %s WHERE id = $1", r->table);
    int64_t n;

    TRY(refs_delete(c, r, row, e));
    TRY(db_exec_n(c->db, sql, ARGS(A(id)), &n, e));
    if (n == 0)
        return no_such(r, e);
    if (c->app->deleted)
        TRY(c->app->deleted(c, r, id, e));
    call_changed(c, r, id);
    event_of(c, r, "deleted", row, NULL);
    return r->quota ? quota_take(c, r->quota, -1, e) : 0;
}

/* ---- what single columns are read into */

int take_uuid(void *uuid, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    snprintf(((struct uuid *)uuid)->s, sizeof(struct uuid), "%s", cols[0].s ? cols[0].s : "");
    return 0;
}

int take_text(void *text_out, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct text_out *out = text_out;

    out->s = cols[0].s ? arena_strdup(out->arena, cols[0].s) : NULL;
    return 0;
}
