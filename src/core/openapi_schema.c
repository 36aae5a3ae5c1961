/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas of records, from their fields alone.  Hides under which names they stand in the document:
 * a record's own, "_create" and "_update" for what clients send; a second record of one name gets a
 * number. */
#include "core/openapi_schema.h"

bool schema_out(const struct field *f)
{
    return !(f->flags & (FF_HIDDEN | FF_SECRET));
}

static bool shown(const struct field *f, enum schema_kind kind)
{
    if (f->flags & FF_HIDDEN)
        return false;
    switch (kind) {
    case SCHEMA_OUT:
        return schema_out(f);
    case SCHEMA_CREATE:
        return f->flags & FF_CREATE;
    case SCHEMA_UPDATE:
        return f->flags & FF_UPDATE;
    }
    abort();
}

static void put_type(struct json_out *o, const char *type, bool nullable)
{
    json_key(o, "type");
    if (!nullable) {
        json_str(o, type);
        return;
    }
    json_open(o, '[');
    json_str(o, type);
    json_str(o, "null");
    json_close(o);
}

static void put_range(struct json_out *o, const struct field *f)
{
    if (f->min == 0 && f->max == 0)
        return;
    json_key(o, "minimum");
    f->type == F_MICRO ? json_micro(o, f->min) : json_int(o, f->min);
    json_key(o, "maximum");
    f->type == F_MICRO ? json_micro(o, f->max) : json_int(o, f->max);
}

static void put_id(struct json_out *o, const struct field *f, const char *prefix, bool nullable)
{
    (void)f;
    put_type(o, "string", nullable);
    if (prefix)
        json_kstr(o, "x-id-prefix", prefix);
}

static void put_form(struct json_out *o, const struct record *r, const struct field *f,
                     bool nullable, bool in)
{
    switch (f->type) {
    case F_UUID:
        put_id(o, f, r ? r->prefix : NULL, nullable);
        break;
    case F_REF:
        put_id(o, f, f->ref ? f->ref->prefix : NULL, nullable);
        break;
    case F_STR:
        put_type(o, "string", nullable);
        if (in) {
            if (f->min > 0)
                json_kint(o, "minLength", 1);
            json_kint(o, "maxLength", f->max > 0 ? f->max : 255);
        }
        break;
    case F_INT:
        put_type(o, "integer", nullable);
        json_kstr(o, "format", "int64");
        if (in)
            put_range(o, f);
        break;
    case F_BOOL:
        put_type(o, "boolean", nullable);
        break;
    case F_TIME:
        put_type(o, "string", nullable);
        json_kstr(o, "format", "date-time");
        break;
    case F_ENUM:
        put_type(o, "string", nullable);
        json_key(o, "enum");
        json_open(o, '[');
        for (const struct enum_name *n = f->names; n->name; n++)
            json_str(o, n->name);
        if (nullable)
            json_null(o);
        json_close(o);
        break;
    case F_MICRO:
        put_type(o, "number", nullable);
        if (in)
            put_range(o, f);
        break;
    case F_JSON:
        break;
    case F_MAP:
        put_type(o, "object", nullable);
        json_key(o, "additionalProperties");
        json_open(o, '{');
        json_kstr(o, "type", "string");
        json_close(o);
        if (in)
            json_kint(o, "maxProperties", f->max > 0 ? f->max : 50);
        break;
    case F_LIST:
        put_type(o, "array", nullable);
        json_key(o, "items");
        json_open(o, '{');
        json_kstr(o, "type", "string");
        json_close(o);
        if (in)
            json_kint(o, "maxItems", f->max > 0 ? f->max : 50);
        break;
    }
}

