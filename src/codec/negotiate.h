/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Fields by which a client says what it wants: Accept, Accept-Encoding (RFC 9110 12.5), If-Match
 * and If-None-Match (RFC 9110 13.1). */

#include "base/base.h"

/* How much an Accept value wants 'type' ("application/json"), 0…1000, by its most specific range
 * that holds the type; 0 if none does.  'named' is set where that range is the type itself.
 * Elements that are malformed do not count. */
int accept_quality(struct str accept, const char *type, bool *named);
/* The same for a coding ("gzip") and an Accept-Encoding value. */
int coding_quality(struct str accept, const char *coding);

struct etag {
    struct str opaque; /* without its quotes */
    bool weak;
};
/* Whether a value is "*": any. */
bool etag_any(struct str value);
/* Takes the next tag off a list of them: false at its end, and at what is no tag. */
bool etag_next(struct str *list, struct etag *out);
