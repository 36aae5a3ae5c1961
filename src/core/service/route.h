/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A route: a row of a table, from which both surfaces, OpenAPI and the CLI come.  A service: its
 * routes, migrations, loops. */

#include "base/record.h"
#include "codec/http1.h"
#include "core/config/quota.h"
#include "core/service/owned.h"

struct call;
struct migration;

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
    /* What {id} names, where the route is about what hangs below it: core loads it in the tenant
     * before the handler (404 that names it) into c->parent, with the row locked FOR SHARE where
     * the route writes; it is the audit's object, unless one below it is.  The record's column that
     * refers to it narrows lists, is filled by call_insert(), and call_target() means the row that
     * the last parameter of the path names below it. */
    const struct record *parent;
    /* Whether who writes below that parent is alone there (FOR UPDATE); NULL: nobody is. */
    bool (*alone)(const void *parent);
    bool list;         /* answers a list of .out: paging, filters, sort, fields of .out */
    bool oldest_first; /* the order of a list where none is asked for; else newest first */
    bool public;       /* no credential */
    bool operator;     /* operators only */
    bool planned;      /* answers 501, after all checks: what it is for is not built */
    bool own_account; /* acts on the caller's own account: the role in the tenant does not matter */
    bool asks_host;   /* STREAM: its runs call a driver, so that none of them takes a thread that
                         reads wait for */
    bool upgrades;    /* STREAM: comes as a WebSocket to who asks for one */
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
    unsigned sums; /* BODY_RAW: BLOB_SHA256, BLOB_MD5: taken as it comes, for body_blob() */
    /* BODY_RAW: no more comes than is left of it; what is kept is taken when it is kept.  NULL: no
     * bound but the others; not for who sends an Idempotency-Key. */
    const struct quota *body_quota;
    uint64_t body_max;       /* 0: 1 MiB; raw: no limit but this */
    enum action_class class; /* AUTO: QUICK, READ, STREAM read; WRITE, LONG write */
    enum limit_class limit;
    int page, page_max; /* 0: 20 and 100 on the platform, 1000 and 1000 on the classic surface */
    const char *cli;    /* command's words where the path does not say it: "instance logs" */
    bool rows;          /* answers a list of .out that is no .list: what it takes is in .query */
    bool bytes;   /* answers reply_file() or reply_bytes(): ranges, 304, 412; GET, .produces */
    bool message; /* answers {"message":…} alone */
    const char *produces; /* media type, where it is not JSON; of a STREAM and of a free answer */
    const char *name;     /* operation's name where path and action do not say it: "sendMessages" */
    int also;             /* a second status of the same answer: 503 of a health check */
    const char *fails;    /* statuses of errors beyond what its kind of route answers: "401 409" */
    const char *example;  /* of a raw body's or a free answer's text; may be NULL */
};

/* For .alone: all are. */
bool held_alone(const void *parent);

/* A route that is described and not built yet: it answers 501.  A row leaves its table when its
 * route is mounted: what is both is refused at start. */
struct planned {
    const char *methods; /* "GET POST" */
    const char *path;    /* as a route's; {key...} is any number of segments */
    unsigned on;         /* CLASSIC, PLATFORM; 0: both */
};

/* ---- a service */

struct consumer;
struct feed_part;
struct delivery_kind;
struct reconciler;
struct settings; /* base/setting.h */
struct service {
    const char *name, *doc;
    const struct migration *migrations;            /* ends with { 0 } */
    const struct route *routes;                    /* ends with { 0 } */
    const struct planned *planned;                 /* ends with { 0 }; may be NULL */
    const struct reconciler *const *loops;         /* ends with NULL; may be NULL */
    const struct consumer *const *consumers;       /* of events; ends with NULL; may be NULL */
    const struct feed_part *const *feeds;          /* what edges are told of it; likewise */
    const struct delivery_kind *const *deliveries; /* ends with NULL; may be NULL */
    const struct quota *const *quotas; /* all that it counts by; ends with NULL; may be NULL */
    const struct settings *settings;   /* what an operator may set of it; may be NULL */
    const struct auth_class *auth;     /* of one service only */
    int (*start)(struct app *app, struct err *e); /* before the first request; may be NULL */
    void (*stop)(struct app *app);
};
