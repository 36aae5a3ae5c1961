/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Finds the row for a method and a path among static segments, {param} segments and one trailing
 * wildcard ({key...}).  Static beats {param} beats wildcard.  Paths are split at raw '/', each
 * segment percent-decoded then; an empty segment, "." or ".." matches nothing but a wildcard's
 * inside. */

#include "base/base.h"
#include "codec/http1.h"

enum { ROUTER_MAX_PARAMS = 6 };

struct router;
struct router_match {
    void *value; /* what router_add was given */
    struct {
        const char *name;
        struct str value; /* decoded, in the arena */
    } params[ROUTER_MAX_PARAMS];
    size_t n_params;
    unsigned methods; /* bit per enum method that this path has: for 405, OPTIONS */
};
struct router *router_new(void);
void router_free(struct router *r);
DEFINE_CLEANUP(struct router *, router_free)
/* -1 if the same method and path shape is there already. Copies 'pattern'. */
int router_add(struct router *r, enum method m, const char *pattern, void *value, struct err *e);
enum router_result { ROUTER_FOUND, ROUTER_NO_PATH, ROUTER_NO_METHOD, ROUTER_BAD_PATH };
/* HEAD finds GET's row where no HEAD row is. */
enum router_result router_find(const struct router *r, struct arena *a, enum method m,
                               struct str path, struct router_match *out);
