/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants and their members.  A tenant's routes are about the tenant in the path, which need not be
 * the one the request acts in: so the caller's role is looked up there, and a stranger reads 404.
 */
#include "services/identity/identity_private.h"

enum { SLUG_MAX = 40, TRIES = 50 };

static const struct enum_name tenant_status_names[] = { { TENANT_ACTIVE, "active" },
                                                        { TENANT_SUSPENDED, "suspended" },
                                                        { 0 } };

static const char *check_slug(struct arena *a _unused_, const char **v)
{
    const char *s = *v;
    size_t n = strlen(s);

    if (s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0' || s[0] == '-' ||
        (n && s[n - 1] == '-'))
        return "must be lower-case letters, digits and '-', beginning and ending with no '-'";
    return id_looks_like(str_of(s)) ? "must not look like an id" : NULL;
}

static const struct form form_slug = {
    .check = check_slug,
    .pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    .example = "shop",
};

/* clang-format off */
#define T struct tenant
static const struct field tenant_fields[] = {
    FIELD_UUID(T, id,         0, .doc = "Given by the server."),
    FIELD_STR (T, name,       FF_CREATE | FF_REQUIRED, .min = 1, .max = 100, .doc = "For people.", .example = "Shop"),
    FIELD_STR (T, slug,       FF_CREATE | FF_ALWAYS, .min = 2, .max = SLUG_MAX, .form = &form_slug, .doc = "Unique; made from the name if left out."),
    FIELD_REF (T, owner_id,   user_ref, FF_ALWAYS, .doc = "Who made it."),
    FIELD_STR (T, plan,       FF_ALWAYS, .doc = "Its limits."),
    FIELD_ENUM(T, status,     enum tenant_status, 0, .names = tenant_status_names, .doc = "active or suspended."),
    FIELD_INT (T, revision,   FF_HIDDEN, .doc = "Counts its changes."),
    FIELD_TIME(T, created_at, FF_ALWAYS, .doc = "When it was made."),
    FIELD_TIME(T, updated_at, FF_ALWAYS, .doc = "When it was last changed."),
};
#undef T
/* clang-format on */
const struct record tenant_record = RECORD(tenant, "tenants", tenant_fields, .prefix = "ten");

enum member_status { MEMBER_ACTIVE, MEMBER_INVITED };
static const struct enum_name member_status_names[] = { { MEMBER_ACTIVE, "active" },
                                                        { MEMBER_INVITED, "invited" },
                                                        { 0 } };
struct member {
    struct uuid tenant_id, user_id;
    enum role role;
    int64_t created_at;
    const char *email, *name;
    enum member_status status;
};
/* clang-format off */
#define T struct member
static const struct field member_fields[] = {
    FIELD_REF (T, tenant_id,  tenant_ref, FF_ALWAYS, .doc = "Tenant."),
    FIELD_REF (T, user_id,    user_ref, FF_CREATE | FF_EITHER, .doc = "User; or give email."),
    FIELD_ENUM(T, role,       enum role, FF_CREATE | FF_UPDATE | FF_UPDATE_REQUIRED, .names = role_names, .dflt = ROLE_MEMBER, .doc = "owner, admin, member or viewer."),
    FIELD_TIME(T, created_at, FF_ALWAYS, .doc = "When they became a member."),
    FIELD_STR (T, email,      FF_CREATE | FF_EITHER, .min = 3, .max = 255, .form = &form_email, .example = "ada@example.com", .doc = "Their address."),
    FIELD_STR (T, name,       0, .doc = "Their name."),
    FIELD_ENUM(T, status,     enum member_status, FF_VIRTUAL, .names = member_status_names, .doc = "active, or invited: asked by mail to register."),
};
#undef T
/* clang-format on */
const struct record member_record = RECORD(member, NULL, member_fields, .key = "user_id");

/* ---- making */

