/* SPDX-License-Identifier: Apache-2.0 */
/* Invitations: an address that is not registered yet is asked to a tenant by a mailed token, which
 * proves the address and lets its holder register.
 *
 * A mail goes to whom an admin names, so what can be sent has bounds: of a tenant in a week, to an
 * address in an hour.  What is withdrawn or used still counts. */
#include "services/identity/identity_private.h"

enum { INVITE_DAYS = 7 };

/* clang-format off */
#define T struct invite
static const struct field invite_fields[] = {
    FIELD_UUID(T, id,         0, .doc = "Given by the server."),
    FIELD_REF (T, tenant_id,  tenant_ref, FF_ALWAYS, .doc = "Tenant."),
    FIELD_STR (T, email,      FF_ALWAYS, .doc = "Who was invited."),
    FIELD_ENUM(T, role,       enum role, 0, .names = role_names, .doc = "What they will be."),
    FIELD_STR (T, hash,       FF_SECRET, .doc = "Of the token."),
    FIELD_TIME(T, created_at, FF_ALWAYS, .doc = "When they were invited."),
    FIELD_TIME(T, expires_at, FF_ALWAYS, .doc = "Until when the token is good."),
};
#undef T
/* clang-format on */
const struct record invite_record =
    RECORD(invite, "tenant_invites", invite_fields, .prefix = "inv");

/* ---- inviting */

static const char sql_old[] =
    "DELETE FROM tenant_invites WHERE tenant_id = $1 AND created_at <= $2 AND expires_at <= $3";
static const char sql_of_tenant[] =
    "SELECT count(*) FROM tenant_invites WHERE tenant_id = $1 AND created_at > $2";
static const char sql_pending[] =
    "SELECT count(*) FROM tenant_invites WHERE tenant_id = $1 AND email = $2 AND expires_at > $3";
static const char sql_to_address[] =
    "SELECT count(*) FROM tenant_invites WHERE email = $1 AND created_at > $2";

/* Under the lock of the tenant's row. */
static int invite_allowed(struct call *c, const struct tenant *t, const char *email, struct err *e)
{
    int64_t week = c->now - DAYS(INVITE_DAYS), n;

    TRY(db_exec(c->db, sql_old, ARGS(A(&t->id), A(week), A(c->now)), e));
    TRY(db_int(c->db, sql_pending, ARGS(A(&t->id), A(email), A(c->now)), 0, &n, e));
    if (n)
        return err_set(e, ERR_ALREADY_EXISTS, "This address was invited already");
    TRY(db_int(c->db, sql_of_tenant, ARGS(A(&t->id), A(week)), 0, &n, e));
    if (n >= INVITES_A_WEEK)
        return err_set(e, ERR_QUOTA_EXCEEDED, "A tenant invites at most %d addresses a week",
                       INVITES_A_WEEK);
    TRY(db_int(c->db, sql_to_address, ARGS(A(email), A(c->now - HOURS(1))), 0, &n, e));
    if (n >= MAILS_AN_HOUR)
        return err_set(e, ERR_QUOTA_EXCEEDED, "This address is sent at most %d invitations an hour",
                       MAILS_AN_HOUR);
    return 0;
}

int invite_make(struct call *c, const struct tenant *t, const char *email, enum role role,
                struct err *e)
{
    const char *at = mail_address(c);
    struct invite i = { .tenant_id = t->id, .email = email, .role = role, .created_at = c->now };
    char token[SECRET_MAX], hash[65];

    TRY(invite_allowed(c, t, email, e));
    uuid_new(app_clock(c->app), &i.id);
    secret_new("invite_", token);
    app_hash_secret(c->app, str_of(token), hash);
    i.hash = hash;
    i.expires_at = c->now + DAYS(INVITE_DAYS);
    TRY(db_insert(c->db, c->arena, &invite_record, &i, e));
    const char *text = arena_printf(
        c->arena,
        "Hello,\n\n%s invites you to the tenant '%s' at %s.\nThis token lets you register with this"
        " address, once, within %d days:\n\n    %s\n\nThis command asks for it and for a"
        " password:\n\n    brume --url %s auth register --email ADDRESS --name NAME --invitation -\n\n"
        "Or send it as 'invitation' beside your email, password and name to\nPOST"
        " %s/auth/register. If you do not know what this is about, do nothing.\n",
        c->who->actor, t->slug, at, INVITE_DAYS, token, at, at);
    return mail_queue(c, email, "You are invited", text, e);
}

/* ---- seeing and withdrawing */

static const char sql_list[] =
    "SELECT @ FROM tenant_invites WHERE tenant_id = $1 AND expires_at > $2"
    " AND NOT EXISTS (SELECT 1 FROM users u WHERE u.email = tenant_invites.email)";

int invite_list(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;

    TRY(tenant_target(c, ROLE_ADMIN, &t, &role, e));
    return list_query(c, sql_list, ARGS(A(&t.id), A(c->now)), e);
}

int invite_withdraw(struct call *c, struct err *e)
{
    struct tenant t;
    enum role role;
    struct uuid id;
    int64_t n;

    TRY(tenant_target(c, ROLE_ADMIN, &t, &role, e));
    TRY(call_param_id(c, "invitation_id", &invite_record, &id, e));
    TRY(db_exec_n(c->db,
                  "UPDATE tenant_invites SET expires_at = 0"
                  " WHERE id = $1 AND tenant_id = $2 AND expires_at > $3",
                  ARGS(A(&id), A(&t.id), A(c->now)), &n, e));
    if (!n)
        return err_set(e, ERR_NOT_FOUND, "There is no such invitation");
    return reply_deleted(c, "invitation withdrawn");
}

/* ---- registering by one */

static const char sql_good[] = "SELECT @ FROM tenant_invites WHERE hash = $1 AND expires_at > $2";

int invite_look(struct call *c, const char *token, const char *email, struct invite *out,
                struct err *e)
{
    char hash[65];
    struct rows got = { 0 };

    if (secret_check("invite_", str_of(token))) {
        app_hash_secret(c->app, str_of(token), hash);
        TRY(db_query(c->db, c->arena, &invite_record, sql_good,
                     ARGS(A((const char *)hash), A(c->now)), &got, e));
    }
    if (!got.n)
        fault_add(c, "invitation", "not_allowed",
                  "is not valid, was used or withdrawn, or is older than %d days", INVITE_DAYS);
    else if (strcmp(((struct invite *)got.v)->email, email) != 0)
        fault_add(c, "email", "not_allowed", "is not the address that was invited");
    else
        *out = *(struct invite *)got.v;
    return call_faults(c, e);
}

static const char sql_use[] =
    "UPDATE tenant_invites SET expires_at = 0 WHERE email = $1 AND expires_at > $2 RETURNING @";

/* By what was still good when it was marked used: another transaction may have withdrawn one since
 * the look. */
int invite_use(struct call *c, const struct invite *by, const struct uuid *user, struct err *e)
{
    struct rows got;
    bool own = false;

    /* Whose address is proved is a member wherever it was asked to be. */
    TRY(db_query(c->db, c->arena, &invite_record, sql_use, ARGS(A(by->email), A(c->now)), &got, e));
    for (size_t i = 0; i < got.n; i++) {
        const struct invite *one = (struct invite *)got.v + i;

        own |= uuid_eq(&one->id, &by->id);
        TRY(member_insert(c, &one->tenant_id, user, one->role, e));
    }
    return own ? 0 : err_set(e, ERR_BUSY, "Invitations are being changed: try again");
}
