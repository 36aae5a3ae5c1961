/* SPDX-License-Identifier: Apache-2.0 */
/* Who presents a credential; the first user; and the table of identity's routes. */
#include <sodium.h>

#include "codec/text.h"
#include "services/identity/identity_private.h"

extern const struct migration identity_migrations[];

/* ---- look-up */

static const char sql_by_hash[] = "SELECT @ FROM identity_keys WHERE hash = $1";
static const char sql_by_old_hash[] =
    "SELECT @ FROM identity_keys WHERE old_hash = $1 AND old_until > $2";

static int nobody(struct err *e)
{
    return err_set(e, ERR_UNAUTHORIZED, "The credential is not valid");
}

static int key_find(struct db *db, struct arena *a, const char *hash, int64_t now, struct key *out,
                    struct err *e)
{
    struct rows got;

    TRY(db_query(db, a, &key_record, sql_by_hash, ARGS(A(hash)), &got, e));
    if (got.n == 0)
        TRY(db_query(db, a, &key_record, sql_by_old_hash, ARGS(A(hash), A(now)), &got, e));
    if (got.n != 1)
        return nobody(e);
    *out = *(struct key *)got.v;
    bool old = !mem_eq_const(out->hash, hash, strlen(hash));
    if (old && (!out->old_hash || !mem_eq_const(out->old_hash, hash, strlen(hash))))
        return nobody(e);
    if (out->kind == KEY_LOGIN && out->last_used + DAYS(LOGIN_IDLE_DAYS) <= now)
        return nobody(e);
    return 0;
}

struct seat {
    struct principal *p;
    bool found, active;
};

static int seat_read(void *ctx, const struct col *cols, size_t n _unused_, struct err *e _unused_)
{
    struct seat *s = ctx;

    s->found = true;
    s->p->role = (enum role)enum_from_str(role_names, cols[0].s);
    snprintf(s->p->plan, sizeof(s->p->plan), "%s", cols[1].s);
    s->active = strcmp(cols[2].s, "active") == 0;
    snprintf(s->p->version, sizeof(s->p->version), "%s", cols[3].s ? cols[3].s : "");
    snprintf(s->p->account.s, sizeof(s->p->account.s), "%s", cols[4].s);
    return 0;
}

static const char sql_seat[] =
    "SELECT m.role, t.plan, t.status, (SELECT api_version FROM identity_keys WHERE id = $2),"
    " t.owner_id FROM tenant_members m JOIN tenants t ON t.id = m.tenant_id"
    " WHERE m.tenant_id = $1 AND m.user_id = $3";
static const char sql_project_seat[] =
    "SELECT 'admin', t.plan, t.status, (SELECT api_version FROM identity_keys WHERE id = $2),"
    " t.owner_id FROM tenants t WHERE t.id = $1";

/* A JSON list as its members with spaces between; "" for none.  False: it cannot be read, and what
 * it limits must not be taken for unlimited. */
static bool list_join(struct arena *a, const char *json, char *out, size_t size)
{
    struct texts all;
    size_t n = 0;

    out[0] = '\0';
    if (!texts_read(a, json, &all))
        return false;
    for (size_t i = 0; i < all.n; i++) {
        int some = snprintf(out + n, size - n, "%s%s", n ? " " : "", all.v[i]);

        if (some < 0 || (size_t)some >= size - n)
            return false; /* the checks at its creation keep it shorter */
        n += (size_t)some;
    }
    return true;
}

/* The old secret of a rotated key ends with its grace, and no later than the key itself. */
static int64_t key_end(const struct key *k, const char *hash)
{
    bool old = !mem_eq_const(k->hash, hash, 64);

    return old && (!k->expires_at || k->old_until < k->expires_at) ? k->old_until : k->expires_at;
}

static int key_user(struct db *db, struct arena *a, const struct key *k, struct principal *p,
                    struct err *e)
{
    struct user u;

    TRY(db_one(db, a, &user_record, "SELECT @ FROM users WHERE id = $1", ARGS(A(&k->user_id)), &u,
               e));
    if (u.status != USER_ACTIVE)
        return nobody(e);
    p->user_id = u.id;
    p->operator= u.operator;
    snprintf(p->actor, sizeof(p->actor), "%s", u.email);
    if (!p->pinned)
        p->tenant_id = u.default_tenant_id;
    return 0;
}

