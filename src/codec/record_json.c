/* SPDX-License-Identifier: Apache-2.0 */
/* Rows out by their field table, and back in from what we wrote ourselves.  The one place that
 * knows which fields may leave: secrets never, what is shown once only at creation. */
#include "codec/json.h"

#include "codec/id.h"
#include "codec/text.h"

static bool is_absent(const struct field *f, const void *row)
{
    switch (f->type) {
    case F_UUID:
    case F_REF:
        return uuid_is_nil(FIELD_CAT(row, f, struct uuid));
    case F_STR:
    case F_JSON:
    case F_MAP:
        return !*FIELD_CAT(row, f, const char *);
    case F_TIME:
        return *FIELD_CAT(row, f, int64_t) == 0;
    case F_ROW:
        return !*FIELD_CAT(row, f, const void *);
    case F_ROWS:
        return !FIELD_CAT(row, f, struct rows)->v;
    case F_INT:
        return (f->flags & FF_ABSENT_NEGATIVE) && *FIELD_CAT(row, f, int64_t) < 0;
    case F_ENUM:
        return !enum_to_str(f->names, *FIELD_CAT(row, f, int));
    default:
        return false;
    }
}

static void write_rows(struct json_out *o, const struct record *r, const struct rows *rows)
{
    json_open(o, '[');
    for (size_t i = 0; i < rows->n; i++)
        json_row(o, r, (const char *)rows->v + i * r->size);
    json_close(o);
}

static const char *ref_prefix(const struct field *f, const void *row)
{
    const struct record *to = f->kinds ? field_kind(f, row) : f->ref;

    return to ? to->prefix : NULL;
}

static void write_value(struct json_out *o, const struct record *r, const struct field *f,
                        const void *row)
{
    switch (f->type) {
    case F_UUID:
        json_id(o, r->prefix, FIELD_CAT(row, f, struct uuid));
        break;
    case F_REF:
        json_id(o, ref_prefix(f, row), FIELD_CAT(row, f, struct uuid));
        break;
    case F_STR:
        json_str(o, *FIELD_CAT(row, f, const char *));
        break;
    case F_INT:
        json_int(o, *FIELD_CAT(row, f, int64_t));
        break;
    case F_BOOL:
        json_bool(o, *FIELD_CAT(row, f, bool));
        break;
    case F_TIME:
        json_time(o, *FIELD_CAT(row, f, int64_t));
        break;
    case F_ENUM:
        json_str(o, enum_to_str(f->names, *FIELD_CAT(row, f, int)));
        break;
    case F_MICRO:
        json_micro(o, *FIELD_CAT(row, f, int64_t));
        break;
    case F_JSON:
    case F_MAP:
        json_raw(o, *FIELD_CAT(row, f, const char *));
        break;
    case F_LIST:
        json_raw(o, *FIELD_CAT(row, f, const char *) ? *FIELD_CAT(row, f, const char *) : "[]");
        break;
    case F_ROW:
        json_row(o, f->of, *FIELD_CAT(row, f, const void *));
        break;
    case F_ROWS:
        write_rows(o, f->of, FIELD_CAT(row, f, struct rows));
        break;
    }
}

static void write_arn(struct json_out *o, const struct record *r, const struct uuid *id,
                      const void *row)
{
    const struct field *tenant = record_field(r, "tenant_id");
    const char *region = o->view.region ? o->view.region : "";
    const char *const parts[] = { "arn:thecloud:",
                                  r->arn_service,
                                  ":",
                                  region,
                                  ":",
                                  tenant ? FIELD_CAT(row, tenant, struct uuid)->s : "",
                                  ":",
                                  r->arn_type ? r->arn_type : r->name,
                                  "/",
                                  id->s };
    char arn[384];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t len = strlen(parts[i]);

        if (len > sizeof(arn) - n) {
            o->failed = true;
            return;
        }
        memcpy(arn + n, parts[i], len);
        n += len;
    }
    json_key(o, "arn");
    json_strn(o, arn, n);
}

void json_members(struct json_out *o, const struct record *r, const void *row)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (f->flags & (FF_SECRET | FF_HIDDEN))
            continue;
        if ((f->flags & FF_ONCE) && !o->view.creation)
            continue;
        if (is_absent(f, row)) {
            if (f->flags & FF_NULL) {
                json_key(o, f->name);
                json_null(o);
            }
            continue;
        }
        json_key(o, f->name);
        write_value(o, r, f, row);
        if (f->type == F_UUID && r->arn_service && strcmp(f->name, "id") == 0)
            write_arn(o, r, FIELD_CAT(row, f, struct uuid), row);
    }
}

void json_row(struct json_out *o, const struct record *r, const void *row)
{
    json_open(o, '{');
    json_members(o, r, row);
    json_close(o);
}

