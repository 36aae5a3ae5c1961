/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes: read as JSON; what is read is written and read again to the same text; and goes
 * through a record of every type of field, both ways. */
#include "codec/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum kind { KIND_A, KIND_B };
static const struct enum_name kinds[] = { { KIND_A, "a" }, { KIND_B, "b" }, { 0, NULL } };

struct all {
    struct uuid id, ref;
    const char *s;
    int64_t i;
    bool b;
    int64_t t;
    enum kind e;
    int64_t m;
    const char *j, *map, *list;
};

/* clang-format off */
#define T struct all
#define BOTH (FF_CREATE | FF_UPDATE | FF_CLEAR)
static const struct record ref_record = { .name = "ref", .prefix = "ref" };
static const struct field all_fields[] = {
    FIELD_UUID (T, id, BOTH),
    FIELD_REF  (T, ref, ref_record, BOTH),
    FIELD_STR  (T, s, BOTH),
    FIELD_INT  (T, i, BOTH, .alias = "int"),
    FIELD_BOOL (T, b, BOTH),
    FIELD_TIME (T, t, BOTH),
    FIELD_ENUM (T, e, enum kind, BOTH, .names = kinds),
    FIELD_MICRO(T, m, BOTH),
    FIELD_JSON (T, j, BOTH),
    FIELD_MAP  (T, map, BOTH),
    FIELD_LIST (T, list, BOTH),
};
#undef T
/* clang-format on */
static const struct record all_record = RECORD(all, "all", all_fields, .prefix = "all");

static void check(bool right)
{
    if (!right)
        abort();
}

static struct json_value *must_parse(struct str s)
{
    struct err e;
    struct json_value *v = json_parse(s, &e);

    check(v != NULL);
    return v;
}

/* A row that was read is written, loaded, and written the same. */
static void round_trip(struct arena *a, const struct all *row)
{
    _cleanup_(buf_free) struct buf one = BUF(MIB(16)), two = BUF(MIB(16));
    struct json_out o = JSON_OUT(&one), p = JSON_OUT(&two);
    struct all again;
    struct err e;

    json_dump_row(&o, &all_record, row);
    check(json_done(&o) == 0);
    struct json_value *v = must_parse(buf_str(&one));
    check(json_load_row(a, &all_record, v, &again, &e) == 0);
    json_free(v);
    json_dump_row(&p, &all_record, &again);
    check(json_done(&p) == 0 && str_eq(buf_str(&one), buf_str(&two)));
}

static void through_records(struct arena *a, const struct json_value *v)
{
    for (int mode = JSON_CREATE; mode <= JSON_UPDATE; mode++) {
        struct faults f = { .arena = a };
        struct all row = { 0 };
        uint64_t set;

        json_read_record(a, &all_record, (enum json_mode)mode, v, &row, &set, &f);
        if (f.n == 0)
            round_trip(a, &row);
    }
    struct all row;
    struct err e;
    json_load_row(a, &all_record, v, &row, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(64));
    struct str text = { (const char *)data, size };
    struct err e;
    struct json_value *v = json_parse(text, &e);

    if (v) {
        const char *written = json_text(&a, v);
        struct json_value *again = must_parse(str_of(written));

        check(strcmp(written, json_text(&a, again)) == 0);
        json_free(again);
        through_records(&a, v);
        struct texts texts;
        if (texts_read(&a, written, &texts))
            check(json_type_of(v) == JSON_ARR && texts.n == json_len(v));
        json_free(v);
    } else {
        check(e.code == ERR_INVALID_JSON);
    }
    struct faults f = { .arena = &a };
    for (size_t i = 0; i < all_record.n_fields; i++) {
        struct all row = { 0 };
        uint64_t set = 0;

        json_read_text(&a, &all_record, all_fields[i].name, text, &row, &set, &f);
        if (set)
            round_trip(&a, &row);
    }
    _cleanup_(buf_free) struct buf b = BUF(MIB(16));
    struct json_out o = JSON_OUT(&b);
    json_strn(&o, text.p,
              text.n); /* any bytes make valid JSON, but for NUL, which jansson refuses */
    if (!memchr(data ? (const void *)data : "", 0, size))
        json_free(must_parse(buf_str(&b)));
    return 0;
}
