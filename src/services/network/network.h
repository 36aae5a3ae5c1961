/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What other services ask of networks: where an instance lives, and its address. */

#include "core/service.h"

enum vpc_status { VPC_ACTIVE, VPC_DELETING };
struct vpc {
    OWNED_MEMBERS;
    const char *name, *cidr_block, *network_id;
    int64_t vxlan_id;
    enum vpc_status status;
    const char *tags;
};
extern const struct record vpc_record;

enum subnet_status { SUBNET_AVAILABLE };
struct subnet {
    OWNED_MEMBERS;
    struct uuid vpc_id;
    const char *name, *cidr_block, *availability_zone, *gateway_ip;
    enum subnet_status status;
    const char *tags;
    int64_t available_ips; /* counted when shown */
};
extern const struct record subnet_record;

/* The VPC and subnet an instance is to be launched in: those named (404 naming the field if they
 * are not the tenant's, 400 if the subnet is not of that VPC), else the VPC "default" and its first
 * subnet, made where they are missing.  Inside a transaction. */
int network_place(struct call *c, const struct uuid *vpc_id, const struct uuid *subnet_id,
                  struct vpc *vpc, struct subnet *subnet, struct err *e) _must_check_;

enum { NETWORK_IP_TEXT = 46 };
/* Gives 'instance' an address of the subnet that nobody has: ERR_QUOTA_EXCEEDED when there is none.
 */
int network_address_take(struct call *c, const struct subnet *s, const struct uuid *instance,
                         char ip[NETWORK_IP_TEXT], struct err *e) _must_check_;
/* Gives it back; none taken is fine. */
int network_address_release(struct call *c, const struct uuid *instance,
                            struct err *e) _must_check_;
/* The resolver's address in a subnet: the second. */
int network_dns_ip(const struct subnet *s, char ip[NETWORK_IP_TEXT], struct err *e) _must_check_;
