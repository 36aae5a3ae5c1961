/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Configuration: file (YAML), environment (BRUME_<SECTION>_<KEY>), flags (--section.key=value and
 * the short ones); later wins.  Every key stands once, in a table of settings (base/setting.h):
 * core's here, others beside what reads them.  `brume config` prints all with the values in force
 * and where each came from. */

#include "base/base.h"
#include "base/buf.h"
#include "base/setting.h"
#include "core/config/quota.h"

/* Read when no other file is named, if it is there. */
#define CONFIG_DEFAULT_FILE "/etc/brume/brume.yaml"
struct plan {
    const char *name;
    int64_t rate, burst;
    int weight; /* turns that its tenants take in a row where others wait too */
};

/* What tenants share in this process.  Each has a bound in all and one for each plan; a flow gets
 * no more than both and base/fair.h give it. */
enum share_kind {
    SHARE_READS,        /* threads that read */
    SHARE_CALLS,        /* threads of calls that may take long */
    SHARE_STREAMS,      /* followed streams */
    SHARE_PARKED,       /* requests that wait for something to happen */
    SHARE_UPLOADS,      /* raw bodies that are coming */
    SHARE_DOWNLOADS,    /* files on their way to a peer */
    SHARE_UPLOAD_BYTES, /* of them on the disk */
    SHARE_BODY_BYTES,   /* of other bodies that are coming, in memory */
    SHARE_KEYS,         /* idempotency records */
    SHARE_KINDS
};
struct share_row {
    const char *name; /* "streams" */
    const char *what; /* in a refusal: "streams at once" */
    int64_t total;    /* 0: what the machine gives */
    int64_t limit[PLANS];
};
extern const struct share_row share_rows[SHARE_KINDS];
struct share_bounds {
    int64_t total, limit[PLANS];
};

struct config {
    struct arena arena;
    /* server */
    const char *listen;  /* "127.0.0.1:8080" */
    int64_t io_threads;  /* 0: one per core, at most 4 */
    int64_t workers;     /* 0: 4 × cores, 4…64 */
    int64_t reconcilers; /* visits at once */
    int64_t max_connections;
    const char *tls_cert, *tls_key;
    int64_t hsts_max_age;        /* seconds; 0: none */
    bool allow_plain;            /* plain HTTP off loopback */
    const char *cors_origins;    /* comma-separated, "" none */
    const char *trusted_proxies; /* CIDRs */
    const char *public_url;
    const char *host_live, *host_test; /* names that decide the environment; "" by key alone */
    /* store */
    const char *store; /* "sqlite:PATH" or "postgres://…" */
    const char *store_password_file;
    /* places */
    const char *state_dir, *run_dir, *cache_dir;
    const char *user, *edge_user;
    /* identity */
    int64_t argon2_memory_kib, argon2_passes;
    /* platform */
    const char *region;       /* "local" in ARNs, availability zones */
    const char *default_plan; /* of the first tenant */
    const char *shares;       /* JSON: what differs from share_rows[] */
    struct share_bounds share[SHARE_KINDS];
    int64_t idempotency_hours;
    int64_t audit_days, events_days;
    /* compute */
    bool fake_drivers; /* live mode uses the simulation too: tests only */
    /* outgoing */
    const char *allowed_networks; /* CIDRs */
    int64_t deliveries_days;
    /* log */
    const char *log_level, *log_format;
    /* Every key, those of a section in a row. */
    struct config_key {
        const struct setting *is;
        void *at;           /* the value */
        const char *origin; /* "default", "file PATH:LINE", "environment NAME", "flag --NAME" */
    } * keys;
    size_t n_keys;
    struct config_part {
        const struct settings *of;
        void *values;
    } * parts;
    size_t n_parts;
};
extern const struct settings config_own; /* core's: the values are struct config itself */

/* What stands in place of a key's default: file, environment and flags go over it.  'origin' lives
 * as long as the configuration. */
struct config_below {
    const char *key, *value, *origin;
};

/* Reads everything, of core's settings and of 'more' (ends with NULL, may be NULL; a key of two
 * tables is a fault); 'argv' is what follows "serve" (--role is skipped, --config FILE goes before
 * 'file'). 'file' NULL: none; CONFIG_DEFAULT_FILE may be missing, any other must be there.  'below'
 * ends with a key of NULL and may be NULL; 'env' ends with NULL and may be NULL.  All faults of all
 * sources are reported at once in 'faults' (a line each); NULL then. */
struct config *config_load(const struct settings *const *more, const char *file, int argc,
                           const char *const *argv, const struct config_below *below,
                           const char *const *env, struct buf *faults, struct err *e);
/* As above for YAML text already read, with nothing below; 'name' stands for the file in faults. */
struct config *config_load_text(const struct settings *const *more, struct str yaml,
                                const char *name, int argc, const char *const *argv,
                                const char *const *env, struct buf *faults, struct err *e);
/* The values of a table that 'c' was loaded with; they live as long as 'c'. */
const void *config_values(const struct config *c, const struct settings *of);
/* 'c' is to follow 'old' in a process that runs: what needs a restart stays as it was ('old' lives
 * as long as 'c'); 'changed' hears of each such key that is another now. */
void config_follow(struct config *c, const struct config *old,
                   void (*changed)(void *ctx, const struct setting *key), void *ctx);
void config_free(struct config *c);
DEFINE_CLEANUP(struct config *, config_free)
/* As YAML with comments: key, value, where it came from, doc. */
void config_print(const struct config *c, struct buf *out);
/* Where server.listen is: "127.0.0.1:80", "[::1]:80", "localhost:80", "unix:/PATH". */
struct listen_address {
    char host[108]; /* an address, or "unix:/PATH" */
    int port;       /* 0 for unix */
    bool loopback;
};
int listen_parse(const char *text, struct listen_address *out, struct err *e) _must_check_;
/* True if the API listens where nobody from outside of this machine comes. */
bool config_on_loopback(const struct config *c);
/* Where clients reach the API, without '/' at its end: server.public_url, else by server.listen; ""
 * where that is every address, or a socket.  Never by a request, whose Host anybody chooses. */
const char *config_public_url(const struct config *c, struct arena *a);
/* NULL if there is no such plan: free starter standard professional enterprise. */
const struct plan *config_plan(const struct config *c, const char *name);
/* Most that a flow of this plan may have of a share; an unknown plan is free. */
int64_t config_share(const struct config *c, const char *plan, enum share_kind kind);
/* The plans in their order; i < PLANS. */
const struct plan *config_plan_at(size_t i);
/* As config_plan(), for whom a plan's name is on record: an unknown one is free. */
const struct plan *config_plan_or_free(const char *name);
/* The limit of a quota for a plan; an unknown one has the limits of free. */
int64_t config_quota(const struct config *c, const char *plan, const struct quota *q);
