/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The api role's ear at a host: what changes there by itself makes its row due. */

#include "core/service.h"

struct hosts;
/* Listens to 'live' on a thread of its own until hosts_free(). Both outlive it. */
struct hosts *hosts_new(struct app *app, struct compute *live);
void hosts_free(struct hosts *h);
DEFINE_CLEANUP(struct hosts *, hosts_free)
/* For app_opts.runtime_ok: the host answers. 'ctx' is the struct compute. */
bool hosts_answer(void *ctx);
