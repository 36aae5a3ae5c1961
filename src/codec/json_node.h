/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parsed tree's nodes, for json.c and record_read.c only. */

#include "codec/json.h"

struct json_value {
    enum json_type type;
    const char *key; /* in its object */
    size_t n;        /* bytes of a string, members or elements */
    union {
        bool b;
        int64_t i;
        double d;
        const char *s;
        struct json_value *items;
    };
};

/* Writes the value as compact text. */
void json_value_write(struct json_out *o, const struct json_value *v);
