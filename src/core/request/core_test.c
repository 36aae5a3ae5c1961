/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request to its handler: routes, credentials, limits. */
#include "tests/things.h"

/* ---- routes and surfaces */

TEST(a_row_is_on_both_surfaces_each_in_its_shape)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply made = post(w, "/things", "{'name':'one'}");

    CHECK_EQ(made.status, 201);
    CHECK_EQ(strlen(made.id), 36);
    struct reply classic = get(w, "/things");
    CHECK(classic.body.p[0] == '[');
    CHECK_EQ(classic.len, 1);
    static const char *const prefixes[] = { "/v1", "/v2", "/api/v1" };
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        struct reply r = get(w, "%s/things", prefixes[i]);

        CHECK_EQ(r.len, 1);
        CHECK(strncmp(member(r, "data.0.id"), "thing_", 6) == 0);
        CHECK(member(r, "next_cursor") == NULL);
        CHECK_STR(member(r, "has_more"), "false");
        CHECK_STR(member(r, "request_id"), header(r, "X-Request-Id"));
        CHECK_EQ(get(w, "%s/things/%s", prefixes[i], made.id).status, 200);
    }
    const char *typed = member(get(w, "/v1/things/%s", made.id), "id");
    CHECK_EQ(get(w, "/things/%s", typed).status, 200);
    CHECK_EQ(get(w, "/stuff").len, 1);
    CHECK_EQ(get(w, "/v1/stuff").len, 1);
}

TEST(an_id_of_another_prefix_or_of_no_form_is_not_found)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(get(w, "/v1/things/vpc_01h455vb4pex5vsknk084sn02q").status, 404);
    CHECK_EQ(get(w, "/v1/things/nonsense").status, 404);
    struct reply nowhere = get(w, "/nowhere");
    CHECK_STR(nowhere.code, "route_not_found");
    CHECK(strstr(member(nowhere, "error.details"), "/v1/openapi.json") != NULL);
    CHECK_STR(get(w, "/things/nonsense").code, "not_found");
}

TEST(a_classic_path_takes_a_name_for_an_id)
{
    _cleanup_(world_freep) struct world *w = world_new();

    post(w, "/things", "{'name':'one'}");
    CHECK_STR(member(get(w, "/things/one"), "name"), "one");
    CHECK_EQ(member_int(patch(w, "/things/one", "{'size':9}"), "size"), 9);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/things/one", NULL).status, 404);
}

TEST(a_method_that_is_not_there_is_405_with_allow_and_options_tells)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = put(w, "/things", "{}");

    CHECK_EQ(r.status, 405);
    CHECK_STR(header(r, "Allow"), "GET, HEAD, POST, OPTIONS");
    CHECK_STR(member(r, "error.details"), "Offered here: GET, HEAD, POST, OPTIONS");
    r = ask(w, OPTIONS, "/things", "", NULL, NULL);
    CHECK_EQ(r.status, 204);
    CHECK_STR(header(r, "Allow"), "GET, HEAD, POST, OPTIONS");
    CHECK_EQ(ask(w, OPTIONS, "/nowhere", "", NULL, NULL).status, 404);
}

TEST(a_path_that_is_planned_is_known_by_its_form)
{
    static const struct planned rows[] = {
        { "GET POST", "/cron/jobs" },       { "GET PATCH DELETE", "/cron/{id}" },
        { "GET", "/docs", CLASSIC },        { "GET PUT DELETE", "/storage/{bucket}/{key...}" },
        { "GET POST", "/users", PLATFORM }, { 0 },
    };
    static const struct service plans = { .name = "plans", .planned = rows };
    static const struct service *const all_plans[] = { &plans, NULL };
    static const struct {
        const char *path, *methods;
    } all[] = {
        { "/cron/jobs", "GET POST" },
        { "/v1/cron/jobs", "GET POST" },
        { "/cron/x", "GET PATCH DELETE" },
        { "/storage/x/a/b//c", "GET PUT DELETE" },
        { "/storage/x//", "GET PUT DELETE" },
        { "/v1/users", "GET POST" },
        { "/users", "" },
        { "/docs", "GET" },
        { "/v1/docs", "" },
        { "/v1/v1/users", "" },
        { "/storage/x/", "" },
        { "/cron/jobs/", "" },
        { "/cron/jobs//", "" },
        { "//cron/jobs", "" },
        { "/cron/", "" },
        { "/doc", "" },
        { "/v1", "" },
        { "/v1/", "" },
        { "/", "" },
        { "", "" },
        { "*", "" },
    };
    struct app app = { .services = all_plans };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct planned want = { .methods = all[i].methods };

        if (planned_methods(&app, str_of(all[i].path)) != planned_row_methods(&want))
            fail_msg("%s: %x", all[i].path, planned_methods(&app, str_of(all[i].path)));
    }
}

