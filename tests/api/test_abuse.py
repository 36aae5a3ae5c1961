# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, rude, many or broken."""
import socket
import threading
import time

import cloud as clouds
import pytest
from cloud import parse_wire


def request(c, path="/queues", more=""):
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {c.key}\r\n{more}\r\n".encode()


@pytest.mark.parametrize("data, status", [
    (b"GET /queues HTTP/1.1\r\n\r\n", 400),
    (b"GET /queues HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /queues HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"POST /queues HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /queues HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    (b"POST /queues HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    (b"POST /queues HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    (b"GET /queues HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET /queues HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400),
    (b"GET /queues HTTP/1.1\nHost: a\n\n", 400),
    (b"GET /queues HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /queues HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 20000 + b"\r\n\r\n", 431),
    (b"GET /queues HTTP/3.0\r\nHost: a\r\n\r\n", 505),
])
def test_a_request_that_is_not_http_is_refused_in_our_shape(api, data, status):
    out = api.nobody.wire(data)
    assert out, "no answer"
    r = parse_wire(out)
    assert r.status == status, out[:400]
    assert r.error
    assert out.count(b"\r\nContent-Length: ") == 1, "one request, one answer"


def test_what_is_no_http_at_all_gets_a_400_and_a_close(api):
    for data in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n", b"\0" * 100, b"nonsense\r\n\r\n"):
        out = api.nobody.wire(data + b"\r\n\r\n")
        assert out.startswith(b"HTTP/1.1 400"), out[:100]


def test_pipelined_requests_are_answered_in_order(me):
    q = me.made("/queues", {"name": "q"})["id"]
    paths = ["/queues", f"/queues/{q}", "/nowhere", "/instance-types", "/health/live"] * 4
    data = b"".join(request(me, p) for p in paths[:-1]) + request(me, paths[-1], "Connection: close\r\n")
    out = me.wire(data)
    statuses = [int(x.split(b" ")[0]) for x in out.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 404, 200, 200] * 4


def test_a_request_in_small_pieces_is_a_request(me):
    data = b"POST /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: " + me.key.encode() + b'\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{"name": "s"}'
    with socket.create_connection(("127.0.0.1", me.port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            s.sendall(data[i:i + 1])
        out = b""
        while piece := s.recv(4096):
            out += piece
    assert parse_wire(out).status == 201, out


def test_a_chunked_body_is_a_body(me):
    out = me.wire(b"POST /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: " + me.key.encode() +
                  b'\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{"nam\r\n7\r\ne":"c"}\r\n0\r\n\r\n')
    assert parse_wire(out).status == 201, out


def test_expect_100_is_answered_only_where_the_request_is_welcome(api, me):
    head = "POST /queues HTTP/1.1\r\nHost: a\r\n{}Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    assert api.nobody.wire(head.format("", 13).encode(), 2).startswith(b"HTTP/1.1 401")
    assert api.nobody.wire(head.format(f"X-API-Key: {me.key}\r\n", 99999999).encode(), 2).startswith(b"HTTP/1.1 413")
    assert api.nobody.wire(head.format(f"X-API-Key: {me.key}\r\n", 13).encode(), 1).startswith(b"HTTP/1.1 100")


def test_a_head_that_never_ends_is_closed(api):
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as s:
        s.sendall(b"GET /queues HTTP/1.1\r\nHost: a\r\nX")
        began = time.monotonic()
        out = b""
        try:
            while piece := s.recv(4096):
                out += piece
        except ConnectionError:
            pass
        assert 5 < time.monotonic() - began < 19
        assert out == b"" or b" 408 " in out


def test_half_sent_requests_do_no_harm(me):
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", me.port)) as s:
            s.sendall(b"POST /queues HTTP/1.1\r\nHost: a\r\nX-API-Key: " + me.key.encode() + b'\r\nContent-Length: 100\r\n\r\n{"name":"half"')
    time.sleep(0.2)
    assert me.get("/queues").json == []


def test_a_client_that_does_not_read_holds_nobody_up(me):
    for i in range(40):
        me.made("/queues", {"name": f"q{i:03}", "tags": {"long": "x" * 1000}})
    rude = [socket.create_connection(("127.0.0.1", me.port)) for _ in range(20)]
    try:
        for s in rude:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(0.2)
            try:
                s.sendall(request(me, "/queues") * 60)
            except TimeoutError:
                pass
        began = time.monotonic()
        assert me.get("/health/live").status == 200 and me.get("/instance-types").status in (200, 429)
        assert time.monotonic() - began < 10
    finally:
        for s in rude:
            s.close()
    assert clouds.until(lambda: me.get("/queues").status == 200, 10)


def test_over_the_limit_of_connections_it_is_503(make_cloud):
    c = make_cloud({"server.max_connections": "50"}).start()
    held = [socket.create_connection(("127.0.0.1", c.port), timeout=5) for _ in range(50)]
    try:
        time.sleep(0.2)
        out = c.nobody.wire(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", 2)
        assert out == b"" or out.startswith(b"HTTP/1.1 503"), out
    finally:
        for s in held:
            s.close()
    assert clouds.until(lambda: c.ready(), 5)


def test_one_credential_cannot_take_all_places(me):
    q = me.made("/queues", {"name": "q"})["id"]
    codes = []

    def wait():
        codes.append(me.get(f"/queues/{q}/messages?wait=3").status)
    threads = [threading.Thread(target=wait) for _ in range(130)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert codes.count(200) == 100 and codes.count(429) == 30, codes


def test_many_at_once_get_each_their_answer(me):
    ids = [me.made("/queues", {"name": f"q{i}"})["id"] for i in range(20)]
    wrong = []

    def run(i):
        for _ in range(20):
            r = me.get(f"/queues/{ids[i]}")
            if r.status != 200 or r.json["id"] != ids[i]:
                wrong.append(r)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(20)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []
