/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that most resources need, by the record alone.  The single object comes from the row
 * cache where it can: rendered once, shown until the writer drops it. */
#include "core/rows/crud.h"
#include "core/request/request.h"
#include "core/rows/listing.h"
#include "core/rows/parent.h"
#include "core/rows/rowcache.h"
#include "core/secret/seal.h"

static const struct record *record_of(const struct call *c)
{
    return c->p->mount->info->record;
}

/* ---- one */

static bool shown(const struct call *c, const struct record *r, const struct rowcache_entry *x)
{
    if (c->p->id_prefix && (!r->prefix || strcmp(r->prefix, c->p->id_prefix) != 0))
        return false;
    return uuid_eq(&x->tenant_id, &c->tenant) && x->mode == (int)c->who->mode &&
           (uuid_is_nil(&c->who->project_id) || !record_field(r, "project_id") ||
            uuid_eq(&x->project_id, &c->who->project_id));
}

static int get_cached(struct call *c, const struct record *r, struct err *e)
{
    struct rowcache_entry x;

    if (!rowcache_get(c->app->rows, c->arena, r, &c->id, (int)c->surface, &x))
        return 0;
    if (!shown(c, r, &x))
        return err_set(e, ERR_NOT_FOUND, "There is no such %s", r->name);
    c->p->body = x.body;
    c->p->content_type = "application/json";
    c->p->etag = etag_of(c->arena, &c->id, x.revision);
    c->p->replied = true;
    return 1;
}

static void put_cached(struct call *c, const struct record *r, const void *row, uint64_t commits)
{
    const struct field *tenant = record_field(r, "tenant_id"), *mode = record_field(r, "mode");
    const struct field *project = record_field(r, "project_id");
    const struct field *rev = record_field(r, "revision");

    if (!tenant || !mode || !rev || c->p->body.n > KIB(64))
        return;
    struct rowcache_entry x = {
        .tenant_id = *FIELD_CAT(row, tenant, struct uuid),
        .mode = *FIELD_CAT(row, mode, int),
        .revision = *FIELD_CAT(row, rev, int64_t),
        .body = c->p->body,
    };
    if (project)
        x.project_id = *FIELD_CAT(row, project, struct uuid);
    rowcache_put(c->app->rows, r, &c->id, (int)c->surface, commits, &x);
}

int reply_shown(struct call *c, const struct record *r, void *row, struct err *e)
{
    if (r->show)
        TRY(r->show(c, row, e));
    return reply_row(c, r, row);
}

int crud_get(struct call *c, struct err *e)
{
    const struct record *r = record_of(c);
    bool cached = c->app->rows && !uuid_is_nil(&c->id) && c->route->work == QUICK &&
                  !c->route->parent && !r->show;
    uint64_t commits = 0;

    if (cached) {
        int rc = get_cached(c, r, e);

        if (rc)
            return rc < 0 ? -1 : 0;
        /* What is read now is at least as new as this number. */
        commits = store_commits(c->app->store);
        TRY(db_read_round(c->db, e));
    }
    void *row = arena_alloc(c->arena, r->size);
    TRY(call_target(c, r, row, e));
    TRY(reply_shown(c, r, row, e));
    if (cached)
        put_cached(c, r, row, commits);
    return 0;
}

/* ---- many */

/* Rows are read and written out in slices, so that a long list of large rows stands nowhere whole;
 * a page that grows past PAGE_BYTES ends early and says where it goes on. */
enum { SLICE = 100 };

/* Rows of a slice: with the one behind it, which tells whether there are more, they fit what the
 * database gives at once, however large each is. */
static int slice_rows(const struct record *r)
{
    int64_t fit = DB_BYTES_MAX / (int64_t)record_bytes(r) - 1;

    return (int)MAX(MIN(fit, (int64_t)SLICE), (int64_t)1);
}

struct many {
    struct call *c;
    const struct record *record;
    const char *from; /* a statement of the service's own, or NULL */
    const struct arg *args;
    size_t n_args;
    const char *bound;
    struct listing_scope scope[4];
    size_t n_scope;
    int64_t left;       /* rows that still belong to the page */
    const char *next;   /* the cursor to go on from */
    const char *others; /* the query without limit, cursor, offset */
};

