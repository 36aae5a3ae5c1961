# SPDX-License-Identifier: Apache-2.0
"""Starts `brume serve` as a user would, speaks to it, stops it, and looks at what it left behind.

Needs the standard library alone, for the benchmarks use it too.  Each cloud has its own state, run folder, port and
installation id, so any number of them run beside each other and beside `make run`."""
import base64
import http.client
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from ports import claim_block, claim_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("BRUME_BUILD", ROOT / "build"))
BRUME = BUILD / "src/roles/brume"
READY_S = 30


class Headers(dict):
    """Names without case; several fields of one name are joined by commas."""

    def __init__(self, pairs):
        super().__init__()
        for k, v in pairs:
            k = k.lower()
            self[k] = f"{self[k]}, {v}" if k in self else v

    def get(self, name, default=None):
        return super().get(name.lower(), default)

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __contains__(self, name):
        return super().__contains__(name.lower())


class Reply:
    def __init__(self, status, pairs, body):
        self.status, self.headers, self.body = status, Headers(pairs), body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error object, after a look at its shape."""
        e = self.json["error"]
        assert set(e) <= {"code", "message", "details", "request_id"}, e
        assert isinstance(e["code"], str) and isinstance(e["message"], str) and e["message"], e
        assert e["request_id"] == self.headers["X-Request-Id"], (e, self.headers)
        return e

    @property
    def code(self):
        return self.error["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:600]!r}>"


class Client:
    """One credential at one address."""

    def __init__(self, port, key=None, ip=None, timeout=30):
        self.port, self.key, self.ip, self.timeout = port, key, ip, timeout

    def as_key(self, key):
        return Client(self.port, key, self.ip, self.timeout)

    def as_ip(self, ip):
        return Client(self.port, self.key, ip, self.timeout)

    def req(self, method, path, body=None, headers=None, raw=None, timeout=None):
        h = {}
        if self.key:
            h["X-API-Key"] = self.key
        if self.ip:
            h["X-Forwarded-For"] = self.ip
        if body is not None:
            raw = json.dumps(body).encode()
            h["Content-Type"] = "application/json"
        h.update(headers or {})
        h = {k: v for k, v in h.items() if v is not None}
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout or self.timeout)
        try:
            c.request(method, path, body=raw, headers=h)
            r = c.getresponse()
            return Reply(r.status, r.getheaders(), r.read())
        finally:
            c.close()

    def get(self, path, **kw):
        return self.req("GET", path, **kw)

    def post(self, path, body=None, **kw):
        return self.req("POST", path, body, **kw)

    def put(self, path, body=None, **kw):
        return self.req("PUT", path, body, **kw)

    def patch(self, path, body=None, **kw):
        return self.req("PATCH", path, body, **kw)

    def delete(self, path, **kw):
        return self.req("DELETE", path, **kw)

    def made(self, path, body=None, **kw):
        """A POST that must make something; its object."""
        r = self.post(path, body, **kw)
        assert r.status in (200, 201), r
        return r.json

    def wire(self, data, wait=5.0):
        """Sends these bytes as they stand; everything that comes back until the peer closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            out = b""
            try:
                s.sendall(data)
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    out += piece
            except (TimeoutError, ConnectionError):
                pass
            return out


def parse_wire(data):
    """The first response in 'data'."""
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    status = int(lines[0].split()[1])
    pairs = [tuple(x.strip() for x in line.decode("latin-1").split(":", 1)) for line in lines[1:]]
    h = Headers(pairs)
    return Reply(status, pairs, rest[:int(h.get("Content-Length", len(rest)))])


def make_users():
    for user in ("brume", "brume-edge"):
        try:
            pwd.getpwnam(user)
        except KeyError:
            subprocess.run(["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
                            "--shell", "/usr/sbin/nologin", user], check=True)


def somewhere():
    """A client whose address no other request has: sign-in has a limit for each."""
    return {"X-Forwarded-For": "10." + ".".join(str(b) for b in os.urandom(3))}


def until(what, seconds=10.0, step=0.02):
    """Asks 'what' again and again; its first true answer, or the last one."""
    end = time.monotonic() + seconds
    while True:
        got = what()
        if got or time.monotonic() > end:
            return got
        time.sleep(step)


def lines_of(argv):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return p.stdout.decode(errors="replace").splitlines()


def read_text(path):
    try:
        return pathlib.Path(path).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def began(pid):
    """When a process was started: with its id this names it for good."""
    return (read_text(f"/proc/{pid}/stat").rpartition(")")[2].split() + [""] * 20)[19]


def children(pid):
    out = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        out += [int(x) for x in read_text(task).split()]
    return out


