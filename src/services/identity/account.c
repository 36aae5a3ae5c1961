/* SPDX-License-Identifier: Apache-2.0 */
/* Users: register, log in, forget and reset a password.
 *
 * An answer must not tell whether an address is known: not by its words, its status or its time. So
 * an unknown address costs a hash too, and a mail is sent later, by a loop. */
#include "drivers/mail/mail.h"
#include "services/identity/identity_private.h"

enum { RESET_MINUTES = 30, LOCK_MINUTES = 15, LOCK_FAILURES = 5, MAIL_HOURS = 24 };

static const struct enum_name user_status_names[] = { { USER_ACTIVE, "active" },
                                                      { USER_SUSPENDED, "suspended" },
                                                      { 0 } };

/* clang-format off */
#define T struct user
static const struct field user_fields[] = {
    FIELD_UUID(T, id,                0, .doc = "Given by the server."),
    FIELD_STR (T, email,             FF_ALWAYS, .doc = "Address, in lower case."),
    FIELD_STR (T, name,              FF_ALWAYS, .doc = "For people."),
    FIELD_STR (T, password_hash,     FF_SECRET, .doc = "argon2id."),
    FIELD_ENUM(T, status,            enum user_status, 0, .names = user_status_names, .doc = "active or suspended."),
    FIELD_BOOL(T, operator,          0, .doc = "Runs this installation."),
    FIELD_BOOL(T, email_verified,    0, .doc = "The address was proved to be theirs."),
    FIELD_REF (T, default_tenant_id, tenant_ref, 0, .doc = "Tenant their requests act in."),
    FIELD_INT (T, revision,          FF_HIDDEN, .doc = "Counts its changes."),
    FIELD_TIME(T, created_at,        FF_ALWAYS, .doc = "When they registered."),
    FIELD_TIME(T, updated_at,        FF_ALWAYS, .doc = "When it was last changed."),
    FIELD_REF (T, tenant_id,         tenant_ref, FF_VIRTUAL, .doc = "Tenant this request acts in."),
    FIELD_ENUM(T, role,              enum role, FF_VIRTUAL, .names = role_names, .doc = "Role in it."),
};
#undef T
/* clang-format on */
const struct record user_record = RECORD(user, "users", user_fields, .prefix = "usr");

struct register_in {
    const char *email, *password, *name, *invitation;
};
struct login_in {
    const char *email, *password;
};
struct forgot_in {
    const char *email;
};
struct reset_in {
    const char *token, *new_password;
};
/* clang-format off */
static const struct field register_fields[] = {
    FIELD_STR(struct register_in, email,    FF_CREATE | FF_REQUIRED, .min = 3, .max = 255, .form = &form_email, .doc = "Address."),
    FIELD_STR(struct register_in, password, FF_CREATE | FF_REQUIRED | FF_SECRET, .min = PASSWORD_MIN, .max = PASSWORD_MAX, .doc = "8 to 128 bytes.", .example = "seven green kites"),
    FIELD_STR(struct register_in, name,     FF_CREATE | FF_REQUIRED, .min = 1, .max = 100, .doc = "For people.", .example = "Ada"),
    FIELD_STR(struct register_in, invitation, FF_CREATE | FF_SECRET, .min = 1, .max = 128, .doc = "Token of an invitation to this address, from the mail."),
};
static const struct field login_fields[] = {
    FIELD_STR(struct login_in, email,    FF_CREATE | FF_REQUIRED, .min = 3, .max = 255, .form = &form_email, .doc = "Address."),
    FIELD_STR(struct login_in, password, FF_CREATE | FF_REQUIRED | FF_SECRET, .min = 1, .max = 1024, .doc = "Password.", .example = "seven green kites"),
};
static const struct field forgot_fields[] = {
    FIELD_STR(struct forgot_in, email, FF_CREATE | FF_REQUIRED, .min = 3, .max = 255, .form = &form_email, .doc = "Address."),
};
static const struct field reset_fields[] = {
    FIELD_STR(struct reset_in, token,        FF_CREATE | FF_REQUIRED | FF_SECRET, .min = 1, .max = 128, .doc = "From the mail.", .example = "0vnRkLQ2p5bT"),
    FIELD_STR(struct reset_in, new_password, FF_CREATE | FF_REQUIRED | FF_SECRET, .min = PASSWORD_MIN, .max = PASSWORD_MAX, .doc = "8 to 128 bytes.", .example = "seven green kites"),
};
/* clang-format on */

struct registered {
    const char *message;
    struct uuid user_id;
};
struct login_user {
    struct uuid id;
    const char *email, *name;
};
struct login_answer {
    const void *user; /* struct login_user */
    const char *api_key;
};
/* clang-format off */
static const struct field registered_fields[] = {
    FIELD_STR(struct registered, message, FF_ALWAYS, .doc = "What was done."),
    FIELD_REF(struct registered, user_id, user_ref, FF_ALWAYS, .doc = "User that there is now."),
};
static const struct field login_user_fields[] = {
    FIELD_UUID(struct login_user, id,    0,         .doc = "Of the user."),
    FIELD_STR (struct login_user, email, FF_ALWAYS, .doc = "Address."),
    FIELD_STR (struct login_user, name,  FF_ALWAYS, .doc = "For people."),
};
static const struct record login_user_record = RECORD(login_user, NULL, login_user_fields, .prefix = "usr");
static const struct field logged_in_fields[] = {
    FIELD_ROW(struct login_answer, user,    login_user_record, FF_ALWAYS, .doc = "Who has logged in."),
    FIELD_STR(struct login_answer, api_key, FF_ALWAYS, .doc = "A key for further requests; shown once."),
};
/* clang-format on */
const struct record registered_record = RECORD(registered, NULL, registered_fields);
const struct record logged_in_record = RECORD(login_answer, NULL, logged_in_fields);

const struct record register_record = RECORD(register_in, NULL, register_fields);
const struct record login_record = RECORD(login_in, NULL, login_fields);
const struct record forgot_record = RECORD(forgot_in, NULL, forgot_fields);
const struct record reset_record = RECORD(reset_in, NULL, reset_fields);

int need_user(struct call *c, struct err *e)
{
    if (uuid_is_nil(&c->who->user_id))
        return err_set(e, ERR_FORBIDDEN,
                       "This is about a person: use a user's key, not a project's");
    return 0;
}

int user_lock(struct call *c, const struct uuid *id, struct err *e)
{
    int64_t found;

    return db_int(c->db, "SELECT 1 FROM users WHERE id = $1 /*pg: FOR NO KEY UPDATE */",
                  ARGS(A(id)), 0, &found, e);
}

/* ---- register */

static int user_insert(struct call *c, struct user *u, struct err *e)
{
    u->status = USER_ACTIVE;
    u->revision = 1;
    u->created_at = u->updated_at = c->now;
    if (db_insert(c->db, c->arena, &user_record, u, e) < 0)
        return e->code == ERR_ALREADY_EXISTS
                   ? err_set(e, ERR_ALREADY_EXISTS, "A user with this address exists already")
                   : -1;
    return call_event(c, "user.created", &user_record, u, e);
}

int user_make(struct call *c, struct user *u, const char *tenant_name, const char *plan,
              struct err *e)
{
    struct tenant t = { .name = tenant_name, .plan = plan };

    uuid_new(app_clock(c->app), &u->id);
    uuid_new(app_clock(c->app), &t.id);
    u->default_tenant_id = t.id;
    TRY(user_insert(c, u, e));
    return tenant_make(c, &t, &u->id, e);
}

/* Who was invited is at home where they were asked to. */
static int user_invited(struct call *c, struct user *u, struct err *e)
{
    const struct register_in *in = c->in;
    struct invite by;

    TRY(invite_look(c, in->invitation, in->email, &by, e));
    uuid_new(app_clock(c->app), &u->id);
    u->default_tenant_id = c->tenant = by.tenant_id;
    u->email_verified = true;
    TRY(user_insert(c, u, e));
    return invite_use(c, &by, &u->id, e);
}

static int register_write(struct call *c, struct err *e)
{
    const struct register_in *in = c->in;
    struct user u = { .email = in->email, .name = in->name, .password_hash = c->body.p };

    TRY(in->invitation ? user_invited(c, &u, e)
                       : user_make(c, &u, in->name, identity_registration_plan(c->app), e));
    call_audit_object(c, "user", &u.id);
    struct registered out = { "user created successfully", u.id };
    return reply_row(c, &registered_record, &out);
}

/* Hashes into c->body, where the transaction finds it. */
static int hash_password(struct call *c, const char *password, struct err *e)
{
    const char *hash = app_password_hash(c->app, c->arena, password);

    if (!hash)
        return err_set(e, ERR_OVERLOADED, "There is no memory to check a password: try again");
    c->body = str_of(hash);
    return 0;
}

static void password_check(struct call *c, const char *field, const char *password,
                           const char *email, const char *name)
{
    const char *fault =
        password ? password_fault(c->app, password, email ? email : "", name ? name : "") : NULL;

    if (fault)
        fault_add(c, field, "not_allowed", "%s", fault);
}

