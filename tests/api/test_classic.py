# SPDX-License-Identifier: Apache-2.0
"""The requests that document 004 prints, as it prints them."""
import re
import uuid

import pytest

EXACT_ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")


def test_register_and_login(api):
    c = api.nobody.as_ip(f"10.3.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}")
    email = f"user-{uuid.uuid4().hex[:8]}@example.com"
    r = c.post("/auth/register", {"email": email, "password": "password", "name": "User Name"})
    assert r.status == 201 and set(r.json) == {"message", "user_id"}, r
    assert r.json["message"] == "user created successfully" and EXACT_ID.match(r.json["user_id"])
    got = c.post("/auth/login", {"email": email, "password": "password"})
    assert got.status == 200 and set(got.json) == {"user", "api_key"}
    assert got.json["user"] == {"id": r.json["user_id"], "email": email, "name": "User Name"}
    assert got.json["api_key"].startswith("thecloud_")
    assert c.as_key(got.json["api_key"]).get("/auth/me").json["email"] == email


def test_forgot_password(api):
    r = api.nobody.as_ip("10.3.251.1").post("/auth/forgot-password", {"email": "user@example.com"})
    assert r.status == 200 and r.json == {"message": "If the email exists, a reset token has been sent."}


def test_keys(me):
    r = me.post("/auth/keys", {"name": "Production Key"})
    assert r.status == 201
    k = r.json
    assert {"id", "user_id", "name", "key", "created_at", "last_used"} <= set(k)
    assert k["name"] == "Production Key" and k["key"].startswith("thecloud_") and k["user_id"] == me.id
    assert k["id"] in [x["id"] for x in me.get("/auth/keys").json]
    assert me.post(f"/auth/keys/{k['id']}/rotate").json["key"] != k["key"]
    assert me.post(f"/auth/keys/{k['id']}/regenerate").status == 200
    r = me.delete(f"/auth/keys/{k['id']}")
    assert r.status == 200 and r.json["message"]
    assert k["id"] not in [x["id"] for x in me.get("/auth/keys").json]


def test_tenants(api, me):
    slug = f"acme-{uuid.uuid4().hex[:8]}"
    r = me.post("/tenants", {"name": "Acme Corp", "slug": slug})
    assert r.status == 201 and r.json["slug"] == slug and r.json["name"] == "Acme Corp", r
    t = r.json["id"]
    assert {x["id"] for x in me.get("/tenants").json} >= {t}
    me.made("/queues", {"name": "in-the-first"})
    assert me.post(f"/tenants/{t}/switch").status == 200
    assert me.get("/queues").json == []
    other = api.user()
    r = me.post(f"/tenants/{t}/members", {"user_id": other.id, "role": "member"})
    assert r.status == 201, r
    assert {m["user_id"] for m in me.get(f"/tenants/{t}/members").json} == {me.id, other.id}
    assert other.get("/queues", headers={"X-Tenant-ID": t}).status == 200
    assert me.delete(f"/tenants/{t}/members/{other.id}").status == 200
    assert other.get("/queues", headers={"X-Tenant-ID": t}).status == 403
    assert me.post("/tenants", {"name": "Acme Corp", "slug": slug}).status == 409


def test_vpcs_and_subnets(me):
    r = me.post("/vpcs", {"name": "prod-vpc"})
    assert r.status == 201 and r.json["cidr_block"] == "10.0.0.0/16" and r.json["name"] == "prod-vpc"
    v = r.json["id"]
    assert [x["id"] for x in me.get("/vpcs").json] == [v]
    r = me.post(f"/vpcs/{v}/subnets", {"name": "private-subnet-1", "cidr_block": "10.0.1.0/24", "availability_zone": "us-east-1a"})
    assert r.status == 201 and r.json["cidr_block"] == "10.0.1.0/24" and r.json["availability_zone"] == "us-east-1a", r
    s = r.json["id"]
    assert r.json["vpc_id"] == v and re.match(rf"^arn:thecloud:vpc:local:{r.json['tenant_id']}:subnet/{s}$", r.json["arn"])
    assert [x["id"] for x in me.get(f"/vpcs/{v}/subnets").json] == [s]
    assert me.get(f"/subnets/{s}").json["name"] == "private-subnet-1"
    assert me.post(f"/vpcs/{v}/subnets", {"name": "overlap", "cidr_block": "10.0.1.128/25"}).status in (400, 409)
    assert me.post(f"/vpcs/{v}/subnets", {"name": "outside", "cidr_block": "10.1.1.0/24"}).status == 400
    r = me.delete(f"/subnets/{s}")
    assert r.status == 200 and r.json["message"]
    r = me.delete(f"/vpcs/{v}")
    assert r.status == 200 and r.json["message"] and me.get("/vpcs").json == []


