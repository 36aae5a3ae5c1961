# SPDX-License-Identifier: Apache-2.0
"""Queues by HTTP: who waits is woken by whatever makes a message receivable, in one process and by another over one database; and what was
reported of other queues."""
import concurrent.futures
import socket
import threading
import time

import pytest


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


# ---- what was reported of other queues


def test_of_two_who_wait_one_gets_it_and_the_other_waits_on(pair):
    """beanstalkd 78 and 104: the other one was forgotten."""
    a, b = pair
    q = a.made("/queues", {"name": "q"})["id"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        both = [pool.submit(c.get, f"/queues/{q}/messages?wait=6") for c in (a, b)]
        time.sleep(0.5)
        send(a, q, "one")
        got = sorted((len(f.result().json) for f in both), reverse=True)
    assert got == [1, 0] and time.monotonic() - began >= 5.9


def test_who_hangs_up_takes_nothing_along(pair):
    """A receiver that left while it waited got the next message, which then was hidden for its whole timeout."""
    a, b = pair
    q = a.made("/queues", {"name": "q", "visibility_timeout": 3600})["id"]
    for n in range(5):
        s = socket.create_connection(("127.0.0.1", b.port))
        s.sendall(f"GET /queues/{q}/messages?wait=20 HTTP/1.1\r\nHost: x\r\nX-API-Key: {b.key}\r\n\r\n".encode())
        time.sleep(0.2)
        s.close()
        time.sleep(0.2)
        send(a, q, f"m{n}")
        got = a.get(f"/queues/{q}/messages?wait=5").json
        assert [(m["body"], m["received_count"]) for m in got] == [(f"m{n}", 1)]


def test_a_group_goes_on_after_its_last_message_was_deleted(me):
    """localstack 10107 and 2710: the next message of a group that had been emptied never came."""
    q = me.made("/queues", {"name": "q", "fifo": True})["id"]
    for n in range(3):
        send(me, q, str(n), group_id="1")
        m, = me.get(f"/queues/{q}/messages?count=10").json
        assert m["body"] == str(n)
        assert me.delete(f"/queues/{q}/messages/{m['receipt_handle']}").status == 200


def test_what_is_given_back_is_the_first_of_its_group_again(me):
    q = me.made("/queues", {"name": "q", "fifo": True})["id"]
    send(me, q, "1", group_id="g")
    send(me, q, "2", group_id="g")
    for n in range(3):
        m, = me.get(f"/queues/{q}/messages?count=10").json
        assert (m["body"], m["received_count"]) == ("1", n + 1)
        assert me.patch(f"/queues/{q}/messages/{m['receipt_handle']}", {"visibility_timeout": 0}).status == 200


def test_a_blocked_group_does_not_end_a_wait(me):
    q = me.made("/queues", {"name": "q", "fifo": True})["id"]
    send(me, q, "1", group_id="g")
    assert len(me.get(f"/queues/{q}/messages").json) == 1
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waits = pool.submit(me.get, f"/queues/{q}/messages?wait=3")
        time.sleep(0.5)
        send(me, q, "2", group_id="g")
        assert waits.result().json == [] and time.monotonic() - began >= 2.9


def test_a_timeout_that_was_made_longer_holds(me):
    """localstack 13222: after it was made longer the handle was refused at the first timeout's end."""
    for fifo in (False, True):
        q = me.made("/queues", {"name": f"q{fifo}", "fifo": fifo, "visibility_timeout": 1})["id"]
        send(me, q, "x", **({"group_id": "g"} if fifo else {}))
        path = f"/queues/{q}/messages/{me.get(f'/queues/{q}/messages').json[0]['receipt_handle']}"
        assert me.patch(path, {"visibility_timeout": 5}).status == 200
        time.sleep(1.5)
        assert me.get(f"/queues/{q}/messages").json == []
        assert me.delete(path).status == 200


def test_two_queues_that_are_each_others_dead_letters(me):
    """rabbitmq 8799: a cycle of dead letters never came to rest."""
    a = me.made("/queues", {"name": "a", "visibility_timeout": 0})["id"]
    b = me.made("/queues", {"name": "b", "visibility_timeout": 0, "max_receives": 1, "dead_letter_queue_id": a})["id"]
    assert me.patch(f"/queues/{a}", {"max_receives": 1, "dead_letter_queue_id": b}).status == 200
    made = me.made(f"/queues/{a}/messages", {"body": "x"})["id"]
    for n in range(6):
        here, there = (a, b) if n % 2 == 0 else (b, a)
        m, = me.get(f"/queues/{here}/messages?count=10").json
        assert (m["id"], m["received_count"]) == (made, 1)
        assert me.get(f"/queues/{here}/messages?count=10").json == []
        assert [me.get(f"/queues/{x}").json["depth"] for x in (here, there)] == [0, 1]


@pytest.mark.parametrize("body", ["a\rb\r\nc\td", "\ufffe\uffff\u2028\u0085", "\U0001f600 \u00c3 \ud7ff", " ",
                                  "<a>&amp;\"'</a>", "\\u0041", "%00%ff+"])
def test_every_character_comes_back_as_it_was_sent(me, body):
    """elasticmq 1, moto 4729, rusoto 2001: some were dropped or could not be read."""
    q = me.made("/queues", {"name": "q"})["id"]
    assert me.made(f"/queues/{q}/messages", {"body": body, "attributes": {"k": body}})["body"] == body
    m, = me.get(f"/queues/{q}/messages").json
    assert (m["body"], m["attributes"]) == (body, {"k": body})


@pytest.mark.parametrize("raw", [rb'{"body":"a\u0000b"}', rb'{"body":"\u0001"}', rb'{"body":"x","attributes":{"k":"\u000b"}}', rb'{"body":"\ud800"}', b'{"body":"\xff\xfe"}'])
def test_what_is_no_text_is_refused(me, raw):
    q = me.made("/queues", {"name": "q"})["id"]
    r = me.req("POST", f"/queues/{q}/messages", raw=raw, headers={"Content-Type": "application/json"})
    assert r.status == 400, r
    assert me.get(f"/queues/{q}").json["depth"] == 0


def test_a_handle_is_of_its_queue_and_of_what_was_there(me):
    """A handle deleted another queue's message, or one that came after a purge."""
    a, b = (me.made("/queues", {"name": n})["id"] for n in "ab")
    for q in (a, b):
        send(me, q, "x")
    handle = me.get(f"/queues/{a}/messages").json[0]["receipt_handle"]
    assert me.delete(f"/queues/{b}/messages/{handle}").status == 404
    assert me.patch(f"/queues/{b}/messages/{handle}", {"visibility_timeout": 9}).status == 404
    assert me.post(f"/queues/{a}/purge").status == 200
    send(me, a, "new")
    assert me.delete(f"/queues/{a}/messages/{handle}").status == 404
    assert me.get(f"/queues/{a}").json["depth"] == 1
    handle = me.get(f"/queues/{a}/messages").json[0]["receipt_handle"]
    r = me.post(f"/queues/{a}/messages/delete", {"receipt_handles": [handle, handle, "nonsense", "", "1-", "99999999999999999999-1"]})
    assert [x["deleted"] for x in r.json["results"]] == [True, False, False, False, False, False], r


def test_what_a_request_says_beats_what_the_queue_says_also_if_it_is_nought(me):
    """floci 413: the queue's timeout was not looked at; others took an explicit 0 for nothing given."""
    q = me.made("/queues", {"name": "q", "delay_seconds": 60, "visibility_timeout": 60})["id"]
    send(me, q, "x", delay_seconds=0)
    assert len(me.get(f"/queues/{q}/messages?visibility_timeout=0").json) == 1
    assert len(me.get(f"/queues/{q}/messages").json) == 1
    assert me.get(f"/queues/{q}/messages").json == []


def test_a_queue_that_is_deleted_lets_go_who_waits(pair):
    a, b = pair
    q = a.made("/queues", {"name": "q"})["id"]
    w = Wait(b, q)
    assert a.delete(f"/queues/{q}").status == 200
    assert w.answer.result(30).status == 404
    assert time.monotonic() - w.began < 10


def test_many_receivers_at_once_share_what_is_there(pair):
    """pgmq and others handed a message to two who asked at the same time."""
    q = pair[0].made("/queues", {"name": "q", "visibility_timeout": 3600})["id"]
    sent = [m["id"] for n in range(40) for m in pair[0].made(f"/queues/{q}/messages/batch", {"messages": [{"body": str(n)}] * 10})]

    def take(c):
        got = []
        while more := c.get(f"/queues/{q}/messages?count=10").json:
            got += [m["id"] for m in more]
        return got
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        got = [x for f in [pool.submit(take, pair[n % 2]) for n in range(8)] for x in f.result()]
    got += take(pair[0])  # what a neighbour held just then
    assert sorted(got) == sorted(sent)


def test_groups_keep_their_order_with_many_receivers_that_give_back(pair):
    a, _ = pair
    q = a.made("/queues", {"name": "q", "fifo": True, "visibility_timeout": 600})["id"]
    for n in range(15):
        a.made(f"/queues/{q}/messages/batch", {"messages": [{"body": str(n), "group_id": f"g{g}"} for g in range(4)]})
    done, lock = {f"g{g}": [] for g in range(4)}, threading.Lock()
    over = time.monotonic() + 60

    def work(c, k):
        while sum(len(x) for x in done.values()) < 60 and time.monotonic() < over:
            for m in c.get(f"/queues/{q}/messages?count=2&wait=1").json:
                path = f"/queues/{q}/messages/{m['receipt_handle']}"
                if (m["received_count"] + k) % 3 == 0:
                    assert c.patch(path, {"visibility_timeout": 0}).status == 200
                    continue
                with lock:
                    done[m["group_id"]].append(int(m["body"]))
                assert c.delete(path).status == 200
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        [f.result() for f in [pool.submit(work, pair[k % 2], k) for k in range(6)]]
    assert done == {g: list(range(15)) for g in done}
