/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the api role asks of identity at its start. */

#include "core/service.h"

/* Makes the first user, admin@localhost, who operates the installation, with a tenant and a key,
 * unless there is a user already (then *made is false).  The secrets live in 'a' and are shown
 * once. */
int identity_first_run(struct app *app, struct arena *a, const char **api_key,
                       const char **password, bool *made, struct err *e) _must_check_;

/* The plan of a tenant, in the arena; "" if there is none. */
int identity_plan(struct db *db, struct arena *a, const struct uuid *tenant_id, const char **out,
                  struct err *e) _must_check_;

/* A key of a project, as the platform API gives them: sk_live_… or sk_test_… by 'mode'. 'scopes'
 * NULL: all. The secret lives in 'a'. */
int identity_project_key(struct app *app, struct arena *a, const struct uuid *tenant_id,
                         const struct uuid *project_id, enum mode mode, const char *name,
                         const char *scopes, const char **secret, struct err *e) _must_check_;