TEST(what_is_mounted_is_not_planned)
{
    static const struct {
        struct planned row[2];
        bool right;
    } all[] = {
        { { { "PUT", "/things" } }, true },
        { { { "GET", "/things/{id}/parts" } }, true },
        { { { "PUT GET", "/things" } }, false },
        { { { "PATCH", "/things/{name}" } }, false },
        { { { "GET", "/stuff" } }, false }, /* an alias */
        { { { "POST", "/resources", CLASSIC } }, true },
        { { { "POST", "/resources", PLATFORM } }, false },
        { { { "POST", "/resources" } }, false },
        { { { "FETCH", "/other" } }, false },
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct service plans = { .name = "plans", .planned = all[i].row };
        const struct service *const services[] = { &test_service, &plans, NULL };
        struct app app = { .services = services, .arena = ARENA(MIB(4)) };
        struct err e = { 0 };

        if ((mount_all(&app, &e) == 0) != all[i].right)
            fail_msg("%s %s: %s", all[i].row[0].methods, all[i].row[0].path, e.msg);
        router_free(app.router);
        free(app.infos);
        arena_free(&app.arena);
    }
}

TEST(what_is_owned_is_refused_where_nothing_deletes_it)
{
    static const struct route make = { POST, "/others", "thing:create", WRITE, thing_create, TH,
                                       TH,   201,       "Makes one." };
    static const struct route shown = { GET, "/others/{id}", "thing:get", QUICK, crud_get, NULL, TH,
                                        200, "Shows one." };
    struct route routes[] = {
        make,
        shown,
        { DELETE, "/others/{id}", "thing:delete", WRITE, crud_delete, NULL, NULL, 200, "Deletes." },
        { 0 },
    };
    const struct service other = { .name = "other", .routes = routes };
    const struct service *const services[] = { &other, NULL };

    for (int i = 0; i < 3; i++) {
        struct app app = { .services = services, .arena = ARENA(MIB(4)) };
        struct err e = { 0 };

        if (i == 1)
            routes[2].work = LONG;
        if (i == 2)
            routes[2] = (struct route){ 0 };
        CHECK_EQ(mount_all(&app, &e), i ? -1 : 0);
        if (i)
            CHECK(strstr(e.msg, i == 1 ? "DELETE /others/{id}" : "no route deletes a thing"));
        router_free(app.router);
        free(app.infos);
        arena_free(&app.arena);
    }
}

TEST(head_answers_what_get_does_without_its_body_unless_get_writes)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = post(w, "/things", "{'name':'one'}").id;
    struct reply r = with(w, HEAD, fmt("/things/%s", id), NULL, NULL);

    CHECK_EQ(r.status, 200);
    CHECK_EQ(r.body.n, 0);
    CHECK(header(r, "ETag") != NULL);
    r = with(w, HEAD, "/wait-write", NULL, NULL);
    CHECK_EQ(r.status, 405);
    CHECK_STR(header(r, "Allow"), "GET, OPTIONS");
}

TEST(cors_is_for_the_configured_origins_only)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask(w, OPTIONS, "/things", "",
                         "Origin: https://app.example\nAccess-Control-Request-Method: POST\n"
                         "Access-Control-Request-Headers: x-api-key",
                         NULL);

    CHECK_EQ(r.status, 204);
    CHECK_STR(header(r, "Access-Control-Allow-Origin"), "https://app.example");
    CHECK_STR(header(r, "Access-Control-Allow-Headers"), "x-api-key");
    CHECK(strstr(header(r, "Access-Control-Allow-Methods"), "POST") != NULL);
    CHECK_STR(header(r, "Vary"), "Origin");
    r = with(w, GET, "/things", "Origin: https://evil.example", NULL);
    CHECK_EQ(r.status, 200);
    CHECK(header(r, "Access-Control-Allow-Origin") == NULL);
}