static int seat_in(struct db *db, const struct uuid *tenant, struct seat *s, struct err *e)
{
    const struct principal *p = s->p;
    bool person = !uuid_is_nil(&p->user_id);

    s->found = s->active = false;
    return db_each(db, person ? sql_seat : sql_project_seat,
                   (struct arg[]){ A(tenant), A(&p->key_id), A(&p->user_id) }, person ? 3 : 2,
                   seat_read, s, e);
}

/* In the tenant asked for, or p->refused and in their own, whose plan counts what they ask. */
static int take_seat(struct app *app, struct db *db, const struct uuid *tenant, struct principal *p,
                     struct err *e)
{
    struct seat s = { .p = p };

    if (!uuid_is_nil(tenant) && !uuid_eq(tenant, &p->tenant_id)) {
        if (!p->pinned)
            TRY(seat_in(db, tenant, &s, e));
        if (s.found && s.active) {
            p->tenant_id = *tenant;
            return 0;
        }
        p->refused = p->pinned ? "This credential is bound to another tenant"
                     : s.found ? "This tenant is suspended"
                               : "You are not a member of this tenant";
    }
    TRY(seat_in(db, &p->tenant_id, &s, e));
    if (s.found && !s.active && !p->refused)
        p->refused = "This tenant is suspended";
    if (!s.found && p->pinned && !p->refused)
        p->refused = "You are not a member of this tenant";
    if (s.found)
        return 0;
    /* Who was removed from their last tenant looks after their account, and makes another. */
    p->tenant_id = (struct uuid){ 0 };
    p->account = p->user_id;
    p->role = ROLE_VIEWER;
    snprintf(p->plan, sizeof(p->plan), "%s", identity_registration_plan(app));
    return 0;
}

static int lookup(struct app *app, struct db *db, struct arena *a, struct str secret,
                  const struct uuid *tenant, struct principal *out, struct err *e)
{
    struct key k;
    char hash[65];
    int64_t now = clock_wall(app_clock(app));
    struct principal p = { 0 };

    app_hash_secret(app, secret, hash);
    TRY(key_find(db, a, hash, now, &k, e));
    p.key_id = k.id;
    p.mode = k.mode;
    p.project_id = k.project_id;
    p.pinned = !uuid_is_nil(&k.tenant_id);
    p.tenant_id = k.tenant_id;
    p.expires_at = key_end(&k, hash);
    snprintf(p.actor, sizeof(p.actor), "%s", k.name);
    if (!list_join(a, k.scopes, p.scopes, sizeof(p.scopes)) ||
        !list_join(a, k.allowed_ips, p.allowed_ips, sizeof(p.allowed_ips)))
        return nobody(e);
    if (!k.scopes)
        snprintf(p.scopes, sizeof(p.scopes), "*");
    bool person = !uuid_is_nil(&k.user_id);
    if (person)
        TRY(key_user(db, a, &k, &p, e));
    TRY(take_seat(app, db, tenant, &p, e));
    const struct plan *plan = config_plan(app_config(app), p.plan);
    p.rate = p.mode == MODE_TEST ? 1000000 : plan ? plan->rate : 60;
    p.burst = p.mode == MODE_TEST || !plan ? 0 : plan->burst;
    *out = p;
    return 0;
}

static int touched(struct db *db, const struct uuid *key_id, const char *version, int64_t now,
                   struct err *e)
{
    return db_exec(
        db,
        "UPDATE identity_keys SET last_used = $2, api_version = COALESCE(api_version, $3)"
        " WHERE id = $1 AND (last_used < $2 OR api_version IS NULL)",
        ARGS(A(key_id), A(now), A(version)), e);
}

static int account_of(struct db *db, const struct uuid *tenant, struct uuid *out, struct err *e)
{
    return db_each(db, "SELECT owner_id FROM tenants WHERE id = $1", ARGS(A(tenant)), take_uuid,
                   out, e);
}

static const struct auth_class identity_auth = {
    .lookup = lookup, .touched = touched, .account = account_of, .plan = identity_plan
};

/* ---- the first user */

struct first {
    struct arena *arena; /* the caller's: the call's own ends with the write */
    struct user user;
    const char *secret;
    bool made;
};

static int first_write(struct call *c, void *arg, struct err *e)
{
    struct first *f = arg;
    int64_t users;

    TRY(db_int(c->db, "SELECT count(*) FROM users", NO_ARGS, 0, &users, e));
    f->made = users == 0;
    if (!f->made)
        return 0;
    f->user.operator= true;
    TRY(user_make(c, &f->user, "admin", app_config(c->app)->default_plan, e));
    struct key k = { .name = "first run" };
    TRY(key_insert(c, &k, KEY_USER, &f->user.id, e));
    f->secret = arena_strdup(f->arena, k.key);
    return 0;
}

