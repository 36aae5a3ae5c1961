/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a VPC's own namespace has: its bridge, its end of the uplink, its rules, its ports. */

#include "drivers/net/host.h"

/* Makes or repairs all of it as the state says. */
int vpc_make(struct host *h, struct vpc *v, struct err *e);
/* Opens the namespace of a VPC that was there before; ERR_NOT_FOUND if it is gone. */
int vpc_open(struct vpc *v, struct err *e);
/* Takes the namespace and the uplink away; the state's part is the caller's. */
int vpc_remove(struct host *h, struct vpc *v, struct err *e);

/* The port's interface: "eth0" in 'netns_fd', 'p->link' on the bridge; the port is in the state. */
int port_make(struct host *h, struct vpc *v, const struct port *p, int netns_fd, struct err *e);
/* The port is no longer in the state. */
int port_remove(struct vpc *v, const struct port *p, struct err *e);
/* As host_forget_flows(), inside. */
int vpc_forget_flows(const struct vpc *v, const struct port *p, struct err *e);
/* True if 'netns_fd' has the port's interface already. */
bool port_is_in(const struct port *p, int netns_fd);
/* Removes links of 'installation' that no port of the state has; ports of the state that have no
 * link are down: their instances have ended. */
int vpc_check(struct vpc *v, const char *installation, struct err *e);
