/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All services, lowest first; ends with NULL. */

#include "core/service.h"

#define SERVICE(name) extern const struct service name##_service;
#include "services/services.def"
#undef SERVICE
extern const struct service *const all_services[];
