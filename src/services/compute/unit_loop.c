/* SPDX-License-Identifier: Apache-2.0 */
/* What visits of a unit do beside those of an instance: whether its owner is still there, where its
 * image and its files come from, whether it is ready; and who is told.
 *
 * That an owner has gone is seen by looking for its row, so that no way of deleting it leaves units
 * behind; who says so in the same transaction only spares them the wait. */
#include "services/compute/compute_private.h"

enum {
    EAGER_MS = 100,      /* between looks at what has just started … */
    EAGER_SECONDS = 10,  /* … that long ago, */
    UNREADY_SECONDS = 1, /* and later */
    RELOAD_SECONDS = 10,
};

/* ---- its owner */

static const char sql_owner[] = "SELECT owner_loop, owner_id FROM units WHERE id = $1";

struct owner {
    struct arena *arena;
    const char *loop;
    struct uuid id;
};

static int owner_read(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct owner *o = ctx;

    o->loop = arena_strdup(o->arena, cols[0].s);
    snprintf(o->id.s, sizeof(o->id), "%s", cols[1].s);
    return 0;
}

int unit_told(struct call *c, const struct uuid *id, struct err *e)
{
    struct owner o = { .arena = c->arena };

    TRY(db_each(c->db, sql_owner, ARGS(A(id)), owner_read, &o, e));
    const struct reconciler *loop = o.loop ? app_loop(c->app, o.loop) : NULL;
    return loop ? call_due(c, loop, &o.id, c->now, e) : 0;
}

/* What no service of this program owns is left alone: another release may know it. */
static int owner_there(struct visit *v, const struct unit *u, bool *there, struct err *e)
{
    const struct reconciler *loop = app_loop(v->app, u->owner_loop);
    int64_t n = 1;

    if (!loop)
        log_event(LOG_WARN, "unit_of_unknown_service_left_alone", L_STR("unit", u->id.s),
                  L_STR("loop", u->owner_loop));
    else
        TRY(db_int(
            v->db,
            arena_printf(v->arena, "SELECT count(*) FROM %s WHERE id = $1", loop->record->table),
            ARGS(A(&u->owner_id)), 0, &n, e));
    *there = n > 0;
    return 0;
}

static int end_it(struct visit *v, struct call *c, void *arg _unused_, struct err *e)
{
    return instance_end(c, &unit_loop, v->row, e);
}

/* ---- its image, without a row */

static int keep_digest(struct visit *v, struct call *c, void *arg, struct err *e)
{
    return db_exec(c->db, "UPDATE units SET digest = $2 WHERE id = $1",
                   ARGS(A(&v->id), A((const char *)arg)), e);
}

static void as_row(struct arena *a, const struct image_state *st, struct image *out)
{
    out->status = st->status == IMAGE_READY    ? IMAGE_ROW_READY
                  : st->status == IMAGE_FAILED ? IMAGE_ROW_ERROR
                                               : IMAGE_ROW_BUILDING;
    out->status_reason = arena_strdup(a, st->status == IMAGE_FAILED ? st->reason : st->step);
    out->progress = st->progress;
    out->digest = st->status == IMAGE_READY ? st->digest : NULL;
}

int unit_image(struct visit *v, const struct instance *i, struct image *out, struct err *e)
{
    struct image_state st = { 0 };
    struct unit u;
    bool ran;

    TRY(unit_get(v->db, v->arena, &i->id, &u, e));
    *out = (struct image){
        .name = i->image, .source = IMAGE_RECIPE, .status = IMAGE_ROW_READY, .digest = u.digest
    };
    if (u.digest)
        return 0;
    /* Asked for anew, whatever became of it before. */
    bool again = ((const struct instance *)v->row)->status == INSTANCE_PENDING ||
                 (i->status_reason && strcmp(i->status_reason, "starting") == 0);
    TRY(image_ensure(app_images(v->app, v->mode), v->arena, i->image, i->tenant_id.s, again, &st,
                     e));
    as_row(v->arena, &st, out);
    if (!out->digest)
        return 0;
    TRY(visit_write(v, keep_digest, arena_strdup(v->arena, out->digest), &ran, e));
    return 0;
}