int identity_first_run(struct app *app, struct arena *a, const char **api_key,
                       const char **password, bool *made, struct err *e)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    char word[25] = "";
    int64_t users;
    struct first f = { .arena = a };
    struct db *db = store_reader(app_store(app), e);

    if (!db)
        return -1;
    int rc = db_int(db, "SELECT count(*) FROM users", NO_ARGS, 0, &users, e);
    store_reader_back(app_store(app), db);
    *made = false;
    if (rc < 0 || users > 0)
        return rc;
    for (size_t i = 0; i + 1 < sizeof(word); i++)
        word[i] = letters[randombytes_uniform(sizeof(letters) - 1)];
    f.user = (struct user){ .email = "admin@localhost",
                            .name = "Administrator",
                            .password_hash = app_password_hash(app, a, word),
                            .email_verified = true };
    if (!f.user.password_hash)
        return err_set(e, ERR_OVERLOADED, "there is no memory to hash a password");
    TRY(app_write(app, first_write, &f, e));
    if (f.made) {
        *made = true;
        *api_key = f.secret;
        *password = arena_strdup(a, word);
    }
    return 0;
}

struct project_key {
    struct arena *arena;
    struct key key;
    const char *secret;
};

static int project_key_write(struct call *c, void *arg, struct err *e)
{
    struct project_key *p = arg;

    struct key k = p->key; /* this may run more than once */

    TRY(key_insert(c, &k, KEY_PROJECT, NULL, e));
    p->secret = arena_strdup(p->arena, k.key);
    return 0;
}

int identity_project_key(struct app *app, struct arena *a, const struct uuid *tenant_id,
                         const struct uuid *project_id, enum mode mode, const char *name,
                         const char *scopes, const char **secret, struct err *e)
{
    struct project_key p = { .arena = a,
                             .key = { .tenant_id = *tenant_id,
                                      .project_id = *project_id,
                                      .mode = mode,
                                      .name = name,
                                      .scopes = scopes } };

    TRY(app_write(app, project_key_write, &p, e));
    *secret = p.secret;
    return 0;
}

static const struct reconciler *const identity_loops[] = { &mail_loop, NULL };

