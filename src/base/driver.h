/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Classes of drivers.  A class is a folder in drivers/ with a line in drivers.def and a row of this
 * struct, by which all others know it. */

#include "base/setting.h"

struct driver_class {
    const char *name;
    const struct settings *settings; /* NULL: none */
};