/* What POST takes where the member is left out. */
static void put_default(struct json_out *o, const struct field *f)
{
    if (f->flags & FF_REQUIRED)
        return;
    const char *word = f->type == F_ENUM ? enum_to_str(f->names, (int)f->dflt) : NULL;
    /* A default out of range is a service's word for "left out". */
    bool in_range = (!f->min && !f->max) || (f->dflt >= f->min && f->dflt <= f->max);

    if (f->type == F_INT && f->dflt && in_range)
        json_kint(o, "default", f->dflt);
    else if (f->type == F_BOOL)
        json_kbool(o, "default", f->dflt != 0);
    else if (word)
        json_kstr(o, "default", word);
    else if (f->type == F_STR && f->dflt_str)
        json_kstr(o, "default", f->dflt_str);
    else if (f->dflt_str) {
        json_key(o, "default");
        json_raw(o, f->dflt_str);
    }
}

void schema_field(struct json_out *o, const struct record *r, const struct field *f,
                  enum schema_kind kind)
{
    bool nullable =
        kind == SCHEMA_OUT ? f->flags & FF_NULL : kind == SCHEMA_UPDATE && (f->flags & FF_CLEAR);

    json_open(o, '{');
    put_form(o, r, f, nullable, kind != SCHEMA_OUT);
    if (f->doc)
        json_kstr(o, "description", f->doc);
    if (kind == SCHEMA_CREATE)
        put_default(o, f);
    if (kind == SCHEMA_OUT && !(f->flags & (FF_CREATE | FF_UPDATE)))
        json_kbool(o, "readOnly", true);
    json_close(o);
}

static void put_required(struct json_out *o, const struct record *r, enum schema_kind kind)
{
    bool any = false;

    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        bool due = kind == SCHEMA_CREATE
                       ? shown(f, kind) && (f->flags & FF_REQUIRED) && !f->alias
                       : kind == SCHEMA_OUT && shown(f, kind) && f->type == F_UUID;

        if (!due)
            continue;
        if (!any) {
            json_key(o, "required");
            json_open(o, '[');
        }
        any = true;
        json_str(o, f->name);
    }
    if (any)
        json_close(o);
}

static void put_schema(struct json_out *o, const struct record *r, enum schema_kind kind)
{
    json_open(o, '{');
    json_kstr(o, "type", "object");
    json_key(o, "properties");
    json_open(o, '{');
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!shown(f, kind))
            continue;
        json_key(o, f->name);
        schema_field(o, r, f, kind);
        if (kind != SCHEMA_OUT && f->alias && !record_field(r, f->alias)) {
            json_key(o, f->alias);
            schema_field(o, r, f, kind);
        }
    }
    json_close(o);
    put_required(o, r, kind);
    if (kind != SCHEMA_OUT)
        json_kbool(o, "additionalProperties", false);
    json_close(o);
}

/* ---- names */

static struct schema *schema_find(struct schemas *s, const struct record *r, enum schema_kind kind)
{
    static const char *const endings[] = { "", "_create", "_update" };
    int same = 1;

    for (struct schema *x = s->first; x; x = x->next)
        if (x->record == r && x->kind == kind)
            return x;
    for (struct schema *x = s->first; x; x = x->next)
        if (x->kind == kind && strcmp(x->record->name, r->name) == 0)
            same++;
    struct schema *x = arena_new(s->arena, struct schema);
    *x = (struct schema){ .record = r, .kind = kind };
    x->name = same > 1 ? arena_printf(s->arena, "%s%s_%d", r->name, endings[kind], same)
                       : arena_printf(s->arena, "%s%s", r->name, endings[kind]);
    if (s->last)
        s->last->next = x;
    else
        s->first = x;
    s->last = x;
    return x;
}

void schema_ref(struct json_out *o, struct schemas *s, const struct record *r,
                enum schema_kind kind)
{
    const char *name = schema_find(s, r, kind)->name;

    json_open(o, '{');
    json_kstr(o, "$ref", arena_printf(s->arena, "#/components/schemas/%s", name));
    json_close(o);
}

void schemas_write(struct json_out *o, const struct schemas *s)
{
    for (const struct schema *x = s->first; x; x = x->next) {
        json_key(o, x->name);
        put_schema(o, x->record, x->kind);
    }
}
