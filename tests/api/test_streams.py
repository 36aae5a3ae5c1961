# SPDX-License-Identifier: Apache-2.0
"""Streams: events as they happen, by a client of other people's (sseclient-py), over kills, drains and slow readers."""
import json
import signal
import socket
import threading
import time

import pytest
import requests
import sseclient
import websockets.exceptions
import websockets.sync.client
from cloud import until


class Follower:
    """Follows in a thread of its own; comes back by itself where told to, as browsers do."""

    def __init__(self, c, path="/v1/events/stream", last=None, comes_back=False):
        self.c, self.path, self.last, self.comes_back = c, path, last, comes_back
        self.events, self.over, self.stop = [], threading.Event(), False
        self.opened, self.status, self.response = threading.Event(), None, None
        threading.Thread(target=self.run, daemon=True).start()
        assert self.opened.wait(10)

    def once(self):
        headers = {"X-API-Key": self.c.key, "Accept": "text/event-stream"}
        if self.last:
            headers["Last-Event-ID"] = self.last
        self.response = requests.get(f"http://127.0.0.1:{self.c.port}{self.path}", headers=headers, stream=True, timeout=60)
        self.status = self.response.status_code
        self.opened.set()
        if self.status != 200:
            return
        for e in sseclient.SSEClient(self.response).events():
            if e.id:
                self.last = e.id
            self.events.append(e)
            if self.stop:
                return

    def run(self):
        while not self.stop:
            try:
                self.once()
            except (OSError, requests.RequestException):
                pass
            if not self.comes_back:
                break
            time.sleep(0.05)
        self.over.set()

    def types(self):
        return [e.event for e in self.events]

    def names(self):
        return [json.loads(e.data)["data"]["object"]["name"] for e in self.events if e.event != "end"]

    def close(self):
        self.stop = True
        self.comes_back = False
        if self.response is not None:
            self.response.raw._fp.fp.raw._sock.shutdown(socket.SHUT_RDWR)


def queues(c, names):
    for n in names:
        c.made("/v1/queues", {"name": n})


def test_events_come_as_they_happen_and_in_order(me):
    f = Follower(me)
    queues(me, ["a", "b"])
    assert until(lambda: len(f.events) == 2), f.types()
    assert f.types() == ["queue.created"] * 2 and f.names() == ["a", "b"]
    listed = me.get("/v1/events").json["data"]
    assert [json.loads(e.data) for e in reversed(f.events)] == listed[:2]
    f.close()


def test_only_what_is_asked_for_and_ones_own(api, me):
    other = api.user()
    f, some = Follower(me), Follower(me, "/v1/events/stream?type=queue.del*")
    queues(other, ["theirs"])
    queues(me, ["mine"])
    q = me.get("/v1/queues").json["data"][0]["id"]
    assert me.delete(f"/v1/queues/{q}").status == 204
    assert until(lambda: len(f.events) >= 2 and len(some.events) >= 1)
    time.sleep(0.3)
    assert f.types() == ["queue.created", "queue.deleted"]
    assert some.types() == ["queue.deleted"]
    f.close()
    some.close()


def test_it_goes_on_behind_the_last_event_without_gap_or_double(me):
    f = Follower(me)
    queues(me, [f"n{i}" for i in range(10)])
    assert until(lambda: len(f.events) == 10)
    f.close()
    queues(me, [f"n{i}" for i in range(10, 20)])
    for k in (0, 4, 9):
        again = Follower(me, last=f.events[k].id)
        assert until(lambda a=again, n=19 - k: len(a.events) == n), again.names()
        assert again.names() == [f"n{i}" for i in range(k + 1, 20)]
        again.close()
    by_query = Follower(me, f"/v1/events/stream?last_event_id={f.events[9].id}")
    assert until(lambda: len(by_query.events) == 10)
    by_query.close()


def test_what_is_no_place_in_the_stream_is_refused(api, me):
    r = me.get("/v1/events/stream", headers={"Last-Event-ID": "17"})
    assert r.status == 400 and "last_event_id" in r.body.decode(), r
    r = me.get("/v1/events/stream?colour=red")
    assert r.status == 400 and "colour" in r.body.decode(), r
    f = Follower(me)
    queues(me, ["a"])
    assert until(lambda: f.events)
    assert api.user().get("/v1/events/stream", headers={"Last-Event-ID": f.events[0].id}).status == 400
    f.close()


def test_the_wire_is_what_the_standard_says(me):
    with socket.create_connection(("127.0.0.1", me.port), timeout=5) as s:
        s.sendall(f"GET /v1/events/stream HTTP/1.0\r\nHost: a\r\nX-API-Key: {me.key}\r\n\r\n".encode())
        got = b""
        while b"retry: 2000\n\n" not in got:
            got += s.recv(4096)
        assert b"Content-Type: text/event-stream\r\n" in got and b"Cache-Control: no-store\r\n" in got
        queues(me, ["a"])
        got = b""
        while not got.endswith(b"\n\n"):
            got += s.recv(65536)
        lines = got.decode().split("\n")
        assert lines[0].startswith("id: ") and lines[1] == "event: queue.created"
        assert json.loads(lines[2].removeprefix("data: "))["type"] == "queue.created" and lines[3:] == ["", ""]


