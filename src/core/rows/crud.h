/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What core itself knows of the ready-made handlers. */

#include "core/service.h"

struct faults;

/* What is wrong with the parameters of a list. */
void crud_list_check(struct call *c, struct faults *f);
