/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that point to rows.  Hides who points to whom: a table made once from the columns of all
 * records, so that no service knows of those that refer to its rows. */
#include "core/rows/refs.h"

#include "core/request/request.h"

enum { MANY = 1000 }; /* rows that one deletion may take along or clear */

struct ref_row {
    struct ref_row *next;
    const struct record *record;
    const void *row;
    struct uuid id;
};

/* ---- who points to whom */

static bool points(const struct field *f)
{
    return f->type == F_REF && f->on_delete != REF_LOOSE;
}

bool refs_in(const struct record *r)
{
    for (size_t i = 0; r && i < r->n_fields; i++)
        if (points(&r->fields[i]) && (r->fields[i].flags & (FF_CREATE | FF_UPDATE)))
            return true;
    return false;
}

/* Where it may point, ended by NULL. */
static const struct record *const *kinds_of(const struct field *f, const struct record *one[2])
{
    one[0] = f->ref;
    one[1] = NULL;
    return f->kinds ? f->kinds : one;
}

static const struct field *kind_field(const struct record *r, const struct field *f)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (r->fields[i].offset == f->kind_at && r->fields[i].type == F_STR)
            return &r->fields[i];
    return NULL;
}

static int check(const struct record *r, const struct field *f, struct err *e)
{
    const struct record *one[2];
    const struct record *const *k = kinds_of(f, one);

    if (!*k)
        return err_set(e, ERR_INTERNAL, "%s.%s points to nothing", r->name, f->name);
    for (; *k; k++)
        if (!(*k)->table)
            return err_set(e, ERR_INTERNAL, "%s.%s points to what is no row", r->name, f->name);
    if (f->kinds && !kind_field(r, f))
        return err_set(e, ERR_INTERNAL, "%s.%s: no column has its kind", r->name, f->name);
    if (f->on_delete == REF_CASCADE && record_field(r, "deleted_at"))
        return err_set(e, ERR_INTERNAL, "%s.%s: rows that go by steps do not go with others",
                       r->name, f->name);
    return 0;
}

int refs_collect(struct app *app, struct err *e)
{
    struct reference *all = arena_new_n(&app->arena, struct reference, app->n_infos * 8 + 1);
    size_t n = 0;

    for (size_t i = 0; i < app->n_infos; i++) {
        const struct record *r = app->infos[i].record;
        bool known = !r || !r->table;

        for (size_t k = 0; k < n && !known; k++)
            known = all[k].from == r;
        for (size_t k = 0; !known && k < r->n_fields; k++) {
            if (!points(&r->fields[k]))
                continue;
            TRY(check(r, &r->fields[k], e));
            const struct record *one[2];
            for (const struct record *const *to = kinds_of(&r->fields[k], one); *to; to++) {
                if (n == app->n_infos * 8)
                    return err_set(e, ERR_INTERNAL, "%s: too many references", r->name);
                all[n++] = (struct reference){ r, &r->fields[k], *to };
            }
        }
    }
    app->references = all;
    return 0;
}

/* ---- what a body refers to */

/* 1: it is there, and remembered; 0: it is not. */
static int resolve(struct call *c, const struct field *f, struct err *e)
{
    const struct uuid *id = FIELD_CAT(c->in, f, struct uuid);
    const struct record *said = f->kinds ? field_kind(f, c->in) : NULL, *one[2];

    for (const struct record *const *to = kinds_of(f, one); *to; to++) {
        void *row = arena_alloc(c->arena, (*to)->size);

        if (said && said != *to)
            continue;
        if (row_for_ref(c, *to, id, true, row, e) < 0) {
            if (e->code != ERR_NOT_FOUND)
                return -1;
            continue;
        }
        struct ref_row *x = arena_new(c->arena, struct ref_row);
        *x = (struct ref_row){ c->p->refs, *to, row, *id };
        c->p->refs = x;
        if (f->kinds)
            *FIELD_AT(c->in, kind_field(c->route->in, f), const char *) = (*to)->name;
        return 1;
    }
    return 0;
}

static const char *kinds_text(struct arena *a, const struct field *f)
{
    const struct record *one[2];
    const char *all = "";

    for (const struct record *const *to = kinds_of(f, one); *to; to++)
        all = arena_printf(a, "%s%s%s", all, *all ? " or " : "", (*to)->name);
    return all;
}