void account_register_check(struct call *c)
{
    const struct register_in *in = c->in;

    password_check(c, "password", in->password, in->email, in->name);
}

static int may_register(struct call *c, struct err *e)
{
    const char *who = identity_registration(c->app);
    const struct register_in *in = c->in;
    struct invite by;

    if (strcmp(who, "off") == 0)
        return err_set(e, ERR_FORBIDDEN, "Nobody registers here: ask who runs this");
    if (in->invitation)
        return invite_look(c, in->invitation, in->email, &by, e);
    if (strcmp(who, "open") != 0)
        return err_set(e, ERR_FORBIDDEN,
                       "Only who was invited registers here: an admin of a tenant adds your"
                       " address to its members");
    return 0;
}

int account_register(struct call *c, struct err *e)
{
    const struct register_in *in = c->in;

    TRY(may_register(c, e));
    TRY(hash_password(c, in->password, e));
    return call_write(c, register_write, e);
}

/* ---- log in */

static const char sql_by_email[] = "SELECT @ FROM users WHERE email = $1";
static const char sql_by_email_locked[] =
    "SELECT @ FROM users WHERE email = $1 /*pg: FOR NO KEY UPDATE */";

/* 0 and *found false if nobody has it. */
static int user_by_email(struct db *db, struct arena *a, const char *email, struct user *out,
                         bool *found, struct err *e)
{
    struct rows got;

    TRY(db_query(db, a, &user_record, sql_by_email, ARGS(A(email)), &got, e));
    *found = got.n == 1;
    if (*found)
        *out = *(struct user *)got.v;
    return 0;
}

static const char sql_locked[] = "SELECT locked_until FROM login_failures WHERE email = $1";
/* The fifth failure within the window locks; a window that is over begins anew. */
static const char sql_failure[] =
    "INSERT INTO login_failures (email, failures, first_at, locked_until) VALUES ($1, 1, $2, 0)"
    " ON CONFLICT (email) DO UPDATE SET"
    " failures = CASE WHEN login_failures.first_at <= $3 THEN 1"
    "                 ELSE login_failures.failures + 1 END,"
    " first_at = CASE WHEN login_failures.first_at <= $3 THEN $2"
    "                 ELSE login_failures.first_at END,"
    " locked_until = CASE WHEN login_failures.first_at > $3 AND login_failures.failures + 1 >= $4"
    "                     THEN $5 ELSE login_failures.locked_until END";
static const char sql_forgive[] = "DELETE FROM login_failures WHERE email = $1 OR first_at <= $2";

static int login_failed(struct call *c, struct err *e)
{
    const struct login_in *in = c->in;

    return db_exec(c->db, sql_failure,
                   ARGS(A(in->email), A(c->now), A(c->now - MINUTES(LOCK_MINUTES)),
                        A((int64_t)LOCK_FAILURES), A(c->now + MINUTES(LOCK_MINUTES))),
                   e);
}

static int login_locked(struct call *c, const char *email, struct err *e)
{
    int64_t until;

    TRY(db_int(c->db, sql_locked, ARGS(A(email)), 0, &until, e));
    if (until <= c->now)
        return 0;
    reply_header(c, "Retry-After",
                 arena_printf(c->arena, "%lld", (long long)((until - c->now) / SECONDS(1)) + 1));
    return err_set(e, ERR_RATE_LIMITED,
                   "Too many failed log-ins: this address is locked for a while");
}

static const char sql_old_logins[] =
    "DELETE FROM identity_keys WHERE id IN (SELECT id FROM identity_keys"
    " WHERE user_id = $1 AND kind = 'login' ORDER BY created_at DESC, id DESC"
    " LIMIT /*lite: -1 */ /*pg: ALL */ OFFSET $2)";

/* What was verified must still hold: the password may have been reset, or the address locked,
 * since. The user's row is locked, so that a reset ends this log-in too. c->body is the hash that
 * fitted. */
static int login_write(struct call *c, struct err *e)
{
    const struct login_in *in = c->in;
    struct user u;
    struct rows got;
    struct key k = { .name = "login" };

    TRY(login_locked(c, in->email, e));
    TRY(db_query(c->db, c->arena, &user_record, sql_by_email_locked, ARGS(A(in->email)), &got, e));
    if (got.n == 1)
        u = *(struct user *)got.v;
    if (got.n != 1 || u.status != USER_ACTIVE || strcmp(u.password_hash, c->body.p) != 0)
        return err_set(e, ERR_UNAUTHORIZED, "Wrong address or password");
    TRY(key_insert(c, &k, KEY_LOGIN, &u.id, e));
    TRY(db_exec(c->db, sql_old_logins, ARGS(A(&u.id), A((int64_t)LOGIN_KEYS)), e));
    TRY(db_exec(c->db, sql_forgive, ARGS(A(in->email), A(c->now - DAYS(1))), e));
    call_revoke(c, &u.id, NULL);
    call_audit_object(c, "user", &u.id);
    struct login_user who = { u.id, u.email, u.name };
    struct login_answer out = { &who, k.key };
    return reply_row(c, &logged_in_record, &out);
}

