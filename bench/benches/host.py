# SPDX-License-Identifier: Apache-2.0
"""What runs on a host: launches, the start, memory."""
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from benches import kit
from benches.kit import Load, Ours, ROOT, first_byte, median, open_port, pss_kib, row
import cloud as clouds
from cloud import Cloud, claim_port, until


def remove_tree(top):
    for line in reversed(clouds.read_text("/proc/mounts").splitlines()):
        if str(top) in line:
            subprocess.run(["umount", "-l", line.split()[1]], check=False)
    shutil.rmtree(top, ignore_errors=True)


class Docker:
    """A daemon of our own with the same root filesystem as our nginx image."""
    limits = ()

    def __init__(self, root):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="brume-docker-", dir="/var/tmp"))
        self.had_bridge = os.path.exists("/sys/class/net/docker0")
        self.sock = f"unix://{self.top}/sock"
        self.log = open(self.top / "log", "wb")
        self.daemon = subprocess.Popen(["dockerd", "--data-root", f"{self.top}/data", "--exec-root", f"{self.top}/exec", "--pidfile", f"{self.top}/pid",
                                        "-H", self.sock, "--iptables=false", "--ip6tables=false", "--bip", "172.31.250.1/24"],
                                       stdout=self.log, stderr=self.log, start_new_session=True)
        if not until(lambda: self.run("version", quiet=True).returncode == 0, 30, 0.2):
            text = (self.top / "log").read_text()[-2000:]
            self.close()
            raise RuntimeError(f"dockerd did not start: {text}")
        with subprocess.Popen(["zstd", "-dc", root], stdout=subprocess.PIPE) as z:
            self.run("import", "-", "bench-nginx", stdin=z.stdout)

    def run(self, *args, stdin=None, quiet=False):
        p = subprocess.run(["/usr/bin/docker", "-H", self.sock, *args], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           check=False)
        if p.returncode and not quiet:
            raise RuntimeError(f"docker {args[0]}: {p.stderr.decode()}")
        return p

    def close(self):
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        if not self.had_bridge:
            subprocess.run(["ip", "link", "del", "docker0"], stderr=subprocess.DEVNULL, check=False)
        remove_tree(self.top)


class Podman:
    """The same by podman, which has no daemon.  Its own hard limits may be over ours, which cannot be raised."""
    limits = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")

    def __init__(self, root):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="brume-podman-", dir="/var/tmp"))
        self.had_bridge = os.path.exists("/sys/class/net/cni-podman0")
        with subprocess.Popen(["zstd", "-dc", root], stdout=subprocess.PIPE) as z:
            self.run("import", "-", "bench-nginx", stdin=z.stdout)

    def run(self, *args, stdin=None):
        p = subprocess.run(["podman", "--root", f"{self.top}/root", "--runroot", f"{self.top}/run", "--cgroup-manager", "cgroupfs",
                            "--storage-driver", "overlay", *args], stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           check=False)
        if p.returncode:
            raise RuntimeError(f"podman {args[0]}: {p.stderr.decode()}")
        return p

    def close(self):
        if not self.had_bridge:
            subprocess.run(["ip", "link", "del", "cni-podman0"], stderr=subprocess.DEVNULL, check=False)
        remove_tree(self.top)


def launch_by(peer, n):
    """Milliseconds until the first 200 from an nginx that docker or podman starts."""
    port = claim_port()
    began = time.monotonic()
    peer.run("run", "-d", "--name", f"bench{n}", *peer.limits, "-p", f"127.0.0.1:{port}:80", "bench-nginx", "nginx", "-g", "daemon off;")
    took = first_byte(port, began)
    peer.run("rm", "-f", f"bench{n}")
    return took


