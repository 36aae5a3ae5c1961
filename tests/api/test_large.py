# SPDX-License-Identifier: Apache-2.0
"""The largest of everything: an error or an answer, and the process that gives it lives on."""
import json

import pytest
from cloud import somewhere
from conftest import running

MIB = 1 << 20


@pytest.fixture(scope="module")
def one():
    with running({"compute.fake_drivers": "true"}, "large") as c:
        yield c


@pytest.fixture
def me(one):
    return one.user()


def body_of(kind, fields):
    """Just under a MiB of JSON that is hard on who reads it."""
    if kind == "unknown members":
        return json.dumps({f"m{i}": i for i in range(60000)})
    if kind == "names without end":
        return json.dumps({"x" * 1000 + str(i): 1 for i in range(900)})
    if kind == "the same member":
        return "{" + ",".join('"name":"a"' for _ in range(60000)) + "}"
    if kind == "escapes":
        return '{"name":"' + "\\u00e4" * 150000 + '"}'
    out = {}
    for name, f in fields.items():
        t = f.get("type")
        t = t[0] if isinstance(t, list) else t
        if kind == "long texts":
            out[name] = "\u00e9" * (400000 // max(1, len(fields)))
        elif kind == "long lists":
            out[name] = ["a" * 100] * (900000 // 104 // max(1, len(fields)))
        elif kind == "wide objects":
            out[name] = {f"k{i}": "v" * 50 for i in range(900000 // 66 // max(1, len(fields)))}
        elif kind == "the most that is allowed":
            if t == "object":
                out[name] = {f"K{i}": "\x7f\u2028v" * 300 for i in range(100)}
            elif t == "array":
                out[name] = ["\u2028" * 300] * 100
            elif t == "string":
                out[name] = "a" * min(f.get("maxLength", 60), 60000)
    return json.dumps(out)


KINDS = ["unknown members", "names without end", "the same member", "escapes", "long texts", "long lists", "wide objects", "the most that is allowed"]


def schema_of(doc, op):
    s = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    while "$ref" in s:
        s = doc["components"]["schemas"][s["$ref"].rsplit("/", 1)[1]]
    return s.get("properties", {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_of_a_mebibyte_ends_nothing(one, me, kind):
    doc = me.get("/v1/openapi.json").json
    before = one.role("api")
    some = "0189c1a2-0000-7000-8000-000000000000"
    for path, ops in doc["paths"].items():
        for method, op in ops.items():
            if method not in ("post", "put", "patch") or "requestBody" not in op:
                continue
            real = path
            while "{" in real:
                real = real[:real.index("{")] + some + real[real.index("}") + 1:]
            text = body_of(kind, schema_of(doc, op)).encode()[:MIB]
            r = me.req(method.upper(), real, raw=text, headers={"Content-Type": "application/json", "Idempotency-Key": f"{kind} {path}", **somewhere()})
            assert r.status < 500 and r.status not in (0, 429), (path, r.status, r.body[:300])
    assert one.role("api") == before


@pytest.mark.parametrize("query", ["&".join(f"p{i}=1" for i in range(1200)), "sort=" + "%C3%A9" * 1300, "name=" + "a" * 8000, "&".join(["limit=1"] * 900),
                                   "cursor=" + "A" * 8000, "created_after=" + "9" * 8000])
def test_a_query_as_long_as_it_may_be_ends_nothing(one, me, query):
    before = one.role("api")
    for path in ("/queues", "/instances", "/v1/queues", "/v1/events", "/audit", "/tenants", "/v1/images"):
        assert me.get(f"{path}?{query[:8100 - len(path)]}").status in (200, 400, 414)
    assert one.role("api") == before
