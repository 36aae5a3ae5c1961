/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of identity share: users and log-in (account.c), keys (key.c), tenants and their
 * members (tenant.c), which passwords are good (password.c), and who presents a credential
 * (identity.c). */

#include "codec/id.h"
#include "core/config/config.h"
#include "services/identity/identity.h"

enum user_status { USER_ACTIVE, USER_SUSPENDED };
struct user {
    struct uuid id;
    const char *email, *name, *password_hash;
    enum user_status status;
    bool operator, email_verified;
    struct uuid default_tenant_id;
    int64_t revision, created_at, updated_at;
    struct uuid tenant_id; /* the one this request acts in */
    enum role role;        /* in it */
};
extern const struct record user_record;

enum tenant_status { TENANT_ACTIVE, TENANT_SUSPENDED };
struct tenant {
    struct uuid id;
    const char *name, *slug;
    struct uuid owner_id;
    const char *plan;
    enum tenant_status status;
    int64_t revision, created_at, updated_at;
};
extern const struct record tenant_record;
extern const struct quota quota_tenants;

enum key_kind { KEY_USER, KEY_LOGIN, KEY_PROJECT };
enum key_status { KEY_ACTIVE, KEY_EXPIRED };
struct key {
    struct uuid id, user_id, tenant_id, project_id;
    enum mode mode;
    enum key_kind kind;
    const char *name, *prefix, *last4, *hash, *old_hash;
    int64_t old_until;
    const char *scopes, *allowed_ips; /* JSON lists */
    int64_t expires_at, last_used, revision, created_at, updated_at;
    const char *key; /* the secret, shown once */
    enum key_status status;
};
extern const struct record key_record;

enum { LOGIN_KEYS = 20, LOGIN_IDLE_DAYS = 30, USER_KEYS = 100, KEYS_PAGE = 200 };
enum { INVITES_A_WEEK = 100 };

/* Fills a new key's secret parts; 'prefix' is "thecloud_", "sk_live_" or "sk_test_". */
void key_secret(struct app *app, struct arena *a, const char *prefix, struct key *k);
/* Inserts a key of 'kind' for a user; name and limits are in 'k'. */
int key_insert(struct call *c, struct key *k, enum key_kind kind, const struct uuid *user_id,
               struct err *e) _must_check_;
void key_create_check(struct call *c);
int key_create(struct call *c, struct err *e);
int key_list(struct call *c, struct err *e);
int key_delete(struct call *c, struct err *e);
int key_rotate(struct call *c, struct err *e);
extern const struct record key_rotate_record;

/* The tenant in the path and the caller's role in it; 404 for who is no member, 403 for whose role
 * is less.  Who writes has its row locked first: memberships are read and changed under it. */
int tenant_target(struct call *c, enum role least, struct tenant *out, enum role *role,
                  struct err *e) _must_check_;
/* A member without an event of their own: 1; 0: they are one already, and stay as they are. */
int member_insert(struct call *c, const struct uuid *tenant, const struct uuid *user,
                  enum role role, struct err *e) _must_check_;

struct invite {
    struct uuid id, tenant_id;
    const char *email;
    enum role role;
    const char *hash;
    int64_t created_at, expires_at;
};
extern const struct record invite_record;
/* Asks an address that nobody is registered by, by mail.  409: asked already; 403: too many. */
int invite_make(struct call *c, const struct tenant *t, const char *email, enum role role,
                struct err *e) _must_check_;
/* The invitation of that token to that address, or faults. */
int invite_look(struct call *c, const char *token, const char *email, struct invite *out,
                struct err *e) _must_check_;
/* The new user is a member of each tenant that asked for this address. */
int invite_use(struct call *c, const struct invite *by, const struct uuid *user,
               struct err *e) _must_check_;
int invite_list(struct call *c, struct err *e);
int invite_withdraw(struct call *c, struct err *e);

/* A tenant with its owner. 'slug' NULL: made from the name. 'plan' is given. */
int tenant_make(struct call *c, struct tenant *t, const struct uuid *owner,
                struct err *e) _must_check_;
/* Who is in no tenant acts in this one from now on. */
int tenant_adopt(struct call *c, const struct uuid *user, const struct uuid *tenant,
                 struct err *e) _must_check_;
int tenant_create(struct call *c, struct err *e);
int tenant_list(struct call *c, struct err *e);
int tenant_get(struct call *c, struct err *e);
int tenant_switch(struct call *c, struct err *e);
int member_list(struct call *c, struct err *e);
int member_add(struct call *c, struct err *e);
int member_update(struct call *c, struct err *e);
int member_remove(struct call *c, struct err *e);
extern const struct record member_record;

void account_register_check(struct call *c);
int account_register(struct call *c, struct err *e);
int account_login(struct call *c, struct err *e);
int account_forgot(struct call *c, struct err *e);
void account_reset_check(struct call *c);
int account_reset(struct call *c, struct err *e);
int account_me(struct call *c, struct err *e);
extern const struct record register_record, login_record, forgot_record, reset_record;
extern const struct record registered_record, logged_in_record;
extern const struct reconciler mail_loop;

/* A new user with a tenant of that plan; ERR_ALREADY_EXISTS when the address is taken. */
int user_make(struct call *c, struct user *u, const char *tenant_name, const char *plan,
              struct err *e) _must_check_;

/* The cloud's address as mails tell it. */
const char *mail_address(struct call *c);
/* A mail that is sent once this has committed. */
enum { MAILS_AN_HOUR = 3 }; /* of a kind to one address, whoever asks */
int mail_queue(struct call *c, const char *address, const char *subject, const char *text,
               struct err *e) _must_check_;

/* Locks the user's row to the end of the transaction: what is counted of theirs stays so. */
int user_lock(struct call *c, const struct uuid *id, struct err *e) _must_check_;

/* 403 for a project key: these routes are about a person. */
int need_user(struct call *c, struct err *e) _must_check_;

enum { PASSWORD_MIN = 8, PASSWORD_MAX = 128 };
/* NULL, or what is wrong with it in a client's words. */
const char *password_fault(struct app *app, const char *password, const char *email,
                           const char *name);
/* An address, in lower case afterwards. */
extern const struct form form_email;

/* ---- settings.c */
extern const struct settings identity_settings;
/* Who may register, "open", "invite" or "off", and the plan of who does so uninvited: as set, else
 * by where the API listens now. */
const char *identity_registration(struct app *app);
const char *identity_registration_plan(struct app *app);
/* Whether passwords must be strong, not only long. */
bool identity_strong_passwords(struct app *app);
