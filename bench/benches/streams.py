# SPDX-License-Identifier: Apache-2.0
"""Who follows, and what is sent to URLs."""
import datetime
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid

from benches import kit
from benches.kit import CORES, ON_LOAD, Ours, cpu_us, median, one_tenant, open_port, pss_kib, row
from cloud import claim_port, until


class Crowd:
    """Many who follow the events of one tenant, each on a connection of its own."""

    def __init__(self, port, keys, n):
        self.poll, self.socks = select.epoll(), {}
        for i in range(n):
            s = socket.create_connection(("127.0.0.1", port), timeout=20)
            self.socks[s.fileno()] = s
            s.sendall(f"GET /v1/events/stream HTTP/1.1\r\nHost: a\r\nX-API-Key: {keys[i % len(keys)]}\r\n\r\n".encode())
            got = b""
            while b"retry: 2000\n\n\r\n" not in got:
                part = s.recv(4096)
                if not part.startswith(b"HTTP/1.1 200") and not got:
                    raise SystemExit(f"bench: a follower was refused: {part[:300]}")
                got += part
            s.setblocking(False)
            self.poll.register(s, select.EPOLLIN)

    def has(self, mark, seconds=20):
        """When all of them have got 'mark'."""
        left, until_ = set(self.socks), time.monotonic() + seconds
        while left and time.monotonic() < until_:
            for fd, _ in self.poll.poll(0.5):
                if mark in self.socks[fd].recv(65536):
                    left.discard(fd)
        if left:
            raise SystemExit(f"bench: {len(left)} followers did not get the event")
        return time.monotonic()

    def close(self):
        for s in self.socks.values():
            s.close()
        self.poll.close()


def bench_follow(n=10000):
    """Followers of one tenant's events: what each costs, and how long one commit takes to reach all."""
    shares = json.dumps({"streams": {"total": 4 * n, **{plan: n for plan in ("free", "starter", "standard", "professional", "enterprise")}}})
    with Ours(prefix=[], **{"log.level": "warn", "platform.shares": shares}) as o:
        one_tenant(o, 50)
        keys = o.load.keys()
        before = pss_kib(o.api())
        crowd = Crowd(o.port, keys, n)
        try:
            time.sleep(2)
            each = (pss_kib(o.api()) - before) / n
            os.sched_setaffinity(0, {CORES[-1]})
            took = []
            for i in range(max(kit.RUNS, 3)):
                name = f"q{i}-{uuid.uuid4().hex[:8]}"
                o.c.admin.made("/queues", {"name": name})
                answered = time.monotonic()
                took.append((crowd.has(name.encode()) - answered) * 1000)
                time.sleep(0.5)
        finally:
            crowd.close()
            os.sched_setaffinity(0, set(CORES))
    x = median(took)
    row(f"{n:,} followers of events: memory (PSS) of the api for each", f"{each:.1f} KiB", "–", "–", "≤ 8 KiB", each <= 8)
    row("from a commit's answer until all of them have its event", f"{x:.0f} ms (worst {max(took):.0f})", "–", "–", "≤ 300 ms", x <= 300)


class Sinks:
    """Endpoints on as many loopback addresses as one likes, which answer 204 at once; what arrived stands in a log."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="brume-sinks-"))
        self.dir.chmod(0o755)
        self.port = claim_port()
        self.log = self.dir / "access.log"
        conf = self.dir / "nginx.conf"
        conf.write_text(f"""daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error.log;
events {{ worker_connections 4096; }}
http {{ log_format short '$msec $http_webhook_id'; access_log {self.log} short; keepalive_requests 100000000; client_body_temp_path {self.dir};
  proxy_temp_path {self.dir}; fastcgi_temp_path {self.dir}; uwsgi_temp_path {self.dir}; scgi_temp_path {self.dir};
  server {{ listen 0.0.0.0:{self.port} backlog=4096; location / {{ return 204; }} }} }}
""")
        self.process = subprocess.Popen([*ON_LOAD, "nginx", "-p", str(self.dir), "-c", str(conf)], stderr=subprocess.DEVNULL)
        if not until(lambda: open_port(self.port), 5):
            raise SystemExit("bench: nginx did not start")

    def url(self, i):
        return f"http://127.0.{1 + i // 200}.{1 + i % 200}:{self.port}/"

    def arrived(self):
        return [x.split() for x in self.log.read_text().splitlines()]

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)


def bench_deliver(tenants=4, hooks=16, events=320):
    """Webhooks at loopback sinks: from an event's commit to its arrival, then a flood of them."""
    sinks = Sinks()
    try:
        with Ours(users=tenants + 1, **{"outgoing.allowed_networks": "127.0.0.0/8"}) as o:
            # One at a time: the event says when its request began, so its commit is a part of this.
            one = o.users[-1]
            one.made("/webhooks", {"url": sinks.url(0), "events": ["queue.*"]})
            q = one.made("/queues", {"name": "one"})["id"]
            for n in range(120 * (2 if kit.RUNS > 1 else 1)):
                one.patch(f"/queues/{q}", {"delay_seconds": n})
                time.sleep(0.03)
            began = {e["id"]: e["created_at"] for e in one.get("/v1/events?limit=100&type=queue.updated").json["data"]}
            seen = {i: float(at) for at, i in sinks.arrived()}

            def at(text):
                return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
            waits = sorted(seen[i] - at(text) for i, text in began.items() if i in seen)
            p50, p99 = (waits[int(len(waits) * q)] * 1000 for q in (0.5, 0.99))
            row("event to first attempt, p99", f"{p99:.1f} ms (p50 {p50:.1f})", "–", "–", "≤ 20 ms", p99 <= 20)
            for t, u in enumerate(o.users[:tenants]):
                for i in range(hooks):
                    u.made("/webhooks", {"url": sinks.url(1 + t * hooks + i), "events": ["queue.created"]})
            before, want = len(sinks.arrived()), tenants * hooks * events

            def make(u, half):
                for i in range(events // 2):
                    u.made("/queues", {"name": f"q{half}-{i}"})
            threads = [threading.Thread(target=make, args=(u, h)) for u in o.users[:tenants] for h in range(2)]
            start, cpu = time.time(), cpu_us(o.api())
            [t.start() for t in threads]
            [t.join() for t in threads]
            made = time.time() - start
            if not until(lambda: len(sinks.arrived()) - before >= want, 60, 0.1):
                raise SystemExit(f"bench: {len(sinks.arrived()) - before} of {want} deliveries arrived")
            took = max(float(x[0]) for x in sinks.arrived()) - start
            each = (cpu_us(o.api()) - cpu) / want
            row("deliveries to loopback sinks", f"{want / took:,.0f}/s, {each:.0f} µs of CPU each ({want:,}; their events came within {made:.1f} s)", "–", "–", "≥ 5,000/s", want / took >= 5000)
    finally:
        sinks.close()
