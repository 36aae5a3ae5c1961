/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tar archives, perhaps compressed, into folders.  Nothing in an archive leads out of the folder.
 */

#include <sys/types.h>

#include "drivers/image/below.h"

struct unpack_opts {
    /* Gives bytes; 0 at the end, -1 on error. */
    ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e);
    void *ctx;
    bool layer; /* an image layer: whiteouts become overlayfs's, ids and extended attributes are
                   kept, names lead through what lies below */
    struct below below;
    int64_t max_bytes; /* of content; 0: 32 GiB */
};
struct unpack_result {
    uint8_t digest[32]; /* SHA-256 of the archive, uncompressed: a layer's diff id */
    int64_t bytes;      /* of the files in it */
    bool opaque;        /* nothing of what lies below shows */
};
/* Into an existing, empty folder that the caller holds open.  What a layer puts where it does not
 * name the folder keeps that folder as it is below. */
int unpack_tar(int dir_fd, const struct unpack_opts *o, struct unpack_result *out,
               struct err *e) _must_check_;
