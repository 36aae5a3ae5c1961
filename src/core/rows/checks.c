/* SPDX-License-Identifier: Apache-2.0 */
/* Forms of single values that the tables of many services name. */
#include "codec/id.h"
#include "core/service.h"

static const char *check_name(struct arena *a _unused_, const char **v)
{
    const char *s = *v;

    if (s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")] != '\0')
        return "must be letters, digits, '_' and '-' only";
    if (s[0] == '-' || s[0] == '_')
        return "must begin with a letter or a digit";
    if (id_looks_like(str_of(s)))
        return "must not look like an id";
    return NULL;
}

const struct form form_name = {
    .check = check_name,
    .pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$",
    .example = "web-1",
};
