/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request: routes, credentials, limits, bodies, headers, rows, waiting. */
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

/* ---- bodies */

TEST(all_faults_of_body_and_query_are_answered_at_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/things?what=1", "{'size':101,'nope':1,'id':'x'}");

    CHECK_EQ(r.status, 400);
    CHECK_STR(r.code, "invalid_request");
    CHECK(member(r, "error.details.4.field") != NULL);
    CHECK(member(r, "error.details.5.field") == NULL);
    r = post(w, "/things", "{}");
    CHECK_STR(member(r, "error.message"), "Missing required parameter: name");
    CHECK_STR(member(r, "error.details.0.code"), "required");
    CHECK_STR(get(w, "/things?colour=red").code, "invalid_request");
    CHECK_EQ(get(w, "/wait?wait=21").status, 400);
    CHECK_EQ(get(w, "/wait-write?nope=1").status, 400);
    CHECK_EQ(get(w, "/noise?nope=1").status, 400);
    CHECK_EQ(post(w, "/revoke", "{'reason':'x'}").status, 400);
}

static bool names(struct reply r, const char *field, const char *code)
{
    const char *f;

    for (int i = 0; (f = member(r, fmt("error.details.%d.field", i))) != NULL; i++)
        if (strcmp(f, field) == 0 && strcmp(member(r, fmt("error.details.%d.code", i)), code) == 0)
            return true;
    return false;
}

static int count_faults(struct reply r)
{
    int n = 0;

    while (member(r, fmt("error.details.%d.field", n)))
        n++;
    return n;
}

TEST(a_parameter_is_known_by_its_alias_too_and_given_once)
{
    _cleanup_(world_freep) struct world *w = world_new();

    post(w, "/things", "{'name':'one'}");
    CHECK_EQ(get(w, "/wait?wait_seconds=1").status, 200);
    CHECK(names(get(w, "/wait?wait_seconds=21"), "wait_seconds", "out_of_range"));
    struct reply r = get(w, "/wait?wait=1&wait_seconds=2");
    CHECK_EQ(r.status, 400);
    CHECK(names(r, "wait_seconds", "not_allowed"));
    /* Neither is one that was faulty already. */
    r = get(w, "/wait?wait=x&wait=1");
    CHECK(names(r, "wait", "wrong_type") && names(r, "wait", "not_allowed"));
    CHECK_EQ(count_faults(r), 2);
}

TEST(all_faults_of_a_list_are_named_each_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = get(w, "/v1/things?colour=red&limit=0&sort=secret&created_after=x&cursor=y");

    CHECK_EQ(r.status, 400);
    CHECK(names(r, "colour", "unknown") && names(r, "limit", "out_of_range"));
    CHECK(names(r, "sort", "not_allowed") && names(r, "created_after", "malformed"));
    CHECK_EQ(count_faults(r), 4);
}

TEST(a_body_that_is_no_json_is_400_of_another_type_415_and_too_long_413)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_STR(post(w, "/things", "{\"name\":").code, "invalid_json");
    CHECK_EQ(post(w, "/things", "[]").status, 400);
    struct reply other = with(w, POST, "/things", "Content-Type: text/plain", "{'name':'x'}");
    CHECK_EQ(other.status, 415);
    CHECK(strstr(member(other, "error.details"), "application/json") != NULL);
    CHECK_EQ(with(w, POST, "/things", "Content-Type: application/merge-patch+json", "{'name':'x'}")
                 .status,
             201);
    CHECK_EQ(ask_raw(w, STR("POST /things HTTP/1.1\r\nHost: x\r\nX-API-Key: test-owner\r\n"
                            "Content-Length: 2000000\r\n\r\n"))
                 .status,
             413);
    CHECK_EQ(ask_raw(w, STR("POST /things HTTP/1.1\r\nHost: x\r\nX-API-Key: test-owner\r\n"
                            "Connection: close\r\nContent-Length: 13\r\n\r\n{\"name\":\"raw\"}"))
                 .status,
             400); /* one byte short of its JSON */
}

