/* SPDX-License-Identifier: Apache-2.0 */
#include "drivers/compute/compute.h"
#include "tests/world.h"

static const char *status_of(struct world *w, const char *id)
{
    return member(get(w, "/instances/%s", id), "status");
}

TEST(an_instance_is_pending_at_first_and_runs_soon)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/instances",
                          "{'name':'web-01','image':'nginx','instance_type':'basic-2',"
                          "'ports':'8080:80'}");

    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "status"), "pending");
    CHECK_STR(member(r, "ports"), "8080:80");
    CHECK_EQ(member_int(r, "memory_limit"), 1024);
    world_settle(w);
    r = get(w, "/instances/web-01");
    CHECK_STR(member(r, "status"), "running");
    CHECK(member(r, "status_reason") == NULL);
    CHECK(member(r, "started_at") != NULL);
    CHECK_STR(member(get(w, "/vpcs/default"), "cidr_block"), "10.0.0.0/16");
}

TEST(every_fault_of_a_launch_is_named)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r =
        post(w, "/instances", "{'name':'no good','ports':'x','env':{'A':1},'cmd':[],'colour':1}");

    CHECK_EQ(r.status, 400);
    CHECK(member(r, "error.details.5.field") != NULL); /* and 'image', which is missing */
    r = post(w, "/instances", "{'name':'a','image':'nginx','instance_type':'huge-99'}");
    CHECK_EQ(r.status, 400);
    CHECK_STR(member(r, "error.details.0.field"), "instance_type");
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'../etc'}").status, 400);
    CHECK_EQ(post(w, "/instances",
                  "{'name':'a','image':'nginx','vpc_id':'0189c1a2-0000-7000-8000-000000000000'}")
                 .status,
             404);
}

TEST(port_maps_are_checked)
{
    static const char *const bad[] = { "'80:'",         "':80'",    "'80:0'",    "'65536:80'",
                                       "'80:80/sctp'",  "'80:80,'", "7",         "['80:80',7]",
                                       "'80:80,80:81'", "'-1:80'",  "'0x50:80'", "{}" };
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_EQ(
            post(w, "/instances", fmt("{'name':'a','image':'nginx','ports':%s}", bad[i])).status,
            400);
    struct reply r = post(w, "/instances",
                          "{'name':'a','image':'nginx','ports':['53:53/udp','8080:80/tcp','81']}");
    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "ports"), "53:53/udp,8080:80,0:81");
}

TEST(what_is_not_built_is_refused)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/instances",
                          "{'name':'a','image':'nginx',"
                          "'volumes':[{'volume_id':'x','mount_path':'/data'}]}");

    CHECK_EQ(r.status, 501);
    CHECK_STR(r.code, "not_implemented");
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'nginx','driver':'vm'}").status, 501);
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'nginx','volumes':[]}").status, 201);
    CHECK_EQ(get(w, "/instances/a/console").status, 501);
}

TEST(an_instance_is_stopped_started_paused_and_resumed)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'nginx'}").id;
    const char *path = fmt("/instances/%s", i);

    world_settle(w);
    CHECK_EQ(put(w, path, "{'status':'stopped'}").status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "stopped");
    CHECK_EQ(post(w, fmt("%s/pause", path), NULL).status, 409);
    CHECK_EQ(post(w, fmt("%s/resume", path), NULL).status, 409);
    CHECK_EQ(post(w, fmt("%s/restart", path), NULL).status, 409);
    CHECK_EQ(put(w, path, "{'status':'running'}").status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "running");
    CHECK_EQ(post(w, fmt("%s/pause", path), NULL).status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "paused");
    CHECK_EQ(post(w, fmt("%s/resume", path), NULL).status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "running");
    CHECK_EQ(post(w, fmt("%s/restart", path), NULL).status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "running");
    CHECK_EQ(member_int(get(w, "%s", path), "restart_count"), 1);
    CHECK_EQ(post(w, fmt("%s/stop", path), NULL).status, 200);
    world_settle(w);
    CHECK_EQ(post(w, fmt("%s/start", path), NULL).status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, i), "running");
    CHECK_EQ(put(w, path, "{'status':'error'}").status, 400);
    CHECK_EQ(put(w, path, "{}").status, 400);
    CHECK_EQ(put(w, path, "{'private_ip':'10.0.0.9'}").status, 400);
    CHECK_STR(member(patch(w, path, "{'labels':{'team':'one'}}"), "labels.team"), "one");
}

