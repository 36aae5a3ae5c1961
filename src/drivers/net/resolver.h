/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The DNS of VPCs: one thread answers on the DNS addresses of all of them.  <name>, <name>.internal
 * and <name>.<vpc>.internal are answered from what resolver_names() was given; other names go to
 * the resolvers of the host's /etc/resolv.conf. */

#include "codec/cidr.h"
#include "drivers/net/net.h"

struct resolver;
struct resolver_opts {
    const char *dir;         /* names, a file per VPC */
    const char *resolv_conf; /* NULL: /etc/resolv.conf */
};
struct resolver *resolver_new(const struct resolver_opts *o, struct err *e);
void resolver_free(struct resolver *r);
DEFINE_CLEANUP(struct resolver *, resolver_free)

/* Answers on 'addr' (which the namespace must have), port 53, UDP and TCP. Twice is fine. */
int resolver_listen(struct resolver *r, const struct uuid *vpc, int ns_fd, const struct ip *addr,
                    struct err *e) _must_check_;
/* NULL: on all addresses of the VPC. */
void resolver_unlisten(struct resolver *r, const struct uuid *vpc, const struct ip *addr);
/* Replaces the names of a VPC and keeps them on disk; an older revision is ignored. */
int resolver_names(struct resolver *r, const struct uuid *vpc, int64_t revision,
                   const struct net_name *names, size_t count, struct err *e) _must_check_;
/* Forgets the names of every VPC that does not listen. */
void resolver_sweep(struct resolver *r);
