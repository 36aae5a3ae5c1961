/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the layers below a new one show together, by the rules of overlayfs: the topmost counts, a
 * whiteout hides, an opaque folder ends the look. */

#include <sys/stat.h>

#include "base/base.h"

struct below {
    const int *layers; /* folders, topmost first */
    size_t n;
};

/* The entry at 'path', on the way to which all are folders ("" is the root); itself, not what it
 * leads to: '*fd' gets a descriptor of O_PATH, or -1 where there is none, and '*st' is of it. */
int below_open(const struct below *b, const char *path, int *fd, struct stat *st,
               struct err *e) _must_check_;
/* True for the device that overlayfs takes for a whiteout. */
bool below_is_whiteout(const struct stat *st);
/* Marks a folder: what lies below its name is hidden. */
int below_hide(int fd, struct err *e) _must_check_;
/* 1: a folder is so marked, 0: it is not. */
int below_is_hidden(int fd, struct err *e) _must_check_;
/* Makes 'name' in the folder 'dir' the file or link that 'fd' (of O_PATH) is, with all it has. */
int below_copy(int fd, const struct stat *st, int dir, const char *name,
               struct err *e) _must_check_;
/* Owner, mode, time and extended attributes of 'from' (of O_PATH) for the folder or file 'to'. */
int below_copy_attributes(int from, const struct stat *st, int to, struct err *e) _must_check_;
/* Extended attributes that a layer may have: what a program may need, never overlayfs's own, by
 * which a layer could speak for the one below. */
bool below_xattr_ok(const char *name);
