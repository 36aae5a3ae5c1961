/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of routes become paths of the router.  Hides which surface a row is mounted on, and refuses
 * at start a table that is not as it should be. */
#include <ctype.h>

#include "core/inside.h"
#include "core/request/query.h"
#include "core/rows/crud.h"
#include "core/rows/empty.h"
#include "core/rows/parent.h"
#include "core/rows/refs.h"

enum { SUPPORT_DAYS = 547 }; /* 18 months */

static bool surface_path(const char *path)
{
    return strncmp(path, "/v1/", 4) == 0 || strncmp(path, "/.", 2) == 0;
}

/* ---- what the tables must hold */

static bool action_fits(const char *s)
{
    int colons = 0;

    for (const char *p = s; *p; p++) {
        colons += *p == ':';
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != ':' && *p != '-')
            return false;
    }
    return colons == 1 && s[0] != ':' && s[strlen(s) - 1] != ':';
}

static bool sealed_right(const struct record *r, const struct field *f)
{
    const struct field *id = record_field(r, "id");

    return r->table && id && id->type == F_UUID && field_bytes(f) && field_has_column(f) &&
           (f->flags & (FF_SECRET | FF_HIDDEN | FF_ONCE)) && !(f->flags & (FF_FILTER | FF_SORT));
}

static int check_record(const struct record *r, struct err *e)
{
    if (!r)
        return 0;
    if (r->n_fields > 64)
        return err_set(e, ERR_INTERNAL, "record %s has over 64 fields", r->name);
    for (size_t i = 0; i < r->n_fields; i++)
        if ((r->fields[i].type == F_ROW || r->fields[i].type == F_ROWS) && !r->fields[i].of)
            return err_set(e, ERR_INTERNAL, "%s.%s: objects of what?", r->name, r->fields[i].name);
        else if ((r->fields[i].flags & FF_SEALED) && !sealed_right(r, &r->fields[i]))
            return err_set(e, ERR_INTERNAL,
                           "%s.%s: what is sealed is the text of a row with an id, never shown",
                           r->name, r->fields[i].name);
        else if (!r->fields[i].doc || !r->fields[i].doc[0])
            return err_set(e, ERR_INTERNAL, "%s.%s has no doc", r->name, r->fields[i].name);
    return 0;
}

/* A row of a list hangs below its parent by a column. */
static int check_parent(const struct route *r, struct err *e)
{
    const struct field *f = r->parent && r->out ? parent_field(r->parent, r->out) : NULL;

    if (r->alone && !r->parent)
        return err_set(e, ERR_INTERNAL, "route %s: alone below what?", r->path);
    if (r->parent && (!r->parent->table || !strstr(r->path, "/{id}/")))
        return err_set(e, ERR_INTERNAL, "route %s: its parent is a row that {id} names", r->path);
    if (r->parent && r->list && !(f && field_has_column(f)))
        return err_set(e, ERR_INTERNAL, "route %s: no column of %s refers to a %s", r->path,
                       r->out ? r->out->name : "nothing", r->parent->name);
    return 0;
}

/* The one object of a QUICK route lies in the request's memory, beside the request; rows of lists
 * are read by no more at once than fit the database's bound. */
static int check_size(const struct route *r, struct err *e)
{
    size_t n = r->out && r->out->table ? record_bytes(r->out) : 0;

    if (r->work == QUICK && !r->list && n > HTTP_ARENA / 4 * 3)
        return err_set(e, ERR_INTERNAL, "route %s: a %s of up to %zu bytes is not for QUICK",
                       r->path, r->out->name, n);
    if (n > DB_BYTES_MAX)
        return err_set(e, ERR_INTERNAL, "route %s: a %s is up to %zu bytes", r->path, r->out->name,
                       n);
    return 0;
}

static int check_route(const struct route *r, struct err *e)
{
    if (r->path[0] != '/' || !r->handler || !r->doc || !r->doc[0] || !r->status)
        return err_set(e, ERR_INTERNAL, "route %s lacks a handler, a status or a doc", r->path);
    if (!r->action && !r->public)
        return err_set(e, ERR_INTERNAL, "route %s has no action and is not public", r->path);
    if (r->action && !action_fits(r->action))
        return err_set(e, ERR_INTERNAL, "route %s: '%s' is no action", r->path, r->action);
    if (r->limit == LIMIT_AUTH && !r->public)
        return err_set(e, ERR_INTERNAL, "route %s: LIMIT_AUTH is for public ones", r->path);
    if (r->list + r->rows + r->message > 1 || (r->rows && !r->out) || (r->message && r->out))
        return err_set(e, ERR_INTERNAL, "route %s: rows of .out, or a message, or neither",
                       r->path);
    if (r->bytes && (r->method != GET || !r->produces || r->out))
        return err_set(e, ERR_INTERNAL, "route %s: bytes have a media type and no record", r->path);
    if (r->work == STREAM && !r->produces)
        return err_set(e, ERR_INTERNAL, "route %s: a stream has a media type", r->path);
    if (r->work == QUICK && r->method != GET)
        return err_set(e, ERR_INTERNAL, "route %s: QUICK is for GET", r->path);
    if (r->body == BODY_RAW && r->work != LONG)
        return err_set(e, ERR_INTERNAL, "route %s: raw bodies are for LONG", r->path);
    if (r->sunset && r->sunset < r->deprecated + SUPPORT_DAYS * 86400)
        return err_set(e, ERR_INTERNAL, "route %s: its sunset is too early", r->path);
    TRY(check_record(r->in, e));
    TRY(check_record(r->query, e));
    TRY(check_record(r->out, e));
    TRY(check_parent(r, e));
    return check_size(r, e);
}

