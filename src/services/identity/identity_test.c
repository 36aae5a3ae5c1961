/* SPDX-License-Identifier: Apache-2.0 */
#include "core/request/request.h"
#include "tests/world.h"

static const char secret_of_nobody[] = "thecloud_0000000000000000000000000000000000000000";

/* Registers an address and logs it in; its key. */
static const char *person(struct world *w, const char *email)
{
    ask(w, POST, "/auth/register", "", NULL,
        fmt("{'email':'%s','password':'long enough','name':'Some Body'}", email));
    return member(ask(w, POST, "/auth/login", "", NULL,
                      fmt("{'email':'%s','password':'long enough'}", email)),
                  "api_key");
}

TEST(who_registers_can_log_in_and_is_who_they_are)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask(w, POST, "/auth/register", "", NULL,
                         "{'email':'User@Example.com','password':'password','name':'User Name'}");

    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "message"), "user created successfully");
    CHECK(member(r, "user_id") != NULL);
    struct reply in =
        ask(w, POST, "/auth/login", "", NULL, "{'email':'user@example.com','password':'password'}");
    CHECK_EQ(in.status, 200);
    CHECK_STR(member(in, "user.email"), "user@example.com");
    CHECK_STR(member(in, "user.name"), "User Name");
    CHECK(strncmp(member(in, "api_key"), "thecloud_", 9) == 0);
    struct reply me = ask(w, GET, "/auth/me", member(in, "api_key"), NULL, NULL);
    CHECK_STR(member(me, "id"), member(r, "user_id"));
    CHECK_STR(member(me, "role"), "owner");
    CHECK(member(me, "password_hash") == NULL);
}

TEST(a_taken_address_is_refused_whatever_its_case)
{
    _cleanup_(world_freep) struct world *w = world_new();

    person(w, "a@example.com");
    struct reply r = ask(w, POST, "/auth/register", "", NULL,
                         "{'email':'A@EXAMPLE.COM','password':'long enough','name':'x'}");
    CHECK_EQ(r.status, 409);
    CHECK_STR(r.code, "already_exists");
}

TEST(a_registration_names_every_fault)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask(w, POST, "/auth/register", "", NULL,
                         "{'email':'not an address','password':'','name':'','role':'owner'}");

    CHECK_EQ(r.status, 400);
    CHECK(member(r, "error.details.3.field") != NULL);
    r = ask(w, POST, "/auth/register", "", NULL, "{'email':'a@b.c','password':'short','name':'x'}");
    CHECK_EQ(r.status, 400);
    CHECK_STR(member(r, "error.details.0.field"), "password");
}

TEST(wrong_address_and_wrong_password_read_alike)
{
    _cleanup_(world_freep) struct world *w = world_new();

    person(w, "a@example.com");
    struct reply known =
        ask(w, POST, "/auth/login", "", NULL, "{'email':'a@example.com','password':'wrong one'}");
    struct reply unknown =
        ask(w, POST, "/auth/login", "", NULL, "{'email':'b@example.com','password':'wrong one'}");
    CHECK_EQ(known.status, 401);
    CHECK_EQ(unknown.status, 401);
    CHECK_STR(member(known, "error.message"), member(unknown, "error.message"));
}

TEST(five_failures_lock_an_address_for_fifteen_minutes)
{
    _cleanup_(world_freep) struct world *w = world_new();

    person(w, "a@example.com");
    for (int i = 0; i < 5; i++) {
        world_sleep(w, SECONDS(61));
        CHECK_EQ(ask(w, POST, "/auth/login", "", NULL,
                     "{'email':'a@example.com','password':'wrong one'}")
                     .status,
                 401);
    }
    world_sleep(w, SECONDS(61));
    struct reply r =
        ask(w, POST, "/auth/login", "", NULL, "{'email':'a@example.com','password':'long enough'}");
    CHECK_EQ(r.status, 429);
    /* Locked by the fifth failure, 61 seconds ago. */
    CHECK_EQ(strtoll(header(r, "Retry-After"), NULL, 10), 15 * 60 - 61 + 1);
    world_sleep(w, MINUTES(15));
    CHECK_EQ(
        ask(w, POST, "/auth/login", "", NULL, "{'email':'a@example.com','password':'long enough'}")
            .status,
        200);
}