@pytest.mark.parametrize("cidr", ["10.0.0.0", "10.0.0.1/16", "10.0.0.0/8", "10.0.0.0/30", "198.18.0.0/16", "300.0.0.0/16", "fd00::/64", "10.0.0.0/016", ""])
def test_a_cidr_that_cannot_be_is_400(me, cidr):
    assert me.post("/vpcs", {"name": "v", "cidr_block": cidr}).status == 400


def test_instance_types(me):
    types = me.get("/instance-types").json
    basic = [t for t in types if t["id"] == "basic-2"]
    assert basic == [{"id": "basic-2", "name": "Basic 2", "vcpus": 1, "memory_mb": 1024, "disk_gb": 10, "network_mbps": 1000,
                      "price_per_hour": 0.02, "category": "general-purpose"}]


def settle(me, i, want, seconds=20):
    import cloud as clouds
    assert clouds.until(lambda: me.get(f"/instances/{i}").json["status"] == want, seconds), me.get(f"/instances/{i}")


def test_instances(me):
    v = me.made("/vpcs", {"name": "v"})["id"]
    s = me.made(f"/vpcs/{v}/subnets", {"name": "s", "cidr_block": "10.0.1.0/24"})["id"]
    r = me.post("/instances", {"name": "web-01", "image": "nginx", "instance_type": "basic-2", "vpc_id": v, "subnet_id": s, "ports": "80:80"})
    assert r.status == 201 and r.json["status"] == "pending" and r.json["subnet_id"] == s and r.json["ports"] == "80:80", r
    i = r.json["id"]
    settle(me, i, "running")
    assert [x["id"] for x in me.get("/instances").json] == [i]
    assert me.get("/instances/web-01").json["private_ip"].startswith("10.0.1.")
    for status in ("stopped", "running", "paused", "running"):
        assert me.put(f"/instances/{i}", {"status": status}).status == 200
        settle(me, i, status)
    assert me.delete(f"/vpcs/{v}").status == 409 and me.delete(f"/subnets/{s}").status == 409
    r = me.delete(f"/instances/{i}")
    assert r.status == 200 and r.json["message"]
    import cloud as clouds
    assert clouds.until(lambda: me.get("/instances").json == [], 20)
    assert clouds.until(lambda: me.delete(f"/vpcs/{v}").status == 200, 20)


def test_an_instance_cannot_be_what_it_cannot_be(me):
    for body in ({"name": "x", "image": "nginx", "instance_type": "huge-9"}, {"name": "x", "image": "nginx", "ports": "99999:80"},
                 {"name": "x", "image": "nginx", "ports": "80"}, {"name": "-x", "image": "nginx"}, {"name": "x", "image": "../etc"},
                 {"name": "x", "image": "nginx", "vpc_id": "nonsense"}, {"image": "nginx"}, {"name": "x", "image": "nginx", "env": {"A=B": "c"}},
                 {"name": "x", "image": "nginx", "cmd": []}, {"name": "x", "image": "nginx", "status": "running"},
                 {"name": "x", "image": "nginx", "ports": "80:80,80:81"}):
        r = me.post("/instances", body)
        if body.get("ports") == "80":
            assert r.status == 201, "a port alone takes any host port"
            continue
        assert r.status == 400, (body, r)
    r = me.post("/instances", {"name": "y", "image": "nginx", "vpc_id": str(uuid.uuid4())})
    assert r.status == 404 and "vpc_id" in r.body.decode(), r


def test_the_console_of_a_container_says_what_to_use(me):
    i = me.made("/instances", {"name": "c", "image": "nginx"})["id"]
    r = me.get(f"/instances/{i}/console")
    assert r.status in (200, 409, 501) and (r.status == 200 or r.error["message"]), r


def test_queues(me):
    r = me.post("/queues", {"name": "task-queue", "visibility_timeout": 30})
    assert r.status == 201 and r.json["visibility_timeout"] == 30
    q = r.json["id"]
    assert [x["id"] for x in me.get("/queues").json] == [q]
    sent = me.post(f"/queues/{q}/messages", {"body": "payload-data"})
    assert sent.status == 201 and sent.json["body"] == "payload-data"
    got = me.get(f"/queues/{q}/messages?count=1")
    assert got.status == 200 and [m["body"] for m in got.json] == ["payload-data"]
    assert me.get(f"/queues/{q}/messages?count=1").json == [], "it is hidden now"
    assert me.delete(f"/queues/{q}/messages/{got.json[0]['receipt_handle']}").status == 200
    assert me.get(f"/queues/{q}").json["depth"] == 0 and me.get(f"/queues/{q}").json["in_flight"] == 0


