/* SPDX-License-Identifier: Apache-2.0 */
/* Who may register, who is invited, and what is mailed. */
#include "core/config/config.h"
#include "tests/world.h"

/* Registers an address and logs it in; its key. */
static const char *person(struct world *w, const char *email)
{
    ask(w, POST, "/auth/register", "", NULL,
        fmt("{'email':'%s','password':'long enough','name':'Some Body'}", email));
    return member(ask(w, POST, "/auth/login", "", NULL,
                      fmt("{'email':'%s','password':'long enough'}", email)),
                  "api_key");
}

/* What registering allows from now on. */
static void may_register(struct world *w, const char *who, const char *plan)
{
    world_reload(w, fmt("identity: {registration: \"%s\", registration_plan: \"%s\"}", who, plan));
}

static struct reply registers(struct world *w, const char *email, const char *token)
{
    return ask(w, POST, "/auth/register", "", NULL,
               fmt("{'email':'%s','password':'correct-Horse-7','name':'n'%s%s%s}", email,
                   token ? ",'invitation':'" : "", token ? token : "", token ? "'" : ""));
}

static const char *logs_in(struct world *w, const char *email)
{
    return member(ask(w, POST, "/auth/login", "", NULL,
                      fmt("{'email':'%s','password':'correct-Horse-7'}", email)),
                  "api_key");
}

static const char *invited(struct world *w, const char *tenant, const char *email, const char *role)
{
    struct reply r =
        post(w, fmt("/tenants/%s/members", tenant), fmt("{'email':'%s','role':'%s'}", email, role));

    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "status"), "invited");
    CHECK(member(r, "user_id") == NULL);
    world_settle(w);
    CHECK(strstr(world_mail(w), "brume --url http://127.0.0.1:") != NULL);
    return fmt("%.47s", strstr(world_mail(w), "invite_"));
}

TEST(where_it_listens_says_who_may_register_and_how_good_a_password_is)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const char body[] = "{'email':'%s','password':'password','name':'x'}";

    world_key(w, AS_OWNER);
    CHECK_EQ(registers(w, "a@example.com", NULL).status, 201);
    CHECK_EQ(ask(w, POST, "/auth/register", "", NULL, fmt(body, "b@example.com")).status, 201);
    world_reload(w, "identity: {password_policy: strong}");
    CHECK_EQ(ask(w, POST, "/auth/register", "", NULL, fmt(body, "c@example.com")).status, 400);
    world_reload(w, "server: {listen: '0.0.0.0:80', allow_plain: true}");
    CHECK_EQ(registers(w, "c@example.com", NULL).status, 403);
}

TEST(who_may_register_is_a_setting)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");

    may_register(w, "off", "");
    CHECK_EQ(registers(w, "a@example.com", NULL).status, 403);
    CHECK_EQ(post(w, fmt("/tenants/%s/members", t), "{'email':'a@example.com'}").status, 404);
    may_register(w, "invite", "");
    CHECK_EQ(registers(w, "a@example.com", NULL).status, 403);
    CHECK_EQ(registers(w, "a@example.com", "invite_nonsense").status, 400);
    world_sleep(w, MINUTES(2));
    may_register(w, "open", "starter");
    CHECK_EQ(registers(w, "a@example.com", NULL).status, 201);
    const char *key = logs_in(w, "a@example.com");
    CHECK_STR(member(ask(w, GET, "/tenants", key, NULL, NULL), "0.plan"), "starter");
    CHECK_STR(member(ask(w, POST, "/tenants", key, NULL, "{'name':'more'}"), "plan"), "starter");
    CHECK_STR(member(get(w, "/tenants"), "0.plan"), "enterprise");
}

TEST(who_is_invited_registers_once_with_their_address_and_is_a_member)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");
    const char *second = post(w, "/tenants", "{'name':'second'}").id;

    may_register(w, "invite", "");
    invited(w, second, "a@example.com", "viewer");
    const char *token = invited(w, t, "a@example.com", "admin");
    CHECK_EQ(post(w, fmt("/tenants/%s/members", t), "{'email':'A@example.com'}").status, 409);
    CHECK_EQ(get(w, "/tenants/%s/invitations", t).len, 1);
    CHECK_EQ(registers(w, "b@example.com", token).status, 400);
    CHECK_EQ(registers(w, "A@Example.com", token).status, 201);
    CHECK_EQ(registers(w, "a@example.com", token).status, 400);
    CHECK_EQ(get(w, "/tenants/%s/invitations", t).len, 0);
    const char *key = logs_in(w, "a@example.com");
    struct reply me = ask(w, GET, "/auth/me", key, NULL, NULL);
    CHECK_STR(member(me, "tenant_id"), t);
    CHECK_STR(member(me, "role"), "admin");
    CHECK_STR(member(me, "email_verified"), "true");
    CHECK_EQ(ask(w, GET, "/tenants", key, NULL, NULL).len, 2);
    CHECK_EQ(ask(w, GET, "/queues", key, fmt("X-Tenant-ID: %s", second), NULL).status, 200);
    CHECK_EQ(ask(w, POST, "/queues", key, fmt("X-Tenant-ID: %s", second), "{'name':'q'}").status,
             403);
    /* A guest makes a tenant of their own plan, not of their host's. */
    may_register(w, "invite", "starter");
    struct reply own = ask(w, POST, "/tenants", key, NULL, "{'name':'own'}");
    CHECK_STR(member(own, "plan"), "starter");
    may_register(w, "invite", "free");
    CHECK_STR(member(ask(w, POST, "/tenants", key, NULL, "{'name':'more'}"), "plan"), "starter");
    CHECK_STR(member(get(w, "/tenants"), "0.plan"), "enterprise");
}