def bench_launch():
    subprocess.run([str(ROOT / "tools/cgroups")], check=True)
    count = 20 if kit.RUNS > 1 else 7
    ours, docker, podman, peers = [], [], [], []
    with Ours(real=True) as o:
        a = o.c.admin
        v = a.made("/vpcs", {"name": "bench"})["id"]
        port = claim_port()

        def once(n):
            began = time.monotonic()
            r = a.post("/instances", {"name": f"bench-{n}", "image": "nginx", "vpc_id": v, "ports": f"{port}:80"})
            if r.status != 201:
                raise SystemExit(f"bench: {r}")
            took = first_byte(port, began, 400 if n == 0 else 20)
            a.delete(f"/instances/bench-{n}")
            until(lambda: not open_port(port), 10)
            return took
        keep = a.made("/instances", {"name": "keeps-the-vpc", "image": "nginx", "vpc_id": v})["id"]
        until(lambda: a.get(f"/instances/{keep}").json["status"] in ("running", "error"), 400, 0.2)
        once(0)
        root = max(glob.glob("/var/cache/brume/nginx-*.tar.zst"), key=os.path.getmtime)
        try:
            peers.append(Docker(root))
            peers.append(Podman(root))
            for n in range(1, count + 1):
                ours.append(once(n))
                docker.append(launch_by(peers[0], n))
                podman.append(launch_by(peers[1], n))
        finally:
            for p in peers:
                p.close()
    x, y, z = median(ours), median(docker), median(podman)
    row("POST /instances to first HTTP 200, p50", f"{x:.1f} ms (p90 {sorted(ours)[int(len(ours) * .9)]:.0f})", f"docker run of the same root {y:.0f} ms", f"{y / x:.1f}",
        "≤ 40 ms, ≥ 6 × faster", x <= 40 and y / x >= 6)
    row("the same, beside podman", f"{x:.1f} ms", f"podman run of the same root {z:.0f} ms", f"{z / x:.1f}", "–", True)


def bench_start():
    got = []
    c = Cloud({"compute.fake_drivers": "false", "log.level": "warn"}, name="bench")
    try:
        c.start()
        request = f"GET /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\nConnection: close\r\n\r\n".encode()
        c.stop()
        for _ in range(4 * kit.RUNS):
            began = time.monotonic()
            c.spawn()
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", c.port), timeout=5) as s:
                        s.sendall(request)
                        if s.recv(12) == b"HTTP/1.1 200":
                            break
                except OSError:
                    pass
                if time.monotonic() > began + 20:
                    raise SystemExit("bench: it did not start")
                time.sleep(0.0005)
            got.append((time.monotonic() - began) * 1000)
            until(lambda: b"serves at" in c.out.read_bytes(), 5)
            c.stop()
    finally:
        c.remove()
    x = median(got)
    row("`brume serve` to first authenticated 200", f"{x:.0f} ms (worst {max(got):.0f})", "–", "–", "≤ 60 ms", x <= 60)


def bench_memory():
    with Ours(real=True, **{"log.level": "warn"}) as o:
        c = o.c

        def all_roles():
            return sum(pss_kib(p) for p in [c.process.pid, *clouds.children(c.process.pid)]) / 1024
        c.admin.get("/queues")
        time.sleep(2)
        idle = all_roles()
        held = []
        try:
            request = f"GET /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\n\r\n".encode()
            for _ in range(1000):
                s = socket.create_connection(("127.0.0.1", c.port), timeout=5)
                held.append(s)
                s.sendall(request)
                assert s.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(1)
            many = all_roles()
        finally:
            for s in held:
                s.close()
        users = [c.user() for _ in range(20)]
        o.load.close()
        o.load = Load([u.key for u in users])
        made = 0
        while made < 100000:
            made += o.load.post(o.port, '"/queues"', """'{"name":"q' .. thread_id .. serial .. '"}'""", seconds=4)["n"]
            if made < 100000:
                time.sleep(15)
        time.sleep(3)
        after = all_roles()
    row("memory (PSS) of all roles, idle", f"{idle:.1f} MiB", "–", "–", "≤ 24 MiB", idle <= 24)
    row("with 1,000 connections that each asked", f"{many:.1f} MiB", "–", "–", "≤ 28 MiB", many <= 28)
    row(f"after {made:,} resources", f"{after:.1f} MiB", f"idle {idle:.1f} MiB", f"{after / idle:.2f}", "flat (≤ 1.25 × the idle 24)", after <= 1.25 * 24)
