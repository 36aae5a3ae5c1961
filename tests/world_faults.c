/* SPDX-License-Identifier: Apache-2.0 */
/* What the tables of a route refuse, it refuses: of each field every kind of fault that its row can
 * have, as many fields in one request as can be, for an answer names all of them. */
#include "core/describe/openapi_schema.h"
#include "tests/world_private.h"

enum { TOLD = 256 };
static const size_t HEAD_ROOM = 4000;
static const char nobodys[] = "01890000-0000-7000-8000-000000000000"; /* in world_path() */
static const char no_id[] = "no-id", control[] = "\\u0001";

enum kind { TYPE, MUCH, LITTLE, ENTRY, KINDS };

/* A body or a query, and what must be told of it. */
struct wrong {
    struct buf text;
    size_t max; /* bytes of it */
    struct told {
        const char *field, *code; /* code NULL: any */
    } told[TOLD];
    size_t n;
};

static void tell(struct wrong *x, const char *field, const char *code)
{
    must(x->n < TOLD, "too many faults", NULL);
    x->told[x->n++] = (struct told){ field, code };
}

static void repeat(struct buf *b, const char *text, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        buf_puts(b, text);
}

/* ---- one value of a body that is wrong; NULL where it cannot be in this way */

static bool ranged(const struct field *f)
{
    return f->min || f->max;
}

static void put_micro(struct buf *b, int64_t v)
{
    buf_printf(b, "%s%lld.%06lld", v < 0 ? "-" : "", (long long)(v < 0 ? -v : v) / 1000000,
               (long long)(v < 0 ? -v : v) % 1000000);
}

static void put_entries(struct buf *b, const struct field *f, int64_t n)
{
    buf_putc(b, f->type == F_MAP ? '{' : '[');
    for (int64_t i = 0; i < n; i++) {
        buf_puts(b, i ? "," : "");
        if (f->type == F_MAP)
            buf_printf(b, "\"k%lld\":\"\"", (long long)i);
        else
            buf_puts(b, f->type == F_LIST ? "\"\"" : "{}");
    }
    buf_putc(b, f->type == F_MAP ? '}' : ']');
}

static const char *put_type(struct buf *b, const struct field *f)
{
    bool number = f->type == F_INT || f->type == F_MICRO || f->type == F_BOOL;

    if (f->type == F_JSON)
        return NULL;
    buf_puts(b, number ? "\"x\"" : "7");
    return "wrong_type";
}

static const char *put_text(struct buf *b, int64_t n)
{
    buf_putc(b, '"');
    repeat(b, "x", n);
    buf_putc(b, '"');
    return "too_long";
}

static const char *put_much(struct buf *b, const struct field *f)
{
    switch (f->type) {
    case F_STR:
        return put_text(b, field_max(f) + 1);
    case F_JSON:
        put_text(b, field_max(f));
        return "";
    case F_INT:
        if (!ranged(f) || f->max == INT64_MAX)
            return NULL;
        buf_printf(b, "%lld", (long long)f->max + 1);
        return "out_of_range";
    case F_MICRO:
        put_micro(b, ranged(f) ? f->max + 1 : INT64_C(10000000000) * 1000000);
        return "out_of_range";
    case F_ENUM:
        buf_puts(b, "\"no word\"");
        return "not_allowed";
    case F_TIME:
        buf_puts(b, "\"1960-01-01\"");
        return "out_of_range";
    case F_UUID:
    case F_REF:
        buf_printf(b, "\"%s\"", no_id);
        return "malformed";
    case F_MAP:
    case F_LIST:
    case F_ROWS:
        put_entries(b, f, field_max(f) + 1);
        return "too_long";
    default:
        return NULL;
    }
}

