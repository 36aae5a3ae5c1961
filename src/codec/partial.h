/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What of a representation a request asks for: conditions (RFC 9110, 13) and ranges (14), in the
 * order of 13.2.2; dates of HTTP (5.6.7). */

#include "base/base.h"

enum range_kind {
    RANGE_WHOLE, /* no range that is served: another unit, no range by the grammar, several */
    RANGE_ONE,
    RANGE_NOWHERE, /* well-formed, and not a byte of it is there: 416 */
};
/* Reads a Range value over 'size' bytes: RANGE_ONE fills '*first' and '*n' (1…), which lie within
 * them.  Several ranges are answered with the whole (14.2 lets a server): who resumes asks for one,
 * and many small ones cost the server and not who asks. */
enum range_kind range_read(struct str value, int64_t size, int64_t *first, int64_t *n);

/* The fields of a request; .p NULL: absent. */
struct conditions {
    struct str if_match, if_unmodified_since, if_none_match, if_modified_since, if_range, range;
};
/* The representation as it is now. */
struct validators {
    const char *etag; /* strong, with its quotes */
    int64_t modified; /* seconds since the epoch */
    int64_t size;     /* bytes */
};
struct partial {
    int status;       /* 200, 206, 304, 412, 416 */
    int64_t first, n; /* the bytes that are sent: none of 304, 412, 416 */
};
/* Of a GET or HEAD at 'now' (seconds since the epoch).  A date that is none is as if absent. */
void partial_of(const struct conditions *c, const struct validators *v, int64_t now,
                struct partial *out);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (IMF-fixdate). */
enum { HTTP_DATE = 32 };
void http_date_format(int64_t seconds, char out[HTTP_DATE]);
/* Also the two old forms, as a recipient must; a year of two digits is the one that is at most 50
 * years after 'now'. */
bool http_date_parse(struct str s, int64_t now, int64_t *seconds);
