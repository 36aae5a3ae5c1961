/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Containers of this host, by an OCI runtime (in the agent, as root). */

#include "drivers/compute/compute.h"

struct net;
struct image_store;
struct compute_oci_opts {
    const char *dir;            /* agent/instances */
    const char *installation;   /* 8 hex */
    const char *runtime;        /* auto, crun, runc */
    const char *shim_path;      /* brume-init lies beside it */
    const char *files_dir;      /* of the files that orders give, in memory if it can be; NULL: in
                                   'dir' */
    struct net *net;            /* NULL: instances have a network of their own with nothing in it */
    struct image_store *images; /* the local store */
    bool copy_layers; /* as where the kernel has no idmapped mounts, also where it has them */
};
/* Finds again what runs here, and removes what has no folder. */
struct compute *compute_oci(const struct compute_oci_opts *o, struct err *e);
