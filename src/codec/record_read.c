/* SPDX-License-Identifier: Apache-2.0 */
/* What clients send, checked against the field tables.  It never stops at the first fault: the
 * answer lists all of them.  No text of the client's longer than SHOWN_MAX comes back in one. */
#include "codec/json.h"

#include "base/put.h"
#include "codec/id.h"
#include "codec/json_node.h"
#include "codec/record_reader.h"
#include "codec/text.h"
#include "codec/url.h"

void faults_add(struct faults *f, const char *field, const char *code, const char *fmt, ...)
{
    va_list ap;

    f->n++;
    if (f->n > FAULTS_KEPT)
        return;
    struct fault_item *item = arena_new(f->arena, struct fault_item);
    item->field = arena_strdup(f->arena, field);
    item->code = code;
    va_start(ap, fmt);
    item->message = arena_vprintf(f->arena, fmt, ap);
    va_end(ap);
    if (f->last)
        f->last->next = item;
    else
        f->first = item;
    f->last = item;
}

const char *reader_shown(struct arena *a, const char *s)
{
    size_t n = strnlen(s, SHOWN_MAX + 1);

    if (n <= SHOWN_MAX)
        return s;
    return arena_printf(a, "%.*s...", (int)utf8_cut(s, n, SHOWN_MAX), s);
}

/* ---- one value of each type */

const char *reader_text_wrong(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];

        if ((c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7f)
            return "may not contain control characters";
    }
    return utf8_valid((struct str){ s, n }) ? NULL : "must be valid UTF-8";
}

/* The field's own form and check, then the value is in the row. */
static bool keep_text(const struct reader *rd, const char *value)
{
    const struct form *form = rd->f->type == F_LIST ? NULL : rd->f->form;
    const char *wrong = form ? form->check(rd->a, &value) : NULL;

    if (!wrong && (rd->f->flags & FF_URL))
        wrong = url_check(rd->a, field_schemes(rd->f), rd->f->flags & FF_URL_USER, &value);
    if (!wrong && rd->f->type == F_STR && strlen(value) > (size_t)field_max(rd->f))
        wrong = arena_printf(rd->a, "must have at most %lld bytes", (long long)field_max(rd->f));
    if (!wrong && rd->f->check)
        wrong = rd->f->check(rd->a, &value);

    if (wrong) {
        FAULT_HERE(rd, "malformed", "%s", wrong);
        return false;
    }
    *FIELD_AT(rd->row, rd->f, const char *) = value;
    return true;
}

static bool read_str(const struct reader *rd, const struct json_value *v)
{
    int64_t max = field_max(rd->f);

    if (v->type != JSON_STR) {
        FAULT_HERE(rd, "wrong_type", "must be a string");
        return false;
    }
    if (v->n > (size_t)max) {
        FAULT_HERE(rd, "too_long", "must have at most %lld bytes", (long long)max);
        return false;
    }
    if ((int64_t)v->n < rd->f->min) {
        FAULT_HERE(rd, "too_short", "must have at least %lld byte%s", (long long)rd->f->min,
                   rd->f->min == 1 ? "" : "s");
        return false;
    }
    const char *wrong = reader_text_wrong(v->s, v->n);
    if (wrong) {
        FAULT_HERE(rd, "malformed", "%s", wrong);
        return false;
    }
    return keep_text(rd, arena_dup(rd->a, v->s, v->n));
}

static bool in_range(const struct reader *rd, int64_t v)
{
    int64_t min = rd->f->min, max = rd->f->max;
    char low[24], high[24];

    if ((!min && !max) || (v >= min && v <= max))
        return true;
    if (rd->f->type == F_INT) {
        snprintf(low, sizeof(low), "%lld", (long long)min);
        snprintf(high, sizeof(high), "%lld", (long long)max);
    } else {
        snprintf(low, sizeof(low), "%.10g", (double)min / 1e6);
        snprintf(high, sizeof(high), "%.10g", (double)max / 1e6);
    }
    FAULT_HERE(rd, "out_of_range", "must be between %s and %s", low, high);
    return false;
}

/* 30.0 is an integer too (JSON Schema), as far as a double holds integers exactly. */
static bool integer_of(const struct json_value *v, int64_t *out)
{
    static const double exact = 9007199254740992.0; /* 2^53 */
    bool whole = v->type == JSON_REAL && v->d >= -exact && v->d <= exact;

    *out = v->type == JSON_INT ? v->i : whole ? (int64_t)v->d : 0;
    return v->type == JSON_INT || (whole && (double)*out == v->d);
}

