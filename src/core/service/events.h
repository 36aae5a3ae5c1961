/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Events as input: a service lists consumers, and each gets every event of the types it names, of
 * all tenants, in the order of the journal (so in order per object), from the commits of every
 * process.
 *
 * At least once; as the cursor moves in the transaction of what the handler writes, a handler that
 * only does SQL is exactly once.  Of all processes one runs a consumer at a time.  An event whose
 * handler fails is tried again with back-off for as long as it fails, and holds up the events
 * behind it for this consumer alone: none is passed over.  The journal keeps what a consumer has
 * not had, longer than its days if need be, and says so in the log. */

#include "base/base.h"
#include "codec/json.h"
#include "core/service/owned.h"

struct call;
struct consumer_kind;

struct happened {
    int64_t seq, at;     /* its row's place in the journal; wall time of the change */
    const char *id;      /* "evt_…" */
    const char *type;    /* "queue.created" */
    struct uuid tenant;  /* nil: none, as of core's own */
    struct uuid project; /* its object's, else that of who did it; or nil */
    enum mode mode;
    const char *request_id;
    const struct json_value *object, *previous; /* as GET /v1/events shows them; or NULL */
    const struct json_value *event;             /* the journal's own */
};
/* The whole event as GET /v1/events shows it, JSON in 'a'. */
struct str happened_json(struct arena *a, const struct happened *h);

struct consumer {
    const char *name;         /* unique; its cursor is kept under it */
    const char *const *types; /* "queue.created", "queue.*", "*"; ends with NULL */
    /* In a transaction of the system's, acting in the event's tenant and mode: SQL and arithmetic,
     * of bounded size, for it runs on the writer; perhaps more than once. */
    int (*handle)(struct call *c, const struct happened *h, struct err *e);
    bool from_start; /* a new one begins with the oldest event there is; else with the next */
    int64_t gather;  /* waits as long for company before a turn; 0: hardly */
    struct {
        int64_t min, max;             /* 0: a second, five minutes */
    } backoff;                        /* after an event that failed */
    const struct consumer_kind *kind; /* core's own; else NULL */
};
