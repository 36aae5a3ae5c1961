/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the host's own namespace has of our networks: one nftables table, the host's ends of the
 * uplinks, a door in strangers' firewalls. */

#include "drivers/net/state.h"
#include "os/netlink.h"
#include "os/nft.h"

struct host {
    const char *installation;
    struct cidr transit;
    struct net_state *state;
    struct nl *nl;
    struct nft *nft;
    int ns_fd; /* the host's namespace */
    int mtu;
};
int host_init(struct host *h, struct err *e);
void host_close(struct host *h);
/* Writes the whole table as the state says, in one transaction, and opens the door where it is
 * shut; without VPCs removes the table. */
int host_rebuild(struct host *h, struct err *e);
/* The VPC, or a published port of one, was added to or removed from the state. */
int host_add_vpc(struct host *h, const struct vpc *v, struct err *e);
int host_del_vpc(struct host *h, const struct vpc *v, struct err *e);
int host_add_port(struct host *h, const struct vpc *v, const struct port *p, struct err *e);
int host_del_port(struct host *h, const struct port *p, struct err *e);
/* The UDP flows to the port's published ones begin anew; nobody else's do. */
int host_forget_flows(struct host *h, const struct port *p, struct err *e);
/* A pair of addresses that nothing on this host has. */
int host_pick_transit(struct host *h, const struct uuid *vpc, struct ip *first, struct err *e);
/* The host's end of an uplink: its address, its switches. */
int host_uplink(struct host *h, const struct vpc *v, struct err *e);