def test_a_stream_ends_with_its_key(me):
    k = me.made("/auth/keys", {"name": "k"})
    f = Follower(me.as_key(k["key"]))
    assert f.status == 200
    queues(me, ["a"])
    assert until(lambda: "queue.created" in f.types())
    assert me.delete(f"/auth/keys/{k['id']}").status == 200
    assert f.over.wait(5)
    queues(me, ["b"])
    time.sleep(0.2)
    assert f.types().count("queue.created") == 1


def test_who_reads_nothing_holds_nothing_up(me):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", me.port))
        s.sendall(f"GET /v1/events/stream HTTP/1.1\r\nHost: a\r\nX-API-Key: {me.key}\r\n\r\n".encode())
        assert s.recv(100).startswith(b"HTTP/1.1 200")
        f = Follower(me)
        large = {f"t{i}": "x" * 200 for i in range(40)}
        for i in range(400):
            me.made("/v1/queues", {"name": f"n{i}", "tags": large} if i else {"name": "n0"})
        assert until(lambda: len(f.events) == 400, 20), len(f.events)
        assert f.names() == [f"n{i}" for i in range(400)]
        f.close()


def test_over_kills_of_the_api_nothing_is_missing_and_nothing_comes_twice(make_cloud):
    c = make_cloud().start()
    u = c.user()
    f = Follower(u, comes_back=True)
    made = []
    for i in range(60):
        if i % 20 == 10:
            c.kill_role("api")
            c.wait_ready()
        while True:
            try:
                r = u.post("/v1/queues", {"name": f"n{i}"}, headers={"Idempotency-Key": f"k{i}"}, timeout=5)
            except OSError:
                time.sleep(0.05)
                continue
            if r.status in (201, 409):
                break
            time.sleep(0.05)
        made.append(f"n{i}")
    assert until(lambda: len(f.names()) >= 60, 20), f.names()
    time.sleep(0.3)
    assert f.names() == made
    f.close()


def test_a_stream_is_taken_up_at_another_process(pair):
    a, b = pair
    one, two = Follower(a), Follower(b)
    queues(a, ["a0"])
    queues(b, ["b0"])
    queues(a, ["a1"])
    assert until(lambda: len(one.events) == 3 and len(two.events) == 3), (one.names(), two.names())
    assert one.names() == two.names()
    one.close()
    queues(a, ["a2"])
    again = Follower(b, last=one.events[1].id)
    assert until(lambda: len(again.events) == 2)
    assert again.names() == ["a1", "a2"]
    again.close()
    two.close()


def test_a_drain_says_farewell(make_cloud):
    c = make_cloud().start()
    f = Follower(c.user())
    began = time.monotonic()
    c.process.send_signal(signal.SIGTERM)
    assert f.over.wait(10)
    assert f.types() == ["end"] and json.loads(f.events[0].data) == {"reason": "shutdown"}
    assert c.process.wait(20) == 0
    assert time.monotonic() - began < 10


def test_events_come_over_a_websocket_and_its_peer_says_which(make_cloud):
    c = make_cloud().start()
    u = c.user()
    url = f"ws://127.0.0.1:{c.port}/v1/events/stream?type=queue.created"
    with websockets.sync.client.connect(url, additional_headers={"X-API-Key": u.key}) as ws:
        queues(u, ["a"])
        first = json.loads(ws.recv(5))
        assert first["event"]["type"] == "queue.created" and first["event"] == u.get("/v1/events").json["data"][0]
        ws.send("nonsense")
        assert json.loads(ws.recv(5))["error"]["code"] == "invalid_request"
        ws.send(json.dumps({"type": "queue.del*"}))
        ws.send(b"[]")
        assert "error" in json.loads(ws.recv(5))  # so the one before it has been heard
        queues(u, ["b"])
        q = u.get("/v1/queues").json["data"][0]["id"]
        assert u.delete(f"/v1/queues/{q}").status == 204
        assert json.loads(ws.recv(5))["event"]["type"] == "queue.deleted"
        assert ws.ping().wait(5)
        for _ in range(500):  # more than waits for one who is slow
            ws.send("x" * 1000)
        assert all("error" in json.loads(ws.recv(10)) for _ in range(500))
        with websockets.sync.client.connect(f"{url}&last_event_id={first['id']}", additional_headers={"X-API-Key": u.key}) as again:
            assert json.loads(again.recv(5))["event"]["data"]["object"]["name"] == "b"
            again.send("y" * 70000)
            try:
                again.recv(5)
                raise AssertionError("a message that is too long was read")
            except websockets.exceptions.ConnectionClosed as e:
                assert e.rcvd.code == 1009
        c.process.send_signal(signal.SIGTERM)
        try:
            ws.recv(10)
            raise AssertionError("no close")
        except websockets.exceptions.ConnectionClosed as e:
            assert e.rcvd.code == 1001
    assert c.process.wait(20) == 0


def test_who_asks_wrongly_for_a_websocket_is_told(me):
    r = me.get("/v1/events/stream", headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "x"})
    assert r.status == 400 and "Sec-WebSocket-Version" in r.body.decode(), r
    with pytest.raises(websockets.exceptions.InvalidStatus) as e:
        websockets.sync.client.connect(f"ws://127.0.0.1:{me.port}/v1/events/stream")
    assert e.value.response.status_code == 401
