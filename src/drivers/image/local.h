/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parts of the local image store, among themselves. */

#include <pthread.h>
#include <sys/types.h>

#include "drivers/image/image.h"
#include "drivers/image/recipe.h"
#include "drivers/image/unpack.h"

enum { IMAGE_HEX = 65, IMAGE_LAYERS_MAX = 128, IMAGE_NAME_MAX = 512 };

/* What is kept of an image, under its digest. */
struct manifest {
    char digest[IMAGE_HEX];                   /* hex of SHA-256 */
    char layers[IMAGE_LAYERS_MAX][IMAGE_HEX]; /* chain ids, topmost first */
    size_t n_layers;
    int64_t size;
    const char *cmd, *env, *cwd, *user; /* JSON, JSON, text, text; in an arena */
    const char *entrypoint;             /* JSON: what comes before cmd */
    const char *stop_signal;            /* a name or number; "": none is said */
    struct unpack_counts counts;        /* of its layers, while they are made */
};

/* How far a job is; everything else in it is the store's. */
struct progress {
    pthread_mutex_t *lock;
    int percent;
    char step[80];
    char log[512]; /* a growing text whose last line tells more; "" if none */
};
void progress_set(struct progress *p, int percent, const char *step, const char *log);

typedef ssize_t image_read_fn(void *ctx, void *p, size_t n, struct err *e);

/* Where things are. */
struct image_paths {
    char layers[400], tmp[400], cache[400], mirror[256];
    const char *registries; /* that may be at internal addresses */
    pthread_mutex_t *lock;  /* of who collects layers: what a manifest names then stays */
};

/* ---- layers (layer.c) ---- */

#define LAYER_NEW ".new-" /* begins the names of what is being made */

/* Unpacks a layer on those of 'm' and puts it there, topmost; what it has is added to m->size, and
 * counts against the bounds of m with what its other layers have.  It is kept under its chain id
 * (image specification, config.md): what a layer does not name of its folders comes from those
 * below.  'diff': NULL, or gets its diff id. */
int layer_add(const struct image_paths *p, image_read_fn *read, void *ctx, struct manifest *m,
              char diff[IMAGE_HEX], struct err *e) _must_check_;
/* From a file. */
int layer_add_file(const struct image_paths *p, int fd, struct manifest *m, char diff[IMAGE_HEX],
                   struct err *e) _must_check_;
/* From bytes in memory. */
int layer_add_bytes(const struct image_paths *p, struct str tar, struct manifest *m,
                    struct err *e) _must_check_;
/* A new folder under 'p->tmp'; the caller removes it. */
int layer_tmp(const struct image_paths *p, char out[512], struct err *e) _must_check_;

/* ---- sources ---- */

/* A built-in recipe (build.c). */
int image_build(const struct image_paths *p, struct arena *a, const struct recipe *r,
                struct progress *g, struct manifest *out, struct err *e) _must_check_;
/* An OCI layout or docker-save archive as a tar, unpacked in the empty folder 'dir' first (oci.c).
 */
int image_load_archive(const struct image_paths *p, struct arena *a, const char *dir,
                       image_read_fn *read, void *ctx, struct progress *g, struct manifest *out,
                       struct err *e) _must_check_;
/* An OCI layout in the folder 'dir'. */
int image_load_oci(const struct image_paths *p, struct arena *a, const char *dir,
                   struct progress *g, struct manifest *out, struct err *e) _must_check_;
/* What skopeo writes as "dir:": the registry's own manifest and its blobs, unchanged. */
int image_load_dir(const struct image_paths *p, struct arena *a, const char *dir,
                   struct progress *g, struct manifest *out, struct err *e) _must_check_;
/* From a registry (pull.c). */
int image_pull(const struct image_paths *p, struct arena *a, const char *name, struct progress *g,
               struct manifest *out, struct err *e) _must_check_;
/* Fills 'digest' of a manifest that has none of its own: of its canonical text. */
void manifest_seal(struct manifest *m);
/* Its text on disk, and back (manifest.c). */
int manifest_write(const struct manifest *m, const char *path, struct err *e) _must_check_;
int manifest_read(struct arena *a, const char *path, struct manifest *out,
                  struct err *e) _must_check_;
/* {"cmd":[…],"env":{…},"cwd":…,"user":…}; NULL: nothing known. */
int manifest_config(struct arena *a, const char *json, struct manifest *m,
                    struct err *e) _must_check_;
bool image_hex_ok(const char *s);
