# SPDX-License-Identifier: Apache-2.0
"""kill -9, restarts, and starts that cannot be."""
import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import uuid

import cloud as clouds
import pytest
from cloud import BRUME, Client


def writers(c, q, seconds, n=8):
    """Sends keyed messages from n threads; (key -> body of the answer) for what was acknowledged, and the keys that were not."""
    done, open_, stop = {}, [], time.monotonic() + seconds

    def run():
        while time.monotonic() < stop:
            k = uuid.uuid4().hex
            try:
                r = c.post(f"/queues/{q}/messages", {"body": k}, headers={"Idempotency-Key": k}, timeout=5)
                time.sleep(0.004)  # or the credential meets its limit of writes a minute
                if r.status == 201:
                    done[k] = r.body
                else:
                    open_.append(k)
            except (OSError, http.client.HTTPException):
                open_.append(k)
                time.sleep(0.01)
    threads = [threading.Thread(target=run) for _ in range(n)]
    [t.start() for t in threads]
    return done, open_, threads


def drain(c, q):
    got = []
    while True:
        r = c.get(f"/queues/{q}/messages?count=10")
        assert r.status == 200, r
        if not r.json:
            return got
        got += [m["body"] for m in r.json]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_killing_the_api_loses_no_acknowledged_write_and_doubles_none(make_cloud, postgres, store):
    settings = {}
    if store == "postgres":
        url, name = postgres.url, f"crash{uuid.uuid4().hex[:8]}"
        subprocess.run(["psql", "-q", url, "-c", f"CREATE DATABASE {name}"], check=True)
        settings["store.url"] = url.rsplit("/", 1)[0] + "/" + name
    c = make_cloud(settings).start()
    q = c.admin.made("/queues", {"name": "q", "visibility_timeout": 3600})["id"]
    done, open_, threads = writers(c.admin, q, 6)
    for _ in range(3):
        time.sleep(1.2)
        c.kill_role("api")
    [t.join() for t in threads]
    c.wait_ready()
    assert len(done) > 100, (len(done), len(open_))
    replayed = 0
    for k in open_:
        r = c.admin.post(f"/queues/{q}/messages", {"body": k}, headers={"Idempotency-Key": k})
        assert r.status == 201, r
        replayed += "Idempotent-Replayed" in r.headers
    for k, body in list(done.items())[:200]:
        r = c.admin.post(f"/queues/{q}/messages", {"body": k}, headers={"Idempotency-Key": k})
        assert r.body == body and r.headers["Idempotent-Replayed"] == "true"
    got = drain(c.admin, q)
    assert sorted(got) == sorted([*done, *open_])
    print(f"{store}: {len(done)} acknowledged, {len(open_)} cut short of which {replayed} had been done")


def test_killing_the_supervisor_ends_the_roles_and_the_next_start_goes_on(make_cloud):
    c = make_cloud().start()
    q = c.admin.made("/queues", {"name": "q"})["id"]
    c.kill()
    assert clouds.until(lambda: c.leftovers() == [], 5), c.leftovers()
    c.start()
    assert c.admin.get(f"/queues/{q}").status == 200


def test_a_killed_api_comes_back_by_itself(make_cloud):
    c = make_cloud().start()
    old = c.role("api")
    began = time.monotonic()
    assert c.kill_role("api") != old
    c.wait_ready(10)
    assert c.admin.get("/queues").status == 200
    assert time.monotonic() - began < 5


def test_sigterm_lets_open_requests_finish(make_cloud):
    c = make_cloud().start()
    q = c.admin.made("/queues", {"name": "q"})["id"]
    got = []
    t = threading.Thread(target=lambda: got.append(c.admin.get(f"/queues/{q}/messages?wait=3")))
    t.start()
    time.sleep(0.5)
    assert c.stop() == 0
    t.join()
    assert got[0].status in (200, 503), got


def test_a_port_in_use_is_told_in_one_line(make_cloud):
    c = make_cloud()
    with socket.socket() as s:
        s.bind(("127.0.0.1", c.port))
        s.listen()
        p = c.spawn()
        assert p.wait(10) != 0
    lines = [x for x in c.err.read_text().splitlines() if x]
    assert len(lines) == 1 and str(c.port) in lines[0] and "--listen" in lines[0], lines


def test_a_second_brume_on_the_same_state_is_told(make_cloud):
    a = make_cloud().start()
    b = make_cloud({"places.state_dir": str(a.state), "places.run_dir": str(a.run)})
    assert b.spawn().wait(10) != 0
    text = b.err.read_text()
    assert str(a.state) in text and len(text.splitlines()) == 1, text
    assert a.admin.get("/queues").status == 200


def test_a_store_of_a_newer_release_is_refused(make_cloud):
    c = make_cloud().start()
    assert c.stop() == 0
    db = sqlite3.connect(c.state / "store.db")
    tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    name = next(t for t in tables if "migration" in t)
    columns = [r[1] for r in db.execute(f"PRAGMA table_info({name})")]
    row = list(db.execute(f"SELECT * FROM {name} LIMIT 1").fetchone())
    for i, col in enumerate(columns):
        if isinstance(row[i], str) and "_" in row[i] or col in ("name", "file"):
            row[i] = "9999_from_the_future"
        elif isinstance(row[i], int) and row[i] < 10000:
            row[i] = 9999
    db.execute(f"INSERT INTO {name} VALUES ({','.join('?' * len(row))})", row)
    db.commit()
    db.close()
    p = c.spawn()
    assert p.wait(20) != 0
    text = c.err.read_text()
    assert "newer" in text, text[-2000:]


