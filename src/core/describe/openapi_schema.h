/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON Schemas of records, for the OpenAPI document. */

#include "codec/json.h"

/* OUT: as it is answered; CREATE and UPDATE: as clients send it, QUERY: in a query; PAGE: a list
 * of OUT in the envelope of the platform surface. */
enum schema_kind { SCHEMA_OUT, SCHEMA_CREATE, SCHEMA_UPDATE, SCHEMA_QUERY, SCHEMA_PAGE };

struct schema {
    struct schema *next;
    const struct record *record;
    enum schema_kind kind;
    const char *name;
};
struct schemas { /* those that the document has referred to so far */
    struct arena *arena;
    struct schema *first, *last;
};
/* The members of a reference to it, without braces; remembers it for schemas_write(). */
void schema_ref(struct json_out *o, struct schemas *s, const struct record *r,
                enum schema_kind kind);
/* The members of components.schemas. */
void schemas_write(struct json_out *o, struct schemas *s);
/* One field's schema; 'r' may be NULL where it is not the record's id. */
void schema_field(struct json_out *o, struct schemas *s, const struct record *r,
                  const struct field *f, enum schema_kind kind);
/* The same of its second name: without a default, for clients that send those would give both. */
void schema_alias(struct json_out *o, struct schemas *s, const struct record *r,
                  const struct field *f, enum schema_kind kind);
/* An object that fits the schema: what is required, and what has an example in the table. */
void schema_example(struct json_out *o, const struct record *r, enum schema_kind kind);
/* What an id may look like: 'prefix' NULL is a UUID alone, "" any prefix. */
const char *schema_id_pattern(struct arena *a, const char *prefix);
