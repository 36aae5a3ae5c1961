/* SPDX-License-Identifier: Apache-2.0 */
/* Records against the tables they are rows of.  Hides where each database keeps what its tables
 * are: a column that a migration forgot is found when the program starts, not by the first client
 * who asks for it. */
#include "core/rows/columns.h"

#include "core/inside.h"

/* Name, type, NOT NULL, and whether the database fills it where nobody does. */
static const char sql_table[] =
    "SELECT /*lite: name, type, \"notnull\", dflt_value IS NOT NULL OR pk > 0"
    " FROM pragma_table_info($1) */"
    " /*pg: attname, format_type(atttypid, NULL), attnotnull, atthasdef OR attidentity <> ''"
    " FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped */";

struct column {
    const char *name, *type;
    bool not_null, filled;
};

struct table {
    struct arena *arena;
    struct column *columns;
    size_t n, cap;
};

static int take_column(void *ctx, const struct col *c, size_t n _unused_, struct err *e _unused_)
{
    struct table *t = ctx;

    t->columns = arena_more(t->arena, t->columns, t->n, &t->cap, sizeof(*t->columns));
    t->columns[t->n++] = (struct column){ .name = arena_strdup(t->arena, c[0].s),
                                          .type = arena_strdup(t->arena, c[1].s),
                                          .not_null = c[2].i != 0,
                                          .filled = c[3].i != 0 };
    return 0;
}

static bool is_text(const struct field *f)
{
    return f->type != F_INT && f->type != F_TIME && f->type != F_MICRO && f->type != F_BOOL;
}

static bool type_fits(const struct field *f, const char *type)
{
    if (is_text(f))
        return strcasecmp(type, "text") == 0;
    if (f->type == F_BOOL)
        return strcasecmp(type, "boolean") == 0;
    return strcasecmp(type, "bigint") == 0 || strcasecmp(type, "integer") == 0;
}

/* Whether a row may come without it. */
static bool may_be_null(const struct field *f)
{
    if (f->flags & FF_CLEAR)
        return true;
    return is_text(f) && f->type != F_ENUM && (f->flags & FF_CREATE) && !f->dflt_str &&
           !(f->flags & (FF_REQUIRED | FF_ALWAYS));
}

/* Of rows that are quiet nobody is promised anything. */
static const char *fault_of(const struct record *r, const struct field *f, const struct column *c)
{
    if (!c)
        return "has no column";
    if (!type_fits(f, c->type))
        return "has a column of another type";
    if ((f->flags & FF_SORT) && !c->not_null)
        return "is sorted by, so its column must be NOT NULL";
    if ((f->flags & FF_ALWAYS) && is_text(f) && !r->quiet && !c->not_null)
        return "is never absent, so its column must be NOT NULL";
    if (may_be_null(f) && c->not_null)
        return "may be absent, and its column is NOT NULL";
    return NULL;
}

static const struct column *column_of(const struct table *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->columns[i].name, name) == 0)
            return &t->columns[i];
    return NULL;
}

static int check(struct db *db, struct arena *a, const struct record *r, struct err *e)
{
    struct table t = { .arena = a };

    TRY(db_each(db, sql_table, ARGS(A(r->table)), take_column, &t, e));
    if (t.n == 0)
        return err_set(e, ERR_INTERNAL, "record %s: there is no table %s", r->name, r->table);
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        const char *wrong = field_has_column(f) ? fault_of(r, f, column_of(&t, f->name)) : NULL;

        if (wrong)
            return err_set(e, ERR_INTERNAL, "%s.%s %s (table %s)", r->name, f->name, wrong,
                           r->table);
    }
    for (size_t i = 0; i < t.n; i++) {
        const struct field *f = record_field(r, t.columns[i].name);

        if (t.columns[i].not_null && !t.columns[i].filled && !(f && field_has_column(f)))
            return err_set(e, ERR_INTERNAL, "record %s does not fill %s.%s, which is NOT NULL",
                           r->name, r->table, t.columns[i].name);
    }
    return 0;
}

/* ---- all of them, each once */

struct all {
    struct arena *arena;
    const struct record **v;
    size_t n, cap;
};

static void add(struct all *x, const struct record *r)
{
    for (size_t i = 0; i < x->n; i++)
        if (x->v[i] == r)
            return;
    if (!r || !r->table)
        return;
    x->v = arena_more(x->arena, x->v, x->n, &x->cap, sizeof(const struct record *));
    x->v[x->n++] = r;
}

static void collect(const struct app *app, struct all *x)
{
    for (const struct service *const *s = app->services; *s; s++) {
        for (const struct route *r = (*s)->routes; r && r->path; r++) {
            add(x, r->in);
            add(x, r->out);
        }
        for (const struct reconciler *const *l = (*s)->loops; l && *l; l++)
            add(x, (*l)->record);
    }
}

int columns_check(struct app *app, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    struct all all = { .arena = &a };
    struct db *db = store_reader(app->store, e);
    int rc = db ? db_read_round(db, e) : -1;

    collect(app, &all);
    for (size_t i = 0; rc == 0 && i < all.n; i++)
        rc = check(db, &a, all.v[i], e);
    if (db) {
        db_read_done(db);
        store_reader_back(app->store, db);
    }
    return rc;
}
