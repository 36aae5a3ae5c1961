/* SPDX-License-Identifier: Apache-2.0 */
/* Records in and out of rows: the only place that knows how a field looks as a column.  A nil uuid
 * and an absent text are NULL, an enum is its word, a time that is absent is 0. */
#include "db/driver.h"

int args_check(const struct arg *args, size_t n, struct err *e)
{
    if (n > DB_MAX_ARGS)
        return err_set(e, ERR_INTERNAL, "a statement takes at most %d arguments", DB_MAX_ARGS);
    for (size_t i = 0; i < n; i++)
        if (args[i].type == ARG_STR && args[i].s && args[i].n && memchr(args[i].s, '\0', args[i].n))
            return err_set(e, ERR_INVALID, "text must not contain a NUL character");
    return 0;
}

static int run(struct db *db, const struct stmt_key *k, const struct arg *args, size_t n,
               const struct sink *sink, int64_t *changed, struct err *e)
{
    return db->class->run(db, k, args, n, sink, changed, e);
}

bool db_is_postgres(const struct db *db)
{
    return db->class->postgres;
}

int db_now(struct db *db, int64_t *out, struct err *e)
{
    return db->class->now(db, out, e);
}

const char *db_columns(const struct record *r, struct arena *a)
{
    struct buf b = BUF(KIB(64));

    sql_columns(&b, r, (struct str){ NULL, 0 });
    const char *s = arena_dup(a, b.p, b.n);
    buf_free(&b);
    return s;
}

int db_exec(struct db *db, const char *sql, const struct arg *args, size_t n, struct err *e)
{
    return run(db, &(struct stmt_key){ .sql = sql }, args, n, NULL, NULL, e);
}

int db_exec_n(struct db *db, const char *sql, const struct arg *args, size_t n, int64_t *changed,
              struct err *e)
{
    return run(db, &(struct stmt_key){ .sql = sql }, args, n, NULL, changed, e);
}

int db_each(struct db *db, const char *sql, const struct arg *args, size_t n, db_row_fn *fn,
            void *ctx, struct err *e)
{
    struct sink sink = { fn, ctx, true };

    return run(db, &(struct stmt_key){ .sql = sql }, args, n, &sink, NULL, e);
}

struct one_int {
    bool seen, null;
    int64_t value;
};

static int take_int(void *ctx, const struct col *cols, size_t n, struct err *e _unused_)
{
    struct one_int *x = ctx;

    if (!x->seen)
        *x = (struct one_int){ true, n == 0 || !cols[0].s, n ? cols[0].i : 0 };
    return 0;
}

int db_int(struct db *db, const char *sql, const struct arg *args, size_t n, int64_t dflt,
           int64_t *out, struct err *e)
{
    struct one_int x = { false, false, 0 };
    struct sink sink = { take_int, &x, false };

    TRY(run(db, &(struct stmt_key){ .sql = sql }, args, n, &sink, NULL, e));
    *out = x.seen && !x.null ? x.value : dflt;
    return 0;
}

/* ---- sealed columns */

static int sealer_of(struct db *db, const struct field *f, const struct db_sealer **out,
                     struct err *e)
{
    *out = db->store ? db->store->sealer : NULL;
    return *out ? 0 : err_cause(e, ERR_INTERNAL, f->name, "a sealed column, and no keys");
}

static struct str bound_to(struct arena *a, const struct record *r, const struct field *f,
                           const void *row)
{
    const struct uuid *id = FIELD_CAT(row, &r->fields[record_index(r, "id")], struct uuid);

    return str_of(arena_printf(a, "%s/%s/%s", r->name, id->s, f->name));
}

static int seal(struct db *db, struct arena *a, const struct record *r, const struct field *f,
                const void *row, struct arg *out, struct err *e)
{
    const char *plain = *FIELD_CAT(row, f, const char *);
    const struct db_sealer *s;

    TRY(sealer_of(db, f, &s, e));
    *out = arg_str(plain ? s->seal(s->ctx, a, str_of(plain), bound_to(a, r, f, row)) : NULL);
    return 0;
}

static int too_many(struct err *e)
{
    return err_cause(e, ERR_TOO_LARGE, "a query gave more than is taken at once",
                     "The answer is too large: ask for less");
}

