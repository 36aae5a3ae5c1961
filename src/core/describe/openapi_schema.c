/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas of records, from their fields alone.  Hides under which names they stand in the document:
 * a record's own, "_create" and "_update" for what clients send, "_page" for lists; a second record
 * of one name gets a number. */
#include "core/describe/openapi_schema.h"
#include "codec/url.h"

/* What text_wrong() of codec/record_read.c refuses. */
#define NO_CONTROLS    "^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]*$"
#define UUID_FORM      "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
#define SUFFIX_FORM    "_[0-7][0-9a-hjkmnp-tv-z]{25}"
#define UUID_EXAMPLE   "01890a5d-ac96-774b-bcce-b302099a8057"
#define SUFFIX_EXAMPLE "_01h455vb4pex5vsknk084sn02q"
#define TIME_EXAMPLE   "2026-01-05T23:00:00.000Z"

static bool shown(const struct field *f, enum schema_kind kind)
{
    if (f->flags & FF_HIDDEN)
        return false;
    switch (kind) {
    case SCHEMA_OUT:
    case SCHEMA_PAGE:
        return !(f->flags & FF_SECRET);
    case SCHEMA_CREATE:
    case SCHEMA_QUERY:
        return f->flags & FF_CREATE;
    case SCHEMA_UPDATE:
        return f->flags & FF_UPDATE;
    }
    abort();
}

/* Whether the object always has it. */
static bool required(const struct field *f, enum schema_kind kind)
{
    bool counted = f->type == F_INT && !(f->flags & FF_ABSENT_NEGATIVE);

    if (!shown(f, kind))
        return false;
    if (kind == SCHEMA_CREATE)
        return field_required(f, true) && !f->alias;
    if (kind == SCHEMA_UPDATE)
        return field_required(f, false);
    if (f->flags & FF_ONCE)
        return false;
    return (f->flags & (FF_ALWAYS | FF_NULL | FF_REQUIRED)) || counted || f->type == F_UUID ||
           f->type == F_BOOL || f->type == F_MICRO || f->type == F_LIST || f->type == F_ENUM;
}

/* ---- one field */

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

const char *schema_id_pattern(struct arena *a, const char *prefix)
{
    if (!prefix)
        return "^" UUID_FORM "$";
    return arena_printf(a, "^(" UUID_FORM "|%s" SUFFIX_FORM ")$", *prefix ? prefix : "[a-z]+");
}

