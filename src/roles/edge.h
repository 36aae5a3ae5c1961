/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The edge role: a user of its own, never opens the store; answers for the names of VPCs. */

#include "roles/roles.h"

/* Serves until SIGTERM or SIGINT; the exit code.  Needs root for its start. */
int edge_run(const struct config *c, const struct launch *l);
