/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the api role and other services ask of compute.
 *
 * A unit is an instance that a service owns: a database's server, a function's worker, a build's
 * step, a load balancer.  No list of the tenant shows it and no route of his finds it; its
 * processors and memory count in his quotas (vcpus, started ones whole; memory_mb).  It hangs on a
 * row of its service,
 * the owner, which a reconciler visits:
 *
 * - Whenever its state changes the owner is made due; the visit looks with unit_look().
 * - It goes with the owner's row, whoever deletes that and however: at once where unit_leave() is
 *   called in the same transaction, else within a minute.  A service that deletes by steps
 *   (deleted_at) calls unit_leave() first, and its row goes when unit_count() is 0.
 *
 * Units of one owner share a network that nobody else is in, of no tenant and no other owner; or
 * they are in a VPC of the tenant, where the service says so.  All that changes units runs inside
 * of a transaction (a WRITE handler, call_write(), visit_write()). */

#include "core/service.h"
#include "drivers/compute/compute.h"

/* It has printed something, or is no longer what it was: who follows its output looks. */
void instance_printed(struct app *app, const struct uuid *id);

/* A host reports a change of an instance or unit: its row is due.  Any thread. */
void compute_changed(struct app *app, const struct uuid *id);

enum restart_policy { RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_NEVER };

enum unit_check { UNIT_CHECK_NONE, UNIT_CHECK_TCP, UNIT_CHECK_HTTP, UNIT_CHECK_EXEC };
/* Whether it does what it is for.  Without one, what runs is ready. */
struct unit_health {
    enum unit_check kind;
    int64_t port;      /* TCP, HTTP */
    const char *path;  /* HTTP: answers 200 to 399 */
    const char *cmd;   /* EXEC: JSON list; ends with 0 */
    int64_t interval;  /* microseconds between two looks once it is ready; 0: 10 s */
    int64_t timeout;   /* of one look, at most 10 s; 0: 2 s */
    int64_t threshold; /* looks in a row that fail before it is not ready any more; 0: 3 */
};

struct unit_spec {
    const char *name;     /* 1 to 63 of a-z 0-9 '-'; unique in its network.  In a VPC of the tenant
                             it resolves as <name>.<record of the owner>.service.internal */
    const char *image;    /* a built-in recipe's name … */
    bool image_of_tenant; /* … or what the tenant gave, as in a launch (see image_check()) */
    const char *entrypoint, *cmd; /* JSON lists; NULL: the image's */
    const char *env;              /* JSON map; no secrets: whoever can exec in it sees them */
    const char *ports;            /* published: "0:6379,53:53/udp"; NULL: none */
    enum restart_policy restart;
    int64_t cpu_milli, memory_mb, disk_gb, network_mbps; /* the first two more than 0 */
    struct uuid vpc_id, subnet_id; /* rows of the tenant's; vpc_id nil: the owner's own network */
    /* What it finds in COMPUTE_FILES before it starts; sealed in the store, and in no argument or
     * environment. */
    const struct compute_file *files;
    size_t n_files;
    const char *reload; /* JSON list: a command in it after its files were replaced (SIGHUP, say);
                           NULL: it is restarted */
    const char *data;   /* absolute: a folder that outlives its root.  NULL: none */
    struct unit_health health;
};

/* For .check of a route whose body names a tenant's image: a fault of its member "image" if it can
 * be the name of none. */
void image_check(struct call *c, const char *name);

/* Of 'owner_id', a row of owner->record that this transaction made or has locked; *id is new.
 * ERR_QUOTA_EXCEEDED, ERR_NOT_FOUND (an image, a VPC), ERR_ALREADY_EXISTS (its name there),
 * ERR_INVALID (a spec out of its ranges: the service's fault, if it did not check). */
int unit_launch(struct call *c, const struct reconciler *owner, const struct uuid *owner_id,
                const struct unit_spec *s, struct uuid *id, struct err *e) _must_check_;

enum unit_change {
    UNIT_FILES = 1,  /* .files; then .reload runs in it, or it is restarted */
    UNIT_LIMITS = 2, /* .cpu_milli and .memory_mb, at once; less memory by a restart */
    UNIT_ROOT = 4,   /* .image, .entrypoint, .cmd and .env; it starts anew from the image, and keeps
                        its id, address, ports and data */
};
/* Takes over what 'what' names of 's'; the rest of it is not read. */
int unit_change(struct call *c, const struct uuid *id, const struct unit_spec *s, unsigned what,
                struct err *e) _must_check_;
enum unit_turn { UNIT_START, UNIT_STOP, UNIT_RESTART };
/* START: also of what has failed.  Nothing to do is fine. */
int unit_turn(struct call *c, const struct uuid *id, enum unit_turn turn,
              struct err *e) _must_check_;
/* It goes, with its data.  What has gone, or goes, is fine. */
int unit_remove(struct call *c, const struct uuid *id, struct err *e) _must_check_;
/* All of the owner go. */
int unit_leave(struct call *c, const struct uuid *owner_id, struct err *e) _must_check_;

enum unit_status {
    UNIT_GONE,     /* there is none */
    UNIT_STARTING, /* also again, after it ended */
    UNIT_RUNNING,  /* and not ready (yet, or any more): reason */
    UNIT_READY,
    UNIT_STOPPED, /* as asked; or it ended, and its policy lets it: exit_code */
    UNIT_FAILED,  /* reason */
    UNIT_GOING,
};
struct unit_state {
    struct uuid id;
    enum unit_status status;
    const char *name, *reason; /* 'reason' NULL: all is well */
    const char *ip;            /* in its network */
    const char *ports;         /* JSON as in compute_spec, with what was picked; NULL: none */
    int64_t exit_code;         /* of its last end; -1: it has not ended, or nobody saw how */
    int64_t started_at, restarts;
    int64_t files; /* counts its sets of files; the host has these */
};
/* By any connection. */
int unit_look(struct db *db, struct arena *a, const struct uuid *id, struct unit_state *out,
              struct err *e) _must_check_;
/* Those of an owner, oldest first. */
int unit_list(struct db *db, struct arena *a, const struct uuid *owner_id, struct unit_state **out,
              size_t *n, struct err *e) _must_check_;
int unit_count(struct db *db, const struct uuid *owner_id, int64_t *n, struct err *e) _must_check_;

/* Its host, for compute_exec_in(), compute_logs() and compute_stats_of() with the unit's id: in
 * LONG handlers and visits, with no transaction open.  ERR_NOT_FOUND: there is no such unit. */
int unit_host(struct app *app, struct db *db, const struct uuid *id, struct compute **out,
              struct err *e) _must_check_;