/* Opens the sealed texts of a row that has been read. */
static int unseal(struct db *db, struct arena *a, const struct record *r, void *row, struct err *e)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        const struct db_sealer *s;
        struct str plain;

        if (!(f->flags & FF_SEALED) || !*FIELD_AT(row, f, const char *))
            continue;
        const char **text = FIELD_AT(row, f, const char *);
        _cleanup_(arena_free) struct arena own = ARENA(strlen(*text) * 4 + MIB(2));
        TRY(sealer_of(db, f, &s, e));
        TRY(s->unseal(s->ctx, &own, *text, bound_to(&own, r, f, row), &plain, e));
        *text = arena_try_dup(a, plain.p, plain.n);
        if (!*text)
            return too_many(e);
    }
    return 0;
}

/* ---- rows to structs */

static int field_read(struct arena *a, void *row, const struct field *f, const struct col *c,
                      struct err *e)
{
    if (!c->s)
        return 0; /* the row is zeroed */
    switch (f->type) {
    case F_UUID:
    case F_REF: {
        struct uuid *u = FIELD_AT(row, f, struct uuid);

        if (c->n >= sizeof(u->s))
            return err_cause(e, ERR_INTERNAL, f->name, "the database holds an id that is none");
        memcpy(u->s, c->s, c->n);
        return 0;
    }
    case F_STR:
    case F_JSON:
    case F_MAP:
    case F_LIST:
        *FIELD_AT(row, f, const char *) = arena_try_dup(a, c->s, c->n);
        return *FIELD_AT(row, f, const char *) ? 0 : too_many(e);
    case F_INT:
    case F_TIME:
    case F_MICRO:
        *FIELD_AT(row, f, int64_t) = c->i;
        return 0;
    case F_BOOL:
        *FIELD_AT(row, f, bool) = c->i != 0;
        return 0;
    case F_ROW:
    case F_ROWS:
        break;
    case F_ENUM: {
        const struct enum_name *at = f->names;

        while (at->name && strcmp(at->name, c->s) != 0)
            at++;
        if (!at->name)
            return err_cause(e, ERR_INTERNAL, f->name,
                             "the database holds a word that this program does not know");
        memcpy((char *)row + f->offset, &at->value, sizeof(at->value));
        return 0;
    }
    }
    return err_cause(e, ERR_INTERNAL, f->name, "a field of no type");
}

static int row_read(struct db *db, struct arena *a, void *row, const struct record *r,
                    const struct col *cols, size_t n, struct err *e)
{
    size_t c = 0;

    for (size_t i = 0; i < r->n_fields; i++) {
        if (!field_has_column(&r->fields[i]))
            continue;
        if (c == n)
            break;
        TRY(field_read(a, row, &r->fields[i], &cols[c++], e));
    }
    size_t want = 0;
    for (size_t i = 0; i < r->n_fields; i++)
        want += field_has_column(&r->fields[i]);
    if (want != n)
        return err_set(e, ERR_INTERNAL, "%zu columns for the %zu of %s", n, want, r->name);
    return unseal(db, a, r, row, e);
}

struct filling {
    struct db *db;
    struct arena *a;
    const struct record *r;
    char *rows;
    size_t n, cap, bytes;
};

static int take_row(void *ctx, const struct col *cols, size_t n, struct err *e)
{
    struct filling *x = ctx;

    for (size_t i = 0; i < n; i++)
        x->bytes += cols[i].n;
    if (x->n == DB_ROWS_MAX || x->bytes > DB_BYTES_MAX)
        return too_many(e);
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 8;
        char *more = arena_try(x->a, cap * x->r->size);

        if (!more)
            return too_many(e);
        if (x->n)
            memcpy(more, x->rows, x->n * x->r->size);
        x->rows = more;
        x->cap = cap;
    }
    TRY(row_read(x->db, x->a, x->rows + x->n * x->r->size, x->r, cols, n, e));
    x->n++;
    return 0;
}

