/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the compute service share: images as the API sees them (image.c), as the hosts
 * have them (image_loop.c), instances as the API sees them (instance.c), as the hosts see them
 * (instance_loop.c), and what is done with a running one (instance_use.c). */

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
    int64_t deleted_at; /* 0: it stays */
};
extern const struct record image_record;
extern const struct quota quota_images, quota_image_bytes;
extern const struct reconciler image_loop;

/* A fault if it can be the name of none. */
void image_check(struct call *c, const char *name);
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
enum restart_policy { RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_NEVER };

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
extern const struct quota quota_instances, quota_vcpus, quota_memory_mb;
/* The route's instance, to look into: 409 if it is being deleted. */
int instance_there(struct call *c, struct instance *out, struct err *e) _must_check_;

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
