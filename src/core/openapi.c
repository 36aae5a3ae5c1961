/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenAPI 3.1 document: the services' route tables, read once more.  Hides how routes become
 * paths of both surfaces and what every operation has in common. */
#include "core/app.h"
#include "core/openapi_schema.h"

struct entry { /* a row at one of its paths */
    const char *path;
    const struct route *route;
    const struct service *service;
    enum surface surface;
    bool alias;
};

struct doc {
    struct arena arena;
    struct json_out o;
    struct schemas schemas;
    struct entry *entries;
    size_t n, cap;
};

/* ---- collecting */

static void add(struct doc *d, const char *path, const struct route *r, const struct service *s,
                enum surface surface, bool alias)
{
    if (d->n == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 128;
        d->entries = reallocarray(d->entries, d->cap, sizeof(*d->entries));
        if (!d->entries)
            abort();
    }
    d->entries[d->n++] = (struct entry){ path, r, s, surface, alias };
}

/* "/x/{key...}" as OpenAPI writes it. */
static const char *plain_path(struct doc *d, const char *prefix, const char *path)
{
    char *p = arena_printf(&d->arena, "%s%s", prefix, path);
    char *dots = strstr(p, "...}");

    if (dots)
        memmove(dots, dots + 3, strlen(dots + 3) + 1);
    return p;
}

static int by_path(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = strcmp(x->path, y->path);

    return c ? c : (int)x->route->method - (int)y->route->method;
}

/* As mount.c does: what begins with /v1/ or /. stands at that path alone. */
static void add_path(struct doc *d, const char *path, const struct route *r,
                     const struct service *s, bool alias)
{
    unsigned on = r->on ? r->on : CLASSIC | PLATFORM;

    if (strncmp(path, "/v1/", 4) == 0 || strncmp(path, "/.", 2) == 0) {
        add(d, plain_path(d, "", path), r, s, (on & PLATFORM) ? PLATFORM : CLASSIC, alias);
        return;
    }
    if (on & CLASSIC)
        add(d, plain_path(d, "", path), r, s, CLASSIC, alias);
    if (on & PLATFORM)
        add(d, plain_path(d, "/v1", path), r, s, PLATFORM, alias);
}

static void collect(struct doc *d, const struct service *const *services)
{
    for (; *services; services++)
        for (const struct route *r = (*services)->routes; r && r->path; r++) {
            add_path(d, r->path, r, *services, false);
            for (const char *const *a = r->alias; a && *a; a++)
                add_path(d, *a, r, *services, true);
        }
    if (d->n)
        qsort(d->entries, d->n, sizeof(*d->entries), by_path);
}