/* ---- credentials */

TEST(a_credential_may_come_by_either_header_but_not_two_different_ones)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(ask(w, GET, "/things", "", "Authorization: Bearer test-owner", NULL).status, 200);
    CHECK_EQ(ask(w, GET, "/things", "test-owner", "Authorization: Bearer test-owner", NULL).status,
             200);
    CHECK_STR(ask(w, GET, "/things", "test-owner", "Authorization: Bearer test-viewer", NULL).code,
              "ambiguous_credentials");
    CHECK_EQ(ask(w, GET, "/things", "", "Authorization: Basic eDp5", NULL).status, 401);
    struct reply r = ask(w, GET, "/things", "", NULL, NULL);
    CHECK_EQ(r.status, 401);
    CHECK_STR(header(r, "WWW-Authenticate"), "Bearer realm=\"brume\"");
    r = ask(w, GET, "/things", "unknown", NULL, NULL);
    CHECK_EQ(r.status, 401);
    CHECK(strstr(header(r, "WWW-Authenticate"), "invalid_token") != NULL);
    CHECK_EQ(get(w, "/things?access_token=test-owner").status, 400);
    CHECK_EQ(ask(w, GET, "/things", "test-expired", NULL, NULL).status, 401);
}

TEST(a_credential_with_a_wrong_checksum_is_refused_without_a_look_up)
{
    _cleanup_(world_freep) struct world *w = world_new();
    char secret[SECRET_MAX];

    secret_new("thecloud_", secret);
    secret[12] = secret[12] == 'a' ? 'b' : 'a';
    int before = lookups;
    CHECK_EQ(ask(w, GET, "/things", secret, NULL, NULL).status, 401);
    CHECK_EQ(lookups, before);
}

TEST(a_verified_credential_is_remembered_until_it_is_revoked)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(ask(w, GET, "/things", "test-cached", NULL, NULL).status, 200);
    int before = lookups;
    CHECK_EQ(ask(w, GET, "/things", "test-cached", NULL, NULL).status, 200);
    if (!world_is_postgres(w))
        CHECK_EQ(lookups, before);
    CHECK_EQ(ask(w, POST, "/revoke", "test-cached", NULL, NULL).status, 200);
    before = lookups;
    CHECK_EQ(ask(w, GET, "/things", "test-cached", NULL, NULL).status, 200);
    CHECK_EQ(lookups, before + 1);
}

TEST(a_look_up_that_began_before_a_revocation_is_not_remembered)
{
    struct auth_cache *c = auth_cache_new(64);
    struct principal who = { .key_id = { "k" } }, got;
    struct uuid none = { "" };
    uint64_t epoch = auth_cache_epoch(c);

    auth_cache_drop(c, NULL, &who.key_id);
    auth_cache_put(c, STR("secret"), &none, &who, epoch);
    CHECK(!auth_cache_get(c, STR("secret"), &none, &got));
    auth_cache_put(c, STR("secret"), &none, &who, auth_cache_epoch(c));
    CHECK(auth_cache_get(c, STR("secret"), &none, &got));
    CHECK(!auth_cache_get(c, STR("secret"), &who.key_id, &got));
    auth_cache_free(c);
}

TEST(last_used_is_noted_once_a_minute)
{
    _cleanup_(world_freep) struct world *w = world_new();

    ask(w, GET, "/things", "test-touch", NULL, NULL);
    post(w, "/things", "{'name':'flush'}");
    int64_t first = touched_at;
    CHECK(first > 0);
    world_sleep(w, SECONDS(30));
    ask(w, GET, "/things", "test-touch", NULL, NULL);
    post(w, "/things", "{'name':'flush2'}");
    CHECK(touched_at <= first + SECONDS(30));
    world_sleep(w, SECONDS(31));
    ask(w, GET, "/things", "test-touch", NULL, NULL);
    post(w, "/things", "{'name':'flush3'}");
    CHECK(touched_at >= first + SECONDS(60));
}

