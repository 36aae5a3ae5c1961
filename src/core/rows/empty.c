/* SPDX-License-Identifier: Apache-2.0 */
/* Takes away all that a tenant has.  Hides the order, and that nothing is deleted otherwise than by
 * its own DELETE: what a service does there beside the row (messages of a queue, a host's share of
 * an instance) is done here too, and what goes by steps is left to its reconciler. */
#include "core/rows/empty.h"

#include "core/request/request.h"
#include "core/rows/parent.h"
#include "core/rows/refs.h"

enum { TURN = 100 }; /* rows that one turn deletes */

struct owned {
    const struct record *record;
    struct mount mount; /* of its DELETE; zeros: its rows go along with others */
    size_t service;     /* its place among services */
};

/* ---- the order */

static size_t find(const struct owned *all, size_t n, const struct record *r)
{
    size_t i = 0;

    while (i < n && all[i].record != r)
        i++;
    return i;
}

static size_t place_of(const struct app *app, const struct service *s)
{
    size_t i = 0;

    while (app->services[i] != s)
        i++;
    return i;
}

static bool deletes(const struct route_info *info, const struct record *r)
{
    const struct route *route = info->route;
    const char *at = strstr(route->path, "/{id}");

    if (route->method != DELETE || !at)
        return false;
    if (route->parent)
        return info->record == r && route->path[strlen(route->path) - 1] == '}';
    return info->target == r && strcmp(at, "/{id}") == 0;
}

/* Another one that has not got its place yet points to it. */
static bool is_pointed_to(const struct app *app, const struct owned *rest, size_t n,
                          const struct record *r)
{
    for (const struct reference *x = app->references; x->from; x++)
        if (x->field->ref == r && x->from != r && find(rest, n, x->from) < n)
            return true;
    return false;
}

static void sort(const struct app *app, struct owned *all, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = n;

        for (size_t k = i; k < n; k++)
            if (!is_pointed_to(app, all + i, n - i, all[k].record) &&
                (best == n || all[k].service > all[best].service))
                best = k;
        if (best < n) { /* else they point at each other, and the turns will tell */
            struct owned first = all[best];

            all[best] = all[i];
            all[i] = first;
        }
    }
}

/* Each of its rows is deleted with one that it points to. */
static bool goes_along(const struct app *app, const struct record *r)
{
    if (r->hangs)
        return true;
    for (const struct reference *x = app->references; x->from; x++)
        if (x->from == r && x->field->on_delete == REF_CASCADE && (x->field->flags & FF_REQUIRED) &&
            record_is_owned(x->field->ref))
            return true;
    return false;
}

int owned_collect(struct app *app, struct err *e)
{
    struct owned *all = arena_new_n(&app->arena, struct owned, app->n_infos + 1);
    size_t n = 0;

    for (size_t i = 0; i < app->n_infos; i++) {
        const struct record *r = app->infos[i].record;

        if (record_is_owned(r) && find(all, n, r) == n)
            all[n++] =
                (struct owned){ .record = r, .service = place_of(app, app->infos[i].service) };
    }
    for (size_t i = 0; i < app->n_infos; i++) {
        struct route_info *info = &app->infos[i];
        size_t k = 0;

        while (k < n && !deletes(info, all[k].record))
            k++;
        if (k == n)
            continue;
        if (info->route->work != WRITE)
            return err_set(e, ERR_INTERNAL,
                           "DELETE %s: what is owned goes in a transaction (WRITE)",
                           info->route->path);
        all[k].mount = (struct mount){ .info = info, .surface = PLATFORM };
    }
    for (size_t i = 0; i < n; i++)
        if (!all[i].mount.info && !goes_along(app, all[i].record))
            return err_set(e, ERR_INTERNAL,
                           "no route deletes a %s: its rows would outlive their tenant",
                           all[i].record->name);
    sort(app, all, n);
    app->owned = all;
    return 0;
}

/* ---- a turn */

struct turn {
    struct app *app;
    struct uuid tenant, project; /* project nil: all of the tenant */
    enum mode mode;
    const struct owned *of;
    struct uuid id; /* the row */
    int done;
};

