/* SPDX-License-Identifier: Apache-2.0 */
/* The class of image stores, as others know it. */
#include "codec/cidr.h"
#include "codec/text.h"
#include "drivers/compute/compute.h"
#include "drivers/compute/remote.h"
#include "drivers/image/image.h"

/* clang-format off */
#define T struct image_settings
static const struct setting keys[] = {
    SETTING_STR(T, "compute.debian_mirror",      mirror,     "", "Mirror for built-in images; empty: the host's own."),
    SETTING_STR(T, "compute.allowed_registries", registries, "", "Registries at internal addresses that images may come from: hosts (with :port or without) and networks, separated by commas."),
};
#undef T
/* clang-format on */

/* A network, or a host with :port or without. */
static bool is_registry(struct str s)
{
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    size_t n = colon ? (size_t)(colon - s.p) : s.n;
    struct cidr c;
    int64_t port;

    if (cidr_parse(s, true, &c))
        return true;
    if (colon && !int_parse((struct str){ colon + 1, s.n - n - 1 }, 1, 65535, &port))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", s.p[i]))
            return false;
    return n > 0 && n < 254;
}

static void settings_check(struct setting_check *c, void *values)
{
    struct str rest = str_of(((struct image_settings *)values)->registries), one;

    while (str_part(&rest, ',', &one))
        if (!is_registry(one))
            setting_wrong(c, "compute.allowed_registries",
                          "'%.*s' is no host, host:port or network", (int)MIN(one.n, (size_t)60),
                          one.p);
}

const struct settings image_settings =
    SETTINGS(struct image_settings, keys, .check = settings_check);

static void *open_store(const struct driver_opts *o, struct err *e _unused_)
{
    return image_remote(o->other(o, &compute_driver));
}

static void *simulate(void)
{
    return image_fake();
}

static void close_store(void *driver)
{
    image_free(driver);
}

const struct driver_class image_driver = { .name = "image",
                                           .settings = &image_settings,
                                           .open = open_store,
                                           .simulate = simulate,
                                           .close = close_store };
