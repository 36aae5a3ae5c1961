/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tar archives, perhaps compressed, into folders.  Nothing in an archive leads out of the folder.
 */

#include <sys/types.h>

#include "base/base.h"

struct unpack_opts {
    /* Gives bytes; 0 at the end, -1 on error. */
    ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e);
    void *ctx;
    bool layer; /* an image layer: whiteouts become overlayfs's, ids and extended attributes are
                   kept */
    int64_t max_bytes; /* of content; 0: 32 GiB */
};
struct unpack_result {
    uint8_t digest[32]; /* SHA-256 of the archive, uncompressed: a layer's diff id */
    int64_t bytes;      /* of the files in it */
};
/* Into an existing, empty folder that the caller holds open. */
int unpack_tar(int dir_fd, const struct unpack_opts *o, struct unpack_result *out,
               struct err *e) _must_check_;
