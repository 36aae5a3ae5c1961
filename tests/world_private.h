/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the test world share. */

#include "core/request/request.h"
#include "tests/world.h"

enum { SPEAKERS = AS_TEST_KEY + 1, SEEN = 256 };
enum { HIT_OK = 1, HIT_STRANGER = 2 };

struct seen { /* what the app did with a request */
    char request_id[TYPEID_MAX];
    const struct route *route;
    enum surface surface;
};

struct world {
    struct arena arena;
    const char *settings;
    struct config *config; /* the newest of all that have been in force */
    struct inforce {
        struct config *config;
        struct drivers *drivers; /* NULL: those before it */
    } inforce[64];
    size_t n_inforce;
    struct clock clock;
    struct store *store;
    struct outgoing *outgoing;
    struct app *app;
    struct http_server *server;
    int listener, port;
    char dir[64], database[64];
    const char *url;
    uint8_t master[32];
    const char *keys[SPEAKERS];
    const char *operator_key;
    struct json_value *trees[4096];
    size_t n_trees;
    pthread_mutex_t lock;
    struct seen seen[SEEN];
    size_t n_seen;
    enum speaker speaking;
    struct { /* by make_one() */
        const struct record *record;
        const char *id;
    } made[256];
    size_t n_made;
};

extern const char *world_postgres; /* NULL: this round is SQLite's */

/* Fails the test unless 'ok'. */
void must(bool ok, const char *what, const struct err *e);
/* Which of HIT_ a route has had, over all worlds of the program. */
unsigned world_hits(const struct route *route);
/* The service under test; NULL: none of all_services. */
extern const struct service *world_under_test;
/* The path with an id of nobody's in the place of each parameter. */
const char *world_path(const struct route *r);
/* Fails the test unless each of these routes refuses with 400 all that its tables refuse, naming
 * the fields, and leaves no row. */
void world_faults(struct world *w, const struct route *routes);
/* How many rows each table has, a line each. */
const char *world_rows(struct world *w);
/* A folder for the world and a store in it, or in the server, as migrations leave an empty one.
 * They run once in a program and database; each store is a copy of what they made. */
void world_store_make(struct world *w);
void world_store_migrate(struct store *s);
void world_store_remove(struct world *w);
/* Removes what worlds of this program, or of one that is dead, have left; the program's first
 * stores too. */
void world_sweep(void);