TEST(a_deleted_instance_is_terminated_for_an_hour_and_gone_from_lists)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'nginx'}").id;

    world_settle(w);
    CHECK_EQ(del(w, "/instances/%s", i).status, 200);
    CHECK_EQ(get(w, "/instances").len, 0);
    CHECK_STR(status_of(w, i), "running");
    CHECK_STR(member(get(w, "/instances/%s", i), "status_reason"), "being terminated");
    world_settle(w);
    CHECK_STR(status_of(w, i), "terminated");
    CHECK_EQ(get(w, "/instances/a").status, 404);
    CHECK_EQ(del(w, "/instances/%s", i).status, 404);
    CHECK_EQ(as(w, AS_STRANGER, GET, fmt("/instances/%s", i), NULL).status, 404);
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'nginx'}").status, 201);
    world_sleep(w, HOURS(1));
    CHECK_EQ(get(w, "/instances/%s", i).status, 404);
    struct compute_state st;
    struct err e;
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct uuid id;
    snprintf(id.s, sizeof(id.s), "%s", i);
    CHECK_EQ(compute_inspect(world_compute(w), &a, &id, &st, &e), 0);
    CHECK_EQ(st.status, COMPUTE_ABSENT);
}

TEST(an_instance_the_store_never_knew_is_left_alone)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct compute_spec s = { .id = { "0189c1a2-0000-7000-8000-000000000001" },
                              .revision = 1,
                              .boot = 1,
                              .name = "stray",
                              .image = "sha256:0" };
    struct compute_state st;
    struct err e;

    CHECK_EQ(compute_ensure(world_compute(w), &a, &s, &st, &e), 0);
    reconcile_signal(world_app(w), world_loop("instance"), &s.id);
    world_settle(w);
    CHECK_EQ(compute_inspect(world_compute(w), &a, &s.id, &st, &e), 0);
    CHECK(st.status != COMPUTE_ABSENT);
}

TEST(a_command_that_dies_is_restarted_and_at_last_an_error)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i =
        post(w, "/instances", "{'name':'a','image':'nginx','env':{'SIMULATE':'exit'}}").id;

    world_settle(w);
    CHECK_STR(status_of(w, i), "restarting");
    for (int n = 0; n < 10; n++)
        world_sleep(w, SECONDS(20));
    struct reply r = get(w, "/instances/%s", i);
    CHECK_STR(member(r, "status"), "error");
    CHECK(strstr(member(r, "status_reason"), "ended with code 1") != NULL);
    CHECK_EQ(member_int(r, "exit_code"), 1);
    i = post(w, "/instances",
             "{'name':'b','image':'nginx','restart_policy':'never','env':{'SIMULATE':'exit'}}")
            .id;
    world_settle(w);
    CHECK_STR(status_of(w, i), "error");
}

TEST(what_ends_well_is_stopped_unless_it_is_to_run_always)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'nginx'}").id;
    struct uuid id;

    world_settle(w);
    snprintf(id.s, sizeof(id.s), "%s", i);
    world_sleep(w, MINUTES(1));
    compute_fake_exit(world_compute(w), &id, 0);
    reconcile_signal(world_app(w), world_loop("instance"), &id);
    world_settle(w);
    CHECK_STR(status_of(w, i), "stopped");
    i = post(w, "/instances", "{'name':'b','image':'nginx','restart_policy':'always'}").id;
    world_settle(w);
    snprintf(id.s, sizeof(id.s), "%s", i);
    world_sleep(w, MINUTES(1));
    compute_fake_exit(world_compute(w), &id, 0);
    reconcile_signal(world_app(w), world_loop("instance"), &id);
    world_settle(w);
    world_sleep(w, SECONDS(2));
    CHECK_STR(status_of(w, i), "running");
    CHECK_EQ(member_int(get(w, "/instances/b"), "restart_count"), 1);
}

TEST(what_cannot_be_made_is_an_error_that_says_why)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i =
        post(w, "/instances", "{'name':'a','image':'nginx','env':{'SIMULATE':'fail'}}").id;
    const char *j = post(w, "/instances", "{'name':'b','image':'no-such-image'}").id;

    world_settle(w);
    CHECK_STR(status_of(w, i), "error");
    CHECK(member(get(w, "/instances/%s", i), "status_reason") != NULL);
    CHECK_STR(status_of(w, j), "error");
    CHECK(strstr(member(get(w, "/instances/%s", j), "status_reason"), "no-such-image") != NULL);
    CHECK_STR(member(get(w, "/images/no-such-image"), "status"), "error");
    CHECK_EQ(del(w, "/instances/b").status, 200);
    CHECK_EQ(del(w, "/images/no-such-image").status, 200);
}

TEST(an_instance_waits_for_its_image)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'slow-one'}").id;

    CHECK_STR(status_of(w, i), "pending");
    for (int n = 0; n < 10 && strcmp(status_of(w, i), "running") != 0; n++)
        world_sleep(w, SECONDS(1));
    CHECK_STR(status_of(w, i), "running");
    CHECK_STR(member(get(w, "/images/slow-one"), "status"), "ready");
    CHECK_EQ(del(w, "/images/slow-one").status, 409);
}

TEST(instance_types_are_listed)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = get(w, "/instance-types");

    CHECK_EQ(r.status, 200);
    CHECK_STR(member(r, "1.id"), "basic-2");
    CHECK_EQ(member_int(r, "1.memory_mb"), 1024);
    CHECK(strstr(fmt("%.*s", (int)r.body.n, r.body.p), "\"price_per_hour\":0.02") != NULL);
    CHECK(get(w, "/images/recipes").len >= 7);
}

TEST(logs_stats_and_commands_reach_the_host)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'nginx'}").id;

    CHECK_EQ(post(w, fmt("/instances/%s/exec", i), "{'cmd':['true']}").status, 409);
    world_settle(w);
    struct reply r = get(w, "/instances/%s/logs", i);
    CHECK_EQ(r.status, 200);
    CHECK(r.body.n > 0);
    CHECK_EQ(get(w, "/instances/%s/stats", i).status, 200);
    CHECK_EQ(post(w, fmt("/instances/%s/exec", i), "{'cmd':['true']}").status, 200);
    CHECK_EQ(post(w, fmt("/instances/%s/exec", i), "{'cmd':[],'timeout':0}").status, 400);
    CHECK_EQ(get(w, "/instances/%s/logs?tail=x", i).status, 400);
}

TEST(images_are_made_listed_imported_and_deleted)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply r = post(w, "/images", "{'name':'busybox'}");

    CHECK_EQ(r.status, 201);
    CHECK_STR(member(r, "source"), "recipe");
    world_settle(w);
    CHECK_STR(member(get(w, "/images/busybox"), "status"), "ready");
    CHECK_EQ(post(w, "/images", "{'name':'busybox'}").status, 409);
    CHECK_EQ(post(w, "/images", "{'name':'a b'}").status, 400);
    CHECK_EQ(patch(w, fmt("/images/%s", r.id), "{'tags':{'a':'b'}}").status, 200);
    CHECK_EQ(patch(w, fmt("/images/%s", r.id), "{'name':'x'}").status, 400);
    struct reply up = ask(w, POST, "/images/import?name=mine&format=rootfs", NULL,
                          "Content-Type: application/x-tar", "not really a tarball");
    CHECK_EQ(up.status, 201);
    CHECK_STR(member(up, "status"), "ready");
    CHECK_STR(member(up, "source"), "import");
    CHECK_EQ(get(w, "/images").len, 2);
    CHECK_EQ(post(w, "/images/import?format=rootfs", "x").status, 400);
    CHECK_EQ(post(w, "/images/import?name=a&format=zip", "x").status, 400);
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'mine'}").status, 201);
    CHECK_EQ(del(w, "/images/mine").status, 409);
    CHECK_EQ(del(w, "/images/busybox").status, 200);
    CHECK_EQ(get(w, "/images/busybox").status, 404);
}

