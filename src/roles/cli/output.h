/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers for people and for scripts: aligned tables, JSON, YAML, ids. */

#include "base/buf.h"
#include "codec/json.h"
#include "roles/cli/flags.h"

/* The elements of an answer that is a list: a bare array or an envelope's "data"; NULL if it is
 * none. */
const struct json_value *output_list(const struct json_value *v);
/* Writes 'v' in that format. 'r' names the main columns (NULL: those of the first row); 'now' (wall
 * time) makes ages out of times. */
void output_value(struct arena *a, const struct record *r, const struct json_value *v,
                  enum cli_format format, int64_t now, struct buf *out);
/* The same for rows that came on several pages. */
void output_rows(struct arena *a, const struct record *r, const struct json_value *const *rows,
                 size_t n, enum cli_format format, int64_t now, struct buf *out);
/* Text that a terminal takes literally: control characters become '?'; cut at 'max' characters (0:
 * whole). */
const char *output_clean(struct arena *a, const char *s, size_t n, size_t max);
void output_json(const struct json_value *v, int depth, struct buf *out);
void output_yaml(const struct json_value *v, int depth, struct buf *out);
/* Rows of cells, aligned; each row has 'columns' of them. Two spaces stand between columns. */
void output_table(const char *const *cells, size_t rows, size_t columns, struct buf *out);
/* Characters, not bytes: what an aligned column counts. */
size_t output_width(const char *s);
/* "45s", "3m", "2h", "5d" since then; "-" for what is no time. */
const char *output_age(struct arena *a, const char *time, int64_t now);
