/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Field tables: a resource is a C struct plus a table of its fields.  JSON in and out, validation,
 * SQL rows, filters, OpenAPI and the CLI all read the table.
 *
 * The order of fields is the order of columns ('@' in SQL) and of JSON members.  At most 64 fields,
 * so that a set of fields is one uint64_t (bit i = field i). */

#include "base/base.h"

enum field_type {
    F_UUID,  /* struct uuid: its own record's id; TypeID on the platform surface */
    F_REF,   /* struct uuid: points to .ref's record */
    F_STR,   /* const char *; NULL is absent */
    F_INT,   /* int64_t */
    F_BOOL,  /* bool */
    F_TIME,  /* int64_t microseconds since 1970, 0 is absent; RFC 3339 on the wire */
    F_ENUM,  /* int; a word on the wire and in SQL */
    F_MICRO, /* int64_t millionths; a decimal number on the wire (prices) */
    F_JSON,  /* const char *: any JSON value as text; NULL is absent */
    F_MAP,   /* const char *: a JSON object whose values are strings, as text */
    F_LIST,  /* const char *: a JSON array of strings, as text; absent reads as [] */
};

enum field_flags {
    FF_CREATE = 1 << 0,           /* a client may set it in POST */
    FF_UPDATE = 1 << 1,           /* a client may set it in PATCH or PUT */
    FF_REQUIRED = 1 << 2,         /* POST without it is 400 */
    FF_CLEAR = 1 << 3,            /* PATCH with null clears it */
    FF_SECRET = 1 << 4,           /* never out */
    FF_ONCE = 1 << 5,             /* out in the answer to its creation only */
    FF_FILTER = 1 << 6,           /* lists filter by it: ?name=a,b */
    FF_SORT = 1 << 7,             /* lists sort by it: ?sort=-name */
    FF_VIRTUAL = 1 << 8,          /* no column; set by code before it goes out */
    FF_HIDDEN = 1 << 9,           /* a column, but neither in nor out (revision, mode) */
    FF_NULL = 1 << 10,            /* out as null where absent, not left out */
    FF_ABSENT_NEGATIVE = 1 << 11, /* F_INT: below zero is absent */
};

struct enum_name {
    int value;
    const char *name;
};

struct record;

struct field {
    const char *name;
    enum field_type type;
    unsigned flags;
    size_t offset;
    /* F_INT, F_MICRO: range (both 0: any).  F_STR: bytes (max 0: 255).  F_MAP, F_LIST: entries
     * (max 0: 50).  F_JSON: bytes of text (max 0: 65536). */
    int64_t min, max;
    int64_t dflt;         /* F_INT, F_BOOL, F_ENUM, F_MICRO: value where POST leaves it out. */
    const char *dflt_str; /* F_STR, F_JSON, F_MAP, F_LIST: likewise. */
    const struct enum_name *names; /* F_ENUM: ends with { 0, NULL }. */
    const struct record *ref;      /* F_REF: where it points, for its prefix; NULL: no prefix. */
    const char *alias;             /* A second name accepted in requests. */
    /* Checks, and may replace, a string-like value (F_STR; F_JSON, F_MAP, F_LIST as canonical
     * text); returns NULL if it is fine, else what is wrong in a client's words ("must be …"). */
    const char *(*check)(struct arena *a, const char **value);
    const char *doc; /* One sentence for people; required in every public record. */
};

/* A unique index of a table, and what its violation says of the row's name. */
struct unique {
    const char *index, *says;
};

struct record {
    const char *name;  /* "queue": events are "queue.created" */
    const char *table; /* SQL table; NULL for bodies and answers that are no rows */
    size_t size;
    const struct field *fields;
    size_t n_fields;
    const char *prefix;      /* TypeID prefix, "q"; NULL: ids stay UUIDs on the platform surface */
    const char *arn_service; /* NULL: has no ARN */
    const char *arn_type;    /* "queue" in arn:thecloud:queue:<region>:<tenant>:queue/<id> */
    struct unique unique;    /* beside that of the name; zeros: none says more */
};

/* clang-format off */
#define MEMBER_IS(T, m, ctype)                                                                     \
    (0 * sizeof(struct { _Static_assert(                                                           \
        __builtin_types_compatible_p(typeof(((T *)0)->m), ctype), #T "." #m " is not a " #ctype);  \
        int x_; }))
#define FIELD_(T, m, ftype, ctype, fl, ...)                                                        \
    { .name = #m, .type = (ftype), .flags = (fl),                                                  \
      .offset = offsetof(T, m) + MEMBER_IS(T, m, ctype), __VA_ARGS__ }
#define FIELD_UUID(T, m, fl, ...)    FIELD_(T, m, F_UUID, struct uuid, fl, __VA_ARGS__)
#define FIELD_REF(T, m, rec, fl, ...) FIELD_(T, m, F_REF, struct uuid, fl, .ref = &(rec), __VA_ARGS__)
#define FIELD_STR(T, m, fl, ...)     FIELD_(T, m, F_STR, const char *, fl, __VA_ARGS__)
#define FIELD_INT(T, m, fl, ...)     FIELD_(T, m, F_INT, int64_t, fl, __VA_ARGS__)
#define FIELD_BOOL(T, m, fl, ...)    FIELD_(T, m, F_BOOL, bool, fl, __VA_ARGS__)
#define FIELD_TIME(T, m, fl, ...)    FIELD_(T, m, F_TIME, int64_t, fl, __VA_ARGS__)
#define FIELD_ENUM(T, m, E, fl, ...) FIELD_(T, m, F_ENUM, E, fl, __VA_ARGS__)
#define FIELD_MICRO(T, m, fl, ...)   FIELD_(T, m, F_MICRO, int64_t, fl, __VA_ARGS__)
#define FIELD_JSON(T, m, fl, ...)    FIELD_(T, m, F_JSON, const char *, fl, __VA_ARGS__)
#define FIELD_MAP(T, m, fl, ...)     FIELD_(T, m, F_MAP, const char *, fl, __VA_ARGS__)
#define FIELD_LIST(T, m, fl, ...)    FIELD_(T, m, F_LIST, const char *, fl, __VA_ARGS__)
#define RECORD(T, tbl, flds, ...)                                                                  \
    { .name = #T, .table = (tbl), .size = sizeof(struct T), .fields = (flds),                      \
      .n_fields = ARRAY_LEN(flds), __VA_ARGS__ }
/* clang-format on */

/* Address of a field in a row, as a pointer to 'T'. */
#define FIELD_AT(row, f, T)  ((T *)(void *)((char *)(row) + (f)->offset))
#define FIELD_CAT(row, f, T) ((T const *)(const void *)((const char *)(row) + (f)->offset))

/* The field of that name, or NULL. */
const struct field *record_field(const struct record *r, const char *name);
/* Its number; 'name' must exist. For bitmaps of members. */
int record_index(const struct record *r, const char *name);
/* NULL if 'value' is none of the enum's. */
const char *enum_to_str(const struct enum_name *names, int value);
/* -1 if 's' is none of them. */
int enum_from_str(const struct enum_name *names, const char *s);
/* Copies the fields in 'set' from one row to another (pointers, not what they point to). */
void record_copy(const struct record *r, void *to, const void *from, uint64_t set);
