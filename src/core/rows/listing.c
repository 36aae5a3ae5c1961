/* SPDX-License-Identifier: Apache-2.0 */
/* Lists: a query string becomes one SELECT with a keyset condition.  What this file hides: the form
 * of cursors and the order in which conditions are written.  Conditions follow the record's table,
 * never the request, and an "any of" is filled up to the next power of two with its last value, so
 * that a shape of list has one text and its statement is kept. */
#include "core/rows/listing.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/put.h"
#include "codec/id.h"
#include "codec/text.h"

enum {
    MAX_PARAMS = 128,
    MAX_FIELDS = 64,
    MAX_SQL = 1 << 18,
    MAX_CURSOR = 4096,
    MAC = 16,
    ID_BYTES = 16,
};

enum own { P_LIMIT, P_CURSOR, P_OFFSET, P_SORT, P_AFTER, P_BEFORE, P_UPDATED, P_OWN };
static const char *const own_names[P_OWN] = {
    "limit", "cursor", "offset", "sort", "created_after", "created_before", "updated_after",
};

struct param {
    struct str name, value;
};

struct plan {
    struct arena *arena;
    const struct listing_request *q;
    struct listing *out;
    struct faults *faults;
    struct str own[P_OWN]; /* .p NULL: not given */
    struct str filter[MAX_FIELDS];
    struct buf sql, canon; /* canon: what the cursor is bound to */
    size_t cap_args;
    bool where;
    int64_t offset;
};

/* ---- the query string */

static int own_index(struct str name)
{
    for (int i = 0; i < P_OWN; i++)
        if (str_is(name, own_names[i]))
            return i;
    return -1;
}

static bool filterable(const struct field *f)
{
    return (f->flags & FF_FILTER) && !(f->flags & FF_VIRTUAL) && f->type != F_JSON &&
           f->type != F_MAP && f->type != F_LIST && f->type != F_ROW && f->type != F_ROWS;
}

static bool field_called(const struct field *f, struct str name)
{
    return str_is(name, f->name) || (f->alias && str_is(name, f->alias));
}

/* Text of a client, short enough for an answer. */
static const char *quoted(struct plan *p, struct str s)
{
    return arena_dup(p->arena, s.p, utf8_cut(s.p, s.n, 64));
}

static bool take_filter(struct plan *p, const struct param *m)
{
    const struct record *r = p->q->record;

    for (size_t i = 0; i < r->n_fields && i < MAX_FIELDS; i++) {
        if (!filterable(&r->fields[i]) || !field_called(&r->fields[i], m->name))
            continue;
        if (p->filter[i].p)
            faults_add(p->faults, r->fields[i].name, "not_allowed", "is given twice");
        p->filter[i] = m->value;
        return true;
    }
    return false;
}

/* The parameter goes where it belongs; who it belongs to nobody is a fault. */
static void take_param(struct plan *p, const struct param *m)
{
    int own = own_index(m->name);
    const struct record *extra = p->q->extra;

    for (size_t i = 0; extra && i < extra->n_fields; i++)
        if (field_called(&extra->fields[i], m->name))
            return;
    if (own >= 0) {
        const struct record *r = p->q->record;
        const char *needs = own == P_UPDATED                    ? "updated_at"
                            : own == P_AFTER || own == P_BEFORE ? "created_at"
                                                                : NULL;
        if (!needs || record_field(r, needs)) {
            if (p->own[own].p)
                faults_add(p->faults, own_names[own], "not_allowed", "is given twice");
            p->own[own] = m->value;
            return;
        }
    } else if (take_filter(p, m)) {
        return;
    }
    faults_add(p->faults, quoted(p, m->name), "unknown", "no such parameter");
}