TEST(strangers_and_the_unauthorised_reach_no_instance)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *i = post(w, "/instances", "{'name':'a','image':'nginx'}").id;
    const char *g = member(get(w, "/images"), "0.id");
    static const char *const verbs[] = { "start", "stop", "restart", "pause", "resume" };
    const struct {
        enum method m;
        const char *path, *body;
        bool object;
    } all[] = {
        { POST, "/instances", "{'name':'x','image':'nginx'}", false },
        { GET, "/instances", NULL, false },
        { GET, fmt("/instances/%s", i), NULL, true },
        { PUT, fmt("/instances/%s", i), "{'status':'stopped'}", true },
        { PATCH, fmt("/instances/%s", i), "{'labels':{}}", true },
        { DELETE, fmt("/instances/%s", i), NULL, true },
        { GET, fmt("/instances/%s/logs", i), NULL, true },
        { GET, fmt("/instances/%s/stats", i), NULL, true },
        { POST, fmt("/instances/%s/exec", i), "{'cmd':['true']}", true },
        { GET, fmt("/instances/%s/console", i), NULL, true },
        { GET, "/instance-types", NULL, false },
        { GET, "/images", NULL, false },
        { GET, "/images/recipes", NULL, false },
        { POST, "/images", "{'name':'debian'}", false },
        { POST, "/images/import?name=x", "x", false },
        { GET, fmt("/images/%s", g), NULL, true },
        { PATCH, fmt("/images/%s", g), "{'tags':{}}", true },
        { DELETE, fmt("/images/%s", g), NULL, true },
    };

    world_settle(w);
    for (size_t n = 0; n < ARRAY_LEN(all); n++) {
        if (all[n].object)
            CHECK_EQ(as(w, AS_STRANGER, all[n].m, all[n].path, all[n].body).status, 404);
        CHECK_EQ(as(w, AS_NO_SCOPE, all[n].m, all[n].path, all[n].body).status, 403);
        CHECK_EQ(as(w, AS_NOBODY, all[n].m, all[n].path, all[n].body).status, 401);
        if (all[n].m == GET)
            CHECK_EQ(get(w, "%s?colour=1", all[n].path).status, 400);
    }
    for (size_t n = 0; n < ARRAY_LEN(verbs); n++) {
        const char *path = fmt("/instances/%s/%s", i, verbs[n]);

        CHECK_EQ(as(w, AS_STRANGER, POST, path, NULL).status, 404);
        CHECK_EQ(as(w, AS_NO_SCOPE, POST, path, NULL).status, 403);
        CHECK_EQ(as(w, AS_NOBODY, POST, path, NULL).status, 401);
    }
    CHECK_EQ(patch(w, fmt("/instances/%s", i), "{'ports':'1:1'}").status, 400);
}

TEST(a_test_key_sees_a_world_of_its_own)
{
    _cleanup_(world_freep) struct world *w = world_new();

    post(w, "/instances", "{'name':'a','image':'nginx'}");
    CHECK_EQ(as(w, AS_TEST_KEY, GET, "/instances", NULL).len, 0);
    CHECK_EQ(as(w, AS_TEST_KEY, POST, "/instances", "{'name':'a','image':'nginx'}").status, 201);
    CHECK_EQ(get(w, "/instances").len, 1);
}

TESTS(compute, an_instance_is_pending_at_first_and_runs_soon, every_fault_of_a_launch_is_named,
      port_maps_are_checked, what_is_not_built_is_refused,
      an_instance_is_stopped_started_paused_and_resumed,
      a_deleted_instance_is_terminated_for_an_hour_and_gone_from_lists,
      an_instance_the_store_never_knew_is_left_alone,
      a_command_that_dies_is_restarted_and_at_last_an_error,
      what_ends_well_is_stopped_unless_it_is_to_run_always,
      what_cannot_be_made_is_an_error_that_says_why, an_instance_waits_for_its_image,
      instance_types_are_listed, logs_stats_and_commands_reach_the_host,
      images_are_made_listed_imported_and_deleted, strangers_and_the_unauthorised_reach_no_instance,
      a_test_key_sees_a_world_of_its_own)
