/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A request on its way: what it is, what it will answer and what must happen when it has committed.
 * Its parts belong to the files that they are named after.  Also the way itself: call.c (a call's
 * state between runs), dispatch.c (from the head to the handler), run.c (where it runs). */

#include "codec/negotiate.h"
#include "codec/text.h"
#include "core/inside.h"
#include "core/limit/ratelimit.h"
#include "core/limit/share.h"
#include "core/request/auth.h"
#include "core/request/idempotency.h"
#include "core/request/journal.h"
#include "core/request/live.h"
#include "core/request/park.h"
#include "core/request/query.h"
#include "core/request/reply.h"
#include "core/request/stream.h"

struct event {
    struct event *next;
    const char *json; /* {"id","type","created_at","object","previous"} */
};
struct changed { /* a row that caches must forget */
    struct changed *next;
    const struct record *record;
    struct uuid id;
};
struct revoked {
    struct revoked *next;
    struct uuid user_id, key_id;
};
struct topic {
    struct topic *next;
    const char *name;
};
struct due { /* a reconciler's row that this call has made due */
    struct due *next;
    const struct reconciler *loop;
    struct uuid id;
    int64_t at;
};

enum { REQUEST_ID_MAX = TYPEID_MAX, TRACE_ID = 33 };

struct ref_row;
struct spool; /* spool.c's own */

/* The limits of a credential (dispatch.c). */
struct limit_part {
    bool known;        /* 'answer' is filled */
    struct limit_key { /* what the store is to be asked for */
        char name[192];
        int64_t rate, burst;
    } * key;
    bool entered; /* counted among the credential's requests at once */
    struct ratelimit_answer answer;
};

/* What goes with the commit: told by call_publish(). */
struct commit_part {
    struct event *events, **events_end;
    struct changed *changed;
    struct revoked *revoked;
    struct topic *topics;
    struct due *dues;
    bool fed;           /* what edges follow has changed */
    bool blobs_dropped; /* their files are to go */
    bool published;
    bool journaled; /* it has a row in the journal */
    bool audited;   /* the call's audit record is written */
    bool recorded;  /* its idempotency record too */
    bool claimed;   /* LONG: a transaction of this run has committed without the answer */
};

struct call_private {
    struct call c;
    struct principal who;
    struct http_req *r; /* NULL: the system's own */
    const struct mount *mount;
    struct router_match match;
    struct arena own;   /* c.arena while a handler runs, unless that is the request's */
    struct arena large; /* of a large body */
    struct faults faults;
    char request_id[REQUEST_ID_MAX];
    char trace_id[TRACE_ID];
    char ip[IP_TEXT];
    struct ip client;          /* the same */
    struct flow flow;          /* whose turns it takes: see call_flow(); key 0: not known yet */
    int64_t held[SHARE_KINDS]; /* of the shares, until it is answered */
    int64_t began;             /* real monotonic time */
    const char *id_prefix;     /* of {id}, where it came as a TypeID */
    void *in_first;            /* c.in as it was read: each run begins with that */
    bool matched;              /* If-Match has been looked at in this run */
    bool replied_before;       /* LONG: had replied before this call_write() */
    int io;
    bool head_too;       /* Allow: HEAD beside GET */
    bool not_allowed;    /* 405: Allow is due */
    bool problem_json;   /* errors as RFC 9457 */
    const char *version; /* of the API: X-API-Version, else the credential's; NULL: no credential */
    struct json_value *json; /* BODY_FREE: parsed once, freed with the call */
    struct str raw_body;
    struct spool *spool; /* a raw body */
    bool body_over;      /* a raw body has been read to its end */
    const char *audit_kind;
    struct uuid audit_id;
    struct ref_row *refs; /* what the body refers to, in this transaction: rows/refs.c's */

    struct auth_part auth;
    struct limit_part limit;
    struct commit_part commit;
    struct idem_part idem;
    struct park_part park;
    struct live_part live;
    struct stream_part stream;

    struct bytes_part { /* bytes.c: the answer is bytes or a file's */
        bool known;     /* its conditions have been looked at */
        bool file;      /* 'fd' is its own, and is to be sent */
        int fd;
        int64_t first, n;
    } bytes;

