# SPDX-License-Identifier: Apache-2.0
"""What an instance says and is told: logs over rotation, restarts and slow readers; commands with any bytes, their ends, what they leave."""
import base64
import http.client
import json
import socket
import threading
import time

import cloud as clouds
import pytest

from test_instances import c, delete, images, launch, run, settle  # noqa: F401  (fixtures)

SLEEP = ["sleep", "1000"]


def logs(c, i, query=""):
    r = c.get(f"/instances/{i}/logs?{query}", timeout=60)
    assert r.status == 200, r
    return r.body


def execute(c, i, cmd, **more):
    r = c.post(f"/instances/{i}/exec", {"cmd": cmd, **more}, timeout=60)
    assert r.status == 200, r
    return r.json


def follow(c, i, query=""):
    con = http.client.HTTPConnection("127.0.0.1", c.port, timeout=40)
    con.request("GET", f"/instances/{i}/logs?follow=true&{query}", headers={"X-API-Key": c.key})
    r = con.getresponse()
    assert r.status == 200
    return con, r


def numbers(text):
    return [int(x) for x in text.decode().split("\n") if x.isdigit()]


# ---- logs


def test_a_slow_reader_of_logs_holds_up_nobody_else(c):
    a = launch(c, "busybox", cmd=["sh", "-c", "seq 1 1000000; sleep 1000"])["id"]
    b = launch(c, "busybox", cmd=SLEEP)["id"]
    assert clouds.until(lambda: logs(c, a, "tail=1") == b"1000000\n", 30)
    with socket.create_connection(("127.0.0.1", c.port)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.sendall(f"GET /instances/{a}/logs?tail=1000000 HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\nConnection: close\r\n\r\n".encode())
        s.recv(1)
        for _ in range(30):
            assert execute(c, b, ["echo", "done"])["stdout"] == "done\n"
            time.sleep(0.05)
        got = b""
        while piece := s.recv(1 << 20):
            got += piece
    assert got.endswith(b"\r\n0\r\n\r\n"), "the answer was cut"
    assert b"1000000\n" in got[-100:]


def test_a_tail_is_exact_over_rotation(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "seq 1 900000; sleep 1000"])["id"]
    assert clouds.until(lambda: logs(c, i, "tail=1") == b"900000\n", 30)
    for n in (0, 1, 1000, 250000, 700000):
        assert numbers(logs(c, i, f"tail={n}")) == list(range(900001 - n, 900001)), n


def test_what_is_no_longer_kept_is_said(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "seq 1 1000; yes abcdefghijklmnopqrstuvwxyz | head -n 1200000; echo the-end; sleep 1000"])["id"]
    assert clouds.until(lambda: logs(c, i, "tail=1") == b"the-end\n", 60)
    text = logs(c, i, "tail=1000000")
    lines = text.split(b"\n")
    assert lines[0] == b"[brume: output is missing here]" and text.count(b"[brume") == 1, lines[:3]
    assert set(lines[1:-2]) == {b"abcdefghijklmnopqrstuvwxyz"} and lines[-2] == b"the-end"
    assert b"[brume" not in logs(c, i, "tail=1000")


def test_lines_of_two_streams_are_whole(c):
    """Each line is longer than what the kernel and the shim move at once."""
    one = "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' %s%s; echo $i%s; i=$((i+1)); done"
    cmd = f"({one % ('o', '', '')}) & ({one % ('e', ' >&2', ' >&2')}); wait; sleep 1; echo the-end; sleep 1000"
    i = launch(c, "busybox", cmd=["sh", "-c", cmd])["id"]
    assert clouds.until(lambda: logs(c, i, "tail=1") == b"the-end\n", 60)
    want = {ch * 100000 + str(n) for ch in "oe" for n in range(40)} | {"the-end"}
    got = logs(c, i).decode().split("\n")[:-1]
    assert len(got) == 81 and set(got) == want
    for n in (2, 7, 30):
        assert set(logs(c, i, f"tail={n}").decode().split("\n")[:-1]) == set(got[-n:]), n