/* clang-format off */
#define U &user_record
#define K &key_record
#define N &tenant_record
#define B &member_record
#define V &invite_record
static const struct route identity_routes[] = {
    /*        path                               action                 work   handler           in                  out   */
    { POST,   "/auth/register",                  NULL,                  LONG,  account_register, &register_record,   &registered_record, 201, "Registers a user.", .public = true, .fails = "409", .limit = LIMIT_AUTH, .check = account_register_check },
    { POST,   "/auth/login",                     NULL,                  LONG,  account_login,    &login_record,      &logged_in_record, 200, "Logs in: gives an API key.", .public = true, .fails = "401", .limit = LIMIT_AUTH },
    { POST,   "/auth/forgot-password",           NULL,                  LONG,  account_forgot,   &forgot_record,     NULL, 200, "Mails a token that sets a new password.", .public = true, .message = true, .limit = LIMIT_AUTH },
    { POST,   "/auth/reset-password",            NULL,                  LONG,  account_reset,    &reset_record,      NULL, 200, "Sets a new password by a token.", .public = true, .message = true, .limit = LIMIT_AUTH, .check = account_reset_check },
    { GET,    "/auth/me",                        "user:get",            READ,  account_me,       NULL,               U,    200, "Shows who you are.", .own_account = true, .name = "getMe" },
    { POST,   "/auth/keys",                      "key:create",          WRITE, key_create,       K,                  K,    201, "Makes an API key; its secret is shown once.", .own_account = true, .check = key_create_check },
    { GET,    "/auth/keys",                      "key:list",            READ,  key_list,         NULL,               K,    200, "Lists your API keys.", .own_account = true, .list = true, .page = KEYS_PAGE, .page_max = KEYS_PAGE },
    { DELETE, "/auth/keys/{id}",                 "key:delete",          WRITE, key_delete,       NULL,               NULL, 204, "Revokes an API key at once.", .own_account = true },
    { POST,   "/auth/keys/{id}/rotate",          "key:rotate",          WRITE, key_rotate,       &key_rotate_record, K,    200, "Gives an API key a new secret.", .own_account = true },
    { POST,   "/auth/keys/{id}/regenerate",      "key:rotate",          WRITE, key_rotate,       &key_rotate_record, K,    200, "As rotate.", .own_account = true },
    { GET,    "/tenants",                        "tenant:list",         READ,  tenant_list,      NULL,               N,    200, "Lists the tenants you belong to.", .own_account = true, .list = true },
    { POST,   "/tenants",                        "tenant:create",       WRITE, tenant_create,    N,                  N,    201, "Makes a tenant that you own.", .own_account = true },
    { GET,    "/tenants/{id}",                   "tenant:get",          READ,  tenant_get,       NULL,               N,    200, "Shows a tenant.", .own_account = true },
    { POST,   "/tenants/{id}/switch",            "tenant:switch",       WRITE, tenant_switch,    NULL,               NULL, 200, "Makes it the tenant you act in.", .own_account = true, .message = true },
    { GET,    "/tenants/{id}/members",           "tenant:list-members", READ,  member_list,      NULL,               B,    200, "Lists a tenant's members.", .own_account = true, .list = true, .oldest_first = true },
    { POST,   "/tenants/{id}/members",           "tenant:add-member",   WRITE, member_add,       B,                  B,    201, "Makes a user a member, or invites an address that nobody is registered by.", .own_account = true },
    { PATCH,  "/tenants/{id}/members/{user_id}", "tenant:change-member", WRITE, member_update,   B,                  B,    200, "Changes a member's role.", .own_account = true },
    { DELETE, "/tenants/{id}/members/{user_id}", "tenant:remove-member", WRITE, member_remove,   NULL,               NULL, 204, "Removes a member, or yourself.", .own_account = true },
    { GET,    "/tenants/{id}/invitations",       "tenant:list-invitations", READ, invite_list,   NULL,               V,    200, "Lists who was invited and has not registered yet.", .own_account = true, .list = true, .oldest_first = true, .page = INVITES_A_WEEK, .page_max = INVITES_A_WEEK },
    { DELETE, "/tenants/{id}/invitations/{invitation_id}", "tenant:withdraw-invitation", WRITE, invite_withdraw, NULL, NULL, 204, "Withdraws an invitation.", .own_account = true },
    { 0 },
};
/* clang-format on */

static const struct quota *const identity_quotas[] = { &quota_tenants, NULL };

/* clang-format off */
static const struct planned identity_planned[] = {
    { "POST",             "/account/close" },
    { "POST",             "/account/reopen" },
    { "POST",             "/auth/logout" },
    { "POST",             "/auth/verify-email" },
    { "POST",             "/auth/token", PLATFORM },
    { "POST DELETE",      "/auth/session", PLATFORM },
    { "GET",              "/auth/sessions", PLATFORM },
    { "DELETE",           "/auth/sessions/{id}", PLATFORM },
    { "GET POST",         "/keys", PLATFORM },
    { "GET DELETE",       "/keys/{id}", PLATFORM },
    { "POST",             "/keys/{id}/rotate", PLATFORM },
    { "GET POST",         "/oauth/clients", PLATFORM },
    { "GET PATCH DELETE", "/oauth/clients/{id}", PLATFORM },
    { "GET POST",         "/oauth2/authorize", CLASSIC },
    { "GET POST",         "/oauth2/device", CLASSIC },
    { "POST",             "/oauth2/device_authorization", CLASSIC },
    { "POST",             "/oauth2/introspect", CLASSIC },
    { "POST",             "/oauth2/revoke", CLASSIC },
    { "POST",             "/oauth2/token", CLASSIC },
    { "GET POST",         "/tokens", PLATFORM },
    { "GET DELETE",       "/tokens/{id}", PLATFORM },
    { "GET POST",         "/users", PLATFORM },
    { "GET PATCH DELETE", "/users/{id}", PLATFORM },
    { "GET",              "/.well-known/jwks.json", CLASSIC },
    { "GET",              "/.well-known/oauth-authorization-server", CLASSIC },
    { 0 },
};
/* clang-format on */

const struct service identity_service = {
    .name = "identity",
    .doc = "Users, their keys, and tenants.",
    .migrations = identity_migrations,
    .routes = identity_routes,
    .planned = identity_planned,
    .loops = identity_loops,
    .quotas = identity_quotas,
    .settings = &identity_settings,
    .auth = &identity_auth,
};
