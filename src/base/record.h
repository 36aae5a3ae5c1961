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
    F_ROW,   /* const void *: an object of .of's record; NULL is absent.  No column. */
    F_ROWS,  /* struct rows: a list of .of's objects; .v NULL is absent.  No column. */
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
    FF_ALWAYS = 1 << 12,          /* never absent where it goes out */
    FF_PLANNED = 1 << 13,         /* another value than its default answers 501: not built */
    FF_UPDATE_REQUIRED = 1 << 14, /* PATCH without it is 400 */
    FF_EITHER = 1 << 15,          /* POST gives exactly one of the fields that have this */
    FF_URL = 1 << 16,             /* F_STR: a URL in its normal form, as codec/url.h has it */
    FF_SEALED = 1 << 18,   /* F_STR, F_JSON, F_MAP, F_LIST: its column holds it sealed, bound to
                              record, row and column; rows hold it plain.  With FF_SECRET,
                              FF_HIDDEN or FF_ONCE */
    FF_URL_USER = 1 << 17, /* which may name a user and a password */
};

/* What the deletion of a row means for rows that point to it. */
enum on_delete {
    REF_LOOSE,    /* nothing: the pointer may dangle, and nobody resolves it */
    REF_RESTRICT, /* it is refused (409) while there are any */
    REF_CASCADE,  /* they go with it */
    REF_CLEAR,    /* they point to nothing any more */
};

struct enum_name {
    int value;
    const char *name;
};

struct call; /* core/service/call.h */
struct err;
struct quota; /* core/config/quota.h */
struct record;

/* A form that texts have: what is right in it, and the same in the words of JSON Schema.  The two
 * stand side by side here and are held against each other by a test. */
struct form {
    /* Checks, and may replace, a text; returns NULL if it is fine, else what is wrong in a client's
     * words ("must be …"). */
    const char *(*check)(struct arena *a, const char **value);
    /* Every right text matches it; what matches and is wrong all the same the field's doc says. A
     * POSIX extended expression that ECMA-262 and RE2 read alike.  May be NULL. */
    const char *pattern;
    const char *format;  /* of JSON Schema: "email", "ipv4"; may be NULL */
    const char *schema;  /* F_JSON: a whole schema of what clients may send */
    const char *example; /* a right text */
};

struct rows {
    void *v; /* array of the record's struct */
    size_t n;
};

