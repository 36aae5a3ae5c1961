/* SPDX-License-Identifier: Apache-2.0 */
/* Hides skopeo: it speaks to registries and writes what it gets unchanged into a folder, so
 * that the digest is the registry's.  Tenants name the registry, and registries send it elsewhere:
 * so it has no network but a gate that lets nothing through to internal addresses. */
#include "base/log.h"
#include "codec/cidr.h"
#include "drivers/image/gate.h"
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
static bool is_loopback(const char *host)
{
    static const struct cidr loopback = { { 4, { 127 } }, 8 };
    struct ip ip;

    return strcmp(host, "localhost") == 0 ||
           (ip_parse(str_of(host), &ip) && cidr_contains(&loopback, &ip));
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
    static const char *const full[] = { "no space left", "quota exceeded", NULL };
    static const char *const forms[] = { "invalid reference", "must be lowercase", NULL };
    char host[128];

    snprintf(host, sizeof(host), "%.*s", (int)MIN(strcspn(name, "/"), sizeof(host) - 1), name);
    if (says(text, full))
        return err_cause(e, ERR_NO_SPACE, text, "the host's disk is full");
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

static int refused(const char *why, struct err *e)
{
    return err_set(e, ERR_FORBIDDEN, "%s; compute.allowed_registries does not list it", why);
}

static int skopeo(struct arena *a, struct gate *gate, const char *const *argv, int64_t timeout,
                  const char *name, struct err *e)
{
    struct process_result r = { 0 };
    char refusal[160];
    bool unreachable;

    if (!process_which(a, "skopeo"))
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "images are pulled by skopeo, which this host does not have");
    int done = gate_run(gate, a, argv, timeout, &r, e);
    if (done == 0 && !r.timed_out && r.status == 0)
        return 0;
    gate_refusal(gate, refusal, &unreachable);
    if (*refusal)
        return refused(refusal, e);
    if (done < 0 && !r.timed_out)
        return -1;
    return explain(name, r.timed_out || unreachable ? "deadline" : r.err.p ? r.err.p : "", e);
}

static int pull_into(const struct image_paths *p, struct arena *a, const char *name,
                     const char *dir, struct progress *g, struct manifest *out, struct err *e)
{
    const char *from = arena_printf(a, "docker://%s", name);
    const char *to = arena_printf(a, "dir:%s", dir);
    const char *place = arena_dup(a, name, strcspn(name, "/"));
    char host[256];
    int port = 443;

    if (!gate_split(place, host, &port))
        return err_set(e, ERR_INVALID, "%.100s is no name of an image", name);
    bool here = is_loopback(host);
    struct ip ip = { 4, { 127, 0, 0, 1 } };
    if (here && strcmp(host, "localhost") != 0 && !ip_parse(str_of(host), &ip))
        return err_set(e, ERR_INVALID, "%.100s is no name of an image", name);
    if (here && !gate_lists(p->registries, host, port, &ip))
        return refused(arena_printf(a, "%.70s is this machine itself", host), e);
    struct gate_opts o = { .allowed = p->registries, .local = here ? place : NULL };
    _cleanup_(gate_freep) struct gate *gate = gate_open(&o, e);
    if (!gate)
        return -1;
    const char *check = here ? "--tls-verify=false" : "--tls-verify=true";
    const char *check_from = here ? "--src-tls-verify=false" : "--src-tls-verify=true";
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
    TRY(skopeo(a, gate, ask, ASK_TIME, name, e));
    progress_set(g, 5, "pulling", NULL);
    TRY(skopeo(a, gate, copy, PULL_TIME, name, e));
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
