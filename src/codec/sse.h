/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Server-sent events: the text/event-stream of the WHATWG HTML standard, 9.2. */

#include "base/base.h"
#include "base/buf.h"

struct sse {
    const char *id;    /* what a client says as Last-Event-ID when it comes back; NULL: as before */
    const char *event; /* its type; NULL: "message" */
    struct str data;   /* any lines; .p NULL: none, so that no event is dispatched */
    int64_t retry_ms;  /* after which a client comes back; 0: as before */
};
/* Appends one event with its empty line.  False, and nothing is appended, where an id or a type has
 * a character that would end its line (CR, LF), or an id a NUL (UTF-8 is the caller's to see to).
 */
bool sse_put(struct buf *out, const struct sse *ev);
