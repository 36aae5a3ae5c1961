# SPDX-License-Identifier: Apache-2.0
"""What a request costs, and what others notice of a crowd."""
import http.client
import itertools
import json
import os
import socket
import sqlite3
import subprocess
import threading
import time
import uuid

from benches import kit
from benches.kit import Nginx, ON_SERVER, Ours, ROOT, cpu_each, median, one_tenant, pair, row
from cloud import until


def bench_get():
    with Ours() as o:
        one_tenant(o)
        path = "/vpcs/" + o.c.admin.made("/vpcs", {"name": "small"})["id"]
        r = o.c.admin.get(path)
        head = [(k, v) for k, v in r.headers.items() if k.lower() not in ("date", "content-length", "content-type", "connection")]
        logged, silent = Nginx(r.body, head), Nginx(r.body, head, log=False)
        try:
            rates, quiet = [], []

            def run(_):
                ours, got = cpu_each(o.api(), lambda: o.load.get(o.port, path))
                peer, _ = cpu_each(logged.worker, lambda: o.load.get(logged.port, path))
                bare, _ = cpu_each(silent.worker, lambda: o.load.get(silent.port, path, seconds=2))
                rates.append(got["rate"])
                quiet.append(bare)
                return ours, peer
            ours, peer, ratio = pair(run)
        finally:
            logged.close()
            silent.close()
    row("authenticated GET, CPU a request", f"{ours:.1f} µs ({median(rates):,.0f}/s)",
        f"nginx return 200 {peer:.1f} µs (without its log {median(quiet):.1f})", f"{ratio:.2f}", "≤ 1.25", ratio <= 1.25)


def bench_worker():
    with Ours() as o:
        one_tenant(o)
        v = o.c.admin.made("/vpcs", {"name": "v"})["id"]
        s = o.c.admin.made(f"/vpcs/{v}/subnets", {"name": "s", "cidr_block": "10.0.1.0/24"})["id"]

        def run(_):  # short, or the keys meet their limit
            read, _r = cpu_each(o.api(), lambda: o.load.get(o.port, f"/subnets/{s}", seconds=1))
            quick, _q = cpu_each(o.api(), lambda: o.load.get(o.port, f"/vpcs/{v}", seconds=1))
            return read, quick
        ours, peer, ratio = pair(run)
    row("a read by a worker, CPU", f"{ours:.1f} µs", f"an inline one {peer:.1f} µs", f"{ratio:.2f}", "≤ 1.5", ratio <= 1.5)


def fill_vpcs(c, rows):
    """Puts 'rows' rows beside one that the API made."""
    db = sqlite3.connect(c.state / "store.db", isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    names = [r[1] for r in db.execute("PRAGMA table_info(vpcs)")]
    model = dict(zip(names, db.execute("SELECT * FROM vpcs LIMIT 1").fetchone()))
    base = model["created_at"] - rows * 1000

    def made():
        for n in range(rows):
            at = base + n * 1000
            ms = at // 1000
            i = str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | n))
            yield [i if k == "id" else f"v{n}" if k == "name" else at if k in ("created_at", "updated_at") else 100000 + n if k == "vxlan_id"
                   else i[24:] if k == "network_id" else v for k, v in model.items()]
    db.execute("BEGIN")
    db.executemany(f"INSERT INTO vpcs ({','.join(names)}) VALUES ({','.join('?' * len(names))})", made())
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    st = (c.state / "lock").stat()
    for f in c.state.glob("store.db*"):
        os.chown(f, st.st_uid, st.st_gid)


def bench_list(rows=1_000_000):
    with Ours() as o:
        c = o.c
        c.admin.made("/vpcs", {"name": "model"})
        key = c.key
        c.stop()
        fill_vpcs(c, rows)
        c.start(prefix=ON_SERVER)
        con = http.client.HTTPConnection("127.0.0.1", c.port, timeout=30)

        def page(cursor):
            con.request("GET", f"/v1/vpcs?limit=100{'&cursor=' + cursor if cursor else ''}", headers={"X-API-Key": key})
            r = con.getresponse()
            body = r.read()
            if r.status != 200:
                raise SystemExit(f"bench: {body}")
            return body
        cursor, pages, keys = "", 0, [key]
        while pages < 9999:
            if pages % 8000 == 7999:
                keys.append(c.admin.made("/auth/keys", {"name": f"walk {pages}"})["key"])
                key = keys[-1]
            cursor = json.loads(page(cursor))["next_cursor"]
            pages += 1
        key = c.admin.made("/auth/keys", {"name": "measured"})["key"]

        def time_of(cur, n=150):
            took = []
            for _ in range(n):
                began = time.perf_counter()
                page(cur)
                took.append((time.perf_counter() - began) * 1e6)
            return median(took)

        def run(_):
            last, first = time_of(cursor), time_of("")
            return last, first
        ours, peer, ratio = pair(run)
        assert len(json.loads(page(cursor))["data"]) == 100
    row(f"page 10,000 of {rows:,} rows", f"{ours:.0f} µs", f"page 1 {peer:.0f} µs", f"{ratio:.2f}", "≤ 1.5", ratio <= 1.5)