int unit_image_again(struct visit *v, const struct instance *i, struct err *e)
{
    struct image_state st;
    bool ran;

    TRY(image_ensure(app_images(v->app, v->mode), v->arena, i->image, i->tenant_id.s, true, &st,
                     e));
    return visit_write(v, keep_digest, NULL, &ran, e);
}

int unit_spec_fill(struct visit *v, struct compute_spec *s, struct err *e)
{
    struct unit u;
    struct str text;

    TRY(unit_get(v->db, v->arena, &s->id, &u, e));
    s->data = u.data;
    s->root = u.root;
    s->files_revision = u.files_revision;
    if (!u.files)
        return 0;
    TRY(app_unseal(v->app, v->arena, u.files, str_of(u.id.s), &text, e));
    s->files = arena_dup(v->arena, text.p, text.n);
    return 0;
}

int unit_forget(struct call *c, const struct uuid *id, struct err *e)
{
    return db_exec(c->db, "DELETE FROM units WHERE id = $1", ARGS(A(id)), e);
}

/* ---- whether it is well */

struct seen {
    const struct unit *was;
    struct unit now;
};

static const char sql_seen[] =
    "UPDATE units SET ready_boot = $2, misses = $3, check_fault = $4, files_done = $5,"
    " reload_due = $6, done_revision = $7 WHERE id = $1";

static int seen_write(struct visit *v, struct call *c, void *arg, struct err *e)
{
    const struct seen *s = arg;
    const struct unit *n = &s->now, *w = s->was;

    TRY(db_exec(c->db, sql_seen,
                ARGS(A(&v->id), A(n->ready_boot), A(n->misses), A(n->check_fault), A(n->files_done),
                     A(n->reload_due), A(n->done_revision)),
                e));
    bool tells = n->ready_boot != w->ready_boot || n->files_done != w->files_done ||
                 !same_text(n->check_fault, w->check_fault);
    return tells ? unit_told(c, &v->id, e) : 0;
}

static int seen_save(struct visit *v, struct seen *s, struct err *e)
{
    const struct unit *n = &s->now, *w = s->was;
    bool ran;

    if (n->ready_boot == w->ready_boot && n->misses == w->misses &&
        n->files_done == w->files_done && n->reload_due == w->reload_due &&
        n->done_revision == w->done_revision && same_text(n->check_fault, w->check_fault))
        return 0;
    TRY(visit_write(v, seen_write, s, &ran, e));
    return ran ? 0 : visit_again(v, 0);
}

static int run_in(struct visit *v, const char *cmd, int64_t timeout, const char **fault,
                  struct err *e)
{
    struct compute_exec x = { .cmd = cmd, .timeout = timeout, .kill_background = true };
    struct compute_exec_result r = { 0 };

    *fault = NULL;
    TRY(compute_exec_in(app_compute(v->app, v->mode), v->arena, &v->id, &x, &r, e));
    if (r.timed_out)
        *fault = "its command did not end in time";
    else if (r.cwd_fault || r.exit_code != 0)
        *fault =
            arena_printf(v->arena, "its command ended with code %lld: %.*s", (long long)r.exit_code,
                         (int)MIN(r.err.n, (size_t)100), r.err.n ? r.err.p : "");
    return 0;
}

/* 1: it runs no more; the next visit sees how it is. */
static int ask(struct visit *v, const struct unit *u, const char **fault, struct err *e)
{
    struct compute_probe p = { .kind = u->check_kind == UNIT_CHECK_HTTP ? COMPUTE_PROBE_HTTP
                                                                        : COMPUTE_PROBE_TCP,
                               .port = u->check_port,
                               .path = u->check_path,
                               .timeout = u->check_timeout };
    int r = u->check_kind == UNIT_CHECK_EXEC
                ? run_in(v, u->check_cmd, u->check_timeout, fault, e)
                : compute_probe_in(app_compute(v->app, v->mode), v->arena, &v->id, &p, fault, e);

    return r < 0 && e->code == ERR_INVALID_STATE ? 1 : r;
}