static bool read_int(const struct reader *rd, const struct json_value *v)
{
    int64_t i;

    if (!integer_of(v, &i)) {
        FAULT_HERE(rd, "wrong_type", "must be an integer");
        return false;
    }
    if (!in_range(rd, i))
        return false;
    *FIELD_AT(rd->row, rd->f, int64_t) = i;
    return true;
}

static bool read_micro(const struct reader *rd, const struct json_value *v)
{
    int64_t micro;

    if (v->type != JSON_INT && v->type != JSON_REAL) {
        FAULT_HERE(rd, "wrong_type", "must be a number");
        return false;
    }
    if (!json_micro_of(v, &micro)) {
        FAULT_HERE(rd, "out_of_range", "must have at most six decimal places and be below 9e9");
        return false;
    }
    if (!in_range(rd, micro))
        return false;
    *FIELD_AT(rd->row, rd->f, int64_t) = micro;
    return true;
}

static bool read_bool(const struct reader *rd, const struct json_value *v)
{
    if (v->type != JSON_BOOL) {
        FAULT_HERE(rd, "wrong_type", "must be true or false");
        return false;
    }
    *FIELD_AT(rd->row, rd->f, bool) = v->b;
    return true;
}

static bool read_time(const struct reader *rd, const struct json_value *v)
{
    int64_t t;

    if (v->type != JSON_STR) {
        FAULT_HERE(rd, "wrong_type", "must be a string that holds a time");
        return false;
    }
    if (!time_parse((struct str){ v->s, v->n }, &t)) {
        FAULT_HERE(rd, "malformed", "must be a time like 2026-01-05T23:00:00Z, or a date");
        return false;
    }
    if (t <= 0) { /* 0 is how a row says "none" */
        FAULT_HERE(rd, "out_of_range", "must be after 1970-01-01");
        return false;
    }
    *FIELD_AT(rd->row, rd->f, int64_t) = t;
    return true;
}

static bool read_enum(const struct reader *rd, const struct json_value *v)
{
    _cleanup_(buf_free) struct buf words = BUF(1024);

    if (v->type != JSON_STR) {
        FAULT_HERE(rd, "wrong_type", "must be a string");
        return false;
    }
    for (const struct enum_name *e = rd->f->accepts ? rd->f->accepts : rd->f->names; e->name; e++) {
        if (strcmp(e->name, v->s) == 0) {
            *FIELD_AT(rd->row, rd->f, int) = e->value;
            return true;
        }
        buf_printf(&words, "%s%s", words.n ? ", " : "", e->name);
    }
    FAULT_HERE(rd, "not_allowed", "must be one of: %.*s", (int)words.n, words.n ? words.p : "");
    return false;
}

/* An id that says its kind by its prefix, or a UUID that leaves it open. */
static bool read_id_of_any(const struct reader *rd, const struct json_value *v)
{
    struct uuid u;
    struct str s = { v->s, v->n };
    const char **kind = (const char **)(void *)((char *)rd->row + rd->f->kind_at);
    const char *all = "";

    *kind = NULL;
    for (const struct record *const *k = rd->f->kinds; *k; k++) {
        if (v->type == JSON_STR && id_parse(s, (*k)->prefix, &u) == ID_OK) {
            struct uuid plain;

            *kind = uuid_parse(s, &plain) ? NULL : (*k)->name;
            *FIELD_AT(rd->row, rd->f, struct uuid) = u;
            return true;
        }
        all = arena_printf(rd->a, "%s%s%s_", all, *all ? " or " : "", (*k)->prefix);
    }
    FAULT_HERE(rd, v->type == JSON_STR ? "malformed" : "wrong_type",
               "must be a UUID or an id that begins with %s", all);
    return false;
}

static bool read_id(const struct reader *rd, const struct json_value *v)
{
    const struct record *target = rd->f->type == F_UUID ? rd->r : rd->f->ref;
    const char *prefix = target ? target->prefix : NULL;
    struct uuid u;

    if (rd->f->kinds)
        return read_id_of_any(rd, v);
    if (v->type != JSON_STR) {
        FAULT_HERE(rd, "wrong_type", "must be a string that holds an id");
        return false;
    }
    if (id_parse((struct str){ v->s, v->n }, prefix, &u) != ID_OK) {
        if (prefix)
            FAULT_HERE(rd, "malformed", "must be a UUID or an id that begins with %s_", prefix);
        else
            FAULT_HERE(rd, "malformed", "must be a UUID");
        return false;
    }
    *FIELD_AT(rd->row, rd->f, struct uuid) = u;
    return true;
}

