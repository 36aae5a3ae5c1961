# SPDX-License-Identifier: Apache-2.0
"""A property-based tester makes requests from the description, right ones and wrong ones, and holds the answers against it.

What it finds is mended, or stands below with its reason: what a schema of one request cannot say."""
import base64
import json
import os
import re
import sys

from conftest import WORK, run

# Parameters that it is not given.
WITHHELD = {
    "X-Tenant-ID": "every id that it makes up is of a tenant that its user is no member of: 403 would hide all else",
    "Idempotency-Key": "it sends many requests under one key, which is 422",
    "If-Match": "a tag that it makes up is never the object's, which is 412",
    "cursor": "a cursor is signed: only those that the server gave are right",
    "last_event_id": "so is an event's place",
}

# Checks that it does not make.
UNCHECKED = {
    "unsupported_method": "it wants 405 for what stands at another method's path; a path that is none is 404, and TRACE is refused before",
    "allow_header_conformance": "Allow counts HEAD, and what stands at a path of another form, which the description does not show",
}

# Right by the schema and refused all the same: (status, field, code) -> why the schema cannot say it.
EXPLAINED = {
    (400, "expires_at", "out_of_range"): "a key ends in the future",
    (400, "max_receives", "required"): "a dead-letter queue and max_receives are given together",
    (400, "dead_letter_queue_id", "required"): "a dead-letter queue and max_receives are given together",
    (400, "group_id", "required"): "is required in FIFO queues",
    (400, "cwd", "malformed"): "a folder is an absolute path",
    (400, "cmd", "wrong_type"): "of an import it is a JSON list, in a query",
    (400, "cmd", "malformed"): "begins with a command, which is not empty",
    (400, "entrypoint", "malformed"): "begins with a command, which is not empty",
    (400, "user_id", "required"): "user_id or email is given, and null gives none",
    (400, "cidr_block", "malformed"): "a network has zeros for its host bits, and hosts may have its addresses",
    (400, "cidr_block", "out_of_range"): "a subnet lies in its VPC",
    (400, "allowed_ips", "malformed"): "the pattern of an address lets through what is none",
    (400, "name", "malformed"): "a name may not look like an id",
    (400, "slug", "malformed"): "a slug may not look like an id",
    (400, "image", "malformed"): "a reference has no '..' and no '//'",
    (400, "email", "malformed"): "the part before '@' has 64 bytes at most",
    (400, "env", "malformed"): "a name has no '='",
    (400, "ports", "malformed"): "a host port is used once",
    (400, "scopes", "malformed"): "all of them together have 511 bytes at most",
    (400, "instance_type", "not_found"): "instance types are the configuration's",
    (400, "url", "malformed"): "a part of a host's name has 63 bytes at most, a port is no larger than 65535",
    (400, "url", "not_allowed"): "webhooks lead to public addresses alone",
}


def endless(op):
    return set(op["responses"].get("200", {}).get("content", {})) == {"text/event-stream"}


def asked(document):
    """The document without what is withheld and what has no end, and with one of its two ways to show a credential."""
    d = json.loads(json.dumps(document))
    shared = {f"#/components/parameters/{k}": p["name"] for k, p in d["components"]["parameters"].items()}
    for item in d["paths"].values():
        for method in [m for m, op in item.items() if endless(op)]:
            del item[method]
        for op in item.values():
            op["parameters"] = [p for p in op["parameters"] if shared.get(p.get("$ref"), p.get("name")) not in WITHHELD]
    del d["components"]["securitySchemes"]["bearer"]
    d["security"] = [{"api_key": []}]
    return d


def text(data):
    return base64.b64decode(data["$base64"]).decode(errors="replace") if data else ""


def checks(path):
    """How many checks the report has."""
    recorders = (json.loads(x).get("ScenarioFinished", {}).get("recorder") or {} for x in path.read_text().splitlines())
    return sum(len(c) for r in recorders for c in r.get("checks", {}).values())


def findings(path):
    """(what is wrong, request, status, answer) of each check that failed."""
    for line in path.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder")
        for case, checks in (recorder or {}).get("checks", {}).items():
            at = recorder["interactions"][case]
            answer = at["response"] or {}
            for c in checks:
                if c["status"] == "failure":
                    f = c["failure_info"]["failure"]
                    yield (f["code"], f["message"], f"{at['request']['method']} {at['request']['uri']} {text(at['request'].get('body'))}",
                           answer.get("status_code"), text(answer.get("content")))


def explained(code, request, status, answer):
    """Whether it is known, and has a reason; of a refusal each fault that is named."""
    # A bound counts bytes of UTF-8, a schema characters.
    wide = re.search(r"[^\x00-\x7f]|%[89A-F][0-9A-F]|\\u", request)
    if status == 501:
        return True  # what is planned says so
    if code != "ST202" or not answer.startswith('{"error"'):
        return False
    error = json.loads(answer)["error"]
    if error["code"] == "invalid_json" and "NUL" in error["message"]:
        return "\\u0000" in request  # no pattern of a field would be read by all who use it
    faults = error["details"]
    if not faults:
        return False  # a refusal names its fault
    # Of forms a schema can say all; of what fields have to do with each other, or with what there is, it cannot.
    if isinstance(faults, list):
        faults = [f for f in faults if f["code"] != "not_allowed"]
    last = lambda field: re.sub(r"\[\d+\]", "", field).rpartition(".")[2]
    return isinstance(faults, list) and all((status, last(f["field"]), f["code"]) in EXPLAINED or (wide and f["code"] == "too_long") for f in faults)


def test_what_it_finds_is_explained(server, document, things):
    (WORK / "asked.json").write_text(json.dumps(asked(document)))
    report = WORK / "findings.ndjson"
    report.unlink(missing_ok=True)
    # One worker: it is not safe with more.  Other seeds find other things: SEED=2 tools/test --only clients
    out = run([sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", "asked.json",
               "--url", f"http://127.0.0.1:{server.port}", "--header", f"X-API-Key: {server.key}",
               "--request-timeout", "30", "--max-examples", "10", "--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-shrink", "--workers", "1", "--seed", os.environ.get("SEED", "1"),
               "--exclude-checks", ",".join(UNCHECKED), "--warnings", "off", "--report", "ndjson", "--report-ndjson-path", report],
              timeout=1500, ends=(0, 1))
    said = re.search(r"(\d+) generated", out)
    assert said and int(said.group(1)) > 1000, out[-3000:]
    assert not re.search(r"^Errors:", out, re.M), out[-6000:]
    assert checks(report) > 10000
    left = [f for f in findings(report) if not explained(f[0], f[2], f[3], f[4])]
    assert not left, f"{len(left)} findings:\n" + "\n\n".join("\n".join(str(x)[:600] for x in f) for f in left[:15])
