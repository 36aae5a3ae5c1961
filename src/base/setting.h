/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Settings: what an operator may set, in a table beside what reads it.  A service, a class of
 * drivers and core itself each have a struct of values and the table of its members; the
 * configuration (core/config) reads all tables alike, and no key is in two of them. */

#include "base/record.h"

enum setting_type { SET_STR, SET_INT, SET_BOOL };
struct setting {
    const char *name; /* "server.listen": section and key */
    const char *flag; /* a short flag without dashes, or NULL: "listen" */
    enum setting_type type;
    size_t offset;
    const char *dflt; /* as text */
    const char *doc;
    int64_t min, max;     /* SET_INT: range */
    bool secret;          /* never printed, refused in argv */
    bool reload;          /* SIGHUP takes it over; else a change waits for a restart */
    const char *words;    /* SET_STR: the words it may be, between spaces; NULL: any text */
    const char *password; /* the key of the file that holds the password of this URL; or NULL */
};

/* Given to a table's check, which calls setting_wrong() for each value that is wrong though its
 * type is right, and may complete a value. */
struct setting_check {
    struct arena *arena; /* of the values */
    void (*wrong)(struct setting_check *c, const char *key, const char *what);
};
/* 'key' is a whole name of the table; what is said begins in the middle: "must be …". */
void setting_wrong(struct setting_check *c, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

struct settings {
    const struct setting *keys;
    size_t n;
    size_t size; /* of the values */
    void (*check)(struct setting_check *c, void *values);
};

/* clang-format off */
#define SETTING_(T, key, m, stype, ctype, def, text, ...)                                          \
    { .name = (key), .type = (stype), .offset = offsetof(T, m) + MEMBER_IS(T, m, ctype),           \
      .dflt = (def), .doc = (text), __VA_ARGS__ }
#define SETTING_STR(T, key, m, def, ...)          SETTING_(T, key, m, SET_STR, const char *, def, __VA_ARGS__)
#define SETTING_INT(T, key, m, def, lo, hi, ...)  SETTING_(T, key, m, SET_INT, int64_t, def, __VA_ARGS__, .min = (lo), .max = (hi))
#define SETTING_BOOL(T, key, m, def, ...)         SETTING_(T, key, m, SET_BOOL, bool, def, __VA_ARGS__)
#define SETTINGS(T, table, ...)                                                                    \
    { .keys = (table), .n = ARRAY_LEN(table), .size = sizeof(T), __VA_ARGS__ }
/* clang-format on */