int db_query(struct db *db, struct arena *a, const struct record *r, const char *sql,
             const struct arg *args, size_t n, struct rows *out, struct err *e)
{
    struct filling x = { .db = db, .a = a, .r = r };
    struct sink sink = { take_row, &x, false };

    TRY(run(db, &(struct stmt_key){ .r = r, .sql = sql }, args, n, &sink, NULL, e));
    *out = (struct rows){ x.rows, x.n };
    return 0;
}

static int take_only_row(void *ctx, const struct col *cols, size_t n, struct err *e)
{
    struct filling *x = ctx;

    if (x->n++)
        return err_set(e, ERR_INTERNAL, "more than one %s where one was sought", x->r->name);
    if (!(x->rows = arena_try(x->a, x->r->size)))
        return too_many(e);
    return row_read(x->db, x->a, x->rows, x->r, cols, n, e);
}

int db_one(struct db *db, struct arena *a, const struct record *r, const char *sql,
           const struct arg *args, size_t n, void *row, struct err *e)
{
    struct filling x = { .db = db, .a = a, .r = r };
    struct sink sink = { take_only_row, &x, false };

    TRY(run(db, &(struct stmt_key){ .r = r, .sql = sql }, args, n, &sink, NULL, e));
    if (!x.n)
        return err_set(e, ERR_NOT_FOUND, "no such %s", r->name);
    memcpy(row, x.rows, r->size);
    return 0;
}

/* ---- structs to rows */

static int field_arg(const void *row, const struct field *f, struct arg *out, struct err *e)
{
    switch (f->type) {
    case F_UUID:
    case F_REF:
        *out = arg_uuid(FIELD_CAT(row, f, struct uuid));
        return 0;
    case F_STR:
    case F_JSON:
    case F_MAP:
    case F_LIST:
        *out = arg_str(*FIELD_CAT(row, f, const char *));
        return 0;
    case F_INT:
    case F_TIME:
    case F_MICRO:
        *out = arg_int(*FIELD_CAT(row, f, int64_t));
        return 0;
    case F_BOOL:
        *out = arg_bool(*FIELD_CAT(row, f, bool));
        return 0;
    case F_ROW:
    case F_ROWS:
        break;
    case F_ENUM: {
        int value;

        memcpy(&value, (const char *)row + f->offset, sizeof(value));
        const char *word = enum_to_str(f->names, value);
        if (!word)
            return err_cause(e, ERR_INTERNAL, f->name, "the value %d has no word", value);
        *out = arg_str(word);
        return 0;
    }
    }
    return err_cause(e, ERR_INTERNAL, f->name, "a field of no type");
}

static int column_arg(struct db *db, struct arena *a, const struct record *r, const struct field *f,
                      const void *row, struct arg *out, struct err *e)
{
    if (f->flags & FF_SEALED)
        return seal(db, a, r, f, row, out, e);
    return field_arg(row, f, out, e);
}

int db_insert(struct db *db, struct arena *a, const struct record *r, const void *row,
              struct err *e)
{
    struct arg args[64];
    size_t n = 0;

    for (size_t i = 0; i < r->n_fields; i++)
        if (field_has_column(&r->fields[i]))
            TRY(column_arg(db, a, r, &r->fields[i], row, &args[n++], e));
    return run(db, &(struct stmt_key){ .kind = STMT_INSERT, .r = r }, args, n, NULL, NULL, e);
}

int db_update(struct db *db, struct arena *a, const struct record *r, const void *row, uint64_t set,
              struct err *e)
{
    int id = record_index(r, "id");
    struct arg args[64];
    int64_t changed = 0;
    uint64_t columns = 0;
    size_t n = 0;

    for (size_t i = 0; i < r->n_fields; i++) {
        if (!(set >> i & 1) || (int)i == id || !field_has_column(&r->fields[i]))
            continue;
        TRY(column_arg(db, a, r, &r->fields[i], row, &args[n++], e));
        columns |= (uint64_t)1 << i;
    }
    if (!columns)
        return 0;
    TRY(field_arg(row, &r->fields[id], &args[n++], e));
    TRY(run(db, &(struct stmt_key){ .kind = STMT_UPDATE, .r = r, .set = columns }, args, n, NULL,
            &changed, e));
    if (!changed)
        return err_set(e, ERR_NOT_FOUND, "no such %s", r->name);
    return 0;
}
