/* SPDX-License-Identifier: Apache-2.0 */
/* Words and prefixes of what every owned resource carries. */
#include "core/service.h"

const struct enum_name mode_names[] = { { MODE_LIVE, "live" }, { MODE_TEST, "test" }, { 0 } };
const struct enum_name role_names[] = {
    { ROLE_VIEWER, "viewer" },
    { ROLE_MEMBER, "member" },
    { ROLE_ADMIN, "admin" },
    { ROLE_OWNER, "owner" },
    { 0 },
};
const struct record tenant_ref = { .name = "tenant", .prefix = "ten" };
const struct record user_ref = { .name = "user", .prefix = "usr" };
const struct record project_ref = { .name = "project", .prefix = "proj" };
