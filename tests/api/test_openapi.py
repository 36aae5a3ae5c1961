# SPDX-License-Identifier: Apache-2.0
"""The API's description of itself, and every route of it met."""
import json
import re
import uuid

import cloud as clouds
import openapi_spec_validator
import pytest

METHODS = ("get", "post", "put", "patch", "delete")
METHODS_UPPER = [m.upper() for m in METHODS]
NOBODY = str(uuid.UUID("01890000-0000-7000-8000-000000000000"))


@pytest.fixture(scope="session")
def document(api):
    r = api.nobody.get("/v1/openapi.json")
    assert r.status == 200 and r.headers["Content-Type"].startswith("application/json")
    return r.json


@pytest.fixture(scope="session")
def routes(document):
    """(method, path with ids filled in, operation)"""
    out = []
    for path, item in document["paths"].items():
        for m in METHODS:
            if m in item:
                out.append((m.upper(), re.sub(r"\{[^}]+\}", NOBODY, path), item[m], path))
    assert len(out) > 60
    return out


def is_public(document, op):
    return op.get("security", document.get("security")) == []


def test_the_document_is_valid_openapi(document):
    assert document["openapi"].startswith("3.1")
    openapi_spec_validator.validate(document)


def test_operations_have_what_tools_need(document, routes):
    ids = [op["operationId"] for _, _, op, _ in routes]
    assert len(ids) == len(set(ids))
    for m, _, op, path in routes:
        assert op["summary"], path
        assert any(s.startswith("2") or s == "default" for s in op["responses"]), path
        if m == "POST" and "requestBody" in op:
            assert op["requestBody"]["content"], path


def test_operations_have_names_that_a_client_would_like(routes):
    names = {op["operationId"]: (m, path) for m, _, op, path in routes}
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", n) for n in names), names
    for name, at in {"createQueue": ("POST", "/v1/queues"), "listQueues": ("GET", "/v1/queues"), "getQueue": ("GET", "/v1/queues/{id}"),
                     "updateQueue": ("PATCH", "/v1/queues/{id}"), "deleteQueue": ("DELETE", "/v1/queues/{id}"), "purgeQueue": ("POST", "/v1/queues/{id}/purge"),
                     "sendMessage": ("POST", "/v1/queues/{id}/messages"), "receiveMessages": ("GET", "/v1/queues/{id}/messages"),
                     "sendMessageBatch": ("POST", "/v1/queues/{id}/messages/batch"), "launchInstance": ("POST", "/v1/instances"),
                     "stopInstance": ("POST", "/v1/instances/{id}/stop"), "getInstanceLogs": ("GET", "/v1/instances/{id}/logs"),
                     "listSubnets": ("GET", "/v1/vpcs/{id}/subnets"), "importImage": ("POST", "/v1/images/import"), "listImageRecipes": ("GET", "/v1/images/recipes"),
                     "addMember": ("POST", "/v1/tenants/{id}/members"), "rotateKey": ("POST", "/v1/auth/keys/{id}/rotate"), "login": ("POST", "/v1/auth/login"),
                     "listQueuesClassic": ("GET", "/queues"), "getHealthReady": ("GET", "/health/ready")}.items():
        assert names.get(name) == at, (name, names.get(name))


def answers_of(op):
    return {k for k in op["responses"]}


def test_each_operation_names_the_answers_it_can_give(document, routes):
    assert not any("default" in op["responses"] for _, _, op, _ in routes)
    by_name = {op["operationId"]: op for _, _, op, _ in routes}
    assert answers_of(by_name["listQueues"]) == {"200", "304", "400", "401", "403", "406", "429", "500", "503"}
    assert answers_of(by_name["createQueue"]) == {"201", "400", "401", "403", "404", "406", "408", "409", "413", "415", "422", "429", "500", "503"}
    assert answers_of(by_name["deleteQueue"]) == {"204", "400", "401", "403", "404", "409", "412", "422", "429", "500", "503"}
    assert answers_of(by_name["login"]) == {"200", "400", "401", "403", "406", "408", "413", "415", "429", "500", "503"}
    assert "501" in answers_of(by_name["launchInstance"]) and "501" in answers_of(by_name["getInstanceConsole"])
    assert "304" not in answers_of(by_name["receiveMessages"])
    ready = by_name["getHealthReady"]["responses"]
    assert ready["503"]["content"] == ready["200"]["content"]
    assert list(by_name["getInstanceLogs"]["responses"]["200"]["content"]) == ["text/plain"]
    assert list(by_name["getMetrics"]["responses"]["200"]["content"]) == ["text/plain"]