/* ---- parameters */

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
                       const char *format, const char *doc)
{
    param_begin(o, name, in, required, doc);
    json_open(o, '{');
    json_kstr(o, "type", "string");
    if (format)
        json_kstr(o, "format", format);
    json_close(o);
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

        param_text(&d->o, name, "path", true, NULL,
                   strcmp(name, "id") != 0 ? NULL
                   : en->route->by_name && en->surface == CLASSIC
                       ? "Id (UUID or prefixed) or name."
                       : "Id: a UUID, or its prefixed form.");
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

static void list_params(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    bool platform = en->surface == PLATFORM;
    int page = r->page ? r->page : platform ? 20 : 1000;
    int max = r->page_max ? r->page_max : platform ? 100 : 1000;
    struct json_out *o = &d->o;

    if (!asked_by_query(r, "limit"))
        param_number(o, "limit", 1, max, page, "Most rows to answer.");
    if (!asked_by_query(r, "cursor"))
        param_text(o, "cursor", "query", false, NULL, "Goes on where another page ended.");
    if (!asked_by_query(r, "offset"))
        param_number(o, "offset", 0, 10000000, 0, "Rows to skip; not together with cursor.");
    if (!r->out)
        return;
    if (!asked_by_query(r, "sort"))
        sort_param(d, r->out);
    if (record_field(r->out, "created_at")) {
        param_text(o, "created_after", "query", false, NULL, "RFC 3339 time or a date.");
        param_text(o, "created_before", "query", false, NULL, "RFC 3339 time or a date.");
    }
    if (record_field(r->out, "updated_at"))
        param_text(o, "updated_after", "query", false, NULL, "RFC 3339 time or a date.");
    for (size_t i = 0; i < r->out->n_fields; i++) {
        const struct field *f = &r->out->fields[i];

        if ((f->flags & FF_FILTER) && !asked_by_query(r, f->name))
            param_text(o, f->name, "query", false, NULL,
                       arena_printf(&d->arena, "Only these; commas mean any of. %s",
                                    f->doc ? f->doc : ""));
    }
}

static void query_params(struct doc *d, const struct record *q)
{
    for (size_t i = 0; q && i < q->n_fields; i++) {
        const struct field *f = &q->fields[i];

        param_begin(&d->o, f->name, "query", f->flags & FF_REQUIRED, f->doc);
        schema_field(&d->o, q, f, SCHEMA_CREATE);
        json_close(&d->o);
    }
}

static bool writes(const struct route *r)
{
    return r->method != GET && (r->work == WRITE || r->work == LONG);
}

static void parameters(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    bool has_id = strstr(en->path, "{id}") != NULL;

    json_key(&d->o, "parameters");
    json_open(&d->o, '[');
    path_params(d, en);
    query_params(d, r->query);
    if (r->list)
        list_params(d, en);
    if (!r->public)
        param_ref(&d->o, "tenant");
    if (writes(r) && !r->public)
        param_ref(&d->o, "idempotency_key");
    if (writes(r) && has_id)
        param_ref(&d->o, "if_match");
    if (r->method == GET && r->out && r->work != STREAM)
        param_ref(&d->o, "if_none_match");
    json_close(&d->o);
}

/* ---- bodies and answers */

static void content_begin(struct json_out *o, const char *type)
{
    json_key(o, "content");
    json_open(o, '{');
    json_key(o, type);
    json_open(o, '{');
    json_key(o, "schema");
}

static void content_end(struct json_out *o)
{
    json_close(o);
    json_close(o);
}

static void empty_schema(struct json_out *o)
{
    json_open(o, '{');
    json_close(o);
}

static void request_body(struct doc *d, const struct route *r)
{
    bool update = r->method == PATCH || r->partial;

    if (!r->in && r->body == BODY_AUTO)
        return;
    json_key(&d->o, "requestBody");
    json_open(&d->o, '{');
    if (r->body == BODY_AUTO)
        json_kbool(&d->o, "required", true);
    content_begin(&d->o, r->body == BODY_RAW ? "application/octet-stream" : "application/json");
    if (r->body == BODY_AUTO)
        schema_ref(&d->o, &d->schemas, r->in, update ? SCHEMA_UPDATE : SCHEMA_CREATE);
    else
        empty_schema(&d->o);
    content_end(&d->o);
    json_close(&d->o);
}

static void envelope(struct doc *d, const struct record *out)
{
    struct json_out *o = &d->o;

    json_open(o, '{');
    json_key(o, "allOf");
    json_open(o, '[');
    json_open(o, '{');
    json_kstr(o, "$ref", "#/components/schemas/page");
    json_close(o);
    json_open(o, '{');
    json_kstr(o, "type", "object");
    json_key(o, "properties");
    json_open(o, '{');
    json_key(o, "data");
    json_open(o, '{');
    json_kstr(o, "type", "array");
    json_key(o, "items");
    if (out)
        schema_ref(o, &d->schemas, out, SCHEMA_OUT);
    else
        empty_schema(o);
    json_close(o);
    json_close(o);
    json_close(o);
    json_close(o);
    json_close(o);
}

static void answer_schema(struct doc *d, const struct entry *en)
{
    const struct record *out = en->route->out;
    struct json_out *o = &d->o;

    if (!en->route->list) {
        if (out)
            schema_ref(o, &d->schemas, out, SCHEMA_OUT);
        else
            empty_schema(o);
    } else if (en->surface == PLATFORM) {
        envelope(d, out);
    } else {
        json_open(o, '{');
        json_kstr(o, "type", "array");
        json_key(o, "items");
        if (out)
            schema_ref(o, &d->schemas, out, SCHEMA_OUT);
        else
            empty_schema(o);
        json_close(o);
    }
}

static void responses(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    struct json_out *o = &d->o;
    bool deleted = r->status == 204;
    char status[8];

    snprintf(status, sizeof(status), "%d", deleted && en->surface == CLASSIC ? 200 : r->status);
    json_key(o, "responses");
    json_open(o, '{');
    json_key(o, status);
    json_open(o, '{');
    json_kstr(o, "description", r->doc ? r->doc : "Done.");
    if (r->work == STREAM) {
        content_begin(o, "text/event-stream");
        json_open(o, '{');
        json_kstr(o, "type", "string");
        json_close(o);
        content_end(o);
    } else if (deleted && en->surface == CLASSIC) {
        content_begin(o, "application/json");
        json_open(o, '{');
        json_kstr(o, "$ref", "#/components/schemas/message_answer");
        json_close(o);
        content_end(o);
    } else if (!deleted) {
        content_begin(o, "application/json");
        answer_schema(d, en);
        content_end(o);
    }
    json_close(o);
    json_key(o, "default");
    json_open(o, '{');
    json_kstr(o, "$ref", "#/components/responses/error");
    json_close(o);
    json_close(o);
}

/* ---- operations */

/* post_v1_queues_id_messages: unique, for method and path are. */
static const char *operation_id(struct doc *d, const struct entry *en)
{
    char *id = arena_printf(&d->arena, "%s%s", method_name(en->route->method), en->path);
    char *to = id;

    for (const char *p = id; *p; p++) {
        char c = *p;

        if (c == '{' || c == '}')
            continue;
        if (c >= 'A' && c <= 'Z')
            c = (char)(c - 'A' + 'a');
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        *to++ = word ? c : '_';
    }
    *to = '\0';
    return id;
}

static void operation(struct doc *d, const struct entry *en)
{
    static const char *const works[] = { "quick", "read", "write", "long", "stream" };
    const struct route *r = en->route;
    struct json_out *o = &d->o;
    char *method = arena_strdup(&d->arena, method_name(r->method));

    for (char *p = method; *p; p++)
        *p = (char)(*p | 0x20);
    json_key(o, method);
    json_open(o, '{');
    json_kstr(o, "operationId", operation_id(d, en));
    if (r->doc)
        json_kstr(o, "summary", r->doc);
    json_key(o, "tags");
    json_open(o, '[');
    json_str(o, en->service->name);
    json_close(o);
    if (en->alias || r->deprecated)
        json_kbool(o, "deprecated", true);
    if (r->public) {
        json_key(o, "security");
        json_open(o, '[');
        json_close(o);
    }
    if (r->action)
        json_kstr(o, "x-action", r->action);
    json_kstr(o, "x-work", works[r->work]);
    if (r->operator)
        json_kbool(o, "x-operator", true);
    parameters(d, en);
    request_body(d, r);
    responses(d, en);
    json_close(o);
}

static void paths(struct doc *d)
{
    json_key(&d->o, "paths");
    json_open(&d->o, '{');
    for (size_t i = 0; i < d->n; i++) {
        bool first = i == 0 || strcmp(d->entries[i].path, d->entries[i - 1].path) != 0;
        bool last = i + 1 == d->n || strcmp(d->entries[i].path, d->entries[i + 1].path) != 0;
        bool same_method = !first && d->entries[i].route->method == d->entries[i - 1].route->method;

        if (first) {
            json_key(&d->o, d->entries[i].path);
            json_open(&d->o, '{');
        }
        if (!same_method)
            operation(d, &d->entries[i]);
        if (last)
            json_close(&d->o);
    }
    json_close(&d->o);
}

/* ---- what all have in common */

static const char error_schema[] =
    "{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"type\":\"object\","
    "\"required\":[\"code\",\"message\",\"request_id\"],\"properties\":{\"code\":{\"type\":"
    "\"string\"},\"message\":{\"type\":\"string\"},\"details\":{\"description\":\"Text, or every "
    "fault of the request.\",\"oneOf\":[{\"type\":\"string\"},{\"type\":\"array\",\"items\":{"
    "\"type\":\"object\",\"properties\":{\"field\":{\"type\":\"string\"},\"code\":{\"type\":"
    "\"string\"},\"message\":{\"type\":\"string\"}}}}]},\"request_id\":{\"type\":\"string\"}}}}}";
static const char page_schema[] =
    "{\"type\":\"object\",\"required\":[\"data\",\"has_more\"],\"properties\":{\"data\":{\"type\":"
    "\"array\",\"items\":{}},\"next_cursor\":{\"type\":[\"string\",\"null\"]},\"has_more\":{"
    "\"type\":\"boolean\"},\"request_id\":{\"type\":\"string\"}}}";
static const char message_schema[] =
    "{\"type\":\"object\",\"properties\":{\"message\":{\"type\":\"string\"}}}";
static const char security_schemes[] =
    "{\"api_key\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"X-API-Key\"},"
    "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}";
static const char security[] = "[{\"api_key\":[]},{\"bearer\":[]}]";
static const char error_response[] =
    "{\"error\":{\"description\":\"What went wrong, in one shape for all.\",\"content\":{"
    "\"application/json\":{\"schema\":{\"$ref\":\"#/components/schemas/error\"}}}}}";

static void common_parameters(struct json_out *o)
{
    static const struct {
        const char *key, *header, *doc;
    } all[] = {
        { "tenant", "X-Tenant-ID", "Acts in another of the user's tenants, for this request." },
        { "idempotency_key", "Idempotency-Key",
          "The first outcome under this key is kept and replayed." },
        { "if_match", "If-Match", "Fails with 412 unless the object's ETag is this one." },
        { "if_none_match", "If-None-Match", "Answers 304 while the ETag is this one." },
    };

    json_key(o, "parameters");
    json_open(o, '{');
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        json_key(o, all[i].key);
        param_text(o, all[i].header, "header", false, NULL, all[i].doc);
    }
    json_close(o);
}

