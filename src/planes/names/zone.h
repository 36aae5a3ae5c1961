/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The names of all VPCs. */

#include "base/base.h"
#include "codec/dns.h"

enum {
    ZONE_NAMES_MAX = 65536, /* of a VPC */
    ZONES_NAMES_MAX = 1 << 20,
    ZONE_ANSWERS_MAX = 64,
};

struct zone; /* of one VPC */
struct zones;
struct zones *zones_new(void);
void zones_free(struct zones *z);
DEFINE_CLEANUP(struct zones *, zones_free)
/* The name 'id' comes, or is another now.  ERR_INVALID for a name or an address that is none,
 * ERR_TOO_LARGE where there are too many: then it is no name of any VPC. */
int zones_put(struct zones *z, const struct uuid *id, const struct uuid *vpc, const char *name,
              const char *ip, struct err *e) _must_check_;
/* It goes; none is fine. */
void zones_drop(struct zones *z, const struct uuid *id);
size_t zones_count(const struct zones *z);
/* NULL: a VPC without names. */
const struct zone *zones_of(const struct zones *z, const struct uuid *vpc);

/* What a question gets: <name>, <name>.internal and <name>.<vpc>.internal are ours.  'z' may be
 * NULL. */
enum zone_answer { ZONE_FORWARD, ZONE_FOUND, ZONE_UNKNOWN };
enum zone_answer zone_ask(const struct zone *z, const char *name,
                          uint8_t addrs[ZONE_ANSWERS_MAX][4], size_t *count);