void json_dump_row(struct json_out *o, const struct record *r, const void *row)
{
    struct json_view was = o->view;

    o->view = (struct json_view){ .region = was.region };
    json_open(o, '{');
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        /* What is left out is read back as zero. */
        if ((f->flags & FF_VIRTUAL) || (f->type != F_INT && is_absent(f, row)))
            continue;
        if (f->type == F_LIST && !*FIELD_CAT(row, f, const char *))
            continue;
        json_key(o, f->name);
        if (f->type == F_TIME)
            json_int(o, *FIELD_CAT(row, f, int64_t));
        else
            write_value(o, r, f, row);
    }
    json_close(o);
    o->view = was;
}

/* ---- back in */

static bool load_id(const char *prefix, struct str s, struct uuid *out)
{
    struct uuid u;
    char got[64];

    if (prefix)
        return id_parse(s, prefix, out) == ID_OK;
    if (uuid_parse(s, out))
        return true;
    if (!typeid_parse(s, got, &u))
        return false;
    *out = u;
    return true;
}

static bool load_text(struct arena *a, const struct record *r, const struct field *f,
                      const struct json_value *v, void *row)
{
    size_t n = 0;
    const char *s = json_str_of(v, &n);
    struct str text = { s, n };

    if (!s)
        return false;
    switch (f->type) {
    case F_UUID:
        return load_id(r->prefix, text, FIELD_AT(row, f, struct uuid));
    case F_REF:
        return load_id(f->ref ? f->ref->prefix : NULL, text, FIELD_AT(row, f, struct uuid));
    case F_TIME:
        return time_parse(text, FIELD_AT(row, f, int64_t));
    case F_ENUM:
        for (const struct enum_name *e = f->names; e->name; e++)
            if (strcmp(e->name, s) == 0) {
                *FIELD_AT(row, f, int) = e->value;
                return true;
            }
        return false;
    default:
        *FIELD_AT(row, f, const char *) = arena_dup(a, s, n);
        return true;
    }
}

static bool load_rows(struct arena *a, const struct record *r, const struct json_value *v,
                      struct rows *out)
{
    size_t n = json_len(v);
    char *rows = arena_alloc(a, MAX(n, (size_t)1) * r->size);
    struct err e;

    if (json_type_of(v) != JSON_ARR)
        return false;
    for (size_t i = 0; i < n; i++)
        if (json_load_row(a, r, json_at(v, i), rows + i * r->size, &e) < 0)
            return false;
    *out = (struct rows){ rows, n };
    return true;
}

static bool load_row(struct arena *a, const struct record *r, const struct json_value *v,
                     const void **out)
{
    void *row = arena_alloc(a, r->size);
    struct err e;

    if (json_load_row(a, r, v, row, &e) < 0)
        return false;
    *out = row;
    return true;
}

static bool load_value(struct arena *a, const struct record *r, const struct field *f,
                       const struct json_value *v, void *row)
{
    enum json_type t = json_type_of(v);

    switch (f->type) {
    case F_INT:
        *FIELD_AT(row, f, int64_t) = json_int_of(v);
        return t == JSON_INT;
    case F_BOOL:
        *FIELD_AT(row, f, bool) = json_bool_of(v);
        return t == JSON_BOOL;
    case F_MICRO:
        return json_micro_of(v, FIELD_AT(row, f, int64_t));
    case F_TIME:
        *FIELD_AT(row, f, int64_t) = json_int_of(v);
        return t == JSON_INT || load_text(a, r, f, v, row);
    case F_JSON:
    case F_MAP:
    case F_LIST:
        *FIELD_AT(row, f, const char *) = json_text(a, v);
        return f->type == F_JSON || t == (f->type == F_MAP ? JSON_OBJ : JSON_ARR);
    case F_ROW:
        return load_row(a, f->of, v, FIELD_AT(row, f, const void *));
    case F_ROWS:
        return load_rows(a, f->of, v, FIELD_AT(row, f, struct rows));
    default:
        return load_text(a, r, f, v, row);
    }
}

int json_load_row(struct arena *a, const struct record *r, const struct json_value *obj, void *row,
                  struct err *e)
{
    if (json_type_of(obj) != JSON_OBJ)
        return err_set(e, ERR_INVALID, "a %s must be a JSON object", r->name);
    memset(row, 0, r->size);
    for (size_t i = 0; i < json_len(obj); i++) {
        const char *key;
        const struct json_value *v = json_member(obj, i, &key);
        const struct field *f = record_field(r, key);

        if (!f || json_type_of(v) == JSON_NULL)
            continue;
        if (!load_value(a, r, f, v, row))
            return err_set(e, ERR_INVALID, "%s.%s has a wrong value", r->name, f->name);
    }
    return 0;
}
