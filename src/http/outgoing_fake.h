/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Outgoing requests that go nowhere, for tests and for test mode: they are recorded, and answered
 * by a script on a thread of its own.  What the real one refuses when it is sent, this one refuses
 * likewise, but it counts no shares. */

#include "http/outgoing.h"

struct outgoing_script {
    const char *prefix; /* of the URLs that it answers */
    int times;          /* how often it does; 0: for ever */
    int64_t delay;
    struct outgoing_result result; /* body and all that it points to is copied */
};
struct outgoing_seen {
    uint64_t id, flow;
    const char *method, *url;
    const struct client_header *headers;
    size_t n_headers;
    struct str body;
    int64_t timeout;
};

/* Freed by outgoing_free(). */
struct outgoing *outgoing_fake_new(void);
/* One that keeps nothing of what was sent, so that it may last: for test mode. */
struct outgoing *outgoing_simulation_new(void);
/* The first line of the script that fits and is not used up answers; where none does: status 200
 * and no body. */
void outgoing_fake_answer(struct outgoing *fake, const struct outgoing_script *line);
/* While it is held, nothing is answered (but what is cancelled ends). */
void outgoing_fake_hold(struct outgoing *fake, bool held);
/* How many were sent so far. */
size_t outgoing_fake_count(struct outgoing *fake);
/* The i-th that was sent, copied into 'a'; false if there is none. */
bool outgoing_fake_seen(struct outgoing *fake, size_t i, struct arena *a,
                        struct outgoing_seen *out);
