# SPDX-License-Identifier: Apache-2.0
"""Every fault of a request is named, also where the check of a single member has more to say than its table, or its parameters are wrong too."""
import uuid

import pytest

# Method, path, body: and the fields that are named, each by its code.
CASES = [
    ("POST", "/auth/register", {"email": "xxxx", "password": "short", "name": ""}, {"email": "malformed", "password": "too_short", "name": "too_short"}),
    ("POST", "/auth/reset-password", {"new_password": "short", "more": 1}, {"token": "required", "new_password": "too_short", "more": "unknown"}),
    ("POST", "/auth/keys", {"scopes": ["queue:send", "queue", 7, "x y:z"], "allowed_ips": ["10.0.0.0/8", "here", "::/129"], "expires_at": "2020-01-01"},
     {"name": "required", "scopes[1]": "malformed", "scopes[2]": "wrong_type", "scopes[3]": "malformed", "allowed_ips[1]": "malformed",
      "allowed_ips[2]": "malformed", "expires_at": "out_of_range"}),
    ("POST", "/tenants/{t}/members", {"role": "king"}, {"role": "not_allowed", "user_id": "required"}),
    ("POST", "/tenants/{t}/members", {"user_id": "x", "email": "a@example.com"}, {"user_id": "malformed", "email": "not_allowed"}),
    ("PATCH", "/tenants/{t}/members/x", {"email": "a@example.com"}, {"email": "read_only", "role": "required"}),
    ("PATCH", "/tenants/{t}/members/x", {"role": "king"}, {"role": "not_allowed"}),
    ("GET", "/v1/tenants?limit=101&colour=red", None, {"limit": "out_of_range", "colour": "unknown"}),
    ("POST", "/vpcs", {"name": "no spaces", "cidr_block": "198.18.0.0/16"}, {"name": "malformed", "cidr_block": "not_allowed"}),
    ("POST", "/instances", {"name": "no spaces", "image": "../etc", "instance_type": "huge-9", "ports": "80:80,x,99999:1,81:81/sctp",
                            "env": {"A=B": "1", "C": "2", "D=": "3"}, "cmd": ["", 7]},
     {"name": "malformed", "image": "malformed", "instance_type": "not_found", "ports[1]": "malformed", "ports[2]": "out_of_range",
      "ports[3]": "malformed", "env.A=B": "malformed", "env.D=": "malformed", "cmd[1]": "wrong_type"}),
    ("POST", "/instances?dry=1", {"name": "x", "ports": ["80:80", 7, "0x50:1"], "volumes": [], "labels": {"": "x"}},
     {"image": "required", "ports[1]": "wrong_type", "ports[2]": "malformed", "labels.": "too_short", "dry": "unknown"}),
    ("PATCH", "/instances/x", {"status": "error", "image": "nginx"}, {"status": "not_allowed", "image": "read_only"}),
    ("PATCH", "/instances/x?now=1", {}, {"now": "unknown"}),
    ("POST", "/images/import?format=zip&cmd=x&more=1", None, {"name": "required", "format": "not_allowed", "more": "unknown"}),
    ("POST", "/images/import?name=a/b&cmd=x", None, {"name": "malformed", "cmd": "not_allowed"}),
    ("POST", "/queues", {"name": "no spaces", "max_receives": 3}, {"name": "malformed", "dead_letter_queue_id": "required"}),
    ("POST", "/queues", {"name": "x", "max_receives": 3000, "dead_letter_queue_id": "x"},
     {"max_receives": "out_of_range", "dead_letter_queue_id": "malformed"}),
    ("POST", "/queues/x/messages/batch", {"messages": [{"body": 7}, "x", {"body": "y", "delay_seconds": -1, "nope": 1}], "also": 1},
     {"messages[0].body": "wrong_type", "messages[1]": "wrong_type", "messages[2].delay_seconds": "out_of_range", "messages[2].nope": "unknown",
      "also": "unknown"}),
    ("PATCH", "/queues/x/messages/1-1", {"wait": 1}, {"wait": "unknown", "visibility_timeout": "required"}),
    ("GET", "/queues/x/messages?count=0&wait=21&wait=x&colour=red", None,
     {"count": "out_of_range", "wait": "out_of_range", "wait ": "not_allowed", "colour": "unknown"}),
    ("GET", "/v1/queues?limit=0&offset=x&sort=depth&created_after=then&status=SLOW&colour=red", None,
     {"limit": "out_of_range", "offset": "wrong_type", "sort": "not_allowed", "created_after": "malformed", "status": "not_allowed", "colour": "unknown"}),
    ("POST", "/instances", {"name": "x", "image": "nginx", "env": {str(i): 7 for i in range(101)}},
     {"env": "too_long", **{f"env.{i}": "wrong_type" for i in range(99)}}),
]


@pytest.mark.parametrize("method, path, body, faults", CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_every_fault_of_a_request_is_named(api, method, path, body, faults):
    me = api.user()
    r = me.req(method, path.replace("{t}", me.get("/tenants").json[0]["id"]), body)
    assert (r.status, r.code) == (400, "invalid_request"), r
    named = sorted((d["field"], d["code"]) for d in r.error["details"])
    assert named == sorted((field.rstrip(" "), code) for field, code in faults.items()), r


def test_all_objects_of_a_body_that_are_not_there_are_named(api):
    me = api.user()
    r = me.post("/instances", {"name": "x", "image": str(uuid.uuid4()), "vpc_id": str(uuid.uuid4()), "subnet_id": str(uuid.uuid4())})
    assert (r.status, r.error["message"]) == (404, "There is no such vpc: vpc_id"), r
    assert [(d["field"], d["code"]) for d in r.error["details"]] == [("vpc_id", "not_found"), ("subnet_id", "not_found"), ("image", "not_found")]
    assert me.get("/instances").json == [] and me.get("/vpcs").json == []
