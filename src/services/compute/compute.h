/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the api role wires to the hosts: a host that reports a change of an instance makes its row
 * due. */

#include "core/service.h"

extern const struct reconciler instance_loop;
