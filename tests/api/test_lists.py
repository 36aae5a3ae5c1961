# SPDX-License-Identifier: Apache-2.0
"""Pages, filters, orders."""
import base64
import time

import pytest


@pytest.fixture
def many(me):
    for i in range(25):
        me.made("/queues", {"name": f"n{i:02}", "fifo": i % 5 == 0})
    return me


def walk(c, path, limit):
    seen, cursor = [], None
    while True:
        page = c.get(f"{path}{'&' if '?' in path else '?'}limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert page.status == 200, page
        seen += [q["name"] for q in page.json["data"]]
        assert len(page.json["data"]) <= limit
        assert page.json["has_more"] == (page.json["next_cursor"] is not None)
        assert ('rel="next"' in page.headers.get("Link", "")) == page.json["has_more"]
        cursor = page.json["next_cursor"]
        if not cursor:
            return seen


@pytest.mark.parametrize("limit", [1, 7, 24, 25, 26, 100])
def test_pages_give_each_row_once_newest_first(many, limit):
    assert walk(many, "/v1/queues", limit) == [f"n{i:02}" for i in range(24, -1, -1)]


def test_the_default_page_has_twenty_and_the_classic_list_all(many):
    assert len(many.get("/v1/queues").json["data"]) == 20
    assert len(many.get("/queues").json) == 25


def test_a_cursor_holds_while_rows_come_and_go(many):
    first = many.get("/v1/queues?limit=10").json
    many.made("/queues", {"name": "new"})
    for gone in ("n20", "n13", "n15"):
        assert many.delete(f"/queues/{gone}").status == 200
    rest = walk_from(many, first["next_cursor"])
    assert rest == [f"n{i:02}" for i in range(14, -1, -1) if i not in (13,)]


def test_a_cursor_holds_when_its_own_row_is_gone(many):
    first = many.get("/v1/queues?limit=10").json
    assert many.delete(f"/queues/{first['data'][-1]['name']}").status == 200
    assert walk_from(many, first["next_cursor"]) == [f"n{i:02}" for i in range(14, -1, -1)]


def walk_from(c, cursor, more=""):
    out = []
    while cursor:
        p = c.get(f"/v1/queues?limit=10&cursor={cursor}{more}").json
        out += [q["name"] for q in p["data"]]
        cursor = p["next_cursor"]
    return out


def test_a_link_can_be_followed(many):
    r = many.get("/v1/queues?limit=20&sort=name")
    url = r.headers["Link"].split("<")[1].split(">")[0]
    path = url if url.startswith("/") else "/" + url.split("/", 3)[3]
    assert [q["name"] for q in many.get(path).json["data"]] == [f"n{i:02}" for i in range(20, 25)]


def flip(cursor, at):
    swap = "A" if cursor[at] != "A" else "B"
    return cursor[:at] + swap + cursor[at + 1:]


def test_a_tampered_cursor_is_400(many, api):
    cursor = many.get("/v1/queues?limit=5").json["next_cursor"]
    bad = [flip(cursor, i) for i in range(0, len(cursor) - 1, 7)] + [cursor[:-4], cursor + "AAAA", "x", "", "%00",
                                                                  base64.b64encode(b'{"id":1}').decode().replace("=", ""), "A" * 5000]
    for c in bad:
        r = many.get(f"/v1/queues?limit=5&cursor={c}")
        assert r.status == 400 and "cursor" in r.body.decode(), (c, r)
    other = api.user()
    r = other.get(f"/v1/queues?limit=5&cursor={cursor}")
    assert r.status == 400 or r.json["data"] == [], "another tenant's cursor shows nothing"
    assert many.get(f"/v1/vpcs?limit=5&cursor={cursor}").status == 400
    assert many.get(f"/v1/queues?limit=5&sort=name&cursor={cursor}").status == 400


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1.5", "limit=99999999999999999999", "offset=-1",
                                   "sort=colour", "sort=", "sort=box_id", "status=purple", "fifo=maybe", "created_after=yesterday",
                                   "limit=5&limit=6", "box_id=x", "unknown=1"])
def test_bad_parameters_are_400_and_named(me, query):
    r = me.get(f"/v1/queues?{query}")
    assert r.status == 400 and query.split("=")[0] in r.body.decode(), r


def test_limits_of_both_surfaces(me):
    assert me.get("/v1/queues?limit=100").status == 200
    assert me.get("/queues?limit=1000").status == 200 and me.get("/queues?limit=1001").status == 400
    assert me.get("/audit?limit=500").status == 200 and me.get("/audit?limit=501").status == 400


def test_filters_and_sorting(many):
    names = lambda q: [x["name"] for x in many.get(f"/v1/queues?limit=100&{q}").json["data"]]
    assert names("fifo=true") == ["n20", "n15", "n10", "n05", "n00"]
    assert names("name=n03") == ["n03"] and sorted(names("name=n03,n04")) == ["n03", "n04"]
    assert names("name=missing") == [] and names("status=ACTIVE") == [f"n{i:02}" for i in range(24, -1, -1)]
    assert names("sort=name") == [f"n{i:02}" for i in range(25)] and names("sort=-name")[0] == "n24"
    assert names("sort=created_at")[0] == "n00" and names("sort=-created_at")[0] == "n24"
    assert names("sort=updated_at")[0] == "n00"
    assert names("fifo=true&sort=name&name=n05,n10,n11") == ["n05", "n10"]
    assert walk(many, "/v1/queues?sort=name", 4) == [f"n{i:02}" for i in range(25)]
    assert walk(many, "/v1/queues?sort=-name&fifo=false", 3) == [f"n{i:02}" for i in range(24, -1, -1) if i % 5]


def test_created_after_and_before(me):
    me.made("/queues", {"name": "old"})
    time.sleep(0.05)
    made = me.made("/queues", {"name": "mid"})["created_at"]
    time.sleep(0.05)
    me.made("/queues", {"name": "new"})
    names = lambda q: [x["name"] for x in me.get(f"/queues?{q}").json]
    assert "new" in names(f"created_after={made}") and "old" not in names(f"created_after={made}")
    assert "old" in names(f"created_before={made}") and "new" not in names(f"created_before={made}")
    assert names("created_after=2020-01-01") == ["new", "mid", "old"] and names("created_before=2020-01-01") == []
    assert names("created_after=2020-01-01T00:00:00%2B02:00") == ["new", "mid", "old"]


def test_an_offset_is_taken(many):
    page = many.get("/v1/queues?limit=5&offset=10").json
    assert [q["name"] for q in page["data"]] == [f"n{i:02}" for i in range(14, 9, -1)]
    assert many.get("/v1/queues?offset=1000").json["data"] == []


def test_the_audit_and_the_events_page_too(many):
    for path in ("/v1/audit", "/v1/events"):
        ids, cursor = [], ""
        for _ in range(100):
            p = many.get(f"{path}?limit=7{cursor}").json
            ids += [x["id"] for x in p["data"]]
            if not p["next_cursor"]:
                break
            cursor = f"&cursor={p['next_cursor']}"
        assert len(ids) == len(set(ids)) and len(ids) >= 25, (path, len(ids))
        assert many.get(f"{path}?cursor=nonsense").status == 400


def test_names_sort_by_bytes_on_every_store(me):
    for n in ("b", "B", "a", "Z", "z", "a-1", "a_1"):
        me.made("/queues", {"name": n})
    got = [q["name"] for q in me.get("/queues?sort=name").json]
    assert got == sorted(got)
