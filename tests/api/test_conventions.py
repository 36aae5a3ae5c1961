# SPDX-License-Identifier: Apache-2.0
"""What every route obeys: errors, headers, encodings, methods, versions."""
import gzip
import json
import re
import uuid

import pytest
import zstandard
from cloud import Client, parse_wire

REQ = re.compile(r"^req_[0-7][0-9a-hjkmnp-tv-z]{25}$")


# ---- errors

@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/v2/nowhere", "/api/v1/nowhere", "/", "/v1", "/queues/x/y/z", "/QUEUES",
                                  "/queues//x", "//queues"])
def test_an_unknown_path_is_404_in_our_shape(api, path):
    r = api.admin.get(path)
    assert (r.status, r.code) == (404, "route_not_found"), r
    assert r.headers["Content-Type"] == "application/json"


def test_an_unknown_path_is_404_also_without_a_credential(api):
    r = api.nobody.get("/nowhere")
    assert (r.status, r.code) == (404, "route_not_found")


@pytest.mark.parametrize("method, path", [("PUT", "/queues"), ("DELETE", "/v1/vpcs"), ("PATCH", "/health/live"), ("POST", "/tenants/x"),
                                          ("BREW", "/queues"), ("TRACE", "/queues")])
def test_a_method_that_is_not_offered_is_405_with_allow(api, method, path):
    r = api.admin.req(method, path)
    assert (r.status, r.code) == (405, "method_not_allowed"), r
    assert "OPTIONS" in r.headers["Allow"] and method not in r.headers["Allow"].split(", ")


def test_a_405_without_a_credential_is_a_405(api):
    assert api.nobody.req("PUT", "/queues").status == 405


SINGULAR = {"vpcs": "vpc", "subnets": "subnet", "instances": "instance", "images": "image", "queues": "queue", "keys": "key", "tenants": "tenant",
            "webhooks": "webhook"}
BODIES = {"/v1/instances/{id}": {"name": "x"}, "/v1/vpcs/{id}/subnets": {"name": "x", "cidr_block": "10.0.1.0/24"}, "/v1/queues/{id}/messages": {"body": "x"},
          "/v1/queues/{id}/messages/batch": {"messages": [{"body": "x"}]}, "/v1/queues/{id}/messages/delete": {"receipt_handles": ["1-1"]},
          "/v1/queues/{id}/messages/{receipt_handle}": {"visibility_timeout": 1}, "/v1/instances/{id}/exec": {"cmd": ["x"]},
          "/v1/tenants/{id}/members": {"email": "a@example.com"}, "/v1/tenants/{id}/members/{user_id}": {"role": "member"}}


def test_a_404_names_what_the_path_lacks_also_where_more_hangs_below_it(api):
    seen = set()
    for path, methods in api.nobody.get("/v1/openapi.json").json["paths"].items():
        if not path.startswith("/v1/") or "{id}" not in path:
            continue
        kind = path[:path.index("/{id}")].rpartition("/")[2]
        for method in set(methods) & {"get", "post", "put", "patch", "delete"}:
            for unknown in ("nonsense", str(uuid.uuid4())):
                at = re.sub(r"\{(?!id\})\w+\}", "x", path).replace("{id}", unknown)
                body = BODIES.get(path, {}) if method not in ("get", "delete") else None
                r = api.admin.req(method.upper(), at, body)
                if (r.status, r.code) == (501, "not_implemented"):
                    continue
                assert r.status == 404 and r.error["message"] == f"There is no such {SINGULAR[kind]}", (method, at, r)
        seen.add(kind)
    assert seen == set(SINGULAR)


def test_a_404_below_an_object_that_is_there_names_what_hangs_there(me):
    tenant = me.get("/tenants").json[0]["id"]
    for user in ("nonsense", str(uuid.uuid4())):
        r = me.delete(f"/tenants/{tenant}/members/{user}")
        assert r.status == 404 and r.error["message"] == "There is no such member", r
    me.made("/queues", {"name": "lacking"})
    r = me.delete("/queues/lacking/messages/nonsense")
    assert r.status == 404 and "receipt" in r.error["message"], r


def test_a_body_that_is_too_large_is_413(api):
    r = api.admin.req("POST", "/vpcs", raw=b'{"name":"' + b"x" * (1 << 21) + b'"}', headers={"Content-Type": "application/json"})
    assert (r.status, r.code) == (413, "payload_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_json_is_415(api, kind):
    r = api.admin.req("POST", "/vpcs", raw=b'{"name":"x"}', headers={"Content-Type": kind})
    assert (r.status, r.code) == (415, "unsupported_media_type")


def test_a_json_body_without_a_content_type_is_tolerated(me):
    r = me.req("POST", "/queues", raw=b'{"name":"no-type"}')
    assert r.status == 201, r


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"])
def test_json_in_its_spellings_is_taken(me, kind):
    r = me.req("POST", "/queues", raw=b'{"name":"typed"}', headers={"Content-Type": kind})
    assert r.status == 201, r


@pytest.mark.parametrize("text, where", [
    (b'{"name":', None), (b'{"name":"a",}', (1, 13)), (b'{\n "name": tru }', (2, None)), (b"", None), (b"nonsense", (1, None)),
    (b'{"name":"a"} x', None), (b"[1,2", None), (b"{'name':'a'}", (1, None)), (b'{"name":"\x01"}', None), (b'{"a":01}', None),
    (b'{"a":NaN}', None), (b'{"a":1e999}', None), (b"\xef\xbb\xbf{}", None),
])
def test_json_that_is_broken_is_400_and_says_where(api, text, where):
    r = api.admin.req("POST", "/queues", raw=text, headers={"Content-Type": "application/json"})
    assert r.status == 400, r
    assert r.code in ("invalid_json", "invalid_request"), r
    if where:
        assert r.code == "invalid_json"
        assert re.search(rf"line {where[0]}\b", json.dumps(r.error)), r
        if where[1]:
            assert re.search(r"(column|position) \d+", json.dumps(r.error)), r


@pytest.mark.parametrize("text", [
    b'{"name":"a\\u0000b"}', b'{"name":"a\x00b"}', b'{"name":"\xff\xfe"}', b'{"name":"\xc0\xaf"}', b'{"name":"\\ud800"}', b'{"na\\u0000me":"x"}',
    b'{"name":"x","name":"y"}', b'{"name":"x","visibility_timeout":99999999999999999999999999999999}',
    b'{"name":"x","visibility_timeout":1e400}', b'{"name":"x","visibility_timeout":1.5}', b'{"name":"x","visibility_timeout":"30"}',
    b'{"name":"x","visibility_timeout":true}', b'{"name":"x","visibility_timeout":-9223372036854775808}',
    b'{"name":{"a":1}}', b'{"name":["a"]}', b'{"name":null}', b"[]", b'"text"', b"1", b"null", b'{"name":"x","tags":{"a":{"b":1}}}',
    b'{"name":"x","tags":[1]}', b'{"name":"x","fifo":"yes"}', b'{"name":"x","dead_letter_queue_id":"nonsense"}',
])
def test_values_that_do_not_fit_are_400(me, text):
    r = me.req("POST", "/queues", raw=text, headers={"Content-Type": "application/json"})
    assert r.status == 400, r
    assert r.code in ("invalid_json", "invalid_request"), r
    assert me.get("/queues").json == []


@pytest.mark.parametrize("opens, closes", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [65, 1000, 100000])
def test_json_that_is_too_deep_is_400(api, opens, closes, depth):
    raw = b'{"name":"x","tags":' + opens * depth + b"1" + closes * depth + b"}"
    r = api.admin.req("POST", "/queues", raw=raw, headers={"Content-Type": "application/json"})
    assert r.status == 400, r
    assert r.error


def test_json_with_too_many_values_is_400(api):
    raw = b'{"name":"x","tags":[' + b",".join([b"1"] * 70000) + b"]}"
    r = api.admin.req("POST", "/queues", raw=raw, headers={"Content-Type": "application/json"})
    assert r.status == 400, r


def test_all_faults_are_told_at_once(api):
    r = api.admin.post("/v1/queues", {"visibility_timeout": -1, "retention_days": 99, "colour": "red", "tags": 7, "id": str(uuid.uuid4())})
    assert (r.status, r.code) == (400, "invalid_request")
    faults = {f["field"]: f for f in r.error["details"]}
    assert set(faults) == {"name", "visibility_timeout", "retention_days", "colour", "tags", "id"}, r
    assert faults["name"]["code"] == "required"
    assert all(f["message"] and f["code"] for f in faults.values())


def test_unknown_and_read_only_members_are_named(me):
    q = me.made("/queues", {"name": "a"})
    r = me.patch(f"/queues/{q['id']}", {"created_at": "2020-01-01T00:00:00Z", "nonsense": 1, "name": "b"})
    assert r.status == 400
    assert {f["field"] for f in r.error["details"]} == {"created_at", "nonsense", "name"}


def test_an_unknown_query_parameter_is_named(me):
    r = me.get("/queues?colour=red")
    assert r.status == 400 and "colour" in json.dumps(r.error), r


def test_an_id_of_no_form_is_404_and_so_is_one_of_another_kind(me):
    q = me.made("/v1/queues", {"name": "a"})
    v = me.made("/v1/vpcs", {"name": "v"})
    for path in ("/v1/queues/nonsense", f"/v1/queues/{uuid.uuid4()}", f"/v1/queues/{v['id']}", "/v1/queues/q_zzz",
                 f"/v1/vpcs/{q['id']}", "/v1/queues/%00", "/v1/queues/a%00b", "/v1/queues/" + "x" * 500):
        r = me.get(path)
        assert r.status in (400, 404), (path, r)
        assert r.error
    assert me.get("/v1/queues/nonsense").code == "not_found"


@pytest.mark.parametrize("path", ["/queues/%zz", "/queues/%", "/queues/%c0%af", "/queues/%ff"])
def test_a_path_that_is_badly_encoded_is_a_clear_error(api, path):
    r = api.admin.get(path)
    assert r.status in (400, 404), r
    assert r.error


def test_an_error_can_be_had_as_problem_json(api):
    r = api.admin.get("/v1/queues/nonsense", headers={"Accept": "application/problem+json"})
    assert r.status == 404 and r.headers["Content-Type"] == "application/problem+json"
    p = r.json
    assert p["status"] == 404 and p["title"] and p["detail"] and p["type"] and p["instance"]
    help_ = api.nobody.get(re.sub(r"^https?://[^/]+", "", p["type"]))
    assert help_.status == 200 and help_.json["code"] == "not_found"
    again = api.admin.get("/v1/vpcs/nonsense", headers={"Accept": "application/problem+json"}).json
    assert again["title"] == p["title"]


def test_validation_as_problem_json_names_the_fields(api):
    r = api.admin.post("/v1/queues", {}, headers={"Accept": "application/problem+json"})
    assert r.status == 400 and "name" in r.body.decode() and r.json["status"] == 400


# ---- ids and headers

def test_every_answer_has_a_request_id(api):
    for r in (api.nobody.get("/nowhere"), api.admin.get("/queues"), api.nobody.get("/queues"), api.nobody.get("/health/live"),
              api.nobody.req("OPTIONS", "/queues"), api.nobody.req("PUT", "/queues")):
        assert REQ.match(r.headers["X-Request-Id"]), r.headers


def test_a_request_id_that_is_a_uuid_is_echoed_and_another_is_not(api):
    mine = str(uuid.uuid4())
    assert api.admin.get("/queues", headers={"X-Request-Id": mine}).headers["X-Request-Id"] == mine
    r = api.admin.get("/nowhere", headers={"X-Request-Id": mine})
    assert r.error["request_id"] == mine
    for bad in ("mine", "x" * 300, "req_1", mine + "0"):
        assert REQ.match(api.admin.get("/queues", headers={"X-Request-Id": bad}).headers["X-Request-Id"])


def test_both_surfaces_show_the_same_object_in_their_own_form(me):
    made = me.made("/v1/queues", {"name": "both"})
    assert re.match(r"^q_[0-7][0-9a-hjkmnp-tv-z]{25}$", made["id"]) and made["tenant_id"].startswith("ten_")
    classic = me.get("/queues").json
    assert isinstance(classic, list) and len(classic) == 1
    plain = str(uuid.UUID(classic[0]["id"]))
    assert uuid.UUID(plain).version == 7
    for surface in ("/queues", "/v1/queues", "/v2/queues", "/api/v1/queues"):
        for form in (plain, made["id"]):
            r = me.get(f"{surface}/{form}")
            assert r.status == 200 and r.json["name"] == "both", (surface, form, r)
            assert r.json["id"] == (plain if surface == "/queues" else made["id"])
    assert made["arn"].endswith(plain) and classic[0]["arn"] == made["arn"]
    page = me.get("/v1/queues").json
    assert set(page) == {"data", "next_cursor", "has_more", "request_id"}
    assert page["next_cursor"] is None and page["has_more"] is False and page["data"][0]["id"] == made["id"]


def test_times_are_utc_with_milliseconds(me):
    q = me.made("/queues", {"name": "t"})
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", q["created_at"])


def test_the_version_header_is_read_and_echoed(api):
    for v in ("2026-01-01", "2026-04-01"):
        assert api.admin.get("/v1/queues", headers={"X-API-Version": v}).headers["X-API-Version"] == v
    for v in ("2025-01-01", "nonsense", ""):
        r = api.admin.get("/v1/queues", headers={"X-API-Version": v})
        assert (r.status, r.code) == (400, "unsupported_version"), (v, r)


def test_an_accept_that_cannot_be_met_is_406(api):
    r = api.admin.get("/queues", headers={"Accept": "image/png"})
    assert r.status == 406 and r.error
    assert api.admin.get("/queues", headers={"Accept": "text/html, */*;q=0.1"}).status == 200


def test_traceparent_is_logged(api):
    trace = uuid.uuid4().hex
    assert api.admin.get("/queues", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}).status == 200
    assert api.logs(trace)
    for bad in ("00", "zz-" + "0" * 60, "00-" + "x" * 32 + "-00f067aa0ba902b7-01", ""):
        assert api.admin.get("/queues", headers={"traceparent": bad}).status == 200


