# SPDX-License-Identifier: Apache-2.0
"""Bytes in and out: what is imported comes back, whole or in parts, and neither a slow peer, a kill nor a full disk costs others."""
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
import uuid

import cloud as clouds
import pytest
from conftest import running

MIB = 1 << 20
LETTERS = bytes(range(ord("a"), ord("z") + 1))
RAW = {"Content-Type": "application/octet-stream"}


def imported(c, name, data, **kw):
    return c.req("POST", f"/images/import?name={name}&format=rootfs", raw=data, headers={**RAW, **kw.pop("headers", {})}, **kw)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def one(request):
    settings = {"compute.fake_drivers": "true"}
    if request.param == "postgres":
        url, name = request.getfixturevalue("postgres").url, f"bytes{uuid.uuid4().hex[:8]}"
        subprocess.run(["psql", "-q", url, "-c", f"CREATE DATABASE {name}"], check=True)
        settings["store.url"] = url.rsplit("/", 1)[0] + "/" + name
    with running(settings, "bytes") as c:
        u = c.user()
        c.letters = imported(u, "letters", LETTERS)
        assert c.letters.status == 201, c.letters
        time.sleep(1.1)  # a date is exact once its second is over
        c.who, c.path = u, f"/images/{c.letters.json['id']}/archive"
        yield c


ETAG = f'"{hashlib.sha256(LETTERS).hexdigest()}"'
LONG_AGO, FAR_AHEAD = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


# Each row of RFC 9110 13.1, 13.2.2, 14.2: what is asked, what is answered.  MODIFIED is the Last-Modified of all of it.
@pytest.mark.parametrize("asked,status,body", [
    ({}, 200, LETTERS),
    ({"Range": "bytes=0-4"}, 206, b"abcde"),
    ({"Range": "bytes=24-"}, 206, b"yz"),
    ({"Range": "bytes=-3"}, 206, b"xyz"),
    ({"Range": "bytes=20-1000"}, 206, b"uvwxyz"),
    ({"Range": "bytes=-1000"}, 206, LETTERS),
    ({"Range": "bytes=26-"}, 416, None),
    ({"Range": "bytes=-0"}, 416, None),
    ({"Range": "bytes=4-1"}, 200, LETTERS),
    ({"Range": "bytes=a-b"}, 200, LETTERS),
    ({"Range": "letters=0-4"}, 200, LETTERS),
    ({"Range": "bytes=0-1,4-5"}, 200, LETTERS),
    ({"If-Match": ETAG}, 200, LETTERS),
    ({"If-Match": f'"x", {ETAG}'}, 200, LETTERS),
    ({"If-Match": "*"}, 200, LETTERS),
    ({"If-Match": f"W/{ETAG}"}, 412, None),
    ({"If-Match": '"x"'}, 412, None),
    ({"If-Match": '"x"', "Range": "bytes=0-4"}, 412, None),
    ({"If-Unmodified-Since": LONG_AGO}, 412, None),
    ({"If-Unmodified-Since": "MODIFIED"}, 200, LETTERS),
    ({"If-Unmodified-Since": "never"}, 200, LETTERS),
    ({"If-Match": ETAG, "If-Unmodified-Since": LONG_AGO}, 200, LETTERS),
    ({"If-None-Match": ETAG}, 304, b""),
    ({"If-None-Match": f"W/{ETAG}"}, 304, b""),
    ({"If-None-Match": "*"}, 304, b""),
    ({"If-None-Match": '"x"'}, 200, LETTERS),
    ({"If-None-Match": ETAG, "Range": "bytes=0-4"}, 304, b""),
    ({"If-Match": '"x"', "If-None-Match": ETAG}, 412, None),
    ({"If-Modified-Since": "MODIFIED"}, 304, b""),
    ({"If-Modified-Since": FAR_AHEAD}, 304, b""),
    ({"If-Modified-Since": LONG_AGO}, 200, LETTERS),
    ({"If-None-Match": '"x"', "If-Modified-Since": "MODIFIED"}, 200, LETTERS),
    ({"If-Range": ETAG, "Range": "bytes=0-4"}, 206, b"abcde"),
    ({"If-Range": f"W/{ETAG}", "Range": "bytes=0-4"}, 200, LETTERS),
    ({"If-Range": '"x"', "Range": "bytes=0-4"}, 200, LETTERS),
    ({"If-Range": '"x"', "Range": "bytes=26-"}, 200, LETTERS),
    ({"If-Range": "MODIFIED", "Range": "bytes=0-4"}, 206, b"abcde"),
    ({"If-Range": LONG_AGO, "Range": "bytes=0-4"}, 200, LETTERS),
], ids=lambda v: " ".join(f"{k}: {x}" for k, x in v.items()).replace(ETAG, "E") if isinstance(v, dict) else None)
def test_what_a_request_asks_of_bytes(one, asked, status, body):
    whole = one.who.get(one.path)
    assert whole.status == 200 and whole.headers["ETag"] == ETAG and whole.headers["Accept-Ranges"] == "bytes"
    asked = {k: v.replace("MODIFIED", whole.headers["Last-Modified"]) for k, v in asked.items()}
    r = one.who.get(one.path, headers=asked)
    assert r.status == status, r
    if body is not None:
        assert r.body == body and r.headers["ETag"] == ETAG
    if status == 206:
        at = LETTERS.index(body)
        assert r.headers["Content-Range"] == f"bytes {at}-{at + len(body) - 1}/26"
    if status == 416:
        assert r.headers["Content-Range"] == "bytes */26" and r.json["error"]["code"] == "range_not_satisfiable"
    if status == 412:
        assert r.json["error"]["code"] == "precondition_failed"
    head = one.who.req("HEAD", one.path, headers=asked)
    assert head.status == (200 if status in (206, 416) else status) and head.body == b""


