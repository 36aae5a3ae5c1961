/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Images on a host: content-addressed layers, shared by every instance.  Getting one (a recipe
 * built, a registry pulled, an archive imported) is background work of the host: ensure() starts it
 * and tells how far it is. */

#include <sys/types.h>

#include "base/driver.h"
#include "base/record.h"

struct image_settings {
    const char *mirror;     /* Debian mirror for recipes; "": the host's sources */
    const char *registries; /* that may be at internal addresses: hosts (with :port or without) and
                               networks, separated by commas */
};
extern const struct settings image_settings;
extern const struct driver_class image_driver;
#define app_images(app, mode) ((struct image_store *)app_driver((app), &image_driver, (mode)))

enum image_status { IMAGE_ABSENT, IMAGE_BUILDING, IMAGE_READY, IMAGE_FAILED };
extern const struct enum_name image_status_names[]; /* absent, building, ready, failed */

struct image_state {
    const char *name; /* as asked for: "nginx", "busybox", "docker://host/name:tag" */
    enum image_status status;
    const char *digest;                 /* "sha256:…" of the manifest, once ready */
    const char *source;                 /* recipe, registry, import */
    int64_t size_bytes;                 /* of its layers */
    int64_t progress;                   /* percent */
    const char *step;                   /* what is being done, in words */
    const char *reason;                 /* why it failed */
    const char *cmd, *env, *cwd, *user; /* of its configuration: JSON list, JSON map, text, text */
    const char *entrypoint;             /* JSON list: what comes before 'cmd' */
    const char *stop_signal;            /* as the image names it; "" or NULL: SIGTERM */
    int64_t created_at;
};
extern const struct record image_state_record;

/* A built-in recipe. */
struct image_recipe {
    const char *name, *doc;
};
extern const struct image_recipe image_recipes[]; /* ends with { 0 } */

enum image_format { IMAGE_OCI_ARCHIVE, IMAGE_ROOTFS_TAR };

struct image_store;
struct image_class {
    const char *name;
    /* Starts what is missing; returns the present state at once. 'again' starts over after a
     * failure.  'share' names whose turn it takes where many are waiting (any text: a host knows no
     * tenants), and what several ask for begins with the first turn of any of them; NULL: nobody's.
     */
    int (*ensure)(struct image_store *s, struct arena *a, const char *name, const char *share,
                  bool again, struct image_state *out, struct err *e);
    int (*inspect)(struct image_store *s, struct arena *a, const char *name,
                   struct image_state *out, struct err *e);
    /* What registries gave or shall give: name, status and source, and nothing else. */
    int (*list)(struct image_store *s, struct arena *a, struct image_state **out, size_t *n,
                struct err *e);
    /* Imports under 'name'; 'read' gives bytes (0 at the end, -1 on error). Blocks to the end.
     * 'config' is JSON
     * {"cmd":[…],"env":{…},"cwd":…} for a root filesystem, or NULL. */
    int (*import)(struct image_store *s, struct arena *a, const char *name, enum image_format f,
                  const char *config, ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e),
                  void *ctx, struct image_state *out, struct err *e);
    /* Forgets the name; layers that no image and no instance uses go.  ERR_INVALID_STATE while it
     * is being made; an import of that name is given up then. */
    int (*remove)(struct image_store *s, const char *name, struct err *e);
    void (*free)(struct image_store *s);
};
struct image_store {
    const struct image_class *class;
};

int image_ensure(struct image_store *s, struct arena *a, const char *name, const char *share,
                 bool again, struct image_state *out, struct err *e) _must_check_;
int image_inspect(struct image_store *s, struct arena *a, const char *name, struct image_state *out,
                  struct err *e) _must_check_;
int image_list(struct image_store *s, struct arena *a, struct image_state **out, size_t *n,
               struct err *e) _must_check_;
int image_import(struct image_store *s, struct arena *a, const char *name, enum image_format f,
                 const char *config, ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e),
                 void *ctx, struct image_state *out, struct err *e) _must_check_;
int image_remove(struct image_store *s, const char *name, struct err *e) _must_check_;
void image_free(struct image_store *s);
DEFINE_CLEANUP(struct image_store *, image_free)

struct image_store *image_fake(void);

/* ---- the local store (agent).  Layers are folders owned by root, overlay whiteouts, named by diff
 * id. */
struct image_local_opts {
    const char *dir;       /* agent/images */
    const char *cache_dir; /* built recipes, shared by installations */
    const char *mirror;    /* Debian mirror for recipes; "" or NULL: the host's sources */
    /* Registries that may be at internal addresses: hosts (with :port or without) and networks,
     * separated by commas; "" or NULL: none */
    const char *registries;
};
struct image_store *image_local(const struct image_local_opts *o, struct err *e);
/* Lower directories of an image, topmost first; and holds them (an image in use is not collected)
 * until image_local_release(). */
int image_local_layers(struct image_store *s, struct arena *a, const char *digest,
                       const struct uuid *user, const char *const **dirs, size_t *n,
                       struct image_state *config, struct err *e) _must_check_;
void image_local_release(struct image_store *s, const struct uuid *user);