TEST(each_public_post_is_limited_to_five_a_minute)
{
    _cleanup_(world_freep) struct world *w = world_new();

    world_sleep(w, MINUTES(2));
    for (int i = 0; i < 5; i++)
        CHECK_EQ(
            ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'x@example.com'}").status,
            200);
    CHECK_EQ(ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'x@example.com'}").status,
             429);
    CHECK_EQ(ask(w, POST, "/auth/reset-password", "", NULL,
                 "{'token':'reset_x','new_password':'long enough'}")
                 .status,
             400);
    world_sleep(w, SECONDS(61));
    CHECK_EQ(ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'x@example.com'}").status,
             200);
}

/* As a release did that had no column 'text' yet. */
static int mail_of_old(struct call *c, void *arg _unused_, struct err *e)
{
    struct uuid id = { "" };

    TRY(db_each(c->db, "SELECT id FROM mails", NO_ARGS, take_uuid, &id, e));
    const char *sealed = app_seal(c->app, c->arena, STR("an old letter"), str_of(id.s));
    return db_exec(c->db, "UPDATE mails SET text = NULL, sealed = $2 WHERE id = $1",
                   ARGS(A(&id), A(sealed)), e);
}

TEST(a_mail_that_an_older_release_queued_is_sent)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct err e;

    person(w, "a@example.com");
    CHECK_EQ(ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'a@example.com'}").status,
             200);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM mails WHERE text LIKE 'k1.%' AND sealed = ''"), 1);
    CHECK_EQ(app_write(world_app(w), mail_of_old, NULL, &e), 0);
    world_settle(w);
    CHECK(strstr(world_mail(w), "an old letter") != NULL);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM mails"), 0);
}

TEST(a_reset_token_works_once_and_ends_what_was_logged_in)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *key = person(w, "a@example.com");

    CHECK_EQ(ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'a@example.com'}").status,
             200);
    world_settle(w);
    const char *token = strstr(world_mail(w), "reset_");
    CHECK(token != NULL);
    CHECK(strstr(world_mail(w), "POST http://127.0.0.1:") != NULL);
    CHECK(strstr(world_mail(w), "brume --url http://127.0.0.1:") != NULL);
    token = fmt("%.46s", token);
    const char *body = fmt("{'token':'%s','new_password':'another one'}", token);
    CHECK_EQ(ask(w, POST, "/auth/reset-password", "", NULL, body).status, 200);
    CHECK_EQ(ask(w, POST, "/auth/reset-password", "", NULL, body).status, 400);
    CHECK_EQ(ask(w, GET, "/auth/me", key, NULL, NULL).status, 401);
    CHECK_EQ(
        ask(w, POST, "/auth/login", "", NULL, "{'email':'a@example.com','password':'another one'}")
            .status,
        200);
}

TEST(a_reset_token_is_good_for_half_an_hour)
{
    _cleanup_(world_freep) struct world *w = world_new();

    person(w, "a@example.com");
    ask(w, POST, "/auth/forgot-password", "", NULL, "{'email':'a@example.com'}");
    world_settle(w);
    const char *token = fmt("%.46s", strstr(world_mail(w), "reset_"));
    world_sleep(w, MINUTES(31));
    CHECK_EQ(ask(w, POST, "/auth/reset-password", "", NULL,
                 fmt("{'token':'%s','new_password':'another one'}", token))
                 .status,
             400);
}