TEST(an_invitation_ends_by_time_or_by_who_gave_it)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");

    world_key(w, AS_STRANGER);
    may_register(w, "invite", "");
    const char *token = invited(w, t, "a@example.com", "member");
    const char *id = member(get(w, "/tenants/%s/invitations", t), "0.id");
    CHECK_EQ(as(w, AS_STRANGER, DELETE, fmt("/tenants/%s/invitations/%s", t, id), NULL).status,
             404);
    CHECK_EQ(del(w, "/tenants/%s/invitations/%s", t, id).status, 200);
    CHECK_EQ(del(w, "/tenants/%s/invitations/%s", t, id).status, 404);
    CHECK_EQ(registers(w, "a@example.com", token).status, 400);
    token = invited(w, t, "a@example.com", "member");
    world_sleep(w, DAYS(7) + MINUTES(1));
    CHECK_EQ(registers(w, "a@example.com", token).status, 400);
    CHECK_EQ(get(w, "/tenants/%s/invitations", t).len, 0);
}

TEST(only_admins_see_and_withdraw_invitations_each_by_their_own_tenant)
{
    static const char *const roles[] = { "viewer", "member" };
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");
    const char *second = post(w, "/tenants", "{'name':'second'}").id;

    may_register(w, "open", "");
    invited(w, t, "asked@example.com", "member");
    const char *id = member(get(w, "/tenants/%s/invitations", t), "0.id");
    const char *list = fmt("/tenants/%s/invitations", t), *one = fmt("%s/%s", list, id);
    for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
        const char *email = fmt("%s@example.com", roles[i]);

        CHECK_EQ(registers(w, email, NULL).status, 201);
        CHECK_EQ(post(w, fmt("/tenants/%s/members", t),
                      fmt("{'email':'%s','role':'%s'}", email, roles[i]))
                     .status,
                 201);
        const char *key = logs_in(w, email);
        const char *own = member(ask(w, GET, "/auth/me", key, NULL, NULL), "tenant_id");
        CHECK_EQ(ask(w, GET, list, key, NULL, NULL).status, 403);
        CHECK_EQ(ask(w, DELETE, one, key, NULL, NULL).status, 403);
        CHECK_EQ(ask(w, DELETE, fmt("/tenants/%s/invitations/%s", own, id), key, NULL, NULL).status,
                 404);
    }
    CHECK_EQ(del(w, "/tenants/%s/invitations/%s", second, id).status, 404);
    CHECK_EQ(get(w, "/tenants/%s/invitations", t).len, 1);
    CHECK_EQ(del(w, "/tenants/%s/invitations/%s", t, id).status, 200);
}

TEST(invitations_flood_nobody)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id"), *path = fmt("/tenants/%s/members", t);

    for (int i = 0; i < 3; i++) {
        invited(w, t, "a@example.com", "member");
        const char *id = member(get(w, "/tenants/%s/invitations", t), "0.id");
        CHECK_EQ(del(w, "/tenants/%s/invitations/%s", t, id).status, 200);
    }
    struct reply r = post(w, path, "{'email':'a@example.com'}");
    CHECK_EQ(r.status, 403);
    CHECK_STR(r.code, "quota_exceeded");
    for (int i = 3; i < 100; i++)
        CHECK_EQ(post(w, path, fmt("{'email':'n%d@example.com'}", i)).status, 201);
    CHECK_EQ(post(w, path, "{'email':'last@example.com'}").status, 403);
    world_sleep(w, DAYS(7) + HOURS(1));
    CHECK_EQ(post(w, path, "{'email':'last@example.com'}").status, 201);
}

TEST(nobodys_mailbox_is_flooded)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *third = "";

    person(w, "a@example.com");
    for (int i = 0; i < 6; i++) {
        world_sleep(w, SECONDS(61));
        struct reply r =
            ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'a@example.com'}");
        CHECK_EQ(r.status, 200);
        CHECK_STR(member(r, "message"), "If the email exists, a reset token has been sent.");
        world_settle(w);
        const char *token = strstr(world_mail(w), "reset_");
        CHECK(token != NULL);
        if (i < 3) {
            CHECK(strncmp(third, token, 46) != 0);
            third = fmt("%.46s", token);
        } else {
            CHECK(strncmp(third, token, 46) == 0); /* nothing more was sent */
        }
    }
    CHECK_EQ(ask(w, POST, "/auth/reset-password", "", NULL,
                 fmt("{'token':'%s','new_password':'another one'}", third))
                 .status,
             200);
    world_sleep(w, HOURS(1));
    ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'a@example.com'}");
    world_settle(w);
    CHECK(strncmp(third, strstr(world_mail(w), "reset_"), 46) != 0);
}

TESTS(invitations)