def test_a_state_folder_the_api_cannot_reach_is_told(make_cloud):
    c = make_cloud()
    c.top.chmod(0o700)
    assert c.spawn().wait(10) != 0
    text = c.err.read_text()
    assert str(c.top) in text and "chmod" in text


@pytest.mark.parametrize("settings, word", [({"server.listen": "nonsense"}, "listen"), ({"server.workers": "-1"}, "workers"),
                                            ({"platform.default_plan": "golden"}, "default_plan"), ({"places.user": "root"}, "user"),
                                            ({"places.user": "no-such-user"}, "no-such-user"), ({"server.listen": "0.0.0.0:0"}, "loopback"),
                                            ({"store.url": "mysql://x"}, "store"),
                                            ({"store.url": "postgres://postgres@127.0.0.1:1/none"}, "127.0.0.1")])
def test_a_configuration_that_cannot_be_is_told(make_cloud, settings, word):
    c = make_cloud(settings)
    p = c.spawn()
    try:
        status = p.wait(8)
    except subprocess.TimeoutExpired:
        status = None
    text = c.err.read_text()
    assert word in text.lower() and "secret" not in text, text
    assert status != 0
    if status is None:
        assert "postgres://postgres@127.0.0.1:1" in settings.get("store.url", ""), "only a database may be waited for"
        c.kill()


@pytest.mark.parametrize("flags, word", [(["--no.such", "1"], "no.such"), (["--nonsense"], "nonsense"), (["--listen"], "listen"),
                                         (["--config", "/nowhere/brume.yaml"], "/nowhere/brume.yaml"), (["--role", "king"], "king"),
                                         (["--store", "postgres://u:secret@127.0.0.1/x"], "password_file")])
def test_a_command_line_that_cannot_be_is_told(make_cloud, flags, word):
    c = make_cloud()
    assert c.spawn(*flags).wait(10) != 0
    text = c.err.read_text()
    assert word in text and ":secret@" not in text and len(text.splitlines()) <= 3, text


@pytest.mark.parametrize("text, word", [("server:\n  colour: red\n", "server.colour"), ("server: [1\n", "brume.yaml:2"), ("server:\n  workers: many\n", "workers"),
                                        ("a: &a [*a, *a]\n", "brume.yaml:1"), ("server:\n  listen: a\n  listen: b\n", "listen")])
def test_a_file_with_a_fault_is_told(make_cloud, text, word):
    c = make_cloud()
    file = c.top / "brume.yaml"
    file.write_text(text)
    assert c.spawn("--config", str(file)).wait(10) != 0
    said = c.err.read_text()
    assert word in said and "brume.yaml" in said, said


def test_flags_win_over_the_environment_and_that_over_the_file(make_cloud):
    c = make_cloud()
    file = c.top / "brume.yaml"
    file.write_text("platform:\n  region: from-file\nlog:\n  level: debug\n")
    c.settings["platform.region"] = "from-env"
    c.start("--config", str(file))
    assert ":from-env:" in c.admin.made("/queues", {"name": "a"})["arn"]
    assert c.stop() == 0
    key = c.key
    c.start("--config", str(file), "--platform.region", "from-flag")
    assert ":from-flag:" in Client(c.port, key).made("/queues", {"name": "b"})["arn"]


def test_a_restart_keeps_everything(make_cloud):
    c = make_cloud().start()
    u = c.user()
    q = u.made("/queues", {"name": "kept"})["id"]
    u.made(f"/queues/{q}/messages", {"body": "kept"})
    before = (u.get("/queues").body, u.get("/audit").body)
    assert c.stop() == 0
    c.start()
    assert c.key, "the first key is not printed again"
    assert "first run" not in c.out.read_text()
    after = (u.get("/queues").body, u.get("/audit").body)
    assert before == after
    assert [m["body"] for m in u.get(f"/queues/{q}/messages").json] == ["kept"]


def test_a_backup_while_serving_restores(make_cloud):
    c = make_cloud().start()
    q = c.admin.made("/queues", {"name": "kept"})["id"]
    file = c.top / "backup"
    p = subprocess.run([str(BRUME), "backup", str(file)], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    assert p.returncode == 0, p.stdout.decode()
    c.admin.made("/queues", {"name": "later"})
    assert c.stop() == 0
    p = subprocess.run([str(BRUME), "restore", str(file)], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                       timeout=60, check=False)
    if p.returncode != 0:
        p = subprocess.run([str(BRUME), "restore", "--yes", str(file)], env=c.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                           check=False)
    assert p.returncode == 0, p.stdout.decode()
    c.start()
    assert [x["id"] for x in c.admin.get("/queues").json] == [q]


def test_hangup_reloads_the_log_level(make_cloud):
    c = make_cloud({"log.level": "error"}).start()
    c.admin.get("/queues")
    assert not c.log_find('"/queues"')
    os.kill(c.process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert c.admin.get("/queues").status == 200


def test_it_is_ready_within_a_moment(make_cloud):
    c = make_cloud().start()
    assert c.stop() == 0
    began = time.monotonic()
    c.start()
    assert time.monotonic() - began < 5