TEST(a_raw_body_is_streamed_to_its_handler)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static char text[300001];

    memset(text, 'a', sizeof(text) - 1);
    struct reply r = with(w, PUT, "/raw", "Content-Type: application/octet-stream", text);
    CHECK_EQ(r.status, 200);
    CHECK_EQ(member_int(r, "n"), 300000);
}

/* ---- headers */

TEST(a_uuid_names_the_request_and_anything_else_is_replaced)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = "0189c1a2-0000-4000-8000-000000000000";

    CHECK_STR(header(with(w, GET, "/things", fmt("X-Request-Id: %s", id), NULL), "X-Request-Id"),
              id);
    struct reply r = with(w, GET, "/nowhere", "X-Request-Id: mine", NULL);
    CHECK(strncmp(header(r, "X-Request-Id"), "req_", 4) == 0);
    CHECK_STR(member(r, "error.request_id"), header(r, "X-Request-Id"));
}

TEST(versions_are_known_and_echoed_and_others_refused)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_STR(header(with(w, GET, "/things", "X-API-Version: 2026-04-01", NULL), "X-API-Version"),
              "2026-04-01");
    CHECK_STR(with(w, GET, "/things", "X-API-Version: 2025-01-01", NULL).code,
              "unsupported_version");
}

/* The version that answers without the header, or with it. */
static const char *version_with(struct world *w, const char *key, const char *header_text)
{
    return header(ask(w, GET, "/things", key, header_text, NULL), "X-API-Version");
}

TEST(a_key_remembers_the_version_of_its_first_use_and_the_header_overrides)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *old = "X-API-Version: 2026-01-01", *new = "X-API-Version: 2026-04-01";

    CHECK_STR(version_with(w, "test-dated-a", old), "2026-01-01");
    CHECK_STR(version_with(w, "test-dated-a", NULL), "2026-01-01");
    CHECK_STR(version_with(w, "test-dated-a", new), "2026-04-01");
    CHECK_STR(version_with(w, "test-dated-a", NULL), "2026-01-01");
    CHECK_STR(version_with(w, "test-dated-b", NULL), "2026-04-01");
    CHECK_STR(version_with(w, "test-dated-b", old), "2026-01-01");
    CHECK_STR(version_with(w, "test-dated-b", NULL), "2026-04-01");
    post(w, "/things", "{'name':'flush'}");
    world_restart(w);
    CHECK_STR(version_with(w, "test-dated-a", NULL), "2026-01-01");
    CHECK_STR(version_with(w, "test-dated-b", NULL), "2026-04-01");
    /* A tag is of the version that it was given in. */
    const char *path = fmt("/things/%s", member(get(w, "/things"), "0.id"));
    const char *tag = header(ask(w, GET, path, "test-dated-a", NULL, NULL), "ETag");
    CHECK(strstr(tag, "-20260101\"") != NULL);
    CHECK(header(ask(w, GET, "/things", "", NULL, NULL), "X-API-Version") == NULL);
    CHECK_EQ(ask(w, GET, "/things", "test-dated-a", "X-API-Version: 2026-02-30", NULL).status, 400);
}

TEST(a_route_that_is_going_says_so_in_each_answer)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = get(w, "/v1/old-things");

    CHECK_EQ(r.status, 200);
    CHECK_STR(header(r, "Deprecation"), "@1767225600");
    CHECK_STR(header(r, "Sunset"), "Sat, 01 Jan 2028 00:00:00 GMT");
    CHECK_STR(header(r, "Link"), "</v1/things>; rel=\"successor-version\"");
    r = as(w, AS_NO_SCOPE, GET, "/old-things", NULL);
    CHECK_EQ(r.status, 403);
    CHECK_STR(header(r, "Link"), "</things>; rel=\"successor-version\"");
    CHECK(header(get(w, "/things"), "Deprecation") == NULL);
    CHECK_EQ(get(w, "/old-things?limit=0").status, 400);
}

