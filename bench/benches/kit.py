# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: a cloud on a core of its own, load from another, peers, the table."""
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import cloud as clouds
from cloud import Cloud, claim_port, until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

CORES = sorted(os.sched_getaffinity(0))
SERVER, LOAD = str(CORES[0]), str(CORES[-1])
ON_SERVER = ["taskset", "-c", SERVER]
ON_LOAD = ["taskset", "-c", LOAD]
CONNECTIONS, SECONDS = 64, 4
TICK = os.sysconf("SC_CLK_TCK")
RUNS = 5
ROWS = []


def say(text):
    print(text, file=sys.stderr, flush=True)


def row(what, ours, peer, ratio, aim, ok):
    ROWS.append((what, ours, peer, ratio, aim, ok))
    say(f"  {what}: {ours} | {peer} | {ratio} | aim {aim} | {'ok' if ok else 'NOT MET'}")


def median(values):
    return statistics.median(values)


def pair(run):
    """run() gives (ours, peer), measured one after the other; the medians and the median ratio."""
    got = [run(n) for n in range(RUNS)]
    return median([a for a, _ in got]), median([b for _, b in got]), median([a / b for a, b in got])

# Requests are made before the run, each with one of the keys in turn, so that no credential meets its limit.
LUA = """
local keys, made, at, serial = {}, {}, 0, 0
for k in io.lines("%(keys)s") do keys[#keys + 1] = k end
local thread_id = tostring(math.floor(os.clock() * 1e9)) .. "-"
function init()
  %(init)s
end
function request()
  at = at %% #keys + 1
  %(request)s
end
function done(summary, latency, requests)
  local e = summary.errors
  print(string.format('RESULT {"n":%%d,"us":%%d,"bad":%%d,"p50":%%f,"p99":%%f,"broken":%%d}', summary.requests, summary.duration, e.status,
                      latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.connect + e.read + e.write + e.timeout))
end
"""

GET = """for i, k in ipairs(keys) do made[i] = wrk.format("GET", "%s", {["X-API-Key"] = k}) end"""


class Load:
    def __init__(self, keys):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="brume-bench-"))
        (self.dir / "keys").write_text("".join(f"{k}\n" for k in keys))

    def close(self):
        shutil.rmtree(self.dir)

    def keys(self):
        return (self.dir / "keys").read_text().split()

    def wrk(self, port, init, request, seconds=SECONDS, connections=CONNECTIONS):
        script = self.dir / "load.lua"
        script.write_text(LUA % {"keys": self.dir / "keys", "init": init, "request": request})
        p = subprocess.run([*ON_LOAD, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script),
                            f"http://127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        out = p.stdout.decode()
        for line in out.splitlines():
            if line.startswith("RESULT "):
                r = json.loads(line[7:])
                if r["bad"] > r["n"] / 1000 or r["broken"] or not r["n"]:
                    raise SystemExit(f"bench: the load was refused: {r}")
                r["rate"] = r["n"] / r["us"] * 1e6
                return r
        raise SystemExit(f"bench: wrk said: {out}")

    def get(self, port, path, **kw):
        return self.wrk(port, GET % path, "return made[at]", **kw)

    def post(self, port, path, body, keyed=False, **kw):
        """'body' is a Lua expression that may use thread_id and serial."""
        head = '{["X-API-Key"] = keys[at], ["Content-Type"] = "application/json"%s}' % \
            (', ["Idempotency-Key"] = thread_id .. serial' if keyed else "")
        return self.wrk(port, "", f'serial = serial + 1; return wrk.format("POST", {path}, {head}, {body})', **kw)


def cpu_us(pid):
    f = clouds.read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(f[11]) + int(f[12])) * 1e6 / TICK


def cpu_each(pid, run):
    """CPU microseconds of process 'pid' for each request of 'run'."""
    before = cpu_us(pid)
    r = run()
    return (cpu_us(pid) - before) / r["n"], r


def pss_kib(pid):
    for line in clouds.read_text(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


class Ours:
    """A cloud pinned to the server's core, and as many users as a run needs to stay within their limits."""

    def __init__(self, real=False, users=0, prefix=ON_SERVER, **settings):
        self.c = Cloud({"server.io_threads": 1, **({} if real else {"compute.fake_drivers": "true"}), **settings}, name="bench")
        try:
            self.c.start(prefix=prefix)
            self.users = [self.c.user() for _ in range(users)]
            self.load = Load([u.key for u in self.users] or [self.c.key])
        except BaseException:
            self.c.remove()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.load.close()
        try:
            if self.c.settings.get("compute.fake_drivers") != "true":
                for i in self.c.admin.get("/instances").json:
                    self.c.admin.delete(f"/instances/{i['id']}")
                until(lambda: not self.c.admin.get("/instances").json, 30)
            self.c.stop()
        finally:
            self.c.remove()

    @property
    def port(self):
        return self.c.port

    def api(self):
        return self.c.role("api")


def one_tenant(o, n=90):
    """Keys of one tenant: members of it, so that each has a limit of its own and all see the same object."""
    admin, keys = o.c.admin, []
    for i in range(n):
        keys.append(admin.made("/auth/keys", {"name": f"bench {i}"})["key"])
    o.load.close()
    o.load = Load(keys)


class Nginx:
    """Answers 'body', or the files of a folder by sendfile."""

    def __init__(self, body=b"", headers=(), log=True, root=None):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="brume-nginx-"))
        self.dir.chmod(0o755)
        self.port = claim_port()
        conf = self.dir / "nginx.conf"
        text = body.decode().replace("\\", "\\\\").replace("'", "\\'").replace("$", "")
        extra = "".join(f"add_header {k} '{v}';" for k, v in headers)
        gives = f"root {root}; sendfile on; sendfile_max_chunk 2m; tcp_nopush on;" if root else f"return 200 '{text}';"
        conf.write_text(f"""daemon off; worker_processes 1; pid {self.dir}/pid; error_log {self.dir}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log {f'{self.dir}/access.log' if log else 'off'}; keepalive_requests 100000000; default_type application/json;
  client_body_temp_path {self.dir}; proxy_temp_path {self.dir}; fastcgi_temp_path {self.dir}; uwsgi_temp_path {self.dir}; scgi_temp_path {self.dir};
  server {{ listen 127.0.0.1:{self.port}; location / {{ {extra} {gives} }} }} }}
""")
        self.process = subprocess.Popen([*ON_SERVER, "nginx", "-p", str(self.dir), "-c", str(conf)], stderr=subprocess.DEVNULL)
        if not until(lambda: open_port(self.port) and clouds.children(self.process.pid), 5):
            raise SystemExit("bench: nginx did not start")
        self.worker = clouds.children(self.process.pid)[0]

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)


def open_port(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def first_byte(port, began, seconds=20):
    """Milliseconds from 'began' until the first byte of a 200 comes from 'port'."""
    while time.monotonic() < began + seconds:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                if s.recv(12) == b"HTTP/1.1 200":
                    return (time.monotonic() - began) * 1000
        except OSError:
            pass
        time.sleep(0.001)
    raise SystemExit(f"bench: nobody answered at port {port}")