/* A quota is of one service, and the service whose routes show a record has its quota. */
static int check_quotas(const struct service *const *services, const struct service *s,
                        struct err *e)
{
    for (const struct quota *const *q = s->quotas; q && *q; q++)
        for (const struct service *const *o = services; *o != s; o++)
            for (const struct quota *const *k = (*o)->quotas; k && *k; k++)
                if (strcmp((*k)->name, (*q)->name) == 0)
                    return err_set(e, ERR_INTERNAL, "quota '%s' is of services %s and %s",
                                   (*q)->name, (*o)->name, s->name);
    for (const struct route *r = s->routes; r && r->path; r++) {
        const struct quota *const *q = s->quotas, *want = r->out ? r->out->quota : NULL;

        while (want && q && *q && *q != want)
            q++;
        if (want && (!q || !*q))
            return err_set(e, ERR_INTERNAL, "route %s: quota '%s' is none of service %s", r->path,
                           want->name, s->name);
    }
    return 0;
}

/* ---- what is planned */

/* Of one form, whatever the parameters are called. */
static bool same_path(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        if (*a != *b)
            return false;
        if (*a == '{') {
            a = strchr(a, '}');
            b = strchr(b, '}');
        }
    }
    return *a == *b;
}

static bool path_serves(const struct route *r, const char *path, const struct planned *p)
{
    unsigned on = r->on ? r->on : CLASSIC | PLATFORM;

    if (strncmp(path, "/v1/", 4) == 0) {
        path += strlen("/v1");
        on = PLATFORM;
    }
    return (!p->on || (p->on & on)) && same_path(path, p->path);
}

static bool route_serves(const struct route *r, const struct planned *p)
{
    bool serves = path_serves(r, r->path, p);

    for (const char *const *a = r->alias; a && *a && !serves; a++)
        serves = path_serves(r, *a, p);
    return serves && (planned_row_methods(p) >> r->method & 1);
}

/* A row that is mounted is not planned any more. */
static int check_planned(const struct app *app, const struct service *s, struct err *e)
{
    for (const struct planned *p = s->planned; p && p->path; p++) {
        if (p->path[0] != '/' || planned_row_methods(p) & 1u << METHOD_OTHER)
            return err_set(e, ERR_INTERNAL, "planned %s %s of service %s is no path with methods",
                           p->methods, p->path, s->name);
        for (size_t i = 0; i < app->n_infos; i++)
            if (route_serves(app->infos[i].route, p))
                return err_set(e, ERR_INTERNAL,
                               "%s %s is built: take it out of what service %s has planned",
                               method_name(app->infos[i].route->method), p->path, s->name);
    }
    return 0;
}

/* ---- what is worked out once */

static void upper(char *out, size_t n, const char *s)
{
    size_t i = 0;

    for (; *s && i + 1 < n; s++)
        out[i++] = isalnum((unsigned char)*s) ? (char)toupper((unsigned char)*s) : '_';
    out[i] = '\0';
}

/* "/auth/reset-password" is AUTH_RESET_PASSWORD: of public routes, which have no action. */
static void action_of_path(char *out, size_t n, const char *path)
{
    char text[128];
    size_t i = 0;

    for (const char *p = path + 1; *p && i + 1 < sizeof(text); p++) {
        if (*p == '{') {
            p = strchr(p, '}');
            if (!p)
                break;
            continue;
        }
        text[i++] = *p;
    }
    while (i && text[i - 1] == '/')
        i--;
    text[i] = '\0';
    upper(out, n, text);
}

static void scope_names(struct route_info *info)
{
    const char *action = info->route->action;
    size_t n = action ? strcspn(action, ":") : 0;
    int k = 0;

    if (n == 0 || n > 40)
        return;
    snprintf(info->scope_names[k++], sizeof(info->scope_names[0]), "%.*s", (int)n, action);
    snprintf(info->scope_names[k++], sizeof(info->scope_names[0]), "%.*ss", (int)n, action);
    if (action[n - 1] == 'y')
        snprintf(info->scope_names[k++], sizeof(info->scope_names[0]), "%.*sies", (int)n - 1,
                 action);
}

static enum action_class class_of(const struct route *r)
{
    if (r->class != CLASS_AUTO)
        return r->class;
    return r->work == WRITE || r->work == LONG ? CLASS_WRITE : CLASS_READ;
}