def test_the_headers_that_are_named_come(api, document, routes):
    u = api.user()
    vpc = u.made("/vpcs", {"name": "v"})["id"]
    sometimes = {"Link", "Idempotent-Replayed"}
    met = 0
    for m, _, op, path in routes:
        if m != "GET" or op.get("x-operator") or "{code}" in path or ("{id}" in path and "/vpcs/" not in path):
            continue
        if "text/event-stream" in op["responses"]["200"].get("content", {}):  # it has no end
            continue
        r = u.get(path.replace("{id}", vpc))
        assert r.status == 200, (path, r)
        assert set(op["responses"]["200"]["headers"]) - sometimes == {h for h in op["responses"]["200"]["headers"] if h in r.headers} - sometimes, (path, r.headers)
        assert ("ETag" in r.headers) == ("ETag" in op["responses"]["200"]["headers"]), path
        if "304" in op["responses"]:
            again = u.get(path.replace("{id}", vpc), headers={"If-None-Match": r.headers["ETag"]})
            assert again.status == 304 and set(op["responses"]["304"]["headers"]) <= {h for h in op["responses"]["304"]["headers"] if h in again.headers}, (path, again.headers)
        met += 1
    assert met > 20


def test_every_documented_route_exists(api, routes):
    # As a member of nothing: a key that may do nothing must never change anything.
    for m, path, op, _ in routes:
        r = api.nobody.req(m, path)
        assert r.status != 405, (m, path, r)
        assert r.status < 500 or path == "/health/ready", (m, path, r)
        if r.status == 404:
            assert r.code != "route_not_found", (m, path)


def test_without_a_credential_it_is_401(api, document, routes):
    closed = [(m, path) for m, path, op, _ in routes if not is_public(document, op)]
    assert len(closed) > 50
    for m, path in closed:
        r = api.nobody.req(m, path)
        assert (r.status, r.code) == (401, "unauthorized"), (m, path, r)
        assert "WWW-Authenticate" in r.headers


@pytest.mark.parametrize("header", [{"X-API-Key": "thecloud_" + "A" * 40}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic eDp5"},
                                    {"X-API-Key": ""}, {"Authorization": "Bearer " + "x" * 7000}])
def test_a_wrong_credential_is_401_on_each(api, document, routes, header):
    for m, path, op, _ in routes:
        if not is_public(document, op):
            r = api.nobody.req(m, path, headers=header)
            assert r.status == 401, (m, path, r)


def test_without_the_scope_it_is_403_and_names_it(api, document, routes):
    u = api.user()
    weak = u.as_key(u.made("/auth/keys", {"name": "weak", "scopes": ["nothing:at-all"]})["key"])
    before = u.get("/queues").json
    for m, path, op, _ in routes:
        if is_public(document, op):
            continue
        r = weak.req(m, path, {} if m in ("POST", "PUT", "PATCH") else None)
        assert (r.status, r.code) == (403, "forbidden"), (m, path, r)
        assert re.search(r"[a-z-]+:[a-z-]+|operator", json.dumps(r.error)), (m, path, r)
    assert u.get("/queues").json == before


def test_head_and_options_on_every_route(api, document, routes):
    u = api.user()
    offered = {}
    for m, path, op, _ in routes:
        offered.setdefault(path, set()).add(m)
    for path, methods in offered.items():
        r = u.req("OPTIONS", path)
        assert r.status == 204 and r.body == b"", (path, r)
        allow = set(r.headers["Allow"].split(", "))
        # /images/import is also a name under /images/{id}.
        assert methods | {"OPTIONS"} <= allow <= {*METHODS_UPPER, "OPTIONS", "HEAD"}, (path, allow, methods)
        h = u.req("HEAD", path)
        if "HEAD" in allow:
            g = u.get(path)
            assert h.status == g.status, (path, h, g)
            assert h.body == b"" and h.headers.get("Content-Type") == g.headers.get("Content-Type")
        else:
            assert h.status == 405, (path, h)
        r = u.req("BREW", path)
        assert r.status == 405 and set(r.headers["Allow"].split(", ")) == allow, path


