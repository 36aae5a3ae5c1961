/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A call: what a handler is given, where it may wait, and what it can do beside rows. */

#include "base/base.h"
#include "codec/json.h"
#include "core/service/route.h"
#include "db/db.h"

struct call {
    struct app *app;
    const struct route *route;
    const struct principal *who; /* never NULL; all nil on a public route */
    struct arena *arena;         /* lives until the answer is sent */
    struct db *db;       /* WRITE: inside the shared transaction; QUICK, READ, STREAM: a reader, all
                            of one moment; LONG, .asks_host: each statement sees what is there when
                            it runs */
    struct uuid tenant;  /* who->tenant_id */
    int64_t now;         /* microseconds since the epoch, fixed for the whole call */
    struct uuid id;      /* {id} in the path; nil if it was a name */
    const char *id_name; /* {id} as a name, or NULL */
    void *in;            /* body, decoded and checked by .in */
    uint64_t set;        /* which members of .in were given (bit per field) */
    struct str body;     /* BODY_FREE */
    const void *query;   /* decoded .query, or NULL */
    const void *parent;  /* the row of the route's .parent, or NULL */
    void *checked;       /* what the route's .check left, or NULL */
    struct json_out *out; /* free answers: write, then reply_json() */
    enum surface surface;
    const char *request_id;
    const char *ip;         /* the client's, as text */
    int64_t parked_until;   /* deadline given to call_park() before this run; 0: first run */
    struct call_private *p; /* core's own */
};

/* A path parameter other than {id}, decoded text, or NULL; and as an id (404 if it is none). */
const char *call_param(struct call *c, const char *name);
int call_param_id(struct call *c, const char *name, const struct record *r, struct uuid *out,
                  struct err *e) _must_check_;
/* Adds a fault; call_faults() returns -1 with 400 if there are any. */
void fault_add(struct call *c, const char *field, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int call_faults(struct call *c, struct err *e) _must_check_;
/* True if the body, a struct queue of queue_record, had this member and it was right: call_has(c,
 * queue, tags).  What is no member of the struct does not compile. */
#define call_has(c, T, m) call_has_at((c), &T##_record, offsetof(struct T, m))
bool call_has_at(const struct call *c, const struct record *in, size_t offset);
/* In a route's .check: the body names this member, rightly or not. */
#define call_given(c, T, m) call_given_at((c), &T##_record, offsetof(struct T, m))
bool call_given_at(const struct call *c, const struct record *in, size_t offset);

/* Names: letters, digits, '_' and '-', a letter or digit first, and nothing that reads as an id. */
extern const struct form form_name;

/* Credentials of this user or key are no longer what they were: for the next request everywhere.
 * Either may be NULL. */
void call_revoke(struct call *c, const struct uuid *user_id, const struct uuid *key_id);
/* What happened, for the audit record: the object, if it is not the route's {id}. */
void call_audit_object(struct call *c, const char *kind, const struct uuid *id);

/* Wakes whoever is parked on 'topic', after the commit. */
void call_signal(struct call *c, const char *topic);
/* Return this from a READ, WRITE or STREAM handler: what it wrote is undone, signals and dues with
 * it, and it runs again when 'topic' is signalled or at 'again' (wall time), whichever comes first;
 * at 'until' for the last time, when it must answer.  In the next run c->parked_until is 'until'
 * and c->now is new. */
int call_park(struct call *c, const char *topic, int64_t until, int64_t again);
/* WRITE: what this run writes is committed also if it parks, and its signals and dues leave.  Only
 * for what the next run does not do again: a handler that wakes its own topic each time never
 * rests. */
void call_keep(struct call *c);
/* Makes a reconciler's row due at 'at', after the commit. */
int call_due(struct call *c, const struct reconciler *r, const struct uuid *id, int64_t at,
             struct err *e) _must_check_;

/* LONG handlers: 'fn' runs as a WRITE handler would, in a transaction of its own (c->db is its
 * connection meanwhile).  Its events and audit go with it.  A keyed request's first 'fn' claims its
 * key; its last one replies, and the answer goes on record with it: to write after that, or to
 * reply after the last 'fn', is an error (500) of any route that takes keys. */
int call_write(struct call *c, int (*fn)(struct call *c, struct err *e),
               struct err *e) _must_check_;
/* True if an earlier run of this keyed request was cut short (kill -9) after it had claimed its
 * key; 'object' is what that run's first 'fn' had made (its audit object), or nil.  The handler
 * goes on where that one ended.  Nobody else runs this request meanwhile. */
bool call_resumed(const struct call *c, struct uuid *object);
/* Before an effect that no transaction holds and that must not come twice (a command that is run):
 * claims the key, if there is one.  The handler then replies without a further 'fn'.  A retry of a
 * run that was cut short, or that failed with 502 or more, is refused with 409: nobody knows what
 * it did. */
int call_claim(struct call *c, struct err *e) _must_check_;

/* LONG: true once nobody waits for the answer: its peer has left, or its credential no longer
 * allows what it does.  Never of a keyed request, whose answer is kept for its retry. */
bool call_gone(struct call *c);

/* For db_each() of statements with one column: an id into a struct uuid; text into a struct
 * text_out, whose arena keeps it.  Both are as they were if no row comes. */
struct text_out {
    struct arena *arena;
    const char *s;
};
int take_uuid(void *uuid, const struct col *cols, size_t n, struct err *e);
int take_text(void *text_out, const struct col *cols, size_t n, struct err *e);
