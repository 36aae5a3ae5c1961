/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What vpc.c and subnet.c share. */

#include "codec/cidr.h"
#include "services/network/network.h"

/* Of cidr_block: an IPv4 prefix of /16 to /28 without host bits. */
extern const struct form form_cidr_block;

/* The next value of a named counter, beginning with 'first'. */
int network_counter(struct db *db, const char *name, int64_t first, int64_t *out,
                    struct err *e) _must_check_;

/* Two requests that make the same default at once: the later one runs again and finds it. */
int network_retry(int rc, struct err *e);

int subnet_create(struct call *c, struct err *e);
int subnet_delete(struct call *c, struct err *e);
/* Deletes the subnets of a VPC: 409 naming the first that is in use.  '*left': how many wait for
 * their last instances. */
int subnet_delete_all(struct call *c, const struct vpc *vpc, int64_t *left,
                      struct err *e) _must_check_;

/* What is deleted while instances in it are still being ended is visited until they have gone. */
extern const struct reconciler vpc_loop, subnet_loop;
extern const struct quota quota_subnets;
/* The oldest subnet of the VPC, or a new one "default": the first /24 (or the whole of a smaller
 * VPC). */
int subnet_default(struct call *c, const struct vpc *vpc, struct subnet *out,
                   struct err *e) _must_check_;
