/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of core/ know of each other: the app, a request on its way, what it will answer
 * and what must happen when it has committed.  Nobody outside of core/ and the test world includes
 * this. */

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "base/metric.h"
#include "codec/cidr.h"
#include "codec/id.h"
#include "codec/negotiate.h"
#include "codec/text.h"
#include "core/app.h"
#include "core/lease.h"
#include "core/listing.h"
#include "core/ratelimit.h"
#include "core/rowcache.h"
#include "core/seal.h"
#include "core/service.h"
#include "core/share.h"
#include "db/db.h"
#include "http/router.h"
#include "http/server.h"
#include "os/thread.h"

struct auth_cache;
struct idem;
struct park;
struct live;
struct reconcile; /* reconcile.c's own: loops, threads, leases */

extern const struct service core_service; /* meta.c: health, metrics, audit */

enum { PAGE_BYTES = 16 << 20 }; /* a page that has grown past it ends, and says where it goes on */
enum { STATUS_CELLS = 32, IO_MAX = 64, SCOPE_NAMES = 4, CORS_MAX = 32, PROXY_MAX = 32 };

/* What is known of a route's row before any request: one a row. */
struct route_info {
    const struct route *route;
    const struct service *service;
    const struct record *record; /* what it is about: .out, else .in, else its GET's */
    const struct record *target; /* whose object {id} names, before what hangs below it; or NULL */
    enum action_class class;
    bool writes;                       /* audited, idempotent, never cached */
    bool keyed;                        /* looks at Idempotency-Key */
    char audit_action[64];             /* "INSTANCE_LAUNCH" */
    char scope_names[SCOPE_NAMES][48]; /* "queue", "queues": what may stand before ':' in a scope */
    struct metric_cell *_Atomic count[STATUS_CELLS];
    struct metric_cell *_Atomic seconds;
};
/* A row at one path: what the router finds. */
struct mount {
    struct route_info *info;
    enum surface surface;
    char *pattern;
};

/* Threads, by what they may wait for.  What is short and everybody's (credentials, limits, health)
 * and who signs in have threads of their own, which no tenant's work ever takes. */
enum lane {
    LANE_FRONT,  /* credentials, limits, health; turns by address */
    LANE_SIGN,   /* sign-in: passwords are hashed; turns by address */
    LANE_BODY,   /* pieces of uploads go to the disk; turns by tenant, as all that follow */
    LANE_READ,   /* reads, large bodies */
    LANE_CALL,   /* LONG */
    LANE_STREAM, /* STREAM */
    LANES
};

struct worker { /* of a lane: one thread's */
    struct app *app;
    struct db *db;
    int64_t held_since; /* mono: when it began to hold its answers */
};

/* What the configuration says in lists. */
struct lists {
    struct cidr proxies[PROXY_MAX];
    size_t n_proxies;
    const char *origins[CORS_MAX];
    size_t n_origins;
};

struct app {
    struct app_opts o;
    const struct config *_Atomic config; /* the one in force: app_reload() */
    const struct lists *_Atomic lists;   /* of it */
    struct clock *clock;
    struct store *store;
    bool postgres;
    struct keyring *keys;
    struct router *router;
    struct route_info *infos;
    size_t n_infos;
    const struct service *const *services; /* core's own first */
    const struct auth_class *auth;
    struct auth_cache *auth_cache;
    struct ratelimit *limits;
    struct leases *leases; /* NULL on SQLite */
    struct rowcache *rows; /* NULL on PostgreSQL */
    struct idem *idem;
    struct park *park;
    struct live *live;
    struct pool *lanes[LANES];
    struct shares *shares;
    struct reconcile *reconcile;
    struct http_server *server;
    struct db *io_db[IO_MAX]; /* an I/O thread's reader (SQLite) */
    struct arena arena;       /* lives as long as the app */
    struct mail *_Atomic mail;
    pthread_t ticker;
    bool ticking;
    pthread_mutex_t tick_lock;
    pthread_cond_t tick_cond;
    atomic_bool stopping;
    bool stopped;
    _Atomic int64_t swept;        /* when the journal was last */
    _Atomic int64_t limits_saved; /* when the rate limits were last */
    size_t started;               /* services whose start() has been called */
};