TEST(a_key_is_shown_once_and_works_until_it_is_revoked)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/auth/keys", "{'name':'Production Key'}");

    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "created_at"), member(r, "last_used"));
    const char *key = member(r, "key");
    CHECK_EQ(ask(w, GET, "/auth/me", key, NULL, NULL).status, 200);
    struct reply list = get(w, "/auth/keys");
    CHECK_EQ(list.status, 200);
    CHECK_STR(member(list, "0.id"), r.id);
    CHECK(member(list, "0.key") == NULL && member(list, "0.hash") == NULL);
    CHECK_STR(member(list, "0.last4"), key + strlen(key) - 4);
    CHECK_EQ(del(w, "/auth/keys/%s", r.id).status, 200);
    CHECK_EQ(ask(w, GET, "/auth/me", key, NULL, NULL).status, 401);
    CHECK_EQ(del(w, "/auth/keys/%s", r.id).status, 404);
}

TEST(rotation_gives_a_new_secret_and_may_leave_the_old_one_a_while)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/auth/keys", "{'name':'a'}");
    struct reply at_once = post(w, fmt("/auth/keys/%s/rotate", r.id), NULL);

    CHECK_EQ(at_once.status, 200);
    CHECK_STR(at_once.id, r.id);
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 401);
    struct reply later = post(w, fmt("/auth/keys/%s/regenerate", r.id), "{'grace_seconds':60}");
    CHECK_EQ(ask(w, GET, "/auth/me", member(at_once, "key"), NULL, NULL).status, 200);
    CHECK_EQ(ask(w, GET, "/auth/me", member(later, "key"), NULL, NULL).status, 200);
    world_sleep(w, SECONDS(61));
    CHECK_EQ(ask(w, GET, "/auth/me", member(at_once, "key"), NULL, NULL).status, 401);
    CHECK_EQ(ask(w, GET, "/auth/me", member(later, "key"), NULL, NULL).status, 200);
    CHECK_EQ(post(w, fmt("/auth/keys/%s/rotate", r.id), "{'grace_seconds':604801}").status, 400);
    CHECK_EQ(post(w, fmt("/auth/keys/%s/regenerate", r.id), "{'grace':1}").status, 400);
}

TEST(a_key_gives_only_what_it_has)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *key = world_key_scoped(w, "key:* queue:read");

    CHECK_EQ(ask(w, POST, "/auth/keys", key, NULL, "{'name':'a'}").status, 403);
    CHECK_EQ(ask(w, POST, "/auth/keys", key, NULL, "{'name':'a','scopes':['queue:send']}").status,
             403);
    struct reply r =
        ask(w, POST, "/auth/keys", key, NULL, "{'name':'a','scopes':['queue:read','key:list']}");
    CHECK_EQ(r.status, 201);
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 403);
    CHECK_EQ(ask(w, GET, "/auth/keys", member(r, "key"), NULL, NULL).status, 200);
    CHECK_EQ(post(w, "/auth/keys", "{'name':'a','scopes':['Nonsense']}").status, 400);
}

TEST(a_key_ends_by_itself_and_is_bound_to_its_addresses)
{
    _cleanup_(world_freep) struct world *w = world_new();
    char at[64];
    struct buf b = BUF(64);
    struct json_out o = JSON_OUT(&b);

    json_time(&o, clock_wall(world_clock(w)) + SECONDS(100));
    snprintf(at, sizeof(at), "'%.*s'", (int)b.n - 2, b.p + 1);
    buf_free(&b);
    struct reply r = post(w, "/auth/keys", fmt("{'name':'a','expires_at':%s}", at));
    CHECK_EQ(r.status, 201);
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 200);
    world_sleep(w, SECONDS(101));
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 401);
    CHECK_EQ(post(w, "/auth/keys", fmt("{'name':'a','expires_at':%s}", at)).status, 400);
    r = post(w, "/auth/keys", "{'name':'a','allowed_ips':['203.0.113.0/24']}");
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 403);
    r = post(w, "/auth/keys", "{'name':'a','allowed_ips':['127.0.0.0/8']}");
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 200);
    CHECK_EQ(post(w, "/auth/keys", "{'name':'a','allowed_ips':['here']}").status, 400);
}