TEST(a_route_that_demands_if_match_is_428_without_it)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply made = post(w, "/things", "{'name':'one'}");
    const char *path = arena_strdup(&world_app(w)->arena, fmt("/strict/%s", made.id));
    struct reply r = patch(w, path, "{'size':8}");

    CHECK_EQ(r.status, 428);
    CHECK_STR(r.code, "precondition_required");
    CHECK_EQ(member_int(get(w, "/things/%s", made.id), "size"), 7);
    CHECK_EQ(with(w, PATCH, path, "If-Match: \"other\"", "{'size':8}").status, 412);
    r = with(w, PATCH, path, fmt("If-Match: %s", header(made, "ETag")), "{'size':8}");
    CHECK_EQ(r.status, 200);
    CHECK_EQ(patch(w, path, "{'size':1000}").status, 400);
    CHECK_EQ(as(w, AS_STRANGER, PATCH, path, "{'size':8}").status, 404);
}

TEST(an_error_is_a_problem_for_who_asks_for_one_and_406_is_for_who_takes_no_json)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = with(w, GET, "/things/x", "Accept: application/problem+json", NULL);

    CHECK_EQ(r.status, 404);
    CHECK_STR(header(r, "Content-Type"), "application/problem+json");
    CHECK_EQ(member_int(r, "status"), 404);
    CHECK_STR(member(r, "type"), "/errors/not_found");
    CHECK_EQ(get(w, "/errors/not_found").status, 200);
    CHECK_EQ(with(w, GET, "/things", "Accept: image/png", NULL).status, 406);
    CHECK_EQ(with(w, GET, "/things", "Accept: text/html, */*;q=0.1", NULL).status, 200);
}

TEST(an_internal_error_shows_nothing_of_its_cause)
{
    _cleanup_(world_freep) struct world *w = world_new();

    struct reply r = post(w, "/things", "{'name':'broken'}");
    CHECK_EQ(r.status, 500);
    CHECK_STR(r.code, "internal_error");
    CHECK(!strstr(r.body.p, "nobody may see") && !strstr(r.body.p, "a message neither"));
}

TEST(a_long_answer_is_compressed_and_its_tag_says_how)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(KIB(64));

    buf_puts(&b, "{\"name\":\"one\",\"note\":\"");
    for (int i = 0; i < 400; i++)
        buf_puts(&b, "again and ");
    buf_puts(&b, "\"}");
    const char *id = post(w, "/things", buf_cstr(&b)).id;
    buf_free(&b);
    struct reply plain = get(w, "/things/%s", id);
    CHECK(header(plain, "Content-Encoding") == NULL);
    const char *tag = header(plain, "ETag");
    struct reply gz = with(w, GET, fmt("/things/%s", id), "Accept-Encoding: gzip", NULL);
    CHECK_STR(header(gz, "Content-Encoding"), "gzip");
    CHECK(gz.body.n < plain.body.n / 4 && (unsigned char)gz.body.p[0] == 0x1f);
    CHECK(strstr(header(gz, "ETag"), "-gz\"") != NULL);
    CHECK(strncmp(header(gz, "ETag"), tag, strlen(tag) - 1) == 0);
    struct reply zst = with(w, GET, fmt("/things/%s", id), "Accept-Encoding: br, zstd;q=0.5", NULL);
    CHECK_STR(header(zst, "Content-Encoding"), "zstd");
    CHECK(header(with(w, GET, fmt("/things/%s", id), "Accept-Encoding: gzip;q=0", NULL),
                 "Content-Encoding") == NULL);
    struct reply same =
        with(w, GET, fmt("/things/%s", id),
             fmt("Accept-Encoding: gzip\nIf-None-Match: %s", header(gz, "ETag")), NULL);
    CHECK_EQ(same.status, 304);
}

TEST(an_unchanged_object_is_304_and_a_changed_one_is_not_overwritten)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = post(w, "/things", "{'name':'one'}").id;
    struct reply r = get(w, "/things/%s", id);
    const char *tag = arena_strdup(&world_app(w)->arena, header(r, "ETag"));
    const char *path = arena_strdup(&world_app(w)->arena, fmt("/things/%s", id));

    CHECK(strstr(tag, "-r1\"") != NULL && tag[0] == '"');
    r = with(w, GET, path, fmt("If-None-Match: %s", tag), NULL);
    CHECK_EQ(r.status, 304);
    CHECK_EQ(r.body.n, 0);
    CHECK_EQ(with(w, PATCH, path, fmt("If-Match: %s", tag), "{'size':8}").status, 200);
    CHECK_EQ(with(w, GET, path, fmt("If-None-Match: %s", tag), NULL).status, 200);
    CHECK_EQ(with(w, PATCH, path, fmt("If-Match: %s", tag), "{'size':9}").status, 412);
    CHECK_EQ(with(w, DELETE, path, fmt("If-Match: %s", tag), NULL).status, 412);
    CHECK_EQ(with(w, PATCH, path, "If-Match: *", "{'size':9}").status, 200);
    r = get(w, "/things");
    CHECK(strncmp(header(r, "ETag"), "W/\"", 3) == 0);
    CHECK_EQ(with(w, GET, "/things", fmt("If-None-Match: %s", header(r, "ETag")), NULL).status,
             304);
}

