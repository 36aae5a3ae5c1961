/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A host behind a socket: how the api role speaks to an agent.  One connection, made when it is
 * first needed and again after it broke; any number of threads. While nobody answers, every order
 * is ERR_ENGINE_UNAVAILABLE "the agent is not running". */

#include "drivers/compute/compute.h"

struct image_store;

/* 'installation' is refused if the agent's is another; NULL: any. */
struct compute *compute_remote(const char *socket_path, const char *installation);
/* The image store of the same host, over the same connection; 'remote' must outlive it.
 * (drivers/image/remote.c) */
struct image_store *image_remote(struct compute *remote);
