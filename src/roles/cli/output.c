/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how an answer is laid out.  Everything a server sent is made harmless for a terminal:
 * control characters never reach it. */

#include "roles/cli/output.h"

#include <ctype.h>

#include "codec/text.h"

enum { COLUMNS_MAX = 8, CELL_MAX = 60 };

const struct json_value *output_list(const struct json_value *v)
{
    const struct json_value *data;

    if (json_type_of(v) == JSON_ARR)
        return v;
    if (json_type_of(v) != JSON_OBJ)
        return NULL;
    data = json_get(v, "data");
    return data && json_type_of(data) == JSON_ARR && json_get(v, "has_more") ? data : NULL;
}

size_t output_width(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void output_table(const char *const *cells, size_t rows, size_t columns, struct buf *out)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            const char *s = cells[r * columns + c];
            size_t wide = 0;

            buf_puts(out, s);
            if (c + 1 == columns)
                break;
            for (size_t i = 0; i < rows; i++)
                wide = MAX(wide, output_width(cells[i * columns + c]));
            buf_printf(out, "%*s", (int)(wide - output_width(s)) + 2, "");
        }
        while (out->n && out->p[out->n - 1] == ' ')
            out->n--;
        buf_putc(out, '\n');
    }
}

const char *output_age(struct arena *a, const char *time, int64_t now)
{
    int64_t at, s;

    if (!time || !time_parse(str_of(time), &at))
        return "-";
    s = (now - at) / SECONDS(1);
    if (s < 0)
        s = 0;
    if (s < 120)
        return arena_printf(a, "%ds", (int)s);
    if (s < 7200)
        return arena_printf(a, "%dm", (int)(s / 60));
    if (s < 172800)
        return arena_printf(a, "%dh", (int)(s / 3600));
    return arena_printf(a, "%lldd", (long long)(s / 86400));
}

const char *output_clean(struct arena *a, const char *s, size_t n, size_t max)
{
    char *out = arena_alloc(a, n + 4), *p = out;

    for (size_t i = 0, chars = 0; i < n; i++) {
        unsigned char ch = (unsigned char)s[i];

        if ((ch & 0xc0) != 0x80 && max && ++chars > max) {
            memcpy(p, "…", 3);
            return out;
        }
        /* U+0080–U+009F are controls too. */
        if (ch == 0xc2 && i + 1 < n && (unsigned char)s[i + 1] < 0xa0) {
            *p++ = '?';
            i++;
            continue;
        }
        *p++ = ch < 0x20 || ch == 0x7f ? '?' : (char)ch;
    }
    return out;
}

static const char *clean_key(struct arena *a, const char *key)
{
    return output_clean(a, key, strlen(key), 0);
}

/* Text of any value on one line. */
static const char *cell_text(struct arena *a, const struct json_value *v, size_t max)
{
    const char *s;
    size_t n;

    if (!v || json_type_of(v) == JSON_NULL)
        return "-";
    s = json_str_of(v, &n);
    if (!s) {
        s = json_text(a, v);
        n = strlen(s);
    }
    return n ? output_clean(a, s, n, max) : "-";
}

static const char *title(struct arena *a, const char *name)
{
    char *s = arena_strdup(a, clean_key(a, name));

    for (char *p = s; *p; p++)
        *p = *p == '_' ? ' ' : (char)toupper((unsigned char)*p);
    return s;
}

static bool is_age(const char *name)
{
    return !strcmp(name, "created_at");
}

static size_t add_column(const char **cols, size_t n, const char *name)
{
    if (n == COLUMNS_MAX)
        return n;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(cols[i], name))
            return n;
    cols[n] = name;
    return n + 1;
}

/* Fields that say little in a list: who owns a thing, but not who is meant by a row that is about
 * somebody. */
static bool dull(const struct record *r, const struct field *f)
{
    static const char *const names[] = { "tenant_id",  "user_id", "project_id", "arn",
                                         "updated_at", "mode",    "revision",   "status_reason" };

    if (f->flags & (FF_SECRET | FF_HIDDEN | FF_ONCE))
        return true;
    if (f->type == F_JSON || f->type == F_MAP || f->type == F_LIST || f->type == F_ROW ||
        f->type == F_ROWS)
        return true;
    if (!strcmp(f->name, "user_id") && !record_field(r, "id"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (!strcmp(names[i], f->name))
            return true;
    return false;
}

/* What is asked of a record's members: what is counted or made when it is shown says most, other
 * things' ids least. */
enum kind { KIND_SHOWN, KIND_KEPT, KIND_REF };

static enum kind kind_of(const struct field *f)
{
    if (f->type == F_REF || f->type == F_UUID)
        return KIND_REF;
    return f->flags & FF_VIRTUAL && !(f->flags & FF_CREATE) ? KIND_SHOWN : KIND_KEPT;
}

static size_t add_fields(const struct record *r, enum kind kind, const char **cols, size_t n)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (!dull(r, f) && !is_age(f->name) && kind_of(f) == kind && n < COLUMNS_MAX - 1)
            n = add_column(cols, n, f->name);
    }
    return n;
}

