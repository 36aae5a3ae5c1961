/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What stands behind a command's words: ids, flags that are fields of the route's tables, flags of
 * the client itself.  The result is what the request carries: path values, a query, a body. */

#include "base/buf.h"
#include "roles/cli/words.h"

enum cli_format { FORMAT_TABLE, FORMAT_JSON, FORMAT_YAML, FORMAT_ID };

/* The client's own flags; a field of the same name in the command's record goes first. */
struct cli_common {
    const char *url, *tenant, *profile, *ca;
    enum cli_format format;
    bool format_given, all, watch, wait, follow, help;
};

enum { FLAG_VALUES = 256 };
struct flag_value {
    const struct field *field;
    struct str text;
    bool clear; /* null */
};
struct flags {
    const char *value[COMMAND_PARAMS]; /* of the path */
    size_t n_values;
    struct flag_value body[FLAG_VALUES], query[FLAG_VALUES];
    size_t n_body, n_query;
    const char *data;        /* --data: JSON, "@file", "-"; NULL */
    const char *const *rest; /* after "--" */
    int n_rest;
    struct cli_common common;
};

/* A fault is ERR_INVALID with a sentence for the user. */
int flags_parse(struct arena *a, const struct command *c, int argc, const char *const *argv,
                struct flags *out, struct err *e);
/* Takes one of the client's own flags at argv[*at] and moves past it: 1, 0 if it is none, -1. */
int flags_common(struct cli_common *o, int argc, const char *const *argv, int *at, struct err *e);
/* The body: --data with the single flags put over it.  Empty if there is neither. */
int flags_body(struct arena *a, const struct command *c, const struct flags *f, struct buf *out,
               struct err *e);
/* "?limit=3&status=running", or "". */
const char *flags_query(struct arena *a, const struct flags *f);
/* True if the command's body may have this field; if its body, or its query, must. */
bool flags_takes(const struct command *c, const struct field *f);
bool flags_needs(const struct command *c, const struct field *f);
/* ERR_INVALID naming all flags that the command needs and 'f' lacks. */
int flags_required(struct arena *a, const struct command *c, const struct flags *f, struct err *e);
/* Every field that is a flag of the command: of its body, its query, its list. */
void flags_each(const struct command *c, void (*fn)(void *ctx, const struct field *f), void *ctx);
/* The body's field that takes what stands after "--", a command to run; NULL if there is none. */
const struct field *flags_rest(const struct command *c);

/* The client's own flags, as help and completion show them. */
struct cli_flag {
    const char *name, *brief, *type;
    enum { FLAG_ANY, FLAG_BODY, FLAG_FILE, FLAG_CLEAR, FLAG_LIST, FLAG_READ, FLAG_WAIT } when;
    const char *doc;
};
extern const struct cli_flag cli_flags[]; /* ends with { NULL } */
bool cli_flag_fits(const struct command *c, const struct cli_flag *f);
/* "--name" of every flag of the command; returns how many. */
size_t flags_names(struct arena *a, const struct command *c, const char **out, size_t most);
/* The one that 'word' was probably meant to be, or NULL. */
const char *word_nearest(const char *word, const char *const *all, size_t n);
/* Parameters that every list has. */
extern const struct record cli_paging_record;
/* What a flag's or a field's value says: the text, "@file", "-" (standard input); "@@x" is the text
 * "@x".  A secret is taken from a file or standard input only, or asked for. */
int value_read(struct arena *a, const struct field *f, struct str given, struct str *out,
               struct err *e);
bool field_is_secret(const struct field *f);
/* True if 'f' is one of the record's; of no record (NULL) it is none. */
bool field_of(const struct record *r, const struct field *f);
/* "visibility_timeout" → "visibility-timeout" */
const char *flag_name(struct arena *a, const struct field *f);
