# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: what can be taken over is, what cannot is named, and a file with faults changes nothing."""
import json
import os
import signal
import subprocess

import cloud as clouds
import pytest
from test_tls import TlsCloud, certify


class FileCloud:
    """A cloud whose changing settings stand in a file, for the environment of a process stays as it was."""

    def __init__(self, make):
        self.c = make()
        self.file = self.c.top / "brume.yaml"

    def write(self, **sections):
        self.file.write_text(json.dumps(sections))

    def start(self):
        self.c.start("--config", str(self.file))
        return self.c

    def hang_up(self):
        before = self.outcomes()
        os.kill(self.c.process.pid, signal.SIGHUP)
        assert clouds.until(lambda: self.outcomes() > before, 5), self.c.log_tail()

    def outcomes(self):
        text = self.c.err.read_text()
        return sum(text.count(f'"{word}"') for word in ("reloaded", "not_reloaded"))

    def origin(self, name):
        return self.c.admin.get("/queues", headers={"Origin": name}).headers.get("Access-Control-Allow-Origin")


@pytest.fixture
def filed(make_cloud):
    return FileCloud(make_cloud)


def test_what_may_change_is_taken_over(filed):
    filed.write(log={"level": "info"})
    c = filed.start()
    assert filed.origin("https://a.example") is None
    assert c.user().get("/queues").headers["X-RateLimit-Limit"] == "10000"
    filed.write(server={"cors_origins": "https://a.example"}, platform={"default_plan": "free"}, mail={"from": "robot@example.com"})
    filed.hang_up()
    assert filed.origin("https://a.example") == "https://a.example"
    u = c.user()
    assert u.get("/queues").headers["X-RateLimit-Limit"] == "60"
    email = u.get("/auth/me").json["email"]
    assert c.admin.as_key(None).post("/auth/forgot-password", {"email": email}).status == 200
    mails = lambda: [p.read_text() for p in (c.state / "mail").rglob("*.eml")]  # noqa: E731
    assert clouds.until(lambda: any(f"To: <{email}>" in m and "From: <robot@example.com>" in m for m in mails()), 10)
    assert not c.log_find("needs_restart")
    filed.write(log={"level": "info"})
    filed.hang_up()
    assert filed.origin("https://a.example") is None


def test_what_needs_a_restart_is_named_and_stays(filed):
    filed.write(server={"workers": 5})
    c = filed.start()
    filed.write(server={"workers": 6, "cors_origins": "*"}, platform={"region": "elsewhere"})
    filed.hang_up()
    text = c.err.read_text()
    assert text.count("needs_restart") == 2 and '"server.workers"' in text and '"platform.region"' in text
    assert filed.origin("https://b.example") == "*"
    c.kill_role("api")
    c.wait_ready()
    assert filed.origin("https://b.example") == "*", "a role that is started again has what was taken over"


@pytest.mark.parametrize("fault", ["server: {cors_origins: [", "server: {nonsense: 1}", "log: {level: loud}", "server: {tls_cert: /nowhere}"])
def test_a_file_with_faults_changes_nothing(filed, fault):
    filed.write(server={"cors_origins": "https://a.example"})
    c = filed.start()
    filed.file.write_text(fault)
    filed.hang_up()
    assert c.log_find("not_reloaded")
    assert filed.origin("https://a.example") == "https://a.example"
    filed.write(server={"cors_origins": "https://b.example"})
    filed.hang_up()
    assert filed.origin("https://b.example") == "https://b.example"


def test_a_renewed_certificate_is_taken_up():
    c = TlsCloud()
    try:
        c.start()
        old = c.cert.read_bytes()
        (c.top / "old.pem").write_bytes(old)
        certify(c.top, "renewed")
        os.kill(c.process.pid, signal.SIGHUP)

        def serves_the_new():
            try:
                return c.secure("GET", "/health/live")[0] == 200
            except OSError:
                return False
        assert clouds.until(serves_the_new, 5)
        with pytest.raises(OSError):
            c.secure("GET", "/health/live", cafile=c.top / "old.pem")
        c.cert.write_text("nonsense")
        os.kill(c.process.pid, signal.SIGHUP)
        assert clouds.until(lambda: c.log_find("not_reloaded"), 5)
        got = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{c.port}"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert b"renewed" in got.stdout
        assert c.stop() == 0
    finally:
        c.remove()


def test_each_key_says_what_a_change_of_it_needs(make_cloud):
    c = make_cloud()
    text = subprocess.run([str(clouds.BRUME), "config"], env=c.env, capture_output=True, check=True).stdout.decode()
    keys = [line for line in text.splitlines() if line.startswith("  ") and not line.startswith("  #")]
    assert text.count("# On a change: reload (SIGHUP)") + text.count("# On a change: restart") == len(keys) > 30


def test_a_hangup_leaves_the_agent_alone(make_cloud):
    c = make_cloud(real=True).start()
    agent = c.role("agent")
    os.kill(c.process.pid, signal.SIGHUP)
    assert clouds.until(lambda: c.log_find('"reloaded"'), 5)
    assert not clouds.until(lambda: agent not in clouds.children(c.process.pid), 1)
