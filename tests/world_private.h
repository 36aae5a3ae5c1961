/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the test world share. */

#include "core/request/request.h"
#include "drivers/compute/compute.h"
#include "drivers/image/image.h"
#include "drivers/mail/mail.h"
#include "tests/world.h"

enum { SPEAKERS = AS_TEST_KEY + 1, SEEN = 256 };
enum { HIT_OK = 1, HIT_FAULT = 2, HIT_STRANGER = 4, HIT_SCOPE = 8, HIT_NOBODY = 16 };

struct seen { /* what the app did with a request */
    char request_id[TYPEID_MAX];
    const struct route *route;
    enum surface surface;
};

struct world {
    struct arena arena;
    struct config *config;
    struct clock clock;
    struct store *store;
    struct compute *live, *test;
    struct image_store *images_live, *images_test;
    struct mail *mail;
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
};

extern const char *world_postgres; /* NULL: this round is SQLite's */

/* Fails the test unless 'ok'. */
void must(bool ok, const char *what, const struct err *e);
/* Which of HIT_ a route has had, over all worlds of the program. */
unsigned world_hits(const struct route *route);
/* A folder for the world and a store in it, or in the server, as migrations leave an empty one.
 * They run once in a program and database; each store is a copy of what they made. */
void world_store_make(struct world *w);
void world_store_migrate(struct store *s);
void world_store_remove(struct world *w);
/* Removes what worlds of this program, or of one that is dead, have left; the program's first
 * stores too. */
void world_sweep(void);