bool route_writes(const struct route *r)
{
    return class_of(r) != CLASS_READ && (r->work == WRITE || r->work == LONG);
}

bool route_keyed(const struct route *r)
{
    return !r->public && r->method != GET && r->method != HEAD &&
           (r->work == WRITE || r->work == LONG);
}

static void info_fill(struct route_info *info, const struct service *s, const struct route *r)
{
    info->route = r;
    info->service = s;
    info->class = class_of(r);
    info->writes = route_writes(r);
    info->keyed = route_keyed(r);
    info->record = r->out ? r->out : r->in;
    if (r->action)
        upper(info->audit_action, sizeof(info->audit_action), r->action);
    else
        action_of_path(info->audit_action, sizeof(info->audit_action), r->path);
    scope_names(info);
}

/* DELETE names no record: it is its path's GET's. */
static const struct record *answered_at(const struct app *app, enum method method, const char *path,
                                        size_t n)
{
    for (size_t i = 0; i < app->n_infos; i++) {
        const struct route *r = app->infos[i].route;

        if (r->method == method && strlen(r->path) == n && memcmp(r->path, path, n) == 0)
            return r->out;
    }
    return NULL;
}

static const struct record *shown_at(const struct app *app, const char *path, size_t n)
{
    return answered_at(app, GET, path, n);
}

/* What is shown at the path, else what is made in the collection that it is of. */
static void find_record(struct app *app, struct route_info *info)
{
    const char *path = info->route->path, *last = strrchr(path, '/');

    if (!info->record)
        info->record = shown_at(app, path, strlen(path));
    if (!info->record && last[1] == '{')
        info->record = answered_at(app, POST, path, (size_t)(last - path));
}

/* In /vpcs/{id}/subnets the VPC: what GET shows at the path as far as {id}, else what it lists
 * before that. */
static void find_target(struct app *app, struct route_info *info)
{
    static const char id[] = "/{id}";
    const char *path = info->route->path, *at = strstr(path, id);

    info->target = info->route->parent;
    if (!at || info->target)
        return;
    size_t n = (size_t)(at - path);
    info->target = shown_at(app, path, n + strlen(id));
    if (!info->target)
        info->target = shown_at(app, path, n);
    if (!info->target)
        info->target = info->record;
}

/* ---- mounting */

static int mount_at(struct app *app, struct route_info *info, enum surface surface,
                    const char *prefix, const char *path, struct err *e)
{
    struct mount *m = arena_new(&app->arena, struct mount);

    m->info = info;
    m->surface = surface;
    m->pattern = arena_printf(&app->arena, "%s%s", prefix, path);
    return router_add(app->router, info->route->method, m->pattern, m, e);
}

static int mount_path(struct app *app, struct route_info *info, const char *path, struct err *e)
{
    static const char *const prefixes[] = { "/v1", "/api/v1", "/v2" };
    unsigned on = info->route->on ? info->route->on : CLASSIC | PLATFORM;

    if (surface_path(path))
        return mount_at(app, info, (on & PLATFORM) ? PLATFORM : CLASSIC, "", path, e);
    if (on & CLASSIC)
        TRY(mount_at(app, info, CLASSIC, "", path, e));
    for (size_t i = 0; (on & PLATFORM) && i < ARRAY_LEN(prefixes); i++)
        TRY(mount_at(app, info, PLATFORM, prefixes[i], path, e));
    return 0;
}

static int mount_route(struct app *app, struct route_info *info, struct err *e)
{
    TRY(mount_path(app, info, info->route->path, e));
    for (const char *const *a = info->route->alias; a && *a; a++)
        TRY(mount_path(app, info, *a, e));
    return 0;
}

int mount_all(struct app *app, struct err *e)
{
    size_t n = 0, at = 0;

    for (const struct service *const *s = app->services; *s; s++)
        for (const struct route *r = (*s)->routes; r && r->path; r++)
            n++;
    app->infos = calloc(n ? n : 1, sizeof(struct route_info));
    if (!app->infos)
        abort();
    app->router = router_new();
    for (const struct service *const *s = app->services; *s; s++) {
        TRY(check_quotas(app->services, *s, e));
        for (const struct route *r = (*s)->routes; r && r->path; r++) {
            TRY(check_route(r, e));
            info_fill(&app->infos[at++], *s, r);
        }
    }
    app->n_infos = at;
    for (size_t i = 0; i < at; i++) {
        find_record(app, &app->infos[i]);
        find_target(app, &app->infos[i]);
        if (app->infos[i].route->list && app->infos[i].record)
            app->infos[i].check_list = crud_list_check;
        if (app->infos[i].route->parent || refs_in(app->infos[i].route->in))
            app->infos[i].resolve = parent_resolve;
        TRY(mount_route(app, &app->infos[i], e));
    }
    for (const struct service *const *s = app->services; *s; s++)
        TRY(check_planned(app, *s, e));
    TRY(refs_collect(app, e));
    return owned_collect(app, e);
}