/* ---- a request */

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
struct due { /* a reconciler's row made due by this call: reconcile.c's, told after the commit */
    struct due *next;
    const struct reconciler *loop;
    int64_t at;
};
struct reply_header {
    struct reply_header *next;
    const char *name, *value;
};

enum { REQUEST_ID_MAX = TYPEID_MAX, TRACE_ID = 33, PRINT_HEX = 65 };

/* What a transaction does with the idempotency record: claims the key, so that a retry after a
 * crash knows that there was a first run; keeps the answer; gives the key back. */
enum idem_step { IDEM_NONE, IDEM_CLAIM, IDEM_KEEP, IDEM_DROP };
struct idem_body; /* idempotency.c's own */
struct spool;     /* spool.c's own */

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

    /* the credential */
    struct str secret;
    struct uuid tenant_wanted; /* X-Tenant-ID */
    const char *www_error;     /* of WWW-Authenticate: invalid_token, insufficient_scope */
    bool authenticated;
    bool wrong_door;   /* refused for its tenant or its address, whatever the route */
    bool limited;      /* 'limit' is filled */
    struct limit_key { /* what the store is to be asked for */
        char name[192];
        int64_t rate, burst;
    } * limit_key;
    bool entered; /* counted among the credential's requests at once */
    struct ratelimit_answer limit;

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
    atomic_bool gone;   /* the peer of a stream, or the server drains */
    bool writer_thread; /* the answer is made on the writer's thread */
    bool on_worker;     /* its body was read by a worker, which goes on with it */

    /* what goes with the commit */
    struct event *events, **events_end;
    struct changed *changed;
    struct revoked *revoked;
    struct topic *topics;
    struct due *dues;
    const char *audit_kind;
    struct uuid audit_id;
    bool published;
    bool audited;  /* the call's audit record is written */
    bool recorded; /* its idempotency record too */
    bool claimed;  /* LONG: a transaction of this run has committed without the answer */

    /* idempotency */
    const char *idem_scope, *idem_key; /* NULL: none */
    char idem_print[PRINT_HEX];
    bool idem_held;              /* in the set of those running */
    struct db *idem_lock;        /* LONG on PostgreSQL: the connection that holds the key's lock */
    bool replay;                 /* the answer is an old one */
    struct uuid idem_token;      /* of this run's claim there */
    bool idem_claimed;           /* that claim stands */
    int64_t idem_row;            /* LONG: journal row that has this key already, or 0 */
    int64_t idem_seq;            /* row that this transaction writes to */
    enum idem_step idem_step;    /* what it writes there */
    bool idem_resumed;           /* an earlier run of this request was cut short */
    bool idem_spent;             /* what it does cannot be undone: see call_claim() */
    struct uuid idem_object;     /* what that run had made, or nil */
    struct idem_body *idem_body; /* of a raw body: the sum of what was read */
    struct spool *spool;         /* a raw body */
    bool body_over;              /* a raw body has been read to its end */

    /* parking */
    bool parked, in_park, watched;
    bool kept;    /* what this run wrote stays, also if it parks */
    bool leaving; /* its peer has gone or the server drains; the park's lock */
    const char *park_topic;
    int64_t park_until; /* runs for the last time then; 0: never parked */
    int64_t park_again; /* runs at this time at the latest */
    uint64_t park_seen; /* signals before this run */
    struct call_private *park_next, *park_prev;

    /* lasting: see live.c */
    bool live;                       /* in its list */
    atomic_bool look_again;          /* its credential may be no longer what it was */
    int64_t looked;                  /* monotonic */
    uint64_t revocations;            /* there were, before its credential was looked up */
    struct uuid live_user, live_key; /* of its credential, while it is in the list */
    struct call_private *live_next, *live_prev;

    /* writing */
    struct db_job job;
    struct db *reader; /* LONG: what c.db is outside of call_write() */
    int (*write_fn)(struct call *c, struct err *e);
    bool writing; /* inside a transaction */
    int (*system_fn)(struct call *c, void *arg, struct err *e);
    void *system_arg;
    struct err why;
};
static inline struct call_private *private_of(struct call *c)
{
    return c->p;
}

/* ---- the system's own transactions (call.c) */

