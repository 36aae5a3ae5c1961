# SPDX-License-Identifier: Apache-2.0
"""Real containers: launched, reached, looked into, stopped, killed, and gone without a trace."""
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
import uuid

import cloud as clouds
import pytest

WGET = ["timeout", "3", "wget", "-q", "-O", "-"]  # Debian's busybox 1.35 dies of its own -T
BUILD_S = 420  # the first image is built from the distribution's packages


def settle(c, i, want="running", seconds=30):
    def look():
        r = c.get(f"/instances/{i}")
        return r.status == 200 and (r.json["status"] == want or (want != "error" and r.json["status"] == "error"))
    clouds.until(look, seconds, 0.05)
    got = c.get(f"/instances/{i}").json
    assert got["status"] == want, (got["status"], got.get("status_reason"), c.get(f"/instances/{i}/logs").body[-500:])
    return got


def gone(c, i, seconds=30):
    assert clouds.until(lambda: c.get(f"/instances/{i}").status == 404 or c.get(f"/instances/{i}").json["status"] == "terminated", seconds), \
        c.get(f"/instances/{i}")


def launch(c, image="nginx", wait=True, seconds=60, **more):
    name = more.pop("name", f"i{uuid.uuid4().hex[:8]}")
    i = c.made("/instances", {"name": name, "image": image, **more})
    return settle(c, i["id"], seconds=seconds) if wait else i


def delete(c, i):
    """Deletes it; when the API calls it terminated, its group and its port must be gone."""
    port = c.get(f"/instances/{i}").json.get("ports")
    assert c.delete(f"/instances/{i}").status == 200
    gone(c, i)
    clouds.until(lambda: not in_groups(i), 5)
    assert in_groups(i) == []
    if port:
        assert not is_open(int(port.split(":")[0]))


def in_groups(i):
    return [p.name for p in pathlib.Path("/proc").glob("[0-9]*") if i in clouds.read_text(p / "cgroup")]


def fetch(port, path="/", seconds=10):
    def look():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as r:
                return r.read()
        except (OSError, http.client.HTTPException):
            return None
    return clouds.until(look, seconds, 0.05)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def run(c, i, *cmd, status=0):
    r = c.post(f"/instances/{i}/exec", {"cmd": list(cmd)})
    assert r.status == 200, r
    assert r.json["exit_code"] == status, r
    return r.json["stdout"]


def host_port(i):
    return int(i["ports"].split(":")[0])


@pytest.fixture(scope="session")
def images(cloud):
    """Built once, whoever comes first; the cache is shared by all installations."""
    for name in ("busybox", "nginx"):
        r = cloud.admin.post("/images", {"name": name})
        assert r.status in (201, 409), r
    for name in ("busybox", "nginx"):
        def look(name=name):
            got = [x for x in cloud.admin.get("/images").json if x["name"] == name][0]
            assert got["status"] != "error", got
            return got["status"] == "ready"
        assert clouds.until(look, BUILD_S, 0.5), cloud.admin.get("/images")


@pytest.fixture
def c(cloud, images):
    """The admin; whatever a test leaves is deleted, and must then be gone."""
    a = cloud.admin
    before = {i["id"] for i in a.get("/instances").json}
    yield a
    cloud.wait_ready()
    for i in a.get("/instances").json:
        if i["id"] not in before:
            a.delete(f"/instances/{i['id']}")
    assert clouds.until(lambda: {i["id"] for i in a.get("/instances").json} <= before, 60), a.get("/instances")
    for v in a.get("/vpcs").json:
        if v["name"] != "default":
            clouds.until(lambda v=v: a.delete(f"/vpcs/{v['id']}").status != 409, 10)


def traces(cloud):
    """What the machine has of instances: namespaces, links, mounts, processes, groups below the parents."""
    return [x for x in cloud.leftovers() if not x.startswith(("process ",)) or "shim" in x]


def no_trace(cloud, *ids, seconds=10):
    """Nothing on the machine bears one of these ids, within a moment."""
    def left():
        return [x for x in traces(cloud) if any(i in x for i in ids)]
    clouds.until(lambda: not left(), seconds, 0.2)
    assert left() == []


