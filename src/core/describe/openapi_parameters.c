/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of operations: of the path, of the query by the route's record or the list's fields,
 * and the headers that all share. */
#include "core/describe/openapi_private.h"
#include "core/rows/listing.h"

static void param_begin(struct json_out *o, const char *name, const char *in, bool required,
                        const char *doc)
{
    json_open(o, '{');
    json_kstr(o, "name", name);
    json_kstr(o, "in", in);
    if (required)
        json_kbool(o, "required", true);
    if (doc)
        json_kstr(o, "description", doc);
    json_key(o, "schema");
}

static void param_text(struct json_out *o, const char *name, const char *in, bool required,
                       const char *pattern, const char *doc)
{
    param_begin(o, name, in, required, doc);
    json_open(o, '{');
    json_kstr(o, "type", "string");
    if (pattern)
        json_kstr(o, "pattern", pattern);
    json_close(o);
    json_close(o);
}

static void param_time(struct json_out *o, const char *name)
{
    param_begin(o, name, "query", false, "A time or a date (RFC 3339).");
    json_raw(o, "{\"type\":\"string\",\"format\":\"date-time\"}");
    json_close(o);
}

static void param_number(struct json_out *o, const char *name, int64_t min, int64_t max,
                         int64_t dflt, const char *doc)
{
    param_begin(o, name, "query", false, doc);
    json_open(o, '{');
    json_kstr(o, "type", "integer");
    json_kint(o, "minimum", min);
    json_kint(o, "maximum", max);
    json_kint(o, "default", dflt);
    json_close(o);
    json_close(o);
}

static void param_ref(struct json_out *o, const char *name)
{
    char text[80];

    snprintf(text, sizeof(text), "#/components/parameters/%s", name);
    json_open(o, '{');
    json_kstr(o, "$ref", text);
    json_close(o);
}

static void path_params(struct doc *d, const struct entry *en)
{
    for (const char *p = strchr(en->path, '{'); p; p = strchr(p + 1, '{')) {
        const char *end = strchr(p, '}');
        const char *name = arena_dup(&d->arena, p + 1, (size_t)(end - p - 1));
        bool id = strcmp(name, "id") == 0;
        bool named = id && en->route->by_name && en->surface == CLASSIC;

        param_text(&d->o, name, "path", true,
                   id && !named ? schema_id_pattern(&d->arena, "") : NULL,
                   named ? "Id (UUID or prefixed) or name."
                   : id  ? "Id: a UUID, or its prefixed form."
                         : NULL);
    }
}

static void sort_param(struct doc *d, const struct record *r)
{
    bool any = false;

    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!(f->flags & FF_SORT))
            continue;
        if (!any) {
            param_begin(&d->o, "sort", "query", false, "Order; '-' before it is downwards.");
            json_open(&d->o, '{');
            json_kstr(&d->o, "type", "string");
            json_key(&d->o, "enum");
            json_open(&d->o, '[');
        }
        any = true;
        json_str(&d->o, f->name);
        json_str(&d->o, arena_printf(&d->arena, "-%s", f->name));
    }
    if (!any)
        return;
    json_close(&d->o);
    json_close(&d->o);
    json_close(&d->o);
}

static bool asked_by_query(const struct route *r, const char *name)
{
    return r->query && record_field(r->query, name);
}

/* What one value of a filter looks like, or NULL. */
static const char *filter_pattern(struct doc *d, const struct record *r, const struct field *f)
{
    const struct record *target = f->type == F_UUID ? r : f->ref;
    const char *id, *words = "";

    switch (f->type) {
    case F_UUID:
    case F_REF:
        id = schema_id_pattern(&d->arena, f->kinds ? "" : target ? target->prefix : NULL);
        return arena_dup(&d->arena, id + 1, strlen(id) - 2);
    case F_BOOL:
        return "(true|false)";
    case F_ENUM:
        for (const struct enum_name *n = f->names; n->name; n++)
            words = arena_printf(&d->arena, "%s%s%s", words, *words ? "|" : "", n->name);
        return arena_printf(&d->arena, "(%s)", words);
    case F_INT:
        return "-?[0-9]{1,18}";
    default:
        return arena_printf(&d->arena, "[^,\\x00]{1,%lld}", (long long)field_max(f));
    }
}

