/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What other services ask of networks: where an instance lives, and its address. */

#include "core/service.h"

/* What is deleted and waits for its instances to be gone is told of that, and looks by itself too;
 * a deletion that takes longer is shown as an error, and goes on. */
enum { DELETION_MINUTES = 30, DELETION_LOOK_SECONDS = 60 };

enum vpc_status { VPC_ACTIVE, VPC_DELETING, VPC_ERROR };
struct vpc {
    OWNED_MEMBERS;
    const char *name, *cidr_block, *network_id;
    int64_t vxlan_id;
    enum vpc_status status;
    const char *status_reason, *tags;
    int64_t deleted_at; /* 0: it stays */
};
extern const struct record vpc_record;

enum subnet_status { SUBNET_AVAILABLE, SUBNET_DELETING, SUBNET_ERROR };
struct subnet {
    OWNED_MEMBERS;
    struct uuid vpc_id;
    const char *name, *cidr_block, *availability_zone, *gateway_ip;
    enum subnet_status status;
    const char *status_reason, *tags;
    int64_t deleted_at;    /* 0: it stays */
    int64_t available_ips; /* counted when shown */
};
extern const struct record subnet_record;

/* The VPC and subnet an instance is to be launched in: those named (404 naming the field if they
 * are not the tenant's, 400 if the subnet is not of that VPC, 409 if they are being deleted), else
 * the VPC "default" and its first subnet, made where they are missing.  Inside a transaction. */
int network_place(struct call *c, const struct uuid *vpc_id, const struct uuid *subnet_id,
                  struct vpc *vpc, struct subnet *subnet, struct err *e) _must_check_;

enum { NETWORK_IP_TEXT = 46 };
/* Gives 'instance' an address of the subnet that nobody has: ERR_QUOTA_EXCEEDED when there is none.
 */
int network_address_take(struct call *c, const struct subnet *s, const struct uuid *instance,
                         char ip[NETWORK_IP_TEXT], struct err *e) _must_check_;
/* Its instance is being deleted: it keeps the address and holds up no deletion any more. */
int network_address_leave(struct call *c, const struct uuid *instance, struct err *e) _must_check_;
/* Gives it back; none taken is fine.  What waited for that to be deleted goes then. */
int network_address_release(struct call *c, const struct uuid *instance,
                            struct err *e) _must_check_;
/* The resolver's address in a subnet: the second. */
int network_dns_ip(const struct subnet *s, char ip[NETWORK_IP_TEXT], struct err *e) _must_check_;
