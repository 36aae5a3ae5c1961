/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/drivers.h"

const struct driver_class *const all_drivers[] = {
#define DRIVER(name) &name##_driver,
#include "drivers/drivers.def"
#undef DRIVER
    NULL,
};
