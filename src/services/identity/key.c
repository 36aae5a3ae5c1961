/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: made, listed, rotated, revoked.  Only a keyed hash of a secret is kept, with its prefix and
 * last four characters for people. */
#include "codec/cidr.h"
#include "services/identity/identity_private.h"

enum { MOST_GRACE = 7 * 86400 };

static const struct enum_name kind_names[] = {
    { KEY_USER, "user" }, { KEY_LOGIN, "login" }, { KEY_PROJECT, "project" }, { 0 }
};
static const struct enum_name key_status_names[] = { { KEY_ACTIVE, "active" },
                                                     { KEY_EXPIRED, "expired" },
                                                     { 0 } };

/* Whether the texts of a list fit so many bytes, with what stands between them. */
static bool list_fits(struct arena *a, const char *list, size_t size)
{
    struct texts all;
    size_t n = 0;

    if (!texts_read(a, list, &all))
        return false;
    for (size_t i = 0; i < all.n; i++)
        n += strlen(all.v[i]) + 1;
    return n < size;
}

/* "*", an action "queue:send", or "queue:read", "queues:write", "queue:*". */
static const char *check_scope(struct arena *a _unused_, const char **v)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz-";
    const char *s = *v;
    size_t service = strspn(s, letters);
    const char *verb = s + service + 1;

    if (strcmp(s, "*") == 0)
        return NULL;
    if (service == 0 || s[service] != ':' || *verb == '\0' ||
        (strcmp(verb, "*") != 0 && verb[strspn(verb, letters)] != '\0'))
        return "must be a scope such as queue:send, queues:read or *";
    return NULL;
}

static const struct form form_scope = {
    .check = check_scope,
    .pattern = "^([*]|[a-z-]+:([*]|[a-z-]+))$",
    .example = "queue:send",
};

static const char *check_network(struct arena *a _unused_, const char **v)
{
    struct cidr net;

    return cidr_parse(str_of(*v), false, &net)
               ? NULL
               : "must be an address or a network such as 203.0.113.0/24";
}

static const struct form form_network = {
    .check = check_network,
    .pattern = "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$",
    .example = "203.0.113.0/24",
};

static const char *check_scopes(struct arena *a, const char **v)
{
    return list_fits(a, *v, PRINCIPAL_SCOPES) ? NULL : "must be shorter in all";
}

static const char *check_ips(struct arena *a, const char **v)
{
    bool fits = list_fits(a, *v, sizeof(((struct principal *)0)->allowed_ips));

    return fits ? NULL : "must be shorter in all";
}

/* clang-format off */
#define T struct key
static const struct field key_fields[] = {
    FIELD_UUID(T, id,          0, .doc = "Given by the server; rotation keeps it."),
    FIELD_REF (T, user_id,     user_ref, 0, .doc = "Whose it is."),
    FIELD_REF (T, tenant_id,   tenant_ref, FF_CREATE, .doc = "Tenant it is bound to; it follows its user's active tenant if left out."),
    FIELD_REF (T, project_id,  project_ref, 0, .doc = "Project it is for."),
    FIELD_ENUM(T, mode,        enum mode, 0, .names = mode_names, .doc = "live or test."),
    FIELD_ENUM(T, kind,        enum key_kind, 0, .names = kind_names, .doc = "user, login or project."),
    FIELD_STR (T, name,        FF_CREATE | FF_REQUIRED, .min = 1, .max = 100, .doc = "For people.", .example = "deploy"),
    FIELD_STR (T, prefix,      FF_ALWAYS, .doc = "How it begins."),
    FIELD_STR (T, last4,       FF_ALWAYS, .doc = "How it ends."),
    FIELD_STR (T, hash,        FF_SECRET, .doc = "Keyed hash of the secret."),
    FIELD_STR (T, old_hash,    FF_SECRET, .doc = "Of the secret before a rotation."),
    FIELD_TIME(T, old_until,   FF_HIDDEN, .doc = "How long that is still good."),
    FIELD_LIST(T, scopes,      FF_CREATE, .min = 1, .max = 50, .form = &form_scope, .check = check_scopes, .doc = "What it may do; all its user may if left out.", .example = "[\"queue:send\",\"queues:read\"]"),
    FIELD_LIST(T, allowed_ips, FF_CREATE, .max = 20, .form = &form_network, .check = check_ips, .doc = "Where it may be used; anywhere if left out."),
    FIELD_TIME(T, expires_at,  FF_CREATE, .doc = "When it ends by itself."),
    FIELD_TIME(T, last_used,   FF_ALWAYS, .doc = "When it was last used, to the minute; its creation at first."),
    FIELD_INT (T, revision,    FF_HIDDEN, .doc = "Counts its changes."),
    FIELD_TIME(T, created_at,  FF_ALWAYS, .doc = "When it was made."),
    FIELD_TIME(T, updated_at,  FF_ALWAYS, .doc = "When it was last changed."),
    FIELD_STR (T, key,         FF_VIRTUAL | FF_ONCE, .doc = "The secret; shown once."),
    FIELD_ENUM(T, status,      enum key_status, FF_VIRTUAL, .names = key_status_names, .doc = "active or expired."),
};
#undef T
/* clang-format on */
static int key_show(struct call *c, void *row, struct err *e);
const struct record key_record =
    RECORD(key, "identity_keys", key_fields, .prefix = "key", .show = key_show);