TEST(switching_the_tenant_shows_other_resources)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply t = post(w, "/tenants", "{'name':'Acme Corp','slug':'acme'}");

    CHECK_EQ(t.status, 201);
    CHECK_EQ(post(w, "/tenants", "{'name':'Other','slug':'acme'}").status, 409);
    CHECK_EQ(post(w, "/tenants", "{'name':'','slug':'No Good'}").status, 400);
    CHECK_EQ(post(w, "/queues", "{'name':'in-the-first'}").status, 201);
    const char *first = member(get(w, "/auth/me"), "tenant_id");
    CHECK_EQ(post(w, fmt("/tenants/%s/switch", t.id), NULL).status, 200);
    CHECK_STR(member(get(w, "/auth/me"), "tenant_id"), t.id);
    CHECK_EQ(get(w, "/queues").len, 0);
    CHECK_EQ(ask(w, GET, "/queues", NULL, fmt("X-Tenant-ID: %s", first), NULL).len, 1);
    CHECK_EQ(get(w, "/tenants").len, 2);
    CHECK_STR(member(get(w, "/tenants/%s", t.id), "slug"), "acme");
}

TEST(a_foreign_tenant_costs_as_any_other_request)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = get(w, "/auth/me");
    int64_t left = strtoll(header(r, "X-RateLimit-Remaining"), NULL, 10);
    const char *id = member(
        ask(w, POST, "/tenants", world_key(w, AS_STRANGER), NULL, "{'name':'theirs'}"), "id");

    for (int i = 1; i <= 3; i++) {
        r = ask(w, GET, "/queues", NULL, fmt("X-Tenant-ID: %s", id), NULL);
        CHECK_EQ(r.status, 403);
        CHECK_EQ(strtoll(header(r, "X-RateLimit-Remaining"), NULL, 10), left - i);
    }
}

TEST(a_pinned_key_stays_in_its_tenant)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = post(w, "/tenants", "{'name':'Acme'}").id;
    const char *key = member(post(w, "/auth/keys", fmt("{'name':'a','tenant_id':'%s'}", t)), "key");
    const char *first = member(get(w, "/auth/me"), "tenant_id");

    CHECK_STR(member(ask(w, GET, "/auth/me", key, NULL, NULL), "tenant_id"), t);
    CHECK_EQ(ask(w, GET, "/auth/me", key, fmt("X-Tenant-ID: %s", first), NULL).status, 403);
    CHECK_EQ(ask(w, GET, fmt("/tenants/%s", first), key, NULL, NULL).status, 404);
    CHECK_EQ(
        post(w, "/auth/keys", "{'name':'a','tenant_id':'0189c1a2-0000-7000-8000-000000000000'}")
            .status,
        404);
}

TEST(members_come_and_go_with_their_roles)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");
    const char *key = person(w, "new@example.com");
    const char *path = fmt("/tenants/%s/members", t);

    CHECK_EQ(ask(w, GET, "/queues", key, fmt("X-Tenant-ID: %s", t), NULL).status, 403);
    CHECK_EQ(post(w, path, "{'user_id':'0189c1a2-0000-7000-8000-000000000000'}").status, 404);
    struct reply m = post(w, path, "{'email':'new@example.com','role':'viewer'}");
    CHECK_EQ(m.status, 201);
    CHECK_EQ(post(w, path, "{'email':'new@example.com'}").status, 409);
    CHECK_EQ(ask(w, GET, "/queues", key, fmt("X-Tenant-ID: %s", t), NULL).status, 200);
    CHECK_EQ(get(w, "%s", path).len, 2);
    CHECK_EQ(ask(w, POST, "/queues", key, fmt("X-Tenant-ID: %s", t), "{'name':'a'}").status, 403);
    const char *user = member(m, "user_id");
    CHECK_EQ(patch(w, fmt("%s/%s", path, user), "{'role':'member'}").status, 200);
    CHECK_EQ(ask(w, POST, "/queues", key, fmt("X-Tenant-ID: %s", t), "{'name':'a'}").status, 201);
    CHECK_EQ(ask(w, POST, path, key, NULL, "{'email':'x@example.com'}").status, 403);
    CHECK_EQ(del(w, "%s/%s", path, user).status, 200);
    CHECK_EQ(ask(w, GET, "/queues", key, fmt("X-Tenant-ID: %s", t), NULL).status, 403);
    const char *me = member(get(w, "/auth/me"), "id");
    CHECK_EQ(del(w, "%s/%s", path, me).status, 409);
    CHECK_EQ(patch(w, fmt("%s/%s", path, me), "{'role':'member'}").status, 409);
}

