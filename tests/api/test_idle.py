# SPDX-License-Identifier: Apache-2.0
"""Ten thousand connections at rest, each after a request: what they cost, and whether others are still answered."""
import pathlib
import re
import resource
import subprocess
import sys
import time

PEERS = 2

# A process that opens connections, asks once on each, says so, and holds them until its input ends.
PEER = r"""
import resource, socket, sys
n, port, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
ask = f"GET /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n".encode()
def answer(s):
    got = s.recv(65536)
    assert got.startswith(b"HTTP/1.1 200"), got[:200]
    while b"\r\n\r\n" not in got:
        got += s.recv(65536)
all = []
for batch in range(0, n, 50):
    some = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(min(50, n - batch))]
    for s in some:
        s.sendall(ask)
    for s in some:
        answer(s)
    all += some
print("open", flush=True)
for line in sys.stdin:
    for s in all[::100]:
        s.sendall(ask)
        answer(s)
    print("asked", flush=True)
"""


def memory(pid):
    """Resident bytes of a process that are its own."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(x) * 1024 for x in re.findall(r"^(?:Private_Clean|Private_Dirty): +(\d+)", text, re.M))


def settled(pid):
    """When it has stopped to shrink."""
    last = memory(pid)
    for _ in range(10):
        time.sleep(1)
        now = memory(pid)
        if now >= last:
            return now
        last = now
    return last


def hold(n, c):
    return [subprocess.Popen([sys.executable, "-c", PEER, str(n // PEERS), str(c.port), c.user().key], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True) for _ in range(PEERS)]


def test_ten_thousand_connections_at_rest_cost_a_kilobyte_each(make_cloud):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    n = min(10000, (most - 1000) // 2 * 2)
    c = make_cloud().start()
    pid, peers = c.role("api"), []
    try:
        before = settled(pid)
        peers = hold(n, c)
        for p in peers:
            assert p.stdout.readline() == "open\n"
        each = (settled(pid) - before) / n
        times = []
        for _ in range(50):
            start = time.monotonic()
            assert c.admin.get("/queues").status == 200
            times.append(time.monotonic() - start)
        for p in peers:
            p.stdin.write("again\n")
            p.stdin.flush()
        for p in peers:
            assert p.stdout.readline() == "asked\n"
        print(f"{n} connections at rest: {each:.0f} bytes each, another's request takes {sorted(times)[25] * 1e3:.1f} ms, "
              f"at most {max(times) * 1e3:.1f} ms")
        assert each <= 1024, f"{each:.0f} bytes a connection"
        assert sorted(times)[25] < 0.1, times
    finally:
        for p in peers:
            p.kill()
            p.wait()
