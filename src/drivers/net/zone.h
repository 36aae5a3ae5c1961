/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The names of one VPC. */

#include "codec/dns.h"
#include "drivers/net/net.h"

enum { ZONE_NAMES_MAX = 65536, ZONE_ANSWERS_MAX = 64 };

struct zone;
/* ERR_INVALID for a name or an address that is none. */
struct zone *zone_new(const struct uuid *vpc, int64_t revision, const struct net_name *names,
                      size_t count, struct err *e);
void zone_free(struct zone *z);
DEFINE_CLEANUP(struct zone *, zone_free)
const struct uuid *zone_vpc(const struct zone *z);
int64_t zone_revision(const struct zone *z);
int zone_save(const struct zone *z, const char *dir, struct err *e);
struct zone *zone_load(const struct uuid *vpc, const char *dir, struct err *e);

/* What a question gets.  'z' may be NULL: a VPC without names. */
enum zone_answer { ZONE_FORWARD, ZONE_FOUND, ZONE_UNKNOWN };
enum zone_answer zone_ask(const struct zone *z, const char *name,
                          uint8_t addrs[ZONE_ANSWERS_MAX][4], size_t *count);
