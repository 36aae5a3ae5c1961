# SPDX-License-Identifier: Apache-2.0
"""Entity tags and conditions."""
import threading

import pytest


@pytest.fixture
def queue(me):
    return me, me.made("/v1/queues", {"name": "q"})


@pytest.mark.parametrize("surface", ["/queues", "/v1/queues"])
def test_an_object_has_a_strong_tag_that_moves_with_it(queue, surface):
    c, q = queue
    path = f"{surface}/{q['id']}"
    r = c.get(path)
    tag = r.headers["ETag"]
    assert tag.startswith('"') and tag.endswith('"')
    again = c.get(path, headers={"If-None-Match": tag})
    assert again.status == 304 and again.body == b"" and again.headers["ETag"] == tag
    assert "Content-Type" not in again.headers
    assert c.get(path, headers={"If-None-Match": f'"other", {tag}'}).status == 304
    assert c.get(path, headers={"If-None-Match": "*"}).status == 304
    assert c.get(path, headers={"If-None-Match": f"W/{tag}"}).status == 304
    assert c.get(path, headers={"If-None-Match": '"other"'}).status == 200
    c.patch(path, {"visibility_timeout": 5})
    assert c.get(path, headers={"If-None-Match": tag}).status == 200
    assert c.get(path).headers["ETag"] != tag


def test_the_tag_of_a_write_is_that_of_the_next_read(queue):
    c, q = queue
    path = f"/v1/queues/{q['id']}"
    assert c.patch(path, {"visibility_timeout": 6}).headers["ETag"] == c.get(path).headers["ETag"]


def test_if_match_guards_changes(queue):
    c, q = queue
    path = f"/v1/queues/{q['id']}"
    tag = c.get(path).headers["ETag"]
    assert c.patch(path, {"visibility_timeout": 5}, headers={"If-Match": tag}).status == 200
    r = c.patch(path, {"visibility_timeout": 6}, headers={"If-Match": tag})
    assert (r.status, r.code) == (412, "precondition_failed")
    assert c.delete(path, headers={"If-Match": tag}).status == 412
    assert c.get(path).json["visibility_timeout"] == 5
    assert c.patch(path, {"visibility_timeout": 7}, headers={"If-Match": "*"}).status == 200
    assert c.delete(path, headers={"If-Match": c.get(path).headers["ETag"]}).status == 204


def test_if_match_against_what_is_not_there_is_404_or_412(me):
    r = me.patch("/v1/queues/01890000-0000-7000-8000-000000000000", {"visibility_timeout": 5}, headers={"If-Match": "*"})
    assert r.status in (404, 412)


def test_of_many_guarded_changes_one_wins(queue):
    c, q = queue
    path = f"/v1/queues/{q['id']}"
    tag = c.get(path).headers["ETag"]
    got = []
    threads = [threading.Thread(target=lambda i=i: got.append(c.patch(path, {"visibility_timeout": 100 + i}, headers={"If-Match": tag}).status))
               for i in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(got) == [200] + [412] * 15


def test_a_list_has_a_weak_tag_over_its_rows(me):
    me.made("/queues", {"name": "a"})
    for path in ("/queues", "/v1/queues"):
        tag = me.get(path).headers["ETag"]
        assert tag.startswith('W/"')
        assert me.get(path).headers["ETag"] == tag, "the request id is not in it"
        assert me.get(path, headers={"If-None-Match": tag}).status == 304
    tag = me.get("/v1/queues").headers["ETag"]
    me.made("/queues", {"name": "b"})
    assert me.get("/v1/queues", headers={"If-None-Match": tag}).status == 200


def test_a_dated_shape_has_its_own_tag(queue):
    c, q = queue
    path = f"/v1/queues/{q['id']}"
    assert c.get(path).headers["ETag"] != c.get(path, headers={"X-API-Version": "2026-01-01"}).headers["ETag"]


@pytest.mark.parametrize("kind, body, change", [("vpcs", {"name": "v"}, {"name": "w"}), ("queues", {"name": "q"}, {"visibility_timeout": 3})])
def test_every_kind_of_object_has_a_tag(me, kind, body, change):
    made = me.made(f"/v1/{kind}", body)
    path = f"/v1/{kind}/{made['id']}"
    tag = me.get(path).headers["ETag"]
    assert me.get(path, headers={"If-None-Match": tag}).status == 304
    assert me.patch(path, change, headers={"If-Match": '"nope"'}).status == 412
    assert me.patch(path, change, headers={"If-Match": tag}).status == 200


@pytest.mark.parametrize("path", ["/queues/{}/messages", "/v1/queues/{}/messages"])
def test_a_receive_is_never_answered_with_304(me, path):
    """What it hides would be seen by nobody."""
    q = me.made("/queues", {"name": "q"})["id"]
    me.made(f"/queues/{q}/messages", {"body": "x"})
    r = me.get(path.format(q), headers={"If-None-Match": "*"})
    assert r.status == 200 and "ETag" not in r.headers, r
    assert [m["body"] for m in (r.json["data"] if path.startswith("/v1") else r.json)] == ["x"]
