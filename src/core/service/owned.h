/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What every owned row carries (spec 3.0), and who calls. */

#include "base/base.h"
#include "base/record.h"

struct app;
struct arena;
struct db;
struct err;

/* ---- owned resources: what every one of them carries (spec 3.0) */

enum mode { MODE_LIVE, MODE_TEST };
extern const struct enum_name mode_names[]; /* live, test */

/* Members of an owned struct, first; its table has the same columns in the same order. */
#define OWNED_MEMBERS                               \
    struct uuid id, tenant_id, user_id, project_id; \
    enum mode mode;                                 \
    int64_t revision, created_at, updated_at

extern const struct record tenant_ref, user_ref, project_ref; /* prefixes only: ten, usr, proj */

/* clang-format off */
#define OWNED_FIELDS(T)                                                                            \
    FIELD_UUID(T, id,                      0, .doc = "Given by the server."),                      \
    FIELD_REF (T, tenant_id,  tenant_ref,  FF_ALWAYS, .doc = "Tenant that owns it."),                      \
    FIELD_REF (T, user_id,    user_ref,    0, .doc = "User who made it."),                         \
    FIELD_REF (T, project_id, project_ref, FF_FILTER, .doc = "Project it belongs to."),            \
    FIELD_ENUM(T, mode, enum mode, FF_HIDDEN, .names = mode_names, .doc = "Live or test."),        \
    FIELD_INT (T, revision,                FF_HIDDEN, .doc = "Counts its changes."),               \
    FIELD_TIME(T, created_at,              FF_SORT | FF_ALWAYS, .doc = "When it was made."),       \
    FIELD_TIME(T, updated_at,              FF_SORT | FF_ALWAYS, .doc = "When it was last changed.")
/* A table's record that begins with OWNED_FIELDS. */
bool record_is_owned(const struct record *r);
/* Columns of an owned table, for schema files:
 *   id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, user_id TEXT, project_id TEXT,
 *   mode TEXT NOT NULL, revision BIGINT NOT NULL, created_at BIGINT NOT NULL,
 *   updated_at BIGINT NOT NULL, … */
/* clang-format on */

/* ---- who calls */

enum role { ROLE_VIEWER, ROLE_MEMBER, ROLE_ADMIN, ROLE_OWNER };
extern const struct enum_name role_names[];

enum { PRINCIPAL_SCOPES = 512 };
struct principal {
    struct uuid key_id;     /* of the key or session behind the credential */
    struct uuid user_id;    /* nil for a project key */
    struct uuid tenant_id;  /* the tenant this request acts in; nil for a user who is in none: only
                               routes of .own_account serve them */
    struct uuid project_id; /* project key: its project */
    struct uuid account; /* owner of the tenant: all tenants of one have one share between them */
    enum mode mode;
    enum role role;     /* in tenant_id */
    bool operator;      /* runs this installation */
    bool pinned;        /* the credential is bound to tenant_id */
    int64_t expires_at; /* 0: never */
    int64_t rate;       /* requests a minute of its plan */
    int64_t burst;      /* further requests, refilled over ten minutes */
    char plan[16];
    char version[11]; /* of the API, as of the credential's first use; "" before that */
    char actor[256];  /* e-mail or key name, for the audit */
    char scopes[PRINCIPAL_SCOPES]; /* space-separated; "*" is all */
    char allowed_ips[256];         /* space-separated CIDRs; "" is any */
    const char *refused; /* why it may not act in the tenant it asked for (403); NULL: it may.  All
                            else is then as in its own tenant */
};

/* The credentials' service gives this one; core calls it for what its cache does not hold. */
struct auth_class {
    /* Who presents 'secret' (a whole credential), acting in 'tenant' (nil: the default one)?
     * ERR_UNAUTHORIZED: nobody.  Who is no member of that tenant is out->refused. */
    int (*lookup)(struct app *app, struct db *db, struct arena *a, struct str secret,
                  const struct uuid *tenant, struct principal *out, struct err *e);
    /* The credential was used: note it, at most once a minute, and the version of the API in its
     * first use. Called in a write job. */
    int (*touched)(struct db *db, const struct uuid *key_id, const char *version, int64_t now,
                   struct err *e);
    /* Whose account the tenant is a part of: as the principal's .account; left as it is where there
     * is no such tenant. */
    int (*account)(struct db *db, const struct uuid *tenant, struct uuid *out, struct err *e);
    /* The tenant's plan, in the arena; "" if there is no such tenant. */
    int (*plan)(struct db *db, struct arena *a, const struct uuid *tenant, const char **out,
                struct err *e);
};