class Cloud:
    def __init__(self, settings=None, name="test"):
        make_users()
        self.top = pathlib.Path(tempfile.mkdtemp(prefix=f"brume-{name}-", dir="/var/tmp"))
        self.top.chmod(0o755)
        (self.top / "home").mkdir()
        self.state, self.run = self.top / "state", self.top / "run"
        self.port = claim_port()
        self.settings = {
            "places.state_dir": str(self.state),
            "places.run_dir": str(self.run),
            "server.listen": f"127.0.0.1:{self.port}",
            "server.trusted_proxies": "127.0.0.1/32",
            "log.format": "json",
            "identity.argon2_memory_kib": 8192,
            "identity.argon2_passes": 1,
            **(settings or {}),
        }
        if self.settings.get("compute.fake_drivers") != "true":
            self.settings["compute.port_min"], self.settings["compute.port_max"] = claim_block()
        self.program = BRUME
        self.process = None
        self.key = self.password = None
        self.seen = set()
        self.starts = self.killed = 0

    # ---- its life

    @property
    def env(self):
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": str(self.top / "home"),
               "LANG": "C.UTF-8"}
        for k in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
            if k in os.environ:
                env[k] = os.environ[k]
        for k, v in self.settings.items():
            section, key = k.split(".", 1)
            env[f"BRUME_{section}_{key}".upper()] = str(v)
        return env

    def spawn(self, *more, prefix=()):
        """Starts the program and returns at once."""
        self.out, self.err = self.top / "stdout", self.top / "log"
        self.starts += 1
        with open(self.out, "wb") as out, open(self.err, "ab") as err:
            self.process = subprocess.Popen([*prefix, str(self.program), "serve", *more], env=self.env, stdout=out, stderr=err,
                                            stdin=subprocess.DEVNULL, cwd="/", start_new_session=True)
        return self.process

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"brume ended with {self.process.returncode}: {self.log_tail()}")
        try:
            return Client(self.port, timeout=2).get("/health/live").status == 200 and b"serves at" in self.out.read_bytes()
        except (OSError, http.client.HTTPException):
            return False

    def start(self, *more, prefix=()):
        self.spawn(*more, prefix=prefix)
        if not until(self.ready, READY_S):
            log = self.log_tail()
            self.kill()
            raise AssertionError(f"brume was not ready after {READY_S} s: {log}")
        text = self.out.read_text()
        key, password = re.search(r"^  key +(\S+)$", text, re.M), re.search(r"^  password +(\S+)$", text, re.M)
        if key:
            self.key, self.password = key.group(1), password and password.group(1)
        self.note()
        return self

    def note(self):
        """Remembers the processes that must be gone in the end."""
        if self.process and self.process.poll() is None:
            for p in [self.process.pid, *children(self.process.pid)]:
                self.seen.add((p, began(p)))

    def role(self, name):
        """The process id of a role; it may take a moment after a crash."""
        def find():
            for p in children(self.process.pid):
                if f"--role {name}" in read_text(f"/proc/{p}/cmdline"):
                    return p
            return None
        pid = until(find, 10)
        assert pid, f"there is no role {name}"
        self.note()
        return pid

    def kill_role(self, name):
        """kill -9, and waits until its successor serves."""
        old = self.role(name)
        self.killed += 1
        os.kill(old, signal.SIGKILL)
        assert until(lambda: old not in children(self.process.pid), 5)
        new = until(lambda: self.role(name), 15)
        assert new != old
        return new

    def wait_ready(self, seconds=READY_S):
        assert until(self.ready, seconds), self.log_tail()

    def stop(self):
        """SIGTERM, as a user would; how it ended."""
        if not self.process or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.note()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"brume did not end within 45 s of SIGTERM: {self.log_tail()}") from None

    def kill(self):
        """The supervisor by kill -9; its roles end by themselves."""
        if self.process and self.process.poll() is None:
            self.note()
            kids = children(self.process.pid)
            self.process.kill()
            self.process.wait()
            assert until(lambda: not any(self.alive(k) for k in kids), 5), "roles outlive their supervisor"

    @staticmethod
    def alive(pid):
        stat = read_text(f"/proc/{pid}/stat")
        return bool(stat) and stat.rpartition(")")[2].split()[0] != "Z"

    def log_tail(self, lines=15):
        return "\n".join(read_text(self.err).splitlines()[-lines:])

    def log_find(self, text):
        return [x for x in read_text(self.err).splitlines() if text in x]

    def logs(self, text):
        """Whether a line with 'text' is there, or comes soon: an answer may overtake its line."""
        return until(lambda: self.log_find(text), 5)

    def crashes(self):
        """Roles that ended by themselves, as the supervisor tells it."""
        ended = self.log_find("role_ended")
        return ended[self.killed:] if len(ended) > self.killed else []

    @property
    def installation(self):
        return read_text(self.state / "installation").strip()

    # ---- what is left of it

    def leftovers(self):
        """Everything of this installation that the machine still has, in words."""
        iid = self.installation
        left = []
        for p, when in self.seen:
            if self.alive(p) and began(p) == when:
                left.append(f"process {p}: {read_text(f'/proc/{p}/cmdline')}")
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            if int(proc.name) == os.getpid():
                continue
            if (iid and f"brume/{iid}" in read_text(proc / "cgroup")) or str(self.top) in read_text(proc / "cmdline"):
                if self.alive(int(proc.name)):
                    left.append(f"process {proc.name}: {read_text(proc / 'cmdline')}")
        if iid:
            left += [f"netns {n}" for n in (os.listdir("/run/netns") if os.path.isdir("/run/netns") else []) if n.startswith(f"brume-{iid}")]
            left += [f"link {x.split(': ')[1]}" for x in lines_of(["ip", "-o", "link"])
                     if re.match(rf"\d+: [a-z]{iid[:4]}[0-9a-f]{{10}}", x)]
            left += [x for x in lines_of(["nft", "list", "tables"]) if f"brume_{iid}" in x]
            left += [f"chain rule {x.strip()}" for x in lines_of(["nft", "list", "ruleset"]) if f"brume_{iid}" in x and "table" not in x]
            left += [f"cgroup {x}" for x in lines_of(["find", "/sys/fs/cgroup", "-type", "d", "-path", f"*brume/{iid}*"])]
        left += [f"mount {x}" for x in read_text("/proc/mounts").splitlines()
                 if str(self.top) in x or (iid and f"brume-{iid}" in x)]
        return left

    def remove(self):
        """Puts the machine right whatever happened, then forgets the files."""
        iid = self.installation
        self.kill()
        if self.starts and self.crashes():
            (BUILD / "cloud-logs").mkdir(exist_ok=True)
            shutil.copy(self.err, BUILD / "cloud-logs" / f"{self.top.name}.log")
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            ours = (iid and f"brume/{iid}" in read_text(proc / "cgroup")) or str(self.top) in read_text(proc / "cmdline")
            if ours and int(proc.name) != os.getpid():
                try:
                    os.kill(int(proc.name), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        mounts = [x.split()[1] for x in read_text("/proc/mounts").splitlines()
                  if str(self.top) in x or (iid and f"brume-{iid}" in x)]
        for m in reversed(mounts):
            subprocess.run(["umount", "-l", m], stderr=subprocess.DEVNULL, check=False)
        if iid:
            for n in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
                if n.startswith(f"brume-{iid}"):
                    subprocess.run(["ip", "netns", "del", n], check=False)
            for x in lines_of(["ip", "-o", "link"]):
                m = re.match(rf"\d+: ([a-z]{iid[:4]}[0-9a-f]{{10}})", x)
                if m:
                    subprocess.run(["ip", "link", "del", m.group(1)], stderr=subprocess.DEVNULL, check=False)
            for x in lines_of(["nft", "list", "tables"]):
                if f"brume_{iid}" in x:
                    subprocess.run(["nft", "delete", *x.split()], check=False)
            time.sleep(0.05)
            for x in sorted(lines_of(["find", "/sys/fs/cgroup", "-type", "d", "-path", f"*brume/{iid}*"]), reverse=True):
                try:
                    os.rmdir(x)
                except OSError:
                    pass
        shutil.rmtree(self.top, ignore_errors=True)

    # ---- speaking to it

    @property
    def admin(self):
        return Client(self.port, self.key)

    @property
    def nobody(self):
        return Client(self.port)

    def user(self, email=None, password="correct horse 7"):
        """Registers somebody with a tenant of their own and logs in; their client, with .id and .email."""
        ip = f"10.9.{os.urandom(1)[0]}.{os.urandom(1)[0]}"
        email = email or f"u{base64.b16encode(os.urandom(5)).decode().lower()}@example.com"
        c = Client(self.port, ip=ip)
        made = c.made("/auth/register", {"email": email, "password": password, "name": "User"})
        got = c.made("/auth/login", {"email": email, "password": password})
        u = Client(self.port, got["api_key"])
        u.id, u.email, u.password = made["user_id"], email, password
        return u

    def cli(self, *args, env=None, stdin=None, timeout=120):
        """Runs the client as the user who started the cloud; (exit status, standard output, standard error)."""
        e = {"PATH": os.environ["PATH"], "HOME": str(self.top / "home"), "LANG": "C.UTF-8", **(env or {})}
        p = subprocess.run([str(BRUME), *args], env=e, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=timeout, check=False)
        return p.returncode, p.stdout.decode(), p.stderr.decode()


class Postgres:
    """A throw-away server, by tests/with-postgres; on a disk where it is measured."""

    def __init__(self, on_disk=False):
        argv = [str(ROOT / "tests/with-postgres"), *(["--disk"] if on_disk else [])]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                        start_new_session=True)
        self.url = self.process.stdout.readline().decode().strip()
        assert self.url.startswith("postgres://"), "no PostgreSQL server could be started"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
