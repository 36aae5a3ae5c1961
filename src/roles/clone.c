/* SPDX-License-Identifier: Apache-2.0 */
/* A program that runs from the clone it was built in keeps its state outside of that, under names
 * made from the clone's path, so that the api's user can reach it wherever the clone lies, and two
 * clones do not meet.  The build leaves the path beside the program, in a file that is never
 * installed. */

#include <sodium.h>

#include "codec/text.h"
#include "os/file.h"
#include "roles/roles.h"

/* clang-format off */
static const struct {
    const char *key, *name, *above;
} places[] = {
    { "places.state_dir", "BRUME_PLACES_STATE_DIR", "/var/lib/brume-dev" },
    { "places.run_dir",   "BRUME_PLACES_RUN_DIR",   "/run/brume-dev" },
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
    const char *path = arena_printf(a, "%s/clone", self);
    if (access(path, F_OK) < 0 || file_read(a, path, sizeof(real), &text, &e) < 0)
        return NULL;
    while (text.n && text.p[text.n - 1] == '\n')
        text.n--;
    return realpath(arena_dup(a, text.p, text.n), real) ? arena_strdup(a, real) : NULL;
}

const char *clone_command(struct arena *a)
{
    return clone_root(a) ? "./brume" : "brume";
}

static bool is_set(const char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
            return true;
    return false;
}

const char *const *clone_env(struct arena *a, const char *const *env)
{
    const char *root = clone_root(a);
    uint8_t sum[crypto_hash_sha256_BYTES];
    char hex[9];
    size_t n = 0, at = 0;

    if (!root)
        return env;
    crypto_hash_sha256(sum, (const uint8_t *)root, strlen(root));
    hex_encode(sum, 4, hex);
    while (env && env[n])
        n++;
    const char **more = arena_new_n(a, const char *, n + ARRAY_LEN(places) + 1);
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (!is_set(env, places[i].name))
            more[at++] = arena_printf(a, "%s=%s/%s", places[i].name, places[i].above, hex);
    for (size_t i = 0; i < n; i++)
        more[at++] = env[i];
    return more;
}

void clone_origins(struct config *c, const char *const *env)
{
    for (size_t i = 0; i < config_n_keys; i++)
        for (size_t k = 0; k < ARRAY_LEN(places); k++)
            if (strcmp(config_keys[i].name, places[k].key) == 0 && !is_set(env, places[k].name) &&
                strncmp(c->origin[i], "environment ", 12) == 0)
                c->origin[i] = "the clone that it runs from";
}