int refs_resolve(struct call *c, struct err *e)
{
    const struct record *in = c->route->in;
    const struct field *first = NULL;

    c->p->refs = NULL;
    for (size_t i = 0; i < in->n_fields; i++) {
        const struct field *f = &in->fields[i];

        if (!points(f) || !((c->set >> i) & 1))
            continue;
        if (f->kinds) /* with the one comes the other, also where both go */
            c->set |= record_bit_at(in, f->kind_at);
        if (uuid_is_nil(FIELD_CAT(c->in, f, struct uuid))) {
            if (f->kinds)
                *FIELD_AT(c->in, kind_field(in, f), const char *) = NULL;
            continue;
        }
        int found = resolve(c, f, e);
        TRY(found);
        if (found)
            continue;
        fault_add(c, f->name, "not_found", "there is no such %s", kinds_text(c->arena, f));
        first = first ? first : f;
    }
    if (!first)
        return 0;
    return err_set(e, ERR_NOT_FOUND, "There is no such %s: %s", kinds_text(c->arena, first),
                   first->name);
}

const void *refs_row(const struct call *c, const struct record *r, const struct uuid *id)
{
    for (const struct ref_row *x = c->p->refs; x; x = x->next)
        if (x->record == r && uuid_eq(&x->id, id))
            return x->row;
    return NULL;
}

/* ---- what a deletion means for those who point here */

static const char *name_of(const struct record *r, const void *row)
{
    const struct field *f = record_field(r, "name");

    return f && f->type == F_STR ? *FIELD_CAT(row, f, const char *)
                                 : FIELD_CAT(row, record_field(r, "id"), struct uuid)->s;
}

static int refuse(struct call *c, const struct reference *ref, const struct record *r,
                  const void *row, const struct rows *users, struct err *e)
{
    char more[48] = "";

    (void)c;
    if (users->n > 1)
        snprintf(more, sizeof(more), " and of %s%zu more", users->n > MANY ? "over " : "",
                 MIN(users->n - 1, (size_t)MANY - 1));
    return err_set(e, ERR_INVALID_STATE, "%s '%.64s' is the %s of %s '%.64s'%s: change those first",
                   r->name, name_of(r, row), ref->field->name, ref->from->name,
                   name_of(ref->from, users->v), more);
}

static int clear(struct call *c, const struct reference *ref, void *row, struct err *e)
{
    void *old = arena_dup(c->arena, row, ref->from->size);

    uint64_t set = record_bit(ref->from, ref->field->name);

    *FIELD_AT(row, ref->field, struct uuid) = (struct uuid){ "" };
    if (ref->field->kinds) {
        *FIELD_AT(row, kind_field(ref->from, ref->field), const char *) = NULL;
        set |= record_bit_at(ref->from, ref->field->kind_at);
    }
    return call_update(c, ref->from, old, row, set, e);
}

static int follow(struct call *c, const struct reference *ref, const struct record *r,
                  const void *row, struct err *e)
{
    const struct uuid *id = FIELD_CAT(row, record_field(r, "id"), struct uuid);
    const char *sql = arena_printf(
        c->arena, "SELECT @ FROM %s WHERE %s = $1%s ORDER BY id LIMIT %d /*pg: FOR UPDATE */",
        ref->from->table, ref->field->name,
        record_field(ref->from, "deleted_at") ? " AND deleted_at = 0" : "", MANY + 1);
    struct rows users;

    TRY(db_query(c->db, c->arena, ref->from, sql, ARGS(A(id)), &users, e));
    bool among = c->p->emptying && ref->from == r; /* two that point at each other go too */
    if (users.n && ((ref->field->on_delete == REF_RESTRICT && !among) || users.n > MANY))
        return refuse(c, ref, r, row, &users, e);
    for (size_t i = 0; i < users.n; i++) {
        void *user = (char *)users.v + i * ref->from->size;

        if (ref->field->on_delete == REF_CLEAR || among)
            TRY(clear(c, ref, user, e));
        else
            TRY(call_delete(c, ref->from, user, e));
    }
    return 0;
}

int refs_delete(struct call *c, const struct record *r, const void *row, struct err *e)
{
    for (const struct reference *x = c->app->references; x && x->from; x++)
        if (x->to == r)
            TRY(follow(c, x, r, row, e));
    return 0;
}