int account_login(struct call *c, struct err *e)
{
    const struct login_in *in = c->in;
    struct user u;
    bool found;

    TRY(login_locked(c, in->email, e));
    TRY(user_by_email(c->db, c->arena, in->email, &u, &found, e));
    if (!app_password_verify(c->app, found ? u.password_hash : NULL, in->password) || !found ||
        u.status != USER_ACTIVE) {
        TRY(call_write(c, login_failed, e));
        return err_set(e, ERR_UNAUTHORIZED, "Wrong address or password");
    }
    c->body = str_of(u.password_hash);
    return call_write(c, login_write, e);
}

/* ---- forgotten */

struct mail_row {
    struct uuid id;
    const char *address, *subject, *sealed;
    int64_t expires_at;
    const char *text;
};
/* clang-format off */
static const struct field mail_fields[] = {
    FIELD_UUID(struct mail_row, id,         0, .doc = "Given by the server."),
    FIELD_STR (struct mail_row, address,    0, .doc = "Where it goes."),
    FIELD_STR (struct mail_row, subject,    0, .doc = "Its subject."),
    FIELD_STR (struct mail_row, sealed,     FF_SECRET, .doc = "Its text, as releases before 'text' sealed it; else empty."),
    FIELD_TIME(struct mail_row, expires_at, 0, .doc = "When it is of no use any more."),
    FIELD_STR (struct mail_row, text,       FF_SECRET | FF_SEALED, .max = 16384, .doc = "Its text."),
};
/* clang-format on */
static const struct record mail_record = RECORD(mail_row, "mails", mail_fields);

const char *mail_address(struct call *c)
{
    const char *url = config_public_url(app_config(c->app), c->arena);

    return *url ? url : "<the cloud's address>";
}

int mail_queue(struct call *c, const char *address, const char *subject, const char *text,
               struct err *e)
{
    struct mail_row m = { .address = address,
                          .subject = subject,
                          .sealed = "",
                          .text = text,
                          .expires_at = c->now + HOURS(MAIL_HOURS) };

    uuid_new(app_clock(c->app), &m.id);
    TRY(db_insert(c->db, c->arena, &mail_record, &m, e));
    return call_due(c, &mail_loop, &m.id, c->now, e);
}

static const char sql_reset_new[] =
    "INSERT INTO password_resets (hash, user_id, expires_at) VALUES ($1, $2, $3)";
static const char sql_reset_old[] =
    "DELETE FROM password_resets WHERE user_id = $1 OR expires_at < $2";

/* Returns how many mails this user has been sent in the hour that began with the first of them. */
static const char sql_reset_mails[] =
    "INSERT INTO reset_mails (user_id, mails, first_at) VALUES ($1, 1, $2)"
    " ON CONFLICT (user_id) DO UPDATE SET"
    " mails = CASE WHEN reset_mails.first_at <= $3 THEN 1 ELSE reset_mails.mails + 1 END,"
    " first_at = CASE WHEN reset_mails.first_at <= $3 THEN $2 ELSE reset_mails.first_at END"
    " RETURNING mails";

static int forgot_write(struct call *c, struct err *e)
{
    static const char answer[] = "If the email exists, a reset token has been sent.";
    const struct forgot_in *in = c->in;
    struct user u;
    bool found;
    int64_t mails;
    char token[SECRET_MAX], hash[65];

    TRY(user_by_email(c->db, c->arena, in->email, &u, &found, e));
    secret_new("reset_", token);
    app_hash_secret(c->app, str_of(token), hash);
    if (!found || u.status != USER_ACTIVE)
        return reply_message(c, "%s", answer);
    /* No mailbox is filled, and the tokens that are there stay good. */
    TRY(db_int(c->db, sql_reset_mails, ARGS(A(&u.id), A(c->now), A(c->now - HOURS(1))), 0, &mails,
               e));
    if (mails > MAILS_AN_HOUR)
        return reply_message(c, "%s", answer);
    const char *at = mail_address(c);
    const char *text = arena_printf(
        c->arena,
        "Hello %s,\n\nthis token sets a new password at %s, once, within %d minutes:\n\n"
        "    %s\n\nThis command asks for it and for the new password:\n\n"
        "    brume --url %s auth reset-password\n\n"
        "Or send it as 'token' beside 'new_password' to POST %s/auth/reset-password.\n"
        "If you did not ask for it, nothing has changed.\n",
        u.name, at, RESET_MINUTES, token, at, at);
    TRY(db_exec(c->db, sql_reset_old, ARGS(A(&u.id), A(c->now)), e));
    TRY(db_exec(c->db, sql_reset_new, ARGS(A(hash), A(&u.id), A(c->now + MINUTES(RESET_MINUTES))),
                e));
    TRY(mail_queue(c, in->email, "Reset your password", text, e));
    return reply_message(c, "%s", answer);
}