/* ---- rows */

TEST(an_object_comes_from_the_cache_and_a_change_is_seen_at_once)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = arena_strdup(&world_app(w)->arena, post(w, "/things", "{'name':'one'}").id);

    for (int i = 1; i < 20; i++) {
        CHECK_EQ(patch(w, fmt("/things/%s", id), fmt("{'size':%d}", i)).status, 200);
        CHECK_EQ(member_int(get(w, "/things/%s", id), "size"), i);
        CHECK_EQ(member_int(get(w, "/things/%s", id), "size"), i);
        CHECK_EQ(member_int(get(w, "/v1/things/%s", id), "size"), i);
    }
    CHECK_EQ(as(w, AS_STRANGER, GET, fmt("/things/%s", id), NULL).status, 404);
    CHECK_EQ(as(w, AS_STRANGER, PATCH, fmt("/things/%s", id), "{'size':1}").status, 404);
    CHECK_EQ(as(w, AS_STRANGER, DELETE, fmt("/things/%s", id), NULL).status, 404);
    CHECK_EQ(as(w, AS_TEST_KEY, GET, fmt("/things/%s", id), NULL).status, 404);
    CHECK_EQ(del(w, "/things/%s", id).status, 200);
    CHECK_EQ(get(w, "/things/%s", id).status, 404);
}

TEST(a_project_key_sees_its_own_project_only)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask(w, POST, "/things", "test-project1", NULL, "{'name':'one'}");
    const char *path = fmt("/things/%s", r.id);

    CHECK_EQ(r.status, 201);
    CHECK_EQ(ask(w, GET, path, "test-project1", NULL, NULL).status, 200);
    CHECK_EQ(ask(w, GET, path, "test-project2", NULL, NULL).status, 404);
    CHECK_EQ(ask(w, GET, "/things", "test-project2", NULL, NULL).len, 0);
    CHECK_EQ(ask(w, GET, "/things", "test-project1", NULL, NULL).len, 1);
    /* A row of the tenant's that is of no project is nobody's project's, cached or not. */
    const char *bare = fmt("/things/%s", post(w, "/things", "{'name':'bare'}").id);
    CHECK_EQ(ask(w, GET, bare, "test-project1", NULL, NULL).status, 404);
    CHECK_EQ(get(w, "%s", bare).status, 200);
    CHECK_EQ(ask(w, GET, bare, "test-project1", NULL, NULL).status, 404);
}

TEST(a_platform_delete_is_204_a_classic_one_has_a_message)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *a = post(w, "/things", "{'name':'a'}").id;
    const char *b = post(w, "/things", "{'name':'b'}").id;
    struct reply r = del(w, "/v1/things/%s", a);

    CHECK_EQ(r.status, 204);
    CHECK_EQ(r.body.n, 0);
    CHECK_STR(member(del(w, "/things/%s", b), "message"), "thing deleted");
}