static const char *prefix_of(const struct record *r, const struct field *f)
{
    const struct record *target = f->type == F_UUID ? r : f->ref;

    return f->kinds ? "" : target ? target->prefix : NULL;
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

static void put_text(struct json_out *o, const struct field *f, bool nullable, bool in)
{
    const struct form *form = f->form;

    put_type(o, "string", nullable);
    if (in) {
        if (f->min > 0)
            json_kint(o, "minLength", f->min);
        json_kint(o, "maxLength", field_max(f));
    }
    if (f->flags & FF_URL)
        json_kstr(o, "format", "uri");
    else if (form && form->format)
        json_kstr(o, "format", form->format);
    if (f->flags & FF_URL)
        json_kstr(o, "pattern", URL_PATTERN);
    else if (form && form->pattern)
        json_kstr(o, "pattern", form->pattern);
    else if (in)
        json_kstr(o, "pattern", NO_CONTROLS);
}

static void put_enum(struct json_out *o, const struct field *f, bool nullable, bool in)
{
    put_type(o, "string", nullable);
    json_key(o, "enum");
    json_open(o, '[');
    for (const struct enum_name *n = in && f->accepts ? f->accepts : f->names; n->name; n++)
        json_str(o, n->name);
    if (nullable)
        json_null(o);
    json_close(o);
}

/* An entry of F_LIST, or a value of F_MAP. */
static void put_entry(struct json_out *o, const char *key, const struct form *form, bool in)
{
    json_key(o, key);
    json_open(o, '{');
    json_kstr(o, "type", "string");
    if (in)
        json_kint(o, "maxLength", FIELD_ENTRY_MAX);
    if (form && form->pattern)
        json_kstr(o, "pattern", form->pattern);
    else if (in)
        json_kstr(o, "pattern", NO_CONTROLS);
    json_close(o);
}

static void put_map(struct json_out *o, const struct field *f, bool nullable, bool in)
{
    put_type(o, "object", nullable);
    put_entry(o, "additionalProperties", NULL, in);
    if (!in)
        return;
    if (f->min > 0)
        json_kint(o, "minProperties", f->min);
    json_kint(o, "maxProperties", field_max(f));
    json_key(o, "propertyNames");
    json_open(o, '{');
    json_kint(o, "minLength", 1);
    json_kint(o, "maxLength", FIELD_KEY_MAX);
    json_kstr(o, "pattern", NO_CONTROLS);
    json_close(o);
}

static void put_list(struct json_out *o, struct schemas *s, const struct field *f, bool nullable,
                     bool in)
{
    put_type(o, "array", nullable);
    if (f->type == F_LIST) {
        put_entry(o, "items", f->form, in);
    } else {
        json_key(o, "items");
        json_open(o, '{');
        schema_ref(o, s, f->of, in ? SCHEMA_CREATE : SCHEMA_OUT);
        json_close(o);
    }
    if (!in)
        return;
    if (f->min > 0)
        json_kint(o, "minItems", f->min);
    json_kint(o, "maxItems", field_max(f));
}

/* The members of an object that is JSON already. */
static void raw_members(struct json_out *o, const char *members)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(members), &e);
    struct arena a = ARENA(KIB(64));

    for (size_t i = 0; v && i < json_len(v); i++) {
        const char *key;
        const struct json_value *m = json_member(v, i, &key);

        json_key(o, key);
        json_raw(o, json_text(&a, m));
    }
    o->failed |= !v;
    arena_free(&a);
}

static void put_json(struct json_out *o, const struct field *f, bool nullable, bool in)
{
    if (!f->form)
        return; /* any value */
    if (in && f->form->schema)
        raw_members(o, f->form->schema);
    else
        put_text(o, f, nullable, false);
}

