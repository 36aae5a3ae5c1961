/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two halves of the service share: webhooks (webhook.c), and what is sent to them
 * (webhook_send.c). */

#include "core/service.h"

enum retry_policy { RETRY_STANDARD, RETRY_EXTENDED };

struct webhook {
    OWNED_MEMBERS;
    const char *url;
    const char *events; /* JSON list of patterns */
    enum retry_policy retry_policy;
    bool enabled;
    const char *description;
    int64_t disabled_at;
    const char *disabled_reason;     /* gone or failing; "" or NULL: who owns it did it */
    const char *sealed, *old_sealed; /* secrets, sealed for its id */
    int64_t old_until;
    const char *secret; /* as it is shown, once */
};
extern const struct record webhook_record;

/* '*' stands for any characters, none too. */
bool pattern_fits(const char *pattern, const char *type);

extern const struct delivery_kind webhook_kind;
extern const struct consumer webhook_feed;

/* Says that it gets no more, and why; in a transaction. */
int webhook_disable(struct call *c, struct webhook *w, const char *reason,
                    struct err *e) _must_check_;