TEST(a_list_goes_on_where_its_cursor_says)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (int i = 0; i < 5; i++) {
        CHECK_EQ(post(w, "/things", fmt("{'name':'n%d'}", i)).status, 201);
        clock_advance(world_clock(w), SECONDS(1));
    }
    struct reply r = get(w, "/v1/things?limit=2");
    CHECK_EQ(r.len, 2);
    CHECK_STR(member(r, "data.0.name"), "n4");
    CHECK_STR(member(r, "has_more"), "true");
    CHECK(strstr(header(r, "Link"), "</v1/things?limit=2&cursor=") != NULL);
    r = get(w, "/v1/things?limit=2&cursor=%s", member(r, "next_cursor"));
    CHECK_STR(member(r, "data.0.name"), "n2");
    r = get(w, "/v1/things?limit=2&cursor=%s", member(r, "next_cursor"));
    CHECK_EQ(r.len, 1);
    CHECK(member(r, "next_cursor") == NULL);
    CHECK_EQ(get(w, "/things?name=n1,n2").len, 2);
    CHECK_EQ(get(w, "/v1/things?limit=101").status, 400);
    CHECK(header(get(w, "/things?limit=2"), "Link") != NULL);
}

TEST(a_long_list_is_whole_and_one_of_large_rows_says_where_it_goes_on)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct buf b = BUF(MIB(1));

    for (int i = 0; i < 250; i++)
        CHECK_EQ(ask(w, POST, "/things", "test-rich", NULL, fmt("{'name':'n%03d'}", i)).status,
                 201);
    struct reply r = get(w, "/things?sort=name");
    CHECK_EQ(r.len, 250);
    CHECK(header(r, "Link") == NULL);
    CHECK_STR(member(r, "249.name"), "n249");
    r = get(w, "/things?sort=name&limit=150&offset=50");
    CHECK_EQ(r.len, 150);
    CHECK_STR(member(r, "0.name"), "n050");
    CHECK_STR(member(r, "149.name"), "n199");
    const char *link = header(r, "Link");
    CHECK(link != NULL);
    r = get(w, "%.*s", (int)strcspn(link + 1, ">"), link + 1);
    CHECK_EQ(r.len, 50);
    CHECK_STR(member(r, "0.name"), "n200");

    for (int i = 0; i < 190; i++) {
        buf_clear(&b);
        buf_printf(&b, "{\"name\":\"large%d\",\"note\":\"", i);
        memset(buf_room(&b, 100000), 'x', 100000);
        buf_grew(&b, 100000);
        buf_puts(&b, "\"}");
        CHECK_EQ(ask(w, POST, "/things", "test-rich", NULL, buf_cstr(&b)).status, 201);
    }
    buf_free(&b);
    r = get(w, "/things");
    CHECK(r.len >= 100 && r.len < 440);
    CHECK(header(r, "Link") != NULL);
}

/* ---- waiting, streaming */

TEST(a_parked_call_is_woken_by_its_topic)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static const char *const paths[] = { "/wait?wait=20", "/wait-write?wait=20" };
    const char *keys[] = { "test-owner", "test-stranger" };

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        int fd = ask_begin(w, GET, paths[i], keys[i], NULL, NULL);
        for (int n = 0; n < 500 && park_count(world_app(w)->park) == 0; n++)
            usleep(2000);
        CHECK_EQ(park_count(world_app(w)->park), 1);
        CHECK_EQ(ask(w, POST, "/things", keys[i], NULL, "{'name':'one'}").status, 201);
        struct reply r = ask_end(w, fd);
        CHECK_EQ(r.status, 200);
        CHECK_EQ(member_int(r, "n"), 1);
    }
}

TEST(a_parked_call_ends_at_its_time_and_when_its_peer_leaves)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int fd = ask_begin(w, GET, "/wait?wait=20", NULL, NULL, NULL);

    for (int n = 0; n < 500 && park_count(world_app(w)->park) == 0; n++)
        usleep(2000);
    world_sleep(w, SECONDS(21));
    struct reply r = ask_end(w, fd);
    CHECK_EQ(r.status, 200);
    CHECK_EQ(member_int(r, "n"), 0);
    fd = ask_begin(w, GET, "/wait-write?wait=20", NULL, NULL, NULL);
    for (int n = 0; n < 500 && park_count(world_app(w)->park) == 0; n++)
        usleep(2000);
    CHECK_EQ(park_count(world_app(w)->park), 1);
    close(fd);
    for (int n = 0; n < 500 && park_count(world_app(w)->park) > 0; n++)
        usleep(2000);
    CHECK_EQ(park_count(world_app(w)->park), 0);
}