class Hog:
    """All that one tenant may hold of a kind; close() lets it go."""

    def __init__(self, o, user, instances):
        self.o, self.user, self.instances = o, user, instances
        self.socks, self.threads, self.over = [], [], threading.Event()

    def ask(self, method, path, headers=(), body=b"", declared=None):
        s = socket.create_connection(("127.0.0.1", self.o.port), timeout=30)
        s.sendall((f"{method} {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {self.user.key}\r\n"
                   + "".join(f"{h}\r\n" for h in headers)
                   + f"Content-Length: {len(body) if declared is None else declared}\r\n\r\n").encode() + body)
        self.socks.append(s)
        return s

    def again(self, fn):
        """Calls fn over and over, on a thread of its own."""
        def loop():
            while not self.over.is_set():
                try:
                    fn()
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)
        t = threading.Thread(target=loop)
        t.start()
        self.threads.append(t)

    def execs(self):
        for n in range(60):
            self.ask("POST", f"/instances/{self.instances[0]}/exec", ("Content-Type: application/json",),
                     b'{"cmd":["sleep","20"],"timeout":30}')

    def uploads(self):
        for n in range(40):
            s = self.ask("POST", f"/images/import?name=up{n}&format=rootfs", ("Content-Type: application/octet-stream",), b"", 1 << 30)
            self.again(lambda s=s: (s.sendall(b"x"), time.sleep(1)))

    def followers(self):
        for n in range(100):
            self.ask("GET", f"/instances/{self.instances[0]}/logs?follow=true")

    def waiters(self):
        q = self.user.made("/queues", {"name": "q" + uuid.uuid4().hex[:8]})["id"]
        for n in range(95):
            self.ask("GET", f"/queues/{q}/messages?wait=20")

    def stops(self):
        for i in self.instances:
            def turn(i=i):
                self.user.put(f"/instances/{i}", {"status": "stopped"})
                until(lambda: self.over.is_set() or self.user.get(f"/instances/{i}").json["status"] == "stopped", 30, 0.5)
                self.user.put(f"/instances/{i}", {"status": "running"})
                until(lambda: self.over.is_set() or self.user.get(f"/instances/{i}").json["status"] == "running", 30, 0.5)
            self.again(turn)

    def close(self):
        self.over.set()
        for s in self.socks:
            s.close()
        for t in self.threads:
            t.join()


def p99_of(fn, n):
    took = []
    for i in range(n):
        began = time.monotonic()
        fn(i)
        took.append((time.monotonic() - began) * 1000)
    return sorted(took)[int(n * .99)] if n >= 100 else max(took)


def bench_fair():
    """p99 of another tenant's requests (of few launches and sign-ins: the longest), alone and beside a hog."""
    subprocess.run([str(ROOT / "tools/cgroups")], check=True)
    deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    with Ours(real=True, users=3, prefix=[], **{"log.level": "warn", "server.trusted_proxies": "127.0.0.1/32"}) as o:
        hog, me, signer = o.users
        v = me.made("/vpcs", {"name": "v"})["id"]
        mine = hog.made("/vpcs", {"name": "v"})["id"]
        ids = [hog.made("/instances", {"name": f"h{n}", "image": "busybox", "cmd": deaf, "vpc_id": mine})["id"] for n in range(8)]
        me.made("/instances", {"name": "keeps-the-vpc", "image": "busybox", "cmd": deaf, "vpc_id": v})
        until(lambda: all(hog.get(f"/instances/{i}").json["status"] == "running" for i in ids), 400, 0.2)
        line = http.client.HTTPConnection("127.0.0.1", o.port, timeout=60)
        # So many that none meets its limit of requests a minute.
        keys = itertools.cycle([me.made("/auth/keys", {"name": f"bench {n}"})["key"] for n in range(20)])

        def ask(method, path, body=None, signed=True, ok=(200, 201), ip=None):
            h = {"Content-Type": "application/json", **({"X-API-Key": next(keys)} if signed else {}), **({"X-Forwarded-For": ip} if ip else {})}
            line.request(method, path, None if body is None else json.dumps(body), h)
            r = line.getresponse()
            data = r.read()
            if r.status not in ok:
                raise SystemExit(f"bench: {method} {path}: {r.status} {data[:200]}")
            return data

        def launch(i):
            made = json.loads(ask("POST", "/instances", {"name": "l" + uuid.uuid4().hex[:10], "image": "busybox", "cmd": deaf, "vpc_id": v}))["id"]
            until(lambda: json.loads(ask("GET", f"/instances/{made}"))["status"] == "running", 60, 0.005)
            ask("DELETE", f"/instances/{made}", ok=(200, 204))

        def sign_in(i):
            ip = f"10.7.{os.urandom(1)[0]}.{os.urandom(1)[0]}"
            ask("POST", "/auth/login", {"email": signer.email, "password": signer.password}, signed=False, ip=ip)
        kinds = {"GET": (lambda i: ask("GET", f"/vpcs/{v}"), 400), "list": (lambda i: ask("GET", "/vpcs"), 400),
                 "POST": (lambda i: ask("POST", "/queues", {"name": "q" + uuid.uuid4().hex}), 200), "sign-in": (sign_in, 12), "launch": (launch, 12)}

        def once():
            return {name: p99_of(fn, n) for name, (fn, n) in kinds.items()}
        once()
        for what in ("execs", "uploads", "followers", "waiters", "stops"):
            alone, beside = [], []
            for _ in range(min(kit.RUNS, 3)):
                alone.append(once())
                h = Hog(o, hog, ids)
                try:
                    getattr(h, what)()
                    time.sleep(1)
                    beside.append(once())
                finally:
                    h.close()
                    time.sleep(2)
            ratios = {k: median([b[k] / a[k] for a, b in zip(alone, beside)]) for k in kinds}
            ours = ", ".join(f"{k} {median([b[k] for b in beside]):.1f} ms" for k in kinds)
            peer = ", ".join(f"{median([a[k] for a in alone]):.1f}" for k in kinds)
            row(f"another tenant holds all {what} it may: p99", ours, "alone " + peer, " ".join(f"{r:.2f}" for r in ratios.values()),
                "≤ 1.5 ×", max(ratios.values()) <= 1.5)
