# SPDX-License-Identifier: Apache-2.0
"""Rate limits and quotas, by their numbers."""
import re
import threading
import time

import cloud as clouds
import pytest
from conftest import running


@pytest.fixture(scope="module")
def small(request):
    with running({"compute.fake_drivers": "true", "platform.default_plan": "free"}, "free") as c:
        yield c


def test_every_authenticated_answer_tells_the_limit(api, me):
    for r in (me.get("/queues"), me.get("/queues/nonsense"), me.post("/queues", {}), me.get("/metrics")):
        h = r.headers
        assert h["X-RateLimit-Limit"] == "10000" and 0 < int(h["X-RateLimit-Remaining"]) < 10000
        assert 0 < int(h["X-RateLimit-Reset"]) - time.time() <= 61
        assert re.match(r'^"[a-z-]+";q=10000;w=60$', h["RateLimit-Policy"]), h
        assert re.match(r'^"[a-z-]+";r=\d+;t=\d+$', h["RateLimit"]), h
    assert "X-RateLimit-Limit" not in api.nobody.get("/queues").headers
    assert "X-RateLimit-Limit" not in api.nobody.get("/health/live").headers


def test_the_free_plan_lets_exactly_sixty_through(small):
    u = small.user()
    answers = [u.get("/queues") for _ in range(70)]
    assert [a.status for a in answers] == [200] * 60 + [429] * 10
    assert [int(a.headers["X-RateLimit-Remaining"]) for a in answers[:60]] == list(range(59, -1, -1))
    r = answers[-1]
    assert r.code == "rate_limited"
    reset = int(r.headers["X-RateLimit-Reset"])
    wait = int(r.headers["Retry-After"])
    assert 1 <= wait <= 61 and time.time() + wait + 1 >= reset
    other = u.as_key(u.key)
    assert other.get("/queues").status == 429


def test_the_limit_is_of_the_credential(small):
    u = small.user()
    second = u.as_key(u.made("/auth/keys", {"name": "second"})["key"])
    while u.get("/queues").status == 200:
        pass
    assert second.get("/queues").status == 200


def test_a_kill_of_the_api_forgives_a_second_at_most(small):
    u = small.user()
    while u.get("/queues").status == 200:
        pass
    time.sleep(1.5)
    small.kill_role("api")
    small.wait_ready()
    assert u.get("/queues").status == 429


def test_the_auth_routes_take_five_a_minute_of_an_address(api):
    c = api.nobody.as_ip("10.77.0.1")
    answers = [c.post("/auth/login", {"email": "nobody@example.com", "password": "wrong password"}) for _ in range(7)]
    assert [a.status for a in answers] == [401] * 5 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1 and answers[-1].code == "rate_limited"
    assert c.post("/auth/forgot-password", {"email": "nobody@example.com"}).status == 200, "each route has its own count"
    assert api.nobody.as_ip("10.77.0.2").post("/auth/login", {"email": "n@example.com", "password": "wrong password"}).status == 401


def test_requests_that_fail_count_too(api):
    c = api.nobody.as_ip("10.77.0.3")
    assert [c.post("/auth/register", {}).status for _ in range(6)] == [400] * 5 + [429]


def test_a_quota_is_403_and_names_itself(small):
    u = small.user()
    for i in range(5):
        u.made("/queues", {"name": f"q{i}"})
    r = u.post("/queues", {"name": "q5"})
    assert (r.status, r.code) == (403, "quota_exceeded") and "queues" in r.error["message"] and "5" in r.error["message"]
    u.delete("/queues/q0")
    u.made("/queues", {"name": "q5"})


@pytest.fixture
def two(two_apis):
    with two_apis({"platform.default_plan": "free"}) as apis:
        yield apis


def test_replicas_share_a_credentials_window(two):
    a, b = two
    u = a.user()
    answers = []

    def ask(c):
        mine = c.admin.as_key(u.key)
        for _ in range(80):
            answers.append(mine.get("/queues"))
    threads = [threading.Thread(target=ask, args=(c,)) for c in (a, b)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    passed = [r for r in answers if r.status == 200]
    assert {r.status for r in answers} == {200, 429} and len(passed) == 60, len(passed)
    assert all(r.headers["X-RateLimit-Limit"] == "60" and 0 <= int(r.headers["X-RateLimit-Remaining"]) < 60 for r in answers)
    assert len({int(r.headers["X-RateLimit-Reset"]) // 3 for r in answers}) <= 2, "one window, by the database's clock"
    # A replica that is killed gives nobody more.
    b.kill_role("api")
    b.wait_ready()
    assert b.admin.as_key(u.key).get("/queues").status == 429


def test_replicas_share_the_limit_of_an_address(two):
    nobody = [c.admin.as_key(None).as_ip("10.88.0.1") for c in two]
    answers = [nobody[i % 2].post("/auth/login", {"email": "nobody@example.com", "password": "wrong password"}).status for i in range(8)]
    assert answers == [401] * 5 + [429] * 3