TEST(a_viewer_may_look_after_their_own_account)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = as(w, AS_VIEWER, POST, "/auth/keys", "{'name':'mine'}");

    CHECK_EQ(r.status, 201);
    CHECK_EQ(as(w, AS_VIEWER, POST, "/queues", "{'name':'a'}").status, 403);
    CHECK_EQ(as(w, AS_VIEWER, DELETE, fmt("/auth/keys/%s", r.id), NULL).status, 200);
}

TEST(nobody_gets_in_without_a_good_credential)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *mine = world_key(w, AS_OWNER);
    const char *wrong =
        fmt("%.*s%c", (int)strlen(mine) - 1, mine, mine[strlen(mine) - 1] == 'a' ? 'b' : 'a');

    CHECK_EQ(ask(w, GET, "/auth/me", wrong, NULL, NULL).status, 401);
    CHECK_EQ(ask(w, GET, "/auth/me", secret_of_nobody, NULL, NULL).status, 401);
    CHECK_EQ(ask(w, GET, "/auth/me", "", fmt("Authorization: Bearer %s", mine), NULL).status, 200);
    CHECK_EQ(ask(w, GET, "/auth/me", "", "Authorization: Basic eDp5", NULL).status, 401);
    CHECK_EQ(ask(w, GET, "/auth/me", mine, fmt("Authorization: Bearer %s", secret_of_nobody), NULL)
                 .status,
             400);
    CHECK_EQ(ask(w, GET, fmt("/auth/me?api_key=%s", mine), "", NULL, NULL).status, 400);
}

TEST(strangers_reach_nothing)
{
    _cleanup_(world_freep) struct world *w = world_new();

    strangers_are_refused(w, "/auth/keys/{id}", post(w, "/auth/keys", "{'name':'a'}").id);
    strangers_are_refused(w, "/tenants/{id}", member(get(w, "/auth/me"), "tenant_id"));
}

TEST(no_key_gets_more_by_rotating_another)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *full = post(w, "/auth/keys", "{'name':'full'}").id;
    struct reply r = post(w, "/auth/keys", "{'name':'some','scopes':['key:*','queue:read']}");
    struct reply less = post(w, "/auth/keys", "{'name':'less','scopes':['queue:read']}");
    const char *key = member(r, "key");

    CHECK_EQ(ask(w, POST, fmt("/auth/keys/%s/rotate", full), key, NULL, NULL).status, 403);
    CHECK_EQ(ask(w, POST, fmt("/auth/keys/%s/rotate", less.id), key, NULL, NULL).status, 200);
    CHECK_EQ(ask(w, POST, fmt("/auth/keys/%s/rotate", r.id), key, NULL, NULL).status, 200);
    CHECK_EQ(post(w, "/auth/keys", "{'name':'none','scopes':[]}").status, 400);
}