static void read_query(struct plan *p)
{
    struct str rest = p->q->query;

    for (int n = 0; rest.n;) {
        const char *amp = memchr(rest.p, '&', rest.n);
        struct str one = { rest.p, amp ? (size_t)(amp - rest.p) : rest.n };

        rest.p += one.n + (amp ? 1 : 0);
        rest.n -= one.n + (amp ? 1 : 0);
        if (one.n == 0)
            continue;
        if (++n > MAX_PARAMS) {
            faults_add(p->faults, "query", "too_long", "more than %d parameters", MAX_PARAMS);
            return;
        }
        const char *eq = memchr(one.p, '=', one.n);
        struct str name = { one.p, eq ? (size_t)(eq - one.p) : one.n };
        struct str value = { eq ? eq + 1 : "", eq ? one.n - name.n - 1 : 0 };
        struct param m;
        if (percent_decode(p->arena, name, true, &m.name) < 0 ||
            percent_decode(p->arena, value, true, &m.value) < 0) {
            faults_add(p->faults, quoted(p, name), "malformed", "has a bad %% escape");
            continue;
        }
        if (!m.value.p)
            m.value.p = "";
        take_param(p, &m);
    }
}

/* ---- text of the statement */

static void put_number(struct buf *b, size_t n)
{
    char digits[24];
    size_t at = sizeof(digits);

    do
        digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    buf_put(b, digits + at, sizeof(digits) - at);
}

/* Writes the next placeholder. */
static void put_arg(struct plan *p, struct arg v)
{
    struct listing *l = p->out;

    l->args = arena_more(p->arena, l->args, l->n_args, &p->cap_args, sizeof(*l->args));
    l->args[l->n_args++] = v;
    buf_putc(&p->sql, '$');
    put_number(&p->sql, l->n_args);
}

static void put_and(struct plan *p)
{
    buf_puts(&p->sql, p->where ? " AND " : " WHERE ");
    p->where = true;
}

static void put_compare(struct plan *p, const char *column, const char *op, struct arg v)
{
    put_and(p);
    buf_puts(&p->sql, column);
    buf_puts(&p->sql, op);
    put_arg(p, v);
}

/* What the cursor is bound to: name and value, each ended so that no two lists read alike. */
static void bind_to(struct plan *p, const char *name, struct str value)
{
    uint64_t n = value.n;

    buf_puts(&p->canon, name);
    buf_putc(&p->canon, '\0');
    buf_put(&p->canon, &n, sizeof(n));
    buf_put(&p->canon, value.p, value.n);
}

static void put_scope(struct plan *p)
{
    for (size_t i = 0; i < p->q->n_scope; i++) {
        const struct listing_scope *s = &p->q->scope[i];

        if (s->value.type == ARG_STR && !s->value.s) {
            put_and(p);
            buf_puts(&p->sql, s->column);
            buf_puts(&p->sql, " IS NULL");
            bind_to(p, s->column, STR(""));
            continue;
        }
        put_compare(p, s->column, " = ", s->value);
        if (s->value.type == ARG_STR || s->value.type == ARG_BLOB)
            bind_to(p, s->column, (struct str){ s->value.s, s->value.n });
        else
            bind_to(p, s->column, (struct str){ (const char *)&s->value.i, sizeof(s->value.i) });
    }
}

/* ---- filters */

/* 12.5 as 12500000; at most six digits after the point. */
static bool micro_parse(struct str s, int64_t *out)
{
    const char *point = memchr(s.p, '.', s.n);
    struct str whole = { s.p, point ? (size_t)(point - s.p) : s.n };
    struct str part = { point ? point + 1 : "", point ? s.n - whole.n - 1 : 0 };
    int64_t units, millionths = 0;

    if (!int_parse(whole, -1000000000000, 1000000000000, &units) || part.n > 6 ||
        (point && !part.n))
        return false;
    if (part.n) {
        if (part.p[0] == '-' || !int_parse(part, 0, 999999, &millionths))
            return false;
        for (size_t i = part.n; i < 6; i++)
            millionths *= 10;
    }
    *out = units * 1000000 + (s.p[0] == '-' ? -millionths : millionths);
    return true;
}

static const char *words_of(struct plan *p, const struct enum_name *names)
{
    const char *all = "";

    for (const struct enum_name *n = names; n->name; n++)
        all = arena_printf(p->arena, "%s%s%s", all, *all ? ", " : "", n->name);
    return all;
}

