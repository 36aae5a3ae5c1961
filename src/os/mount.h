/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Mounts by the file-descriptor mount API: a mount is made detached, prepared, then put in its
 * place, so that nobody ever sees it half done.  A detached mount vanishes when its descriptor is
 * closed. */

#include "base/base.h"

/* ---- ids ---- */

/* A user namespace that maps ids 0…count-1 to first…first+count-1, held by a descriptor: for
 * mount_idmap().  The caller closes it. */
int mount_userns(uint32_t first, uint32_t count, struct err *e) _must_check_;

/* ---- making; each returns the descriptor of a detached mount, or -1 ---- */

/* A copy of the mount at 'path' ('recursive': with what is mounted below). */
int mount_clone(const char *path, bool recursive, struct err *e) _must_check_;
/* An overlay of 'n' lower directories, topmost first, given as descriptors (a detached mount is
 * fine, an idmapped one too).  'upper' and 'work' are paths on one file system; both NULL:
 * read-only. */
int mount_overlay(const int *lower, size_t n, const char *upper, const char *work,
                  struct err *e) _must_check_;
/* A new file system of a kind ("tmpfs", "proc", "mqueue" …); 'options' are "key=value" or flags,
 * separated by ',', or NULL. */
int mount_new(const char *kind, const char *options, struct err *e) _must_check_;

/* ---- preparing a detached mount ---- */

/* Shows its files under the ids of 'userns_fd'. ERR_NOT_IMPLEMENTED where the file system cannot.
 */
int mount_idmap(int mount_fd, int userns_fd, struct err *e) _must_check_;
enum mount_flags {
    MOUNT_READ_ONLY = 1,
    MOUNT_NO_SUID = 2,
    MOUNT_NO_DEV = 4,
    MOUNT_NO_EXEC = 8,
    MOUNT_PRIVATE = 16, /* no propagation in or out */
};
int mount_set(int mount_fd, unsigned flags, bool recursive, struct err *e) _must_check_;

/* ---- placing ---- */

/* Puts a detached mount onto an existing file or folder; 'dir_fd' may be AT_FDCWD. */
int mount_place(int mount_fd, int dir_fd, const char *path, struct err *e) _must_check_;
/* mount --bind, with flags, in one. */
int mount_bind(const char *from, const char *to, unsigned flags, struct err *e) _must_check_;
/* Takes off everything that is mounted at 'path', lazily; nothing mounted, or no such path: 0. */
int mount_remove(const char *path, struct err *e) _must_check_;
/* True if 'path' is the root of a mount. */
bool mount_is(const char *path);
