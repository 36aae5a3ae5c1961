/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The agent role: root on a host, takes orders at a socket, knows no SQL and no tenants. */

#include <sys/types.h>

#include "base/base.h"

struct compute_settings; /* drivers/compute/compute.h */
struct image_settings;   /* drivers/image/image.h */
struct net_settings;     /* drivers/net/net.h */

struct agent_opts {
    const char *socket_path;  /* /run/brume/agent.sock */
    const char *edge_socket;  /* who answers for names */
    const char *state_dir;    /* agent/ */
    const char *cache_dir;    /* built recipes */
    const char *installation; /* 8 hex */
    const struct compute_settings *compute;
    const struct net_settings *net;
    const struct image_settings *images;
    uid_t api_uid; /* who may give orders, beside root */
    const char *shim_path;
    int ready_fd; /* closed once it serves, after one byte; -1: none */
};
/* Serves until SIGTERM or SIGINT (blocked by it in all threads); 0 after a clean end. */
int agent_run(const struct agent_opts *o, struct err *e);