/* id, name, status, then what the table lists first of each kind, and the age at the end. */
static size_t choose_columns(const struct record *r, const struct json_value *first,
                             const char **cols)
{
    static const char *const main_ones[] = { "id", "name", "status" };
    bool age = r && record_field(r, "created_at");
    size_t n = 0;

    for (size_t i = 0; r && i < ARRAY_LEN(main_ones); i++)
        if (record_field(r, main_ones[i]))
            n = add_column(cols, n, main_ones[i]);
    for (enum kind kind = KIND_SHOWN; r && kind <= KIND_REF; kind++)
        n = add_fields(r, kind, cols, n);
    for (size_t i = 0; !r && first && json_type_of(first) == JSON_OBJ && i < json_len(first); i++) {
        const char *key;
        enum json_type t = json_type_of(json_member(first, i, &key));

        if (is_age(key))
            age = true;
        else if (t != JSON_ARR && t != JSON_OBJ && n < COLUMNS_MAX - 1)
            n = add_column(cols, n, key);
    }
    return age ? add_column(cols, n, "created_at") : n;
}

static void list_table(struct arena *a, const struct record *r,
                       const struct json_value *const *list, size_t rows, int64_t now,
                       struct buf *out)
{
    const char *cols[COLUMNS_MAX];
    size_t n = choose_columns(r, rows ? list[0] : NULL, cols);
    const char **cells;

    if (rows && json_type_of(list[0]) != JSON_OBJ) {
        for (size_t i = 0; i < rows; i++)
            buf_printf(out, "%s\n", cell_text(a, list[i], 0));
        return;
    }
    if (!n)
        return;
    cells = arena_alloc(a, sizeof(*cells) * n * (rows + 1));
    for (size_t c = 0; c < n; c++)
        cells[c] = is_age(cols[c]) ? "AGE" : title(a, cols[c]);
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < n; c++) {
            const struct json_value *row = list[i];
            const struct json_value *v =
                json_type_of(row) == JSON_OBJ ? json_get(row, cols[c]) : NULL;
            const char *text = cell_text(a, v, !strcmp(cols[c], "id") ? 0 : CELL_MAX);

            cells[(i + 1) * n + c] = is_age(cols[c]) ? output_age(a, text, now) : text;
        }
    }
    output_table(cells, rows + 1, n, out);
}

/* One object: a line a member; what is nested stands as YAML under its name. */
static void object_table(struct arena *a, const struct json_value *v, struct buf *out)
{
    size_t wide = 0, n = json_len(v);

    for (size_t i = 0; i < n; i++) {
        const char *key;

        json_member(v, i, &key);
        wide = MAX(wide, output_width(key));
    }
    for (size_t i = 0; i < n; i++) {
        const char *key;
        const struct json_value *m = json_member(v, i, &key);
        enum json_type t = json_type_of(m);

        buf_printf(out, "%s:", clean_key(a, key));
        if ((t == JSON_ARR || t == JSON_OBJ) && json_len(m)) {
            buf_putc(out, '\n');
            output_yaml(m, 1, out);
            continue;
        }
        buf_printf(out, "%*s%s\n", (int)(wide - output_width(key)) + 1, "", cell_text(a, m, 0));
    }
}

/* ---- JSON, indented */

static void indent(struct buf *out, int depth)
{
    buf_printf(out, "%*s", depth * 2, "");
}

static void put_string(const char *s, size_t n, struct buf *out)
{
    struct json_out o = JSON_OUT(out);

    json_strn(&o, s, n);
}

void output_json(const struct json_value *v, int depth, struct buf *out)
{
    enum json_type t = json_type_of(v);
    size_t n = t == JSON_ARR || t == JSON_OBJ ? json_len(v) : 0;

    if (t != JSON_ARR && t != JSON_OBJ) {
        struct arena a = ARENA(MIB(4));

        if (t == JSON_STR) {
            const char *s = json_str_of(v, &n);

            put_string(s, n, out);
        } else {
            buf_puts(out, json_text(&a, v));
        }
        arena_free(&a);
        return;
    }
    buf_putc(out, t == JSON_ARR ? '[' : '{');
    for (size_t i = 0; i < n; i++) {
        const char *key = NULL;
        const struct json_value *m = t == JSON_ARR ? json_at(v, i) : json_member(v, i, &key);

        buf_puts(out, i ? ",\n" : "\n");
        indent(out, depth + 1);
        if (key) {
            put_string(key, strlen(key), out);
            buf_puts(out, ": ");
        }
        output_json(m, depth + 1, out);
    }
    if (n) {
        buf_putc(out, '\n');
        indent(out, depth);
    }
    buf_putc(out, t == JSON_ARR ? ']' : '}');
}

