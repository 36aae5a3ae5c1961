/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in.  jansson reads the text, but only after a scan has counted depth and values, for it
 * would build whatever it is given.  Its tree is then copied into plain arrays: the i-th member
 * costs the same for every i, and all of it goes in one piece. */
#include "codec/json.h"

#include "codec/json_node.h"

/* What has the same name on both sides. */
#define JSON_REAL JANSSON_REAL
#define JSON_NULL JANSSON_NULL
#define json_null jansson_null
#include <jansson.h>
#undef JSON_REAL
#undef JSON_NULL
#undef json_null

struct document {
    struct json_value root; /* first: json_free() finds the document by it */
    struct arena arena;
};

/* ---- limits */

struct place {
    size_t line, column;
};

static struct place place_of(struct str text, size_t at)
{
    struct place p = { 1, 1 };

    for (size_t i = 0; i < at; i++) {
        p.column++;
        if (text.p[i] == '\n')
            p = (struct place){ p.line + 1, 1 };
    }
    return p;
}

/* The index behind the string that opens at 'i'. */
static size_t skip_string(struct str t, size_t i)
{
    for (i++; i < t.n && t.p[i] != '"'; i++)
        if (t.p[i] == '\\')
            i++;
    return i + 1;
}

static int check_limits(struct str t, struct err *e)
{
    size_t depth = 0, values = 1, i = 0;

    while (i < t.n) {
        char c = t.p[i];

        if (c == '"') {
            i = skip_string(t, i);
            continue;
        }
        depth += c == '{' || c == '[';
        values += c == '{' || c == '[' || c == ',';
        if ((c == '}' || c == ']') && depth)
            depth--;
        if (depth > JSON_MAX_DEPTH || values > JSON_MAX_VALUES) {
            struct place p = place_of(t, i);

            return err_set(e, ERR_INVALID_JSON, "JSON has more than %d %s (line %zu, column %zu)",
                           depth > JSON_MAX_DEPTH ? JSON_MAX_DEPTH : JSON_MAX_VALUES,
                           depth > JSON_MAX_DEPTH ? "levels" : "values", p.line, p.column);
        }
        i++;
    }
    return 0;
}

/* ---- parsing */

static const char *words_of(const json_error_t *je)
{
    switch (json_error_code(je)) {
    case json_error_invalid_utf8:
        return "text is not valid UTF-8";
    case json_error_premature_end_of_input:
        return "JSON ends too early";
    case json_error_end_of_input_expected:
        return "JSON is followed by something else";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "strings may not hold the character NUL";
    case json_error_duplicate_key:
        return "an object has two members of one name";
    case json_error_numeric_overflow:
        return "a number is too large";
    default:
        return "text is not valid JSON";
    }
}

static void copy(struct arena *a, const json_t *from, struct json_value *to);

static void copy_object(struct arena *a, const json_t *from, struct json_value *to)
{
    json_t *object = (json_t *)(uintptr_t)from; /* iterating changes nothing */
    struct json_value *item;

    to->n = json_object_size(from);
    to->items = item = arena_new_n(a, struct json_value, to->n);
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it), item++) {
        item->key = arena_strdup(a, json_object_iter_key(it));
        copy(a, json_object_iter_value(it), item);
    }
}

/* Recursion is as deep as the text, JSON_MAX_DEPTH at most. */
static void copy(struct arena *a, const json_t *from, struct json_value *to)
{
    switch (json_typeof(from)) {
    case JSON_OBJECT:
        to->type = JSON_OBJ;
        copy_object(a, from, to);
        break;
    case JSON_ARRAY:
        to->type = JSON_ARR;
        to->n = json_array_size(from);
        to->items = arena_new_n(a, struct json_value, to->n);
        for (size_t i = 0; i < to->n; i++)
            copy(a, json_array_get(from, i), &to->items[i]);
        break;
    case JSON_STRING:
        to->type = JSON_STR;
        to->n = json_string_length(from);
        to->s = arena_dup(a, json_string_value(from), to->n);
        break;
    case JSON_INTEGER:
        to->type = JSON_INT;
        to->i = json_integer_value(from);
        break;
    case JANSSON_REAL:
        to->type = JSON_REAL;
        to->d = json_real_value(from);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        to->type = JSON_BOOL;
        to->b = json_typeof(from) == JSON_TRUE;
        break;
    case JANSSON_NULL:
        to->type = JSON_NULL;
        break;
    }
}

struct json_value *json_parse(struct str text, struct err *e)
{
    json_error_t je;

    if (check_limits(text, e) < 0)
        return NULL;
    json_t *tree =
        json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!tree) {
        err_set(e, ERR_INVALID_JSON, "%s (line %d, column %d)", words_of(&je), je.line, je.column);
        return NULL;
    }
    struct document *doc = calloc(1, sizeof(*doc));
    if (!doc)
        abort();
    doc->arena = ARENA(SIZE_MAX / 4); /* bounded by the text's size and the number of values */
    copy(&doc->arena, tree, &doc->root);
    json_decref(tree);
    return &doc->root;
}

