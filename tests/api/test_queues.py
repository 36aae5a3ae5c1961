# SPDX-License-Identifier: Apache-2.0
"""Who waits at a queue is woken by whatever makes a message receivable: in one process, and by another over one database."""
import concurrent.futures
import contextlib
import time

import pytest


@pytest.fixture(params=["sqlite", "two over postgres"])
def pair(request):
    """Two clients of one account: at one process, or each at its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            one = request.getfixturevalue("make_cloud")().start()
            apis = (one, one)
        else:
            apis = stack.enter_context(request.getfixturevalue("two_apis")())
        u = apis[0].user()
        yield [a.admin.as_key(u.key) for a in apis]


class Wait:
    """A receive that waits at 'c' for twenty seconds, and whether it came long before."""

    def __init__(self, c, q):
        self.began = time.monotonic()
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.answer = self.pool.submit(c.get, f"/queues/{q}/messages?wait=20")
        time.sleep(0.5)

    def gets(self, body):
        r = self.answer.result(30)
        assert r.status == 200 and [m["body"] for m in r.json] == [body], r
        assert time.monotonic() - self.began < 10, "it waited for its end"
        return r.json[0]["receipt_handle"]


def send(c, q, body, **more):
    return c.made(f"/queues/{q}/messages", {"body": body, **more})


def test_a_message_that_is_sent_delayed_hidden_or_given_back(pair):
    a, b = pair
    q = a.made("/queues", {"name": "q", "visibility_timeout": 60})["id"]
    w = Wait(b, q)
    send(a, q, "sent")
    handle = w.gets("sent")
    w = Wait(b, q)
    assert a.patch(f"/queues/{q}/messages/{handle}", {"visibility_timeout": 2}).status == 200
    handle = w.gets("sent")
    w = Wait(b, q)
    assert a.patch(f"/queues/{q}/messages/{handle}", {"visibility_timeout": 0}).status == 200
    w.gets("sent")
    w = Wait(b, q)
    send(a, q, "late", delay_seconds=2)
    w.gets("late")
    send(a, q, "briefly")
    assert len(a.get(f"/queues/{q}/messages?visibility_timeout=2").json) == 1
    Wait(b, q).gets("briefly")


def test_the_next_of_a_group_and_a_dead_letter(pair):
    a, b = pair
    dead = a.made("/queues", {"name": "dead", "fifo": True})["id"]
    q = a.made("/queues", {"name": "q", "fifo": True, "visibility_timeout": 1, "max_receives": 1, "dead_letter_queue_id": dead})["id"]
    send(a, q, "1", group_id="g")
    send(a, q, "2", group_id="g")
    handle = a.get(f"/queues/{q}/messages?visibility_timeout=60").json[0]["receipt_handle"]
    w = Wait(b, q)
    assert a.delete(f"/queues/{q}/messages/{handle}").status == 200
    w.gets("2")
    time.sleep(1.2)
    w = Wait(b, dead)
    assert a.get(f"/queues/{q}/messages").json == []
    w.gets("2")


def test_what_is_sent_after_a_purge(pair):
    a, b = pair
    q = a.made("/queues", {"name": "q"})["id"]
    w = Wait(b, q)
    assert a.post(f"/queues/{q}/purge").status == 200
    send(a, q, "after")
    w.gets("after")
