/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Tar archives, perhaps compressed, into folders.  Nothing in an archive leads out of the folder.
 */

#include <sys/types.h>

#include "drivers/image/below.h"

/* What is counted, and bounded. */
struct unpack_counts {
    int64_t bytes;   /* of content, also what is copied from below */
    int64_t read;    /* of the archives, uncompressed */
    int64_t entries; /* of the archives, and folders and files that they do not have */
    int64_t steps;   /* along names whose folders are missing or links */
    int64_t copies;  /* from below */
};
extern const struct unpack_counts unpack_most;

struct unpack_opts {
    /* Gives bytes; 0 at the end, -1 on error. */
    ssize_t (*read)(void *ctx, void *p, size_t n, struct err *e);
    void *ctx;
    bool layer; /* an image layer: whiteouts become overlayfs's, ids and extended attributes are
                   kept, names lead through what lies below */
    struct below below;
    const struct unpack_counts *most; /* NULL: unpack_most */
    struct unpack_counts *counts; /* goes on from there: the bounds are of all layers of an image
                                     together; NULL: from nothing */
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