static const char *put_little(struct buf *b, const struct field *f)
{
    switch (f->type) {
    case F_STR:
        if (f->min < 1)
            return NULL;
        put_text(b, f->min - 1);
        return "too_short";
    case F_INT:
    case F_MICRO:
        if (!ranged(f) || f->min == INT64_MIN)
            return NULL;
        if (f->type == F_INT)
            buf_printf(b, "%lld", (long long)f->min - 1);
        else
            put_micro(b, f->min - 1);
        return "out_of_range";
    case F_TIME:
        buf_puts(b, "\"then\"");
        return "malformed";
    case F_REF:
        if (!f->ref || !f->ref->prefix)
            return NULL;
        buf_puts(b, "\"other_01h455vb4pex5vsknk084sn02q\"");
        return "malformed";
    case F_MAP:
    case F_LIST:
    case F_ROWS:
        if (f->min < 1)
            return NULL;
        put_entries(b, f, f->min - 1);
        return "too_short";
    default:
        return NULL;
    }
}

/* Wrong in what it is made of; '*at' is the entry that is to be named. */
static const char *put_entry(struct buf *b, const struct field *f, const char **at)
{
    switch (f->type) {
    case F_STR:
        buf_putc(b, '"');
        repeat(b, control, MAX(f->min, (int64_t)1));
        buf_putc(b, '"');
        return "malformed";
    case F_INT:
        buf_puts(b, "1.5");
        return "wrong_type";
    case F_MICRO:
        buf_puts(b, "0.0000001");
        return "out_of_range";
    case F_MAP:
        buf_puts(b, "{\"k\":7}");
        *at = ".k";
        return "wrong_type";
    case F_ROWS:
        if (f->min > 1)
            return NULL;
        /* fall through */
    case F_LIST:
        buf_puts(b, "[7]");
        *at = "[0]";
        return "wrong_type";
    default:
        return NULL;
    }
}

static const char *put_wrong(struct buf *b, const struct field *f, enum kind kind, const char **at)
{
    switch (kind) {
    case TYPE:
        return put_type(b, f);
    case MUCH:
        return put_much(b, f);
    case LITTLE:
        return put_little(b, f);
    default:
        return put_entry(b, f, at);
    }
}

/* ---- bodies */

static bool settable(const struct field *f, bool create)
{
    return f->flags & (create ? FF_CREATE : FF_UPDATE);
}

static bool holds_rows(const struct field *f)
{
    return f->type == F_ROW || f->type == F_ROWS;
}

static bool put_object(struct wrong *x, const struct record *r, bool create, enum kind kind,
                       const char *within, size_t *from);

/* A member and what is to be told of it; false where it has no fault of this kind. */
static bool put_member(struct wrong *x, const struct field *f, const char *name, enum kind kind,
                       bool inner, const char *within)
{
    const char *at = "", *code = "";
    size_t i = 0, n = x->text.n;

    buf_printf(&x->text, "%s\"%s\":", x->text.p[n - 1] == '{' ? "" : ",", name);
    if (inner) {
        bool list = f->type == F_ROWS;
        const char *place = fmt("%s%s%s.", within, name, list ? "[0]" : "");

        buf_puts(&x->text, list ? "[" : "");
        if (!put_object(x, f->of, true, kind, place, &i))
            code = NULL;
        buf_puts(&x->text, list ? "]" : "");
    } else {
        code = put_wrong(&x->text, f, kind, &at);
        if (code)
            tell(x, fmt("%s%s%s", within, name, at), *code ? code : NULL);
    }
    if (!code)
        x->text.n = n;
    return code != NULL;
}

/* An object whose members, from field '*from' on until the body is full, have faults of this kind;
 * false if none can. */
