/* SPDX-License-Identifier: Apache-2.0 */
#include "base/record.h"

const struct field *record_field(const struct record *r, const char *name)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i].name, name) == 0)
            return &r->fields[i];
    return NULL;
}

const struct field *record_named(const struct record *r, const char *name)
{
    const struct field *f = record_field(r, name);

    for (size_t i = 0; !f && i < r->n_fields; i++)
        if (r->fields[i].alias && strcmp(r->fields[i].alias, name) == 0)
            f = &r->fields[i];
    return f;
}

int64_t field_max(const struct field *f)
{
    if (f->max)
        return f->max;
    if (f->flags & FF_URL)
        return FIELD_URL_MAX;
    return f->type == F_STR    ? FIELD_TEXT_MAX
           : f->type == F_JSON ? FIELD_JSON_MAX
                               : FIELD_ENTRIES_MAX;
}

int64_t field_bytes(const struct field *f)
{
    switch (f->type) {
    case F_STR:
    case F_JSON:
        return field_max(f);
    case F_MAP:
    case F_LIST: /* at worst each byte is an escape: \u0001 */
        return field_max(f) * (FIELD_ENTRY_MAX + FIELD_KEY_MAX + 8) * 6;
    default:
        return 0;
    }
}

size_t record_bytes(const struct record *r)
{
    size_t n = r->size;

    for (size_t i = 0; i < r->n_fields; i++)
        if (field_has_column(&r->fields[i]))
            n += (size_t)field_bytes(&r->fields[i]) * (r->fields[i].flags & FF_SEALED ? 3 : 1);
    return n;
}

const struct record *field_kind(const struct field *f, const void *row)
{
    const char *name = *(const char *const *)(const void *)((const char *)row + f->kind_at);

    for (const struct record *const *k = f->kinds; name && *k; k++)
        if (strcmp((*k)->name, name) == 0)
            return *k;
    return NULL;
}

bool field_has_column(const struct field *f)
{
    return !(f->flags & FF_VIRTUAL) && f->type != F_ROW && f->type != F_ROWS;
}

const char *field_schemes(const struct field *f)
{
    return f->schemes ? f->schemes : "https";
}

bool field_required(const struct field *f, bool create)
{
    return f->flags & (create ? FF_REQUIRED : FF_UPDATE_REQUIRED);
}

int record_index(const struct record *r, const char *name)
{
    const struct field *f = record_field(r, name);

    if (!f)
        abort();
    return (int)(f - r->fields);
}

uint64_t record_bit(const struct record *r, const char *name)
{
    return UINT64_C(1) << record_index(r, name);
}

uint64_t record_bit_at(const struct record *r, size_t offset)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (r->fields[i].offset == offset)
            return UINT64_C(1) << i;
    abort();
}

const char *enum_to_str(const struct enum_name *names, int value)
{
    for (const struct enum_name *n = names; n->name; n++)
        if (n->value == value)
            return n->name;
    return NULL;
}

int enum_from_str(const struct enum_name *names, const char *s)
{
    for (const struct enum_name *n = names; n->name; n++)
        if (strcmp(n->name, s) == 0)
            return n->value;
    return -1;
}

static size_t field_size(const struct field *f)
{
    switch (f->type) {
    case F_UUID:
    case F_REF:
        return sizeof(struct uuid);
    case F_STR:
    case F_JSON:
    case F_MAP:
    case F_LIST:
        return sizeof(const char *);
    case F_ROW:
        return sizeof(const void *);
    case F_ROWS:
        return sizeof(struct rows);
    case F_BOOL:
        return sizeof(bool);
    case F_ENUM:
        return sizeof(int);
    case F_INT:
    case F_TIME:
    case F_MICRO:
        return sizeof(int64_t);
    }
    abort();
}

void record_copy(const struct record *r, void *to, const void *from, uint64_t set)
{
    for (size_t i = 0; i < r->n_fields; i++) {
        const struct field *f = &r->fields[i];

        if (set >> i & 1)
            memcpy((char *)to + f->offset, (const char *)from + f->offset, field_size(f));
    }
}
