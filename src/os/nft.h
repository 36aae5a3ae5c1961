/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* nftables by libnftables: each call is one transaction, all of it or nothing. */

#include "base/base.h"
#include "base/buf.h"

struct nft;
/* In the network namespace 'ns_fd' (-1: the caller's own). */
struct nft *nft_open(int ns_fd, struct err *e);
void nft_close(struct nft *n);
DEFINE_CLEANUP(struct nft *, nft_close)
/* Runs commands in nft's language. An object that is missing is ERR_NOT_FOUND, one that exists
 * ERR_ALREADY_EXISTS. */
int nft_run(struct nft *n, const char *commands, struct err *e) _must_check_;
/* As above, and gives what was printed; 'handles' shows handles in it. */
int nft_list(struct nft *n, struct arena *a, const char *commands, bool handles, const char **out,
             struct err *e) _must_check_;
