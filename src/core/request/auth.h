/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Who calls, and whether this may be done: credentials, and what is remembered of them. */

#include "core/service.h"

struct auth_cache;
struct call_private;
struct route_info;

/* Of a call. */
struct auth_part {
    struct str secret;
    struct uuid tenant_wanted; /* X-Tenant-ID */
    const char *www_error;     /* of WWW-Authenticate: invalid_token, insufficient_scope */
    bool authenticated;
    bool wrong_door; /* refused for its tenant or its address, whatever the route */
};

struct auth_cache *auth_cache_new(size_t entries);
void auth_cache_free(struct auth_cache *c);
uint64_t auth_cache_epoch(struct auth_cache *c);
bool auth_cache_get(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    struct principal *out);
/* Kept only if nothing was dropped since 'epoch'. */
void auth_cache_put(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const struct principal *p, uint64_t epoch);
void auth_cache_drop(struct auth_cache *c, const struct uuid *user_id, const struct uuid *key_id);
/* True if this key's use, or its having been turned away, should be noted now: once a minute. */
bool auth_cache_touch(struct auth_cache *c, const struct uuid *key_id, int64_t now);
bool auth_cache_turned_away(struct auth_cache *c, const struct uuid *key_id, int64_t now);
/* The credential's first use was of this version. */
void auth_cache_pin(struct auth_cache *c, struct str secret, const struct uuid *tenant,
                    const char *version);
int auth_credential(struct call_private *p, struct err *e) _must_check_;
int auth_lookup(struct call_private *p, struct db *db, struct err *e) _must_check_;
int auth_admit(struct call_private *p, struct err *e) _must_check_;   /* expiry, host, IP, tenant */
int auth_allowed(struct call_private *p, struct err *e) _must_check_; /* scope, role, operator */
bool auth_scope_covers(const char *scopes, const struct route_info *info);
/* Notes the use, and the version of a first one. */
void auth_touch(struct call_private *p);