static void put_form(struct json_out *o, struct schemas *s, const struct record *r,
                     const struct field *f, bool nullable, bool in)
{
    switch (f->type) {
    case F_UUID:
    case F_REF:
        put_type(o, "string", nullable);
        json_kstr(o, "pattern", schema_id_pattern(s->arena, prefix_of(r, f)));
        if (prefix_of(r, f))
            json_kstr(o, "x-id-prefix", prefix_of(r, f));
        break;
    case F_STR:
        put_text(o, f, nullable, in);
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
        put_enum(o, f, nullable, in);
        break;
    case F_MICRO:
        put_type(o, "number", nullable);
        if (in)
            put_range(o, f);
        break;
    case F_JSON:
        put_json(o, f, nullable, in);
        break;
    case F_MAP:
        put_map(o, f, nullable, in);
        break;
    case F_LIST:
    case F_ROWS:
        put_list(o, s, f, nullable, in);
        break;
    case F_ROW:
        schema_ref(o, s, f->of, in ? SCHEMA_CREATE : SCHEMA_OUT);
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

/* ---- examples */

static const char *example_id(const struct record *r, const struct field *f, char text[96])
{
    const char *prefix = prefix_of(r, f);

    snprintf(text, 96, "%s%s", prefix ? prefix : "", prefix ? SUFFIX_EXAMPLE : UUID_EXAMPLE);
    return text;
}

static void example_text(struct json_out *o, const struct field *f)
{
    const char *text = f->example         ? f->example
                       : f->form          ? f->form->example
                       : f->dflt_str      ? f->dflt_str
                       : field_max(f) < 4 ? "x"
                                          : "text";

    if ((f->flags & FF_URL) && !f->example) { /* of the first scheme */
        struct buf url = BUF(256);

        buf_printf(&url, "%.*s://example.com/", (int)strcspn(field_schemes(f), " "),
                   field_schemes(f));
        json_str(o, buf_cstr(&url));
        buf_free(&url);
        return;
    }
    json_str(o, text);
}

static void example_entries(struct json_out *o, const struct field *f, enum schema_kind kind)
{
    json_open(o, f->type == F_MAP ? '{' : '[');
    if (f->type == F_MAP)
        json_kstr(o, "team", "shop");
    else if (f->type == F_ROWS)
        schema_example(o, f->of, kind);
    else
        json_str(o, f->form ? f->form->example : "text");
    json_close(o);
}

static void example_value(struct json_out *o, const struct record *r, const struct field *f,
                          enum schema_kind kind)
{
    enum schema_kind inner = kind == SCHEMA_OUT ? SCHEMA_OUT : SCHEMA_CREATE;
    bool in_range = (!f->min && !f->max) || (f->dflt >= f->min && f->dflt <= f->max);
    char text[96];

    if (f->example && f->type != F_STR) {
        json_raw(o, f->example);
        return;
    }
    switch (f->type) {
    case F_UUID:
    case F_REF:
        json_str(o, example_id(r, f, text));
        break;
    case F_STR:
        example_text(o, f);
        break;
    case F_INT:
        json_int(o, in_range ? f->dflt : f->min);
        break;
    case F_MICRO:
        json_micro(o, in_range && f->dflt ? f->dflt : 20000);
        break;
    case F_BOOL:
        json_bool(o, f->dflt != 0);
        break;
    case F_TIME:
        json_str(o, TIME_EXAMPLE);
        break;
    case F_ENUM:
        json_str(o, f->names[0].name);
        break;
    case F_JSON:
        f->form ? json_str(o, f->form->example) : json_raw(o, "{}");
        break;
    case F_ROW:
        schema_example(o, f->of, inner);
        break;
    case F_MAP:
    case F_LIST:
    case F_ROWS:
        example_entries(o, f, inner);
        break;
    }
}

static bool has_arn(const struct record *r, const struct field *f, enum schema_kind kind)
{
    return kind == SCHEMA_OUT && r->arn_service && f->type == F_UUID && strcmp(f->name, "id") == 0;
}

static void example_arn(struct json_out *o, const struct record *r)
{
    char text[256];

    snprintf(text, sizeof(text), "arn:thecloud:%s:local:" UUID_EXAMPLE ":%s/" UUID_EXAMPLE,
             r->arn_service, r->arn_type ? r->arn_type : r->name);
    json_str(o, text);
}

void schema_example(struct json_out *o, const struct record *r, enum schema_kind kind)
{
    json_open(o, '{');
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        bool named = f->example || (kind == SCHEMA_UPDATE && (f->flags & FF_REQUIRED));

        if (!shown(f, kind) || (!named && !required(f, kind)) || (f->flags & FF_ONCE))
            continue;
        json_key(o, f->name);
        example_value(o, r, f, kind);
        if (has_arn(r, f, kind)) {
            json_key(o, "arn");
            example_arn(o, r);
        }
    }
    json_close(o);
}

/* ---- one record */

/* POST takes null for what it may leave out; PATCH clears by it. */
static bool may_be_null(const struct field *f, enum schema_kind kind)
{
    switch (kind) {
    case SCHEMA_OUT:
        return f->flags & FF_NULL;
    case SCHEMA_CREATE:
        return !field_required(f, true);
    case SCHEMA_UPDATE:
        return f->flags & FF_CLEAR;
    default:
        return false;
    }
}

static void put_doc(struct json_out *o, struct arena *a, const struct field *f,
                    enum schema_kind kind, bool alias)
{
    /* Generators take no default of a word that may be null. */
    const char *word = kind == SCHEMA_CREATE && f->type == F_ENUM && !(f->flags & FF_REQUIRED)
                           ? enum_to_str(f->names, (int)f->dflt)
                           : NULL;

    if (alias)
        json_kstr(o, "description", arena_printf(a, "As %s.", f->name));
    else if (f->doc && word)
        json_kstr(o, "description", arena_printf(a, "%s If left out: %s.", f->doc, word));
    else if (f->doc)
        json_kstr(o, "description", f->doc);
    if (!alias && !word && (kind == SCHEMA_CREATE || kind == SCHEMA_QUERY))
        put_default(o, f);
}

static void put_field(struct json_out *o, struct schemas *s, const struct record *r,
                      const struct field *f, enum schema_kind kind, bool alias)
{
    bool nullable = may_be_null(f, kind);
    bool shows = f->type != F_ROW && f->type != F_ROWS && f->type != F_BOOL && f->type != F_ENUM;

    json_open(o, '{');
    put_form(o, s, r, f, nullable, kind != SCHEMA_OUT);
    put_doc(o, s->arena, f, kind, alias);
    if (kind != SCHEMA_OUT && (f->flags & FF_PLANNED))
        json_kbool(o, "x-planned", true);
    if (shows && (f->type != F_JSON || f->form)) {
        json_key(o, "examples");
        json_open(o, '[');
        example_value(o, r, f, kind);
        json_close(o);
    }
    json_close(o);
}

void schema_field(struct json_out *o, struct schemas *s, const struct record *r,
                  const struct field *f, enum schema_kind kind)
{
    put_field(o, s, r, f, kind, false);
}

void schema_alias(struct json_out *o, struct schemas *s, const struct record *r,
                  const struct field *f, enum schema_kind kind)
{
    put_field(o, s, r, f, kind, true);
}

static void put_required(struct json_out *o, const struct record *r, enum schema_kind kind)
{
    bool any = false;

    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!required(f, kind))
            continue;
        if (!any) {
            json_key(o, "required");
            json_open(o, '[');
        }
        any = true;
        json_str(o, f->name);
        if (has_arn(r, f, kind))
            json_str(o, "arn");
    }
    if (any)
        json_close(o);
}

