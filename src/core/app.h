/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api role as one object: what roles/api.c and the test world put together. Services do not
 * include this. */

#include "core/config/config.h"
#include "core/drivers.h"
#include "core/service.h"
#include "http/server.h"

/* Tables of core itself: migrated first, under the name "core". */
extern const struct migration core_migrations[];
/* Health, metrics, audit, events: routes of core itself. */
extern const struct service core_service;

/* The tables of settings of services and of classes of drivers, for config_load(). */
struct all_settings {
    const struct settings *of[128]; /* ends with NULL */
};
struct all_settings settings_of(const struct service *const *services,
                                const struct driver_class *const *drivers);

struct app_opts {
    const struct config *config; /* outlives the app */
    struct clock *clock;
    struct store *store;                   /* outlives the app; migrated */
    const struct service *const *services; /* ends with NULL, lowest first */
    struct outgoing *outgoing; /* requests to tenants' URLs in live mode; NULL: the real client */
    struct drivers *drivers;   /* outlive the app */
    const uint8_t *master_key; /* 32 bytes */
    const char *installation;  /* 8 hex */
    const char *limits_file;   /* keeps the rate limits over a restart; NULL: they begin anew */
    int workers;
    int io_threads;
    bool manual_loops; /* tests: no visit runs but in reconcile_drain() */
    bool edge;         /* one is to follow the feed: /health/ready says whether it does */
    /* Tests: called for every finished request with its row (NULL: none found), status, error code.
     */
    void (*observe)(void *ctx, const struct route *route, const struct call *c, int status,
                    enum err_code code);
    void *observe_ctx;
};
/* Connections to PostgreSQL that read, which an app with so many workers may have at once: each
 * thread's that reads, the locks of keyed long calls, those that all else shares. */
int app_readers(const struct config *c, int workers);
/* Builds routes, caches, pools; checks the tables (paths unique, fields documented, actions
 * well-formed). */
struct app *app_new(const struct app_opts *o, struct err *e);
/* From now on these hold; those before may still be read by requests that run: both outlive the
 * app. Any thread, one at a time. */
int app_reload(struct app *app, const struct config *c, struct drivers *drivers,
               struct err *e) _must_check_;
/* Starts services, reconcilers, sweeps. */
int app_start(struct app *app, struct err *e);
void app_stop(struct app *app);
void app_free(struct app *app);
DEFINE_CLEANUP(struct app *, app_free)
/* What the HTTP server calls. */
struct http_app app_http(struct app *app);

/* OpenAPI 3.1 document of all routes. */
void openapi_write(const struct service *const *services, struct buf *out);

/* Runs every loop's due rows now, on this thread, until none is due: for tests with a fake clock.
 */
int reconcile_drain(struct app *app, struct err *e);
/* Likewise every consumer's turns, until none has anything left. */
int consumers_drain(struct app *app, struct err *e);
/* Likewise deliveries: until none is due, or what is under way is not answered for a while. */
int deliveries_drain(struct app *app, struct err *e);