def test_curl_goes_on_where_it_stopped(one, tmp_path):
    data = os.urandom(5 * MIB)
    assert imported(one.who, "large", data).status == 201
    url, out = f"http://127.0.0.1:{one.port}/images/large/archive", tmp_path / "got"
    curl = ["curl", "-sS", "-f", "-H", f"X-API-Key: {one.who.key}", "-o", str(out), "-w", "%{http_code} %{size_download}"]
    out.write_bytes(data[:3 * MIB])
    r = subprocess.run([*curl, "-C", "-", url], capture_output=True, text=True, timeout=60, check=True)
    assert r.stdout == f"206 {2 * MIB}" and out.read_bytes() == data
    # All of it is there: nothing more comes.
    r = subprocess.run([*curl, "-C", "-", url], capture_output=True, text=True, timeout=60, check=False)
    assert out.read_bytes() == data, r
    # What it is given again is the same image.
    again = imported(one.who, "again", out.read_bytes())
    assert again.status == 201 and again.json["digest"] == one.who.get("/images/large").json["digest"]
    for name in ("large", "again"):
        assert one.who.delete(f"/images/{name}").status == 200


def test_the_client_writes_an_archive(one, tmp_path):
    env = {"BRUME_URL": f"http://127.0.0.1:{one.port}", "BRUME_API_KEY": one.who.key}
    p = subprocess.run([str(clouds.BRUME), "image", "archive", "letters"], env={**os.environ, **env}, capture_output=True, timeout=60, check=False)
    assert p.returncode == 0 and p.stdout == LETTERS, p


def slow_reader(c, key, path):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", c.port))
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode())
    return s


def test_slow_readers_harm_nobody(one):
    data = os.urandom(32 * MIB)
    other = one.user()
    assert imported(one.who, "slow", data).status == 201 and imported(other, "theirs", data).status == 201

    def download():
        began = time.monotonic()
        r = other.get("/images/theirs/archive")
        assert r.status == 200 and r.body == data
        return time.monotonic() - began
    alone = min(download() for _ in range(3))
    readers, stop = [slow_reader(one, one.who.key, "/images/slow/archive") for _ in range(10)], threading.Event()

    def trickle():
        while not stop.wait(1):
            for s in readers:
                assert len(s.recv(1)) == 1
    t = threading.Thread(target=trickle)
    t.start()
    try:
        time.sleep(1.5)
        threads = len(os.listdir(f"/proc/{one.role('api')}/task"))
        beside = min(download() for _ in range(5))
        waits = []
        for _ in range(50):
            began = time.monotonic()
            assert other.get("/queues").status == 200
            waits.append(time.monotonic() - began)
        assert len(os.listdir(f"/proc/{one.role('api')}/task")) <= threads + 1
    finally:
        stop.set()
        t.join()
        [s.close() for s in readers]
    print(f"32 MiB alone {alone * 1000:.0f} ms, beside slow readers {beside * 1000:.0f} ms; a small request {sorted(waits)[25] * 1000:.1f} ms")
    assert beside < 3 * alone + 0.2 and sorted(waits)[25] < 0.1
    assert one.who.delete("/images/slow").status == 200 and other.delete("/images/theirs").status == 200


