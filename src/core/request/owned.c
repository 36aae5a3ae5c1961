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

struct owned_row {
    OWNED_MEMBERS;
};
static const struct field owned_fields[] = { OWNED_FIELDS(struct owned_row) };

bool record_is_owned(const struct record *r)
{
    if (!r || !r->table || r->n_fields < ARRAY_LEN(owned_fields))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(owned_fields); i++)
        if (strcmp(r->fields[i].name, owned_fields[i].name) != 0)
            return false;
    return true;
}