TEST(a_key_of_some_addresses_gives_keys_of_those_only)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *full = post(w, "/auth/keys", "{'name':'full'}").id;
    const char *key =
        member(post(w, "/auth/keys", "{'name':'near','allowed_ips':['127.0.0.0/8']}"), "key");

    CHECK_EQ(ask(w, POST, "/auth/keys", key, NULL, "{'name':'a'}").status, 403);
    CHECK_EQ(
        ask(w, POST, "/auth/keys", key, NULL, "{'name':'a','allowed_ips':['0.0.0.0/0']}").status,
        403);
    CHECK_EQ(
        ask(w, POST, "/auth/keys", key, NULL, "{'name':'a','allowed_ips':['127.0.0.1']}").status,
        201);
    CHECK_EQ(ask(w, POST, fmt("/auth/keys/%s/rotate", full), key, NULL, NULL).status, 403);
}

TEST(grace_does_not_outlive_the_key)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(64);
    struct json_out o = JSON_OUT(&b);

    json_time(&o, clock_wall(world_clock(w)) + SECONDS(100));
    const char *at = fmt("%.*s", (int)b.n - 2, b.p + 1);
    buf_free(&b);
    struct reply r = post(w, "/auth/keys", fmt("{'name':'a','expires_at':'%s'}", at));
    CHECK_EQ(post(w, fmt("/auth/keys/%s/rotate", r.id), "{'grace_seconds':86400}").status, 200);
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 200);
    world_sleep(w, SECONDS(101));
    CHECK_EQ(ask(w, GET, "/auth/me", member(r, "key"), NULL, NULL).status, 401);
}

TEST(a_pinned_key_sees_and_changes_nothing_of_other_tenants)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = post(w, "/tenants", "{'name':'Acme'}").id;
    const char *other = post(w, "/auth/keys", "{'name':'other'}").id;
    struct reply r = post(w, "/auth/keys", fmt("{'name':'a','tenant_id':'%s'}", t));
    const char *key = member(r, "key");

    CHECK_EQ(ask(w, GET, "/tenants", key, NULL, NULL).len, 1);
    CHECK_EQ(ask(w, GET, "/auth/keys", key, NULL, NULL).len, 1);
    CHECK_EQ(ask(w, POST, "/tenants", key, NULL, "{'name':'b'}").status, 403);
    CHECK_EQ(ask(w, POST, fmt("/tenants/%s/switch", t), key, NULL, NULL).status, 403);
    CHECK_EQ(ask(w, DELETE, fmt("/auth/keys/%s", other), key, NULL, NULL).status, 404);
    CHECK_EQ(ask(w, POST, fmt("/auth/keys/%s/rotate", other), key, NULL, NULL).status, 404);
    CHECK_EQ(ask(w, DELETE, fmt("/auth/keys/%s", r.id), key, NULL, NULL).status, 200);
}

static void free_plan(struct config *c)
{
    c->default_plan = "free";
}

TEST(a_tenant_that_was_made_makes_no_more_than_the_first_could)
{
    void (*configure)(struct config * c) = world_configure;
    world_configure = free_plan;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = configure;
    const char *a = post(w, "/tenants", "{'name':'a'}").id;

    CHECK_EQ(post(w, "/tenants", "{'name':'b'}").status, 201);
    CHECK_EQ(post(w, "/tenants", "{'name':'c'}").status, 403);
    CHECK_EQ(ask(w, POST, "/tenants", NULL, fmt("X-Tenant-ID: %s", a), "{'name':'c'}").status, 403);
}