static void slug_from(const char *name, char *out, size_t size)
{
    size_t n = 0;

    for (; *name && n + 1 < size; name++) {
        char ch = *name >= 'A' && *name <= 'Z' ? (char)(*name + 32) : *name;
        bool good = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');

        if (good)
            out[n++] = ch;
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    if (n < 2)
        n = (size_t)snprintf(out, size, "tenant");
    out[n] = '\0';
}

/* A slug that nobody has: the name's, else with a number. */
static int slug_choose(struct call *c, struct tenant *t, struct err *e)
{
    char base[SLUG_MAX - 4];

    slug_from(t->name, base, sizeof(base));
    for (int i = 1; i <= TRIES; i++) {
        int64_t taken;

        t->slug = i == 1 ? arena_strdup(c->arena, base) : arena_printf(c->arena, "%s-%d", base, i);
        TRY(db_int(c->db, "SELECT 1 FROM tenants WHERE slug = $1", ARGS(A(t->slug)), 0, &taken, e));
        if (!taken)
            return 0;
    }
    t->slug = arena_printf(c->arena, "t-%s", t->id.s + 24);
    return 0;
}

static const char sql_member_add[] =
    "INSERT INTO tenant_members (tenant_id, user_id, role, created_at)"
    " VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, user_id) DO NOTHING";

int member_insert(struct call *c, const struct uuid *tenant, const struct uuid *user,
                  enum role role, struct err *e)
{
    int64_t n;

    TRY(db_exec_n(c->db, sql_member_add,
                  ARGS(A(tenant), A(user), A(enum_to_str(role_names, (int)role)), A(c->now)), &n,
                  e));
    return n > 0;
}

int tenant_make(struct call *c, struct tenant *t, const struct uuid *owner, struct err *e)
{
    bool given = t->slug != NULL;

    if (uuid_is_nil(&t->id))
        uuid_new(app_clock(c->app), &t->id);
    if (!given)
        TRY(slug_choose(c, t, e));
    t->owner_id = *owner;
    t->status = TENANT_ACTIVE;
    t->revision = 1;
    t->created_at = t->updated_at = c->now;
    if (db_insert(c->db, c->arena, &tenant_record, t, e) < 0) {
        if (e->code != ERR_ALREADY_EXISTS)
            return -1;
        return given ? err_set(e, ERR_ALREADY_EXISTS, "A tenant with the slug '%s' exists already",
                               t->slug)
                     : err_set(e, ERR_BUSY, "Names are being taken: try again");
    }
    TRY(call_event(c, "tenant.created", &tenant_record, t, e));
    TRY(member_insert(c, &t->id, owner, ROLE_OWNER, e));
    return 0;
}

static const char sql_adopt[] =
    "UPDATE users SET default_tenant_id = $2 WHERE id = $1 AND default_tenant_id = ''";

int tenant_adopt(struct call *c, const struct uuid *user, const struct uuid *tenant, struct err *e)
{
    int64_t n;

    TRY(db_exec_n(c->db, sql_adopt, ARGS(A(user), A(tenant)), &n, e));
    if (n)
        call_revoke(c, user, NULL);
    return 0;
}

static const char sql_owned[] = "SELECT count(*) FROM tenants t JOIN tenant_members m"
                                " ON m.tenant_id = t.id AND m.user_id = t.owner_id"
                                " WHERE m.user_id = $1";

static int not_pinned(struct call *c, struct err *e)
{
    if (c->who->pinned)
        return err_set(e, ERR_FORBIDDEN, "This key is bound to one tenant");
    return 0;
}

static const char sql_own_plan[] = "SELECT t.plan FROM tenants t JOIN tenant_members m"
                                   " ON m.tenant_id = t.id AND m.user_id = t.owner_id"
                                   " WHERE m.user_id = $1 ORDER BY t.created_at, t.id LIMIT 1";

int identity_plan(struct db *db, struct arena *a, const struct uuid *tenant_id, const char **out,
                  struct err *e)
{
    struct text_out plan = { a, "" };

    TRY(db_each(db, "SELECT plan FROM tenants WHERE id = $1", ARGS(A(tenant_id)), take_text, &plan,
                e));
    *out = plan.s;
    return 0;
}

/* Of what the user makes: that of the tenant it is made from, where this is theirs; a guest has
 * that of their oldest own one, or of who registers, but never their host's. */
static int own_plan(struct call *c, const char **out, struct err *e)
{
    struct text_out own = { .arena = c->arena };

    if (uuid_eq(&c->who->account, &c->who->user_id)) {
        *out = c->who->plan;
        return 0;
    }
    TRY(db_each(c->db, sql_own_plan, ARGS(A(&c->who->user_id)), take_text, &own, e));
    *out = own.s ? own.s : identity_registration_plan(c->app);
    return 0;
}

/* Of what one tenant's members made from it. */
const struct quota quota_tenants = { "tenants", { 2, 5, 20, 100, 10000 } };

int tenant_create(struct call *c, struct err *e)
{
    struct tenant *t = c->in;
    int64_t limit, owned;

    TRY(need_user(c, e));
    TRY(not_pinned(c, e));
    /* Their own are counted, the first one beside: a tenant that made others would begin anew. */
    TRY(user_lock(c, &c->who->user_id, e));
    TRY(own_plan(c, &t->plan, e));
    limit = config_quota(app_config(c->app), t->plan, &quota_tenants);
    TRY(db_int(c->db, sql_owned, ARGS(A(&c->who->user_id)), 0, &owned, e));
    if (owned > limit)
        return err_set(e, ERR_QUOTA_EXCEEDED, "quota 'tenants' is %lld and %lld are in use",
                       (long long)limit, (long long)owned - 1);
    TRY(tenant_make(c, t, &c->who->user_id, e));
    TRY(tenant_adopt(c, &c->who->user_id, &t->id, e));
    call_audit_object(c, "tenant", &t->id);
    return reply_row(c, &tenant_record, t);
}

/* ---- reading */

static const char sql_tenants[] =
    "SELECT @ FROM tenants WHERE id IN (SELECT tenant_id FROM tenant_members WHERE user_id = $1)";
static const char sql_pinned_tenant[] =
    "SELECT @ FROM tenants WHERE id IN (SELECT tenant_id FROM tenant_members WHERE user_id = $1)"
    " AND id = $2";

int tenant_list(struct call *c, struct err *e)
{
    TRY(need_user(c, e));
    if (c->who->pinned)
        return list_query(c, sql_pinned_tenant, ARGS(A(&c->who->user_id), A(&c->tenant)), e);
    return list_query(c, sql_tenants, ARGS(A(&c->who->user_id)), e);
}

static const char sql_role[] =
    "SELECT role FROM tenant_members WHERE tenant_id = $1 AND user_id = $2";

static const char sql_lock[] = "SELECT 1 FROM tenants WHERE id = $1 /*pg: FOR NO KEY UPDATE */";

int tenant_target(struct call *c, enum role least, struct tenant *out, enum role *role,
                  struct err *e)
{
    struct text_out word = { c->arena, NULL };
    int64_t found;

    TRY(need_user(c, e));
    if (c->who->pinned && !uuid_eq(&c->id, &c->tenant))
        return err_set(e, ERR_NOT_FOUND, "There is no such tenant");
    if (c->route->work == WRITE)
        TRY(db_int(c->db, sql_lock, ARGS(A(&c->id)), 0, &found, e));
    TRY(db_each(c->db, sql_role, ARGS(A(&c->id), A(&c->who->user_id)), take_text, &word, e));
    if (!word.s)
        return err_set(e, ERR_NOT_FOUND, "There is no such tenant");
    *role = (enum role)enum_from_str(role_names, word.s);
    call_audit_object(c, "tenant", &c->id);
    if (*role < least)
        return err_set(e, ERR_FORBIDDEN, "This needs the role %s in the tenant; yours is %s",
                       enum_to_str(role_names, (int)least), word.s);
    return db_one(c->db, c->arena, &tenant_record, "SELECT @ FROM tenants WHERE id = $1",
                  ARGS(A(&c->id)), out, e);
}

int tenant_get(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;

    TRY(tenant_target(c, ROLE_VIEWER, &t, &role, e));
    return reply_row(c, &tenant_record, &t);
}

static const char sql_switch[] =
    "UPDATE users SET default_tenant_id = $2, revision = users.revision + 1, updated_at = $3"
    " WHERE id = $1";

int tenant_switch(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;

    TRY(tenant_target(c, ROLE_VIEWER, &t, &role, e));
    TRY(not_pinned(c, e));
    if (t.status != TENANT_ACTIVE)
        return err_set(e, ERR_INVALID_STATE, "tenant '%s' is suspended", t.slug);
    TRY(db_exec(c->db, sql_switch, ARGS(A(&c->who->user_id), A(&t.id), A(c->now)), e));
    call_revoke(c, &c->who->user_id, NULL);
    return reply_message(c, "tenant switched");
}

/* ---- members */

#define SQL_MEMBERS                                                                              \
    "SELECT m.tenant_id, m.user_id, m.role, m.created_at, u.email, u.name FROM tenant_members m" \
    " JOIN users u ON u.id = m.user_id WHERE m.tenant_id = $1"

int member_list(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;

    TRY(tenant_target(c, ROLE_VIEWER, &t, &role, e));
    return list_query(c, SQL_MEMBERS, ARGS(A(&t.id)), e);
}

/* The user named in the body, by id or address; an address that nobody has leaves the id nil. */
static int member_user(struct call *c, struct member *m, struct err *e)
{
    struct text_out id = { c->arena, NULL };
    bool by_id = !uuid_is_nil(&m->user_id);

    TRY(db_each(c->db,
                by_id ? "SELECT id FROM users WHERE id = $1"
                      : "SELECT id FROM users WHERE email = $1",
                ARGS(A(by_id ? (const char *)m->user_id.s : m->email)), take_text, &id, e));
    bool invited = !by_id && strcmp(identity_registration(c->app), "off") != 0;
    if (!id.s && !invited)
        return err_set(e, ERR_NOT_FOUND, "There is no such user: %s", by_id ? "user_id" : "email");
    if (id.s)
        snprintf(m->user_id.s, sizeof(m->user_id), "%s", id.s);
    return 0;
}

static int no_such_member(struct err *e)
{
    return err_set(e, ERR_NOT_FOUND, "There is no such member");
}

static int member_reply(struct call *c, const struct uuid *user, struct err *e)
{
    struct member m;

    if (db_one(c->db, c->arena, &member_record, SQL_MEMBERS " AND m.user_id = $2",
               ARGS(A(&c->id), A(user)), &m, e) < 0)
        return e->code == ERR_NOT_FOUND ? no_such_member(e) : -1;
    return reply_row(c, &member_record, &m);
}

static int role_refused(enum role mine, enum role theirs, struct err *e)
{
    if (theirs > mine)
        return err_set(e, ERR_FORBIDDEN, "Only the role %s can do this",
                       enum_to_str(role_names, (int)theirs));
    return 0;
}

int member_add(struct call *c, struct err *e)
{
    struct member *m = c->in;
    struct tenant t;
    enum role role;

    TRY(tenant_target(c, ROLE_ADMIN, &t, &role, e));
    TRY(role_refused(role, m->role, e));
    TRY(member_user(c, m, e));
    if (uuid_is_nil(&m->user_id)) {
        TRY(invite_make(c, &t, m->email, m->role, e));
        m->tenant_id = t.id;
        m->created_at = c->now;
        m->status = MEMBER_INVITED;
        return reply_row(c, &member_record, m);
    }
    int added = member_insert(c, &t.id, &m->user_id, m->role, e);
    TRY(added);
    if (!added)
        return err_set(e, ERR_ALREADY_EXISTS, "This user is a member already");
    TRY(tenant_adopt(c, &m->user_id, &t.id, e));
    TRY(call_event(c, "tenant.member-added", &member_record, m, e));
    call_revoke(c, &m->user_id, NULL);
    return member_reply(c, &m->user_id, e);
}

static const char sql_owners[] =
    "SELECT count(*) FROM tenant_members WHERE tenant_id = $1 AND role = 'owner' AND user_id <> $2";

/* The member in the path; nobody touches one of a higher role, and the last owner stays. */
static int member_target(struct call *c, const struct tenant *t, enum role mine, bool owner_stays,
                         struct uuid *user, struct err *e)
{
    struct text_out word = { c->arena, NULL };
    int64_t owners;

    if (call_param_id(c, "user_id", &user_record, user, e) < 0)
        return no_such_member(e);
    TRY(db_each(c->db, sql_role, ARGS(A(&t->id), A(user)), take_text, &word, e));
    if (!word.s)
        return no_such_member(e);
    enum role theirs = (enum role)enum_from_str(role_names, word.s);
    if (!uuid_eq(user, &c->who->user_id)) {
        if (mine < ROLE_ADMIN)
            return err_set(e, ERR_FORBIDDEN, "This needs the role admin in the tenant");
        TRY(role_refused(mine, theirs, e));
    }
    if (theirs != ROLE_OWNER || owner_stays)
        return 0;
    TRY(db_int(c->db, sql_owners, ARGS(A(&t->id), A(user)), 0, &owners, e));
    if (owners == 0)
        return err_set(e, ERR_INVALID_STATE, "the last owner of a tenant cannot leave it");
    return 0;
}

int member_update(struct call *c, struct err *e)
{
    const struct member *m = c->in;
    struct tenant t;
    enum role role;
    struct uuid user;

    TRY(tenant_target(c, ROLE_ADMIN, &t, &role, e));
    TRY(role_refused(role, m->role, e));
    TRY(member_target(c, &t, role, m->role == ROLE_OWNER, &user, e));
    TRY(db_exec(c->db, "UPDATE tenant_members SET role = $3 WHERE tenant_id = $1 AND user_id = $2",
                ARGS(A(&t.id), A(&user), A(enum_to_str(role_names, (int)m->role))), e));
    struct member now = { .tenant_id = t.id, .user_id = user, .role = m->role };
    TRY(call_event(c, "tenant.member-changed", &member_record, &now, e));
    call_revoke(c, &user, NULL);
    return member_reply(c, &user, e);
}

/* Who leaves acts in another tenant of theirs from now on; with none left, in none until they make
 * one or are added to one. */
static const char sql_default_gone[] =
    "UPDATE users SET default_tenant_id = coalesce((SELECT min(tenant_id) FROM tenant_members"
    " WHERE user_id = $1), '') WHERE id = $1 AND default_tenant_id = $2";
static const char sql_pinned_gone[] =
    "DELETE FROM identity_keys WHERE user_id = $1 AND tenant_id = $2";

int member_remove(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;
    struct uuid user;

    TRY(tenant_target(c, ROLE_VIEWER, &t, &role, e));
    TRY(member_target(c, &t, role, false, &user, e));
    TRY(db_exec(c->db, "DELETE FROM tenant_members WHERE tenant_id = $1 AND user_id = $2",
                ARGS(A(&t.id), A(&user)), e));
    TRY(db_exec(c->db, sql_default_gone, ARGS(A(&user), A(&t.id)), e));
    TRY(db_exec(c->db, sql_pinned_gone, ARGS(A(&user), A(&t.id)), e));
    struct member m = { .tenant_id = t.id, .user_id = user };
    TRY(call_event(c, "tenant.member-removed", &member_record, &m, e));
    call_revoke(c, &user, NULL);
    return reply_deleted(c, "member removed");
}