struct rotate_in {
    int64_t grace_seconds;
};
/* clang-format off */
static const struct field rotate_fields[] = {
    FIELD_INT(struct rotate_in, grace_seconds, FF_CREATE, .min = 0, .max = MOST_GRACE, .doc = "Seconds for which the old secret is still good."),
};
/* clang-format on */
const struct record key_rotate_record = RECORD(rotate_in, NULL, rotate_fields);

void key_secret(struct app *app, struct arena *a, const char *prefix, struct key *k)
{
    char secret[SECRET_MAX], hash[65];

    secret_new(prefix, secret);
    app_hash_secret(app, str_of(secret), hash);
    k->key = arena_strdup(a, secret);
    k->prefix = arena_strdup(a, prefix);
    k->last4 = arena_strdup(a, secret + strlen(secret) - 4);
    k->hash = arena_strdup(a, hash);
}

int key_insert(struct call *c, struct key *k, enum key_kind kind, const struct uuid *user_id,
               struct err *e)
{
    uuid_new(app_clock(c->app), &k->id);
    k->kind = kind;
    if (user_id)
        k->user_id = *user_id;
    k->revision = 1;
    k->created_at = k->updated_at = k->last_used = c->now;
    key_secret(c->app, c->arena,
               kind != KEY_PROJECT    ? "thecloud_"
               : k->mode == MODE_TEST ? "sk_test_"
                                      : "sk_live_",
               k);
    TRY(db_insert(c->db, c->arena, &key_record, k, e));
    struct key shown = *k;
    shown.key = NULL;
    return call_event(c, "key.created", &key_record, &shown, e);
}

/* ---- handlers */

static bool scope_within(const char *held, const char *want)
{
    const char *colon = strchr(want, ':');
    size_t service = colon ? (size_t)(colon - want) : 0;

    for (const char *at = held; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");

        if ((n == 1 && *at == '*') || (strlen(want) == n && memcmp(at, want, n) == 0))
            return true;
        if (colon && n == service + 2 && memcmp(at, want, service + 1) == 0 && at[n - 1] == '*')
            return true;
        at += n;
    }
    return false;
}

/* A key may give away only what it has itself. */
static int scopes_check(struct call *c, const char *scopes, struct err *e)
{
    struct texts all;

    if (!texts_read(c->arena, scopes, &all) || all.n == 0)
        return scope_within(c->who->scopes, "*")
                   ? 0
                   : err_set(e, ERR_FORBIDDEN,
                             "This key may not give all scopes: name those it has");
    for (size_t i = 0; i < all.n; i++)
        if (!scope_within(c->who->scopes, all.v[i]))
            return err_set(e, ERR_FORBIDDEN, "Missing scope: %.64s (a key gives only what it has)",
                           all.v[i]);
    return 0;
}

static bool net_within(const char *held, const struct cidr *own)
{
    for (const char *at = held; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        struct cidr net;

        if (cidr_parse((struct str){ at, n }, false, &net) && cidr_within(own, &net))
            return true;
        at += n;
    }
    return false;
}

/* Who may come from some addresses only gives keys for those, or fewer. */
static int ips_check(struct call *c, const char *ips, struct err *e)
{
    struct texts all;
    struct cidr own;

    if (!c->who->allowed_ips[0])
        return 0;
    if (!texts_read(c->arena, ips, &all) || all.n == 0)
        return err_set(e, ERR_FORBIDDEN, "This key is for some addresses only: name allowed_ips");
    for (size_t i = 0; i < all.n; i++)
        if (!cidr_parse(str_of(all.v[i]), false, &own) || !net_within(c->who->allowed_ips, &own))
            return err_set(e, ERR_FORBIDDEN, "This key may not be used from %.64s itself",
                           all.v[i]);
    return 0;
}

/* To rotate another key is to get its secret: so it may have no more than the caller's. */
static int rotate_check(struct call *c, const struct key *k, struct err *e)
{
    if (uuid_eq(&k->id, &c->who->key_id))
        return 0;
    TRY(scopes_check(c, k->scopes, e));
    TRY(ips_check(c, k->allowed_ips, e));
    if (c->who->expires_at && (!k->expires_at || k->expires_at > c->who->expires_at))
        return err_set(e, ERR_FORBIDDEN,
                       "This credential ends sooner than the key it is to rotate");
    return 0;
}

static const char sql_member[] =
    "SELECT 1 FROM tenant_members WHERE tenant_id = $1 AND user_id = $2";
