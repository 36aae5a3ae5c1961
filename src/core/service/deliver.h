/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Deliveries: requests to a URL of a tenant's that must arrive (webhooks, subscriptions).
 *
 * A service lists kinds of them (service.deliveries).  Each delivery hangs on an owner, a row that
 * says where it goes, and is a row itself before anything is sent: at least once, whatever is
 * killed when.  Its owner is what is taken in turn: an owner has at most DELIVER_WIDTH requests
 * under way (one until one has succeeded), a tenant a fair share of all owners that are served at
 * once, so that nobody waits for a slow endpoint of somebody else's, nor for another of his own.
 *
 * Of the deliveries of one owner that name the same object, none is begun before the one before it
 * has been answered once; those that failed are overtaken.
 *
 * 2xx is success.  410 is the end of it, at once.  All else (a redirect too: none is followed; no
 * answer within ten seconds; an address that is not allowed) is tried again by the schedule, or as
 * late as Retry-After says, for which the whole owner then rests.  A delivery goes with its owner,
 * and outgoing.deliveries_days after it came to an end. */

#include "core/service/call.h"
#include "http/client.h"

enum { DELIVER_WIDTH = 6, DELIVER_TRIES = 16, DELIVER_HEADERS = 16 };

enum delivery_status { DELIVERY_PENDING, DELIVERY_SUCCEEDED, DELIVERY_FAILED, DELIVERY_CANCELED };

/* A row; the last two are read by delivery_show() only. */
struct delivery {
    OWNED_MEMBERS;
    const char *kind;
    struct uuid owner_id;
    const char *event_id, *event_type;
    const char *object; /* "" or what its order is by */
    int64_t tries;      /* since it was begun, or begun again: the place in the schedule */
    int64_t begun_at;   /* then */
    enum delivery_status status;
    int64_t attempt_count, status_code;    /* -1: no answer */
    int64_t next_attempt_at, completed_at; /* 0: not, not yet */
    const char *payload, *attempts;        /* JSON */
};
extern const struct record delivery_record; /* prefix "dlv"; its event_id is of any form */

/* What lies before each try, counted from the one before; with 10 % more or less, but not before
 * the first one. */
struct delivery_schedule {
    size_t n;
    int64_t delay[DELIVER_TRIES];
    int64_t within; /* no try is later than that after the first; 0: any is */
};

/* An attempt that is to be made. */
struct attempt {
    struct app *app;
    struct arena *arena; /* ends when it has been sent */
    const void *owner;   /* its row as it is now */
    const struct delivery *delivery;
    struct str body; /* as it was handed over */
    int64_t now;
    /* For .make to say: */
    const char *url;
    struct client_header headers[DELIVER_HEADERS];
    size_t n_headers;
    const char *cancel; /* why there is nothing to be sent any more; NULL */
};
/* What came of it, in the transaction that writes it down. */
struct delivery_told {
    struct uuid owner_id;
    int status;            /* 0: no answer */
    bool succeeded, gone;  /* 2xx; 410 */
    int64_t failing_since; /* no attempt at this owner succeeded since then; 0: this one did */
};

struct delivery_kind {
    const char *name; /* unique */
    const struct record *owner;
    const struct delivery_schedule *(*schedule)(const void *owner);
    /* On the deliverer's thread: arithmetic, no waiting, nothing written. */
    int (*make)(struct attempt *a, struct err *e);
    /* Of each attempt that failed, and of one that succeeded after some that did not: SQL, bounded,
     * perhaps more than once.  May be NULL. */
    int (*told)(struct call *c, const struct delivery_told *t, struct err *e);
};

/* In a transaction: the same thing for 'n' owners, different rows of the call's tenant and mode,
 * due at once.  A few statements for all of them. */
struct delivery_new {
    const char *event_id, *event_type;
    const char *object; /* or NULL: its order does not matter */
    struct str body;    /* JSON */
};
struct delivery_to {
    struct uuid owner, project;
};
/* 'id': where 'n' is 1; else NULL. */
int deliver(struct call *c, const struct delivery_kind *k, const struct delivery_new *x,
            const struct delivery_to *to, size_t n, struct uuid *id, struct err *e) _must_check_;
/* One of 'owner': 404.  And completed by what was sent and by each attempt. */
int delivery_get(struct call *c, const struct uuid *owner, const struct uuid *id,
                 struct delivery *out, struct err *e) _must_check_;
int delivery_show(struct call *c, struct delivery *d, struct err *e) _must_check_;
/* In a transaction: begins its schedule anew, now, under the same event_id. */
int deliver_again(struct call *c, struct delivery *d, struct err *e) _must_check_;
/* In a transaction: the owner is taken for well again, and what it has is looked at now. */
int deliver_well(struct call *c, const struct uuid *owner, struct err *e) _must_check_;
