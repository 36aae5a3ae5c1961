/* SPDX-License-Identifier: Apache-2.0 */
/* Which names resolve in a VPC: those of its instances and units, from their launch until their
 * deletion is asked for, whatever state they are in. */
#include "services/compute/names.h"

#include "core/service.h"

/* clang-format off */
#define T struct vpc_name
static const struct field name_fields[] = {
    FIELD_UUID(T, id,         0, .doc = "The instance or unit."),
    FIELD_UUID(T, vpc_id,     0, .doc = "Where it is known."),
    FIELD_STR (T, name,       0, .doc = "As it was given."),
    FIELD_STR (T, private_ip, 0, .doc = "What the name leads to."),
};
#undef T
/* clang-format on */
const struct record vpc_name_record = RECORD(vpc_name, "instances", name_fields);

/* Simulated ones are on no host. */
const struct feed_part names_feed = {
    .name = "names",
    .record = &vpc_name_record,
    .rows = "SELECT @ FROM instances WHERE mode = 'live' AND deleted_at = 0"
            " UNION ALL SELECT @ FROM unit_instances WHERE mode = 'live' AND deleted_at = 0",
};