static void judge(const struct instance *i, struct unit *u, const char *fault)
{
    if (!fault) {
        u->ready_boot = i->boot;
        u->misses = 0;
        u->check_fault = NULL;
        return;
    }
    if (u->ready_boot == i->boot && ++u->misses < u->check_threshold)
        return;
    u->ready_boot = u->misses = 0;
    u->check_fault = fault;
}

static int64_t next_look(const struct visit *v, const struct instance *i, const struct unit *u)
{
    if (u->ready_boot == i->boot)
        return u->misses ? MIN(u->check_interval, SECONDS(UNREADY_SECONDS)) : u->check_interval;
    return v->now < i->started_at + SECONDS(EAGER_SECONDS)
               ? MILLIS(EAGER_MS)
               : MIN(u->check_interval, SECONDS(UNREADY_SECONDS));
}

/* What runs now, and whose host has the files of 'was'; 'done': it has all of the row too. */
static int look_after(struct visit *v, const struct instance *i, const struct unit *was, bool done,
                      struct err *e)
{
    struct seen s = { .was = was, .now = *was };
    const char *fault;

    s.now.files_done = was->files_revision;
    s.now.done_revision = done ? i->revision : 0;
    if (was->reload_due) {
        TRY(run_in(v, was->reload, SECONDS(RELOAD_SECONDS), &fault, e));
        if (fault)
            return err_set(e, ERR_BUSY, "unit %s did not reload its files: %s", v->id.s, fault);
        s.now.reload_due = false;
    }
    if (was->check_kind != UNIT_CHECK_NONE) {
        int r = ask(v, was, &fault, e);
        TRY(r);
        if (r)
            return visit_again(v, MILLIS(EAGER_MS));
        judge(i, &s.now, fault);
        visit_again(v, next_look(v, i, &s.now));
    }
    return seen_save(v, &s, e);
}

/* A look at what runs as it was ordered, and is well: its host is not told again what it knows.
 * False: there is more to do. */
static bool only_look(struct visit *v, const struct unit *u)
{
    const struct instance *i = v->row;
    struct seen s = { .was = u, .now = *u };
    const char *fault = "";
    struct err e;

    if (i->deleted_at || i->status != INSTANCE_RUNNING || i->want != COMPUTE_WANT_RUNNING ||
        u->check_kind == UNIT_CHECK_NONE || u->reload_due || u->done_revision != i->revision ||
        ask(v, u, &fault, &e) != 0 || fault)
        return false;
    judge(i, &s.now, NULL);
    visit_again(v, next_look(v, i, &s.now));
    return seen_save(v, &s, &e) == 0;
}

static int unit_visit(struct visit *v, struct err *e)
{
    struct rows rows;
    struct unit u;
    bool there, ran;
    int64_t revision;

    if (!v->row)
        return instance_visit(v, e);
    TRY(unit_get(v->db, v->arena, &v->id, &u, e));
    if (!((const struct instance *)v->row)->deleted_at) {
        TRY(owner_there(v, &u, &there, e));
        if (!there) {
            TRY(visit_write(v, end_it, NULL, &ran, e));
            return visit_again(v, 0);
        }
    }
    if (only_look(v, &u))
        return 0;
    revision = ((const struct instance *)v->row)->revision;
    TRY(instance_visit(v, e));
    if (v->again >= 0) /* it is on its way */
        return 0;
    TRY(db_query(v->db, v->arena, &unit_instance_record,
                 "SELECT @ FROM unit_instances WHERE id = $1", ARGS(A(&v->id)), &rows, e));
    const struct instance *i = rows.v;
    if (!rows.n || i->deleted_at || i->status != INSTANCE_RUNNING)
        return 0;
    v->row = rows.v;
    return look_after(v, i, &u, i->revision == revision, e);
}

const struct reconciler unit_loop = {
    .name = "unit",
    .record = &unit_instance_record,
    .visit = unit_visit,
    .every = SECONDS(30),
    .budget = SECONDS(20),
    .backoff = { SECONDS(1), SECONDS(60) },
    .sweep = "SELECT id FROM unit_instances",
};
