/* SPDX-License-Identifier: Apache-2.0 */
/* What a request says beside its path: the body by the route's record, parameters by its query
 * record. All that is wrong is found before anything is answered. */
#include "base/put.h"
#include "core/request/request.h"

static bool is_json(struct str type)
{
    const char *semi = type.n ? memchr(type.p, ';', type.n) : NULL;

    if (semi)
        type.n = (size_t)(semi - type.p);
    while (type.n && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t'))
        type.n--;
    if (type.n < 16 || strncasecmp(type.p, "application/", 12) != 0)
        return false;
    return strncasecmp(type.p + type.n - 4, "json", 4) == 0 &&
           (type.n == 16 || type.p[type.n - 5] == '+');
}

bool body_is_due(const struct route *route)
{
    return route->body == BODY_FREE || (route->body == BODY_AUTO && route->in);
}

int route_page(const struct route *route, enum surface surface)
{
    return route->page ? route->page : surface == PLATFORM ? 20 : 1000;
}

int route_page_max(const struct route *route, enum surface surface)
{
    return route->page_max ? route->page_max : surface == PLATFORM ? 100 : 1000;
}

int body_check(struct call_private *p, struct err *e)
{
    const struct route *route = p->c.route;
    const struct http_head *h = http_req_head(p->r);
    struct str type = http1_header(h, "content-type");
    struct str coding = http1_header(h, "content-encoding");
    uint64_t max = route->body_max ? route->body_max : MIB(1);

    if (h->content_length > 0 && (uint64_t)h->content_length > max)
        return err_set(e, ERR_TOO_LARGE, "The body is over %llu bytes", (unsigned long long)max);
    if (coding.p && !str_is_nocase(coding, "identity"))
        return err_set(e, ERR_UNSUPPORTED_MEDIA_TYPE, "A body has no Content-Encoding");
    if (body_is_due(route) && (h->content_length > 0 || h->chunked) && type.p && !is_json(type))
        return err_set(e, ERR_UNSUPPORTED_MEDIA_TYPE, "The body must be application/json");
    return 0;
}

/* ---- parameters */

static bool is_paging(struct str name)
{
    static const char *const words[] = { "limit",         "cursor",         "offset",       "sort",
                                         "created_after", "created_before", "updated_after" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_is(name, words[i]))
            return true;
    return false;
}

/* A list's own parameters are looked at where its SQL is planned. */
static bool known_to_list(const struct route *route, struct str name)
{
    if (!route->list)
        return false;
    if (is_paging(name))
        return true;
    for (size_t i = 0; route->out && i < route->out->n_fields; i++) {
        const struct field *f = &route->out->fields[i];

        if ((f->flags & FF_FILTER) &&
            (str_is(name, f->name) || (f->alias && str_is(name, f->alias))))
            return true;
    }
    return false;
}

/* The parameters of a route's own record. */
struct parameters {
    void *row;
    uint64_t given, right; /* bits of its fields */
};

static void own_parameter(struct call_private *p, const char *name, struct str value,
                          struct parameters *x)
{
    const struct record *r = p->c.route->query;
    const struct field *f = record_named(r, name);
    uint64_t bit = UINT64_C(1) << (f - r->fields);

    if (x->given & bit)
        faults_add(&p->faults, name, "not_allowed", "is given twice");
    else if (!utf8_valid(value) || memchr(value.p ? value.p : "", '\0', value.n))
        faults_add(&p->faults, name, "malformed", "must be UTF-8 text");
    else
        json_read_text(p->c.arena, r, name, value, x->row, &x->right, &p->faults);
    x->given |= bit;
}

static void one_parameter(struct call_private *p, struct str part, struct parameters *x)
{
    const struct route *route = p->c.route;
    const char *eq = memchr(part.p, '=', part.n);
    struct str raw = { part.p, eq ? (size_t)(eq - part.p) : part.n };
    struct str rest = { eq ? eq + 1 : part.p + part.n, 0 };
    struct str name, value;

    rest.n = (size_t)(part.p + part.n - rest.p);
    if (percent_decode(p->c.arena, raw, true, &name) < 0 ||
        percent_decode(p->c.arena, rest, true, &value) < 0) {
        faults_add(&p->faults, arena_dup(p->c.arena, raw.p, utf8_cut(raw.p, raw.n, 64)),
                   "malformed", "is not percent-encoded as it should be");
        return;
    }
    const char *text = arena_dup(p->c.arena, name.p, utf8_cut(name.p, name.n, 64));
    if (route->query && record_named(route->query, text)) {
        own_parameter(p, text, value, x);
    } else if (!known_to_list(route, name)) {
        faults_add(&p->faults, utf8_valid(str_of(text)) ? text : "query", "unknown",
                   "is no parameter of this route");
    }
}

static void read_parameters(struct call_private *p)
{
    const struct route *route = p->c.route;
    struct str q = http_req_head(p->r)->query;
    struct parameters x = { 0 };
    size_t parts = 0;

    if (route->query)
        x.row = arena_alloc(p->c.arena, route->query->size);

    for (size_t i = 0; i < q.n;) {
        struct str part = { q.p + i, q.n - i };
        const char *amp = memchr(part.p, '&', part.n);

        if (amp)
            part.n = (size_t)(amp - part.p);
        if (++parts > 100) {
            faults_add(&p->faults, "query", "too_long", "has over 100 parameters");
            break;
        }
        if (part.n)
            one_parameter(p, part, &x);
        i += part.n + 1;
    }
    if (route->query) {
        json_read_absent(route->query, x.given, x.row, &p->faults);
        p->c.query = x.row;
    }
}

static bool is_told(const struct faults *f, const struct fault_item *x)
{
    for (const struct fault_item *i = f->first; i; i = i->next)
        if (strcmp(i->field, x->field) == 0 && strcmp(i->code, x->code) == 0)
            return true;
    return false;
}

/* A list that is right so far finds its own faults when it is planned; beside others they are told
 * here, and before what its path names is looked for. */
static void add_list_faults(struct call_private *p)
{
    struct faults own = { .arena = p->c.arena };

    p->mount->info->check_list(&p->c, &own);
    for (const struct fault_item *x = own.first; x; x = x->next)
        if (!is_told(&p->faults, x))
            faults_add(&p->faults, x->field, x->code, "%s", x->message);
}

/* ---- the body */

static int parse_body(struct call_private *p, struct err *e)
{
    struct str body = p->raw_body.n ? p->raw_body : STR("{}");

    if (!p->json && !(p->json = json_parse(body, e)))
        return -1;
    return 0;
}

static int read_body(struct call_private *p, struct err *e)
{
    const struct route *route = p->c.route;
    struct call *c = &p->c;

    if (route->body == BODY_RAW)
        return 0;
    if (route->body == BODY_FREE) {
        if (p->raw_body.n)
            TRY(parse_body(p, e));
        c->body = p->raw_body;
        return 0;
    }
    if (!route->in) {
        if (p->raw_body.n == 0 || route->method == GET || route->method == DELETE)
            return 0;
        TRY(parse_body(p, e));
        for (size_t i = 0; json_type_of(p->json) == JSON_OBJ && i < json_len(p->json); i++) {
            const char *key;

            json_member(p->json, i, &key);
            faults_add(&p->faults, key, "unknown", "is no member: this route takes no body");
        }
        return 0;
    }
    TRY(parse_body(p, e));
    c->in = arena_alloc(c->arena, route->in->size);
    if (json_type_of(p->json) != JSON_OBJ) {
        c->in = NULL;
        faults_add(&p->faults, "", "wrong_type", "the request must be a JSON object");
        return 0;
    }
    json_read_record(c->arena, route->in,
                     route->method == PATCH || route->partial ? JSON_UPDATE : JSON_CREATE, p->json,
                     c->in, &c->set, &p->faults);
    p->in_first = arena_dup(c->arena, c->in, route->in->size);
    return 0;
}

/* What is not built is refused, not ignored. */
static int refuse_planned(const struct call_private *p, struct err *e)
{
    const struct record *r = p->c.route->in;

    for (size_t i = 0; r && i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!(f->flags & FF_PLANNED) || !(p->c.set >> i & 1))
            continue;
        if (f->type == F_ENUM && *FIELD_CAT(p->c.in, f, int) != f->dflt)
            return err_set(e, ERR_NOT_IMPLEMENTED, "%s '%s' is not built yet; use '%s'", f->name,
                           enum_to_str(f->names, *FIELD_CAT(p->c.in, f, int)),
                           enum_to_str(f->names, (int)f->dflt));
        if (f->type == F_ROWS && FIELD_CAT(p->c.in, f, struct rows)->n)
            return err_set(e, ERR_NOT_IMPLEMENTED, "'%s' is not built yet: leave it out", f->name);
    }
    return 0;
}

int query_read(struct call_private *p, struct err *e)
{
    TRY(read_body(p, e));
    read_parameters(p);
    if (p->c.route->check && (p->c.in || !p->c.route->in))
        p->c.route->check(&p->c);
    if (p->mount->info->check_list && (p->faults.n || p->mount->info->target))
        add_list_faults(p);
    if (p->json && p->c.route->body != BODY_FREE)
        json_free(TAKE(p->json));
    TRY(call_faults(&p->c, e));
    return refuse_planned(p, e);
}
