/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a service is: routes, records, migrations, loops.  This header is all that a service
 * includes of core/.  A handler gets a call, speaks SQL through it, and replies; checks that every
 * route needs (credential, limits, scope, body, idempotency, validation) have been made before it
 * runs. */

#include "base/base.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/record.h"
#include "codec/http1.h"
#include "codec/json.h"
#include "db/db.h"

struct app; /* the whole api role: store, routes, caches, drivers, configuration (core/app.h) */
struct config;
struct compute;     /* drivers/compute/compute.h */
struct image_store; /* drivers/image/image.h */
struct mail;        /* drivers/mail/mail.h */
struct call;

/* ---- owned resources: what every one of them carries (spec 3.0) */

enum mode { MODE_LIVE, MODE_TEST };
extern const struct enum_name mode_names[]; /* live, test */

/* Members of an owned struct, first; its table has the same columns in the same order. */
#define OWNED_MEMBERS                               \
    struct uuid id, tenant_id, user_id, project_id; \
    enum mode mode;                                 \
    int64_t revision, created_at, updated_at

extern const struct record tenant_ref, user_ref, project_ref; /* prefixes only: ten, usr, proj */

/* clang-format off */
#define OWNED_FIELDS(T)                                                                            \
    FIELD_UUID(T, id,                      0, .doc = "Given by the server."),                      \
    FIELD_REF (T, tenant_id,  tenant_ref,  FF_ALWAYS, .doc = "Tenant that owns it."),                      \
    FIELD_REF (T, user_id,    user_ref,    0, .doc = "User who made it."),                         \
    FIELD_REF (T, project_id, project_ref, FF_FILTER, .doc = "Project it belongs to."),            \
    FIELD_ENUM(T, mode, enum mode, FF_HIDDEN, .names = mode_names, .doc = "Live or test."),        \
    FIELD_INT (T, revision,                FF_HIDDEN, .doc = "Counts its changes."),               \
    FIELD_TIME(T, created_at,              FF_SORT | FF_ALWAYS, .doc = "When it was made."),       \
    FIELD_TIME(T, updated_at,              FF_SORT | FF_ALWAYS, .doc = "When it was last changed.")
/* Columns of an owned table, for schema files:
 *   id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT, project_id TEXT,
 *   mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,
 *   updated_at BIGINT NOT NULL, … */
/* clang-format on */

/* ---- who calls */

enum role { ROLE_VIEWER, ROLE_MEMBER, ROLE_ADMIN, ROLE_OWNER };
extern const struct enum_name role_names[];

enum { PRINCIPAL_SCOPES = 512 };
struct principal {
    struct uuid key_id;     /* of the key or session behind the credential */
    struct uuid user_id;    /* nil for a project key */
    struct uuid tenant_id;  /* the tenant this request acts in; nil for a user who is in none: only
                               routes of .own_account serve them */
    struct uuid project_id; /* project key: its project */
    struct uuid account; /* owner of the tenant: all tenants of one have one share between them */
    enum mode mode;
    enum role role;     /* in tenant_id */
    bool operator;      /* runs this installation */
    bool pinned;        /* the credential is bound to tenant_id */
    int64_t expires_at; /* 0: never */
    int64_t rate;       /* requests a minute of its plan */
    int64_t burst;      /* further requests, refilled over ten minutes */
    char plan[16];
    char version[11]; /* of the API, as of the credential's first use; "" before that */
    char actor[256];  /* e-mail or key name, for the audit */
    char scopes[PRINCIPAL_SCOPES]; /* space-separated; "*" is all */
    char allowed_ips[256];         /* space-separated CIDRs; "" is any */
    const char *refused; /* why it may not act in the tenant it asked for (403); NULL: it may.  All
                            else is then as in its own tenant */
};