def test_nginx_is_launched_reached_and_gone(cloud, c):
    v = c.made("/vpcs", {"name": "web"})["id"]
    i = launch(c, name="web-01", vpc_id=v, ports="0:80", env={"COLOUR": "red"}, instance_type="basic-2")
    port = host_port(i)
    assert 30000 <= port <= 32767
    page = fetch(port)
    assert page and b"nginx" in page.lower()
    # looked into
    assert run(c, i["id"], "sh", "-c", "echo $COLOUR; hostname").split() == ["red", "web-01"]
    assert run(c, i["id"], "id", "-u").strip() == "0"
    assert c.post(f"/instances/{i['id']}/exec", {"cmd": ["sh", "-c", "echo out; echo err >&2; exit 7"]}).json == \
        {"exit_code": 7, "stdout": "out\n", "stderr": "err\n", "stdout_encoding": "utf-8", "stderr_encoding": "utf-8",
         "timed_out": False, "truncated": False}
    r = c.post(f"/instances/{i['id']}/exec", {"cmd": ["no-such-program"]})
    assert r.status == 400 or r.json["exit_code"] in (126, 127), r
    s = c.get(f"/instances/{i['id']}/stats").json
    assert s["memory_bytes"] > 0 and s["pids"] >= 1 and s["cpu_usec"] > 0 and s["memory_limit_bytes"] == 1024 << 20
    assert s["net_rx_bytes"] > 0 and s["net_tx_bytes"] > 0
    run(c, i["id"], "sh", "-c", "echo kept > /var/www/html/kept.html")
    assert fetch(port, "/kept.html") == b"kept\n"
    # stopped: the port is closed; started: the files are there
    assert c.post(f"/instances/{i['id']}/stop").status == 200
    settle(c, i["id"], "stopped")
    assert not is_open(port)
    assert c.post(f"/instances/{i['id']}/exec", {"cmd": ["true"]}).status == 409
    assert c.post(f"/instances/{i['id']}/start").status == 200
    i = settle(c, i["id"], "running")
    assert fetch(host_port(i), "/kept.html") == b"kept\n"
    port = host_port(i)
    # restarted
    began = i["started_at"]
    assert c.post(f"/instances/{i['id']}/restart").status == 200
    assert clouds.until(lambda: c.get(f"/instances/{i['id']}").json["started_at"] != began, 20)
    i = settle(c, i["id"], "running")
    assert fetch(port, "/kept.html") == b"kept\n" and i["restart_count"] == 1
    # paused: it does not answer; resumed: it does
    assert c.post(f"/instances/{i['id']}/pause").status == 200
    settle(c, i["id"], "paused")
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)
    assert c.post(f"/instances/{i['id']}/resume").status == 200
    settle(c, i["id"], "running")
    assert fetch(port)
    # gone
    delete(c, i["id"])
    assert not is_open(port)
    assert [x for x in traces(cloud) if i["id"] in x or i["id"].replace("-", "")[-10:] in x] == []
    assert not (cloud.state / "agent/instances" / i["id"]).exists()
    # A neighbour that was deleted just before may take its ten seconds to end.
    assert clouds.until(lambda: not [x for x in traces(cloud) if x.startswith(("netns", "link", "mount"))], 25), traces(cloud)


def test_a_port_can_be_used_again_at_once(c):
    i = launch(c, ports="0:80")
    port = host_port(i)
    for _ in range(3):
        assert c.delete(f"/instances/{i['id']}").status == 200
        i = launch(c, ports=f"{port}:80", name="again" + uuid.uuid4().hex[:4])
        assert fetch(port)