static void put_one_of(struct json_out *o, const char *const *names, size_t n)
{
    json_key(o, "oneOf");
    json_open(o, '[');
    for (size_t i = 0; i < n; i++) {
        json_open(o, '{');
        json_key(o, "required");
        json_open(o, '[');
        json_str(o, names[i]);
        json_close(o);
        json_close(o);
    }
    json_close(o);
}

static void put_not_both(struct json_out *o, const char *a, const char *b)
{
    json_key(o, "not");
    json_open(o, '{');
    json_key(o, "required");
    json_open(o, '[');
    json_str(o, a);
    json_str(o, b);
    json_close(o);
    json_close(o);
}

/* Members of which only one may be given: a second name of one, or fields that stand for each
 * other. */
static void put_alternatives(struct json_out *o, const struct record *r, enum schema_kind kind)
{
    const char *either[8];
    size_t n = 0;

    json_key(o, "allOf");
    json_open(o, '[');
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (shown(f, kind) && (f->flags & FF_EITHER) && n < ARRAY_LEN(either))
            either[n++] = f->name;
        if (!shown(f, kind) || !f->alias)
            continue;
        json_open(o, '{');
        if (kind == SCHEMA_CREATE && field_required(f, true))
            put_one_of(o, (const char *const[]){ f->name, f->alias }, 2);
        else
            put_not_both(o, f->name, f->alias);
        json_close(o);
    }
    if (n && kind == SCHEMA_CREATE) {
        json_open(o, '{');
        put_one_of(o, either, n);
        json_close(o);
    }
    json_close(o);
}

static bool has_alternatives(const struct record *r, enum schema_kind kind)
{
    for (size_t i = 0; kind != SCHEMA_OUT && i < r->n_fields; i++)
        if (shown(&r->fields[i], kind) &&
            (r->fields[i].alias || (kind == SCHEMA_CREATE && (r->fields[i].flags & FF_EITHER))))
            return true;
    return false;
}