TEST(who_is_in_no_tenant_any_more_looks_after_themselves)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *key = person(w, "a@example.com");
    const char *me = member(ask(w, GET, "/auth/me", key, NULL, NULL), "id");
    const char *first = member(ask(w, GET, "/auth/me", key, NULL, NULL), "tenant_id");
    const char *ours = member(get(w, "/auth/me"), "tenant_id");
    const char *boss = member(get(w, "/auth/me"), "email");

    /* Somebody else takes their tenant over and puts them out. */
    CHECK_EQ(ask(w, POST, fmt("/tenants/%s/members", first), key, NULL,
                 fmt("{'email':'%s','role':'owner'}", boss))
                 .status,
             201);
    CHECK_EQ(del(w, "/tenants/%s/members/%s", first, me).status, 200);
    struct reply r = ask(w, GET, "/queues", key, NULL, NULL);
    CHECK_EQ(r.status, 403);
    CHECK(strstr(member(r, "error.message"), "no tenant") != NULL);
    CHECK_EQ(ask(w, POST, "/queues", key, NULL, "{'name':'x'}").status, 403);
    CHECK_EQ(ask(w, GET, "/audit", key, NULL, NULL).status, 403);
    CHECK_EQ(ask(w, GET, "/queues", key, fmt("X-Tenant-ID: %s", first), NULL).status, 403);

    /* All that is about themselves. */
    world_sleep(w, SECONDS(61));
    r = ask(w, POST, "/auth/login", "", NULL, "{'email':'a@example.com','password':'long enough'}");
    CHECK_EQ(r.status, 200);
    key = member(r, "api_key");
    r = ask(w, GET, "/auth/me", key, NULL, NULL);
    CHECK_STR(member(r, "id"), me);
    CHECK(member(r, "tenant_id") == NULL);
    CHECK_EQ(ask(w, GET, "/tenants", key, NULL, NULL).len, 0);
    CHECK_EQ(ask(w, GET, fmt("/tenants/%s", first), key, NULL, NULL).status, 404);
    CHECK_EQ(ask(w, POST, "/auth/keys", key, NULL, "{'name':'k'}").status, 201);

    /* A tenant of their own, and all works again. */
    r = ask(w, POST, "/tenants", key, NULL, "{'name':'Again'}");
    CHECK_EQ(r.status, 201);
    CHECK_STR(member(ask(w, GET, "/auth/me", key, NULL, NULL), "tenant_id"), r.id);
    CHECK_EQ(ask(w, POST, "/queues", key, NULL, "{'name':'x'}").status, 201);

    /* Or somebody takes them in. */
    const char *other = person(w, "b@example.com");
    const char *theirs = member(ask(w, GET, "/auth/me", other, NULL, NULL), "tenant_id");
    const char *them = member(ask(w, GET, "/auth/me", other, NULL, NULL), "id");
    ask(w, POST, fmt("/tenants/%s/members", theirs), other, NULL,
        fmt("{'email':'%s','role':'owner'}", boss));
    CHECK_EQ(ask(w, DELETE, fmt("/tenants/%s/members/%s", theirs, them), other, NULL, NULL).status,
             200);
    CHECK_EQ(ask(w, GET, "/queues", other, NULL, NULL).status, 403);
    CHECK_EQ(post(w, fmt("/tenants/%s/members", ours), "{'email':'b@example.com'}").status, 201);
    CHECK_EQ(ask(w, GET, "/queues", other, NULL, NULL).status, 200);
}

/* Path and query of the page that follows, or NULL. */
static const char *page_after(struct reply r)
{
    const char *link = header(r, "Link");
    const char *at = link ? strstr(link, "/tenants") : NULL;

    return at ? fmt("%.*s", (int)strcspn(at, ">"), at) : NULL;
}

