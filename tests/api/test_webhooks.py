# SPDX-License-Identifier: Apache-2.0
"""Webhooks at real endpoints: what arrives, when, and what no endpoint can do to others."""
import hashlib
import hmac
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import uuid

import pytest
import standardwebhooks
from cloud import until


class Sink:
    """An endpoint.  What it does is the first word of the path: ok, fail, gone, later, redirect, hang, drip, flaky."""

    def __init__(self):
        sink = self
        self.seen, self.lock, self.hooks = [], threading.Lock(), {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with sink.lock:
                    sink.seen.append((time.time(), self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    nth = sum(1 for x in sink.seen if x[1] == self.path)
                what = self.path.split("/")[1]
                if self.path in sink.hooks:
                    sink.hooks[self.path](nth)
                getattr(self, "on_" + what)(nth)

            def answer(self, status, body=b"", headers=()):
                self.send_response(status)
                for k, v in headers:
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def on_ok(self, _):
                self.answer(200, b"thanks")

            def on_fail(self, _):
                self.answer(500, b"x" * 10000)

            def on_flaky(self, nth):
                self.answer(500 if nth == 1 else 204)

            def on_gone(self, _):
                self.answer(410)

            def on_later(self, nth):
                self.answer(*((429, b"", [("Retry-After", "3")]) if nth == 1 else (200,)))

            def on_redirect(self, _):
                self.answer(307, b"", [("Location", f"http://127.0.0.1:{sink.port}/ok/redirected")])

            def on_hang(self, _):
                time.sleep(14)
                self.close_connection = True

            def on_drip(self, _):
                try:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n")
                    for _ in range(40):
                        self.wfile.write(b".")
                        self.wfile.flush()
                        time.sleep(0.5)
                except OSError:
                    pass
                self.close_connection = True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path):
        with self.lock:
            return [x for x in self.seen if x[1] == "/" + path]


@pytest.fixture(scope="module")
def sink():
    s = Sink()
    yield s
    s.server.shutdown()


def start(make_cloud, postgres, store, settings=None):
    settings = {"outgoing.allowed_networks": "127.0.0.0/8", **(settings or {})}
    if store == "postgres":
        name = f"hooks{uuid.uuid4().hex[:8]}"
        subprocess.run(["psql", "-q", postgres.url, "-c", f"CREATE DATABASE {name}"], check=True)
        settings["store.url"] = postgres.url.rsplit("/", 1)[0] + "/" + name
    return make_cloud(settings).start()


@pytest.fixture(params=["sqlite", "postgres"])
def hooks(request, make_cloud, postgres):
    c = start(make_cloud, postgres, request.param)
    c.store = request.param
    return c


def somebody(c):
    return c.admin.as_key(c.user().key)


def queue(me):
    return me.made("/queues", {"name": "q" + uuid.uuid4().hex[:12]})["id"]


def attempts(me, hook):
    """Its newest delivery, with all of them; what stands for none."""
    d = me.get(f"/webhooks/{hook['id']}/deliveries?sort=-created_at&limit=1").json
    if not d:
        return {"status": "none", "attempts": []}
    d = d[0]
    return me.get(f"/webhooks/{hook['id']}/deliveries/{d['id']}").json


def test_what_arrives_is_signed_so_that_other_peoples_library_takes_it(hooks, sink):
    me, path = somebody(hooks), f"ok/{uuid.uuid4().hex}"
    hook = me.made("/v1/webhooks", {"url": sink.url(path), "events": ["queue.created"]})
    assert "secret" not in me.get(f"/v1/webhooks/{hook['id']}").json
    made = queue(me)
    assert until(lambda: sink.at(path), 5)
    at, _, headers, body = sink.at(path)[0]
    event = standardwebhooks.Webhook(hook["secret"]).verify(body, headers)
    assert event["type"] == "queue.created"
    assert event["data"]["object"]["id"].startswith("q_") and made
    want = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-signature-256"] == f"sha256={want}"
    assert headers["webhook-id"] == event["id"]
    assert event == me.get("/v1/events?type=queue.created").json["data"][0]
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(hook["secret"]).verify(body + b" ", headers)
    # A new secret: both sign.
    new = me.post(f"/v1/webhooks/{hook['id']}/rotate").json
    queue(me)
    assert until(lambda: len(sink.at(path)) == 2, 5)
    _, _, headers, body = sink.at(path)[1]
    for secret in (hook["secret"], new["secret"]):
        standardwebhooks.Webhook(secret).verify(body, headers)
    assert new["secret"] != hook["secret"]
    assert until(lambda: attempts(me, hook)["status"] == "succeeded", 5)


def test_failures_are_tried_again_and_seen_by_their_owner_alone(hooks, sink):
    me, tag = somebody(hooks), uuid.uuid4().hex
    made = {}
    for what in ("flaky", "fail", "gone", "later", "redirect"):
        made[what] = me.made("/webhooks", {"url": sink.url(f"{what}/{tag}"), "events": ["queue.*"]})
    dead = socket.create_server(("127.0.0.1", 0))
    closed = dead.getsockname()[1]
    dead.close()
    made["closed"] = me.made("/webhooks", {"url": f"http://127.0.0.1:{closed}/", "events": ["queue.*"]})
    private = me.post("/webhooks", {"url": "http://10.0.0.1/"})
    assert private.status == 400, private
    queue(me)
    assert until(lambda: len(sink.at(f"flaky/{tag}")) == 2, 15)
    first, second = (x[0] for x in sink.at(f"flaky/{tag}"))
    assert 4.4 < second - first < 7, second - first
    assert until(lambda: attempts(me, made["flaky"])["status"] == "succeeded", 3)
    x = attempts(me, made["flaky"])
    assert [a["status_code"] for a in x["attempts"]] == [500, 204] and [a["number"] for a in x["attempts"]] == [1, 2]
    x = attempts(me, made["fail"])
    assert x["status"] == "pending" and x["attempts"][0]["response"] == "x" * 4096
    # Not before the three seconds it asked for (and the five of the schedule).
    assert until(lambda: len(sink.at(f"later/{tag}")) == 2, 10)
    # Gone is gone.
    assert me.get(f"/webhooks/{made['gone']['id']}").json["disabled_reason"] == "gone"
    assert attempts(me, made["gone"])["status"] == "failed" and len(sink.at(f"gone/{tag}")) == 1
    # Nobody follows.
    assert attempts(me, made["redirect"])["attempts"][0]["status_code"] == 307
    assert not sink.at("ok/redirected")
    x = attempts(me, made["closed"])["attempts"][0]
    assert x["status_code"] is None and x["error"].startswith("connection_refused"), x
    # What a tenant's endpoints do is nothing that the operator is warned of.
    assert not [x for x in hooks.log_find('"warn"') + hooks.log_find('"error"') if "deliver" in x or "outgoing" in x]
    metrics = hooks.admin.get("/metrics").body.decode()
    assert "brume_http_outgoing_requests_total{" in metrics and "brume_delivery_attempts_total{" in metrics
    # By hand.
    x = attempts(me, made["flaky"])
    r = me.post(f"/webhooks/{made['flaky']['id']}/deliveries/{x['id']}/redeliver")
    assert r.status == 202, r
    assert until(lambda: len(sink.at(f"flaky/{tag}")) == 3, 5)
    ids = {x[2]["webhook-id"] for x in sink.at(f"flaky/{tag}")}
    assert len(ids) == 1


def test_an_internal_address_behind_the_operators_list_is_reached_by_no_name(make_cloud, postgres, sink):
    c = start(make_cloud, postgres, "sqlite", {"outgoing.allowed_networks": "192.0.2.0/24"})
    me = somebody(c)
    assert me.post("/webhooks", {"url": sink.url("ok/x")}).status == 400
    hook = me.made("/webhooks", {"url": f"http://localhost:{sink.port}/ok/x"})
    queue(me)
    assert until(lambda: attempts(me, hook)["attempts"], 5)
    assert attempts(me, hook)["attempts"][0]["error"].startswith("address_not_allowed")
    assert not sink.at("ok/x")


def test_slow_endpoints_hold_up_nobody(hooks, sink):
    me, tag = somebody(hooks), uuid.uuid4().hex
    slow = [me.made("/webhooks", {"url": sink.url(f"{what}/{tag}"), "events": ["queue.*"]}) for what in ("hang", "drip")]
    me.made("/webhooks", {"url": sink.url(f"ok/{tag}"), "events": ["queue.*"]})
    for n in range(1, 11):
        began = time.time()
        queue(me)
        assert until(lambda n=n: len(sink.at(f"ok/{tag}")) == n, 5, 0.005)
        assert time.time() - began < 1.5
    # Ten seconds are what an attempt may take, byte by byte too.
    first = {h["id"]: me.get(f"/webhooks/{h['id']}/deliveries?sort=created_at").json[0]["id"] for h in slow}

    def one(h):
        return me.get(f"/webhooks/{h['id']}/deliveries/{first[h['id']]}").json
    for h in slow:
        assert until(lambda h=h: one(h)["attempts"], 15)
        x = one(h)["attempts"][0]
        assert x["error"].startswith("timed_out") and 9000 < x["duration_ms"] < 11500, x


def test_of_one_object_events_arrive_in_their_order(hooks, sink):
    me, path = somebody(hooks), f"ok/{uuid.uuid4().hex}"
    me.made("/webhooks", {"url": sink.url(path), "events": ["queue.*"]})
    ids = [queue(me) for _ in range(4)]
    for delay in range(1, 9):
        for q in ids:
            assert me.patch(f"/queues/{q}", {"delay_seconds": delay}).status == 200
    assert until(lambda: len(sink.at(path)) == 36, 20)
    got = {}
    for *_, body in sink.at(path):
        o = json.loads(body)["data"]["object"]
        got.setdefault(o["id"], []).append(o["delay_seconds"])
    assert sorted(got.values()) == [list(range(9))] * 4, got


def test_killed_between_an_attempt_and_its_record_it_is_sent_again(hooks, sink):
    me, path = somebody(hooks), f"ok/{uuid.uuid4().hex}"
    pid = hooks.role("api")
    hooks.killed += 1
    sink.hooks["/" + path] = lambda nth: os.kill(pid, signal.SIGKILL) if nth == 1 else None
    hook = me.made("/webhooks", {"url": sink.url(path), "events": ["queue.created"]})
    queue(me)
    # Over PostgreSQL another process may still be at it until its lease ends.
    assert until(lambda: len(sink.at(path)) >= 2, 60, 0.2), sink.at(path)
    hooks.wait_ready()
    assert until(lambda: attempts(me, hook)["status"] == "succeeded", 5)
    assert attempts(me, hook)["attempt_count"] == 1
    assert len({x[2]["webhook-id"] for x in sink.at(path)}) == 1
    time.sleep(1)
    assert len(sink.at(path)) == 2


def test_two_processes_send_each_event_once_and_one_goes_on_for_the_other(two_apis, sink):
    with two_apis({"outgoing.allowed_networks": "127.0.0.0/8"}) as (a, b):
        me, path = somebody(a), f"ok/{uuid.uuid4().hex}"
        me.made("/webhooks", {"url": sink.url(path), "events": ["queue.created"]})
        other = me.__class__(b.port, me.key)
        for i in range(40):
            queue((me, other)[i % 2])
        assert until(lambda: len(sink.at(path)) >= 40, 20)
        time.sleep(1)
        assert len(sink.at(path)) == 40 == len({x[2]["webhook-id"] for x in sink.at(path)})
        b.kill_role("api")
        for _ in range(10):
            queue(me)
        # What the other one had leased is free after half a minute.
        assert until(lambda: len(sink.at(path)) >= 50, 60), len(sink.at(path))
        b.wait_ready()


def test_a_thousand_dead_endpoints_of_one_tenant_delay_no_other(hooks, sink):
    hog, me, path = somebody(hooks), somebody(hooks), f"ok/{uuid.uuid4().hex}"
    with socket.socket() as dead:  # takes a few connections and never says a word
        dead.bind(("127.0.0.1", 0))
        dead.listen(8)
        for i in range(1000):
            hog.made("/webhooks", {"url": f"http://127.0.0.1:{dead.getsockname()[1]}/{i}", "events": ["queue.*"]})
        mine = me.made("/webhooks", {"url": sink.url(path), "events": ["queue.*"]})
        queue(hog)
        time.sleep(0.5)
        took = []
        for n in range(1, 21):
            began = time.time()
            queue(me)
            assert until(lambda n=n: len(sink.at(path)) >= n, 10, 0.002), (n, took, len(sink.at(path)))
            took.append(sink.at(path)[-1][0] - began)
            time.sleep(0.05)
        took.sort()
        print(f"{hooks.store}: beside 1,000 dead endpoints p50 {took[10] * 1000:.0f} ms, most {took[-1] * 1000:.0f} ms")
        for d in me.get(f"/webhooks/{mine['id']}/deliveries").json:
            x = me.get(f"/webhooks/{mine['id']}/deliveries/{d['id']}").json
            assert x["attempt_count"] == 1, x["attempts"]
        assert took[18] < 1
