/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Network namespaces by name, where `ip netns` keeps them, and calls made inside of one. */

#include "base/base.h"

#define NS_DIR "/run/netns"

/* Makes the namespace (NS_DIR/<name>), or opens the one there is; *made says which.  Returns its
 * descriptor.  A file left by a maker that was killed is replaced. */
int ns_make(const char *name, bool *made, struct err *e) _must_check_;
/* -1 with ERR_NOT_FOUND if there is none. */
int ns_open(const char *name, struct err *e) _must_check_;
/* Removes the name; the namespace goes with its last user.  Absent: 0. */
int ns_remove(const char *name, struct err *e) _must_check_;
/* Names that begin with 'prefix'. */
int ns_list(struct arena *a, const char *prefix, const char ***out, size_t *n,
            struct err *e) _must_check_;
/* A namespace without a name; it lives as long as its descriptor. */
int ns_anonymous(struct err *e) _must_check_;
/* Runs 'fn' with the calling thread inside the namespace, and comes back; -1 as 'fn' says, or with
 * '*e'. A thread that cannot come back aborts. */
int ns_call(int ns_fd, int (*fn)(void *ctx, struct err *e), void *ctx, struct err *e) _must_check_;
/* socket(2) inside the namespace; the socket stays there whoever uses it. */
int ns_socket(int ns_fd, int family, int type, int protocol, struct err *e) _must_check_;
