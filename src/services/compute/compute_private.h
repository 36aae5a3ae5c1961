/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the compute service share: images as the API sees them (image.c), as the hosts
 * have them (image_loop.c), instances as the API sees them (instance.c), as the hosts see them
 * (instance_loop.c), and what is done with one that runs: its output (instance_logs.c) and the rest
 * (instance_use.c). */

#include "core/config/config.h"
#include "drivers/compute/compute.h"
#include "drivers/image/image.h"
#include "services/compute/compute.h"
#include "services/compute/names.h"
#include "services/network/network.h"

/* Texts of two rows; NULL is absent, and equal to itself alone. */
static inline bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* ---- images */

enum image_source { IMAGE_RECIPE, IMAGE_REGISTRY, IMAGE_IMPORT };
enum image_row_status {
    IMAGE_ROW_PENDING,
    IMAGE_ROW_BUILDING,
    IMAGE_ROW_READY,
    IMAGE_ROW_ERROR,
    IMAGE_ROW_DELETING,
};

struct image {
    OWNED_MEMBERS;
    const char *name;
    enum image_source source;
    enum image_row_status status;
    const char *status_reason, *digest;
    int64_t size_bytes, progress;
    const char *tags;
    int64_t deleted_at;     /* 0: it stays */
    struct uuid archive_id; /* what was imported, as it came; nil: it is not kept */
    int64_t archive_bytes;
};
extern const struct record image_record;
extern const struct quota quota_images, quota_image_bytes;
extern const struct reconciler image_loop;

/* The tenant's image of that name or id, which image_check() has seen; a row is made for a recipe
 * or registry name that it has none of yet. */
int image_for_launch(struct call *c, const char *name, struct image *out,
                     struct err *e) _must_check_;
/* Built-in images are everybody's; the bytes of all others are their tenant's. */
int64_t image_own_bytes(const struct image *i);
/* How many instances are of it, with those that are being ended. */
int image_users(struct db *db, const struct uuid *id, int64_t *out, struct err *e) _must_check_;
/* The row goes; the loop removes what the host has of it. */
int image_erase(struct call *c, const struct image *i, struct err *e) _must_check_;
/* An import that was not done by then is looked at. */
enum { IMPORT_HOURS = 2 };

/* What the host's store calls it. */
const char *image_store_name(struct arena *a, const struct image *i);

/* An instance of it has gone: it may have been deleted before. */
int image_left(struct call *c, const struct uuid *id, struct err *e) _must_check_;

/* An image that could not be had is tried once more; an import cannot be, for its bytes are gone.
 */
int image_retry(struct call *c, const struct uuid *id, struct err *e) _must_check_;

extern const struct record image_create_record, image_import_query, image_recipe_record;
int image_create(struct call *c, struct err *e);
void image_import_check(struct call *c);
int image_import_admit(struct call *c, struct err *e);
int image_import_route(struct call *c, struct err *e);
int image_archive(struct call *c, struct err *e);
int image_recipes_route(struct call *c, struct err *e);
int image_delete(struct call *c, struct err *e);

/* ---- instances */

/* No way from a state to another takes longer, and so no end that a deletion waits for. */
enum { TRANSITION_MINUTES = DELETION_MINUTES };

enum instance_status {
    INSTANCE_PENDING,
    INSTANCE_PROVISIONING,
    INSTANCE_RUNNING,
    INSTANCE_STOPPED,
    INSTANCE_PAUSED,
    INSTANCE_RESTARTING,
    INSTANCE_ERROR,
    INSTANCE_TERMINATING,
    INSTANCE_TERMINATED,
};
enum instance_driver { DRIVER_CONTAINER, DRIVER_VM };

struct instance {
    OWNED_MEMBERS;
    const char *name, *image, *instance_type;
    enum instance_driver driver;
    enum instance_status status;
    const char *status_reason;
    struct uuid vpc_id, subnet_id;
    const char *private_ip;
    const char *ports; /* JSON string "8080:80,53:53/udp" */
    struct rows volumes;
    const char *env, *entrypoint, *cmd, *user_data;
    enum restart_policy restart_policy;
    int64_t cpu_limit;     /* thousandths of a CPU */
    int64_t memory_limit;  /* MB */
    int64_t disk_limit;    /* GB */
    int64_t network_limit; /* Mbit/s */
    const char *metadata, *labels, *node;
    int64_t started_at;
    int64_t exit_code; /* -1: it has not ended, or nobody saw how */
    int64_t restart_count;
    struct uuid image_id;
    enum compute_want want;
    int64_t boot;        /* start number, as the host is told */
    int64_t failures;    /* ends in a row that came soon after a start */
    int64_t deadline_at; /* of a transitional state; 0: none */
    int64_t deleted_at;  /* 0: it stays; else it is ended, also where that takes too long */
    const char *gateway_ip, *dns_ip, *vpc_cidr, *subnet_cidr;
};
extern const struct record instance_record;
extern const struct reconciler instance_loop;
extern const struct quota quota_instances, quota_vcpus, quota_memory_mb;
/* The route's instance, to look into: 409 if it is being deleted. */
/* Of who follows what it prints. */
const char *instance_log_topic(struct arena *a, const struct uuid *id);
int instance_there(struct call *c, struct instance *out, struct err *e) _must_check_;

