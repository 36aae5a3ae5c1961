/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Links, addresses, routes and queues of a network namespace by rtnetlink.  Changes are gathered in
 * a batch and sent in one write; the kernel does them in order. */

#include "base/base.h"
#include "codec/cidr.h"

struct nl;
/* A socket in the namespace 'ns_fd' (-1: the caller's own).  One thread at a time. */
struct nl *nl_open(int ns_fd, struct err *e);
void nl_close(struct nl *n);
DEFINE_CLEANUP(struct nl *, nl_close)

enum { NL_NAME = 16, NL_BATCH_MAX = 32 };

struct nl_link {
    int index;
    char name[NL_NAME];
    int mtu;
    int master;   /* index of its bridge, 0: none */
    bool up;      /* ordered up */
    bool working; /* and the kernel lets frames through */
    uint8_t mac[6];
    int64_t rx_bytes, tx_bytes, rx_packets, tx_packets;
};
/* ERR_NOT_FOUND if there is none of that name. */
int nl_link_get(struct nl *n, const char *name, struct nl_link *out, struct err *e) _must_check_;
int nl_link_at(struct nl *n, int index, struct nl_link *out, struct err *e) _must_check_;
/* Waits until the kernel lets frames through a link that was brought up, at most 'patience'
 * microseconds; it is no failure if that takes longer. */
int nl_link_wait(struct nl *n, const char *name, int64_t patience, struct err *e) _must_check_;
/* All links whose names begin with 'prefix'. */
int nl_link_list(struct nl *n, struct arena *a, const char *prefix, struct nl_link **out,
                 size_t *count, struct err *e) _must_check_;
/* Index of the link by which 'to' is reached; ERR_NOT_FOUND if there is no route. */
int nl_route_link(struct nl *n, const struct ip *to, int *index, struct err *e) _must_check_;

/* Every IPv4 address of the namespace, with its prefix. */
int nl_addr_list(struct nl *n, struct arena *a, struct cidr **out, size_t *count,
                 struct err *e) _must_check_;

/* ---- changes.  'ok' is an errno that is no failure (EEXIST, ENODEV …), or 0 ---- */

struct nl_end {
    const char *name;
    int ns_fd;          /* where it is made; -1: the socket's namespace */
    const uint8_t *mac; /* NULL: random */
    int master;         /* 0: none */
    int index;          /* 0: any; only of 'here' */
};
/* Links are made down: nl_link_up(). */
void nl_veth(struct nl *n, const struct nl_end *here, const struct nl_end *peer, int mtu, int ok);
void nl_bridge(struct nl *n, const char *name, const uint8_t mac[6], int mtu, int ok);
void nl_link_up(struct nl *n, const char *name);
void nl_link_del(struct nl *n, const char *name, int ok);
/* IPv4 */
void nl_addr(struct nl *n, int index, const struct ip *ip, int bits, int ok);
void nl_addr_del(struct nl *n, int index, const struct ip *ip, int bits, int ok);
void nl_default_route(struct nl *n, int index, const struct ip *gateway, int ok);
/* Shapes what leaves by the link to 'bits_per_second'. */
void nl_shape(struct nl *n, int index, int64_t bits_per_second);
/* Sends the batch; -1 with the first failure (those after it are done nevertheless). */
int nl_commit(struct nl *n, const char *what, struct err *e) _must_check_;
