/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Blobs' rows and files are brought together: what was kept goes to its place, what was dropped and
 * what nobody kept goes; a few at a time, by the ticker.  'all': also what this process did not do;
 * 'count': the metrics too. */

#include "base/base.h"

struct app;
void blobs_tick(struct app *app, bool all, bool count);
