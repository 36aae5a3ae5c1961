/* SPDX-License-Identifier: Apache-2.0 */
/* Values that come as text, of a query or a flag: made into what JSON would have said, and checked
 * as that is. */
#include "codec/json.h"

#include "codec/json_node.h"
#include "codec/record_reader.h"
#include "codec/text.h"

static bool number_of(struct str s, struct json_value *v)
{
    char tmp[32], *end;
    bool digits = s.n > 0 && s.n < sizeof(tmp);

    for (size_t i = 0; digits && i < s.n; i++)
        digits = (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' || (s.p[i] == '-' && i == 0);
    if (!digits)
        return false;
    if (int_parse(s, INT64_MIN, INT64_MAX, &v->i)) {
        v->type = JSON_INT;
        return true;
    }
    memcpy(tmp, s.p, s.n);
    tmp[s.n] = '\0';
    v->type = JSON_REAL;
    v->d = strtod(tmp, &end);
    return *end == '\0' && s.p[s.n - 1] != '.';
}

static void split_list(struct arena *a, struct str s, struct json_value *v)
{
    size_t n = 1;

    for (size_t i = 0; i < s.n; i++)
        n += s.p[i] == ',';
    *v = (struct json_value){ .type = JSON_ARR, .n = s.n ? n : 0 };
    v->items = arena_new_n(a, struct json_value, v->n);
    for (size_t i = 0, from = 0; i < v->n; i++) {
        const char *comma = memchr(s.p + from, ',', s.n - from);
        size_t len = comma ? (size_t)(comma - s.p) - from : s.n - from;

        v->items[i].type = JSON_STR;
        v->items[i].n = len;
        v->items[i].s = arena_dup(a, s.p + from, len);
        from += len + 1;
    }
}

/* A time in a query bounds what is asked for; a row says "none" by 0. */
static void read_time_text(struct reader *rd, const struct json_value *v, uint64_t *set)
{
    int64_t t;

    if (!time_parse((struct str){ v->s, v->n }, &t)) {
        FAULT_HERE(rd, "malformed", "must be a time like 2026-01-05T23:00:00Z, or a date");
        return;
    }
    *FIELD_AT(rd->row, rd->f, int64_t) = MAX(t, (int64_t)1);
    *set |= UINT64_C(1) << (rd->f - rd->r->fields);
}

/* The text as the JSON value it stands for; a string where it stands for none, so that the check of
 * the type says what is due. */
static void value_of(struct arena *a, const struct field *f, struct str s, struct json_value *v)
{
    *v = (struct json_value){ .type = JSON_STR, .n = s.n };
    if (f->type == F_INT && int_parse(s, INT64_MIN, INT64_MAX, &v->i))
        v->type = JSON_INT;
    else if (f->type == F_BOOL && (str_is(s, "true") || str_is(s, "false")))
        *v = (struct json_value){ .type = JSON_BOOL, .b = str_is(s, "true") };
    else if (f->type == F_LIST)
        split_list(a, s, v);
    else if (f->type != F_MICRO || !number_of(s, v))
        *v = (struct json_value){ .type = JSON_STR, .n = s.n, .s = arena_dup(a, s.p, s.n) };
}

void json_read_text(struct arena *a, const struct record *r, const char *name, struct str value,
                    void *row, uint64_t *set, struct faults *f)
{
    struct reader rd = { .a = a, .r = r, .name = name, .row = row, .faults = f };
    struct json_value v, *parsed = NULL;
    struct err e;

    rd.f = reader_field(r, name);
    if (!rd.f) {
        rd.name = reader_shown(a, name);
        FAULT_HERE(&rd, "unknown", "is not known here");
        return;
    }
    uint64_t bit = UINT64_C(1) << (rd.f - r->fields);
    if (*set & bit) {
        FAULT_HERE(&rd, "not_allowed", "is given twice");
        return;
    }
    const char *wrong = reader_text_wrong(value.p, value.n);
    if (wrong) {
        FAULT_HERE(&rd, "malformed", "%s", wrong);
        return;
    }
    if (rd.f->type == F_JSON || rd.f->type == F_MAP || rd.f->type == F_ROW ||
        rd.f->type == F_ROWS) {
        parsed = json_parse(value, &e);
        if (!parsed)
            FAULT_HERE(&rd, "malformed", "%s", e.msg);
        else if (reader_value(&rd, parsed))
            *set |= bit;
        json_free(parsed);
        return;
    }
    value_of(a, rd.f, value, &v);
    if (rd.f->type == F_TIME)
        read_time_text(&rd, &v, set);
    else if (reader_value(&rd, &v))
        *set |= bit;
}
