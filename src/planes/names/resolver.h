/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The DNS of VPCs: one thread answers at the sockets of all of them.  <name>, <name>.internal and
 * <name>.<vpc>.internal are answered from the names it was given; other names go to the resolvers
 * of the host's /etc/resolv.conf. */

#include "codec/cidr.h"
#include "planes/names/zone.h"

struct resolver;
/* 'resolv_conf' NULL: /etc/resolv.conf */
struct resolver *resolver_new(const char *resolv_conf, struct err *e);
void resolver_free(struct resolver *r);
DEFINE_CLEANUP(struct resolver *, resolver_free)
/* Takes no further question, and waits until those in hand are answered, at most so long.  What is
 * asked meanwhile stays in the sockets, for who has them next. */
void resolver_drain(struct resolver *r, int64_t patience);

struct held {
    struct uuid vpc;
    struct ip addr;
    int64_t netns;
    int fds[2]; /* copies of its sockets, UDP and TCP: the caller's to close */
};
/* Answers at its sockets, in place of those it had for that VPC and address; they are the
 * resolver's now, also when this fails. */
int resolver_take(struct resolver *r, const struct held *h, struct err *e) _must_check_;
/* NULL: all addresses of the VPC. */
void resolver_drop(struct resolver *r, const struct uuid *vpc, const struct ip *addr);
size_t resolver_held(struct resolver *r, struct arena *a, struct held **out);

/* From now on these are all the names there are; the resolver's own. */
void resolver_names(struct resolver *r, struct zones *names);
/* As zones_put() and zones_drop(), of those. */
int resolver_put(struct resolver *r, const struct uuid *id, const struct uuid *vpc,
                 const char *name, const char *ip, struct err *e) _must_check_;
void resolver_forget(struct resolver *r, const struct uuid *id);
