/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Events as the API shows them, listed (meta.c) and followed (event_stream.c). */

#include "core/request/request.h"

/* "*" at the end of 'want' stands for anything; NULL fits all. */
bool event_type_fits(const char *want, const char *type);
/* The project that an event is of: its object's, else 'made_by', that of who did it (NULL: none).
 * False, and nil: of none. */
bool event_project(const struct json_value *event, const char *made_by, struct uuid *out);
/* Whether a credential may see an event of this project: one of a project sees its own alone. */
bool event_may_see(const struct principal *who, const struct uuid *project);
void event_write(struct json_out *o, struct arena *a, const struct json_value *event,
                 const char *request_id, const struct uuid *project);

struct event_stream_query {
    const char *type, *last_event_id;
};
extern const struct record event_stream_query_record;
int events_stream(struct call *c, struct err *e);

/* What was read of the journal last, by tenant: for all who follow. */
struct tails;
struct tails *tails_new(void);
void tails_free(struct tails *t);