/* The credentials' service gives this one; core calls it for what its cache does not hold. */
struct auth_class {
    /* Who presents 'secret' (a whole credential), acting in 'tenant' (nil: the default one)?
     * ERR_UNAUTHORIZED: nobody.  Who is no member of that tenant is out->refused. */
    int (*lookup)(struct app *app, struct db *db, struct arena *a, struct str secret,
                  const struct uuid *tenant, struct principal *out, struct err *e);
    /* The credential was used: note it, at most once a minute, and the version of the API in its
     * first use. Called in a write job. */
    int (*touched)(struct db *db, const struct uuid *key_id, const char *version, int64_t now,
                   struct err *e);
    /* Whose account the tenant is a part of: as the principal's .account; left as it is where there
     * is no such tenant. */
    int (*account)(struct db *db, const struct uuid *tenant, struct uuid *out, struct err *e);
};

/* ---- routes */

enum work { QUICK, READ, WRITE, LONG, STREAM }; /* contracts 2 */
enum surface { CLASSIC = 1, PLATFORM = 2 };
enum body_kind {
    BODY_AUTO,
    BODY_RAW,
    BODY_FREE
}; /* AUTO: .in's record, else none; FREE: any JSON, c->body */
enum action_class { CLASS_AUTO, CLASS_READ, CLASS_WRITE, CLASS_ADMIN };
enum limit_class { LIMIT_KEY, LIMIT_AUTH }; /* AUTH: 5 a minute per IP, for the four public POSTs */

struct route {
    enum method method;
    const char *path; /* classic form; the platform surface mounts it under /v1, /api/v1 and /v2 */
    const char *action; /* "queue:send"; NULL only where .public is set */
    enum work work;
    int (*handler)(struct call *c, struct err *e);
    const struct record *in;    /* the body, or NULL */
    const struct record *out;   /* of what it answers, or NULL where free */
    int status;                 /* on success */
    const char *doc;            /* one line of help */
    unsigned on;                /* CLASSIC, PLATFORM; 0: both */
    const char *const *alias;   /* older classic paths; ends with NULL */
    const struct record *query; /* parameters beside paging, or NULL */
    int64_t deprecated, sunset; /* since and until when, seconds since the epoch; 0: it is not.  At
                                   least 18 months lie between them */
    const char *successor;      /* path of what replaces it, or NULL */
    bool must_match;            /* 428 without If-Match */
    bool list;                  /* answers a list of .out: paging, filters, sort, fields of .out */
    bool public;                /* no credential */
    bool operator;              /* operators only */
    bool planned;               /* answers 501, after all checks: what it is for is not built */
    bool own_account; /* acts on the caller's own account: the role in the tenant does not matter */
    bool by_name;     /* {id} may be a name (classic; the record has a 'name') */
    bool no_audit;    /* data, not administration (messages, samples): no audit record, no events of
                         rows */
    bool partial;     /* body is a PATCH: JSON_UPDATE (implied by PATCH) */
    /* Names what of the body and the parameters the tables cannot judge, beside what they found: by
     * fault_add() alone, asks no database, changes no member.  What was faulty is zero (see
     * c->set). It may leave what it has read in c->checked, for the handler. */
    void (*check)(struct call *c);
    enum body_kind body;
    /* BODY_RAW: what can be said before the body is asked for, so that nobody sends it in vain;
     * only reads.  May be NULL; not run for who sends an Idempotency-Key. */
    int (*admit)(struct call *c, struct err *e);
    uint64_t body_max;       /* 0: 1 MiB; raw: no limit but this */
    enum action_class class; /* AUTO: QUICK, READ, STREAM read; WRITE, LONG write */
    enum limit_class limit;
    int page, page_max;   /* 0: 20 and 100 on the platform, 1000 and 1000 on the classic surface */
    const char *cli;      /* command's words where the path does not say it: "instance logs" */
    bool rows;            /* answers a list of .out that is no .list: what it takes is in .query */
    bool message;         /* answers {"message":…} alone */
    const char *produces; /* media type, where it is not JSON; of a STREAM and of a free answer */
    const char *name;     /* operation's name where path and action do not say it: "sendMessages" */
    int also;             /* a second status of the same answer: 503 of a health check */
    const char *fails;    /* statuses of errors beyond what its kind of route answers: "401 409" */
    const char *example;  /* of a raw body's or a free answer's text; may be NULL */
};

