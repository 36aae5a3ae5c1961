/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other end of remote.c: takes orders at a socket and has them done by a host's drivers. */

#include <sys/types.h>

#include "drivers/compute/compute.h"

struct image_store;
struct compute_server;
struct compute_server_opts {
    const char *socket_path;
    const char *installation; /* 8 hex */
    uid_t api_uid;            /* who may give orders, beside root */
    struct compute *compute;  /* both outlive the server */
    struct image_store *images;
    int threads; /* orders done at once; 0: 32 */
};
/* Listens and serves until compute_server_free(), which lets running orders end. */
struct compute_server *compute_server_new(const struct compute_server_opts *o, struct err *e);
void compute_server_free(struct compute_server *s);
DEFINE_CLEANUP(struct compute_server *, compute_server_free)