static void put_arn(struct json_out *o, struct arena *a, const struct record *r)
{
    const char *type = r->arn_type ? r->arn_type : r->name;

    json_key(o, "arn");
    json_open(o, '{');
    json_kstr(o, "type", "string");
    json_kstr(o, "pattern",
              arena_printf(a, "^arn:thecloud:%s:[^:]*:(" UUID_FORM ")?:%s/" UUID_FORM "$",
                           r->arn_service, type));
    json_kstr(o, "description", "Its name in policies.");
    json_key(o, "examples");
    json_open(o, '[');
    example_arn(o, r);
    json_close(o);
    json_close(o);
}

static void put_schema(struct json_out *o, struct schemas *s, const struct record *r,
                       enum schema_kind kind)
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
        schema_field(o, s, r, f, kind);
        if (has_arn(r, f, kind))
            put_arn(o, s->arena, r);
        if (kind != SCHEMA_OUT && f->alias && !record_field(r, f->alias)) {
            json_key(o, f->alias);
            schema_alias(o, s, r, f, kind);
        }
    }
    json_close(o);
    put_required(o, r, kind);
    if (has_alternatives(r, kind))
        put_alternatives(o, r, kind);
    if (kind != SCHEMA_OUT)
        json_kbool(o, "additionalProperties", false);
    json_close(o);
}

static void put_page(struct json_out *o, struct schemas *s, const struct record *r)
{
    json_open(o, '{');
    json_kstr(o, "type", "object");
    json_key(o, "required");
    json_raw(o, "[\"data\",\"next_cursor\",\"has_more\",\"request_id\"]");
    json_key(o, "properties");
    json_open(o, '{');
    json_key(o, "data");
    json_open(o, '{');
    json_kstr(o, "type", "array");
    json_key(o, "items");
    json_open(o, '{');
    schema_ref(o, s, r, SCHEMA_OUT);
    json_close(o);
    json_close(o);
    json_key(o, "next_cursor");
    json_raw(o, "{\"type\":[\"string\",\"null\"],\"description\":\"As ?cursor= it gives the next "
                "page; null on the last.\"}");
    json_key(o, "has_more");
    json_raw(o, "{\"type\":\"boolean\",\"description\":\"Whether there is a next page.\"}");
    json_key(o, "request_id");
    json_raw(o, "{\"type\":\"string\",\"description\":\"Finds the request in the log.\"}");
    json_close(o);
    json_close(o);
}

/* ---- names */

/* A body that is named so for the code's sake: "login_in" is "login". */
static const char *name_of(struct arena *a, const struct record *r, enum schema_kind kind)
{
    static const char *const endings[] = { "", "_create", "_update", "_query", "_page" };
    size_t n = strlen(r->name);
    bool body = (kind == SCHEMA_CREATE || kind == SCHEMA_UPDATE) && n > 3 &&
                strcmp(r->name + n - 3, "_in") == 0;

    return body ? arena_dup(a, r->name, n - 3) : arena_printf(a, "%s%s", r->name, endings[kind]);
}

static struct schema *schema_find(struct schemas *s, const struct record *r, enum schema_kind kind)
{
    int same = 1;

    for (struct schema *x = s->first; x; x = x->next)
        if (x->record == r && x->kind == kind)
            return x;
    for (struct schema *x = s->first; x; x = x->next)
        if (x->kind == kind && strcmp(x->record->name, r->name) == 0)
            same++;
    struct schema *x = arena_new(s->arena, struct schema);
    *x = (struct schema){ .record = r, .kind = kind };
    x->name = name_of(s->arena, r, kind);
    if (same > 1)
        x->name = arena_printf(s->arena, "%s_%d", x->name, same);
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

    json_kstr(o, "$ref", arena_printf(s->arena, "#/components/schemas/%s", name));
}

void schemas_write(struct json_out *o, struct schemas *s)
{
    for (const struct schema *x = s->first; x; x = x->next) { /* grows while it is written */
        json_key(o, x->name);
        if (x->kind == SCHEMA_PAGE)
            put_page(o, s, x->record);
        else
            put_schema(o, s, x->record, x->kind);
    }
}
