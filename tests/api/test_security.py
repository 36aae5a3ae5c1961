# SPDX-License-Identifier: Apache-2.0
"""Credentials, and what may be done with them."""
import datetime
import re
import time

import pytest


def test_both_headers_are_taken_and_two_credentials_refused(api, me):
    assert api.nobody.get("/queues", headers={"Authorization": f"Bearer {me.key}"}).status == 200
    assert api.nobody.get("/queues", headers={"X-API-Key": me.key, "Authorization": f"Bearer {me.key}"}).status == 200
    r = api.nobody.get("/queues", headers={"X-API-Key": me.key, "Authorization": f"Bearer {api.key}"})
    assert (r.status, r.code) == (400, "ambiguous_credentials")


def test_a_credential_in_the_query_is_refused(api, me):
    for name in ("api_key", "access_token"):
        r = api.nobody.get(f"/queues?{name}={me.key}")
        assert r.status in (400, 401) and me.key not in r.body.decode()


@pytest.mark.parametrize("change", [lambda k: k[:-1] + ("A" if k[-1] != "A" else "B"), lambda k: k[:-1], lambda k: k + "A", lambda k: k.lower(),
                                    lambda k: k.replace("thecloud_", "sk_live_"), lambda k: "thecloud_", lambda k: k[:20] + "%00" + k[21:]])
def test_a_key_that_is_off_by_a_character_is_401(api, me, change):
    assert api.nobody.as_key(change(me.key)).get("/queues").status == 401


def test_a_key_has_the_form_that_scanners_know(me):
    k = me.made("/auth/keys", {"name": "k"})
    assert re.match(r"^thecloud_[0-9A-Za-z]{40}$", k["key"])
    shown = [x for x in me.get("/auth/keys").json if x["id"] == k["id"]][0]
    assert "key" not in shown and "hash" not in shown and shown["last4"] == k["key"][-4:]


def test_revocation_holds_from_the_next_request(me):
    for _ in range(20):
        k = me.made("/auth/keys", {"name": "k"})
        other = me.as_key(k["key"])
        assert other.get("/queues").status == 200
        assert me.delete(f"/auth/keys/{k['id']}").status == 200
        assert other.get("/queues").status == 401


def test_rotation_holds_from_the_next_request(me):
    k = me.made("/auth/keys", {"name": "k"})
    old = me.as_key(k["key"])
    assert old.get("/queues").status == 200
    new = me.made(f"/auth/keys/{k['id']}/rotate")
    assert new["id"] == k["id"] and new["key"] != k["key"]
    assert old.get("/queues").status == 401 and me.as_key(new["key"]).get("/queues").status == 200
    last = me.made(f"/auth/keys/{k['id']}/regenerate", {"grace_seconds": 2})
    assert me.as_key(new["key"]).get("/queues").status == 200 and me.as_key(last["key"]).get("/queues").status == 200
    time.sleep(2.2)
    assert me.as_key(new["key"]).get("/queues").status == 401 and me.as_key(last["key"]).get("/queues").status == 200


def test_a_key_ends_when_it_expires(me):
    at = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1.5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    k = me.as_key(me.made("/auth/keys", {"name": "k", "expires_at": at})["key"])
    assert k.get("/queues").status == 200
    time.sleep(1.7)
    assert k.get("/queues").status == 401


def test_a_key_is_held_to_its_addresses(me):
    k = me.as_key(me.made("/auth/keys", {"name": "k", "allowed_ips": ["203.0.113.0/24"]})["key"])
    assert k.get("/queues").status == 403
    assert k.as_ip("203.0.113.7").get("/queues").status == 200
    assert k.as_ip("203.0.114.7").get("/queues").status == 403
    assert k.as_ip("203.0.113.7, 198.51.100.1").get("/queues").status == 403, "the last hop is what the proxy saw"


def test_scopes_are_held_to_and_cannot_be_raised(me):
    reader = me.as_key(me.made("/auth/keys", {"name": "r", "scopes": ["queues:read", "key:create"]})["key"])
    assert reader.get("/queues").status == 200 and reader.get("/vpcs").status == 403
    r = reader.post("/queues", {"name": "x"})
    assert r.status == 403 and "queue:create" in r.error["message"]
    assert reader.post("/auth/keys", {"name": "up"}).status == 403
    assert reader.post("/auth/keys", {"name": "up", "scopes": ["*"]}).status == 403
    assert reader.post("/auth/keys", {"name": "up", "scopes": ["queue:send"]}).status == 403
    assert reader.post("/auth/keys", {"name": "same", "scopes": ["queue:read"]}).status in (201, 403)


def test_a_refusal_is_in_the_audit(me):
    weak = me.as_key(me.made("/auth/keys", {"name": "w", "scopes": ["queue:read"]})["key"])
    weak.post("/queues", {"name": "x"})
    a = me.get("/audit?status=denied").json
    assert a and a[0]["action"] == "QUEUE_CREATE" and a[0]["status"] == "denied"