static bool filter_id(struct plan *p, const struct field *f, struct str s, struct arg *out)
{
    const char *prefix = f->type == F_UUID ? p->q->record->prefix : f->ref ? f->ref->prefix : NULL;
    struct uuid *id = arena_new(p->arena, struct uuid);
    bool right = id_parse(s, prefix, id) == ID_OK;

    for (const struct record *const *k = f->kinds; !right && k && *k; k++)
        right = id_parse(s, (*k)->prefix, id) == ID_OK;
    if (!right) {
        faults_add(p->faults, f->name, "malformed", "must be an id%s%s",
                   prefix ? " of prefix " : "", prefix ? prefix : "");
        return false;
    }
    *out = arg_uuid(id);
    return true;
}

static bool filter_text(struct plan *p, const struct field *f, struct str s, struct arg *out)
{
    size_t max = f->max > 0 ? (size_t)f->max : 255;

    if (!utf8_valid(s) || memchr(s.p, '\0', s.n)) {
        faults_add(p->faults, f->name, "malformed", "must be UTF-8 text");
        return false;
    }
    if (s.n > max) {
        faults_add(p->faults, f->name, "too_long", "must have at most %zu bytes", max);
        return false;
    }
    *out = arg_text(s);
    return true;
}

static bool filter_word(struct plan *p, const struct field *f, struct str s, struct arg *out)
{
    char *word = arena_dup(p->arena, s.p, s.n);

    if (strlen(word) == s.n && enum_from_str(f->names, word) >= 0) {
        *out = arg_text((struct str){ word, s.n });
        return true;
    }
    faults_add(p->faults, f->name, "not_allowed", "must be one of %s", words_of(p, f->names));
    return false;
}

/* One value of a filter, typed as its field is. */
static bool filter_value(struct plan *p, const struct field *f, struct str s, struct arg *out)
{
    const char *wrong = NULL;
    int64_t i = 0;

    if (s.n == 0) {
        faults_add(p->faults, f->name, "malformed", "must not be empty");
        return false;
    }
    switch (f->type) {
    case F_UUID:
    case F_REF:
        return filter_id(p, f, s, out);
    case F_INT:
        wrong = int_parse(s, INT64_MIN, INT64_MAX, &i) ? NULL : "an integer";
        break;
    case F_MICRO:
        wrong = micro_parse(s, &i) ? NULL : "a number with at most six decimals";
        break;
    case F_TIME:
        wrong = time_parse(s, &i) ? NULL : "an RFC 3339 time or a date";
        break;
    case F_BOOL:
        if (!str_is(s, "true") && !str_is(s, "false"))
            wrong = "true or false";
        else
            *out = arg_bool(str_is(s, "true"));
        break;
    case F_ENUM:
        return filter_word(p, f, s, out);
    default:
        return filter_text(p, f, s, out);
    }
    if (wrong) {
        faults_add(p->faults, f->name, "wrong_type", "must be %s", wrong);
        return false;
    }
    if (f->type != F_BOOL)
        *out = arg_int(i);
    return true;
}

/* The values of 'all' between commas; 0 if any is wrong. */
static size_t filter_values(struct plan *p, const struct field *f, struct str all,
                            struct arg v[LISTING_ANY_OF])
{
    size_t n = 0;
    bool bad = false;

    for (;;) {
        const char *comma = memchr(all.p, ',', all.n);
        struct str one = { all.p, comma ? (size_t)(comma - all.p) : all.n };

        if (n == LISTING_ANY_OF) {
            faults_add(p->faults, f->name, "too_long", "more than %d values", LISTING_ANY_OF);
            return 0;
        }
        if (!filter_value(p, f, one, &v[n++]))
            bad = true;
        if (!comma)
            return bad ? 0 : n;
        all.p += one.n + 1;
        all.n -= one.n + 1;
    }
}

static void put_filter(struct plan *p, const struct field *f, struct str all)
{
    struct arg v[LISTING_ANY_OF];
    size_t n = filter_values(p, f, all, v);
    size_t width = 1;

    if (!n)
        return;
    bind_to(p, f->name, all);
    if (n == 1) {
        put_compare(p, f->name, " = ", v[0]);
        return;
    }
    while (width < n)
        width *= 2;
    put_and(p);
    buf_puts(&p->sql, f->name);
    buf_puts(&p->sql, " IN (");
    for (size_t i = 0; i < width; i++) {
        if (i)
            buf_puts(&p->sql, ", ");
        put_arg(p, v[MIN(i, n - 1)]);
    }
    buf_putc(&p->sql, ')');
}

