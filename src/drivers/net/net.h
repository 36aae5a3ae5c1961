/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Networks of a host (agent; contracts 6): a namespace and a bridge per VPC, an uplink to the
 * host's own namespace, a port per instance, masquerade out, published ports, sockets for names,
 * which the edge answers at.  Everything is idempotent, and found again after a restart from the
 * kernel and from 'dir'. */

#include "base/driver.h"

struct net_settings {
    int64_t port_min, port_max; /* for host port 0 */
    const char *transit_cidr;   /* "198.18.0.0/15": between the host and its VPCs */
};
extern const struct settings net_settings;
extern const struct driver_class net_driver;

struct net;
struct net_opts {
    const char *installation; /* 8 hex, in every kernel name */
    const char *dir;          /* agent/net: what must be known again after a restart */
    const char *transit_cidr; /* "198.18.0.0/15" */
    int port_min, port_max;   /* for host port 0 */
    const char *edge_socket;  /* who answers for names; NULL: nobody does */
};
struct net *net_linux(const struct net_opts *o, struct err *e);
void net_free(struct net *n);
DEFINE_CLEANUP(struct net *, net_free)

struct net_publish {
    int host_port; /* 0: picked, and written back */
    int port;
    bool udp;
};
struct net_port {
    struct uuid instance, vpc;
    const char *vpc_cidr, *subnet_cidr, *ip, *gateway, *dns;
    int64_t mbps; /* 0: no limit */
    struct net_publish *publish;
    size_t n_publish;
};
/* Makes the VPC where it is missing and an interface "eth0" with the address inside 'netns_fd' (the
 * instance's network namespace, made by the caller), its default route, its published ports.  A
 * host port that something else uses is ERR_ALREADY_EXISTS naming it.  *listen gets a bound, never
 * listening socket per published port (the shim holds them, so that no one else takes the port);
 * owned by the caller. */
int net_attach(struct net *n, struct net_port *p, int netns_fd, int *listen,
               struct err *e) _must_check_;
/* Removes the interface, the published ports, and the VPC with its last port. Absent: 0. */
int net_detach(struct net *n, const struct uuid *instance, struct err *e) _must_check_;
/* The instance has ended: its published ports refuse instead of waiting for nobody; no other
 * instance gets them, also after a restart of the agent or of the machine.  net_attach() brings
 * them back.  Absent: 0. */
int net_unpublish(struct net *n, const struct uuid *instance, struct err *e) _must_check_;
/* What the instance publishes is known also after a loss of power. Absent: 0. */
int net_sync(struct net *n, const struct uuid *instance, struct err *e) _must_check_;
/* Every instance that has a port here. */
int net_list(struct net *n, struct arena *a, struct uuid **out, size_t *count,
             struct err *e) _must_check_;
struct net_counters {
    int64_t rx_bytes, tx_bytes, rx_packets, tx_packets; /* as the instance sees them */
};
int net_stats(struct net *n, const struct uuid *instance, struct net_counters *out,
              struct err *e) _must_check_;
/* Removes every kernel object of this installation that belongs to none of 'keep'. */
int net_sweep(struct net *n, const struct uuid *keep, size_t count, struct err *e) _must_check_;