/* ---- values of values */

/* By the field's own check of one entry. */
static bool entry_right(const struct reader *rd, const char *field, const char *key,
                        const char *value)
{
    const char *code = "malformed";
    const char *wrong = rd->f->check_entry ? rd->f->check_entry(key, value, &code) : NULL;

    if (wrong)
        faults_add(rd->faults, field, code, "%s", wrong);
    return !wrong;
}

static bool item_right(const struct reader *rd, const char *field, const char *key,
                       const struct json_value *v)
{
    const struct form *form = rd->f->type == F_LIST ? rd->f->form : NULL;
    const char *wrong = NULL, *text = v->s;

    if (v->type != JSON_STR)
        faults_add(rd->faults, field, "wrong_type", "must be a string");
    else if (v->n > FIELD_ENTRY_MAX)
        faults_add(rd->faults, field, "too_long", "must have at most %d bytes", FIELD_ENTRY_MAX);
    else if ((wrong = reader_text_wrong(v->s, v->n)) ||
             (form && (wrong = form->check(rd->a, &text))))
        faults_add(rd->faults, field, "malformed", "%s", wrong);
    else
        return entry_right(rd, field, key, v->s);
    return false;
}

/* The texts between the commas of 's': named by their number, or all of them 'name'. */
static bool parts_right(const struct reader *rd, const char *name, const char *s)
{
    bool right = true;

    for (size_t i = 0; rd->faults->n < FAULTS_KEPT; i++) {
        size_t n = strcspn(s, ",");
        const char *field = name ? name : arena_printf(rd->a, "%s[%zu]", rd->name, i);

        if (!entry_right(rd, field, NULL, arena_dup(rd->a, s, n)))
            right = false;
        if (s[n] == '\0')
            break;
        s += n + 1;
    }
    return right;
}

/* F_JSON with a check of its entries: any other value is left to the check of the whole. */
static bool texts_right(const struct reader *rd, const struct json_value *v)
{
    bool right = true;

    if (!rd->f->check_entry)
        return true;
    if (v->type == JSON_STR)
        return v->n == 0 || parts_right(rd, NULL, v->s);
    for (size_t i = 0; v->type == JSON_ARR && i < v->n && rd->faults->n < FAULTS_KEPT; i++) {
        const char *field = arena_printf(rd->a, "%s[%zu]", rd->name, i);

        if (v->items[i].type == JSON_STR) {
            right = parts_right(rd, field, v->items[i].s) && right;
        } else {
            faults_add(rd->faults, field, "wrong_type", "must be a string");
            right = false;
        }
    }
    return right;
}

static bool map_right(const struct reader *rd, const struct json_value *v)
{
    bool right = true;

    for (size_t i = 0; i < v->n && rd->faults->n < FAULTS_KEPT; i++) {
        const char *key = v->items[i].key;
        size_t n = strlen(key);
        const char *field = arena_printf(rd->a, "%s.%s", rd->name, reader_shown(rd->a, key));

        if (n < 1 || n > FIELD_KEY_MAX || reader_text_wrong(key, n)) {
            faults_add(rd->faults, field,
                       n > FIELD_KEY_MAX ? "too_long"
                       : n               ? "malformed"
                                         : "too_short",
                       "a key must have 1 to %d bytes and no control characters", FIELD_KEY_MAX);
            right = false;
        }
        if (!item_right(rd, field, key, &v->items[i]))
            right = false;
    }
    return right;
}

static bool list_right(const struct reader *rd, const struct json_value *v)
{
    bool right = true;

    for (size_t i = 0; i < v->n && rd->faults->n < FAULTS_KEPT; i++)
        if (!item_right(rd, arena_printf(rd->a, "%s[%zu]", rd->name, i), NULL, &v->items[i]))
            right = false;
    return right;
}

static bool count_right(const struct reader *rd, const struct json_value *v)
{
    int64_t max = field_max(rd->f);

    if ((int64_t)v->n > max)
        FAULT_HERE(rd, "too_long", "must have at most %lld entries", (long long)max);
    else if ((int64_t)v->n < rd->f->min)
        FAULT_HERE(rd, "too_short", "must have at least %lld entries", (long long)rd->f->min);
    else
        return true;
    return false;
}

