/* SPDX-License-Identifier: Apache-2.0 */
/* The class of hosts that run instances, as others know it. */
#include "drivers/compute/compute.h"
#include "drivers/compute/remote.h"

/* clang-format off */
#define T struct compute_settings
static const struct setting keys[] = {
    SETTING_STR(T, "compute.runtime", runtime, "auto", "OCI runtime: auto, crun or runc.", .words = " auto crun runc "),
};
#undef T
/* clang-format on */

const struct settings compute_settings = SETTINGS(struct compute_settings, keys);

static void *open_host(const struct driver_opts *o, struct err *e _unused_)
{
    return compute_remote(o->host, o->installation);
}

static void *simulate(void)
{
    return compute_fake();
}

static void close_host(void *driver)
{
    compute_free(driver);
}

static bool answers(void *driver)
{
    static const struct uuid nobody = { "00000000-0000-7000-8000-000000000000" };
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct compute_state state;
    struct err e;

    return compute_inspect(driver, &a, &nobody, &state, &e) == 0;
}

const struct driver_class compute_driver = { .name = "compute",
                                             .settings = &compute_settings,
                                             .open = open_host,
                                             .simulate = simulate,
                                             .close = close_host,
                                             .answers = answers };
