/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenAPI 3.1 document: the services' route tables, read once more.  Hides how routes become
 * paths of both surfaces and what every operation has in common. */
#include "core/describe/openapi_private.h"

/* ---- collecting */

static void add(struct doc *d, const char *path, const struct route *r, const struct service *s,
                enum surface surface, int alias)
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
                     const struct service *s, int alias)
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
            add_path(d, r->path, r, *services, 0);
            for (const char *const *a = r->alias; a && *a; a++)
                add_path(d, *a, r, *services, (int)(a - r->alias) + 1);
        }
    if (d->n)
        qsort(d->entries, d->n, sizeof(*d->entries), by_path);
}

/* ---- operations */

/* Who may call it, and what is particular about it. */
static const char *description(struct doc *d, const struct entry *en)
{
    const struct route *r = en->route;
    struct arena *a = &d->arena;
    const char *who = r->public
                          ? "No credential is needed."
                          : arena_printf(a, "The credential needs the scope `%s`%s.", r->action,
                                         r->operator? ", and must be an operator's" : "");

    return arena_printf(a, "%s%s%s", who,
                        r->planned            ? " It is planned, and not built yet."
                        : r->work == STREAM   ? " The answer may go on for as long as it is read."
                        : r->body == BODY_RAW ? " The body is read as it comes."
                                              : "",
                        en->alias ? " This path is an older one." : "");
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
    json_kstr(o, "operationId", operation_name(&d->arena, en));
    if (r->doc)
        json_kstr(o, "summary", r->doc);
    json_kstr(o, "description", description(d, en));
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
    if (r->planned)
        json_kbool(o, "x-planned", true);
    operation_parameters(d, en);
    operation_body(d, r);
    operation_answers(d, en);
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

static const char security_schemes[] =
    "{\"api_key\":{\"type\":\"apiKey\",\"in\":\"header\",\"name\":\"X-API-Key\"},"
    "\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}";
static const char security[] = "[{\"api_key\":[]},{\"bearer\":[]}]";

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
              "with prefixes; the same paths without /v1 answer bare lists and UUIDs. Ids of "
              "both forms are taken everywhere. maxLength and minLength count bytes of UTF-8. "
              "Who accepts application/problem+json gets errors by RFC 9457. Beside the answers "
              "listed, HTTP's own may come: 405, 414, 431, 505.");
    raw(o, "contact", "{\"name\":\"Who runs this installation\"}");
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
    common_schemas(&d.o);
    schemas_write(&d.o, &d.schemas);
    json_close(&d.o);
    common_parameters(&d.o);
    common_answers(&d);
    raw(&d.o, "securitySchemes", security_schemes);
    json_close(&d.o);
    json_close(&d.o);
    if (json_done(&d.o) < 0)
        out->failed = true;
    free(d.entries);
    arena_free(&d.arena);
}
