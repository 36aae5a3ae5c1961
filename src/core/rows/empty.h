/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Emptying a tenant: tenant_empty() and project_empty() of service/parts.h. */

#include "core/inside.h"

/* Every mounted record that is owned (OWNED_FIELDS), in the order of emptying: what refers to
 * others before those, services from the top down.  Refuses one that no route deletes and that goes
 * with no other.  Lives as long as the app. */
int owned_collect(struct app *app, struct err *e) _must_check_;
