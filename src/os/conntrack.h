/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The flows that the kernel remembers in a network namespace (ctnetlink).  A flow goes on as it
 * began, whatever the rules say since. */

#include "base/base.h"
#include "codec/cidr.h"

struct conntrack_flow {
    struct ip src, dst;             /* as its first packet had them */
    struct ip reply_src, reply_dst; /* as answers have them: rewritten addresses show here */
    uint16_t sport, dport, reply_sport, reply_dport;
};
/* Forgets the IPv4 UDP flows to any of the ports that 'match' says yes to, in the namespace 'ns_fd'
 * (-1: the caller's own), by one look at all flows; none is fine. */
int conntrack_forget_udp(int ns_fd, const uint16_t *dports, size_t n,
                         bool (*match)(const struct conntrack_flow *f, void *ctx), void *ctx,
                         struct err *e) _must_check_;