/* Runs 'fn' in a write transaction as the system, in 'tenant' (nil: none) and 'mode'; may run it
 * more than once.  Events it makes are in the journal; caches, topics and loops are told after the
 * commit. Blocks; not from the writer's thread. */
int system_call_run(struct app *app, const struct uuid *tenant, enum mode mode,
                    int (*fn)(struct call *c, void *arg, struct err *e), void *arg,
                    struct err *e) _must_check_;

/* ---- reconcile.c gives these to app.c */
int reconcile_open(struct app *app, struct err *e) _must_check_;  /* sets app->reconcile */
int reconcile_start(struct app *app, struct err *e) _must_check_; /* threads, sweeps */
void reconcile_stop(struct app *app);                             /* joins its threads */
void reconcile_close(struct app *app);
/* Seats, those that are taken, and the rows that are leased beside them. */
void reconcile_counts(struct app *app, struct fair_counts *out);
/* Rows of 'loop' are due at 'at': said once the call has committed (call_due() puts them on
 * p->dues). */
void reconcile_wake(struct app *app, const struct reconciler *loop, int64_t at);

/* ---- call.c: state of a call between runs */
extern const struct route system_route;
bool call_is_system(const struct call *c);
void call_init(struct call_private *p, struct app *app, struct arena *a);
void call_reset(struct call_private *p);   /* before each run of the handler */
void call_undo(struct call_private *p);    /* forgets events, signals and the like of a run */
void headers_undo(struct call_private *p); /* forgets those behind 'headers_kept' */
void call_publish(struct call_private *p); /* after the commit, before the answer */
void call_release(struct call_private *p); /* frees what the arena does not */

/* ---- journal.c */
enum outcome { OUTCOME_NONE, OUTCOME_SUCCESS, OUTCOME_FAILURE, OUTCOME_DENIED };
/* One row: audit (unless NONE), events so far, and the idempotency record if the call is keyed. */
int journal_write(struct call_private *p, struct db *db, enum outcome outcome, enum idem_step step,
                  struct err *e) _must_check_;
void journal_sweep(struct app *app);

/* ---- reply.c, send.c */
bool has_header(const struct call_private *p, const char *name);
void secure_header(struct app *app, struct http_req *r); /* Strict-Transport-Security */
void answer_begin(struct call_private *p, const char *content_type);
/* A list as it comes, row by row. */
struct page {
    size_t from; /* where its rows begin, for the tag */
};
void page_open(struct call *c, struct page *page);
void page_rows(struct call *c, const struct record *r, const struct rows *rows);
int page_close(struct call *c, const struct page *page, const char *next);
/* A page of 'rows'; 'next' is the cursor after it, or NULL. */
void reply_error(struct call_private *p, const struct err *e); /* fills the answer */
void reply_send(struct call_private *p); /* sends it; 'p' is gone afterwards */
/* 'details' NULL: what is to be said of the code in general. */
void error_body(struct buf *b, const struct err *e, const struct faults *f, const char *request_id,
                bool problem, const char *path, const char *details);
void stream_finish(struct call_private *p, bool whole);
/* True if the client's If-None-Match has 'tag' (weak comparison). */
bool etag_matches(struct str header, const char *tag);
const char *etag_of(struct arena *a, const struct uuid *id, int64_t revision);

/* ---- auth.c */
struct auth_cache *auth_cache_new(size_t entries);
void auth_cache_free(struct auth_cache *c);
uint64_t auth_cache_epoch(struct auth_cache *c);
bool auth_cache_get(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    struct principal *out);
/* Kept only if nothing was dropped since 'epoch'. */
void auth_cache_put(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const struct principal *p, uint64_t epoch);
void auth_cache_drop(struct auth_cache *c, const struct uuid *user_id, const struct uuid *key_id);
/* True if this key's use, or its having been turned away, should be noted now: once a minute. */
bool auth_cache_touch(struct auth_cache *c, const struct uuid *key_id, int64_t now);
bool auth_cache_turned_away(struct auth_cache *c, const struct uuid *key_id, int64_t now);
/* The credential's first use was of this version. */
void auth_cache_pin(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const char *version);
int auth_credential(struct call_private *p, struct err *e) _must_check_;
int auth_lookup(struct call_private *p, struct db *db, struct err *e) _must_check_;
int auth_admit(struct call_private *p, struct err *e) _must_check_;   /* expiry, host, IP, tenant */
int auth_allowed(struct call_private *p, struct err *e) _must_check_; /* scope, role, operator */
bool auth_scope_covers(const char *scopes, const struct route_info *info);
/* Notes the use, and the version of a first one. */
void auth_touch(struct call_private *p);

