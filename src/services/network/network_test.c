/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/world.h"

TEST(a_vpc_has_a_network_of_its_own_and_may_share_its_addresses)
{
    _cleanup_(world_freep) struct world *w = world_new();
    struct reply a = post(w, "/vpcs", "{'name':'prod-vpc'}");
    struct reply b = post(w, "/vpcs", "{'name':'other'}");

    CHECK_EQ(a.status, 201);
    CHECK_STR(member(a, "cidr_block"), "10.0.0.0/16");
    CHECK_STR(member(b, "cidr_block"), "10.0.0.0/16");
    CHECK_STR(member(a, "status"), "active");
    CHECK(member_int(a, "vxlan_id") != member_int(b, "vxlan_id"));
    CHECK(strcmp(member(a, "network_id"), member(b, "network_id")) != 0);
    CHECK(strncmp(member(a, "arn"), "arn:thecloud:vpc:", 17) == 0);
}

TEST(bad_networks_are_refused)
{
    static const char *const bad[] = {
        "10.0.0.1/16",  "10.0.0.0/8", "10.0.0.0/29",    "10.0.0/16",     "fd00::/16",
        "10.0.0.0",     "",           "300.0.0.0/16",   "198.18.0.0/16", "198.19.4.0/24",
        "127.0.0.0/16", "0.0.0.0/16", "169.254.0.0/16", "224.0.0.0/24",  "255.255.0.0/16"
    };
    _cleanup_(world_freep) struct world *w = world_new();

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct reply r = post(w, "/vpcs", fmt("{'name':'a','cidr_block':'%s'}", bad[i]));
        CHECK_EQ(r.status, 400);
        CHECK_STR(member(r, "error.details.0.field"), "cidr_block");
    }
    CHECK_EQ(post(w, "/vpcs", "{'name':'a','cidr_block':'192.168.5.0/24'}").status, 201);
    CHECK_EQ(post(w, "/vpcs", "{'name':'a'}").status, 409);
}

TEST(a_subnet_lies_in_its_vpc_and_overlaps_no_other)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *v = post(w, "/vpcs", "{'name':'prod'}").id;
    const char *path = fmt("/vpcs/%s/subnets", v);
    struct reply s = post(w, path,
                          "{'name':'private-subnet-1','cidr_block':'10.0.1.0/24',"
                          "'availability_zone':'us-east-1a'}");

    CHECK_EQ(s.status, 201);
    CHECK_STR(member(s, "gateway_ip"), "10.0.1.1");
    CHECK_STR(member(s, "availability_zone"), "us-east-1a");
    CHECK_EQ(member_int(s, "available_ips"), 252);
    CHECK(strstr(member(s, "arn"), ":subnet/") != NULL);
    CHECK_EQ(post(w, path, "{'name':'b','cidr_block':'10.1.0.0/24'}").status, 400);
    CHECK_EQ(post(w, path, "{'name':'b','cidr_block':'10.0.1.128/25'}").status, 409);
    CHECK_EQ(post(w, path, "{'name':'b','cidr_block':'10.0.0.0/16'}").status, 409);
    CHECK_EQ(post(w, path, "{'name':'private-subnet-1','cidr_block':'10.0.2.0/24'}").status, 409);
    CHECK_EQ(post(w, path, "{'name':'b','cidr_block':'10.0.2.0/24'}").status, 201);
    CHECK_EQ(get(w, "/vpcs/%s/subnets", v).len, 2);
    CHECK_EQ(get(w, "/vpcs/prod/subnets").len, 2);
    CHECK_EQ(member_int(get(w, "/vpcs/%s/subnets", v), "0.available_ips"), 252);
    CHECK_STR(member(get(w, "/subnets/%s", s.id), "name"), "private-subnet-1");
    s = patch(w, fmt("/subnets/%s", s.id), "{'name':'renamed'}");
    CHECK_STR(member(s, "name"), "renamed");
    CHECK_EQ(member_int(s, "available_ips"), 252);
}

TEST(instances_get_different_addresses_and_hold_their_subnet)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *v = post(w, "/vpcs", "{'name':'tiny','cidr_block':'10.9.0.0/28'}").id;
    const char *s =
        post(w, fmt("/vpcs/%s/subnets", v), "{'name':'all','cidr_block':'10.9.0.0/28'}").id;
    char seen[16][32] = { "" };

    for (int i = 0; i < 12; i++) {
        struct reply r = post(
            w, "/instances",
            fmt("{'name':'i%d','image':'busybox','instance_type':'basic-1','vpc_id':'%s'}", i, v));
        CHECK_EQ(r.status, 201);
        CHECK_STR(member(r, "subnet_id"), s);
        for (int j = 0; j < i; j++)
            CHECK(strcmp(seen[j], member(r, "private_ip")) != 0);
        snprintf(seen[i], sizeof(seen[i]), "%s", member(r, "private_ip"));
    }
    CHECK_EQ(member_int(get(w, "/subnets/%s", s), "available_ips"), 0);
    struct reply full =
        post(w, "/instances", fmt("{'name':'more','image':'busybox','vpc_id':'%s'}", v));
    CHECK_EQ(full.status, 403);
    CHECK_STR(full.code, "quota_exceeded");
    CHECK_EQ(del(w, "/subnets/%s", s).status, 409);
    CHECK_EQ(del(w, "/vpcs/%s", v).status, 409);
    world_settle(w);
    CHECK_EQ(del(w, "/instances/i5").status, 200);
    world_settle(w);
    struct reply again =
        post(w, "/instances", fmt("{'name':'more','image':'busybox','vpc_id':'%s'}", v));
    CHECK_EQ(again.status, 201);
    CHECK_STR(member(again, "private_ip"), seen[5]);
}

