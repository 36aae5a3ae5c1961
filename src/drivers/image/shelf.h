/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a store has: names point to manifests, manifests to layers, and instances hold manifests.
 * Nothing here is locked but by its owner, whose one lock all is done under; under it a layer that
 * is being made gets its name and its place in a manifest at once. */

#include <stdatomic.h>

#include "drivers/image/local.h"

/* A manifest that is being made: its layers stay. */
struct pin {
    struct pin *next;
    const struct manifest *m;
};

struct shelf {
    char dir[300];
    struct pool *pool; /* a thread of it removes what was set aside; NULL: not yet */
    struct pin *pins;
    atomic_int aside;    /* numbers what is set aside */
    atomic_int remover;  /* there is one at most */
    atomic_bool closing; /* it ends soon */
};

struct name_record {
    const char *name, *source;
    char digest[IMAGE_HEX];
    int64_t created_at;
};

void shelf_name_path(const struct shelf *s, const char *name, char out[512]);
void shelf_manifest_path(const struct shelf *s, const char *hex, char out[512]);
/* ERR_INVALID: it makes no sense. */
int shelf_name_read(struct arena *a, const char *path, struct name_record *out,
                    struct err *e) _must_check_;
int shelf_name_write(const struct shelf *s, const struct name_record *r,
                     struct err *e) _must_check_;
/* Calls 'fn' with each file of a folder.  False, and told, if it cannot be read. */
bool shelf_each(const struct shelf *s, const char *folder,
                void (*fn)(const struct shelf *s, const char *path, const char *name, void *ctx),
                void *ctx);

void shelf_pin(struct shelf *s, struct pin *p);
void shelf_unpin(struct shelf *s, struct pin *p);
/* Manifests that no name and no hold names go, and layers that no manifest has. */
void shelf_collect(struct shelf *s);
/* At the start, while nothing is made: what was half made goes. */
void shelf_sweep(struct shelf *s);
/* Has what was set aside removed. */
void shelf_remove_aside(struct shelf *s);
