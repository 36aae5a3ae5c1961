/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* JSON Schemas of records, for the OpenAPI document. */

#include "codec/json.h"

enum schema_kind { SCHEMA_OUT, SCHEMA_CREATE, SCHEMA_UPDATE };

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
/* {"$ref":…}; remembers it for schemas_write(). */
void schema_ref(struct json_out *o, struct schemas *s, const struct record *r,
                enum schema_kind kind);
/* The members of components.schemas. */
void schemas_write(struct json_out *o, const struct schemas *s);
/* One field's schema; 'r' may be NULL where it is not the record's id. */
void schema_field(struct json_out *o, const struct record *r, const struct field *f,
                  enum schema_kind kind);
/* True if a field of that kind ever leaves. */
bool schema_out(const struct field *f);
