/* SPDX-License-Identifier: Apache-2.0 */
/* Paths that the published references describe and that are not built yet: they answer 501
 * not_implemented, so that a client can tell them from a typing error.  A path leaves this list
 * when its routes are mounted, which are found first. */
#include "core/private.h"

/* First segments, without the surface's prefix. */
static const char *const planned_both[] = {
    "account",      "alerts",
    "autoscaling",  "billing",
    "caches",       "clusters",
    "cron",         "databases",
    "elastic-ips",  "exports",
    "functions",    "gateway",
    "global-lb",    "gw",
    "iam",          "lb",
    "logs",         "notify",
    "pipelines",    "routes",
    "secrets",      "security-groups",
    "snapshots",    "ssh-keys",
    "storage",      "subscriptions",
    "topics",       "volumes",
    "vpc-peerings",
};
static const char *const planned_platform[] = {
    "data",      "deployments", "jobs",   "keys",  "ping",  "projects", "regions",
    "resources", "status",      "tokens", "usage", "users", "webhooks",
};

static bool first_is(struct str path, const char *word)
{
    size_t n = strlen(word);

    return path.n > n && memcmp(path.p + 1, word, n) == 0 &&
           (path.n == n + 1 || path.p[n + 1] == '/');
}

bool planned_path(struct str path)
{
    static const char *const prefixes[] = { "/api/v1", "/v1", "/v2" };
    bool platform = false;

    for (size_t i = 0; i < ARRAY_LEN(prefixes) && !platform; i++) {
        size_t n = strlen(prefixes[i]);

        platform = path.n > n && memcmp(path.p, prefixes[i], n) == 0 && path.p[n] == '/';
        if (platform)
            path = (struct str){ path.p + n, path.n - n };
    }
    for (size_t i = 0; i < ARRAY_LEN(planned_both); i++)
        if (first_is(path, planned_both[i]))
            return true;
    for (size_t i = 0; platform && i < ARRAY_LEN(planned_platform); i++)
        if (first_is(path, planned_platform[i]))
            return true;
    return platform && (str_is(path, "/auth/token") || str_is(path, "/auth/session"));
}