/* An object within the object: its faults bear its place. */
static bool read_inner(const struct reader *rd, const char *at, const struct json_value *v,
                       void *row)
{
    struct faults inner = { .arena = rd->faults->arena };
    uint64_t set;

    if (v->type != JSON_OBJ) {
        faults_add(rd->faults, at, "wrong_type", "must be an object");
        return false;
    }
    json_read_record(rd->a, rd->f->of, JSON_CREATE, v, row, &set, &inner);
    for (const struct fault_item *i = inner.first; i; i = i->next)
        faults_add(rd->faults, arena_printf(rd->a, "%s.%s", at, i->field), i->code, "%s",
                   i->message);
    return inner.n == 0;
}

static bool read_row(const struct reader *rd, const struct json_value *v)
{
    void *row = arena_alloc(rd->a, rd->f->of->size);

    if (!read_inner(rd, rd->name, v, row))
        return false;
    *FIELD_AT(rd->row, rd->f, const void *) = row;
    return true;
}

static bool read_rows(const struct reader *rd, const struct json_value *v)
{
    size_t size = rd->f->of->size;
    bool right = true;

    if (v->type != JSON_ARR) {
        FAULT_HERE(rd, "wrong_type", "must be a list of objects");
        return false;
    }
    if (!count_right(rd, v))
        return false;
    char *rows = arena_alloc(rd->a, MAX(v->n, (size_t)1) * size);
    for (size_t i = 0; i < v->n; i++)
        right &= read_inner(rd, arena_printf(rd->a, "%s[%zu]", rd->name, i), &v->items[i],
                            rows + i * size);
    if (right)
        *FIELD_AT(rd->row, rd->f, struct rows) = (struct rows){ rows, v->n };
    return right;
}

/* F_JSON, F_MAP, F_LIST: kept as canonical text. */
static bool read_tree(const struct reader *rd, const struct json_value *v)
{
    int64_t max = field_bytes(rd->f);

    if (v->type == JSON_NULL) { /* a row says "none" by NULL, never by a text */
        FAULT_HERE(rd, "wrong_type", "cannot be null");
        return false;
    }
    if (rd->f->type != F_JSON) {
        bool map = rd->f->type == F_MAP;

        if (v->type != (map ? JSON_OBJ : JSON_ARR)) {
            FAULT_HERE(rd, "wrong_type",
                       map ? "must be an object whose values are strings"
                           : "must be a list of strings");
            return false;
        }
        bool right = count_right(rd, v);
        if (!(map ? map_right(rd, v) : list_right(rd, v)) || !right)
            return false;
    } else if (!texts_right(rd, v)) {
        return false;
    }
    _cleanup_(buf_free) struct buf b = BUF((size_t)max);
    struct json_out o = JSON_OUT(&b);
    json_value_write(&o, v);
    if (json_done(&o) < 0) {
        FAULT_HERE(rd, "too_long", "must have at most %lld bytes", (long long)max);
        return false;
    }
    return keep_text(rd, arena_dup(rd->a, b.p, b.n));
}

bool reader_value(const struct reader *rd, const struct json_value *v)
{
    switch (rd->f->type) {
    case F_UUID:
    case F_REF:
        return read_id(rd, v);
    case F_STR:
        return read_str(rd, v);
    case F_INT:
        return read_int(rd, v);
    case F_BOOL:
        return read_bool(rd, v);
    case F_TIME:
        return read_time(rd, v);
    case F_ENUM:
        return read_enum(rd, v);
    case F_MICRO:
        return read_micro(rd, v);
    case F_JSON:
    case F_MAP:
    case F_LIST:
        return read_tree(rd, v);
    case F_ROW:
        return read_row(rd, v);
    case F_ROWS:
        return read_rows(rd, v);
    }
    return false;
}

/* ---- whole objects */

static void clear(const struct field *f, void *row)
{
    switch (f->type) {
    case F_UUID:
    case F_REF:
        *FIELD_AT(row, f, struct uuid) = (struct uuid){ 0 };
        break;
    case F_INT:
    case F_MICRO:
        *FIELD_AT(row, f, int64_t) = f->dflt;
        break;
    case F_TIME:
        *FIELD_AT(row, f, int64_t) = 0;
        break;
    case F_BOOL:
        *FIELD_AT(row, f, bool) = f->dflt != 0;
        break;
    case F_ENUM:
        *FIELD_AT(row, f, int) = (int)f->dflt;
        break;
    case F_ROWS:
        *FIELD_AT(row, f, struct rows) = (struct rows){ NULL, 0 };
        break;
    default:
        *FIELD_AT(row, f, const char *) = NULL;
    }
}

