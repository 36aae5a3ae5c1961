/* SPDX-License-Identifier: Apache-2.0 */
/* Of all services together: what a tenant or a project had, nothing keeps. */
#include "tests/world.h"

#include "codec/id.h"
#include "services/identity/identity.h"

/* One of each owned record, as its route makes it; how many. */
static int64_t make_all(struct world *w, const struct uuid *tenant)
{
    const struct record *made[256];
    int64_t n = 0;

    for (const struct service *const *s = all_services; *s; s++)
        for (const struct route *r = (*s)->routes; r && r->path; r++) {
            int64_t i = 0;

            while (i < n && made[i] != r->out)
                i++;
            if (r->method != POST || r->status != 201 || !record_is_owned(r->out) || i < n)
                continue;
            struct reply one = make_one(w, r->out);
            /* 409: another has brought it along */
            if (one.status != 201 && one.status != 409)
                fail_msg("%s: %d %s", r->path, one.status, one.body.p);
            CHECK(world_int(w, fmt("SELECT count(*) FROM %s WHERE tenant_id = '%s'", r->out->table,
                                   tenant->s)) > 0);
            made[n++] = r->out;
        }
    return n;
}

static struct uuid own_tenant(struct world *w)
{
    struct uuid id;

    CHECK(uuid_parse(str_of(member(get(w, "/auth/me"), "tenant_id")), &id));
    return id;
}

/* Turns, and what reconcilers do meanwhile, until nothing is left. */
static void until_empty(struct world *w, const struct uuid *tenant, const struct uuid *project)
{
    int64_t left = 1;
    struct err e = { 0 };

    for (int i = 0; i < 20 && left; i++) {
        int rc = project ? project_empty(world_app(w), tenant, project, &left, &e)
                         : tenant_empty(world_app(w), tenant, &left, &e);
        if (rc < 0)
            fail_msg("%s (%s)", e.msg, e.cause);
        world_sleep(w, SECONDS(30));
    }
    CHECK_EQ(left, 0);
}

/* Of a tenant that is there still: who is in it, what was done in it, what it has used (nothing),
 * and the proof that a host may destroy what it finds. */
static void only_kept(const char *rows)
{
    static const char *const kept[] = { "core_audit_block", "core_quota", "instance_graves",
                                        "journal", "tenant_members" };

    for (; *rows; rows += strcspn(rows, "\n") + 1) {
        size_t i = 0, n = strcspn(rows, " ");

        while (i < ARRAY_LEN(kept) && (strncmp(rows, kept[i], n) != 0 || kept[i][n]))
            i++;
        if (i == ARRAY_LEN(kept))
            fail_msg("it is emptied, and has rows still: %s", rows);
    }
}

TEST(nothing_of_a_tenant_that_is_emptied_is_left)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid tenant = own_tenant(w);

    CHECK(make_all(w, &tenant) >= 5);
    world_settle(w);
    world_key(w, AS_STRANGER);
    CHECK_EQ(as(w, AS_STRANGER, POST, "/queues", "{'name':'theirs'}").status, 201);
    until_empty(w, &tenant, NULL);
    only_kept(world_rows_of(w, &tenant));
    CHECK_EQ(world_int(w, fmt("SELECT sum(used) FROM core_quota WHERE tenant_id = '%s'", tenant.s)),
             0);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/queues", NULL).len, 1);
}

TEST(rows_that_hold_each_other_go_and_more_than_a_turn_of_them)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct uuid tenant = own_tenant(w);
    const char *a = post(w, "/queues", "{'name':'a'}").id;
    const char *b =
        post(w, "/queues", fmt("{'name':'b','dead_letter_queue_id':'%s','max_receives':3}", a)).id;
    int64_t left = 0;
    struct err e;

    CHECK_EQ(
        patch(w, fmt("/queues/%s", a), fmt("{'dead_letter_queue_id':'%s','max_receives':3}", b))
            .status,
        200);
    CHECK_EQ(del(w, "/queues/%s", a).status, 409);
    for (int i = 0; i < 120; i++)
        CHECK_EQ(post(w, "/queues", fmt("{'name':'q%d'}", i)).status, 201);
    CHECK_EQ(tenant_empty(world_app(w), &tenant, &left, &e), 0);
    CHECK_EQ(left, 22);
    until_empty(w, &tenant, NULL);
    CHECK_EQ(world_int(w, "SELECT sum(used) FROM core_quota WHERE name = 'queues'"), 0);
}

TEST(a_project_is_emptied_and_its_tenant_keeps_the_rest)
{
    _cleanup_(world_freep) struct world *w = world_new();
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct uuid tenant = own_tenant(w), project;
    const char *key;
    struct err e;

    uuid_new(world_clock(w), &project);
    CHECK_EQ(
        identity_project_key(world_app(w), &a, &tenant, &project, MODE_LIVE, "x", NULL, &key, &e),
        0);
    CHECK_EQ(ask(w, POST, "/queues", key, NULL, "{'name':'of-the-project'}").status, 201);
    CHECK_EQ(post(w, "/queues", "{'name':'of-the-tenant'}").status, 201);
    until_empty(w, &tenant, &project);
    CHECK_EQ(get(w, "/queues").len, 1);
}

TESTS(all, nothing_of_a_tenant_that_is_emptied_is_left,
      rows_that_hold_each_other_go_and_more_than_a_turn_of_them,
      a_project_is_emptied_and_its_tenant_keeps_the_rest)