TEST(a_key_is_held_to_its_addresses_its_tenant_and_its_environment)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(ask(w, GET, "/things", "test-far", NULL, NULL).status, 403);
    CHECK_EQ(ask(w, GET, "/things", "test-near", NULL, NULL).status, 200);
    const char *other = fmt("X-Tenant-ID: %s", tenant_two);
    CHECK_EQ(with(w, GET, "/things", other, NULL).status, 403);
    CHECK_EQ(ask(w, GET, "/things", "test-traveller", other, NULL).status, 200);
    CHECK_EQ(with(w, GET, "/things", "X-Tenant-ID: nonsense", NULL).status, 400);
    struct reply r = ask_raw(w, STR("GET /things HTTP/1.1\r\nHost: api-test.example:80\r\n"
                                    "X-API-Key: test-project\r\nConnection: close\r\n\r\n"));
    CHECK_EQ(r.status, 401);
    CHECK_STR(r.code, "wrong_environment");
    r = ask_raw(w, STR("GET /things HTTP/1.1\r\nHost: sandbox7.example\r\n"
                       "X-API-Key: test-project-testmode\r\nConnection: close\r\n\r\n"));
    CHECK_EQ(r.status, 200);
}

static int64_t denials(struct world *w)
{
    return world_int(w, "SELECT count(*) FROM journal WHERE outcome = 'denied'");
}

static void behind_a_proxy(struct config *c)
{
    c->trusted_proxies = "127.0.0.0/8";
}

TEST(a_forwarded_address_counts_only_behind_a_trusted_proxy)
{
    const char *from = "X-Forwarded-For: 192.168.7.7, 10.1.2.3, 127.0.0.9";

    {
        _cleanup_(world_freep) struct world *w = world_new();
        CHECK_EQ(ask(w, GET, "/things", "test-far", from, NULL).status, 403);
    }
    world_configure = behind_a_proxy;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = configure;
    CHECK_EQ(ask(w, GET, "/things", "test-far", from, NULL).status, 200);
    CHECK_EQ(
        ask(w, GET, "/things", "test-far", "X-Forwarded-For: 10.1.2.3, 192.168.7.7", NULL).status,
        403);
    CHECK_EQ(ask(w, GET, "/things", "test-far", "X-Forwarded-For: nonsense", NULL).status, 403);
}

static const char *forwarded(const char *line)
{
    return fmt("X-Forwarded-For: 10.1.2.3\n%s", line);
}

TEST(several_lines_of_forwarded_addresses_are_one_list)
{
    world_configure = behind_a_proxy;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = configure;

    /* The client wrote the first line, its proxy the last. */
    CHECK_EQ(
        ask(w, GET, "/things", "test-far", forwarded("X-Forwarded-For: 192.168.7.7"), NULL).status,
        403);
    CHECK_EQ(ask(w, GET, "/things", "test-far",
                 forwarded("Accept: */*\nX-Forwarded-For: 127.0.0.9\nX-Forwarded-For: 127.0.0.8"),
                 NULL)
                 .status,
             200);
    CHECK_EQ(ask(w, GET, "/things", "test-far", forwarded("X-Forwarded-For: "), NULL).status, 200);
    CHECK_EQ(ask(w, GET, "/things", "test-far", forwarded("X-Forwarded-For: what"), NULL).status,
             403);
}

TEST(sign_in_counts_a_client_by_its_prefix)
{
    world_configure = behind_a_proxy;
    _cleanup_(world_freep) struct world *w = world_new();
    world_configure = configure;

    for (int i = 1; i <= 6; i++)
        CHECK_EQ(
            ask(w, POST, "/auth/knock", "", fmt("X-Forwarded-For: 2001:db8:0:1:%d::%d", i, i), NULL)
                .status,
            i <= 5 ? 200 : 429);
    CHECK_EQ(ask(w, POST, "/auth/knock", "", "X-Forwarded-For: 2001:db8:0:2::1", NULL).status, 200);
}