def test_a_queue_gives_each_message_once_while_hidden_and_again_after(me):
    q = me.made("/queues", {"name": "q", "visibility_timeout": 1})["id"]
    me.made(f"/queues/{q}/messages/batch", {"messages": [{"body": f"m{i}"} for i in range(10)]})
    got = me.get(f"/queues/{q}/messages?count=10").json
    assert sorted(m["body"] for m in got) == sorted(f"m{i}" for i in range(10))
    import time
    time.sleep(1.2)
    again = me.get(f"/queues/{q}/messages?count=10").json
    assert len(again) == 10 and all(m["received_count"] == 2 for m in again)
    r = me.post(f"/queues/{q}/messages/delete", {"receipt_handles": [m["receipt_handle"] for m in again]})
    assert r.status == 200
    assert me.get(f"/queues/{q}").json["depth"] == 0


def test_a_long_poll_answers_when_a_message_comes(me):
    import threading
    import time
    q = me.made("/queues", {"name": "q"})["id"]
    threading.Timer(0.5, lambda: me.post(f"/queues/{q}/messages", {"body": "late"})).start()
    began = time.monotonic()
    got = me.get(f"/queues/{q}/messages?wait=10")
    took = time.monotonic() - began
    assert [m["body"] for m in got.json] == ["late"] and 0.4 < took < 8
    began = time.monotonic()
    assert me.get(f"/queues/{q}/messages?wait=1").json == [] and 0.9 < time.monotonic() - began < 8


def test_a_dead_letter_queue_takes_what_nobody_deletes(me):
    dead = me.made("/queues", {"name": "dead"})["id"]
    q = me.made("/queues", {"name": "q", "dead_letter_queue_id": dead, "max_receives": 2, "visibility_timeout": 0})["id"]
    me.made(f"/queues/{q}/messages", {"body": "poison"})
    for _ in range(2):
        assert len(me.get(f"/queues/{q}/messages").json) == 1
    assert me.get(f"/queues/{q}/messages").json == []
    assert [m["body"] for m in me.get(f"/queues/{dead}/messages").json] == ["poison"]


def test_a_fifo_queue_keeps_the_order_of_a_group(me):
    q = me.made("/queues", {"name": "f", "fifo": True})["id"]
    for i in range(3):
        me.made(f"/queues/{q}/messages", {"body": f"a{i}", "group_id": "a", "deduplication_id": f"a{i}"})
    me.made(f"/queues/{q}/messages", {"body": "b0", "group_id": "b", "deduplication_id": "b0"})
    me.made(f"/queues/{q}/messages", {"body": "a0", "group_id": "a", "deduplication_id": "a0"})
    first = me.get(f"/queues/{q}/messages?count=10").json
    assert sorted(m["body"] for m in first) == ["a0", "b0"]
    for n in ("a1", "a2"):
        me.delete(f"/queues/{q}/messages/{[m for m in first if m['body'][0] == 'a'][0]['receipt_handle']}")
        first = me.get(f"/queues/{q}/messages?count=10").json
        assert [m["body"] for m in first] == [n]


def test_purge_drops_all(me):
    q = me.made("/queues", {"name": "p"})["id"]
    me.made(f"/queues/{q}/messages/batch", {"messages": [{"body": "x"}] * 10})
    assert me.post(f"/queues/{q}/purge").status == 200
    assert me.get(f"/queues/{q}/messages?count=10").json == []


def test_classic_deletes_have_a_message_and_platform_ones_no_body(me):
    for kind in ("queues", "vpcs"):
        a, b = (me.made(f"/{kind}", {"name": n})["id"] for n in ("a", "b"))
        r = me.delete(f"/{kind}/{a}")
        assert r.status == 200 and list(r.json) == ["message"], r
        r = me.delete(f"/v1/{kind}/{b}")
        assert r.status == 204 and r.body == b"" and "Content-Type" not in r.headers


def test_a_name_is_unique_within_its_tenant(api, me):
    for kind in ("queues", "vpcs"):
        me.made(f"/{kind}", {"name": "one"})
        r = me.post(f"/{kind}", {"name": "one"})
        assert (r.status, r.code) == (409, "already_exists")
    api.user().made("/queues", {"name": "one"})


@pytest.mark.parametrize("name", ["01890000-0000-7000-8000-000000000000", "q_01h455vb4pex5vsknk084sn02q", "messages", "", "a/b", "a b", "é", "x" * 65])
def test_a_name_that_could_be_taken_for_something_else_is_400(me, name):
    r = me.post("/queues", {"name": name})
    assert r.status == 400 or (name == "messages" and r.status == 201), r