int account_forgot(struct call *c, struct err *e)
{
    return call_write(c, forgot_write, e);
}

static int mail_gone(struct call *c, void *arg, struct err *e)
{
    return db_exec(c->db, "DELETE FROM mails WHERE id = $1", ARGS(A((const struct uuid *)arg)), e);
}

static int mail_visit(struct visit *v, struct err *e)
{
    const struct mail_row *m = v->row;
    struct str old;

    if (!m)
        return visit_forget(v);
    if (m->expires_at > v->now) {
        if (!m->text)
            TRY(app_unseal(v->app, v->arena, m->sealed, str_of(m->id.s), &old, e));
        struct mail_message msg = { .to = m->address,
                                    .subject = m->subject,
                                    .text = m->text ? m->text : old.p,
                                    .id = m->id.s };
        TRY(mail_send(app_mail(v->app), &msg, e));
    }
    TRY(app_write(v->app, mail_gone, &v->id, e));
    return visit_forget(v);
}

const struct reconciler mail_loop = {
    .name = "mail",
    .record = &mail_record,
    .visit = mail_visit,
    .budget = SECONDS(25),
    .backoff = { SECONDS(5), MINUTES(10) },
    .sweep = "SELECT id FROM mails",
};

/* ---- reset */

static const char sql_reset_take[] =
    "DELETE FROM password_resets WHERE hash = $1 AND expires_at > $2 RETURNING user_id";
static const char sql_password[] =
    "UPDATE users SET password_hash = $2, revision = users.revision + 1, updated_at = $3"
    " WHERE id = $1";
static const char sql_resets_gone[] = "DELETE FROM password_resets WHERE user_id = $1";
static const char sql_logins_gone[] =
    "DELETE FROM identity_keys WHERE user_id = $1 AND kind = 'login'";

static int bad_token(struct call *c, struct err *e)
{
    fault_add(c, "token", "not_allowed",
              "is not valid, was used already, or is older than 30 minutes");
    return call_faults(c, e);
}

static int reset_write(struct call *c, struct err *e)
{
    const struct reset_in *in = c->in;
    struct uuid user = { 0 };
    char hash[65];

    app_hash_secret(c->app, str_of(in->token), hash);
    TRY(db_each(c->db, sql_reset_take, ARGS(A((const char *)hash), A(c->now)), take_uuid, &user,
                e));
    if (uuid_is_nil(&user))
        return bad_token(c, e);
    TRY(db_exec(c->db, sql_password, ARGS(A(&user), A(c->body.p), A(c->now)), e));
    TRY(db_exec(c->db, sql_resets_gone, ARGS(A(&user)), e));
    TRY(db_exec(c->db, sql_logins_gone, ARGS(A(&user)), e));
    call_revoke(c, &user, NULL);
    call_audit_object(c, "user", &user);
    return reply_message(c, "password updated successfully");
}

void account_reset_check(struct call *c)
{
    const struct reset_in *in = c->in;

    password_check(c, "new_password", in->new_password, NULL, NULL);
}

int account_reset(struct call *c, struct err *e)
{
    const struct reset_in *in = c->in;

    if (!secret_check("reset_", str_of(in->token)))
        return bad_token(c, e);
    TRY(hash_password(c, in->new_password, e));
    return call_write(c, reset_write, e);
}

/* ---- me */

int account_me(struct call *c, struct err *e)
{
    struct user u;

    TRY(need_user(c, e));
    TRY(db_one(c->db, c->arena, &user_record, "SELECT @ FROM users WHERE id = $1",
               ARGS(A(&c->who->user_id)), &u, e));
    u.tenant_id = c->tenant;
    u.role = c->who->role;
    return reply_row(c, &user_record, &u);
}