TEST(members_and_tenants_come_in_pages_that_lose_nobody)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *t = member(get(w, "/auth/me"), "tenant_id");
    const char *seen = "";
    size_t n = 0;

    for (int i = 0; i < 4; i++) {
        person(w, fmt("p%d@example.com", i));
        CHECK_EQ(
            post(w, fmt("/tenants/%s/members", t), fmt("{'email':'p%d@example.com'}", i)).status,
            201);
        world_sleep(w, i < 2 ? 0 : SECONDS(61)); /* some at one moment */
    }
    size_t all = get(w, "/tenants/%s/members", t).len;
    const char *path = fmt("/tenants/%s/members?limit=2", t);
    while (path && n < 100) {
        struct reply r = get(w, "%s", path);

        CHECK_EQ(r.status, 200);
        for (size_t i = 0; i < r.len; i++, n++) {
            const char *id = member(r, fmt("%zu.user_id", i));

            CHECK(strstr(seen, id) == NULL);
            seen = fmt("%s %s", seen, id);
        }
        path = page_after(r);
    }
    CHECK_EQ(n, all);
    CHECK_EQ(get(w, "/tenants/%s/members?limit=1001", t).status, 400);
    CHECK_EQ(get(w, "/v1/tenants/%s/members?limit=101", t).status, 400);
    CHECK_EQ(get(w, "/tenants/%s/invitations?limit=101", t).status, 400);
    CHECK_EQ(get(w, "/auth/keys?limit=201").status, 400);
    CHECK_EQ(get(w, "/auth/keys?colour=1").status, 400);

    CHECK_EQ(post(w, "/tenants", "{'name':'b'}").status, 201);
    world_sleep(w, SECONDS(1));
    CHECK_EQ(post(w, "/tenants", "{'name':'c'}").status, 201);
    struct reply r = get(w, "/tenants?limit=2");
    CHECK_EQ(r.len, 2);
    CHECK_STR(member(r, "0.name"), "c");
    r = get(w, "%s", page_after(r));
    CHECK_EQ(r.len, 1);
    CHECK(page_after(r) == NULL);
    CHECK_STR(member(get(w, "/v1/tenants?limit=2"), "has_more"), "true");
}

TEST(many_tenants_of_one_name_are_made_at_once)
{
    enum { MANY = 12 };
    _cleanup_(world_freep) struct world *w = world_new();
    int fd[MANY];

    for (int i = 0; i < MANY; i++)
        fd[i] = ask_begin(w, POST, "/tenants", world_key(w, i % 2 ? AS_OWNER : AS_STRANGER),
                          "Content-Type: application/json", "{\"name\":\"Same Name\"}");
    for (int i = 0; i < MANY; i++) {
        struct reply r = ask_end(w, fd[i]);

        CHECK_EQ(r.status, 201);
        CHECK(strncmp(member(r, "slug"), "same-name", 9) == 0);
    }
}

TEST(an_invitation_is_listed_and_withdrawn)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *list = fmt("/tenants/%s/invitations", member(get(w, "/auth/me"), "tenant_id"));
    const char *members = fmt("/tenants/%s/members", member(get(w, "/auth/me"), "tenant_id"));

    CHECK_EQ(post(w, members, "{'email':'asked@example.com','role':'member'}").status, 201);
    struct reply r = get(w, "%s", list);
    CHECK_STR(member(r, "0.email"), "asked@example.com");
    CHECK_EQ(del(w, "%s/%s", list, member(r, "0.id")).status, 200);
    CHECK(member(get(w, "%s", list), "0.id") == NULL);
}

static int take_two(struct call *c, void *quota, struct err *e)
{
    return quota_take(c, quota, 2, e);
}

static int make_free(struct call *c, void *arg _unused_, struct err *e)
{
    return db_exec(c->db, "UPDATE tenants SET plan = 'free'", NO_ARGS, e);
}

TEST(what_the_system_does_in_a_tenant_counts_by_the_tenants_plan)
{
    static struct quota probe = { "probe", { 1, 2, 3, 4, 5 } };
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid tenant;
    struct err e;

    CHECK_EQ(uuid_parse(str_of(member(get(w, "/auth/me"), "tenant_id")), &tenant), true);
    CHECK_EQ(system_call_run(world_app(w), &tenant, MODE_LIVE, take_two, &probe, &e), 0);
    CHECK_EQ(app_write(world_app(w), make_free, NULL, &e), 0);
    CHECK_EQ(system_call_run(world_app(w), &tenant, MODE_LIVE, take_two, &probe, &e), -1);
    CHECK_EQ(e.code, ERR_QUOTA_EXCEEDED);
}

TESTS(identity)
