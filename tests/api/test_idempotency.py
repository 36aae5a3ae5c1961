# SPDX-License-Identifier: Apache-2.0
"""Checkpoints 1 to 6: a keyed request has one effect and one answer."""
import re
import socket
import subprocess
import threading
import time
import uuid

import cloud as clouds
import pytest


def keyed(k):
    return {"Idempotency-Key": k}


def same(a, b):
    skip = {"date", "x-request-id", "server-timing", "idempotent-replayed", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    left = {k: v for k, v in a.headers.items() if k not in skip}
    right = {k: v for k, v in b.headers.items() if k not in skip}
    return (a.status, a.body, left) == (b.status, b.body, right)


@pytest.mark.parametrize("quote", ["{}", '"{}"'])
def test_1_a_key_is_taken_quoted_and_unquoted(me, quote):
    k = quote.format(uuid.uuid4())
    a = me.post("/v1/queues", {"name": "one"}, headers=keyed(k))
    b = me.post("/v1/queues", {"name": "one"}, headers=keyed(k))
    assert a.status == 201 and same(a, b), (a, b, a.headers, b.headers)
    assert b.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in a.headers
    assert len(me.get("/queues").json) == 1


def test_1_quoted_and_unquoted_are_the_same_key(me):
    a = me.post("/queues", {"name": "one"}, headers=keyed("abc"))
    assert same(a, me.post("/queues", {"name": "one"}, headers=keyed('"abc"')))


@pytest.mark.parametrize("key, status", [("x" * 255, 201), ("x" * 256, 400), ("", 400), ('""', 400), ('"open', 400)])
def test_1_the_length_and_form_of_a_key_are_bounded(me, key, status):
    r = me.post("/queues", {"name": "one"}, headers=keyed(key))
    assert r.status == status, r


def test_2_another_payload_under_the_same_key_is_422(me):
    assert me.post("/queues", {"name": "one"}, headers=keyed("k")).status == 201
    r = me.post("/queues", {"name": "two"}, headers=keyed("k"))
    assert (r.status, r.code) == (422, "idempotency_key_reused")
    assert len(me.get("/queues").json) == 1


def test_2_the_original_still_running_is_409(me):
    # An import keeps its request open for as long as its body takes.
    with socket.create_connection(("127.0.0.1", me.port)) as s:
        s.sendall(f"POST /images/import?name=slow&format=rootfs HTTP/1.1\r\nHost: a\r\nX-API-Key: {me.key}\r\nIdempotency-Key: slow\r\n"
                  "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\nbegin".encode())
        time.sleep(0.3)
        r = me.req("POST", "/images/import?name=slow&format=rootfs", raw=b"x", headers={**keyed("slow"), "Content-Type": "application/octet-stream"})
    assert (r.status, r.code) == (409, "idempotency_in_progress"), r


def test_3_a_conflict_is_kept_and_a_bad_request_is_not(me):
    me.made("/queues", {"name": "taken"})
    a = me.post("/queues", {"name": "taken"}, headers=keyed("c"))
    assert a.status == 409
    me.delete("/queues/taken")
    b = me.post("/queues", {"name": "taken"}, headers=keyed("c"))
    assert b.status == 409 and b.body == a.body and b.headers["Idempotent-Replayed"] == "true"
    assert me.post("/queues", {}, headers=keyed("v")).status == 400
    assert me.post("/queues", {"name": "fine"}, headers=keyed("v")).status == 201


def test_3_a_404_is_not_kept(me):
    u = str(uuid.uuid4())
    assert me.delete(f"/queues/{u}", headers=keyed("n")).status == 404
    r = me.delete(f"/queues/{u}", headers=keyed("n"))
    assert r.status == 404 and "Idempotent-Replayed" not in r.headers


def test_4_a_retry_of_a_delete_is_replayed(me):
    q = me.made("/v1/queues", {"name": "gone"})
    a = me.delete(f"/v1/queues/{q['id']}", headers=keyed("d"))
    b = me.delete(f"/v1/queues/{q['id']}", headers=keyed("d"))
    assert a.status == b.status == 204 and b.headers["Idempotent-Replayed"] == "true"
    assert me.delete(f"/v1/queues/{q['id']}").status == 404


def test_4_a_retried_send_puts_one_message(me):
    q = me.made("/queues", {"name": "q"})
    path = f"/queues/{q['id']}/messages"
    a, b = (me.post(path, {"body": "once"}, headers=keyed("m")) for _ in range(2))
    assert a.status == 201 and same(a, b)
    assert me.get(f"/queues/{q['id']}").json["depth"] == 1


def test_4_patch_and_put_take_a_key(me):
    q = me.made("/queues", {"name": "q"})
    a = me.patch(f"/queues/{q['id']}", {"visibility_timeout": 7}, headers=keyed("p"))
    me.patch(f"/queues/{q['id']}", {"visibility_timeout": 9})
    b = me.patch(f"/queues/{q['id']}", {"visibility_timeout": 7}, headers=keyed("p"))
    assert same(a, b) and me.get(f"/queues/{q['id']}").json["visibility_timeout"] == 9


def test_5_method_path_query_and_version_are_compared(me):
    q = me.made("/queues", {"name": "q"})
    k = keyed("x")
    assert me.post("/queues", {"name": "one"}, headers=k).status == 201
    assert me.post("/v1/queues", {"name": "one"}, headers=k).status == 422
    assert me.post("/vpcs", {"name": "one"}, headers=k).status == 422
    assert me.patch(f"/queues/{q['id']}", {"visibility_timeout": 1}, headers=k).status == 422
    assert me.post("/queues", {"name": "one"}, headers={**k, "X-API-Version": "2026-01-01"}).status == 422


def test_5_a_key_belongs_to_its_credential(me):
    other = me.as_key(me.made("/auth/keys", {"name": "other"})["key"])
    assert me.post("/queues", {"name": "one"}, headers=keyed("s")).status == 201
    r = other.post("/queues", {"name": "two"}, headers=keyed("s"))
    assert r.status == 201 and "Idempotent-Replayed" not in r.headers


def test_5_a_secret_shown_once_is_replayed_too(me):
    a, b = (me.post("/auth/keys", {"name": "k"}, headers=keyed("secret")) for _ in range(2))
    assert a.status == 201 and a.json["key"] == b.json["key"] and a.body == b.body
    assert me.as_key(b.json["key"]).get("/queues").status == 200


def test_5_the_replay_outlives_a_revocation_of_nothing_else(me):
    made = me.made("/auth/keys", {"name": "k"})
    other = me.as_key(made["key"])
    assert other.post("/queues", {"name": "one"}, headers=keyed("r")).status == 201
    me.delete(f"/auth/keys/{made['id']}")
    assert other.post("/queues", {"name": "one"}, headers=keyed("r")).status == 401


def test_6_of_many_at_once_one_has_the_effect(me):
    answers = []

    def run():
        answers.append(me.post("/queues", {"name": "raced"}, headers=keyed("race")))
    threads = [threading.Thread(target=run) for _ in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    good = [a for a in answers if a.status == 201]
    assert good and len({a.body for a in good}) == 1
    assert all(a.status == 201 or a.code == "idempotency_in_progress" for a in answers), answers
    assert len([q for q in me.get("/queues").json if q["name"] == "raced"]) == 1
    assert sum("Idempotent-Replayed" not in a.headers for a in good) == 1


OCTETS = {"Content-Type": "application/octet-stream"}


def test_5_a_raw_body_is_compared(me):
    path = "/images/import?name=mine&format=rootfs"
    body = b"x" * 700000
    a, b = (me.req("POST", path, raw=body, headers={**keyed("raw"), **OCTETS}) for _ in range(2))
    assert a.status == 201 and same(a, b), (a, b)
    assert b.headers["Idempotent-Replayed"] == "true" and "Idempotent-Replayed" not in a.headers
    for other in (body[:-1], body[:-1] + b"y", b""):
        r = me.req("POST", path, raw=other, headers={**keyed("raw"), **OCTETS})
        assert (r.status, r.code) == (422, "idempotency_key_reused"), r
    assert len(me.get("/images").json) == 1


def test_3_a_conflict_is_kept_for_a_raw_body_too(me):
    path = "/images/import?name=mine&format=rootfs"
    image = me.req("POST", path, raw=b"one", headers=OCTETS)
    a = me.req("POST", path, raw=b"two" * 1000, headers={**keyed("c"), **OCTETS})
    assert a.status == 409, a
    assert me.delete(f"/images/{image.json['id']}").status == 200
    b = me.req("POST", path, raw=b"two" * 1000, headers={**keyed("c"), **OCTETS})
    assert b.status == 409 and b.body == a.body and b.headers["Idempotent-Replayed"] == "true"
    assert me.req("POST", path, raw=b"six" * 1000, headers={**keyed("c"), **OCTETS}).status == 422


def test_gets_and_public_routes_ignore_the_header(me):
    assert me.get("/queues", headers=keyed("g")).status == 200
    me.made("/queues", {"name": "later"})
    assert len(me.get("/queues", headers=keyed("g")).json) == 1


def test_6_the_record_outlives_a_restart(make_cloud):
    c = make_cloud().start()
    a = c.admin.post("/queues", {"name": "one"}, headers=keyed("k"))
    key = c.key
    assert c.stop() == 0
    c.start()
    b = c.admin.as_key(key).post("/queues", {"name": "one"}, headers=keyed("k"))
    assert a.body == b.body and b.headers["Idempotent-Replayed"] == "true"


def share_used(c, share):
    return int(re.search(rf'^brume_share_used{{share="{share}"}} (\d+)$', c.admin.get("/metrics").body.decode(), re.M).group(1))



@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_4_an_upload_that_a_kill_cut_short_leaves_nothing_and_is_made_by_its_retry(make_cloud, store, request):
    settings = {}
    if store == "postgres":
        url, name = request.getfixturevalue("postgres").url, f"idem{uuid.uuid4().hex[:8]}"
        subprocess.run(["psql", "-q", url, "-c", f"CREATE DATABASE {name}"], check=True)
        settings["store.url"] = url.rsplit("/", 1)[0] + "/" + name
    c = make_cloud(settings).start()
    path = "/images/import?name=slow&format=rootfs"
    body = b"0123456789" * 100000
    with socket.create_connection(("127.0.0.1", c.port)) as s:
        s.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\nIdempotency-Key: cut\r\n"
                  f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:300000])
        assert clouds.until(lambda: share_used(c, "upload_bytes") > 0)
        c.kill_role("api")
    c.wait_ready()
    assert c.admin.get("/images").json == [] and share_used(c, "upload_bytes") == 0
    a, b = (c.admin.req("POST", path, raw=body, headers={**keyed("cut"), **OCTETS}) for _ in range(2))
    assert a.status == 201 and a.json["status"] == "ready", a
    assert c.admin.req("POST", path + "&cmd=%5B%22x%22%5D", raw=body, headers={**keyed("cut"), **OCTETS}).status == 422
    assert "Idempotent-Replayed" not in a.headers and same(a, b) and b.headers["Idempotent-Replayed"] == "true"
    assert c.admin.req("POST", path, raw=body[1:], headers={**keyed("cut"), **OCTETS}).status == 422
    assert len(c.admin.get("/images").json) == 1
