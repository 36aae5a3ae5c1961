/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names of instances and units inside of their VPCs, as edges hear of them. */

#include "base/record.h"

struct vpc_name {
    struct uuid id, vpc_id;
    const char *name, *private_ip;
};
extern const struct record vpc_name_record;

struct feed_part;
extern const struct feed_part names_feed; /* "names" */