/* ---- a service */

struct reconciler;
struct service {
    const char *name, *doc;
    const struct migration *migrations;           /* ends with { 0 } */
    const struct route *routes;                   /* ends with { 0 } */
    const struct reconciler *const *loops;        /* ends with NULL; may be NULL */
    const struct auth_class *auth;                /* of one service only */
    int (*start)(struct app *app, struct err *e); /* before the first request; may be NULL */
    void (*stop)(struct app *app);
};

/* ---- a call */

struct call {
    struct app *app;
    const struct route *route;
    const struct principal *who; /* never NULL; all nil on a public route */
    struct arena *arena;         /* lives until the answer is sent */
    struct db *db;        /* WRITE: inside the shared transaction; QUICK, READ: a reader, all of one
                             moment;        LONG, STREAM: each statement sees what is there when it runs */
    struct uuid tenant;   /* who->tenant_id */
    int64_t now;          /* microseconds since the epoch, fixed for the whole call */
    struct uuid id;       /* {id} in the path; nil if it was a name */
    const char *id_name;  /* {id} as a name, or NULL */
    void *in;             /* body, decoded and checked by .in */
    uint64_t set;         /* which members of .in were given (bit per field) */
    struct str body;      /* BODY_FREE */
    const void *query;    /* decoded .query, or NULL */
    void *checked;        /* what the route's .check left, or NULL */
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
/* True if the body had this member. */
bool call_has(const struct call *c, const char *member);
/* In a route's .check: the body names this member, rightly or not; NULL: any at all. */
bool call_given(const struct call *c, const char *member);

/* Names: letters, digits, '_' and '-', a letter or digit first, and nothing that reads as an id. */
extern const struct form form_name;

/* ---- rows.  All are bound to the caller's tenant, mode and project; another's row is 404.
 *
 * A record with a field deleted_at (microseconds, 0: it stays) has rows that are shown while what
 * stands for them on a host is being removed.  Such a row takes no change and no reference any
 * more (409), and its name is free: a name means the row that stays. */

/* 409 if the row is being deleted. */
int call_stays(const struct record *r, const void *row, struct err *e) _must_check_;

/* The row of an id that came in a path: 404.  Policy and If-Match are checked (the latter on writes
 * of the route's own {id} object only). */
int call_get(struct call *c, const struct record *r, const struct uuid *id, void *row,
             struct err *e) _must_check_;
/* The route's {id}, which on classic routes may be a name. */
int call_target(struct call *c, const struct record *r, void *row, struct err *e) _must_check_;
/* As call_target(), for a write beside the row, not of it: on PostgreSQL the row is locked FOR
 * SHARE, so that many may do so at once and none while it is changed or deleted.  If-Match is not
 * looked at. */
int call_target_shared(struct call *c, const struct record *r, void *row,
                       struct err *e) _must_check_;
/* A row named in the body: 404 naming 'field' if it is not the tenant's. */
int call_ref(struct call *c, const struct record *r, const char *field, const struct uuid *id,
             void *row, struct err *e) _must_check_;
/* Stamps id, tenant, user, project, mode, revision 1, times; inserts; event "<record>.created". A
 * duplicate is 409 "a <record> named … exists already". */
int call_insert(struct call *c, const struct record *r, void *row, struct err *e) _must_check_;
/* Writes the fields in 'set'; revision + 1, updated_at; event "<record>.updated", or
 * "<record>.<status>" when the field 'status' changed ('old' is the row before, may be NULL). */
int call_update(struct call *c, const struct record *r, const void *old, void *row, uint64_t set,
                struct err *e) _must_check_;
/* Deletes; event "<record>.deleted". */
int call_delete(struct call *c, const struct record *r, const void *row,
                struct err *e) _must_check_;
#define FIELD_SET(r, name) (UINT64_C(1) << record_index((r), (name)))
/* A further event in the same transaction (a verb's past: "queue.purged"). */
int outbox_put(struct call *c, const char *event, const struct record *r, const void *row,
               struct err *e) _must_check_;
/* The row was changed by SQL of your own: caches forget it at the commit. */
void call_changed(struct call *c, const struct record *r, const struct uuid *id);
/* Credentials of this user or key are no longer what they were: for the next request everywhere.
 * Either may be NULL. */
void call_revoke(struct call *c, const struct uuid *user_id, const struct uuid *key_id);
/* What happened, for the audit record: the object, if it is not the route's {id}. */
void call_audit_object(struct call *c, const char *kind, const struct uuid *id);

/* Takes n of a quota of the tenant ("instances"), 403 quota_exceeded if it is not there; negative
 * gives back.  Inside a transaction. */
int quota_take(struct call *c, const char *what, int64_t n, struct err *e) _must_check_;

/* Wakes whoever is parked on 'topic', after the commit. */
void call_signal(struct call *c, const char *topic);
/* Return this from a READ or WRITE handler: what it wrote is undone, signals and dues with it, and
 * it runs again when 'topic' is signalled or at 'again' (wall time), whichever comes first; at
 * 'until' for the last time, when it must answer.  In the next run c->parked_until is 'until' and
 * c->now is new. */
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

/* ---- answers: exactly one before returning 0 */

int reply_row(struct call *c, const struct record *r,
              const void *row); /* with ETag where revisioned */
int reply_rows(struct call *c, const struct record *r, const struct rows *rows); /* a whole list */
/* A page of a list: 'next' is the cursor to go on from, or NULL. */
int reply_page(struct call *c, const struct record *r, const struct rows *rows, const char *next);
int reply_json(struct call *c);                         /* what was written to c->out */
int reply_message(struct call *c, const char *fmt, ...) /* {"message":…} */
    __attribute__((format(printf, 2, 3)));
/* 204 on the platform surface, 200 {"message":…} on the classic one. */
int reply_deleted(struct call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void reply_status(struct call *c, int status); /* instead of the route's */
/* Of the answer that comes, an error too: what a handler sets before it fails goes out with that,
 * but for what belonged to an answer it had given. */
void reply_header(struct call *c, const char *name, const char *value);

/* STREAM handlers (and LONG ones that send much): begin, write as it comes, end.  content_type e.g.
 * "text/event-stream" or "text/plain; charset=utf-8".  stream_write blocks while the peer is slow;
 * -1: it has gone.  A handler that returns -1 after its stream began has given a part: the peer
 * sees that the answer is cut. */
int stream_begin(struct call *c, const char *content_type, struct err *e) _must_check_;
int stream_write(struct call *c, struct str data, struct err *e) _must_check_;
/* Also when the server drains, and when the stream's credential no longer allows it. */
bool stream_gone(struct call *c);
/* Raw bodies (BODY_RAW, LONG), which have come whole before the handler runs: 0 at the end.  They
 * are read to their end before the handler replies
 * in its last call_write(): a key's record says which body it was for. */
ssize_t body_read(struct call *c, void *p, size_t n, struct err *e);
/* Reads what is left of it and lets that go. */
int body_end(struct call *c, struct err *e) _must_check_;

/* ---- ready-made handlers for owned records (.out is the record) */
int crud_list(struct call *c, struct err *e);  /* filters, sort, cursor, limit, offset */
int crud_get(struct call *c, struct err *e);   /* from the row cache */
int crud_patch(struct call *c, struct err *e); /* every FF_UPDATE field given */
int crud_delete(struct call *c, struct err *e);
/* crud_list that lets 'show' complete each row (FF_VIRTUAL fields) before it goes out. */
int crud_list_with(struct call *c, int (*show)(struct call *c, void *row, struct err *e),
                   struct err *e) _must_check_;
/* crud_list narrowed to rows whose column 'column' is 'value'; 'show' as above, or NULL. */
int crud_list_where(struct call *c, const char *column, const struct uuid *value,
                    int (*show)(struct call *c, void *row, struct err *e),
                    struct err *e) _must_check_;

/* ---- reconcilers */

struct visit {
    struct app *app;
    struct arena *arena;
    struct db *db; /* a reader; no transaction is open */
    const struct reconciler *loop;
    struct uuid id; /* of the row that is due */
    void *row;      /* the row itself, or NULL if it is gone */
    int64_t now;
    int64_t attempts;        /* visits that failed in a row before this one */
    struct compute *compute; /* of the row's mode: real or simulated */
    struct image_store *images;
    struct call
        *call;     /* inside visit_write's fn only: for call_update() and the like, as the system */
    int64_t again; /* set by visit_again() */
};
struct reconciler {
    const char *name;
    const struct record *record; /* owned; its rows are visited by id */
    int (*visit)(struct visit *v, struct err *e);
    int64_t
        every; /* a settled row is visited again after this, also when nobody signalled; 0: not */
    int64_t budget; /* a longer visit is logged */
    struct {
        int64_t min, max;
    } backoff; /* after a visit that failed */
    /* At start and once a minute: makes rows due that should be. SQL that selects ids; may be NULL.
     */
    const char *sweep;
};
/* Come again after 'in' microseconds. Return its value. */
int visit_again(struct visit *v, int64_t in);
/* Nothing to do until 'every' or a signal. */
int visit_settled(struct visit *v);
/* The row is gone, or nothing of this loop's: no further visits, but by a signal. */
int visit_forget(struct visit *v);
/* A transaction: 'fn' gets a call of the system's (tenant and mode of the row), with v->row read
 * anew under it; not run (returns 0, *ran false) if the row has vanished or its revision differs
 * from v->row's. */
int visit_write(struct visit *v,
                int (*fn)(struct visit *v, struct call *c, void *arg, struct err *e), void *arg,
                bool *ran, struct err *e) _must_check_;
/* Wakes a loop from outside of any call (an agent's report). Any thread. */
void reconcile_signal(struct app *app, const struct reconciler *r, const struct uuid *id);

/* ---- the application's parts, for services */
struct store *app_store(struct app *app);
struct clock *app_clock(struct app *app);
const struct config *app_config(struct app *app);
struct compute *app_compute(struct app *app, enum mode mode);
struct image_store *app_images(struct app *app, enum mode mode);
struct mail *app_mail(struct app *app);
/* Keyed hash of a secret (HMAC-SHA256 under the installation's pepper), hex, 65 bytes. */
void app_hash_secret(struct app *app, struct str secret, char out[65]);
/* Signed, opaque tokens (cursors, verification links) and sealed values (secrets in rows). */
const char *app_seal(struct app *app, struct arena *a, struct str plain, struct str bound_to);
int app_unseal(struct app *app, struct arena *a, const char *sealed, struct str bound_to,
               struct str *plain, struct err *e) _must_check_;
/* argon2id with the configured cost, as libsodium's text; at most half the cores hash at once.
 * Slow: LONG handlers only.  NULL when there is no memory for it. */
const char *app_password_hash(struct app *app, struct arena *a, const char *password);
/* 'hash' NULL: takes as long as a real one and says no. */
bool app_password_verify(struct app *app, const char *hash, const char *password);
/* Runs 'fn' as a write of the system's own, outside of any request (first run, sweeps); perhaps
 * more than once. c->arena ends with it: what 'fn' hands out it copies. */
int app_write(struct app *app, int (*fn)(struct call *c, void *arg, struct err *e), void *arg,
              struct err *e) _must_check_;
