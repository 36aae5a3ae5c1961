/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside of the agent's server: server.c (connections) and server_orders.c (what each order does).
 */

#include "drivers/compute/protocol.h"
#include "drivers/compute/server.h"
#include "drivers/image/image.h"
#include "os/thread.h"

enum { SERVER_EVENTS = 1024 };

struct job;
struct order_kind {
    const char *name;
    bool streams; /* may last, so it gets a thread of its own */
    int (*run)(struct job *j, struct err *e);
};
/* NULL if there is no such order. */
const struct order_kind *server_order_kind(const char *name);

struct job {
    struct compute_server *server;
    struct stream *stream;
    struct json_value *order;
    const struct order_kind *kind;
    int64_t deadline; /* monotonic, 0: none */
};

struct compute_server {
    struct compute *compute;
    struct image_store *images;
    uid_t api_uid;
    char *path, *installation;
    int fd, quit;
    struct pool *pool;
    pthread_t acceptor, watcher;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t cond; /* an event, or a thread ended */
    bool closing;
    int links, streaming; /* threads */
    struct link *link[64];
    struct server_event {
        struct uuid id;
        enum compute_event what;
    } events[SERVER_EVENTS]; /* the last ones */
    uint64_t n_events;       /* ever */
};
bool server_closing(struct compute_server *s);