/* A visit of instance_loop, or of unit_loop: what differs is in unit_loop.c. */
int instance_visit(struct visit *v, struct err *e);
/* It goes: of either record, whose loop is 'loop'. */
int instance_end(struct call *c, const struct reconciler *loop, const struct instance *old,
                 struct err *e) _must_check_;
/* Turns 'i' towards 'want'; nothing to do is fine. 'again' restarts what runs. */
int instance_want(struct call *c, struct instance *i, enum compute_want want, bool again,
                  struct err *e) _must_check_;
/* What that changes. */
uint64_t instance_want_fields(void);
/* Processors and memory of 'i' become these, also of the tenant's quotas. */
int instance_resized(struct call *c, struct instance *i, int64_t cpu_milli, int64_t memory_mb,
                     struct err *e) _must_check_;
/* Started ones are whole. */
static inline int64_t vcpus_of(int64_t cpu_milli)
{
    return (cpu_milli + 999) / 1000;
}

/* ---- ports.c */
extern const struct form form_ports;
/* For .check_entry: one map. */
const char *check_port(const char *key, const char *value, const char **code);
/* Port maps in their canonical form, or what is wrong. */
const char *ports_check(struct arena *a, const char **v);
/* Port maps as text → JSON for the host: [{"host":8080,"port":80,"protocol":"tcp"}]; and back from
 * what it did. */
const char *ports_for_host(struct arena *a, const char *ports);
const char *ports_from_host(struct arena *a, const char *host);

/* For .check_entry of environments. */
const char *check_env(const char *key, const char *value, const char **code);

int instance_logs(struct call *c, struct err *e);
int instance_stats(struct call *c, struct err *e);
void instance_exec_check(struct call *c);
int instance_exec(struct call *c, struct err *e);
int instance_console(struct call *c, struct err *e);
extern const struct record instance_logs_query, instance_exec_record, instance_exec_result_record;

/* ---- instance_type.c: what the operator offers */

struct instance_type {
    const char *id, *name;
    int64_t vcpus, memory_mb, disk_gb, network_mbps, price_per_hour;
    const char *category;
};
extern const struct record instance_type_record;
extern const struct settings instance_settings;
int instance_types(struct call *c, struct err *e);
/* NULL if there is none. */
struct instance_type *instance_type_find(struct call *c, const char *id);

/* ---- units: an instance in a table of its own, and what it has beside that */

struct unit {
    struct uuid id;
    const char *owner_loop; /* its name, which does not change */
    struct uuid owner_id;
    const char *digest; /* of a recipe, once it is known */
    const char *data;
    int64_t root;
    const char *files; /* sealed, bound to the id; NULL: none */
    int64_t files_revision, files_done;
    int64_t done_revision; /* of its instance's row: its host has all of that order */
    const char *reload;
    bool reload_due;
    enum unit_check check_kind;
    int64_t check_port;
    const char *check_path, *check_cmd;
    int64_t check_interval, check_timeout, check_threshold;
    int64_t ready_boot; /* the start that was found ready; 0: none */
    int64_t misses;     /* looks in a row that failed */
    const char *check_fault;
};
extern const struct record unit_record;          /* struct unit */
extern const struct record unit_instance_record; /* struct instance */
extern const struct reconciler unit_loop;

static inline bool is_unit(const struct visit *v)
{
    return v->loop == &unit_loop;
}

int unit_get(struct db *db, struct arena *a, const struct uuid *id, struct unit *out,
             struct err *e) _must_check_;
/* Its owner is due. */
int unit_told(struct call *c, const struct uuid *id, struct err *e) _must_check_;
/* Its image, as a row would have it. */
int unit_image(struct visit *v, const struct instance *i, struct image *out,
               struct err *e) _must_check_;
/* The host lacks it: it is got anew. */
int unit_image_again(struct visit *v, const struct instance *i, struct err *e) _must_check_;
int unit_spec_fill(struct visit *v, struct compute_spec *s, struct err *e) _must_check_;
/* Its row here goes with that of its instance. */
int unit_forget(struct call *c, const struct uuid *id, struct err *e) _must_check_;