static const char sql_key_count[] =
    "SELECT count(*) FROM identity_keys WHERE user_id = $1 AND kind = 'user'";

void key_create_check(struct call *c)
{
    const struct key *k = c->in;

    if (k->expires_at && k->expires_at <= c->now)
        fault_add(c, "expires_at", "out_of_range", "must lie ahead");
}

int key_create(struct call *c, struct err *e)
{
    struct key *k = c->in;
    int64_t member, count;

    TRY(need_user(c, e));
    TRY(scopes_check(c, k->scopes, e));
    TRY(ips_check(c, k->allowed_ips, e));
    if (c->who->pinned && uuid_is_nil(&k->tenant_id))
        k->tenant_id = c->tenant;
    if (c->who->pinned && !uuid_eq(&k->tenant_id, &c->tenant))
        return err_set(e, ERR_FORBIDDEN,
                       "This key is bound to one tenant, and so are those it makes");
    if (!uuid_is_nil(&k->tenant_id)) {
        TRY(db_int(c->db, sql_member, ARGS(A(&k->tenant_id), A(&c->who->user_id)), 0, &member, e));
        if (!member)
            return err_set(e, ERR_NOT_FOUND, "There is no such tenant: tenant_id");
    }
    TRY(user_lock(c, &c->who->user_id, e));
    TRY(db_int(c->db, sql_key_count, ARGS(A(&c->who->user_id)), 0, &count, e));
    if (count >= USER_KEYS)
        return err_set(e, ERR_QUOTA_EXCEEDED, "quota 'keys' is %d and %lld are in use", USER_KEYS,
                       (long long)count);
    if (c->who->expires_at && (!k->expires_at || k->expires_at > c->who->expires_at))
        k->expires_at = c->who->expires_at;
    TRY(key_insert(c, k, KEY_USER, &c->who->user_id, e));
    call_audit_object(c, "key", &k->id);
    return reply_row(c, &key_record, k);
}

static const char sql_keys[] = "SELECT @ FROM identity_keys WHERE user_id = $1";
static const char sql_pinned_keys[] = "SELECT @ FROM identity_keys WHERE user_id = $1"
                                      " AND tenant_id = $2";

static int key_show(struct call *c, void *row, struct err *e _unused_)
{
    struct key *k = row;
    bool idle = k->kind == KEY_LOGIN && k->last_used + DAYS(LOGIN_IDLE_DAYS) <= c->now;

    k->status = idle || (k->expires_at && k->expires_at <= c->now) ? KEY_EXPIRED : KEY_ACTIVE;
    return 0;
}

int key_list(struct call *c, struct err *e)
{
    TRY(need_user(c, e));
    if (c->who->pinned)
        return list_query(c, sql_pinned_keys, ARGS(A(&c->who->user_id), A(&c->tenant)), e);
    return list_query(c, sql_keys, ARGS(A(&c->who->user_id)), e);
}

static const char sql_key[] =
    "SELECT @ FROM identity_keys WHERE id = $1 AND user_id = $2 /*pg: FOR UPDATE */";

static int key_target(struct call *c, struct key *out, struct err *e)
{
    TRY(need_user(c, e));
    if (db_one(c->db, c->arena, &key_record, sql_key, ARGS(A(&c->id), A(&c->who->user_id)), out,
               e) < 0)
        return e->code == ERR_NOT_FOUND ? err_set(e, ERR_NOT_FOUND, "There is no such key") : -1;
    if (c->who->pinned && !uuid_eq(&out->tenant_id, &c->tenant))
        return err_set(e, ERR_NOT_FOUND, "There is no such key");
    call_audit_object(c, "key", &out->id);
    return 0;
}

int key_delete(struct call *c, struct err *e)
{
    struct key k;

    TRY(key_target(c, &k, e));
    TRY(db_exec(c->db, "DELETE FROM identity_keys WHERE id = $1", ARGS(A(&k.id)), e));
    TRY(call_event(c, "key.deleted", &key_record, &k, e));
    call_revoke(c, NULL, &k.id);
    return reply_deleted(c, "API key revoked");
}

int key_rotate(struct call *c, struct err *e)
{
    const struct rotate_in *in = c->in;
    struct key k;
    int64_t grace = in ? in->grace_seconds : 0;

    TRY(key_target(c, &k, e));
    TRY(rotate_check(c, &k, e));
    k.old_hash = grace ? k.hash : NULL;
    k.old_until = grace ? c->now + SECONDS(grace) : 0;
    k.revision++;
    k.updated_at = c->now;
    key_secret(c->app, c->arena, k.prefix, &k);
    TRY(db_update(c->db, c->arena, &key_record, &k,
                  FIELD_SET(key, hash, old_hash, old_until, last4, revision, updated_at), e));
    struct key shown = k;
    shown.key = NULL;
    TRY(call_event(c, "key.rotated", &key_record, &shown, e));
    call_revoke(c, NULL, &k.id);
    return reply_shown(c, &key_record, &k, e);
}
