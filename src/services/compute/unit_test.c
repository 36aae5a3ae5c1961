/* SPDX-License-Identifier: Apache-2.0 */
/* Units, by a service that is there for this alone: tests/holder.c. */
#include "codec/id.h"
#include "core/config/config.h"
#include "core/service.h"
#include "drivers/compute/compute.h"
#include "drivers/image/image.h"
#include "services/compute/compute.h"
#include "tests/world.h"

static struct reply show(struct world *w, const char *name)
{
    return get(w, "/holders/%s", name);
}

static const char *status_of(struct world *w, const char *name)
{
    return member(show(w, name), "status");
}

static struct uuid unit_of(struct world *w, const char *name)
{
    struct uuid id;

    snprintf(id.s, sizeof(id.s), "%s", member(show(w, name), "unit_id"));
    return id;
}

static struct compute_spec order_of(struct world *w, struct arena *a, const struct uuid *id)
{
    struct compute_spec s;

    compute_fake_order(app_compute(world_app(w), MODE_LIVE), a, id, &s);
    return s;
}

static enum compute_status on_host(struct world *w, const struct uuid *id)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct compute_state st;
    struct err e;

    CHECK_EQ(compute_inspect(app_compute(world_app(w), MODE_LIVE), &a, id, &st, &e), 0);
    return st.status;
}

static struct uuid make(struct world *w, const char *body)
{
    struct reply r = post(w, "/holders", body);

    if (r.status != 201)
        fail_msg("%d: " STR_FMT, r.status, STR_ARG(r.body));
    world_sleep(w, MILLIS(200));
    return unit_of(w, member(r, "name"));
}

static int64_t used(struct world *w, const char *quota)
{
    return world_int(w,
                     fmt("SELECT coalesce(sum(used), 0) FROM core_quota WHERE name = '%s'", quota));
}

TEST(a_unit_runs_with_its_files_and_its_owner_is_told)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct uuid id = make(w, "{'name':'h','text':'served','secret':'hunter2'}");
    struct reply r = show(w, "h");
    struct compute_file *f;
    struct err e = { 0 };
    size_t n;

    CHECK_STR(member(r, "status"), "ready");
    CHECK_STR(member(r, "ip"), "10.0.0.3");
    CHECK(strstr(member(r, "ports"), "\"port\":80") != NULL);
    CHECK_EQ(member_int(r, "files"), 1);
    struct compute_spec s = order_of(w, &a, &id);
    CHECK_STR(s.data, "/var/lib/holder");
    CHECK_EQ(compute_files_read(&a, s.files, &f, &n, &e), 0);
    CHECK_EQ(n, 2);
    CHECK_EQ(f[1].mode, 0400);
    CHECK(str_is(f[1].content, "hunter2"));
    /* In the store it is sealed, and in nothing that the tenant sees. */
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units WHERE files LIKE '%hunter2%'"
                          " OR files LIKE '%aHVudGVyMg%'"),
             0);
    CHECK(memmem(r.body.p, r.body.n, "hunter2", 7) == NULL);
}

TEST(no_route_of_the_tenant_finds_a_unit_and_no_event_tells_of_it)
{
    static const char *const below[] = { "start", "stop", "restart", "pause", "resume" };
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");
    const char *path = fmt("/instances/%s", id.s);

    CHECK_EQ(get(w, "/instances").len, 0);
    CHECK_EQ(get(w, "/images").len, 0);
    CHECK_EQ(get(w, "/vpcs").len, 0);
    CHECK_EQ(get(w, "%s", path).status, 404);
    CHECK_EQ(get(w, "%s/logs", path).status, 404);
    CHECK_EQ(get(w, "%s/stats", path).status, 404);
    CHECK_EQ(post(w, fmt("%s/exec", path), "{'cmd':['id']}").status, 404);
    CHECK_EQ(patch(w, path, "{'labels':{}}").status, 404);
    CHECK_EQ(put(w, path, "{'status':'stopped'}").status, 404);
    for (size_t i = 0; i < ARRAY_LEN(below); i++)
        CHECK_EQ(post(w, fmt("%s/%s", path, below[i]), NULL).status, 404);
    CHECK_EQ(get(w, "/instances/main").status, 404);
    CHECK_EQ(del(w, "%s", path).status, 404);
    CHECK_STR(status_of(w, "h"), "ready");
    CHECK_EQ(world_int(w, "SELECT count(*) FROM journal WHERE events LIKE '%\"unit.%'"
                          " OR events LIKE '%instance.%'"),
             0);
    /* Nor does what has gone show. */
    CHECK_EQ(del(w, "/holders/h").status, 200);
    world_settle(w);
    CHECK_EQ(on_host(w, &id), COMPUTE_ABSENT);
    CHECK_EQ(get(w, "%s", path).status, 404);
}

