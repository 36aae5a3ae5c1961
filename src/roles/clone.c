/* SPDX-License-Identifier: Apache-2.0 */
/* A program that runs from the clone it was built in keeps its state outside of that, under names
 * made from the clone's path, so that the api's user can reach it wherever the clone lies, and two
 * clones do not meet.  The build leaves the way from the program's folder to the clone beside the
 * program, in a file that is never installed: it leads to the right one in a copy too. */

#include <sodium.h>

#include "codec/text.h"
#include "os/file.h"
#include "roles/roles.h"

/* clang-format off */
static const struct {
    const char *key, *above;
} places[] = {
    { "places.state_dir", "/var/lib/brume-dev" },
    { "places.run_dir",   "/run/brume-dev" },
};
/* clang-format on */

const char *clone_root(struct arena *a)
{
    char self[4096], real[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    struct str text;
    struct err e;

    if (n <= 0)
        return NULL;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    const char *file = arena_printf(a, "%s/clone", self);
    if (access(file, F_OK) < 0)
        return NULL;
    if (file_read(a, file, sizeof(real), &text, &e) < 0)
        return arena_strdup(a, self);
    while (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    const char *root = arena_printf(a, "%s/" STR_FMT, self, STR_ARG(text));
    return arena_strdup(a, realpath(root, real) ? real : self);
}

const char *clone_command(struct arena *a)
{
    return clone_root(a) ? "./brume" : "brume";
}

const struct config_below *clone_below(struct arena *a)
{
    const char *root = clone_root(a);
    uint8_t sum[crypto_hash_sha256_BYTES];
    char hex[9];

    if (!root)
        return NULL;
    crypto_hash_sha256(sum, (const uint8_t *)root, strlen(root));
    hex_encode(sum, 4, hex);
    struct config_below *below = arena_new_n(a, struct config_below, ARRAY_LEN(places) + 1);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        below[i] =
            (struct config_below){ places[i].key, arena_printf(a, "%s/%s", places[i].above, hex),
                                   "the clone that it runs from" };
    return below;
}