void json_free(struct json_value *v)
{
    struct document *doc = (struct document *)(void *)v;

    if (!doc)
        return;
    arena_free(&doc->arena);
    free(doc);
}

/* ---- looking */

enum json_type json_type_of(const struct json_value *v)
{
    return v ? v->type : JSON_NULL;
}

const struct json_value *json_get(const struct json_value *obj, const char *key)
{
    if (!obj || obj->type != JSON_OBJ)
        return NULL;
    for (size_t i = 0; i < obj->n; i++)
        if (strcmp(obj->items[i].key, key) == 0)
            return &obj->items[i];
    return NULL;
}

size_t json_len(const struct json_value *v)
{
    return v && (v->type == JSON_ARR || v->type == JSON_OBJ) ? v->n : 0;
}

const struct json_value *json_at(const struct json_value *arr, size_t i)
{
    return arr && arr->type == JSON_ARR && i < arr->n ? &arr->items[i] : NULL;
}

const struct json_value *json_member(const struct json_value *obj, size_t i, const char **key)
{
    if (!obj || obj->type != JSON_OBJ || i >= obj->n)
        return NULL;
    *key = obj->items[i].key;
    return &obj->items[i];
}

const char *json_str_of(const struct json_value *v, size_t *n)
{
    if (!v || v->type != JSON_STR)
        return NULL;
    if (n)
        *n = v->n;
    return v->s;
}

int64_t json_int_of(const struct json_value *v)
{
    return v && v->type == JSON_INT ? v->i : 0;
}

double json_real_of(const struct json_value *v)
{
    if (v && v->type == JSON_INT)
        return (double)v->i;
    return v && v->type == JSON_REAL ? v->d : 0;
}

bool json_bool_of(const struct json_value *v)
{
    return v && v->type == JSON_BOOL && v->b;
}

bool json_micro_of(const struct json_value *v, int64_t *millionths)
{
    static const double most = 9007199254740992.0; /* 2^53: up to here a double counts exactly */

    if (v && v->type == JSON_INT)
        return !__builtin_mul_overflow(v->i, 1000000, millionths);
    if (!v || v->type != JSON_REAL)
        return false;
    /* The text had at most six places if dividing by a million gives back the very same double. */
    double scaled = v->d * 1e6;
    if (!(scaled > -most && scaled < most))
        return false;
    double half = scaled > -most / 2 && scaled < most / 2 ? 0.5 : 0; /* past that all are whole */
    int64_t whole = (int64_t)(scaled < 0 ? scaled - half : scaled + half);
    if ((double)whole / 1e6 != v->d)
        return false;
    *millionths = whole;
    return true;
}

const char *json_get_str(struct arena *a, const struct json_value *obj, const char *key,
                         const char *dflt)
{
    const struct json_value *v = json_get(obj, key);

    return v && v->type == JSON_STR ? arena_dup(a, v->s, v->n) : dflt;
}

int64_t json_get_int(const struct json_value *obj, const char *key, int64_t dflt)
{
    const struct json_value *v = json_get(obj, key);

    return v && v->type == JSON_INT ? v->i : dflt;
}

bool json_get_bool(const struct json_value *obj, const char *key, bool dflt)
{
    const struct json_value *v = json_get(obj, key);

    return v && v->type == JSON_BOOL ? v->b : dflt;
}

/* ---- back to text */

void json_value_write(struct json_out *o, const struct json_value *v)
{
    switch (v->type) {
    case JSON_NULL:
        json_null(o);
        break;
    case JSON_BOOL:
        json_bool(o, v->b);
        break;
    case JSON_INT:
        json_int(o, v->i);
        break;
    case JSON_REAL:
        json_double(o, v->d);
        break;
    case JSON_STR:
        json_strn(o, v->s, v->n);
        break;
    case JSON_ARR:
    case JSON_OBJ:
        json_open(o, v->type == JSON_ARR ? '[' : '{');
        for (size_t i = 0; i < v->n; i++) {
            if (v->type == JSON_OBJ)
                json_key(o, v->items[i].key);
            json_value_write(o, &v->items[i]);
        }
        json_close(o);
        break;
    }
}

char *json_text(struct arena *a, const struct json_value *v)
{
    _cleanup_(buf_free) struct buf b = BUF(SIZE_MAX / 4);
    struct json_out o = JSON_OUT(&b);

    json_value_write(&o, v);
    return arena_dup(a, b.p, b.n);
}

bool texts_read(struct arena *a, const char *list, struct texts *out)
{
    struct err e;

    *out = (struct texts){ NULL, 0 };
    if (!list)
        return true;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(list), &e);
    if (!v || json_type_of(v) != JSON_ARR)
        return false;
    size_t n = json_len(v);
    const char **all = arena_new_n(a, const char *, n);
    for (size_t i = 0; i < n; i++) {
        size_t len = 0;
        const char *s = json_str_of(json_at(v, i), &len);

        if (!s)
            return false;
        all[i] = arena_dup(a, s, len);
    }
    *out = (struct texts){ all, n };
    return true;
}