TEST(who_asks_for_a_tenant_that_is_not_theirs_is_counted_and_noted_once_a_minute)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *other = fmt("X-Tenant-ID: %s", tenant_two);

    for (int minute = 0; minute < 2; minute++) {
        for (int i = 0; i < 5; i++) {
            struct reply r = ask(w, GET, "/things", "test-poor", other, NULL);

            CHECK_EQ(r.status, i < 3 ? 403 : 429);
        }
        CHECK_EQ(ask(w, GET, "/things", "test-poor", NULL, NULL).status, 429);
        CHECK_EQ(denials(w), minute + 1);
        world_sleep(w, SECONDS(61));
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(ask(w, GET, "/things", "test-far", NULL, NULL).status, 403);
    CHECK_EQ(denials(w), 3);
}

TEST(scopes_are_actions_or_services_and_write_includes_read)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const struct {
        const char *scopes;
        int read, write;
    } cases[] = {
        { "thing:list", 200, 403 },
        { "thing:read", 200, 403 },
        { "things:read", 200, 403 },
        { "thing:write", 200, 201 },
        { "things:write", 200, 201 },
        { "thing:*", 200, 201 },
        { "*", 200, 201 },
        { "queue:write", 403, 403 },
        { "thing:create", 403, 201 },
        { "queue:read,thing:list", 200, 403 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *key = fmt("test-scopes=%s", cases[i].scopes);

        CHECK_EQ(ask(w, GET, "/things", key, NULL, NULL).status, cases[i].read);
        CHECK_EQ(ask(w, POST, "/things", key, NULL, fmt("{'name':'n%zu'}", i)).status,
                 cases[i].write);
    }
    struct reply r = as(w, AS_NO_SCOPE, GET, "/things", NULL);
    CHECK_STR(r.code, "forbidden");
    CHECK(strstr(member(r, "error.message"), "thing:list") != NULL);
    CHECK(strstr(header(r, "WWW-Authenticate"), "insufficient_scope") != NULL);
}

TEST(roles_are_viewer_member_admin_and_operators_stand_apart)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(as(w, AS_VIEWER, GET, "/things", NULL).status, 200);
    CHECK_EQ(as(w, AS_VIEWER, POST, "/things", "{'name':'v'}").status, 403);
    CHECK_EQ(as(w, AS_MEMBER, POST, "/things", "{'name':'m'}").status, 201);
    CHECK_EQ(as(w, AS_MEMBER, POST, "/admin", NULL).status, 403);
    CHECK_EQ(post(w, "/admin", NULL).status, 200);
    CHECK_EQ(post(w, "/operate", NULL).status, 403);
    CHECK_EQ(as(w, AS_OPERATOR, POST, "/operate", NULL).status, 200);
}

/* ---- limits */

TEST(a_window_of_a_minute_holds_exactly_the_plans_number)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (int i = 0; i < 3; i++) {
        struct reply r = ask(w, GET, "/things", "test-poor", NULL, NULL);

        CHECK_EQ(r.status, 200);
        CHECK_STR(header(r, "X-RateLimit-Limit"), "3");
        CHECK_STR(header(r, "X-RateLimit-Remaining"), fmt("%d", 2 - i));
        CHECK_STR(header(r, "RateLimit-Policy"), "\"default\";q=3;w=60");
        CHECK_STR(header(r, "RateLimit"), fmt("\"default\";r=%d;t=60", 2 - i));
    }
    struct reply r = ask(w, GET, "/things/nonsense", "test-poor", NULL, NULL);
    CHECK_EQ(r.status, 429);
    CHECK_STR(r.code, "rate_limited");
    CHECK_STR(header(r, "Retry-After"), "60");
    world_sleep(w, SECONDS(60));
    CHECK_EQ(ask(w, GET, "/things", "test-poor", NULL, NULL).status, 200);
}

TEST(errors_carry_the_limit_too_and_the_sandbox_has_none)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_STR(header(get(w, "/things/nonsense"), "X-RateLimit-Limit"), "100000");
    CHECK_STR(header(as(w, AS_TEST_KEY, GET, "/things", NULL), "X-RateLimit-Limit"), "1000000");
}

