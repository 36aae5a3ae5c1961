/* SPDX-License-Identifier: Apache-2.0 */
/* The class of a host's networks as others know it: the api opens none, the agent does. */
#include "codec/cidr.h"
#include "drivers/net/net.h"

/* clang-format off */
#define T struct net_settings
static const struct setting keys[] = {
    SETTING_INT(T, "compute.port_min",     port_min,     "30000", 1, 65535, "First port that port 0 may pick."),
    SETTING_INT(T, "compute.port_max",     port_max,     "32767", 1, 65535, "Last port that port 0 may pick."),
    SETTING_STR(T, "compute.transit_cidr", transit_cidr, "198.18.0.0/15",   "Addresses between the host and its VPCs; no VPC may touch them."),
};
#undef T
/* clang-format on */

static void settings_check(struct setting_check *c, void *values)
{
    const struct net_settings *s = values;
    struct cidr net;

    if (s->port_min > s->port_max)
        setting_wrong(c, "compute.port_min", "must not be over compute.port_max");
    if (!cidr_parse(str_of(s->transit_cidr), true, &net) || net.ip.family != 4 || net.bits > 24)
        setting_wrong(c, "compute.transit_cidr", "must be an IPv4 network of /24 or larger");
}

const struct settings net_settings = SETTINGS(struct net_settings, keys, .check = settings_check);
const struct driver_class net_driver = { .name = "net", .settings = &net_settings };