static void free_plan(struct config *c)
{
    c->default_plan = "free"; /* 4 processors, 4 GiB */
}

static struct world *free_world(void)
{
    void (*configure)(struct config * c) = world_configure;

    world_configure = free_plan;
    struct world *w = world_new();
    world_configure = configure;
    return w;
}

TEST(its_processors_and_memory_count_and_come_back)
{
    _cleanup_(world_freep) struct world *w = free_world();

    make(w, "{'name':'h','memory_mb':100}");
    CHECK_EQ(used(w, "vcpus"), 1); /* half a one */
    CHECK_EQ(used(w, "memory_mb"), 100);
    CHECK_EQ(used(w, "instances"), 0);
    struct uuid id = unit_of(w, "h");
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    int64_t boot = order_of(w, &a, &id).boot;
    CHECK_EQ(patch(w, "/holders/h", "{'memory_mb':300}").status, 200);
    world_settle(w);
    CHECK_EQ(used(w, "memory_mb"), 300);
    CHECK_EQ(order_of(w, &a, &id).memory_mb, 300);
    CHECK_EQ(order_of(w, &a, &id).boot, boot); /* and it went on */
    for (int i = 0; i < 3; i++)
        make(w, fmt("{'name':'h%d','memory_mb':1024}", i));
    struct reply r = post(w, "/holders", "{'name':'more','memory_mb':1024}");
    CHECK_EQ(r.status, 403);
    CHECK_STR(r.code, "quota_exceeded");
    CHECK_EQ(patch(w, "/holders/h", "{'memory_mb':4096}").status, 403);
    CHECK_EQ(used(w, "memory_mb"), 300 + 3 * 1024);
    CHECK_EQ(get(w, "/holders").len, 4);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(del(w, "/holders/h%d", i).status, 200);
    CHECK_EQ(del(w, "/holders/h").status, 200);
    world_settle(w);
    CHECK_EQ(used(w, "vcpus"), 0);
    CHECK_EQ(used(w, "memory_mb"), 0);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units"), 0);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM unit_instances"), 0);
}

TEST(who_deletes_the_owner_and_tells_nobody_leaves_no_unit)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");

    CHECK_EQ(del(w, "/holders/h/row").status, 200);
    world_settle(w);
    CHECK_EQ(on_host(w, &id), COMPUTE_RUNNING);
    world_sleep(w, SECONDS(60));
    CHECK_EQ(on_host(w, &id), COMPUTE_ABSENT);
    CHECK_EQ(used(w, "memory_mb"), 0);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units"), 0);
}

TEST(an_owner_that_is_not_made_has_no_unit)
{
    _cleanup_(world_freep) struct world *w = world_new();

    make(w, "{'name':'h'}");
    CHECK_EQ(post(w, "/holders", "{'name':'h'}").status, 409); /* after its unit's launch */
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units"), 1);
    CHECK_EQ(used(w, "memory_mb"), 64);
    CHECK_EQ(post(w, "/holders", "{'name':'x','image':'nothing'}").status, 404);
    CHECK_EQ(post(w, "/holders", "{'name':'x','text':''}").status, 400);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM unit_instances"), 1);
}

static void wait_for(struct world *w, const char *name, const char *status)
{
    for (int n = 0; n < 500; n++) {
        if (strcmp(status_of(w, name), status) == 0)
            return;
        usleep(2000);
        world_settle(w);
    }
    CHECK_STR(status_of(w, name), status);
}

TEST(what_dies_comes_back_and_is_ready_anew)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");

    compute_fake_exit(app_compute(world_app(w), MODE_LIVE), &id, 137);
    compute_changed(world_app(w), &id);
    wait_for(w, "h", "starting");
    CHECK(strstr(member(show(w, "h"), "reason"), "signal 9") != NULL);
    world_sleep(w, SECONDS(2));
    wait_for(w, "h", "ready");
    CHECK_EQ(member_int(show(w, "h"), "restarts"), 1);
    CHECK_STR(member(show(w, "h"), "ip"), "10.0.0.3");
}

