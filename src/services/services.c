/* SPDX-License-Identifier: Apache-2.0 */
#include "services/services.h"

const struct service *const all_services[] = {
#define SERVICE(name) &name##_service,
#include "services/services.def"
#undef SERVICE
    NULL,
};
