/* SPDX-License-Identifier: Apache-2.0 */
/* The class of hosts that run instances, as others know it. */
#include "drivers/compute/compute.h"

/* clang-format off */
#define T struct compute_settings
static const struct setting keys[] = {
    SETTING_STR(T, "compute.runtime", runtime, "auto", "OCI runtime: auto, crun or runc.", .words = " auto crun runc "),
};
#undef T
/* clang-format on */

const struct settings compute_settings = SETTINGS(struct compute_settings, keys);
const struct driver_class compute_driver = { .name = "compute", .settings = &compute_settings };
