/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* All classes of drivers, lowest first; ends with NULL. */

#include "base/driver.h"

#define DRIVER(name) extern const struct driver_class name##_driver;
#include "drivers/drivers.def"
#undef DRIVER
extern const struct driver_class *const all_drivers[];