def test_server_timing_and_nosniff_are_there(api):
    h = api.admin.get("/queues").headers
    assert h["Server-Timing"].startswith("app;dur=") and h["X-Content-Type-Options"] == "nosniff"


def test_no_secret_is_in_the_log(api):
    u = api.user()
    u.get("/queues")
    made = u.made("/auth/keys", {"name": "k"})
    u.get("/nowhere", headers={"Authorization": "Bearer thecloud_" + "z" * 40})
    text = api.err.read_text()
    assert u.key not in text and made["key"] not in text and u.password not in text and "z" * 40 not in text
    assert api.key not in text


# ---- encodings

def fill(me, n=30):
    for i in range(n):
        me.made("/queues", {"name": f"queue-{i:03}"})


def test_answers_over_1_kib_are_compressed_where_asked(me):
    fill(me)
    plain = me.get("/v1/queues")
    assert "Content-Encoding" not in plain.headers and "Accept-Encoding" in plain.headers.get("Vary", "")
    gz = me.get("/v1/queues", headers={"Accept-Encoding": "gzip, deflate"})
    assert gz.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(gz.body))["data"] == plain.json["data"]
    zs = me.get("/v1/queues", headers={"Accept-Encoding": "gzip, zstd"})
    assert zs.headers["Content-Encoding"] == "zstd"
    assert json.loads(zstandard.ZstdDecompressor().decompressobj().decompress(zs.body))["data"] == plain.json["data"]
    assert len(gz.body) < len(plain.body) and len(zs.body) < len(plain.body)
    none = me.get("/v1/queues", headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert "Content-Encoding" not in none.headers
    assert len({plain.headers["ETag"], gz.headers["ETag"], zs.headers["ETag"]}) == 3
    small = me.get("/v1/vpcs", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


# ---- methods

def test_head_is_get_without_a_body(me):
    q = me.made("/queues", {"name": "h"})
    for path in ("/queues", f"/queues/{q['id']}", "/v1/queues", "/health/live", "/v1/openapi.json", "/instance-types"):
        g, h = me.get(path), me.req("HEAD", path)
        assert h.status == g.status == 200, (path, h)
        assert h.body == b"" and h.headers["Content-Length"] == g.headers["Content-Length"], (path, h.headers, g.headers)
        assert h.headers.get("ETag") == g.headers.get("ETag")
    r = parse_wire(me.wire(f"HEAD /queues/nonsense-{'x' * 8} HTTP/1.1\r\nHost: a\r\nX-API-Key: {me.key}\r\nConnection: close\r\n\r\n".encode()))
    assert r.status == 404 and r.body == b""


def test_head_is_refused_where_get_changes_something(me):
    q = me.made("/queues", {"name": "h"})
    r = me.req("HEAD", f"/queues/{q['id']}/messages")
    assert r.status == 405 and "HEAD" not in r.headers["Allow"]


# ---- CORS

def test_cross_origin_headers_follow_the_configuration(make_cloud):
    c = make_cloud({"server.cors_origins": "https://app.example,https://b.example"}).start()
    ok = c.admin.get("/queues", headers={"Origin": "https://app.example"})
    assert ok.headers["Access-Control-Allow-Origin"] == "https://app.example" and "Origin" in ok.headers["Vary"]
    bad = c.admin.get("/queues", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in bad.headers and "Origin" in bad.headers["Vary"]
    pre = c.nobody.req("OPTIONS", "/v1/queues", headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST",
                                                         "Access-Control-Request-Headers": "x-api-key, idempotency-key"})
    assert pre.status == 204 and pre.headers["Access-Control-Allow-Origin"] == "https://b.example"
    assert "POST" in pre.headers["Access-Control-Allow-Methods"] and "x-api-key" in pre.headers["Access-Control-Allow-Headers"].lower()


def test_without_configured_origins_nothing_is_allowed(api):
    assert "Access-Control-Allow-Origin" not in api.admin.get("/queues", headers={"Origin": "https://app.example"}).headers


# ---- health, metrics

def test_health_is_public_and_as_printed(api):
    r = api.nobody.get("/health/live")
    assert r.status == 200 and r.json == {"status": "ok"}
    r = api.nobody.get("/health/ready")
    assert r.status == 200, r
    assert r.json["status"] == "UP" and r.json["checks"]["database"] == "CONNECTED" and r.json["checks"]["docker"] == "CONNECTED" and r.json["time"]


def test_metrics_are_for_operators(api, me):
    assert api.nobody.get("/metrics").status == 401
    assert me.get("/metrics").status == 403
    me.get("/queues")
    r = api.admin.get("/metrics")
    assert r.status == 200 and r.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = r.body.decode()
    assert re.search(r'^brume_http_requests_total\{method="GET",route="/queues",status="200"\} [1-9]', text, re.M), text[:2000]
    assert me.key not in text and "example.com" not in text
    for line in text.splitlines():
        assert line.startswith("#") or re.match(r'^[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? [-+0-9.e]+$', line), line


def test_the_audit_and_the_events_have_what_was_done(me):
    q = me.made("/queues", {"name": "audited"})
    me.delete(f"/queues/{q['id']}")
    actions = [a["action"] for a in me.get("/audit").json]
    assert "QUEUE_CREATE" in actions and "QUEUE_DELETE" in actions, actions
    a = [x for x in me.get("/audit").json if x["action"] == "QUEUE_CREATE"][0]
    assert a["actor"] == me.email and a["status"] == "success" and a["ip_address"] == "127.0.0.1" and q["id"] in a["resource"]
    types = [e["type"] for e in me.get("/v1/events").json["data"]]
    assert types.index("queue.deleted") < types.index("queue.created"), types
    page = me.get("/v1/events?type=queue.created").json
    assert [e["type"] for e in page["data"]] == ["queue.created"]


def test_a_client_may_send_its_address_only_through_a_trusted_proxy(make_cloud):
    c = make_cloud({"server.trusted_proxies": ""}).start()
    q = Client(c.port, c.key, ip="203.0.113.9")
    q.made("/queues", {"name": "x"})
    assert q.get("/audit").json[0]["ip_address"] == "127.0.0.1"