TEST(a_header_that_counts_once_is_given_once)
{
    static const char *const twice[] = {
        "Idempotency-Key: a\nIdempotency-Key: b",
        "X-API-Version: 2026-01-01\nX-API-Version: 2026-04-01",
        "Content-Type: application/json\nContent-Type: text/plain"
    };
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(twice); i++) {
        struct reply r = with(w, POST, "/things", twice[i], "{'name':'one'}");
        CHECK_EQ(r.status, 400);
        CHECK(strstr(member(r, "error.message"), "more than once") != NULL);
    }
    CHECK_EQ(with(w, POST, "/things", "Content-Encoding: gzip", "{'name':'one'}").status, 415);
    CHECK_EQ(with(w, POST, "/things", "Content-Encoding: identity", "{'name':'one'}").status, 201);
}

TEST(a_parked_run_signals_nobody_and_its_last_run_must_answer)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(get(w, "/noise").status, 200);
    noises = 0;
    int fd = ask_begin(w, GET, "/noise?wait=20", NULL, NULL, NULL);
    for (int n = 0; n < 500 && park_count(world_app(w)->park) == 0; n++)
        usleep(2000);
    CHECK_EQ(post(w, "/things", "{'name':'after it'}").status, 201);
    CHECK_EQ(noises, 1);
    world_sleep(w, SECONDS(21));
    struct reply r = ask_end(w, fd);
    CHECK_EQ(r.status, 500);
    CHECK_STR(r.code, "internal_error");
    CHECK_EQ(noises, 2);
}

TEST(a_server_that_drains_does_not_wait_for_parked_calls)
{
    _cleanup_(world_freep) struct world *w = world_new();
    int fd = ask_begin(w, GET, "/wait?wait=20", NULL, NULL, NULL);

    for (int n = 0; n < 500 && park_count(world_app(w)->park) == 0; n++)
        usleep(2000);
    int64_t from = clock_mono(clock_system());
    world_restart(w);
    CHECK(clock_mono(clock_system()) - from < SECONDS(2));
    CHECK_EQ(ask_end(w, fd).status, 200);
}

TEST(a_stream_brings_what_is_written)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = with(w, GET, "/stream", NULL, NULL);

    CHECK_EQ(r.status, 200);
    CHECK_STR(header(r, "Content-Type"), "text/event-stream");
    CHECK_EQ(r.body.n, 3 * strlen("data: hello\n\n"));
}

TEST(a_large_body_takes_no_thread_the_connection_of_another)
{
    _cleanup_(world_freep) struct world *w = world_new();
    static char big[100000];

    CHECK_STR(member(get(w, "/where"), "message"), "mine");
    memset(big, ' ', sizeof(big) - 1);
    CHECK_STR(member(with(w, GET, "/where", NULL, big), "message"), "mine");
}

/* ---- core's own routes */

TEST(health_metrics_and_description_are_there)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask(w, GET, "/health/live", "", NULL, NULL);

    CHECK_STR(r.body.p, "{\"status\":\"ok\"}");
    r = ask(w, GET, "/health/ready", "", NULL, NULL);
    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "status"), "UP");
    CHECK_STR(member(r, "checks.database"), "CONNECTED");
    CHECK_EQ(get(w, "/metrics").status, 403);
    r = as(w, AS_OPERATOR, GET, "/metrics", NULL);
    CHECK(strstr(r.body.p, "brume_http_requests_total{method=\"GET\",route=\"/health/live\"") !=
          NULL);
    r = ask(w, GET, "/v1/openapi.json", "", NULL, NULL);
    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "openapi"), "3.1.0");
}

TEST(what_the_server_itself_refuses_is_in_our_shape)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = ask_raw(w, STR("GET /things HTTP/1.1\r\n\r\n")); /* no Host */

    CHECK_EQ(r.status, 400);
    CHECK(header(r, "X-Request-Id") != NULL);
    CHECK_STR(member(r, "error.request_id"), header(r, "X-Request-Id"));
}

TEST(every_method_of_the_service_validates_and_is_the_tenants_own)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *id = arena_strdup(&world_app(w)->arena, post(w, "/things", "{'name':'one'}").id);

    CHECK_EQ(patch(w, fmt("/things/%s", id), "{'size':1000}").status, 400);
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
}

TESTS(test)