TEST(a_public_post_is_limited_to_five_a_minute_from_an_address)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (int i = 0; i < 5; i++)
        CHECK_EQ(ask(w, POST, "/auth/knock", "", NULL, NULL).status, 200);
    struct reply r = ask(w, POST, "/auth/knock", "", NULL, NULL);
    CHECK_EQ(r.status, 429);
    CHECK_STR(header(r, "Retry-After"), "60");
    world_sleep(w, SECONDS(60));
    CHECK_EQ(ask(w, POST, "/auth/knock", "", NULL, NULL).status, 200);
}

static int count_headers(struct reply r, const char *line)
{
    int n = 0;

    for (const char *at = r.headers; (at = strcasestr(at, line)) != NULL; at += strlen(line))
        n++;
    return n;
}

TEST(a_header_that_was_set_before_an_error_goes_out_with_it)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/things", "{'name':'later'}");

    CHECK_EQ(r.status, 503);
    CHECK_STR(header(r, "Retry-After"), "77");
    CHECK_EQ(count_headers(r, "\r\nRetry-After:"), 1);
    r = post(w, "/long-things", "{'name':'later'}");
    CHECK_EQ(r.status, 429);
    CHECK_STR(header(r, "Retry-After"), "77");
    CHECK_EQ(count_headers(r, "\r\nRetry-After:"), 1);
    CHECK_STR(header(r, "X-Outer"), "yes");
}

TEST(a_header_of_an_answer_is_sent_once_and_not_with_the_error_in_its_place)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/long-things", "{'name':'one'}");

    CHECK_EQ(r.status, 201);
    CHECK_STR(header(r, "X-Outer"), "yes");
    CHECK_EQ(count_headers(r, "\r\nX-Inner:"), 1);
    r = post(w, "/long-things", "{'name':'late'}");
    CHECK_EQ(r.status, 500);
    CHECK(header(r, "X-Outer") == NULL);
    r = post(w, "/things", "{'name':'one'}");
    CHECK_EQ(r.status, 409);
    CHECK(header(r, "X-Made") == NULL);
}

TEST(every_method_of_the_service_validates_and_is_the_tenants_own)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = arena_strdup(&world_app(w)->arena, post(w, "/things", "{'name':'one'}").id);

    CHECK_EQ(patch(w, fmt("/things/%s", id), "{'size':1000}").status, 400);
    CHECK_EQ(as(w, AS_STRANGER, PATCH, fmt("/things/%s", id), "{'size':1}").status, 404);
    CHECK_EQ(as(w, AS_STRANGER, PATCH, fmt("/strict/%s", id), "{'size':1}").status, 404);
    CHECK_EQ(with(w, PATCH, fmt("/strict/%s", id),
                  fmt("If-Match: %s", header(get(w, "/things/%s", id), "ETag")), "{'size':1}")
                 .status,
             200);
    CHECK_EQ(get(w, "/old-things").status, 200);
    CHECK_EQ(post(w, "/long-things", "{}").status, 400);
    CHECK_EQ(post(w, "/v1/resources", "{}").status, 400);
    CHECK_EQ(post(w, "/v1/resources", "{'name':'two'}").status, 201);
    CHECK_EQ(post(w, "/long-things", "{'name':'one'}").status, 409);
    CHECK_EQ(post(w, "/long-things", "{'name':'slow'}").status, 201);
    CHECK_EQ(post(w, "/twice-things", "{}").status, 400);
    CHECK_EQ(post(w, "/twice-things", "{'name':'twice'}").status, 201);
    CHECK_EQ(post(w, "/once", "{}").status, 400);
    CHECK_EQ(post(w, "/once", "{'name':'once'}").status, 200);
    CHECK_EQ(get(w, "/wait").status, 200);
    CHECK_EQ(post(w, "/hold", NULL).status, 200);
    CHECK_EQ(get(w, "/hold-read").status, 200);
    CHECK_EQ(get(w, "/hold-stream").status, 200);
    CHECK_EQ(as(w, AS_NOBODY, GET, "/health", NULL).status, 200);
    CHECK_EQ(as(w, AS_NOBODY, POST, "/auth/sign", NULL).status, 200);
    CHECK_EQ(as(w, AS_STRANGER, DELETE, fmt("/things/%s", id), NULL).status, 404);
    CHECK_EQ(del(w, "/things/%s", id).status, 200);
}

TESTS(requests)