/* Times on the wire are whole milliseconds, those in rows are not: a row is after 't' if what the
 * wire shows of it is. */
static void put_when(struct plan *p, enum own which, const char *column, bool after)
{
    struct str s = p->own[which];
    int64_t t;

    if (!s.p)
        return;
    if (!time_parse(s, &t) || t > INT64_MAX - 1000) {
        faults_add(p->faults, own_names[which], "malformed", "must be an RFC 3339 time or a date");
        return;
    }
    bind_to(p, own_names[which], s);
    if (after)
        put_compare(p, column, " >= ", arg_int(t / 1000 * 1000 + 1000));
    else
        put_compare(p, column, " < ", arg_int((t + 999) / 1000 * 1000));
}

static void put_conditions(struct plan *p)
{
    const struct record *r = p->q->record;

    put_scope(p);
    for (size_t i = 0; i < r->n_fields && i < MAX_FIELDS; i++)
        if (p->filter[i].p)
            put_filter(p, &r->fields[i], p->filter[i]);
    put_when(p, P_AFTER, "created_at", true);
    put_when(p, P_BEFORE, "created_at", false);
    put_when(p, P_UPDATED, "updated_at", true);
}

/* ---- sort, limit, offset */

static bool sortable(const struct field *f)
{
    return (f->flags & FF_SORT) && !(f->flags & FF_VIRTUAL) && f->type != F_BOOL &&
           f->type != F_JSON && f->type != F_MAP && f->type != F_LIST && f->type != F_ROW &&
           f->type != F_ROWS;
}

/* The field by which rows are ordered before their ids; NULL: by id alone, which tells the time. */
static const struct field *sort_field(const struct listing_request *q, const struct listing *l)
{
    return l->sort ? l->sort : record_field(q->record, "created_at");
}

/* The column by which those are ordered that are alike in the sort. */
static const char *key_of(const struct record *r)
{
    return r->key ? r->key : "id";
}

static bool sorts_as_int(const struct field *f)
{
    return f->type == F_INT || f->type == F_TIME || f->type == F_MICRO;
}

static void read_sort(struct plan *p)
{
    const struct record *r = p->q->record;
    struct str s = p->own[P_SORT];
    const char *all = "";

    p->out->descending = !p->q->oldest_first;
    if (!s.p)
        return;
    bool down = s.n && s.p[0] == '-';
    struct str name = { s.p + down, s.n - down };
    for (size_t i = 0; i < r->n_fields; i++) {
        if (!sortable(&r->fields[i]))
            continue;
        if (str_is(name, r->fields[i].name)) {
            bool usual = down != p->q->oldest_first && strcmp(r->fields[i].name, "created_at") == 0;
            p->out->sort = usual ? NULL : &r->fields[i];
            p->out->descending = down;
            return;
        }
        all = arena_printf(p->arena, "%s%s%s", all, *all ? ", " : "", r->fields[i].name);
    }
    if (*all)
        faults_add(p->faults, "sort", "not_allowed", "must be one of %s, or '-' before it", all);
    else
        faults_add(p->faults, "sort", "not_allowed", "this list has one order only");
}

static void read_bounds(struct plan *p)
{
    int64_t max = p->q->page_max;

    p->out->limit = p->q->page;
    if (p->own[P_LIMIT].p && !int_parse(p->own[P_LIMIT], INT64_MIN, INT64_MAX, &p->out->limit))
        faults_add(p->faults, "limit", "wrong_type", "must be an integer from 1 to %lld",
                   (long long)max);
    else if (p->out->limit < 1 || p->out->limit > max)
        faults_add(p->faults, "limit", "out_of_range", "must be from 1 to %lld", (long long)max);
    if (!p->own[P_OFFSET].p)
        return;
    if (p->own[P_CURSOR].p)
        faults_add(p->faults, "offset", "not_allowed", "cannot be given together with cursor");
    if (!int_parse(p->own[P_OFFSET], INT64_MIN, INT64_MAX, &p->offset))
        faults_add(p->faults, "offset", "wrong_type", "must be an integer");
    else if (p->offset < 0 || p->offset > LISTING_MAX_OFFSET)
        faults_add(p->faults, "offset", "out_of_range", "must be from 0 to %lld",
                   (long long)LISTING_MAX_OFFSET);
}