TEST(who_answers_no_probe_is_not_ready_and_says_why)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h','sick':true}");

    CHECK_STR(status_of(w, "h"), "running");
    CHECK_STR(member(show(w, "h"), "reason"), "port 80 refuses connections");
    id = make(w, "{'name':'g'}");
    CHECK_STR(status_of(w, "g"), "ready");
    compute_fake_sick(app_compute(world_app(w), MODE_LIVE), &id, true);
    world_sleep(w, SECONDS(1));
    world_sleep(w, SECONDS(1));
    CHECK_STR(status_of(w, "g"), "ready"); /* twice is no illness */
    world_sleep(w, SECONDS(1));
    CHECK_STR(status_of(w, "g"), "running");
    CHECK_STR(member(show(w, "g"), "reason"), "port 80 refuses connections");
    compute_fake_sick(app_compute(world_app(w), MODE_LIVE), &id, false);
    world_sleep(w, SECONDS(1));
    CHECK_STR(status_of(w, "g"), "ready");
    CHECK(member(show(w, "g"), "reason") == NULL);
}

TEST(a_command_may_ask_whether_it_is_well)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h','by_command':true}");

    CHECK_STR(status_of(w, "h"), "ready");
    compute_fake_sick(app_compute(world_app(w), MODE_LIVE), &id, true);
    for (int i = 0; i < 3; i++)
        world_sleep(w, SECONDS(1));
    CHECK_STR(status_of(w, "h"), "running");
    CHECK(strstr(member(show(w, "h"), "reason"), "its command ended with code 1") != NULL);
}

TEST(a_unit_of_the_tenants_image_holds_it)
{
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(post(w, "/images", "{'name':'redis'}").status, 201);
    world_settle(w);
    const char *image = member(get(w, "/images"), "0.id");
    make(w, "{'name':'h','image':'redis','of_tenant':true}");
    CHECK_STR(status_of(w, "h"), "ready");
    CHECK_EQ(del(w, "/images/%s", image).status, 409);
    CHECK_EQ(del(w, "/holders/h").status, 200);
    world_settle(w);
    CHECK_EQ(del(w, "/images/%s", image).status, 200);
}

TEST(less_memory_is_given_by_a_restart)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");

    CHECK_EQ(patch(w, "/holders/h", "{'memory_mb':32}").status, 200); /* less: by a restart */
    world_sleep(w, MILLIS(200));
    CHECK_EQ(used(w, "memory_mb"), 32);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    CHECK_EQ(order_of(w, &a, &id).boot, 2);
    CHECK_STR(status_of(w, "h"), "ready");
}

TEST(files_are_replaced_with_a_restart_or_a_command)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct uuid id = make(w, "{'name':'h'}");
    struct compute_spec was = order_of(w, &a, &id);

    CHECK_EQ(patch(w, "/holders/h", "{'text':'two'}").status, 200);
    world_sleep(w, MILLIS(200));
    struct compute_spec now = order_of(w, &a, &id);
    CHECK_EQ(now.boot, was.boot + 1);
    CHECK_EQ(now.files_revision, 2);
    CHECK(strstr(now.files, "dHdv") != NULL);
    CHECK_EQ(member_int(show(w, "h"), "files"), 2);
    CHECK_STR(status_of(w, "h"), "ready");

    id = make(w, "{'name':'g','reload':['kill','-HUP','1']}");
    was = order_of(w, &a, &id);
    CHECK_EQ(patch(w, "/holders/g", "{'text':'two'}").status, 200);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units WHERE reload_due"), 1);
    world_sleep(w, MILLIS(200));
    CHECK_EQ(order_of(w, &a, &id).boot, was.boot);
    CHECK_EQ(order_of(w, &a, &id).files_revision, 2);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units WHERE reload_due"), 0);
    CHECK_EQ(member_int(show(w, "g"), "files"), 2);
}

TEST(a_root_is_replaced_and_the_data_stay)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct uuid id = make(w, "{'name':'h'}");
    struct compute_spec was = order_of(w, &a, &id);

    CHECK_EQ(patch(w, "/holders/h", "{'image':'nginx'}").status, 200);
    world_sleep(w, MILLIS(500));
    struct compute_spec now = order_of(w, &a, &id);
    CHECK_EQ(now.root, was.root + 1);
    CHECK_EQ(now.boot, was.boot + 1);
    CHECK(strcmp(now.image, was.image) != 0);
    CHECK_STR(now.data, was.data);
    CHECK_STR(status_of(w, "h"), "ready");
    CHECK_EQ(patch(w, "/holders/h", "{'image':'nothing'}").status, 404);
}