static bool put_object(struct wrong *x, const struct record *r, bool create, enum kind kind,
                       const char *within, size_t *from)
{
    bool inner = kind >= KINDS, some = false, top = !*within;
    size_t i = *from;

    kind %= KINDS;
    buf_putc(&x->text, '{');
    for (; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];
        size_t before = x->text.n, told = x->n;

        if (!settable(f, create) || (top && inner && !holds_rows(f)))
            continue;
        if (!put_member(x, f, f->name, kind, top && inner, within))
            continue;
        if (x->text.n >= x->max) { /* in the next body; what none holds is refused as too large */
            x->text.n = before;
            x->n = told;
            if (some)
                break;
            continue;
        }
        some = true;
        if (f->alias && kind == TYPE && !inner) {
            put_member(x, f, f->alias, kind, false, within);
            x->told[x->n - 1].code = "not_allowed";
        }
        if (kind == MUCH && (f->check_entry || f->form) && top && f->type != F_STR) {
            i++; /* its entries may be faults too, and an answer has not room for all */
            break;
        }
    }
    *from = i;
    buf_putc(&x->text, '}');
    return some;
}

/* ---- asking */

static struct reply ask_route(struct world *w, const struct route *r, const char *query,
                              const char *body)
{
    const char *key = r->public ? "" : world_key(w, r->operator? AS_OPERATOR : AS_OWNER);

    if (r->limit == LIMIT_AUTH) /* so many a minute and address */
        clock_advance(&w->clock, SECONDS(61));
    return ask(w, r->method, fmt("%s%s%s", world_path(r), query ? "?" : "", query ? query : ""),
               key, NULL, body);
}

static bool is_told(const struct reply *a, const struct told *t)
{
    const struct json_value *list = json_get(json_get(a->json, "error"), "details");

    for (size_t i = 0; i < json_len(list); i++) {
        const char *field = json_str_of(json_get(json_at(list, i), "field"), NULL);
        const char *code = json_str_of(json_get(json_at(list, i), "code"), NULL);
        size_t n = strlen(t->field);

        if (field && code && strncmp(field, t->field, n) == 0 &&
            (t->code ? !field[n] && strcmp(code, t->code) == 0
                     : !field[n] || field[n] == '[' || field[n] == '.'))
            return true;
    }
    return false;
}

/* Refused with 400 that names all that is told; as no JSON where that is nothing. */
static void refuses(struct world *w, const struct route *r, struct wrong *x, bool query)
{
    const char *text = buf_cstr(&x->text);

    struct reply a = ask_route(w, r, query ? text : NULL, query ? NULL : text);
    if (a.status != 400)
        fail_msg("%s %s answers %d to %.400s: %.400s", method_name(r->method), r->path, a.status,
                 text, a.body.p);
    if (x->n == 0 && strcmp(a.code, "invalid_json") != 0)
        fail_msg("%s %s calls %.400s '%s'", method_name(r->method), r->path, text, a.code);
    for (size_t i = 0; i < x->n; i++)
        if (!is_told(&a, &x->told[i]))
            fail_msg("%s %s does not say '%s' of '%s' in %.400s: %.2000s", method_name(r->method),
                     r->path, x->told[i].code ? x->told[i].code : "anything", x->told[i].field,
                     text, a.body.p);
    x->n = 0;
    x->text.n = 0;
}

static void refuses_body(struct world *w, const struct route *r, struct wrong *x, const char *text,
                         const char *field, const char *code)
{
    buf_puts(&x->text, text);
    if (field)
        tell(x, field, code);
    refuses(w, r, x, false);
}

/* ---- a route */

/* What may not be set and what is not known, beside nothing of what must be. */
static void put_strange(struct wrong *x, const struct record *r, bool create)
{
    const char *either = NULL;

    buf_puts(&x->text, "{\"no_such_member\":1");
    tell(x, "no_such_member", "unknown");
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (field_required(f, create))
            tell(x, f->name, "required");
        if (create && (f->flags & FF_EITHER) && !either)
            tell(x, either = f->name, "required");
        if (settable(f, create))
            continue;
        buf_printf(&x->text, ",\"%s\":null", f->name);
        tell(x, f->name, f->flags & FF_HIDDEN ? "unknown" : "read_only");
    }
    buf_putc(&x->text, '}');
}