def test_a_line_without_end_is_marked(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; sleep 1000"])["id"]
    mark = b" [brume: the line is cut here]\n"
    assert clouds.until(lambda: logs(c, i).endswith(mark), 10)
    assert logs(c, i)[:-len(mark)].strip(b"x") == b""


def test_since_gives_all_since_then(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "seq 1 10; sleep 2; seq 11 5000; sleep 1000"])["id"]
    assert clouds.until(lambda: logs(c, i, "tail=1") == b"5000\n", 20)
    stamped = logs(c, i, "tail=10000&timestamps=true").decode().split("\n")
    since = next(x.split(" ")[0] for x in stamped if x.endswith(" 11"))
    assert numbers(logs(c, i, f"since={since}")) == list(range(11, 5001))
    assert numbers(logs(c, i, f"since={since}&tail=7")) == list(range(4994, 5001))
    assert len(numbers(logs(c, i))) == 1000


def test_a_follower_misses_nothing_over_restarts_of_instance_and_agent(cloud, c):
    """Every start counts on from where the last one was."""
    cmd = "n=$(cat /n 2>/dev/null || echo 0); trap 'echo $n > /n; exit' TERM; while :; do n=$((n+1)); echo $n; sleep 0.005; done"
    i = launch(c, "busybox", cmd=["sh", "-c", cmd])["id"]
    con, r = follow(c, i, "tail=1000000")
    seen, over = bytearray(), threading.Event()

    def read():
        try:
            while piece := r.read1(65536):
                seen.extend(piece)
        except (OSError, http.client.HTTPException):
            pass
        over.set()

    t = threading.Thread(target=read)
    t.start()
    for _ in range(2):
        time.sleep(1)
        cloud.kill_role("agent")
        cloud.wait_ready()
        time.sleep(2)
        began = c.get(f"/instances/{i}").json["started_at"]
        assert clouds.until(lambda: c.post(f"/instances/{i}/restart").status == 200, 20)
        assert clouds.until(lambda b=began: c.get(f"/instances/{i}").json["started_at"] != b, 30)
        settle(c, i)
    time.sleep(1.5)
    assert not over.is_set(), bytes(seen[-300:])
    delete(c, i)
    t.join(20)
    assert over.is_set()
    con.close()
    got = numbers(bytes(seen))
    assert len(got) > 200 and b"[brume" not in seen
    assert got == list(range(1, len(got) + 1)), [(x, y) for x, y in zip(got, got[1:]) if y != x + 1][:5]


def test_logs_that_a_stop_breaks_off_are_seen_to_be_cut(cloud, c):
    """RFC 9112, 8: chunked content without its last chunk is incomplete."""
    i = launch(c, "busybox", cmd=["sh", "-c", "echo one; sleep 1000"])["id"]
    assert clouds.until(lambda: logs(c, i) == b"one\n", 10)
    with socket.create_connection(("127.0.0.1", c.port), timeout=30) as s:
        s.sendall(f"GET /instances/{i}/logs?follow=true HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\n\r\n".encode())
        got = b""
        while b"one" not in got:
            got += s.recv(65536)
        assert cloud.stop() == 0
        while piece := s.recv(65536):
            got += piece
    cloud.start()
    assert not got.endswith(b"0\r\n\r\n"), got


# ---- commands


def test_a_command_takes_and_gives_any_bytes(c):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    every = bytes(range(256)) * 40
    r = execute(c, i, ["cat"], input=base64.b64encode(every).decode(), input_encoding="base64")
    assert r["stdout_encoding"] == "base64" and base64.b64decode(r["stdout"]) == every
    assert (r["stderr"], r["stderr_encoding"]) == ("", "utf-8")
    r = execute(c, i, ["sh", "-c", "printf 'gr\\303\\274n'; printf '\\377' >&2"])
    assert (r["stdout"], r["stdout_encoding"], r["stderr"], r["stderr_encoding"]) == ("gr\u00fcn", "utf-8", "/w==", "base64")
    r = execute(c, i, ["sh", "-c", "echo a > /dev/stderr"])
    assert r["stderr"] == "a\n"
    code, out, _ = c_cli(c, i, "printf '\\377\\0\\n'; exit 3")
    assert (code, out) == (3, b"\xff\0\n")


def c_cli(c, i, script):
    import os
    import subprocess
    p = subprocess.run([str(clouds.BRUME), "instance", "exec", i, "--", "sh", "-c", script], capture_output=True, timeout=60, check=False,
                       env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "BRUME_URL": f"http://127.0.0.1:{c.port}", "BRUME_API_KEY": c.key})
    return p.returncode, p.stdout, p.stderr