/* ---- cursors: MAC, id, value of the sort field (8 bytes big-endian, or text) */

static void cursor_mac(const uint8_t *key, uint64_t fingerprint, struct str payload,
                       uint8_t out[MAC])
{
    uint8_t text[sizeof(fingerprint) + MAX_CURSOR], all[32];

    memcpy(text, &fingerprint, sizeof(fingerprint));
    memcpy(text + sizeof(fingerprint), payload.p, payload.n);
    hmac_sha256(key, 32, text, sizeof(fingerprint) + payload.n, all);
    memcpy(out, all, MAC);
}

static void fingerprint(struct plan *p)
{
    const struct field *f = sort_field(p->q, p->out);

    bind_to(p, p->q->record->name, STR(""));
    bind_to(p, f ? f->name : key_of(p->q->record), p->out->descending ? STR("-") : STR("+"));
    p->out->fingerprint = hash_sip64(p->q->sign_key, p->canon.p, p->canon.n);
}

/* Opens the client's cursor: false (and a fault) unless this list made it. */
static bool cursor_open(struct plan *p, const struct field *f, struct arg *value, struct uuid *id)
{
    uint8_t mac[MAC];
    size_t n = 0;
    struct str c = p->own[P_CURSOR];
    const char *raw = c.n && c.n <= MAX_CURSOR ? base64_decode(p->arena, c, true, &n) : NULL;

    if (raw && n >= MAC + ID_BYTES) {
        struct str payload = { raw + MAC, n - MAC };
        struct str v = { payload.p + ID_BYTES, payload.n - ID_BYTES };

        cursor_mac(p->q->sign_key, p->out->fingerprint, payload, mac);
        if (mem_eq_const(mac, raw, MAC) && (!f || !sorts_as_int(f) || v.n == 8)) {
            uint8_t bytes[ID_BYTES];
            uint64_t i = 0;

            memcpy(bytes, payload.p, ID_BYTES);
            uuid_from_bytes(bytes, id);
            for (size_t k = 0; k < 8 && k < v.n; k++)
                i = i << 8 | (uint8_t)v.p[k];
            *value = f && sorts_as_int(f) ? arg_int((int64_t)i) : arg_text(v);
            return true;
        }
    }
    faults_add(p->faults, "cursor", "malformed",
               "is not a cursor of this list with these filters and this order");
    return false;
}

const char *listing_cursor(struct arena *a, const struct listing_request *q,
                           const struct listing *l, const void *row)
{
    const struct field *f = sort_field(q, l), *idf = record_field(q->record, key_of(q->record));
    uint8_t raw[MAC + ID_BYTES + MAX_CURSOR / 2];
    struct str v = STR("");
    uint8_t bytes[8];

    uuid_bytes(FIELD_CAT(row, idf, struct uuid), raw + MAC);
    if (f && sorts_as_int(f)) {
        uint64_t i = (uint64_t)*FIELD_CAT(row, f, int64_t);

        for (int k = 7; k >= 0; k--, i >>= 8)
            bytes[k] = (uint8_t)i;
        v = (struct str){ (const char *)bytes, 8 };
    } else if (f && f->type == F_ENUM) {
        v = str_of(enum_to_str(f->names, *FIELD_CAT(row, f, int)));
    } else if (f && f->type == F_STR) {
        v = str_of(*FIELD_CAT(row, f, const char *));
    } else if (f) {
        v = str_of(FIELD_CAT(row, f, struct uuid)->s);
    }
    if (v.n > MAX_CURSOR / 2)
        abort(); /* a sortable field is never that long */
    if (v.n)
        memcpy(raw + MAC + ID_BYTES, v.p, v.n);
    cursor_mac(q->sign_key, l->fingerprint, (struct str){ (const char *)raw + MAC, ID_BYTES + v.n },
               raw);
    return base64_encode(a, raw, MAC + ID_BYTES + v.n, true);
}

