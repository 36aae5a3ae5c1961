/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON out by our own writer (a row to the wire builds no tree), JSON in by jansson behind limits.
 * Records in and out of JSON by their field tables. */

#include "base/base.h"
#include "base/buf.h"
#include "base/record.h"

/* ---- writing ---- */

struct json_view {
    bool typeid;        /* platform surface: ids as TypeIDs */
    bool creation;      /* FF_ONCE fields are shown */
    const char *region; /* in ARNs */
};

/* Writes into 'b'; remembers a failure (depth over 64, the buffer's maximum) until json_done(). */
struct json_out {
    struct buf *b;
    struct json_view view;
    int depth;
    bool failed;
    uint64_t comma; /* bit d: something was written at depth d + 1 */
    uint64_t list;  /* bit d: depth d + 1 is a list */
    bool keyed;     /* a key waits for its value */
};
#define JSON_OUT(b_) ((struct json_out){ .b = (b_) })

void json_open(struct json_out *o, char bracket); /* '{' or '[' */
void json_close(struct json_out *o);
void json_key(struct json_out *o, const char *key);
void json_str(struct json_out *o, const char *s); /* NULL writes null; bad UTF-8 becomes U+FFFD */
void json_strn(struct json_out *o, const char *s, size_t n);
void json_int(struct json_out *o, int64_t v);
void json_bool(struct json_out *o, bool v);
/* libjansson has a json_null() too and would find ours in its place, hence another name to the
 * linker. */
void json_null(struct json_out *o) __asm__("json_out_null");
void json_micro(struct json_out *o, int64_t millionths); /* 20000 → 0.02 */
void json_double(struct json_out *o, double v);          /* infinite or no number: null */
void json_time(struct json_out *o, int64_t micros);      /* "2026-01-05T23:00:00.000Z"; 0: null */
void json_raw(struct json_out *o, const char *json);     /* already JSON */
/* key and value at once */
void json_kstr(struct json_out *o, const char *key, const char *s);
void json_kint(struct json_out *o, const char *key, int64_t v);
void json_kbool(struct json_out *o, const char *key, bool v);
void json_ktime(struct json_out *o, const char *key, int64_t micros);
/* An id as this view shows it. */
void json_id(struct json_out *o, const char *prefix, const struct uuid *id);
/* A row as an object; json_members() writes the members only, so that more can be added. */
void json_row(struct json_out *o, const struct record *r, const void *row);
void json_members(struct json_out *o, const struct record *r, const void *row);
/* 0, or -1 if anything failed. */
int json_done(struct json_out *o);

/* ---- reading ---- */

struct json_value; /* a node of the parsed tree */

enum { JSON_MAX_DEPTH = 64, JSON_MAX_VALUES = 65536 };

/* Parses a whole text: depth and number of values are counted before jansson sees it; duplicate
 * members, NUL, bad UTF-8 are errors (ERR_INVALID_JSON, with line and column).  The tree is freed
 * with the arena… by json_free(); every string taken from it is copied into an arena. */
struct json_value *json_parse(struct str text, struct err *e);
void json_free(struct json_value *v);
DEFINE_CLEANUP(struct json_value *, json_free)

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STR, JSON_ARR, JSON_OBJ };
enum json_type json_type_of(const struct json_value *v);
/* The member, or NULL.  Never owns. */
const struct json_value *json_get(const struct json_value *obj, const char *key);
size_t json_len(const struct json_value *v);                              /* members or elements */
const struct json_value *json_at(const struct json_value *arr, size_t i); /* NULL past the end */
/* i-th member in order of appearance */
const struct json_value *json_member(const struct json_value *obj, size_t i, const char **key);
const char *json_str_of(const struct json_value *v, size_t *n); /* NULL if no string */
int64_t json_int_of(const struct json_value *v);                /* 0 if no integer */
double json_real_of(const struct json_value *v); /* of integers too; 0 if no number */
bool json_bool_of(const struct json_value *v);
/* A number with at most six decimal places as millionths, exactly; false if it is none. */
bool json_micro_of(const struct json_value *v, int64_t *millionths);
/* Canonical compact text (members in their order). */
char *json_text(struct arena *a, const struct json_value *v);
/* Shortcuts for documents of our own making: the member or 'dflt'. */
const char *json_get_str(struct arena *a, const struct json_value *obj, const char *key,
                         const char *dflt);
int64_t json_get_int(const struct json_value *obj, const char *key, int64_t dflt);
bool json_get_bool(const struct json_value *obj, const char *key, bool dflt);

/* The entries of a list column, each ended with NUL. */
struct texts {
    const char **v;
    size_t n;
};
/* Reads the text of an F_LIST into 'a'; NULL, which is absent, has none.  False, and 'out' empty,
 * where it is no list of texts: no F_LIST that a client gave is. */
bool texts_read(struct arena *a, const char *list, struct texts *out) _must_check_;

/* ---- validation ---- */

/* One thing wrong with a request.  'code': required, unknown, read_only, wrong_type, out_of_range,
 * too_short, too_long, malformed, not_allowed, not_found. */
struct fault_item {
    struct fault_item *next;
    const char *field; /* "ports[0]" */
    const char *code;
    const char *message;
};
struct faults {
    struct arena *arena;
    struct fault_item *first, *last;
    size_t n; /* all; at most 100 are kept */
};
void faults_add(struct faults *f, const char *field, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

enum json_mode { JSON_CREATE, JSON_UPDATE };

/* Fills 'row' (zeroed by the caller, or holding the present values for JSON_UPDATE) from an object:
 * every member known, allowed by FF_CREATE or FF_UPDATE, of the right type and range, defaults
 * applied, required present (JSON_CREATE).  Refs accept UUID and TypeID with the right prefix.
 * All faults go to 'f'; 'set' gets the bit of each member present.  Strings live in 'a'. */
void json_read_record(struct arena *a, const struct record *r, enum json_mode mode,
                      const struct json_value *obj, void *row, uint64_t *set, struct faults *f);
/* What JSON_CREATE does for members that are not in 'set': defaults, and a fault for each required
 * one.  json_read_record() has done it; after a series of json_read_text() the caller does. */
void json_read_absent(const struct record *r, uint64_t set, void *row, struct faults *f);
/* The same for values that come as text (query parameters): one at a time. */
void json_read_text(struct arena *a, const struct record *r, const char *name, struct str value,
                    void *row, uint64_t *set, struct faults *f);
/* Reads a row that json_row() or json_dump_row() wrote: every field, no flags looked at; what is
 * absent or null is zero, unknown members are passed over. */
int json_load_row(struct arena *a, const struct record *r, const struct json_value *obj, void *row,
                  struct err *e);
/* Writes every field that is not FF_VIRTUAL, secrets too, ids as UUIDs, times as integers, so that
 * json_load_row() gives back the same row: for the agent protocol. */
void json_dump_row(struct json_out *o, const struct record *r, const void *row);