def test_a_project_cannot_reach_another_tenant_by_header(api, me):
    stranger = api.user()
    t = stranger.get("/tenants").json[0]["id"]
    assert me.get("/queues", headers={"X-Tenant-ID": t}).status == 403
    pinned = me.as_key(me.made("/auth/keys", {"name": "p", "tenant_id": me.get("/tenants").json[0]["id"]})["key"])
    assert pinned.get("/queues", headers={"X-Tenant-ID": t}).status == 403


def test_a_wrong_password_and_a_wrong_address_look_the_same(api, me):
    c = api.nobody
    a = c.as_ip("10.8.0.1").post("/auth/login", {"email": me.email, "password": "not the one"})
    b = c.as_ip("10.8.0.2").post("/auth/login", {"email": "nobody-here@example.com", "password": "not the one"})
    assert a.status == b.status == 401 and a.error["message"] == b.error["message"] and a.code == b.code
    a = c.as_ip("10.8.0.3").post("/auth/forgot-password", {"email": me.email})
    b = c.as_ip("10.8.0.4").post("/auth/forgot-password", {"email": "nobody-here@example.com"})
    assert a.status == b.status == 200 and a.body == b.body


def test_guessing_locks_the_account_for_a_while(api):
    u = api.user()
    for i in range(12):
        api.nobody.as_ip(f"10.7.{i}.1").post("/auth/login", {"email": u.email, "password": f"guess number {i}"})
    r = api.nobody.as_ip("10.7.99.1").post("/auth/login", {"email": u.email, "password": u.password})
    assert r.status in (401, 403, 429), r
    assert u.get("/queues").status == 200, "keys go on working"


def test_reset_needs_a_real_token(api):
    for token in ("", "x", "A" * 43, "A" * 5000, "%00"):
        r = api.nobody.as_ip(f"10.6.0.{len(token) % 250}").post("/auth/reset-password", {"token": token, "new_password": "long enough 9"})
        assert r.status == 400, r


def test_a_reset_by_mail_works_once_and_ends_the_keys(api):
    u = api.user()
    c = api.nobody.as_ip("10.6.1.1")
    assert c.post("/auth/forgot-password", {"email": u.email}).status == 200
    import cloud as clouds

    def mail():
        for f in (api.state / "mail").glob("*.eml"):
            text = f.read_text(errors="replace")
            if u.email in text:
                return text
        return None
    text = clouds.until(mail, 10)
    assert text, "the mail was not written"
    words = re.findall(r"[A-Za-z0-9_-]{32,}", text.replace("=\n", ""))
    done = [w for w in words if c.as_ip(f"10.6.2.{words.index(w)}").post("/auth/reset-password",
                                                                         {"token": w, "new_password": "a new one 42"}).status == 200]
    assert len(done) == 1, words
    assert c.as_ip("10.6.3.1").post("/auth/reset-password", {"token": done[0], "new_password": "another 42 one"}).status == 400
    assert u.get("/queues").status == 401
    assert c.post("/auth/login", {"email": u.email, "password": "a new one 42"}).status == 200


@pytest.mark.parametrize("body", [{"email": "no-at", "password": "long enough 9", "name": "x"}, {"email": "a@b.c", "password": "short", "name": "x"},
                                  {"email": "a@b.c\r\nBcc: x@y.z", "password": "long enough 9", "name": "x"}, {"password": "long enough 9"},
                                  {"email": "a" * 300 + "@example.com", "password": "long enough 9", "name": "x"},
                                  {"email": "a@b.c", "password": "x" * 100000, "name": "x"}])
def test_a_bad_registration_is_400(api, body):
    import os
    ip = f"10.5.{os.urandom(1)[0]}.{os.urandom(1)[0]}"
    assert api.nobody.as_ip(ip).post("/auth/register", body).status == 400


def test_a_taken_address_is_409_whatever_its_case(api, me):
    r = api.nobody.as_ip("10.4.0.1").post("/auth/register", {"email": me.email.upper(), "password": "long enough 9", "name": "x"})
    assert r.status == 409


def test_the_api_runs_without_privilege(api):
    pid = api.role("api")
    import cloud as clouds
    status = dict(x.split(":\t", 1) for x in clouds.read_text(f"/proc/{pid}/status").splitlines() if ":\t" in x)
    import pwd
    assert status["Uid"].split() == [str(pwd.getpwnam("brume").pw_uid)] * 4
    assert int(status["CapEff"], 16) == 0 and int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_files_of_the_installation_are_not_for_others(api):
    assert (api.state / "master.key").stat().st_mode & 0o777 == 0o600
    assert (api.state / "agent").stat().st_mode & 0o777 == 0o700
    for f in api.state.glob("store.db*"):
        assert f.stat().st_mode & 0o077 == 0, f