/* ---- the whole */

static void put_column(struct plan *p, const struct field *f)
{
    buf_puts(&p->sql, f->name);
    if (f->type == F_STR || f->type == F_ENUM)
        buf_puts(&p->sql, " /*pg: COLLATE \"C\" */");
}

/* Rows after the cursor, as a comparison of rows: both databases answer it from an index. */
static void put_keyset(struct plan *p, const struct field *f)
{
    struct uuid *id = arena_new(p->arena, struct uuid);
    const char *op = p->out->descending ? " < " : " > ";
    struct arg value;

    if (!p->own[P_CURSOR].p || !cursor_open(p, f, &value, id))
        return;
    if (!f) {
        put_compare(p, key_of(p->q->record), op, arg_uuid(id));
        return;
    }
    put_and(p);
    buf_putc(&p->sql, '(');
    put_column(p, f);
    buf_puts(&p->sql, ", ");
    buf_puts(&p->sql, key_of(p->q->record));
    buf_putc(&p->sql, ')');
    buf_puts(&p->sql, op);
    buf_putc(&p->sql, '(');
    put_arg(p, value);
    buf_puts(&p->sql, ", ");
    put_arg(p, arg_uuid(id));
    buf_putc(&p->sql, ')');
}

static void put_order(struct plan *p, const struct field *f)
{
    const char *way = p->out->descending ? " DESC" : "";

    buf_puts(&p->sql, " ORDER BY ");
    if (f) {
        put_column(p, f);
        buf_puts(&p->sql, way);
        buf_puts(&p->sql, ", ");
    }
    buf_puts(&p->sql, key_of(p->q->record));
    buf_puts(&p->sql, way);
    buf_puts(&p->sql, " LIMIT ");
    put_arg(p, arg_int(p->out->limit + 1));
    if (p->own[P_OFFSET].p) {
        buf_puts(&p->sql, " OFFSET ");
        put_arg(p, arg_int(p->offset));
    }
}

/* What is listed: the arguments of a statement of its own are the first. */
static void put_from(struct plan *p)
{
    const struct listing_request *q = p->q;
    struct listing *l = p->out;

    buf_puts(&p->sql, "SELECT @ FROM ");
    if (!q->from) {
        buf_puts(&p->sql, q->record->table ? q->record->table : "");
        return;
    }
    buf_putc(&p->sql, '(');
    buf_puts(&p->sql, q->from);
    buf_puts(&p->sql, ") AS listed");
    for (size_t i = 0; i < q->n_args; i++) {
        l->args = arena_more(p->arena, l->args, l->n_args, &p->cap_args, sizeof(*l->args));
        l->args[l->n_args++] = q->args[i];
    }
    bind_to(p, q->from, str_of(q->bound));
}

/* All but what stands behind the conditions. */
static void begin(struct plan *p)
{
    p->sql = p->canon = BUF(MAX_SQL);
    *p->out = (struct listing){ 0 };
    read_query(p);
    read_sort(p);
    read_bounds(p);
    put_from(p);
    put_conditions(p);
}

void listing_check(struct arena *a, const struct listing_request *q, struct faults *f)
{
    struct listing l;
    struct plan p = { .arena = a, .q = q, .out = &l, .faults = f };

    begin(&p);
    buf_free(&p.sql);
    buf_free(&p.canon);
}

void listing_plan(struct arena *a, const struct listing_request *q, struct listing *out,
                  struct faults *f)
{
    struct plan p = { .arena = a, .q = q, .out = out, .faults = f };
    size_t before = f->n;

    begin(&p);
    fingerprint(&p);
    if (f->n == before)
        put_keyset(&p, sort_field(q, out));
    put_order(&p, sort_field(q, out));
    if (f->n == before && (p.sql.failed || p.canon.failed))
        faults_add(f, "query", "too_long", "too many conditions");
    out->sql = f->n == before ? arena_dup(a, p.sql.p, p.sql.n) : NULL;
    buf_free(&p.sql);
    buf_free(&p.canon);
}
