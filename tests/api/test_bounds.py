# SPDX-License-Identifier: Apache-2.0
"""Every bound that the description names is the one that is enforced: what lies on it is taken, what lies beyond is refused."""
import re
import string

import pytest
from cloud import somewhere

NOBODY = "01890000-0000-7000-8000-000000000000"

# Refused by what a schema of one member cannot say; its own bound is met.
BY_OTHERS = {("max_receives", "required"), ("group_id", "not_allowed"), ("expires_at", "out_of_range"), ("token", "not_allowed"), ("invitation", "not_allowed"),
             ("instance_type", "not_found"), ("cmd", "not_allowed"),
             # All entries together have a bound too; a host port is used once.
             ("scopes", "malformed"), ("allowed_ips", "malformed"), ("ports", "malformed")}


@pytest.fixture(scope="module")
def document(api):
    return api.nobody.get("/v1/openapi.json").json


def text_of(n, schema):
    """A text of n bytes that the schema's pattern lets through, or None."""
    pattern = schema.get("pattern")
    for text in ("a" * n, "1" * n, "/" + "a" * (n - 1)):
        if not pattern or re.search(pattern, text):
            return text
    tail = "@" + ".".join(["b" * 60] * 3) + ".example"
    for mail in ("a" * (n - len(tail)) + tail, "a@b" + "c" * (n - 3)):
        if len(mail) == n and re.search(pattern, mail):
            return mail
    return None


def key(i):
    return f"k{i}"


class Bounds:
    def __init__(self, document):
        self.document = document

    def deref(self, schema):
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def example(self, schema):
        s = self.deref(schema)
        if "properties" in s:
            return {k: self.example(s["properties"][k]) for k in s.get("required", [])}
        return s["examples"][0] if "examples" in s else text_of(max(1, s.get("minLength", 1)), s)

    def strings(self, s):
        if "maxLength" in s and text_of(s["maxLength"], s) is not None:
            yield "maxLength", text_of(s["maxLength"], s), text_of(s["maxLength"], s)[:-1] + "aa"
        if s.get("minLength"):
            yield "minLength", text_of(s["minLength"], s) or s["examples"][0], ("a" * s["minLength"])[:-1]
        if "pattern" in s:
            good = s["examples"][0] if "examples" in s else "a"
            bad = next((x for x in ("\x01", " ", "?") if not re.search(s["pattern"], x * max(1, s.get("minLength", 1)))), None)
            assert bad is not None and re.search(s["pattern"], good), s
            yield "pattern", good, bad * max(1, s.get("minLength", 1))
        for word in s.get("enum") or []:
            if word is not None:
                yield "enum", word, "nonesuch"

    def numbers(self, s):
        for word, beyond in (("minimum", -1), ("maximum", 1)):
            if word in s:
                yield word, s[word], s[word] + beyond
        yield "type", s.get("minimum", 1), "many"

    def maps(self, s):
        value, name = s["additionalProperties"], s["propertyNames"]
        most = s["maxProperties"]
        yield "maxProperties", {key(i): "v" for i in range(most)}, {key(i): "v" for i in range(most + 1)}
        yield "propertyNames.maxLength", {"k" * name["maxLength"]: "v"}, {"k" * (name["maxLength"] + 1): "v"}
        yield "propertyNames.minLength", {"k" * name["minLength"]: "v"}, {"": "v"}
        yield "additionalProperties.maxLength", {"k": "v" * value["maxLength"]}, {"k": "v" * (value["maxLength"] + 1)}
        yield "additionalProperties.pattern", {"k": "v"}, {"k": "\x01"}
        yield "additionalProperties.type", {"k": "v"}, {"k": 1}

    def arrays(self, s):
        item = self.deref(s["items"])
        # A list that has an example shows a right entry.
        one = self.example(s["items"]) if "properties" in item else (s["examples"][0] if s.get("examples", [[]])[0] else ["v"])[0]
        most, least = s["maxItems"], s.get("minItems", 0)
        yield "maxItems", [one] * most, [one] * (most + 1)
        if least:
            yield "minItems", [one] * least, [one] * (least - 1)
        yield "items.type", [one], [1]
        if "properties" in item:
            for name, inner in item["properties"].items():
                for word, good, bad in self.pairs(inner):
                    yield f"items.{name}.{word}", [{**one, name: good}], [{**one, name: bad}]
            yield "items.additionalProperties", [one], [{**one, "nonesuch": 1}]
        elif "pattern" in item:
            yield "items.pattern", [one], ["\x01"]

    def pairs(self, schema):
        """(keyword, what is right, what is not)"""
        s = self.deref(schema)
        types = s.get("type", [])
        types = [types] if isinstance(types, str) else types
        if "oneOf" in s:
            for one in s["oneOf"]:
                yield from self.pairs({**one, **({"examples": s["examples"]} if one.get("type") == "string" else {"examples": [s["examples"]]})})
        elif "string" in types and s.get("format") == "date-time":
            yield "format", "2099-01-01T00:00:00Z", "yesterday"
        elif "string" in types:
            yield from self.strings(s)
        elif "integer" in types or "number" in types:
            yield from self.numbers(s)
        elif "boolean" in types:
            yield "type", True, "yes"
        elif "object" in types and "additionalProperties" in s and s["additionalProperties"]:
            yield from self.maps(s)
        elif "array" in types:
            yield from self.arrays(s)


