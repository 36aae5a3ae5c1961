# SPDX-License-Identifier: Apache-2.0
"""What is written: durable requests, messages, the lag of consumers, kills."""
import json
import os
import pathlib
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from benches import kit
from benches.kit import CONNECTIONS, CORES, LOAD, ON_LOAD, ON_SERVER, Ours, SECONDS, SERVER, median, one_tenant, open_port, row
import cloud as clouds
from cloud import Postgres, claim_port, until


def sqlite_loop(where, seconds=3):
    """Commits a second of one insert each, synced."""
    code = f"""
import sqlite3, time, uuid
d = sqlite3.connect({str(where / 'loop.db')!r}, isolation_level=None)
d.execute("PRAGMA journal_mode=WAL"); d.execute("PRAGMA synchronous=FULL")
d.execute("CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, body TEXT)")
n, end = 0, time.monotonic() + {seconds}
while time.monotonic() < end:
    d.execute("INSERT INTO t VALUES (?, ?)", (str(n) + str(time.time()), "x" * 200)); n += 1
print(n / {seconds})
"""
    p = subprocess.run([*ON_SERVER, sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return float(p.stdout)

PG_SCHEMA = """
CREATE TABLE queues (id uuid PRIMARY KEY, tenant_id text NOT NULL, name text NOT NULL, status text, visibility_timeout bigint, created_at bigint,
  box_id text, UNIQUE (tenant_id, name));
CREATE INDEX ON queues (tenant_id, created_at, id);
CREATE TABLE quota (tenant_id text, name text, used bigint, PRIMARY KEY (tenant_id, name));
CREATE TABLE due (loop text, id text, due_at bigint, PRIMARY KEY (loop, id));
CREATE INDEX ON due (loop, due_at);
CREATE TABLE journal (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text, at bigint, tenant_id text, action text, object_id text,
  events text, idem_scope text, idem_key text, idem_answer text);
CREATE INDEX ON journal (tenant_id, seq);
CREATE UNIQUE INDEX ON journal (idem_scope, idem_key);
INSERT INTO quota SELECT 't' || n, 'queues', 0 FROM generate_series(1, 64) n;
"""

PG_SCRIPT = r"""
\set t random(1, 64)
\set k random(1, 9000000000000000000)
BEGIN;
SELECT 1 FROM journal WHERE idem_scope = 's' AND idem_key = :k::text;
UPDATE quota SET used = used + 1 WHERE tenant_id = 't' || :t AND name = 'queues' RETURNING used;
INSERT INTO queues VALUES (gen_random_uuid(), 't' || :t, gen_random_uuid()::text, 'ACTIVE', 30, 1, gen_random_uuid()::text);
INSERT INTO due VALUES ('sweep', gen_random_uuid()::text, 1);
INSERT INTO journal (id, at, tenant_id, action, object_id, events, idem_scope, idem_key, idem_answer)
  VALUES (gen_random_uuid()::text, 1, 't' || :t, 'QUEUE_CREATE', gen_random_uuid()::text, repeat('e', 600), 's', :k::text, repeat('a', 700));
COMMIT;
"""


def bench_post():
    """Servers have both cores, the load the last one."""
    both = ["taskset", "-c", f"{SERVER},{LOAD}"]
    top = pathlib.Path(tempfile.mkdtemp(prefix="brume-bench-", dir="/var/tmp"))
    pg = None
    try:
        with_pin = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CORES[0], CORES[-1]})
        pg = Postgres(on_disk=True)
        os.sched_setaffinity(0, with_pin)
        subprocess.run(["psql", "-q", pg.url], input=PG_SCHEMA.encode(), check=True)
        (top / "script").write_text(PG_SCRIPT)

        def pgbench():
            p = subprocess.run([*ON_LOAD, "pgbench", "-n", "-c", str(CONNECTIONS), "-j", "1", "-M", "prepared", "-T", str(SECONDS), "-f",
                                str(top / "script"), pg.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
            return float([x for x in p.stdout.decode().splitlines() if x.startswith("tps")][0].split()[2])
        p99s, loops, pgs, one, many = [], [], [], [], []
        queue = ('"/queues"', """'{"name":"q' .. thread_id .. serial .. '"}'""")
        for _ in range(kit.RUNS):
            loops.append(sqlite_loop(top))
            pgs.append(pgbench())
            with Ours(prefix=both) as o:
                one_tenant(o)
                r = o.load.post(o.port, *queue, keyed=True)
                one.append(r["rate"])
                p99s.append(r["p99"])
            with Ours(users=CONNECTIONS, prefix=both) as o:
                many.append(o.load.post(o.port, *queue, keyed=True)["rate"])
    finally:
        if pg:
            pg.stop()
        shutil.rmtree(top, ignore_errors=True)
    def compare(what, ours, peer, name, aim):
        ratio = median([x / y for x, y in zip(ours, peer)])
        row(what, f"{median(ours):,.0f}/s", f"{name} {median(peer):,.0f}/s", f"{ratio:.1f}", f"≥ {aim}", ratio >= aim)
    loop, same = "one insert per synced SQLite commit", "PostgreSQL, same statements, 64 tenants"
    compare("durable POST with event, audit, key", one, loops, loop, 6)
    compare("the same, over 64 tenants", many, loops, loop, 6)
    compare("the same, over 64 tenants", many, pgs, same, 2)
    row("its p99", f"{median(p99s):.1f} ms", "–", "–", "≤ 15 ms", median(p99s) <= 15)


def bench_lag():
    """A consumer of events beside 64 writers that make 10,000 a second, and what it costs them at full speed."""
    program = clouds.BUILD / "src/bench_consumer"
    subprocess.run(["ninja", "-C", str(clouds.BUILD), "src/bench_consumer"], stdout=subprocess.DEVNULL, check=True)
    top = pathlib.Path(tempfile.mkdtemp(prefix="brume-bench-", dir="/var/tmp"))

    def run(n, rate):
        p = subprocess.run([str(program), f"sqlite:{top}/{n}-{rate}.db", str(rate), str(SECONDS)], stdout=subprocess.PIPE, check=True)
        return json.loads(p.stdout)
    try:
        paced = [run(n, 10000) for n in range(kit.RUNS)]
        full = [run(n, 0) for n in range(kit.RUNS)]
    finally:
        shutil.rmtree(top, ignore_errors=True)
    made, lag = median([r["beside"] for r in paced]), median([r["p99"] for r in paced])
    row("a consumer's lag, p99", f"{lag:.1f} ms", f"{made:,.0f} events/s, 64 writers", "–", "≤ 50 ms of 10,000/s", lag <= 50 and made > 9500)
    beside, alone = median([r["beside"] for r in full]), median([r["alone"] for r in full])
    ratio = median([r["beside"] / r["alone"] for r in full])
    row("events/s beside a consumer", f"{beside:,.0f}/s", f"without one {alone:,.0f}/s", f"{ratio:.2f}", "≥ 0.9", ratio >= 0.9)


def beanstalkd_rate(body=100, seconds=SECONDS):
    top = pathlib.Path(tempfile.mkdtemp(prefix="brume-beanstalkd-", dir="/var/tmp"))
    port = claim_port()
    p = subprocess.Popen([*ON_SERVER, "beanstalkd", "-l", "127.0.0.1", "-p", str(port), "-b", str(top), "-f0"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: open_port(port), 5)
        os.sched_setaffinity(0, {CORES[-1]})
        sel, put, n = selectors.DefaultSelector(), b"put 0 0 60 %d\r\n%s\r\n" % (body, b"x" * body), 0
        socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for s in socks:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sel.register(s, selectors.EVENT_READ)
            s.sendall(put)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in sel.select(1):
                if not key.fileobj.recv(4096).startswith(b"INSERTED"):
                    raise SystemExit("bench: beanstalkd refused")
                n += 1
                key.fileobj.sendall(put)
        for s in socks:
            s.close()
        return n / seconds
    finally:
        os.sched_setaffinity(0, set(CORES))
        p.kill()
        p.wait()
        shutil.rmtree(top)


def redis_rate(body=100, n=60000):
    top = pathlib.Path(tempfile.mkdtemp(prefix="brume-redis-", dir="/var/tmp"))
    port = claim_port()
    p = subprocess.Popen([*ON_SERVER, "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(top), "--appendonly", "yes",
                          "--appendfsync", "always", "--save", ""], stdout=subprocess.DEVNULL)
    try:
        until(lambda: open_port(port), 5)
        out = subprocess.run([*ON_LOAD, "redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-n", str(n), "-d", str(body), "-t", "lpush",
                              "--csv"], stdout=subprocess.PIPE, check=True).stdout.decode()
        return float([x for x in out.splitlines() if x.startswith('"LPUSH"')][0].split('","')[1])
    finally:
        p.kill()
        p.wait()
        shutil.rmtree(top)


def bench_queue():
    single, batch, beans, redis = [], [], [], []
    with Ours() as o:
        one_tenant(o)
        q = o.c.admin.made("/queues", {"name": "bench"})["id"]
        text = "x" * 100
        ten = json.dumps({"messages": [{"body": text}] * 10})
        for _ in range(kit.RUNS):
            single.append(o.load.post(o.port, f'"/queues/{q}/messages"', f"""'{{"body":"{text}"}}'""")["rate"])
            batch.append(o.load.post(o.port, f'"/queues/{q}/messages/batch"', f"'{ten}'", seconds=2)["rate"] * 10)
            beans.append(beanstalkd_rate())
            redis.append(redis_rate())
    r = median([a / b for a, b in zip(single, beans)])
    row("queue, durable sends at 64 connections", f"{median(single):,.0f}/s", f"beanstalkd -f0 {median(beans):,.0f}/s", f"{r:.2f}", "≥ 1", r >= 1)
    r = median([a / b for a, b in zip(batch, beans)])
    row("the same in batches of 10", f"{median(batch):,.0f} messages/s", f"beanstalkd -f0 {median(beans):,.0f}/s", f"{r:.2f}", "≥ 1", r >= 1)
    r = median([a / b for a, b in zip(single, redis)])
    row("the same, beside redis", f"{median(single):,.0f}/s", f"redis appendfsync always {median(redis):,.0f}/s", f"{r:.2f}", "–", True)


def bench_kill():
    with Ours() as o:
        key, took = o.c.key, []
        request = f"GET /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n".encode()
        for _ in range(2 * kit.RUNS):
            pid = o.api()
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while time.monotonic() < began + 20:
                try:
                    with socket.create_connection(("127.0.0.1", o.port), timeout=5) as s:
                        s.sendall(request)
                        if s.recv(12) == b"HTTP/1.1 200":
                            break
                except OSError:
                    pass
                time.sleep(0.0005)
            took.append((time.monotonic() - began) * 1000)
            time.sleep(61 if kit.RUNS > 1 else 1)  # the pause grows only while it dies within a minute
            o.c.killed += 1
    x = median(took)
    row("kill -9 of the api to the next answer", f"{x:.0f} ms (worst {max(took):.0f})", "–", "–", "≤ 150 ms", x <= 150)
