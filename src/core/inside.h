/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What all rooms of core know of the app: its parts, its routes as they are mounted, its threads.
 * Nobody outside of core/ and the test world includes this. */

#include <pthread.h>
#include <stdatomic.h>

#include "base/metric.h"
#include "codec/cidr.h"
#include "core/app.h"
#include "core/config/config.h"
#include "core/service.h"
#include "db/db.h"
#include "http/router.h"
#include "http/server.h"
#include "os/thread.h"

struct auth_cache;
struct blobs;
struct call_private; /* request/request.h */
struct consumers;
struct deliveries;
struct faults;
struct feed;
struct idem;
struct keyring;
struct leases;
struct live;
struct outgoing;
struct park;
struct ratelimit;
struct reconcile;
struct rounds;
struct rowcache;
struct shares;
struct tails;

enum {
    STATUS_CELLS = 40,
    IO_MAX = 64,
    SCOPE_NAMES = 4,
    CORS_MAX = 32,
    PROXY_MAX = 32,
    NETWORKS_MAX = 64
};

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
    /* Looks up the route's parent and, in a transaction, what the body refers to: before the
     * handler; NULL: there is neither. */
    int (*resolve)(struct call *c, struct err *e);
    /* What is wrong with the parameters of a list; NULL: it is none. */
    void (*check_list)(struct call *c, struct faults *f);
};
/* A column that points to rows of another record, or of its own. */
struct reference {
    const struct record *from;
    const struct field *field;
    const struct record *to;
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
    LANE_FRONT, /* credentials, limits, health; turns by address */
    LANE_SIGN,  /* sign-in: passwords are hashed; turns by address */
    LANE_BODY,  /* pieces of uploads go to the disk; turns by tenant, as all that follow */
    LANE_READ,  /* reads, large bodies */
    LANE_CALL,  /* LONG */
    LANE_HOST,  /* STREAM that asks a host: a short question, where the host is well */
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
    struct cidr networks[NETWORKS_MAX]; /* outgoing.allowed_networks */
    size_t n_networks;
};

/* How far the journal is known to be settled (PostgreSQL): see journal_settled(). */
struct journal_end {
    pthread_mutex_t lock;
    int64_t settled;
    int64_t seen, tx; /* rows up to 'seen' are settled when all older transactions than 'tx' have
                         ended; tx 0: nothing is waited for */
};

struct app {
    struct app_opts o;
    const struct config *_Atomic config; /* the one in force: app_reload() */
    const struct lists *_Atomic lists;   /* of it */
    struct clock *clock;
    struct store *store;
    bool postgres;
    struct keyring *keys;
    struct db_sealer sealer; /* by them */
    struct router *router;
    struct route_info *infos;
    size_t n_infos;
    const struct reference *references;    /* of all rows to others; ends with { 0 } */
    const struct owned *owned;             /* records that are emptied, in order; ends with { 0 } */
    const struct service *const *services; /* core's own first */
    const struct auth_class *auth;
    struct auth_cache *auth_cache;
    struct ratelimit *limits;
    struct leases *leases; /* NULL on SQLite */
    struct rowcache *rows; /* NULL on PostgreSQL */
    struct idem *idem;
    struct park *park;
    struct live *live;
    struct rounds *rounds;
    struct tails *tails;
    struct pool *lanes[LANES];
    struct shares *shares;
    struct reconcile *reconcile;
    struct feed *feed;
    struct consumers *consumers;
    struct outgoing *outgoing, *own_outgoing, *simulation; /* live; made here; of test mode */
    struct deliveries *deliveries;
    struct journal_end journal;
    struct http_server *server;
    struct db *io_db[IO_MAX]; /* an I/O thread's reader (SQLite) */
    struct arena arena;       /* lives as long as the app */
    struct blobs *blobs;
    atomic_bool blobs_left, blobs_dropped;     /* there is more to settle, to remove */
    _Atomic int64_t blobs_seen, blobs_counted; /* when they were last */
    struct drivers *_Atomic drivers;
    pthread_t ticker;
    bool ticking;
    pthread_mutex_t tick_lock;
    pthread_cond_t tick_cond;
    atomic_bool stopping;
    bool stopped;
    _Atomic int64_t swept;        /* when the journal was last */
    _Atomic int64_t limits_saved; /* when the rate limits were last */
    size_t started;               /* services whose start() has been called */
    struct app_told { /* what rooms above the request hear of a commit; NULL: none does */
        void (*row)(struct app *app, const struct record *r, const struct uuid *id,
                    uint64_t commits);
        void (*due)(struct app *app, const struct reconciler *loop, const struct uuid *id,
                    int64_t at);
        void (*feed)(struct app *app);    /* what edges follow has changed */
        void (*journal)(struct app *app); /* it has a new row */
    } told;
    /* In the transaction that deletes a row. */
    int (*deleted)(struct call *c, const struct record *r, const struct uuid *id, struct err *e);
};

/* ---- app.c */
bool app_runtime_ok(struct app *app);
void app_tick(struct app *app); /* what the ticker does every moment */

/* ---- mount.c */
int mount_all(struct app *app, struct err *e) _must_check_;
/* What route_info says as .writes and .keyed, of a row alone. */
bool route_writes(const struct route *r);
bool route_keyed(const struct route *r);