static void request_of(struct many *m, struct str query, struct listing_request *q)
{
    const struct route *route = m->c->route;

    *q = (struct listing_request){
        .record = m->record,
        .from = m->from,
        .args = m->args,
        .n_args = m->n_args,
        .bound = m->bound,
        .oldest_first = route->oldest_first,
        .scope = m->scope,
        .n_scope = m->n_scope,
        .query = query,
        .extra = route->query,
        .id_prefix_view = m->record->prefix,
        .page = route_page(route, m->c->surface),
        .page_max = route_page_max(route, m->c->surface),
        .sign_key = keyring_sign_key(m->c->app->keys),
    };
}

void crud_list_check(struct call *c, struct faults *f)
{
    struct many m = { .c = c, .record = record_of(c) };
    struct listing_request q;

    request_of(&m, http_req_head(c->p->r)->query, &q);
    listing_check(c->arena, &q, f);
}

static struct str query_value(struct str query, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < query.n;) {
        struct str part = { query.p + i, query.n - i };
        const char *amp = memchr(part.p, '&', part.n);

        if (amp)
            part.n = (size_t)(amp - part.p);
        if (part.n > n && memcmp(part.p, name, n) == 0 && part.p[n] == '=')
            return (struct str){ part.p + n + 1, part.n - n - 1 };
        i += part.n + 1;
    }
    return (struct str){ NULL, 0 };
}

static const char *without_paging(struct arena *a, struct str query)
{
    static const char *const paging[] = { "limit=", "cursor=", "offset=" };
    char *out = arena_alloc(a, query.n + 2), *at = out;

    for (size_t i = 0; i < query.n;) {
        struct str part = { query.p + i, query.n - i };
        const char *amp = memchr(part.p, '&', part.n);
        bool skip = false;

        if (amp)
            part.n = (size_t)(amp - part.p);
        for (size_t j = 0; j < ARRAY_LEN(paging); j++)
            skip = skip || (part.n >= strlen(paging[j]) &&
                            memcmp(part.p, paging[j], strlen(paging[j])) == 0);
        if (part.n && !skip) {
            memcpy(at, part.p, part.n);
            at[part.n] = '&';
            at += part.n + 1;
        }
        i += part.n + 1;
    }
    return out;
}

/* Reads one slice by 'l' and writes it out; *more says whether rows follow it. */
static int slice(struct many *m, const struct listing_request *q, const struct listing *l,
                 struct arena *keep, bool *more, struct err *e)
{
    struct call *c = m->c;
    const struct record *r = m->record;
    struct rows rows;

    TRY(db_query(c->db, c->arena, r, l->sql, l->args, l->n_args, &rows, e));
    *more = (int64_t)rows.n > l->limit;
    if (*more)
        rows.n = (size_t)l->limit;
    for (size_t i = 0; r->show && i < rows.n; i++)
        TRY(r->show(c, (char *)rows.v + i * r->size, e));
    page_rows(c, r, &rows);
    m->left -= (int64_t)rows.n;
    m->next = NULL;
    if (*more && rows.n)
        m->next = arena_strdup(
            keep, listing_cursor(c->arena, q, l, (char *)rows.v + (rows.n - 1) * r->size));
    return 0;
}

/* The slices after the first, each in an arena of its own. */
static int slices(struct many *m, struct err *e)
{
    struct call *c = m->c;
    struct arena *keep = c->arena;
    int rc = 0;

    while (rc == 0 && m->next && m->left > 0 && c->p->buf.n < PAGE_BYTES) {
        struct arena own = ARENA(MIB(256));
        struct listing_request q;
        struct listing l;
        bool more;

        c->arena = &own;
        const char *text = arena_printf(&own, "%scursor=%s&limit=%d", m->others, m->next,
                                        (int)MIN(m->left, (int64_t)slice_rows(m->record)));
        request_of(m, str_of(text), &q);
        listing_plan(&own, &q, &l, &c->p->faults);
        rc = call_faults(c, e);
        if (rc == 0)
            rc = slice(m, &q, &l, keep, &more, e);
        c->arena = keep;
        arena_free(&own);
    }
    return rc;
}