def faults(r, name):
    if r.status != 400:
        return []
    details = r.error["details"]
    assert isinstance(details, list), r
    return [(name, f["code"], f["message"]) for f in details if re.match(rf"{re.escape(name)}($|[.\[])", f["field"])]


def test_bounds_of_bodies_are_those_enforced(api, document):
    u, b = api.user(), Bounds(document)
    wrong, met = [], 0
    for path, item in document["paths"].items():
        for method, op in item.items():
            content = op.get("requestBody", {}).get("content", {}).get("application/json") if path.startswith("/v1/") else None
            if not content:
                continue
            real = re.sub(r"\{[^}]+\}", NOBODY, path)
            base, schema = content["example"], b.deref(content["schema"])
            others = {x for a in schema.get("allOf", []) for one in a.get("oneOf", []) for x in one["required"]}
            for name, inner in schema["properties"].items():
                rest = {k: v for k, v in base.items() if name not in others or k not in others}
                if name in ("labels", "tags", "cmd", "command"):  # two names of one member
                    rest = {k: v for k, v in rest.items() if k not in ("labels", "tags", "cmd", "command") or k not in schema["properties"]}
                for word, good, bad in b.pairs(inner):
                    met += 1
                    for value, right in ((good, True), (bad, False)):
                        r = u.req(method.upper(), real, {**rest, name: value}, headers=somewhere())
                        assert r.status < 500 or r.status == 501, (method, path, name, r)
                        found = [f for f in faults(r, name) if f[:2] not in BY_OTHERS or not right]
                        if right == bool(found):
                            wrong.append((method, path, name, word, "refused" if right else "taken", str(value)[:60], r.status, found))
    assert met > 250, met
    assert not wrong, f"{len(wrong)} of {met}:\n" + "\n".join(map(str, wrong[:40]))


def test_bounds_of_parameters_are_those_enforced(api, document):
    u, b = api.user(), Bounds(document)
    own = {"/queues/{id}": u.made("/queues", {"name": "q"})["id"], "/tenants/{id}": u.get("/tenants").json[0]["id"],
           "/vpcs/{id}": u.made("/vpcs", {"name": "v"})["id"]}
    wrong, met = [], 0
    for path, item in document["paths"].items():
        at = next((i for p, i in own.items() if path.removeprefix("/v1").startswith(p)), NOBODY)
        real = re.sub(r"\{[^}]+\}", at, path)
        for p in item.get("get", {}).get("parameters", []):
            schema = p.get("schema", {})
            if p.get("in") != "query" or schema.get("type") not in ("integer", "boolean"):
                continue
            for word, good, bad in b.pairs(schema):
                met += 1
                for value, right in ((good, True), (bad, False)):
                    if p["name"] == "wait" and value == schema.get("maximum"):
                        continue  # it would be waited for
                    r = u.get(f"{real}?{p['name']}={str(value).lower()}")
                    if right == bool(faults(r, p["name"])):
                        wrong.append((path, p["name"], word, value, r))
    assert met > 60, met
    assert not wrong, f"{len(wrong)} of {met}:\n" + "\n".join(map(str, wrong[:20]))


def test_patterns_are_read_alike_everywhere(document):
    """No class, look-around or back-reference, and no escape but \\xNN: ECMA-262, RE2 and Python read them alike."""
    seen = set()

    def walk(x):
        if isinstance(x, dict):
            if isinstance(x.get("pattern"), str):
                seen.add(x["pattern"])
            for v in x.values():
                walk(v)
        elif isinstance(x, list):
            for v in x:
                walk(v)
    walk(document)
    assert len(seen) > 10
    for p in seen:
        re.compile(p)
        assert p.startswith("^") and p.endswith("$"), p
        assert not re.search(r"\\[^x]|\(\?", p), p
        assert set(p) <= set(string.printable), p
