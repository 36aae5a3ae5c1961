/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sockets by a path of the file system, and who is at the other end. */

#include <sys/types.h>

#include "base/base.h"

enum unix_kind { UNIX_STREAM, UNIX_SEQPACKET };

/* Listens at 'path' with these permissions; a dead socket's file is replaced, a living one's is
 * ERR_ALREADY_EXISTS. */
int unix_listen(const char *path, enum unix_kind kind, unsigned mode, struct err *e) _must_check_;
/* -1 with ERR_ENGINE_UNAVAILABLE if nobody listens there. */
int unix_connect(const char *path, enum unix_kind kind, struct err *e) _must_check_;
/* User and process at the other end, as the kernel knows them. */
int unix_peer(int fd, uid_t *uid, pid_t *pid, struct err *e) _must_check_;
/* Sends 'p' with descriptors (at most 16), or receives; the receiver owns what it gets
 * (close-on-exec). */
int unix_send_fds(int fd, const void *p, size_t n, const int *fds, size_t n_fds,
                  struct err *e) _must_check_;
ssize_t unix_recv_fds(int fd, void *p, size_t n, int *fds, size_t max_fds, size_t *n_fds,
                      struct err *e) _must_check_;