# ---- what is kept, and what a kill or a full disk leaves

def files(c):
    found = {"new": [], "kept": []}
    for at, _, names in os.walk(c.state / "blobs"):
        found["new" if at.endswith("/new") else "kept"] += names
    return found


def settled(c, n):
    """So many blobs are there, each in its place."""
    return clouds.until(lambda: files(c)["new"] == [] and len(files(c)["kept"]) == n, 70, 0.2)


def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing(make_cloud):
    c = make_cloud().start()
    u = c.user()
    data, done, stop, n = os.urandom(300000), {}, threading.Event(), [0]

    def uploads(k):
        while not stop.is_set():
            n[0] += 1
            name = f"i{k}-{n[0]}"
            try:
                r = imported(u, name, data + name.encode(), timeout=20)
                if r.status == 201:
                    done[name] = r.json["id"]
                time.sleep(0.05)  # a list shows a thousand
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
    threads = [threading.Thread(target=uploads, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    for i in range(8):
        time.sleep(0.5 + 0.13 * i)
        c.kill_role("api")
        c.wait_ready()
    stop.set()
    [t.join() for t in threads]
    c.wait_ready()
    assert len(done) > 8
    for name, i in done.items():
        r = u.get(f"/images/{i}/archive")
        assert r.status == 200 and r.body == data + name.encode(), (name, r)
    have = [x for x in u.get("/images").json if x["archive_bytes"]]
    assert {x["name"] for x in have} >= set(done)
    assert settled(c, len(have)), files(c)
    for x in have:
        assert u.delete(f"/images/{x['id']}").status == 200
    assert settled(c, 0), files(c)
    print(f"{len(done)} kept over 8 kills")


def test_processes_over_one_database_share_the_folder(two_apis):
    with two_apis() as (a, b):
        ours, theirs = a.state / "blobs", b.state / "blobs"
        assert subprocess.run(["mount", "--bind", str(ours), str(theirs)], check=False).returncode == 0
        try:
            b.kill_role("api")  # it opened its own folder
            b.wait_ready()
            u = a.user()
            v = clouds.Client(b.port, u.key)
            for by, at in ((u, v), (v, u)):
                for i in range(20):
                    assert imported(by, f"shared{i}", b"x" * (i + 1)).status == 201
                for i in range(20):
                    assert at.get(f"/images/shared{i}/archive").body == b"x" * (i + 1)
                assert settled(a, 20), files(a)
                for i in range(20):
                    assert at.delete(f"/images/shared{i}").status == 200
                assert settled(a, 0), files(a)
        finally:
            b.kill()
            subprocess.run(["umount", str(theirs)], check=True)
            b.start()


def test_a_full_disk_is_507_and_nothing_is_half_done(make_cloud):
    c = make_cloud()
    blobs = c.state / "blobs"
    blobs.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0777", "blobs", str(blobs)], check=True)
    try:
        c.start()
        u = c.user()
        assert imported(u, "fits", os.urandom(30 * MIB)).status == 201
        r = imported(u, "more", os.urandom(40 * MIB))
        assert r.status == 507 and r.json["error"]["code"] == "insufficient_storage", r
        assert u.get("/images/more").status == 404
        assert settled(c, 1), files(c)
        assert u.get("/images/fits/archive").status == 200 and u.get("/queues").status == 200
        assert u.delete("/images/fits").status == 200 and settled(c, 0)
        assert imported(u, "more", os.urandom(30 * MIB)).status == 201
        assert b"brume_blob_bytes" in c.admin.get("/metrics").body
        assert c.stop() == 0
    finally:
        if c.process and c.process.poll() is None:
            c.process.send_signal(signal.SIGTERM)
            c.process.wait(30)
        subprocess.run(["umount", str(blobs)], check=True)
