/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Files and directories, whole and safely. */

#include "base/base.h"
#include "base/buf.h"

/* Reads a regular file of at most 'max' bytes; NUL-terminated beyond 'n'. */
int file_read(struct arena *a, const char *path, size_t max, struct str *out, struct err *e);
/* Writes a new file beside, fsyncs it, renames it over 'path', fsyncs the folder. */
int file_write_atomic(const char *path, const void *p, size_t n, unsigned mode, struct err *e);
/* As above without any fsync: for what may be lost with the machine (under /run, caches). */
int file_write(const char *path, const void *p, size_t n, unsigned mode, struct err *e);
/* Makes what file_write() wrote durable. */
int file_sync(const char *path, struct err *e);
/* mkdir -p; existing folders are fine. */
int dir_make(const char *path, unsigned mode, struct err *e);
/* rm -r that follows no link and crosses no mount; a missing path is fine. */
int dir_remove(const char *path, struct err *e);
/* Writes a short text to an existing (kernel) file: cgroup, sysctl. */
int file_poke(const char *path, const char *text, struct err *e);
/* write(2) of all, over EINTR and short writes. */
int fd_write_all(int fd, const void *p, size_t n, struct err *e);
int fd_read_all(int fd, void *p, size_t n, struct err *e); /* exactly n */
int fd_set_nonblock(int fd);
/* The whole of a file into an empty one, holes left out; both can be sought in. */
int fd_copy_all(int from, int to, struct err *e);
/* openat2(2) below 'root', which no link and no ".." leaves.  The kernel gives up where something
 * was renamed anywhere while it walked a ".."; then this tries again.  -1 with errno. */
int fd_open_in(int root, const char *path, int flags, uint64_t resolve);