def test_what_a_deleted_instance_holds_goes_with_it_also_over_a_kill(cloud, c):
    v = c.made("/vpcs", {"name": "held"})["id"]
    i = launch(c, "busybox", name="slow", vpc_id=v, cmd=["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])["id"]
    assert c.delete(f"/vpcs/{v}").status == 409
    assert c.delete(f"/instances/{i}").status == 200
    for r in (c.get(f"/instances/{i}"), c.get("/instances/slow"), c.get(f"/v1/instances/{i}")):
        assert r.json["status"] == "terminating", r
    assert [x["status"] for x in c.get("/instances").json if x["id"] == i] == ["terminating"]
    assert "terminating" in cloud.cli("instance", "list")[1]
    r = c.post("/instances/slow/exec", {"cmd": ["true"]})
    assert (r.status, r.code) == (409, "invalid_state")
    assert c.delete(f"/vpcs/{v}").status == 200
    assert c.get("/vpcs/held").json["status"] == "deleting"
    cloud.kill_role("api")
    cloud.wait_ready()
    assert c.get(f"/vpcs/{v}").status == 404 or c.get(f"/vpcs/{v}").json["status"] == "deleting"
    assert clouds.until(lambda: c.get(f"/vpcs/{v}").status == 404, 60), c.get(f"/vpcs/{v}")
    assert c.get(f"/instances/{i}").json["status"] == "terminated"
    no_trace(cloud, i)


def test_what_it_prints_is_in_its_logs(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "echo one; echo two >&2; while sleep 0.2; do echo tick; done"])["id"]
    assert clouds.until(lambda: b"tick" in c.get(f"/instances/{i}/logs").body, 5)
    text = c.get(f"/instances/{i}/logs").body.decode()
    assert "one" in text and "two" in text
    last = c.get(f"/instances/{i}/logs?tail=1").body.decode()
    assert last.count("tick") == 1 and "one" not in last, last
    con = http.client.HTTPConnection("127.0.0.1", c.port, timeout=5)
    con.request("GET", f"/instances/{i}/logs?follow=true&tail=1", headers={"X-API-Key": c.key})
    r = con.getresponse()
    assert r.status == 200
    seen = b""
    while seen.count(b"tick") < 4:
        piece = r.read1(4096)
        assert piece, "the stream ended"
        seen += piece
    con.close()


def test_output_that_is_large_or_binary_is_bounded(c):
    i = launch(c, "busybox", cmd=["sh", "-c", "head -c 30000000 /dev/urandom; yes | head -c 20000000; echo the-end; sleep 1000"])["id"]
    assert clouds.until(lambda: b"the-end" in c.get(f"/instances/{i}/logs?tail=5").body, 30)
    r = c.post(f"/instances/{i}/exec", {"cmd": ["sh", "-c", "yes | head -c 5000000"]})
    assert r.status == 200 and r.json["truncated"] is True and len(r.json["stdout"]) <= 1 << 20


def test_an_exec_that_hangs_ends(c):
    i = launch(c, "busybox", cmd=["sleep", "1000"])["id"]
    began = time.monotonic()
    r = c.post(f"/instances/{i}/exec", {"cmd": ["sleep", "60"], "timeout": 1})
    if r.status == 400:
        r = c.post(f"/instances/{i}/exec", {"cmd": ["sleep", "60"], "timeout_seconds": 1})
    assert r.status == 200 and r.json["timed_out"] is True and time.monotonic() - began < 10, r


def test_two_of_a_vpc_meet_by_name(c):
    v = c.made("/vpcs", {"name": "meet"})["id"]
    a = launch(c, name="web", vpc_id=v)
    b = launch(c, "busybox", name="shell", vpc_id=v, cmd=["sleep", "1000"])
    assert a["private_ip"] != b["private_ip"]
    for host in ("web", "web.meet.internal", a["private_ip"]):
        assert "nginx" in run(c, b["id"], *WGET, f"http://{host}/").lower(), host
    assert run(c, a["id"], "getent", "hosts", "shell").split()[0] == b["private_ip"]
    r = c.post(f"/instances/{b['id']}/exec", {"cmd": ["nslookup", "nobody.meet.internal"]}).json
    assert r["exit_code"] != 0 or "can't" in (r["stdout"] + r["stderr"]).lower() or "NXDOMAIN" in r["stdout"] + r["stderr"], r
    delete(c, a["id"])
    assert c.post(f"/instances/{b['id']}/exec", {"cmd": [*WGET, "http://web/"]}).json["exit_code"] != 0


def test_every_accepted_name_resolves_whatever_its_case(c):
    v = c.made("/vpcs", {"name": "names"})["id"]
    asker = launch(c, name="asker", vpc_id=v)["id"]
    named = {n: launch(c, "busybox", name=n, vpc_id=v)["private_ip"] for n in ("Web_1", "0xg", "n" * 63)}
    r = c.post("/instances", {"name": "wEB_1", "image": "busybox", "vpc_id": v})
    assert r.status == 409 and "case" in r.error["message"], r
    for name, ip in named.items():
        for said in (name, name.upper(), name.lower(), f"{name}.internal", f"{name}.names.internal"):
            got = clouds.until(lambda said=said: c.post(f"/instances/{asker}/exec", {"cmd": ["getent", "ahostsv4", said]}).json["stdout"], 5)
            assert got and got.split()[0] == ip, (said, got, ip)


UDP_ECHO = ["perl", "-MIO::Socket::INET", "-e", '$s = IO::Socket::INET->new(LocalPort => 53, Proto => "udp"); $s->send("pong") while $s->recv($m, 100)']


def test_a_udp_client_that_keeps_its_port_is_answered_after_a_start(c):
    i = launch(c, ports="0:53/udp", cmd=UDP_ECHO)
    to = ("127.0.0.1", host_port(i))

    def client():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(0.2)
        s.connect(to)
        return s

    def pong(s):
        try:
            s.send(b"ping")
            return s.recv(100) == b"pong"
        except OSError:
            return False
    with client() as early, client() as late:
        assert clouds.until(lambda: pong(early), 10, 0.05)
        c.post(f"/instances/{i['id']}/stop")
        settle(c, i["id"], "stopped")
        for _ in range(5):
            assert not pong(early) and not pong(late)
        c.post(f"/instances/{i['id']}/start")
        settle(c, i["id"])
        # A flow that is remembered lives for 30 s after each datagram, for ever with these.
        for s in (late, early):
            assert clouds.until(lambda s=s: pong(s), 10, 0.05)


def test_two_vpcs_with_one_cidr_do_not_meet(c):
    one, two = (c.made("/vpcs", {"name": n})["id"] for n in ("one", "two"))
    a = launch(c, name="same", vpc_id=one)
    b = launch(c, "busybox", vpc_id=two, cmd=["sleep", "1000"])
    assert a["private_ip"] == b["private_ip"], "the same addresses in both"
    d = launch(c, name="next", vpc_id=one)
    r = c.post(f"/instances/{b['id']}/exec", {"cmd": [*WGET, f"http://{d['private_ip']}/"]})
    assert r.json["exit_code"] != 0, "a neighbour's VPC was reached"
    r = c.post(f"/instances/{b['id']}/exec", {"cmd": ["nslookup", "next"]})
    assert d["private_ip"] not in r.json["stdout"].split("Name:")[-1] or r.json["exit_code"] != 0


def test_an_instance_reaches_the_outside_but_not_the_host(cloud, c):
    i = launch(c, "busybox", cmd=["sleep", "1000"])["id"]
    # The outside: a namespace of our own behind a veth of the host, which knows no route back into any VPC.
    ns, port = f"bbx{os.getpid()}", 8099
    subprocess.run(["ip", "netns", "add", ns], check=True)
    server = None
    try:
        for cmd in (f"ip link add {ns}h type veth peer name {ns}p netns {ns}", f"ip addr add 203.0.113.1/24 dev {ns}h", f"ip link set {ns}h up",
                    f"ip -n {ns} addr add 203.0.113.2/24 dev {ns}p", f"ip -n {ns} link set {ns}p up", f"ip -n {ns} link set lo up"):
            subprocess.run(cmd.split(), check=True)
        server = subprocess.Popen(["ip", "netns", "exec", ns, "python3", "-m", "http.server", str(port), "--bind", "203.0.113.2", "-d", "/usr/share/doc"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert clouds.until(lambda: c.post(f"/instances/{i}/exec", {"cmd": [*WGET, f"http://203.0.113.2:{port}/"]})
                            .json["exit_code"] == 0, 8), "no way out"
        with socket.socket() as s:
            s.bind(("0.0.0.0", 0))
            s.listen()
            for host in ("203.0.113.1", "127.0.0.1", "198.18.0.0", "198.18.0.1"):
                r = c.post(f"/instances/{i}/exec", {"cmd": ["nc", "-w", "1", host, str(s.getsockname()[1])]})
                assert r.json["exit_code"] != 0, f"the host answers at {host}"
        r = c.post(f"/instances/{i}/exec", {"cmd": [*WGET, f"http://127.0.0.1:{cloud.port}/health/live"]})
        assert r.json["exit_code"] != 0
    finally:
        if server:
            server.kill()
            server.wait()
        subprocess.run(["ip", "netns", "del", ns], check=False)
        subprocess.run(["ip", "link", "del", f"{ns}h"], stderr=subprocess.DEVNULL, check=False)


def test_an_unknown_image_is_an_error_with_a_plain_reason(cloud, c):
    i = launch(c, "no-such-registry.invalid/nothing:1", wait=False)
    got = settle(c, i["id"], "error", 60)
    assert got["status_reason"] and "no-such-registry.invalid" in got["status_reason"], got
    delete(c, i["id"])
    for x in c.get("/images").json:
        if "invalid" in x["name"]:
            assert x["status"] == "error" and c.delete(f"/images/{x['id']}").status == 200


def test_a_command_that_does_not_exist_is_an_error(cloud, c):
    i = launch(c, "busybox", wait=False, cmd=["/no/such/command"])
    got = settle(c, i["id"], "error", 60)
    assert "/no/such/command" in got["status_reason"], got
    assert clouds.until(lambda: not [x for x in traces(cloud) if x.startswith(("mount", "process")) and i["id"] in x], 5)
    delete(c, i["id"])
    no_trace(cloud, i["id"])


def test_a_command_that_ends_at_once_says_so(c):
    i = launch(c, "busybox", wait=False, cmd=["sh", "-c", "echo farewell; exit 3"], restart_policy="never")
    assert clouds.until(lambda: c.get(f"/instances/{i['id']}").json["status"] in ("error", "stopped"), 30)
    got = c.get(f"/instances/{i['id']}").json
    assert got["exit_code"] == 3 and "3" in got["status_reason"], got
    assert b"farewell" in c.get(f"/instances/{i['id']}/logs").body
    assert got["restart_count"] == 0


def test_a_command_that_keeps_dying_is_restarted_with_back_off(c):
    i = launch(c, "busybox", wait=False, cmd=["sh", "-c", "sleep 0.1; exit 3"], restart_policy="always")["id"]
    assert clouds.until(lambda: c.get(f"/instances/{i}").json["restart_count"] >= 2, 30), c.get(f"/instances/{i}")
    time.sleep(3)
    assert c.get(f"/instances/{i}").json["restart_count"] < 12


def test_a_taken_port_is_an_error_and_frees_the_rest(cloud, c):
    a = launch(c, ports="0:80")
    port = host_port(a)
    r = c.post("/instances", {"name": "second", "image": "nginx", "ports": f"{port}:80"})
    if r.status == 201:
        got = settle(c, r.json["id"], "error", 30)
        assert str(port) in got["status_reason"], got
        assert c.delete(f"/instances/{r.json['id']}").status == 200
    else:
        assert r.status == 409 and str(port) in r.error["message"], r
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        taken = s.getsockname()[1]
        b = launch(c, wait=False, ports=f"{taken}:80")
        got = settle(c, b["id"], "error", 30)
        assert str(taken) in got["status_reason"], got
        assert c.delete(f"/instances/{b['id']}").status == 200
        no_trace(cloud, b["id"])
    assert fetch(port), "the first goes on"


def test_memory_over_the_limit_is_told_as_such(c):
    i = launch(c, "busybox", wait=False, cmd=["sh", "-c", "sleep 1; tail /dev/zero"], restart_policy="never")["id"]
    assert clouds.until(lambda: c.get(f"/instances/{i}").json["status"] in ("error", "stopped"), 60)
    got = c.get(f"/instances/{i}").json
    assert "memory" in got["status_reason"].lower() and got["exit_code"] == 137, got


def test_limits_are_of_the_kernel(c):
    i = launch(c, "busybox", cmd=["sleep", "1000"])["id"]
    r = c.post(f"/instances/{i}/exec", {"cmd": ["sh", "-c", "i=0; while [ $i -lt 5000 ]; do sleep 30 & i=$((i+1)); done; echo all"]})
    assert r.status in (200, 504, 409) and "all" not in r.body.decode().split('"stdout"')[-1].split('"stderr"')[0], "5,000 processes were allowed"


def test_an_instance_is_confined(c):
    i = launch(c, "busybox", cmd=["sleep", "1000"])["id"]
    bad = ["mount -t tmpfs x /mnt", "mknod /tmp/x b 7 0", "ip link add d0 type dummy", "echo 1 > /proc/sys/kernel/panic", "dd if=/dev/vda count=1",
           "chroot /proc/1/root/.. ls /work", "echo b > /proc/sysrq-trigger", "hostname evil", "swapoff -a && insmod x", "nsenter -t 1 -m ls",
           "head -c 1 /proc/kcore", "unshare -m true"]
    for cmd in bad:
        r = c.post(f"/instances/{i}/exec", {"cmd": ["sh", "-c", cmd]}).json
        assert r["exit_code"] != 0, (cmd, r)
    ps = run(c, i, "ps")
    assert "brume" not in ps and "systemd" not in ps
    assert "vda" not in run(c, i, "ls", "/dev")
    env = run(c, i, "env")
    assert "thecloud_" not in env
    status = run(c, i, "cat", "/proc/self/status")
    lines = dict(x.split(":", 1) for x in status.splitlines() if ":" in x)
    assert lines["NoNewPrivs"].strip() == "1" and lines["Seccomp"].strip() == "2"
    caps = int(lines["CapBnd"], 16)
    for bit in (12, 16, 17, 19, 21, 22):  # net_admin, module, rawio, ptrace, sys_admin, boot
        assert not caps >> bit & 1, f"capability {bit}"
    assert run(c, i, "cat", "/proc/self/uid_map").split()[1] != "0"


def test_a_disk_is_an_instances_own(c):
    a, b = (launch(c, "busybox", cmd=["sleep", "1000"])["id"] for _ in range(2))
    run(c, a, "sh", "-c", "echo mine > /only-here; rm /bin/vi; true")
    assert c.post(f"/instances/{b}/exec", {"cmd": ["cat", "/only-here"]}).json["exit_code"] != 0


@pytest.mark.parametrize("role", ["api", "agent"])
def test_a_killed_role_leaves_instances_running(cloud, c, role):
    i = launch(c, ports="0:80")
    port = host_port(i)
    assert fetch(port)
    stop = time.monotonic() + 3
    cloud.kill_role(role)
    while time.monotonic() < stop:
        assert fetch(port, seconds=1), f"it stopped answering when {role} was killed"
    cloud.wait_ready()
    assert clouds.until(lambda: c.post(f"/instances/{i['id']}/exec", {"cmd": ["true"]}).status == 200, 15), "not adopted"
    assert c.get(f"/instances/{i['id']}").json["status"] == "running" and c.get(f"/instances/{i['id']}").json["restart_count"] == 0
    assert c.get(f"/instances/{i['id']}/logs").status == 200
    delete(c, i["id"])
    assert not is_open(port)
    no_trace(cloud, i["id"])


def test_a_killed_supervisor_leaves_instances_running(cloud, c):
    i = launch(c, ports="0:80")
    port = host_port(i)
    cloud.kill()
    for _ in range(10):
        assert fetch(port, seconds=1)
        time.sleep(0.05)
    cloud.start()
    assert clouds.until(lambda: c.post(f"/instances/{i['id']}/exec", {"cmd": ["true"]}).status == 200, 15), "not adopted"
    assert fetch(port)
    delete(c, i["id"])
    assert not is_open(port)


def test_a_clean_stop_leaves_instances_running_too(cloud, c):
    i = launch(c, ports="0:80")
    assert cloud.stop() == 0
    assert fetch(host_port(i))
    cloud.start()
    assert clouds.until(lambda: c.get(f"/instances/{i['id']}").json["status"] == "running", 10)
    assert c.get(f"/instances/{i['id']}").json["restart_count"] == 0


def test_what_dies_while_nobody_looks_is_found(cloud, c):
    i = launch(c, "busybox", cmd=["sleep", "1000"], restart_policy="never")["id"]
    pids = [p.name for p in pathlib.Path("/proc").glob("[0-9]*") if i in clouds.read_text(p / "cgroup") and "sleep" in clouds.read_text(p / "cmdline")]
    assert pids
    assert cloud.stop() == 0
    os.kill(int(pids[0]), signal.SIGKILL)
    cloud.start()
    assert clouds.until(lambda: c.get(f"/instances/{i}").json["status"] in ("stopped", "error"), 20), c.get(f"/instances/{i}")
    assert c.get(f"/instances/{i}").json["exit_code"] == 137


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_a_stopped_instance_keeps_its_ports_while_the_agent_is_gone(cloud, c, how):
    i = launch(c, ports="0:80")
    port = host_port(i)
    assert c.post(f"/instances/{i['id']}/stop").status == 200
    settle(c, i["id"], "stopped")
    if how == "kill":
        cloud.kill_role("agent")
        cloud.wait_ready()
    else:
        assert cloud.stop() == 0
        cloud.start()
    other = launch(c, wait=False, ports=f"{port}:80")
    got = settle(c, other["id"], "error")
    assert str(port) in got["status_reason"], got
    assert c.post(f"/instances/{i['id']}/start").status == 200
    assert host_port(settle(c, i["id"])) == port
    assert fetch(port)
    assert c.delete(f"/instances/{other['id']}").status == 200
    gone(c, other["id"])
    assert fetch(port), "the other's end took it away"
    delete(c, i["id"])
    delete(c, launch(c, ports=f"{port}:80")["id"])
    no_trace(cloud, i["id"], other["id"])


def test_an_agent_killed_during_launches_leaves_all_or_nothing(cloud, c):
    made = [c.made("/instances", {"name": f"burst{n}", "image": "busybox", "cmd": ["sleep", "1000"]})["id"] for n in range(6)]
    time.sleep(0.15)
    cloud.kill_role("agent")
    for i in made:
        settle(c, i, "running", 45)
    for i in made:
        c.delete(f"/instances/{i}")
    time.sleep(0.1)
    cloud.kill_role("agent")
    for i in made:
        gone(c, i, 45)
    no_trace(cloud, *made, seconds=45)


def rootfs_tar():
    """A small root filesystem with a static shell."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        t.add("/bin/busybox", "bin/busybox")
        for n in ("sh", "echo", "sleep", "cat"):
            link = tarfile.TarInfo(f"bin/{n}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            t.addfile(link)
        for d in ("proc", "sys", "dev", "etc", "tmp"):
            m = tarfile.TarInfo(d)
            m.type, m.mode = tarfile.DIRTYPE, 0o755
            t.addfile(m)
        note = tarfile.TarInfo("etc/motd")
        note.size = 6
        t.addfile(note, io.BytesIO(b"hello\n"))
    return out.getvalue()


def upload(c, query, data):
    r = c.req("POST", f"/images/import?{query}", raw=data, headers={"Content-Type": "application/octet-stream"}, timeout=60)
    return r


def wait_image(c, i, seconds=60):
    assert clouds.until(lambda: c.get(f"/images/{i}").json["status"] in ("ready", "error"), seconds)
    return c.get(f"/images/{i}").json


def test_a_tarball_of_files_is_imported_and_runs(c):
    r = upload(c, 'name=mine&format=rootfs&cmd=["/bin/sh","-c","cat+/etc/motd;sleep+1000"]'.replace('"', "%22").replace("[", "%5B").replace("]", "%5D"), rootfs_tar())
    assert r.status == 201, r
    assert wait_image(c, r.json["id"])["status"] == "ready", c.get("/images/mine")
    i = launch(c, "mine")["id"]
    assert clouds.until(lambda: b"hello" in c.get(f"/instances/{i}/logs").body, 5)
    assert c.delete("/images/mine").status == 409, "in use"
    delete(c, i)
    assert c.delete("/images/mine").status == 200


def oci_archive(root, config):
    """An OCI archive with one layer, made by hand."""
    layer = gzip.compress(root)
    blobs, digest = {}, lambda b: "sha256:" + hashlib.sha256(b).hexdigest()

    def blob(kind, data):
        blobs[digest(data)] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}
    about = json.dumps({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [digest(root)]}}).encode()
    manifest = json.dumps({"schemaVersion": 2, "config": blob("config.v1+json", about), "layers": [blob("layer.v1.tar+gzip", layer)]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [blob("manifest.v1+json", manifest)]}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **{f"blobs/sha256/{d[7:]}": b for d, b in blobs.items()}}
        for name, data in files.items():
            m = tarfile.TarInfo(name)
            m.size = len(data)
            t.addfile(m, io.BytesIO(data))
    return out.getvalue()


GREETS = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING; sleep 1000"], "Env": ["GREETING=good-day", "PATH=/bin"], "StopSignal": "SIGUSR1"}


def test_an_oci_archive_whose_blob_is_not_what_its_name_says_is_refused(c):
    data = oci_archive(gzip.decompress(rootfs_tar()), {**GREETS, "Labels": {"a": "b"}}).replace(b'"Labels"', b'"Babels"')
    r = upload(c, "name=forged&format=oci", data)
    if r.status == 201:
        assert wait_image(c, r.json["id"])["status"] == "error"
        c.delete("/images/forged")
    else:
        assert r.status == 400 and r.error["message"], r


def test_an_oci_archive_is_imported_and_runs(c):
    r = upload(c, "name=archived&format=oci", oci_archive(gzip.decompress(rootfs_tar()), GREETS))
    assert r.status == 201, r
    assert wait_image(c, r.json["id"])["status"] == "ready", c.get("/images/archived")
    i = launch(c, "archived")
    assert clouds.until(lambda: b"good-day" in c.get(f"/instances/{i['id']}/logs").body, 5)
    delete(c, i["id"])
    i = launch(c, "archived", cmd=["trap 'exit 42' USR1; echo $GREETING-to-you; while :; do sleep 0.1; done"])
    assert clouds.until(lambda: b"good-day-to-you" in c.get(f"/instances/{i['id']}/logs").body, 5)
    c.post(f"/instances/{i['id']}/stop")
    assert settle(c, i["id"], "stopped")["exit_code"] == 42
    delete(c, i["id"])
    assert c.delete("/images/archived").status == 200


def test_an_imported_archive_comes_back_and_imports_to_the_same_image(c, tmp_path):
    data, out = oci_archive(gzip.decompress(rootfs_tar()), GREETS), tmp_path / "there.tar"
    there = upload(c, "name=there&format=oci", data)
    assert there.status == 201, there
    got = c.get("/images/there/archive")
    assert got.status == 200 and got.body == data and got.headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    out.write_bytes(data[:len(data) // 2])
    subprocess.run(["curl", "-sS", "-f", "-C", "-", "-o", str(out), "-H", f"X-API-Key: {c.key}", f"http://127.0.0.1:{c.port}/images/there/archive"], check=True)
    assert out.read_bytes() == data
    r = subprocess.run(["skopeo", "inspect", f"oci-archive:{out}"], capture_output=True, text=True, check=False)
    assert r.returncode == 0 and "GREETING=good-day" in r.stdout, r
    back = upload(c, "name=back&format=oci", out.read_bytes())
    assert back.status == 201 and back.json["digest"] == there.json["digest"] and back.json["size_bytes"] == there.json["size_bytes"]
    i = launch(c, "back")
    assert clouds.until(lambda: b"good-day" in c.get(f"/instances/{i['id']}/logs").body, 5)
    delete(c, i["id"])
    for name in ("there", "back"):
        assert c.delete(f"/images/{name}").status == 200


@pytest.mark.parametrize("data", [b"nonsense", b"", b"\x1f\x8b" + b"\0" * 100])
def test_an_import_of_nonsense_says_so(cloud, c, data):
    for form in ("rootfs", "oci"):
        r = upload(c, f"name=bad-{form}&format={form}", data)
        if r.status == 201:
            got = wait_image(c, r.json["id"])
            assert got["status"] == "error" and got["status_reason"], got
            c.delete(f"/images/bad-{form}")
        else:
            assert r.status == 400 and r.error["message"], r
    assert [x["name"] for x in c.get("/images").json if x["name"].startswith("bad")] == []


def test_a_tarball_cannot_write_outside(c):
    out = io.BytesIO()
    mark = f"/var/tmp/escaped-{uuid.uuid4().hex}"
    with tarfile.open(fileobj=out, mode="w") as t:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, "/var/tmp"
        t.addfile(link)
        for name in (f"../../../../../..{mark}", mark, f"out/{mark.split('/')[-1]}"):
            m = tarfile.TarInfo(name)
            m.size = 4
            t.addfile(m, io.BytesIO(b"evil"))
    r = upload(c, "name=escape&format=rootfs", out.getvalue())
    if r.status == 201:
        wait_image(c, r.json["id"])
        c.delete("/images/escape")
    assert not os.path.exists(mark)


def test_the_client_does_all_that(cloud, c):
    def brume(*args, want=0):
        status, out, err = cloud.cli(*args)
        assert status == want, (args, status, out, err)
        return out
    made = json.loads(brume("instance", "create", "--name", "cli-web", "--image", "nginx", "--ports", "0:80", "--wait", "-o", "json"))
    assert made["name"] == "cli-web" and made["status"] == "running"
    assert [x["id"] for x in items(brume("instance", "list", "-o", "json"))].count(made["id"]) == 1
    assert json.loads(brume("instance", "get", "cli-web", "-o", "json"))["id"] == made["id"]
    assert "cli-web" in brume("instance", "list")
    assert brume("instance", "list", "-o", "id").split().count(made["id"]) == 1
    assert fetch(int(json.loads(brume("instance", "get", "cli-web", "-o", "json"))["ports"].split(":")[0]))
    assert "hello-from-within" in brume("instance", "exec", "cli-web", "--", "echo", "hello-from-within")
    brume("instance", "logs", "cli-web")
    assert json.loads(brume("instance", "stats", "cli-web", "-o", "json"))["memory_bytes"] > 0
    brume("instance", "stop", "cli-web")
    settle(c, "cli-web", "stopped")
    brume("instance", "delete", "cli-web")
    gone(c, made["id"])
    status, _, err = cloud.cli("instance", "get", "cli-web-nowhere")
    assert status == 5 and err.strip()
    status, _, err = cloud.cli("instance", "dance")
    assert status == 2 and err.strip()
    status, _, err = cloud.cli("instance", "list", "--url", "http://127.0.0.1:1")
    assert status == 3 and err.strip()
    q = json.loads(brume("queue", "create", "--name", "cli-q", "-o", "json"))
    brume("queue", "delete", q["id"])


def items(text):
    v = json.loads(text)
    return v if isinstance(v, list) else v["data"]


def test_a_running_instance_is_resized_and_goes_on(cloud, images):
    c = cloud.admin
    i = launch(c, image="busybox")["id"]
    born = run(c, i, "stat", "-c", "%Z", "/proc/1")
    r = c.post(f"/instances/{i}/resize", {"instance_type": "basic-2"})
    assert r.status == 200 and r.json["memory_limit"] == 1024, r
    assert clouds.until(lambda: c.get(f"/instances/{i}/stats").json["memory_limit_bytes"] == 1024 << 20, 10)
    assert run(c, i, "stat", "-c", "%Z", "/proc/1") == born
    assert c.post(f"/instances/{i}/resize", {"instance_type": "basic-1"}).status == 409
    delete(c, i)
