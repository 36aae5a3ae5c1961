/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the api role wires to the hosts: a host that reports a change of an instance makes its row
 * due. */

#include "core/service.h"

extern const struct reconciler instance_loop;

/* It has printed something, or is no longer what it was: who follows its output looks. */
void instance_printed(struct app *app, const struct uuid *id);