/* Null stands for a member that is absent, or clears one that may be. */
static void put_nulls(struct wrong *x, const struct record *r, bool create)
{
    buf_putc(&x->text, '{');
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!settable(f, create) || (create ? !field_required(f, true) : f->flags & FF_CLEAR))
            continue;
        buf_printf(&x->text, "%s\"%s\":null", x->n ? "," : "", f->name);
        tell(x, f->name, create ? "required" : "wrong_type");
    }
    buf_putc(&x->text, '}');
}

static void body_faults(struct world *w, const struct route *r, struct wrong *x)
{
    bool create = r->method != PATCH && !r->partial;

    refuses_body(w, r, x, "{\"a\":", NULL, NULL);
    refuses_body(w, r, x, "{\"a\":1,\"a\":1}", NULL, NULL);
    if (r->body == BODY_FREE)
        return;
    refuses_body(w, r, x, "[]", "", "wrong_type");
    put_strange(x, r->in, create);
    refuses(w, r, x, false);
    put_nulls(x, r->in, create);
    if (x->n)
        refuses(w, r, x, false);
    x->text.n = 0;
    for (unsigned kind = 0; kind < 2 * KINDS; kind++)
        for (size_t i = 0; i < r->in->n_fields;) {
            if (put_object(x, r->in, create, (enum kind)kind, "", &i))
                refuses(w, r, x, false);
            x->text.n = 0;
        }
}

/* ---- parameters */

static const char *put_parameter(struct buf *b, const struct field *f, enum kind kind)
{
    switch (f->type) {
    case F_INT:
        if (kind == TYPE || (kind == ENTRY && f->type == F_INT)) {
            buf_puts(b, kind == TYPE ? "x" : "1.5");
            return "wrong_type";
        }
        if (kind == MUCH && ranged(f) && f->max < INT64_MAX)
            buf_printf(b, "%lld", (long long)f->max + 1);
        else if (kind == LITTLE && ranged(f) && f->min > INT64_MIN)
            buf_printf(b, "%lld", (long long)f->min - 1);
        else
            return NULL;
        return "out_of_range";
    case F_MICRO:
    case F_BOOL:
        buf_puts(b, "x");
        return "wrong_type";
    case F_ENUM:
        buf_puts(b, "no+word");
        return "not_allowed";
    case F_STR:
        if (kind == MUCH && (size_t)field_max(f) < HEAD_ROOM) {
            repeat(b, "x", field_max(f) + 1);
            return "too_long";
        }
        if (kind == LITTLE && f->min > 0) {
            repeat(b, "x", f->min - 1);
            return "too_short";
        }
        /* fall through */
    default:
        buf_puts(b, "%01");
        return "malformed";
    }
}

static void own_parameters(struct wrong *x, const struct route *r, enum kind kind)
{
    const struct record *q = r->query;

    for (size_t i = 0; q && i < q->n_fields; i++) {
        size_t n = x->text.n;

        buf_printf(&x->text, "%s%s=", n ? "&" : "", q->fields[i].name);
        const char *code = put_parameter(&x->text, &q->fields[i], kind);
        if (!code || x->text.n > HEAD_ROOM) {
            x->text.n = n;
            continue;
        }
        tell(x, q->fields[i].name, code);
        if (kind == TYPE) {
            buf_printf(&x->text, "&%s=", q->fields[i].name);
            tell(x, q->fields[i].name, "not_allowed");
        }
    }
}