TEST(a_unit_is_stopped_started_and_restarted)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");

    CHECK_EQ(post(w, "/holders/h/stop", NULL).status, 200);
    world_settle(w);
    CHECK_STR(status_of(w, "h"), "stopped");
    CHECK_EQ(on_host(w, &id), COMPUTE_STOPPED);
    CHECK_EQ(post(w, "/holders/h/stop", NULL).status, 200);
    CHECK_EQ(post(w, "/holders/h/exec", "{'text':'id'}").status, 409);
    CHECK_EQ(post(w, "/holders/h/exec", "{}").status, 400);
    CHECK_EQ(post(w, "/holders/h/start", NULL).status, 200);
    world_sleep(w, MILLIS(200));
    CHECK_STR(status_of(w, "h"), "ready");
    CHECK_EQ(post(w, "/holders/h/restart", NULL).status, 200);
    world_sleep(w, MILLIS(200));
    CHECK_STR(status_of(w, "h"), "ready");
    CHECK_STR(member(post(w, "/holders/h/exec", "{'text':'id'}"), "text"), "sh -c id\n");
}

TEST(units_of_an_owner_are_alone_or_in_a_vpc_with_a_name)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    const char *vpc = post(w, "/vpcs", "{'name':'shop'}").id;
    struct uuid one = make(w, "{'name':'one'}"), two = make(w, "{'name':'two'}");
    const char *own[2] = { show(w, "one").id, show(w, "two").id };

    CHECK_STR(order_of(w, &a, &one).vpc_id.s, own[0]);
    CHECK_STR(order_of(w, &a, &two).vpc_id.s, own[1]); /* the same address, another network */
    CHECK_STR(order_of(w, &a, &two).ip, "10.0.0.3");
    struct uuid in = make(w, fmt("{'name':'in','vpc_id':'%s'}", vpc));
    CHECK_STR(order_of(w, &a, &in).vpc_id.s, vpc);
    CHECK_STR(order_of(w, &a, &in).name, "main");
    CHECK_EQ(world_int(w, "SELECT count(*) FROM unit_instances"
                          " WHERE name = 'main.holder.service.internal'"),
             1);
    CHECK_EQ(post(w, "/holders", fmt("{'name':'again','vpc_id':'%s'}", vpc)).status, 409);
    /* An instance of the tenant's may have the same host name, and another address. */
    struct reply r =
        post(w, "/instances", fmt("{'name':'main','image':'nginx','vpc_id':'%s'}", vpc));
    CHECK_EQ(r.status, 201);
    CHECK(strcmp(member(r, "private_ip"), member(show(w, "in"), "ip")) != 0);
    CHECK_EQ(del(w, "/vpcs/%s", vpc).status, 409);
    CHECK_EQ(del(w, "/holders/in").status, 200);
    world_settle(w);
    CHECK_EQ(world_int(w, "SELECT count(*) FROM subnet_addresses"), 1);
    r = post(w, "/holders", fmt("{'name':'again','vpc_id':'%s'}", vpc));
    CHECK_EQ(r.status, 201);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/holders", fmt("{'name':'x','vpc_id':'%s'}", vpc)).status,
             404);
}

TEST(a_process_that_starts_anew_takes_units_as_they_are)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid id = make(w, "{'name':'h'}");

    CHECK_EQ(del(w, "/holders/h/row").status, 200);
    post(w, "/holders", "{'name':'g'}"); /* and none of its visits has run */
    world_restart(w);
    world_sleep(w, SECONDS(60));
    CHECK_EQ(on_host(w, &id), COMPUTE_ABSENT);
    CHECK_STR(status_of(w, "g"), "ready");
    CHECK_EQ(world_int(w, "SELECT count(*) FROM units"), 1);
}

TEST(strangers_find_no_holder)
{
    static const struct {
        enum method method;
        const char *tail, *body;
    } routes[] = {
        { GET, "", NULL },
        { PATCH, "", "{'text':'x'}" },
        { POST, "/start", NULL },
        { POST, "/stop", NULL },
        { POST, "/exec", "{'text':'id'}" },
        { DELETE, "/row", NULL },
        { POST, "/restart", NULL },
        { DELETE, "", NULL },
    };
    _cleanup_(world_freep) struct world *w = world_new();

    make(w, "{'name':'h'}");
    const char *id = show(w, "h").id;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++)
        CHECK_EQ(as(w, AS_STRANGER, routes[i].method, fmt("/holders/%s%s", id, routes[i].tail),
                    routes[i].body)
                     .status,
                 404);
    CHECK_EQ(patch(w, "/holders/h", "{'memory_mb':1}").status, 400);
    CHECK_EQ(get(w, "/holders?sort=colour").status, 400);
}

TESTS(holder)