def test_another_tenants_objects_are_404_everywhere(api, routes):
    owner, stranger = api.user(), api.user()
    vpc = owner.made("/vpcs", {"name": "v"})["id"]
    own = {
        "/queues": owner.made("/queues", {"name": "q"})["id"],
        "/vpcs": vpc,
        "/subnets": owner.made(f"/vpcs/{vpc}/subnets", {"name": "s", "cidr_block": "10.0.7.0/24"})["id"],
        "/instances": owner.made("/instances", {"name": "i", "image": "nginx"})["id"],
        "/images": owner.get("/images").json[0]["id"],
        "/auth/keys": owner.made("/auth/keys", {"name": "k"})["id"],
        "/tenants": owner.get("/tenants").json[0]["id"],
    }
    assert clouds.until(lambda: owner.get(f"/instances/{own['/instances']}").json["status"] == "running", 20)
    bodies = {"/queues/{id}/messages": {"body": "x"}, "/queues/{id}/messages/batch": {"messages": [{"body": "x"}]},
              "/queues/{id}/messages/delete": {"receipt_handles": ["1-1"]}, "/queues/{id}/messages/{receipt_handle}": {"visibility_timeout": 1},
              "/queues/{id}": {"visibility_timeout": 1}, "/vpcs/{id}": {"name": "x"}, "/vpcs/{id}/subnets": {"name": "x", "cidr_block": "10.0.8.0/24"},
              "/subnets/{id}": {"name": "x"}, "/instances/{id}": {"status": "stopped"}, "/instances/{id}/exec": {"cmd": ["true"]}, "/instances/{id}/resize": {"instance_type": "basic-2"},
              "/images/{id}": {"tags": {}}, "/tenants/{id}/members": {"email": "x@example.com"}, "/tenants/{id}/members/{user_id}": {"role": "admin"}}
    before = {p: owner.get(f"{p}/{i}").body for p, i in own.items() if p != "/auth/keys"}
    met = 0
    for m, _, op, path in routes:
        bare = re.sub(r"^/(api/v1|v1|v2)(?=/)", "", path)
        kind = next((k for k in own if bare.startswith(k + "/{")), None)
        if not kind or op.get("deprecated"):
            continue
        real = re.sub(r"\{[^}]+\}", own[kind], path, count=1)
        real = re.sub(r"\{receipt_handle\}", "1-1", real)
        real = re.sub(r"\{[^}]+\}", stranger.id, real)
        key = re.sub(r"\{(queue|vpc|subnet|instance|image|tenant)_id\}", "{id}", bare)
        body = bodies.get(key, {}) if m in ("POST", "PUT", "PATCH") and "requestBody" in op else None
        r = stranger.req(m, real, body)
        assert (r.status, r.code) == (404, "not_found"), (m, real, r)
        met += 1
    assert met > 40, met
    for p in ("/queues", "/vpcs", "/subnets", "/images", "/tenants"):
        assert owner.get(f"{p}/{own[p]}").body == before[p]
    for p in own:
        ids = [x["id"] for x in stranger.get(p).json] if p != "/subnets" else []
        assert own[p] not in ids


def test_the_documented_examples_can_be_sent(api, document, routes):
    """Each request example of the document is accepted as a body of its route: it is never a 400 of its own fields' forms."""
    u = api.user()
    seen = 0
    for m, path, op, _ in routes:
        for content in op.get("requestBody", {}).get("content", {}).values():
            for example in [content["example"]] if "example" in content else [x["value"] for x in content.get("examples", {}).values()]:
                r = u.req(m, path, example)
                assert r.status not in (413, 415) and r.status < 500, (m, path, r)
                seen += 1
    assert seen or "example" not in json.dumps(document)