TEST(an_empty_vpc_goes_with_its_subnets)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *v = post(w, "/vpcs", "{'name':'a'}").id;
    const char *s =
        post(w, fmt("/vpcs/%s/subnets", v), "{'name':'b','cidr_block':'10.0.1.0/24'}").id;

    CHECK_EQ(del(w, "/vpcs/%s", v).status, 200);
    CHECK_EQ(get(w, "/subnets/%s", s).status, 404);
    CHECK_EQ(get(w, "/vpcs/%s", v).status, 404);
    CHECK_EQ(get(w, "/vpcs").len, 0);
}

TEST(names_and_tags_are_changed)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *v = post(w, "/vpcs", "{'name':'a','tags':{'team':'one'}}").id;
    const char *s =
        post(w, fmt("/vpcs/%s/subnets", v), "{'name':'b','cidr_block':'10.0.1.0/24'}").id;

    CHECK_STR(member(patch(w, fmt("/vpcs/%s", v), "{'name':'c'}"), "name"), "c");
    CHECK_STR(member(get(w, "/vpcs/c"), "tags.team"), "one");
    CHECK_EQ(patch(w, fmt("/vpcs/%s", v), "{'cidr_block':'10.1.0.0/16'}").status, 400);
    CHECK_STR(member(patch(w, fmt("/subnets/%s", s), "{'tags':{'x':'y'}}"), "tags.x"), "y");
    CHECK_EQ(patch(w, fmt("/subnets/%s", s), "{'cidr_block':'10.0.3.0/24'}").status, 400);
    CHECK_EQ(del(w, "/subnets/%s", s).status, 200);
}

TEST(lists_are_filtered_sorted_and_paged)
{
    _cleanup_(world_freep) struct world *w = world_new();

    for (int i = 0; i < 5; i++)
        post(w, "/vpcs", fmt("{'name':'v%d'}", i));
    struct reply r = get(w, "/v1/vpcs?limit=2&sort=name");
    CHECK_EQ(r.len, 2);
    CHECK_STR(member(r, "data.0.name"), "v0");
    CHECK_STR(member(r, "has_more"), "true");
    r = get(w, "/v1/vpcs?limit=2&sort=name&cursor=%s", member(r, "next_cursor"));
    CHECK_STR(member(r, "data.0.name"), "v2");
    CHECK_EQ(get(w, "/vpcs?name=v1,v3").len, 2);
    CHECK_STR(member(get(w, "/vpcs"), "0.name"), "v4");
    CHECK_EQ(get(w, "/v1/vpcs?limit=101").status, 400);
}

TEST(strangers_reach_no_network)
{
    _cleanup_(world_freep) struct world *w = world_new();
    const char *v = post(w, "/vpcs", "{'name':'a'}").id;
    const char *s =
        post(w, fmt("/vpcs/%s/subnets", v), "{'name':'b','cidr_block':'10.0.1.0/24'}").id;

    strangers_are_refused(w, "/vpcs/{id}", v);
    strangers_are_refused(w, "/subnets/{id}", s);
    CHECK_EQ(as(w, AS_STRANGER, GET, "/vpcs", NULL).len, 0);
}

TEST(no_vpc_touches_what_the_platform_uses_itself)
{
    world_settings = "compute: {transit_cidr: 10.0.0.0/8}";
    _cleanup_(world_freep) struct world *w = world_new();

    CHECK_EQ(post(w, "/vpcs", "{'name':'a','cidr_block':'10.1.0.0/16'}").status, 400);
    CHECK_EQ(post(w, "/vpcs", "{'name':'b','cidr_block':'198.18.0.0/16'}").status, 201);
    /* The default one is another, then. */
    CHECK_EQ(post(w, "/instances", "{'name':'a','image':'nginx'}").status, 201);
    CHECK_STR(member(get(w, "/vpcs/default"), "cidr_block"), "172.16.0.0/16");
    /* Another configuration comes: what is there already is told of at the launch. */
    CHECK_EQ(post(w, "/vpcs/b/subnets", "{'name':'s','cidr_block':'198.18.1.0/24'}").status, 201);
    const char *b = get(w, "/vpcs/b").id;
    world_settings = NULL;
    world_restart(w);
    struct reply r = post(w, "/instances", fmt("{'name':'b','image':'nginx','vpc_id':'%s'}", b));
    CHECK_EQ(r.status, 400);
    CHECK_STR(member(r, "error.details.0.field"), "vpc_id");
    const char *s = member(get(w, "/vpcs/b/subnets"), "0.id");
    r = post(w, "/instances", fmt("{'name':'b','image':'nginx','subnet_id':'%s'}", s));
    CHECK_EQ(r.status, 400);
    CHECK_EQ(post(w, "/instances", "{'name':'b','image':'nginx'}").status, 201);
}

TESTS(network, a_vpc_has_a_network_of_its_own_and_may_share_its_addresses, bad_networks_are_refused,
      a_subnet_lies_in_its_vpc_and_overlaps_no_other,
      instances_get_different_addresses_and_hold_their_subnet, an_empty_vpc_goes_with_its_subnets,
      names_and_tags_are_changed, lists_are_filtered_sorted_and_paged, strangers_reach_no_network,
      no_vpc_touches_what_the_platform_uses_itself)