static void raw(struct json_out *o, const char *key, const char *json)
{
    json_key(o, key);
    json_raw(o, json);
}

static void head(struct doc *d, const struct service *const *services)
{
    struct json_out *o = &d->o;

    json_kstr(o, "openapi", "3.1.0");
    json_key(o, "info");
    json_open(o, '{');
    json_kstr(o, "title", "brume");
    json_kstr(o, "version", BRUME_VERSION);
    json_kstr(o, "description",
              "A whole cloud in one program. Paths under /v1 answer lists in an envelope and ids "
              "with prefixes; the same paths without /v1 answer bare lists and UUIDs.");
    raw(o, "license", "{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}");
    json_close(o);
    raw(o, "servers", "[{\"url\":\"/\"}]");
    raw(o, "security", security);
    json_key(o, "tags");
    json_open(o, '[');
    for (; *services; services++) {
        json_open(o, '{');
        json_kstr(o, "name", (*services)->name);
        if ((*services)->doc)
            json_kstr(o, "description", (*services)->doc);
        json_close(o);
    }
    json_close(o);
}

void openapi_write(const struct service *const *services, struct buf *out)
{
    struct doc d = { .arena = ARENA(MIB(64)), .o = JSON_OUT(out) };

    d.schemas.arena = &d.arena;
    collect(&d, services);
    json_open(&d.o, '{');
    head(&d, services);
    paths(&d);
    json_key(&d.o, "components");
    json_open(&d.o, '{');
    json_key(&d.o, "schemas");
    json_open(&d.o, '{');
    raw(&d.o, "error", error_schema);
    raw(&d.o, "page", page_schema);
    raw(&d.o, "message_answer", message_schema);
    schemas_write(&d.o, &d.schemas);
    json_close(&d.o);
    common_parameters(&d.o);
    raw(&d.o, "responses", error_response);
    raw(&d.o, "securitySchemes", security_schemes);
    json_close(&d.o);
    json_close(&d.o);
    if (json_done(&d.o) < 0)
        out->failed = true;
    free(d.entries);
    arena_free(&d.arena);
}
