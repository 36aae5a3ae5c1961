/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api role's ear at a host: what changes there by itself makes its row due. */

#include "core/service.h"

struct hosts;
/* Listens to this host on a thread of its own until hosts_free(). The app outlives it. */
struct hosts *hosts_new(struct app *app);
void hosts_free(struct hosts *h);
DEFINE_CLEANUP(struct hosts *, hosts_free)
