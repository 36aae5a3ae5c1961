# SPDX-License-Identifier: Apache-2.0
"""The audit proves itself: over kills, by several processes, and against who writes into the store."""
import sqlite3
import threading

import cloud as clouds


def proof(c, records):
    """Of all that was written, once all of it is in the chain."""
    assert clouds.until(lambda: (lambda p: p["pending"] == 0 and p["records"] >= records)(c.get("/audit/verify").json), 20), c.get("/audit/verify")
    return c.get("/audit/verify").json


def test_both_surfaces_prove_what_was_written(me):
    for i in range(5):
        me.made("/queues", {"name": f"proved-{i}"})
    p = proof(me, 5)
    entries = me.get("/audit?limit=500").json
    assert p["valid"] and p["records"] == len(entries) and p["broken"] is None and p["anchor"] is None
    assert (p["first"], p["last"]) == (entries[-1]["id"], entries[0]["id"])
    assert (p["from"], p["to"]) == (entries[-1]["timestamp"], entries[0]["timestamp"])
    v1 = me.get("/v1/audit/verify").json
    assert v1["head"] == p["head"] and v1["last"].startswith("aud_")


def test_kills_leave_no_gap_and_who_writes_into_the_store_is_found_out(make_cloud):
    c = make_cloud().start()
    u = c.user()
    for round_ in range(3):
        for i in range(20):
            u.made("/queues", {"name": f"q-{round_}-{i}"})
        c.kill_role("api")
        c.wait_ready()
    p = proof(u, 60)
    assert p["valid"] and p["records"] == len(u.get("/audit?limit=500").json)
    victim = u.get("/audit?limit=500").json[30]["id"]
    assert c.stop() == 0
    db = sqlite3.connect(next(c.top.rglob("store.db")))
    assert db.execute("UPDATE journal SET actor = 'somebody@else.example' WHERE id = ?", (victim,)).rowcount == 1
    db.commit()
    db.close()
    c.start()
    p = u.get("/audit/verify").json
    assert (p["valid"], p["reason"], p["broken"]) == (False, "changed", victim)


def test_two_processes_over_one_postgres_make_one_chain(two_apis):
    with two_apis() as (a, b):
        u = a.user()
        both = [u, b.admin.as_key(u.key)]

        def write(c, who):
            for i in range(40):
                c.post("/queues", {"name": f"q-{who}-{i}"})
        threads = [threading.Thread(target=write, args=(c, i)) for i, c in enumerate(both)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        for c in both:
            p = proof(c, 80)
            assert p["valid"] and p["records"] == len(u.get("/audit?limit=500").json)
        b.kill_role("api")
        u.made("/auth/keys", {"name": "after"})
        assert proof(u, 81)["valid"]
        b.wait_ready()