/* A list's own, and its filters. */
static void list_parameters(struct wrong *x, const struct route *r)
{
    static const struct told own[] = { { "limit=x", "wrong_type" },
                                       { "offset=x", "wrong_type" },
                                       { "sort=no_such", "not_allowed" } };

    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        buf_printf(&x->text, "&%s", own[i].field);
        tell(x, fmt("%.*s", (int)strcspn(own[i].field, "="), own[i].field), own[i].code);
    }
    for (size_t i = 0; i < r->out->n_fields; i++) {
        const struct field *f = &r->out->fields[i];
        bool id = f->type == F_UUID || f->type == F_REF;

        if (!(f->flags & FF_FILTER) || (!id && f->type != F_ENUM && f->type != F_STR))
            continue;
        buf_printf(&x->text, "&%s=%s", f->name, id ? no_id : f->type == F_STR ? "%FF" : "no+word");
        tell(x, f->name, f->type == F_ENUM ? "not_allowed" : "malformed");
    }
}

static void parameter_faults(struct world *w, const struct route *r, struct wrong *x)
{
    buf_puts(&x->text, "no_such_parameter=1");
    tell(x, "no_such_parameter", "unknown");
    for (size_t i = 0; r->query && i < r->query->n_fields; i++)
        if (field_required(&r->query->fields[i], true))
            tell(x, r->query->fields[i].name, "required");
    if (r->list && r->out && r->out->table)
        list_parameters(x, r);
    refuses(w, r, x, true);
    if (r->list && r->out && r->out->table) {
        buf_puts(&x->text, "no_such_parameter=1&limit=0&cursor=nonsense");
        tell(x, "limit", "out_of_range");
        refuses(w, r, x, true);
    }
    for (unsigned kind = 0; kind < KINDS; kind++) {
        own_parameters(x, r, (enum kind)kind);
        if (x->n)
            refuses(w, r, x, true);
        x->text.n = 0;
    }
}

/* ---- all of them */

void world_faults(struct world *w, const struct route *routes)
{
    struct wrong *x = calloc(1, sizeof(*x));

    must(x != NULL, "memory", NULL);
    x->text = BUF(MIB(4));
    world_key(w, AS_OWNER); /* and with it the operator's */
    const char *before = world_rows(w);
    for (const struct route *r = routes; r && r->path; r++) {
        uint64_t max = r->body_max ? r->body_max : MIB(1);

        x->max = (size_t)MIN(max, (uint64_t)MIB(2)) - KIB(1);
        parameter_faults(w, r, x);
        if (r->body == BODY_FREE || (r->body == BODY_AUTO && r->in))
            body_faults(w, r, x);
        else if (r->body == BODY_AUTO && r->method != GET && r->method != DELETE)
            refuses_body(w, r, x, "{\"no_such_member\":1}", "no_such_member", "unknown");
    }
    if (strcmp(before, world_rows(w)) != 0)
        fail_msg("refused, and it left rows: before\n%safter\n%s", before, world_rows(w));
    buf_free(&x->text);
    free(x);
}

/* ---- strangers */

static const char *example_body(const struct route *r)
{
    struct buf b = BUF(MIB(1));
    struct json_out o = JSON_OUT(&b);

    if (r->body == BODY_RAW || !r->in)
        return r->body == BODY_RAW ? "x" : NULL;
    schema_example(&o, r->in, r->method == PATCH || r->partial ? SCHEMA_UPDATE : SCHEMA_CREATE);
    must(json_done(&o) == 0, "an example", NULL);
    const char *text = fmt("%s", buf_cstr(&b));
    buf_free(&b);
    return text;
}

void strangers_are_refused(struct world *w, const char *path, const char *id)
{
    size_t n = strlen(path);

    for (const struct route *r = world_under_test->routes; r && r->path; r++) {
        if (strncmp(r->path, path, n) != 0 || (r->path[n] && r->path[n] != '/'))
            continue;
        const char *all = world_path(r), *at = strstr(all, nobodys);
        const char *theirs = fmt("%.*s%s%s", (int)(at - all), all, id, at + strlen(nobodys));

        struct reply a = as(w, AS_STRANGER, r->method, theirs, example_body(r));
        if (a.status != 404)
            fail_msg("%s %s answers %d to a stranger: %.400s", method_name(r->method), r->path,
                     a.status, a.body.p);
    }
}
