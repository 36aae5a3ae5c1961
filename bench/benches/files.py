# SPDX-License-Identifier: Apache-2.0
"""Bytes in and out."""
import os
import pathlib
import shutil
import socket
import tempfile
import threading
import time

from benches.kit import CORES, LOAD, Nginx, Ours, cpu_each, cpu_us, median, one_tenant, pair, row, say
from cloud import Client


def take(port, path, key, into):
    """Seconds until all of an answer has come, read as fast as one core can."""
    s = socket.create_connection(("127.0.0.1", port))
    began = time.monotonic()
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n".encode())
    got = 0
    while n := s.recv_into(into):
        got += n
    s.close()
    return time.monotonic() - began, got


def upload_many(keys, port, n, size):
    """Imports 'n' archives of 'size' bytes; their paths."""
    made, left = [], iter(range(n))

    def run(key):
        c = Client(port, key)
        for i in left:
            r = c.req("POST", f"/images/import?name=b{size}-{i}&format=rootfs", raw=os.urandom(size), headers={"Content-Type": "application/octet-stream"})
            if r.status != 201:
                say(f"  an upload was refused: {r}")
                return
            made.append(f"/images/{r.json['id']}/archive")
    threads = [threading.Thread(target=run, args=(k,)) for k in keys]
    [t.start() for t in threads]
    [t.join() for t in threads]
    if len(made) != n:
        raise SystemExit(f"bench: {len(made)} of {n} uploads were kept")
    return made


def beside(o, root, path):
    """nginx's copy of what is at 'path', under the same path."""
    to = root / path[1:]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(o.c.admin.get(path).body)
    to.chmod(0o644)


def bench_bytes(small=1000, large=1 << 30):
    os.sched_setaffinity(0, {int(LOAD)})
    root = pathlib.Path(tempfile.mkdtemp(prefix="brume-bytes-", dir="/var/tmp"))
    root.chmod(0o755)
    into = bytearray(1 << 20)
    try:
        with Ours() as o:
            one_tenant(o)
            keys = (o.load.dir / "keys").read_text().split()
            big = upload_many(keys[:1], o.port, 1, large)[0]
            paths = upload_many(keys[:16], o.port, small, 4096)
            for path in [big, *paths]:
                beside(o, root, path)
            nginx = Nginx(root=root)

            def whole(pid, port):
                before = cpu_us(pid)
                seconds, got = take(port, big, keys[0], into)
                if got < large:
                    raise SystemExit(f"bench: {got} bytes of {large} came")
                return (cpu_us(pid) - before) / 1000, seconds
            lists = root / "paths"
            lists.write_text("".join(f"{p}\n" for p in paths))
            init = f"""local i = 0
  for p in io.lines("{lists}") do i = i + 1; made[i] = wrk.format("GET", p, {{["X-API-Key"] = keys[i %% #keys + 1]}}) end"""
            request = "serial = serial %% #made + 1; return made[serial]".replace("%%", "%")
            rates = []

            def each(pid, port):
                used, r = cpu_each(pid, lambda: o.load.wrk(port, init.replace("%%", "%"), request))
                return used, r["rate"]
            try:
                walls = []

                def large_pair(_):
                    ours, peer = whole(o.api(), o.port), whole(nginx.worker, nginx.port)
                    walls.append((large / ours[1] / 2**30, large / peer[1] / 2**30))
                    return ours[0], peer[0]

                def small_pair(_):
                    ours, peer = each(o.api(), o.port), each(nginx.worker, nginx.port)
                    rates.append((ours[1], peer[1]))
                    return ours[0], peer[0]
                one, many = pair(large_pair), pair(small_pair)
            finally:
                nginx.close()
    finally:
        os.sched_setaffinity(0, set(CORES))
        shutil.rmtree(root)
    for what, unit, got, speed, aim in (
            ("download of 1 GiB, CPU", "ms", one, "{:.1f} GiB/s", 1.5), (f"downloads of {small:,} files of 4 KiB in turn, CPU each", "µs", many, "{:,.0f}/s", 3)):
        speeds = walls if unit == "ms" else rates
        row(what, f"{got[0]:.1f} {unit} ({speed.format(median([a for a, _ in speeds]))})",
            f"nginx sendfile {got[1]:.1f} {unit} ({speed.format(median([b for _, b in speeds]))})", f"{got[2]:.2f}", f"≤ {aim}", got[2] <= aim)
