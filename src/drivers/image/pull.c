/* SPDX-License-Identifier: Apache-2.0 */
/* Hides skopeo: it speaks to registries and writes what it gets unchanged into a folder, so
 * that the digest is the registry's. */
#include "base/log.h"
#include "drivers/image/local.h"
#include "os/file.h"
#include "os/process.h"

#define ASK_TIME  SECONDS(25)
#define PULL_TIME SECONDS(3600)

/* A full reference: registry, path, and a tag or digest. */
static const char *full_name(struct arena *a, const char *name)
{
    static const char scheme[] = "docker://";

    if (strncmp(name, scheme, sizeof(scheme) - 1) == 0)
        name += sizeof(scheme) - 1;
    const char *slash = strchr(name, '/');
    size_t first = slash ? (size_t)(slash - name) : 0;
    bool host = slash && (memchr(name, '.', first) || memchr(name, ':', first) ||
                          (first == 9 && strncmp(name, "localhost", 9) == 0));
    const char *leaf = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    bool tagged = strchr(leaf, ':') || strchr(leaf, '@');
    return arena_printf(a, "%s%s%s",
                        host    ? ""
                        : slash ? "docker.io/"
                                : "docker.io/library/",
                        name, tagged ? "" : ":latest");
}

/* Without TLS only to this machine itself. */
static bool is_loopback(const char *name)
{
    return strncmp(name, "localhost:", 10) == 0 || strncmp(name, "localhost/", 10) == 0 ||
           strncmp(name, "127.", 4) == 0;
}

static bool says(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcasestr(text, *words))
            return true;
    return false;
}

/* skopeo's last words as a sentence for a person. */
static int explain(const char *name, const char *text, struct err *e)
{
    static const char *const away[] = { "no such host",
                                        "connection refused",
                                        "i/o timeout",
                                        "no route to host",
                                        "unreachable",
                                        "deadline",
                                        "server misbehaving",
                                        "connection reset",
                                        "EOF",
                                        NULL };
    static const char *const none[] = {
        "manifest unknown", "StatusCode: 404",         "not found", "name unknown", "unauthorized",
        "denied",           "authentication required", NULL
    };
    static const char *const forms[] = { "invalid reference", "must be lowercase", NULL };
    char host[128];

    snprintf(host, sizeof(host), "%.*s", (int)MIN(strcspn(name, "/"), sizeof(host) - 1), name);
    if (says(text, forms))
        return err_cause(e, ERR_INVALID, text, "%.100s is no name of an image", name);
    if (says(text, none))
        return err_cause(e, ERR_NOT_FOUND, text,
                         "no recipe or local image has that name, and the registry %.40s has no "
                         "public %.60s",
                         host, name + strlen(host) + 1);
    if (says(text, away))
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, text,
                         "no recipe or local image has that name, and the registry %.60s does not "
                         "answer",
                         host);
    return err_cause(e, ERR_ENGINE_UNAVAILABLE, text, "%.100s could not be pulled", name);
}

static int skopeo(struct arena *a, const char *const *argv, int64_t timeout, const char *name,
                  struct err *e)
{
    struct process_opts o = { .argv = argv, .timeout = timeout, .max_output = MIB(4) };
    struct process_result r = { 0 };

    if (!process_which(a, "skopeo"))
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "images are pulled by skopeo, which this host does not have");
    if (process_run(a, &o, &r, e) < 0)
        return r.timed_out ? explain(name, "deadline", e) : -1;
    if (r.timed_out)
        return explain(name, "deadline", e);
    return r.status == 0 ? 0 : explain(name, r.err.p ? r.err.p : "", e);
}

static int pull_into(const struct image_paths *p, struct arena *a, const char *name,
                     const char *dir, struct progress *g, struct manifest *out, struct err *e)
{
    const char *from = arena_printf(a, "docker://%s", name);
    const char *to = arena_printf(a, "dir:%s", dir);
    const char *check = is_loopback(name) ? "--tls-verify=false" : "--tls-verify=true";
    const char *check_from = is_loopback(name) ? "--src-tls-verify=false" : "--src-tls-verify=true";
    const char *const ask[] = {
        "skopeo", "--insecure-policy", "inspect", "--raw", "--retry-times", "0", check, from, NULL
    };
    const char *const copy[] = { "skopeo",
                                 "--insecure-policy",
                                 "--override-os",
                                 "linux",
                                 "copy",
                                 "--quiet",
                                 check_from,
                                 from,
                                 to,
                                 NULL };

    /* A registry that is away is told of soon; a large image may take its time. */
    progress_set(g, 1, "asking the registry", NULL);
    TRY(skopeo(a, ask, ASK_TIME, name, e));
    progress_set(g, 5, "pulling", NULL);
    TRY(skopeo(a, copy, PULL_TIME, name, e));
    return image_load_dir(p, a, dir, g, out, e);
}

int image_pull(const struct image_paths *p, struct arena *a, const char *name, struct progress *g,
               struct manifest *out, struct err *e)
{
    char dir[512];
    struct err ignored;

    TRY(layer_tmp(p, dir, e));
    int result = pull_into(p, a, full_name(a, name), dir, g, out, e);
    if (dir_remove(dir, &ignored) < 0)
        log_err(LOG_WARN, "image_rest_stays", &ignored);
    return result;
}