static void filter_params(struct doc *d, const struct route *r)
{
    for (size_t i = 0; i < r->out->n_fields; i++) {
        const struct field *f = &r->out->fields[i];

        if (!(f->flags & FF_FILTER) || asked_by_query(r, f->name))
            continue;
        const char *one = filter_pattern(d, r->out, f);
        param_text(
            &d->o, f->name, "query", false,
            arena_printf(&d->arena, "^%s(,%s){0,%d}$", one, one, LISTING_ANY_OF - 1),
            arena_printf(&d->arena, "Only these; commas mean any of. %s", f->doc ? f->doc : ""));
    }
}

static void list_params(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    struct json_out *o = &d->o;

    if (!asked_by_query(r, "limit"))
        param_number(o, "limit", 1, route_page_max(r, en->surface), route_page(r, en->surface),
                     "Most rows to answer.");
    if (!asked_by_query(r, "cursor"))
        param_text(o, "cursor", "query", false, NULL, "Goes on where another page ended.");
    if (!asked_by_query(r, "offset"))
        param_number(o, "offset", 0, LISTING_MAX_OFFSET, 0,
                     "Rows to skip; not together with cursor.");
    if (!r->out)
        return;
    if (!asked_by_query(r, "sort"))
        sort_param(d, r->out);
    if (record_field(r->out, "created_at")) {
        param_time(o, "created_after");
        param_time(o, "created_before");
    }
    if (record_field(r->out, "updated_at"))
        param_time(o, "updated_after");
    filter_params(d, r);
}

static void query_param(struct doc *d, const struct entry *en, const struct field *f, bool alias)
{
    const char *doc = alias ? arena_printf(&d->arena, "As %s.", f->name) : f->doc;
    const char *name = alias ? f->alias : f->name;

    param_begin(&d->o, name, "query", f->flags & FF_REQUIRED, doc);
    if (alias)
        schema_alias(&d->o, &d->schemas, en->route->query, f, SCHEMA_QUERY);
    else
        schema_field(&d->o, &d->schemas, en->route->query, f, SCHEMA_QUERY);
    json_close(&d->o);
}

static void query_params(struct doc *d, const struct entry *en)
{
    const struct record *q = en->route->query;

    for (size_t i = 0; q && i < q->n_fields; i++) {
        query_param(d, en, &q->fields[i], false);
        if (q->fields[i].alias)
            query_param(d, en, &q->fields[i], true);
    }
}

void operation_parameters(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    bool has_id = strstr(en->path, "{id}") != NULL;

    json_key(&d->o, "parameters");
    json_open(&d->o, '[');
    path_params(d, en);
    query_params(d, en);
    if (r->list)
        list_params(d, en);
    if (!r->public)
        param_ref(&d->o, "tenant");
    if (route_keyed(r))
        param_ref(&d->o, "idempotency_key");
    if ((route_matches(r) && has_id) || r->bytes)
        param_ref(&d->o, "if_match");
    if (route_tagged(r))
        param_ref(&d->o, "if_none_match");
    if (r->bytes) {
        param_ref(&d->o, "range");
        param_ref(&d->o, "if_range");
    }
    json_close(&d->o);
}

void common_parameters(struct json_out *o)
{
    struct arena a = ARENA(KIB(4));
    const struct {
        const char *key, *header, *pattern, *doc;
    } all[] = {
        { "tenant", "X-Tenant-ID", schema_id_pattern(&a, tenant_ref.prefix),
          "Acts in another of the user's tenants, for this request." },
        { "idempotency_key", "Idempotency-Key", "^[!#-~]([ !#-~]{0,253}[!#-~])?$",
          "The first outcome under this key is kept and replayed." },
        { "if_match", "If-Match", NULL, "Fails with 412 unless the object's ETag is this one." },
        { "if_none_match", "If-None-Match", NULL, "Answers 304 while the ETag is this one." },
        { "range", "Range", NULL,
          "One range of bytes: bytes=0-499, bytes=500-, bytes=-500; of several the whole is answered." },
        { "if_range", "If-Range", NULL,
          "Range holds while the ETag, or the date in Last-Modified, is this one." },
    };

    json_key(o, "parameters");
    json_open(o, '{');
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        json_key(o, all[i].key);
        param_text(o, all[i].header, "header", false, all[i].pattern, all[i].doc);
    }
    json_close(o);
    arena_free(&a);
}