    /* the answer */
    bool replied;
    int status;
    struct buf buf; /* what c.out writes to */
    struct json_out out;
    struct str body; /* of the answer */
    const char *content_type;
    const char *etag; /* without quotes' suffix: see reply.c; NULL: none */
    bool etag_weak;
    struct reply_header *headers, **headers_end;
    struct reply_header **headers_kept; /* those before it outlast an answer that is undone */
    enum err_code code;                 /* of the answer, ERR_NONE on success */
    bool streaming, answered;
    bool replay;        /* the answer is an old one */
    bool writer_thread; /* the answer is made on the writer's thread */
    bool on_worker;     /* its body was read by a worker, which goes on with it */

    /* writing */
    struct db_job job;
    struct db *reader; /* LONG: what c.db is outside of call_write() */
    int (*write_fn)(struct call *c, struct err *e);
    bool writing;  /* inside a transaction */
    bool emptying; /* all of the tenant's goes: rows that hold each other let go */
    int (*system_fn)(struct call *c, void *arg, struct err *e);
    void *system_arg;
    struct err why;
};
static inline struct call_private *private_of(struct call *c)
{
    return c->p;
}

/* ---- call.c: state of a call between runs */

extern const struct route system_route;
bool call_is_system(const struct call *c);
void call_init(struct call_private *p, struct app *app, struct arena *a);
void call_reset(struct call_private *p);   /* before each run of the handler */
void call_undo(struct call_private *p);    /* forgets events, signals and the like of a run */
void headers_undo(struct call_private *p); /* forgets those behind 'headers_kept' */
void call_publish(struct call_private *p); /* after the commit, before the answer */
void call_release(struct call_private *p); /* frees what the arena does not */

/* Runs 'fn' in a write transaction as the system, in 'tenant' (nil: none) and 'mode'; may run it
 * more than once.  Events it makes are in the journal; caches, topics and loops are told after the
 * commit. Blocks; not from the writer's thread. */
int system_call_run(struct app *app, const struct uuid *tenant, enum mode mode,
                    int (*fn)(struct call *c, void *arg, struct err *e), void *arg,
                    struct err *e) _must_check_;

/* A system's call goes on in another tenant and mode: what it has told so far is written down for
 * the one it was in. */
int system_call_turn(struct call *c, const struct uuid *tenant, enum mode mode,
                     struct err *e) _must_check_;

/* ---- bytes.c */
void bytes_forget(struct call_private *p); /* the answer is another one */
bool dispatch_cold(void *ctx, struct http_req *r);

/* ---- head.c: what the head says beside the route */

void head_client_ip(struct call_private *p); /* the peer's, or what a trusted proxy says */
void head_name(struct call_private *p);      /* its id: the client's, if that may stand in a log */
void head_trace(struct call_private *p);     /* traceparent */
int head_singles(struct call_private *p, struct err *e) _must_check_;
int head_version(struct call_private *p, struct err *e) _must_check_; /* X-API-Version */
/* Also of a request that is refused: in which form is that told? */
int head_accept(struct call_private *p, struct err *e);
/* Else that of its credential. */
void head_version_kept(struct call_private *p);

/* ---- dispatch.c, run.c */
void dispatch_run(struct call_private *p); /* the handler, wherever its kind of work runs */
void run_stream(struct call_private *p, struct worker *w); /* a stream's handler, here */
enum lane lane_of(const struct route *route);
/* Answers: what the handler replied, or the error. */
void call_finish(struct call_private *p, int rc, struct err *e);
void dispatch_head(void *ctx, struct http_req *r, int io);
void dispatch_error(void *ctx, struct http_req *r, const struct err *e, struct buf *body);
void dispatch_round(void *ctx, int io);
void dispatch_sent(void *ctx, struct http_req *r, int status, int64_t sent);
bool dispatch_many(void *ctx, const struct ip *peer);
const char *dispatch_allow(struct call_private *p);
/* Whom it is counted for: its account (so that making tenants makes no shares), else its tenant or
 * user, else the client's address (IPv6: its /64). */
const struct flow *call_flow(struct call_private *p);
uint64_t flow_of(const struct uuid *id);
/* The flow of what one does in a tenant: all tenants of an account have one; 'tenant' alone where
 * the account is not known. */
uint64_t flow_of_tenant(const struct uuid *account, const struct uuid *tenant);
/* Hands it to a lane: 0, or the refusal. */
int lane_take(struct call_private *p, enum lane lane, pool_fn *fn, struct err *e) _must_check_;
/* Of what is shared, until call_give() or the answer: 0, or the refusal. */
int call_take(struct call_private *p, enum share_kind kind, int64_t n, struct err *e) _must_check_;
void call_give(struct call_private *p, enum share_kind kind);
struct db *worker_db(struct worker *w, struct err *e);
struct db *io_reader(struct app *app, int io, struct err *e);