static int list_all(struct many *m, struct err *e)
{
    struct call *c = m->c;
    struct str query = c->p->r ? http_req_head(c->p->r)->query : (struct str){ NULL, 0 };
    struct listing_request q;
    struct listing l;
    struct page page;
    bool more;

    request_of(m, query, &q);
    listing_plan(c->arena, &q, &l, &c->p->faults);
    TRY(call_faults(c, e));
    m->left = l.limit;
    page_open(c, &page);
    if (l.limit > slice_rows(m->record)) {
        struct listing_request first;

        m->others = without_paging(c->arena, query);
        struct str at = query_value(query, "cursor"), from = query_value(query, "offset");
        const char *text =
            arena_printf(c->arena, "%slimit=%d%s%.*s%s%.*s", m->others, slice_rows(m->record),
                         at.p ? "&cursor=" : "", (int)at.n, at.p ? at.p : "",
                         from.p ? "&offset=" : "", (int)from.n, from.p ? from.p : "");
        request_of(m, str_of(text), &first);
        listing_plan(c->arena, &first, &l, &c->p->faults);
        TRY(call_faults(c, e));
        TRY(slice(m, &first, &l, c->arena, &more, e));
        TRY(slices(m, e));
    } else {
        TRY(slice(m, &q, &l, c->arena, &more, e));
    }
    return page_close(c, &page, m->next);
}

int crud_list(struct call *c, struct err *e)
{
    const struct record *r = record_of(c);
    const struct field *above = parent_field_of(c, r);
    struct many m = { .c = c, .record = r };

    if (record_field(r, "tenant_id"))
        m.scope[m.n_scope++] = (struct listing_scope){ "tenant_id", A(&c->tenant) };
    if (record_field(r, "mode"))
        m.scope[m.n_scope++] =
            (struct listing_scope){ "mode", A(enum_to_str(mode_names, (int)c->who->mode)) };
    if (record_field(r, "project_id") && !uuid_is_nil(&c->who->project_id))
        m.scope[m.n_scope++] = (struct listing_scope){ "project_id", A(&c->who->project_id) };
    if (above)
        m.scope[m.n_scope++] = (struct listing_scope){ above->name, A(parent_id(c)) };
    return list_all(&m, e);
}

int list_query(struct call *c, const char *sql, const struct arg *args, size_t n_args,
               struct err *e)
{
    struct many m = { .c = c, .record = record_of(c), .from = sql, .args = args, .n_args = n_args };

    m.bound = arena_printf(c->arena, "%s %s %s", c->tenant.s, c->who->user_id.s, c->id.s);
    return list_all(&m, e);
}

/* ---- changes */

/* What was given, from the body's record into the row's: by name where they differ. */
static uint64_t take_given(const struct record *to, void *row, const struct record *from,
                           const void *in, uint64_t set)
{
    uint64_t taken = 0;

    if (to == from) {
        record_copy(to, row, in, set);
        return set;
    }
    for (size_t i = 0; i < from->n_fields; i++) {
        const struct field *f = &from->fields[i], *t = record_field(to, f->name);

        if (!((set >> i) & 1) || !t || t->type != f->type)
            continue;
        struct field moved = *t;
        struct record one = { .name = to->name, .size = to->size, .fields = &moved, .n_fields = 1 };
        ptrdiff_t shift = (ptrdiff_t)f->offset - (ptrdiff_t)t->offset;
        record_copy(&one, row, (const char *)in + shift, 1);
        taken |= record_bit(to, f->name);
    }
    return taken;
}

int crud_create(struct call *c, struct err *e)
{
    const struct record *r = record_of(c);
    void *row = c->in;

    if (c->route->in != r) {
        row = arena_alloc(c->arena, r->size);
        take_given(r, row, c->route->in, c->in, UINT64_MAX);
    }
    TRY(call_insert(c, r, row, e));
    return reply_shown(c, r, row, e);
}

int crud_patch(struct call *c, struct err *e)
{
    const struct record *r = record_of(c);
    void *row = arena_alloc(c->arena, r->size), *old = arena_alloc(c->arena, r->size);

    TRY(call_target(c, r, row, e));
    memcpy(old, row, r->size);
    uint64_t set = take_given(r, row, c->route->in, c->in, c->set);
    if (set)
        TRY(call_update(c, r, old, row, set, e));
    return reply_shown(c, r, row, e);
}

int crud_delete(struct call *c, struct err *e)
{
    const struct record *r = record_of(c);
    void *row = arena_alloc(c->arena, r->size);

    TRY(call_target(c, r, row, e));
    TRY(call_delete(c, r, row, e));
    return reply_deleted(c, "%s deleted", r->name);
}