struct field {
    const char *name;
    enum field_type type;
    unsigned flags;
    size_t offset;
    /* F_INT, F_MICRO: range (both 0: any).  F_STR: bytes (max 0: 255; of a URL 2048).  F_MAP,
     * F_LIST, F_ROWS: entries (max 0: 50).  F_JSON: bytes of text (max 0: 65536). */
    int64_t min, max;
    int64_t dflt;         /* F_INT, F_BOOL, F_ENUM, F_MICRO: value where POST leaves it out. */
    const char *dflt_str; /* F_STR, F_JSON, F_MAP, F_LIST: likewise. */
    const struct enum_name *names;   /* F_ENUM: ends with { 0, NULL }. */
    const struct enum_name *accepts; /* F_ENUM: what clients may set, where that is less. */
    const struct record *ref;        /* F_REF: where it points, for its prefix; NULL: no prefix. */
    enum on_delete on_delete; /* F_REF of a row: but for REF_LOOSE what a client names is resolved
                                 in his tenant before a handler runs */
    /* F_REF to a row of one of several kinds: these, ended by NULL.  The member at kind_at, a
     * const char * with a field of its own, has the name of its kind's record. */
    const struct record *const *kinds;
    size_t kind_at;
    const struct record *of; /* F_ROW, F_ROWS: what its objects are. */
    const char *schemes;     /* FF_URL: what it may begin with, "https http"; NULL: "https" */
    const char *alias;       /* A second name accepted in requests. */
    const struct form *form; /* F_STR, F_JSON: of the text.  F_LIST: of each entry. */
    /* A right value for the examples of the description: a text (F_STR), else JSON.  What has one
     * is shown in the example of a body, as is what is required. */
    const char *example;
    /* Checks, and may replace, a string-like value (F_STR; F_JSON, F_MAP, F_LIST as canonical
     * text); returns NULL if it is fine, else what is wrong in a client's words ("must be …"). */
    const char *(*check)(struct arena *a, const char **value);
    /* Checks one entry, before .check sees all of them: of F_LIST and F_MAP ('key' NULL in a list);
     * of F_JSON each text of a list, or each text between commas.  Returns what is wrong with it,
     * or NULL; '*code', "malformed" before, may say it more exactly.  Each fault names its entry.
     */
    const char *(*check_entry)(const char *key, const char *value, const char **code);
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
    const struct quota *quota; /* that a row takes one of while it is there; may be NULL */
    struct unique unique;      /* beside that of the name; zeros: none says more */
    const char *key; /* the id that tells rows of one moment apart in a list; NULL: "id" */
    /* Completes a row before it goes out (FF_VIRTUAL fields): in every answer of the ready-made
     * handlers, and by reply_shown().  Such rows are not remembered as rendered.  May be NULL. */
    int (*show)(struct call *c, void *row, struct err *e);
    /* Completes a new row, whose id is given, before call_insert() puts it there: what the server
     * chooses.  In the transaction.  May be NULL. */
    int (*fill)(struct call *c, void *row, struct err *e);
    bool hangs; /* its rows go with those that they hang on, by no reference of the table */
    bool quiet; /* no events and no audit of its rows: they are not the tenant's to see */
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
#define FIELD_REF_ANY(T, m, kind, all, fl, ...)                                                    \
    FIELD_(T, m, F_REF, struct uuid, fl, .kinds = (all),                                           \
           .kind_at = offsetof(T, kind) + MEMBER_IS(T, kind, const char *), __VA_ARGS__)
#define FIELD_STR(T, m, fl, ...)     FIELD_(T, m, F_STR, const char *, fl, __VA_ARGS__)
#define FIELD_URL(T, m, fl, ...)     FIELD_(T, m, F_STR, const char *, (fl) | FF_URL, __VA_ARGS__)
#define FIELD_INT(T, m, fl, ...)     FIELD_(T, m, F_INT, int64_t, fl, __VA_ARGS__)
#define FIELD_BOOL(T, m, fl, ...)    FIELD_(T, m, F_BOOL, bool, fl, __VA_ARGS__)
#define FIELD_TIME(T, m, fl, ...)    FIELD_(T, m, F_TIME, int64_t, fl, __VA_ARGS__)
#define FIELD_ENUM(T, m, E, fl, ...) FIELD_(T, m, F_ENUM, E, fl, __VA_ARGS__)
#define FIELD_MICRO(T, m, fl, ...)   FIELD_(T, m, F_MICRO, int64_t, fl, __VA_ARGS__)
#define FIELD_JSON(T, m, fl, ...)    FIELD_(T, m, F_JSON, const char *, fl, __VA_ARGS__)
#define FIELD_MAP(T, m, fl, ...)     FIELD_(T, m, F_MAP, const char *, fl, __VA_ARGS__)
#define FIELD_LIST(T, m, fl, ...)    FIELD_(T, m, F_LIST, const char *, fl, __VA_ARGS__)
#define FIELD_ROW(T, m, rec, fl, ...) FIELD_(T, m, F_ROW, const void *, fl, .of = &(rec), __VA_ARGS__)
#define FIELD_ROWS(T, m, rec, fl, ...) FIELD_(T, m, F_ROWS, struct rows, fl, .of = &(rec), __VA_ARGS__)
#define RECORD(T, tbl, flds, ...)                                                                  \
    { .name = #T, .table = (tbl), .size = sizeof(struct T), .fields = (flds),                      \
      .n_fields = ARRAY_LEN(flds), __VA_ARGS__ }
/* clang-format on */

/* Address of a field in a row, as a pointer to 'T'. */
#define FIELD_AT(row, f, T)  ((T *)(void *)((char *)(row) + (f)->offset))
#define FIELD_CAT(row, f, T) ((T const *)(const void *)((const char *)(row) + (f)->offset))

/* The field of that name, or NULL. */
const struct field *record_field(const struct record *r, const char *name);
/* The field that a request means by 'name': its own name or its alias; or NULL. */
const struct field *record_named(const struct record *r, const char *name);
/* What bounds a field whose table says nothing: bytes of F_STR, of a URL, of F_JSON; entries of
 * F_MAP, F_LIST and F_ROWS; and beside that bytes of an entry and of a map's key, always. */
enum { FIELD_TEXT_MAX = 255, FIELD_URL_MAX = 2048, FIELD_JSON_MAX = 65536, FIELD_ENTRIES_MAX = 50 };
enum { FIELD_ENTRY_MAX = 1024, FIELD_KEY_MAX = 64 };
int64_t field_max(const struct field *f);
/* Most bytes of a text that a field holds; 0 of fields that hold none. */
int64_t field_bytes(const struct field *f);
/* Most bytes of a row with its columns' texts. */
size_t record_bytes(const struct record *r);
/* Of a reference to one of several kinds: which its row says; NULL where it says none. */
const struct record *field_kind(const struct field *f, const void *row);
/* Whether it is a column of its record's table. */
bool field_has_column(const struct field *f);
/* What a URL begins with. */
const char *field_schemes(const struct field *f);
/* Whether a body may not leave it out: of a POST (create), or of a PATCH. */
bool field_required(const struct field *f, bool create);
/* Its number; 'name' must exist. For bitmaps of members. */
int record_index(const struct record *r, const char *name);
/* Its bit in a set; 'name' must exist. */
uint64_t record_bit(const struct record *r, const char *name);
/* As record_bit(), of the field at that place of the row. */
uint64_t record_bit_at(const struct record *r, size_t offset);

/* The set of those fields of queue_record, whose rows are struct queue: FIELD_SET(queue, name,
 * tags), up to twelve.  What is no member of the struct does not compile. */
/* clang-format off */
#define FIELD_SET(T, ...) \
    (FIELD_PICK_(__VA_ARGS__, FIELD_12_, FIELD_11_, FIELD_10_, FIELD_9_, FIELD_8_, FIELD_7_,       \
                 FIELD_6_, FIELD_5_, FIELD_4_, FIELD_3_, FIELD_2_, FIELD_1_, )(T, __VA_ARGS__))
#define FIELD_PICK_(a, b, c, d, e, f, g, h, i, j, k, l, pick, ...) pick
#define FIELD_1_(T, m)       record_bit_at(&T##_record, offsetof(struct T, m))
#define FIELD_2_(T, m, ...)  FIELD_1_(T, m) | FIELD_1_(T, __VA_ARGS__)
#define FIELD_3_(T, m, ...)  FIELD_1_(T, m) | FIELD_2_(T, __VA_ARGS__)
#define FIELD_4_(T, m, ...)  FIELD_1_(T, m) | FIELD_3_(T, __VA_ARGS__)
#define FIELD_5_(T, m, ...)  FIELD_1_(T, m) | FIELD_4_(T, __VA_ARGS__)
#define FIELD_6_(T, m, ...)  FIELD_1_(T, m) | FIELD_5_(T, __VA_ARGS__)
#define FIELD_7_(T, m, ...)  FIELD_1_(T, m) | FIELD_6_(T, __VA_ARGS__)
#define FIELD_8_(T, m, ...)  FIELD_1_(T, m) | FIELD_7_(T, __VA_ARGS__)
#define FIELD_9_(T, m, ...)  FIELD_1_(T, m) | FIELD_8_(T, __VA_ARGS__)
#define FIELD_10_(T, m, ...) FIELD_1_(T, m) | FIELD_9_(T, __VA_ARGS__)
#define FIELD_11_(T, m, ...) FIELD_1_(T, m) | FIELD_10_(T, __VA_ARGS__)
#define FIELD_12_(T, m, ...) FIELD_1_(T, m) | FIELD_11_(T, __VA_ARGS__)
/* clang-format on */
/* NULL if 'value' is none of the enum's. */
const char *enum_to_str(const struct enum_name *names, int value);
/* -1 if 's' is none of them. */
int enum_from_str(const struct enum_name *names, const char *s);
/* Copies the fields in 'set' from one row to another (pointers, not what they point to). */
void record_copy(const struct record *r, void *to, const void *from, uint64_t set);