/* The first row behind 'after' that stays; nil if there is none. */
static int look(const struct turn *t, struct arena *a, struct db *db, const struct uuid *after,
                struct uuid *next, struct err *e)
{
    const struct record *r = t->of->record;
    const char *sql = arena_printf(
        a,
        "SELECT id FROM %s WHERE tenant_id = $1 AND mode = $2 AND id > $3%s%s ORDER BY id LIMIT 1",
        r->table, uuid_is_nil(&t->project) ? "" : " AND project_id = $4",
        record_field(r, "deleted_at") ? " AND deleted_at = 0" : "");
    struct arg args[] = { A(&t->tenant), A(enum_to_str(mode_names, (int)t->mode)), A(after->s),
                          A(&t->project) };

    *next = (struct uuid){ "" };
    return db_each(db, sql, args, uuid_is_nil(&t->project) ? 3 : 4, take_uuid, next, e);
}

/* As the path of a row that hangs below another would say it. */
static int go_below(struct call *c, const struct turn *t, struct err *e)
{
    const struct record *r = t->of->record;
    const char *sql = arena_printf(c->arena, "SELECT %s FROM %s WHERE id = $1 AND tenant_id = $2",
                                   parent_field(c->route->parent, r)->name, r->table);
    struct router_match *m = &c->p->match;

    c->id = (struct uuid){ "" };
    TRY(db_each(c->db, sql, ARGS(A(&t->id), A(&t->tenant)), take_uuid, &c->id, e));
    m->n_params = 2;
    m->params[1].value = str_of(t->id.s);
    return t->of->mount.info->resolve(c, e);
}

static int delete_row(struct call *c, void *arg, struct err *e)
{
    const struct turn *t = arg;

    c->id = t->id;
    c->route = t->of->mount.info->route;
    c->surface = PLATFORM;
    c->p->mount = &t->of->mount;
    c->p->emptying = true;
    if (c->route->parent)
        TRY(go_below(c, t, e));
    return c->route->handler(c, e);
}

/* What cannot go yet (a host holds it still) is passed over; so is what has gone meanwhile. */
static int delete_rows(struct turn *t, struct arena *a, struct db *db, struct err *e)
{
    struct uuid after = { "" };

    while (t->done < TURN) {
        TRY(look(t, a, db, &after, &t->id, e));
        if (uuid_is_nil(&t->id))
            return 0;
        after = t->id;
        int rc = system_call_run(t->app, &t->tenant, t->mode, delete_row, t, e);
        if (rc < 0 && e->code != ERR_INVALID_STATE && e->code != ERR_NOT_FOUND)
            return -1;
        t->done += rc == 0;
    }
    return 0;
}

static int count_rows(const struct turn *t, struct arena *a, struct db *db, int64_t *n,
                      struct err *e)
{
    bool all = uuid_is_nil(&t->project);
    const char *sql = arena_printf(a, "SELECT count(*) FROM %s WHERE tenant_id = $1%s",
                                   t->of->record->table, all ? "" : " AND project_id = $2");
    struct arg args[] = { A(&t->tenant), A(&t->project) };

    return db_int(db, sql, args, all ? 1 : 2, 0, n, e);
}

static int empty(struct turn *t, struct arena *a, struct db *db, int64_t *left, struct err *e)
{
    static const enum mode modes[] = { MODE_LIVE, MODE_TEST };
    int64_t n;

    for (t->of = t->app->owned; t->of->record; t->of++)
        for (size_t m = 0; t->of->mount.info && m < ARRAY_LEN(modes); m++) {
            t->mode = modes[m];
            TRY(delete_rows(t, a, db, e));
        }
    *left = 0;
    for (t->of = t->app->owned; t->of->record; t->of++) {
        TRY(count_rows(t, a, db, &n, e));
        *left += n;
    }
    return 0;
}

static int turn(struct app *app, const struct uuid *tenant, const struct uuid *project,
                int64_t *left, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct turn t = { .app = app, .tenant = *tenant };
    struct db *db = store_reader(app->store, e);

    if (!db)
        return -1;
    if (project)
        t.project = *project;
    int rc = empty(&t, &a, db, left, e);
    store_reader_back(app->store, db);
    return rc;
}

int tenant_empty(struct app *app, const struct uuid *tenant, int64_t *left, struct err *e)
{
    return turn(app, tenant, NULL, left, e);
}

int project_empty(struct app *app, const struct uuid *tenant, const struct uuid *project,
                  int64_t *left, struct err *e)
{
    return turn(app, tenant, project, left, e);
}