def test_faults_of_a_command_are_named(c):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    for more, field, words in (({"cwd": "/no/such"}, "cwd", "/no/such"), ({"cwd": "/etc/passwd"}, "cwd", "no folder"),
                               ({"cwd": "tmp"}, "cwd", "'/'"), ({"env": {"A=B": "x"}}, "env", "="), ({"env": {"": "x"}}, "env", ""),
                               ({"input": "!", "input_encoding": "base64"}, "input", "base64")):
        r = c.post(f"/instances/{i}/exec", {"cmd": ["true"], **more})
        assert r.status == 400, (more, r)
        fault = r.error["details"][0]
        assert fault["field"].startswith(field) and words in fault["message"], (more, fault)
    assert execute(c, i, ["pwd"], cwd="/etc")["stdout"] == "/etc\n"


def test_what_a_command_leaves_lives_on_unless_asked(c):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    began = time.monotonic()
    execute(c, i, ["sh", "-c", "(while sleep 0.1; do echo tick; date > /tmp/alive; done) &"])
    assert time.monotonic() - began < 10
    time.sleep(1)
    run(c, i, "rm", "-f", "/tmp/alive")
    assert clouds.until(lambda: execute(c, i, ["test", "-e", "/tmp/alive"])["exit_code"] == 0, 5), "it died with its command"
    execute(c, i, ["sh", "-c", "sleep 77 & sleep 77 &"], kill_background=True)
    assert clouds.until(lambda: "sleep 77" not in run(c, i, "ps"), 5)


def test_hundreds_of_commands_leave_no_zombie(c):
    """The image's first process never asks for the end of anybody."""
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    for _ in range(200):
        execute(c, i, ["sh", "-c", "(true &) & sleep 0.01 & exit 0"])
    assert clouds.until(lambda: run(c, i, "ps", "-o", "stat").count("Z") == 0, 5), run(c, i, "ps", "-o", "pid,stat,args")


def begin(c, i, cmd, key=None, **headers):
    """Asks for a command and does not wait for its answer."""
    con = http.client.HTTPConnection("127.0.0.1", c.port, timeout=40)
    con.request("POST", f"/instances/{i}/exec", json.dumps({"cmd": cmd, "timeout": 600}),
                {"X-API-Key": key or c.key, "Content-Type": "application/json", **headers})
    return con


def test_a_command_that_nobody_waits_for_any_more_ends(c):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    made = c.made("/auth/keys", {"name": "doomed"})
    left = begin(c, i, ["sh", "-c", "sleep 701 & sleep 702"])
    revoked = begin(c, i, ["sleep", "703"], key=made["key"])
    keyed = begin(c, i, ["sleep", "704"], **{"Idempotency-Key": "k"})
    assert clouds.until(lambda: all(f"sleep 70{n}" in run(c, i, "ps") for n in (1, 2, 3, 4)), 10)
    left.close()
    keyed.close()
    assert c.delete(f"/auth/keys/{made['id']}").status in (200, 204)
    assert clouds.until(lambda: not any(f"sleep 70{n}" in run(c, i, "ps") for n in (1, 2, 3)), 10), run(c, i, "ps")
    assert revoked.getresponse().status >= 400
    assert "sleep 704" in run(c, i, "ps"), "its answer is kept for its retry"


def test_an_agent_that_dies_leaves_no_command_without_its_time_out(cloud, c):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    done = []
    t = threading.Thread(target=lambda: done.append(c.post(f"/instances/{i}/exec", {"cmd": ["sh", "-c", "touch /began; sleep 777"], "timeout": 6}, timeout=60)))
    t.start()
    assert clouds.until(lambda: execute(c, i, ["test", "-e", "/began"])["exit_code"] == 0, 10)
    cloud.kill_role("agent")
    t.join(60)
    assert done and done[0].status >= 500, done
    cloud.wait_ready()
    assert clouds.until(lambda: c.post(f"/instances/{i}/exec", {"cmd": ["true"]}).status == 200, 15)
    assert clouds.until(lambda: "sleep 777" not in run(c, i, "ps"), 15), "it outlived its time"


@pytest.mark.parametrize("size, cut", [(1 << 20, False), ((1 << 20) + 1, True)])
def test_truncated_is_said_exactly(c, size, cut):
    i = launch(c, "busybox", cmd=SLEEP)["id"]
    r = execute(c, i, ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"])
    assert r["truncated"] is cut and r["stdout"] == "x" * (1 << 20)