/* ---- YAML */

static bool plain(const char *s, size_t n)
{
    static const char *const words[] = {
        "true", "false", "null", "yes", "no", "on", "off", "y", "n"
    };

    if (!n || n > 200 || !isalpha((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !strchr("-_./@+", s[i]))
            return false;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (str_is_nocase((struct str){ s, n }, words[i]))
            return false;
    return true;
}

static void yaml_scalar(const struct json_value *v, struct buf *out)
{
    struct arena a = ARENA(MIB(4));
    size_t n;
    const char *s = json_str_of(v, &n);

    if (s && plain(s, n))
        buf_put(out, s, n);
    else if (s)
        put_string(s, n, out);
    else
        buf_puts(out, json_text(&a, v)); /* numbers, words, [] and {} */
    arena_free(&a);
}

static void yaml_value(const struct json_value *v, int depth, bool inline_first, struct buf *out)
{
    enum json_type t = json_type_of(v);

    for (size_t i = 0; i < json_len(v); i++) {
        const char *key = NULL;
        const struct json_value *m = t == JSON_ARR ? json_at(v, i) : json_member(v, i, &key);
        enum json_type mt = json_type_of(m);
        bool nested = (mt == JSON_ARR || mt == JSON_OBJ) && json_len(m);

        if (i || !inline_first)
            indent(out, depth);
        if (t == JSON_ARR) {
            buf_puts(out, "- ");
            if (nested) {
                yaml_value(m, depth + 1, true, out);
                continue;
            }
        } else {
            if (plain(key, strlen(key)))
                buf_puts(out, key);
            else
                put_string(key, strlen(key), out);
            buf_putc(out, ':');
            if (nested) {
                buf_putc(out, '\n');
                yaml_value(m, depth + 1, false, out);
                continue;
            }
            buf_putc(out, ' ');
        }
        yaml_scalar(m, out);
        buf_putc(out, '\n');
    }
}

void output_yaml(const struct json_value *v, int depth, struct buf *out)
{
    enum json_type t = json_type_of(v);

    if ((t == JSON_ARR || t == JSON_OBJ) && json_len(v)) {
        yaml_value(v, depth, false, out);
        return;
    }
    indent(out, depth);
    yaml_scalar(v, out);
    buf_putc(out, '\n');
}

/* ---- */

static void put_id(struct arena *a, const struct json_value *v, struct buf *out)
{
    const struct json_value *id = json_type_of(v) == JSON_OBJ ? json_get(v, "id") : NULL;

    if (id)
        buf_printf(out, "%s\n", cell_text(a, id, 0));
}

void output_rows(struct arena *a, const struct record *r, const struct json_value *const *rows,
                 size_t n, enum cli_format format, int64_t now, struct buf *out)
{
    switch (format) {
    case FORMAT_TABLE:
        list_table(a, r, rows, n, now, out);
        return;
    case FORMAT_ID:
        for (size_t i = 0; i < n; i++)
            put_id(a, rows[i], out);
        return;
    case FORMAT_JSON:
        buf_putc(out, '[');
        for (size_t i = 0; i < n; i++) {
            buf_puts(out, i ? ",\n  " : "\n  ");
            output_json(rows[i], 1, out);
        }
        buf_puts(out, n ? "\n]\n" : "]\n");
        return;
    case FORMAT_YAML:
        if (!n)
            buf_puts(out, "[]\n");
        for (size_t i = 0; i < n; i++) {
            bool nested = json_type_of(rows[i]) == JSON_OBJ && json_len(rows[i]);

            buf_puts(out, "- ");
            if (nested)
                yaml_value(rows[i], 1, true, out);
            else
                output_yaml(rows[i], 0, out);
        }
        return;
    }
}

void output_value(struct arena *a, const struct record *r, const struct json_value *v,
                  enum cli_format format, int64_t now, struct buf *out)
{
    const struct json_value *list = output_list(v), *message, **rows;

    if (list) {
        rows = arena_alloc(a, sizeof(const struct json_value *) * (json_len(list) + 1));
        for (size_t i = 0; i < json_len(list); i++)
            rows[i] = json_at(list, i);
        output_rows(a, r, rows, json_len(list), format, now, out);
        return;
    }
    switch (format) {
    case FORMAT_JSON:
        output_json(v, 0, out);
        buf_putc(out, '\n');
        return;
    case FORMAT_YAML:
        output_yaml(v, 0, out);
        return;
    case FORMAT_ID:
        put_id(a, v, out);
        return;
    case FORMAT_TABLE:
        break;
    }
    message = json_type_of(v) == JSON_OBJ ? json_get(v, "message") : NULL;
    if (message && json_len(v) == 1)
        buf_printf(out, "%s\n", cell_text(a, message, 0));
    else if (json_type_of(v) == JSON_OBJ)
        object_table(a, v, out);
    else
        buf_printf(out, "%s\n", cell_text(a, v, 0));
}
