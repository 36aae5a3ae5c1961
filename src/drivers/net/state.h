/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What this host's networks are, in memory and in the folder: a file per VPC and per port.  A file
 * is written before the kernel is changed, so that whatever the kernel has is known after a crash.
 */

#include "codec/cidr.h"
#include "drivers/net/net.h"
#include "os/nft.h"

enum { NET_NAME = 32, NET_LINK = 16, NET_PUBLISH_MAX = 64 };

struct port {
    struct port *next;
    struct uuid id, vpc;
    struct ip ip, gateway, dns; /* dns.family 0: none */
    struct cidr subnet;
    int64_t mbps;
    size_t n_publish;
    struct net_publish publish[NET_PUBLISH_MAX];
    bool down;           /* its published ports lead nowhere: they are still its own */
    char link[NET_LINK]; /* "v…", in the VPC's namespace */
    uint8_t mac[6];
};

struct vpc {
    struct vpc *next;
    struct uuid id;
    struct cidr cidr;
    struct ip host, inner; /* the two addresses of its uplink */
    char ns_name[NET_NAME], uplink[NET_LINK];
    struct port *ports;
    int ns_fd;       /* -1: not open */
    struct nft *nft; /* its rules; kept, for closing one waits for what it removed; NULL: only its
                      * record is there, and its ports are down */
    int bridge;      /* index of its bridge */
};

struct net_state {
    const char *dir;
    const char *installation;
    struct vpc *vpcs;
};

/* Reads the folder; files that make no sense are logged and removed. */
int state_load(struct net_state *s, struct err *e);
void state_free(struct net_state *s);
struct vpc *state_vpc(struct net_state *s, const struct uuid *id);
/* *of gets its VPC. */
struct port *state_port(struct net_state *s, const struct uuid *id, struct vpc **of);
/* The port that has this host port, or NULL. */
struct port *state_published(struct net_state *s, int host_port, bool udp);
/* The host ports that it publishes for UDP. */
size_t state_udp_ports(const struct port *p, uint16_t out[NET_PUBLISH_MAX]);

/* Writes it and adds it; owned by the state then. */
int state_add_vpc(struct net_state *s, struct vpc *v, struct err *e);
int state_save_port(const struct net_state *s, const struct port *p, struct err *e);
void state_add_port(struct net_state *s, struct vpc *v, struct port *p);
/* Writes it again: its addresses have changed. */
int state_save_vpc(const struct net_state *s, const struct vpc *v, struct err *e);
/* The files of both outlive a loss of power. */
int state_sync(const struct net_state *s, const struct vpc *v, const struct port *p, struct err *e);
/* Takes it out, and its file away (a port's only if 'forgotten'); the caller's then. */
void state_take_vpc(struct net_state *s, struct vpc *v);
void state_take_port(struct net_state *s, struct vpc *v, struct port *p, bool forgotten);
void vpc_free(struct vpc *v);
DEFINE_CLEANUP(struct vpc *, vpc_free)

/* Names in the kernel (contracts 8). */
void state_ns_name(const char *installation, const struct uuid *vpc, char out[NET_NAME]);
void state_link_name(const char *installation, char kind, const struct uuid *id,
                     char out[NET_LINK]);
/* Reads what a caller or a file says. */
int state_read_port(struct port *p, const struct net_port *in, struct err *e);