/* ---- idempotency.c */
struct idem *idem_new(void);
void idem_free(struct idem *i);
int idem_load(struct app *app, struct err *e) _must_check_;
/* The credential and whom it acts for, in few bytes: they stand in each record, and one that fits
 * a page of SQLite costs less. */
const char *idem_scope(struct arena *a, const struct principal *who);
/* Reads the header; 1: there is a key. */
int idem_header(struct call_private *p, struct err *e) _must_check_;
/* Takes the key: 0 go on, 1 the answer is filled from the record. */
int idem_begin(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* PostgreSQL, inside the transaction: as idem_begin(). */
int idem_begin_pg(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* Before a LONG handler, on its worker: 0 go on, 1 the answer is filled from the record. */
int idem_begin_long(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* A raw body's next bytes, as its handler gets them; 0: its end. */
void idem_body_read(struct call_private *p, const void *bytes, size_t n);
/* Whether a retry has taken this run's claim over: in the transaction that would write to it. */
bool idem_lost(struct call_private *p, struct db *db);
void idem_committed(struct call_private *p);
void idem_end(struct call_private *p);
bool idem_kept(enum err_code code);
/* Whether the answer may be kept: it has a bound. */
bool idem_fits(const struct call_private *p);
/* The column of the record: what is sealed, or says that the first run has begun.  NULL: an answer
 * that is too large to be kept. */
const char *idem_pack(struct call_private *p, enum idem_step step, struct err *e);
void idem_forget(struct app *app, int64_t now);

/* ---- park.c */
struct park *park_new(struct app *app);
void park_free(struct park *k);
uint64_t park_seen(struct park *k);
void park_signal(struct park *k, const char *topic);
/* False: a signal came meanwhile, or its peer left: it runs again. */
bool park_add(struct park *k, struct call_private *p);
void park_leave(struct park *k, struct call_private *p);
void park_tick(struct park *k, bool all);
size_t park_count(struct park *k);
/* Those that are to look at their credential again run now. */
void park_wake(struct park *k);

/* ---- live.c: calls that last end with their credential */
struct live *live_new(void);
void live_free(struct live *l);
/* How many revocations there were: for p->revocations, before the credential is looked up. */
uint64_t live_now(const struct live *l);
void live_add(struct call_private *p);
void live_del(struct call_private *p);
/* Credentials of this user or key (either may be NULL; both: of all) are no longer what they were.
 */
void live_revoked(struct app *app, const struct uuid *user_id, const struct uuid *key_id);
/* 0 as long as the call's credential still allows what the call does. */
int live_check(struct call_private *p, struct db *db, struct err *e) _must_check_;

/* ---- dispatch.c, run.c */
void dispatch_run(struct call_private *p); /* the handler, wherever its kind of work runs */
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

/* ---- planned.c: methods (a bit each) of a path that are to be built; 0: it is no such path */
unsigned planned_methods(struct str path);

/* ---- query.c: what a request says, checked whole */
bool body_is_due(const struct route *route);
/* Rows of a page: where the request does not say, and at most. */
int route_page(const struct route *route, enum surface surface);
int route_page_max(const struct route *route, enum surface surface);
int body_check(struct call_private *p,
               struct err *e) _must_check_; /* size, type: before it is read */
int query_read(struct call_private *p, struct err *e) _must_check_; /* body and parameters */

/* ---- spool.c: a raw body, then the handler */
void spool_run(struct call_private *p);
void spool_end(struct call_private *p);

/* ---- crud.c: what is wrong with the parameters of a list */
void crud_list_check(struct call *c, struct faults *f);

/* ---- mount.c */
int mount_all(struct app *app, struct err *e) _must_check_;
/* What route_info says as .writes and .keyed, of a row alone. */
bool route_writes(const struct route *r);
bool route_keyed(const struct route *r);

/* ---- app.c */
bool app_runtime_ok(struct app *app);
void app_tick(struct app *app); /* what the ticker does every moment */