const struct field *reader_field(const struct record *r, const char *name)
{
    const struct field *f = record_named(r, name);

    return f && (f->flags & FF_HIDDEN) ? NULL : f;
}

/* Sets what POST left out to its default, and finds what it may not leave out. */
void json_read_absent(const struct record *r, uint64_t set, void *row, struct faults *f)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *field = &r->fields[i];

        if (set >> i & 1)
            continue;
        if (field_required(field, true))
            faults_add(f, field->name, "required", "is required");
        switch (field->type) {
        case F_INT:
        case F_MICRO:
        case F_BOOL:
        case F_ENUM:
            clear(field, row);
            break;
        case F_STR:
        case F_JSON:
        case F_MAP:
        case F_LIST:
            if (field->dflt_str) /* else as it is: the kind that another field's id says */
                *FIELD_AT(row, field, const char *) = field->dflt_str;
            break;
        default:
            break;
        }
    }
}

/* 'given': the fields met, faulty ones too, so that one is neither told twice nor called missing.
 */
static void read_member(struct reader *rd, enum json_mode mode, const struct json_value *v,
                        uint64_t *set, uint64_t *given)
{
    const struct field *f = reader_field(rd->r, rd->name);
    unsigned allowed = mode == JSON_CREATE ? FF_CREATE : FF_UPDATE;

    rd->f = f;
    if (!f) {
        bool arn = rd->r->arn_service && strcmp(rd->name, "arn") == 0;

        rd->name = reader_shown(rd->a, rd->name);
        FAULT_HERE(rd, arn ? "read_only" : "unknown", arn ? "cannot be set" : "is not known here");
        return;
    }
    uint64_t bit = UINT64_C(1) << (f - rd->r->fields);
    if (!(f->flags & allowed)) {
        FAULT_HERE(rd, "read_only",
                   mode == JSON_UPDATE && (f->flags & FF_CREATE) ? "cannot be changed"
                                                                 : "cannot be set");
        return;
    }
    if (*given & bit) {
        FAULT_HERE(rd, "not_allowed", "%s and %s are the same: give one of them", f->name,
                   f->alias);
        return;
    }
    if (v->type == JSON_NULL && mode == JSON_CREATE)
        return;
    *given |= bit;
    if (v->type == JSON_NULL && mode == JSON_UPDATE && (f->flags & FF_CLEAR)) {
        clear(f, rd->row);
        *set |= bit;
    } else if (v->type == JSON_NULL) {
        FAULT_HERE(rd, "wrong_type", "cannot be null");
    } else if (reader_value(rd, v)) {
        *set |= bit;
    }
}

/* Of the fields that stand for each other one is given. */
static void read_either(const struct record *r, uint64_t given, struct faults *f)
{
    const struct field *first = NULL, *one = NULL;

    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *x = &r->fields[i];

        if (!(x->flags & FF_EITHER))
            continue;
        if (one && (given >> i & 1))
            faults_add(f, x->name, "not_allowed", "cannot be given together with %s", one->name);
        first = first ? first : x;
        one = given >> i & 1 ? x : one;
    }
    for (size_t i = 0; first && !one && i < r->n_fields; i++)
        if ((r->fields[i].flags & FF_EITHER) && &r->fields[i] != first)
            faults_add(f, first->name, "required", "is required, or %s", r->fields[i].name);
}

void json_read_record(struct arena *a, const struct record *r, enum json_mode mode,
                      const struct json_value *obj, void *row, uint64_t *set, struct faults *f)
{
    uint64_t given = 0;

    *set = 0;
    if (json_type_of(obj) != JSON_OBJ) {
        faults_add(f, "", "wrong_type", "the request must be a JSON object");
        return;
    }
    for (size_t i = 0; i < obj->n; i++) {
        struct reader rd = { .a = a, .r = r, .name = obj->items[i].key, .row = row, .faults = f };

        if (f->n >= FAULTS_KEPT)
            return;
        read_member(&rd, mode, &obj->items[i], set, &given);
    }
    if (mode == JSON_CREATE) {
        read_either(r, given, f);
        json_read_absent(r, given, row, f);
    }
    for (size_t i = 0; mode == JSON_UPDATE && i < r->n_fields; i++)
        if (field_required(&r->fields[i], false) && !(given >> i & 1))
            faults_add(f, r->fields[i].name, "required", "is required");
}
