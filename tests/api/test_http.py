# SPDX-License-Identifier: Apache-2.0
"""What HTTP itself promises, on every route of the description: OPTIONS, HEAD, 405; and the wishes of clients."""
import re
import socket

import pytest
from cloud import parse_wire

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def paths(api):
    """Each path of the description, its parameters filled in with what is not there, and its methods."""
    out = {}
    for path, item in api.nobody.get("/v1/openapi.json").json["paths"].items():
        filled = re.sub(r"\{[^}]*\}", "01890000-0000-7000-8000-000000000000", path)
        out.setdefault(filled, set()).update(m.upper() for m in item if m in METHODS)
    assert len(out) > 50
    return out


def allowed(r):
    return set(r.headers["Allow"].split(", "))


def test_options_tells_of_every_route_what_it_offers(api, paths):
    for path, methods in paths.items():
        r = api.nobody.req("OPTIONS", path)
        assert r.status == 204 and r.body == b"", (path, r)
        assert allowed(r) - {"HEAD"} >= methods | {"OPTIONS"}, (path, r.headers)


def test_what_a_route_does_not_offer_is_405_with_what_it_does(api, paths):
    for path, methods in paths.items():
        offered = allowed(api.nobody.req("OPTIONS", path))
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"} - offered:
            r = api.nobody.req(method, path)
            assert r.status == 405, (method, path, r)
            assert allowed(r) == offered, (method, path)
            assert method == "HEAD" or r.code == "method_not_allowed"


def test_head_answers_as_get_does_on_every_route_that_reads(me, paths):
    asked = 0
    for path, methods in paths.items():
        if "GET" not in methods or "HEAD" not in allowed(me.req("OPTIONS", path)):
            continue
        g, h = me.get(path), me.req("HEAD", path)
        assert h.body == b"" and h.status == g.status, (path, g, h)
        for name in ("Content-Type", "Cache-Control", "X-Content-Type-Options"):
            assert h.headers.get(name) == g.headers.get(name), (path, name)
        if "ETag" in g.headers and g.headers["ETag"] == h.headers.get("ETag"):
            assert h.headers["Content-Length"] == g.headers["Content-Length"], path
        asked += 1
    assert asked > 15


def test_a_connection_is_still_in_step_after_head_and_errors(me):
    lines = [b"HEAD /queues", b"GET /queues", b"HEAD /queues/nonsense", b"OPTIONS /queues", b"PUT /queues", b"GET /health/live"]
    data = b"".join(x + b" HTTP/1.1\r\nHost: a\r\nX-API-Key: " + me.key.encode() + b"\r\n\r\n" for x in lines)
    with socket.create_connection(("127.0.0.1", me.port), timeout=10) as s:
        s.sendall(data)
        f, got = s.makefile("rb"), []
        for x in lines:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += f.readline()
            r = parse_wire(head)
            got.append(r.status)
            if not x.startswith(b"HEAD") and r.status != 204:
                f.read(int(r.headers["Content-Length"]))
    assert got == [200, 200, 404, 204, 405, 200]


@pytest.mark.parametrize("accept, status", [
    ("application/json", 200), ("Application/JSON; charset=utf-8", 200), ("*/*", 200), ("application/*;q=0.1", 200),
    ("text/html, application/json;q=0.2", 200), ("application/problem+json", 200), ("", 200),
    ("image/png", 406), ("application/json;q=0", 406), ("*/*, application/json;q=0", 406), ("application/jsonx", 406),
    ("text/x; a=\"application/json\"", 406), ("*/*;q=0", 406),
])
def test_accept_is_read_as_a_list_of_weights(api, accept, status):
    r = api.admin.get("/queues", headers={"Accept": accept})
    assert r.status == status, (accept, r)
    if status == 406:
        assert r.code == "not_acceptable"


@pytest.mark.parametrize("tag", ["x*", "*, *", '"', 'W/"*"', '"*"', 'a*"', "*x"])
def test_an_if_match_that_is_no_list_of_tags_changes_nothing(me, tag):
    q = me.made("/v1/queues", {"name": "guarded"})
    path = f"/v1/queues/{q['id']}"
    assert me.patch(path, {"visibility_timeout": 7}, headers={"If-Match": tag}).status == 412
    assert me.get(path, headers={"If-None-Match": tag}).status == 200
    assert me.delete(path).status == 204


def test_codings_are_read_as_a_list_of_weights(me):
    for i in range(12):
        me.made("/queues", {"name": f"c{i}", "tags": {"long": "x" * 200}})
    for accept, coding in (("gzip, *;q=0", "gzip"), ("*, zstd;q=0, gzip;q=0", None), ("zstd;q=0.1, gzip;q=0.9", "gzip"),
                           ("x-gzip", None), ("gzip;q=0.0", None), ("GZIP", "gzip")):
        assert me.get("/queues", headers={"Accept-Encoding": accept}).headers.get("Content-Encoding") == coding, accept


def test_a_trailer_is_no_field_of_the_head(me):
    head = (f"POST /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {me.key}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n10\r\n{\"name\": \"trail\"}\r\n0\r\n").replace("10\r\n", "11\r\n").encode()
    for field in (b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Host: b", b"Authorization: Bearer x", b"If-Match: *"):
        r = parse_wire(me.wire(head + field + b"\r\n\r\n", wait=2))
        assert r.status == 400, (field, r)
    assert me.get("/queues").json == []
    assert parse_wire(me.wire(head + b"X-Checksum: 3\r\n\r\n", wait=2)).status == 201
