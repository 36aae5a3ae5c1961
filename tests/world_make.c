/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as their routes make them from the examples of their tables: so that a test needs no more of
 * another service than its record. */
#include "core/describe/openapi_schema.h"
#include "tests/world_private.h"

static const struct route *route_of(const struct record *r, enum method m, const char *path,
                                    size_t n)
{
    for (const struct service *const *s = all_services; *s; s++)
        for (const struct route *t = (*s)->routes; t && t->path; t++)
            if (t->method == m && (!r || t->out == r) &&
                (!path || (strlen(t->path) == n && memcmp(t->path, path, n) == 0)) &&
                (m != POST || (t->status == 201 && t->in && t->body == BODY_AUTO && !t->rows)))
                return t;
    return NULL;
}

/* The first one of that record that has been made, or one made now. */
static const char *parent(struct world *w, const struct record *r)
{
    for (size_t i = 0; i < w->n_made; i++)
        if (w->made[i].record == r)
            return w->made[i].id;
    struct reply made = make_one(w, r);
    if (made.status != 201)
        fail_msg("a %s to lie in: %d %s", r->name, made.status, made.body.p);
    return made.id;
}

/* The example, with ids of what there is. */
static const char *body_of(struct world *w, const struct route *t)
{
    struct buf b = BUF(MIB(1));
    struct json_out o = JSON_OUT(&b);
    struct err e;

    schema_example(&o, t->in, SCHEMA_CREATE);
    must(json_done(&o) == 0, "an example", NULL);
    const char *text = arena_dup(&w->arena, b.p, b.n);
    _cleanup_(json_freep) struct json_value *v = json_parse(buf_str(&b), &e);
    for (size_t i = 0; i < t->in->n_fields; i++) {
        const struct field *f = &t->in->fields[i];
        const char *example = json_str_of(json_get(v, f->name), NULL);

        if (f->type != F_REF || !example || !route_of(f->ref, POST, NULL, 0))
            continue;
        const char *at = strstr(text, fmt("\"%s\":\"", f->name)) + strlen(f->name) + 4;
        text = arena_printf(&w->arena, "%.*s%s%s", (int)(at - text), text, parent(w, f->ref),
                            at + strlen(example));
    }
    buf_free(&b);
    return text;
}

struct reply make_one(struct world *w, const struct record *r)
{
    const struct route *t = route_of(r, POST, NULL, 0);

    must(t != NULL, "no route makes one", NULL);
    const char *path = t->path, *at = strstr(path, "/{id}");
    if (at) { /* in what GET shows there */
        const struct route *shown = route_of(NULL, GET, path, (size_t)(at - path) + 5);

        must(shown && shown->out, "what it lies in is not shown", NULL);
        path = arena_printf(&w->arena, "%.*s/%s%s", (int)(at - path), path, parent(w, shown->out),
                            at + 5);
    }
    if (t->on == PLATFORM)
        path = arena_printf(&w->arena, "/v1%s", path);
    struct reply made = post(w, path, body_of(w, t));
    must(w->n_made < ARRAY_LEN(w->made), "so many", NULL);
    if (made.status == 201) {
        w->made[w->n_made].record = r;
        w->made[w->n_made++].id = made.id;
    }
    return made;
}
