# SPDX-License-Identifier: Apache-2.0
"""Names of a VPC: who asks in an instance is answered while agent, api, edge or supervisor die."""
import os
import pathlib
import pwd
import signal
import time

import cloud as clouds
import pytest

from test_instances import c, delete, images, launch, run, settle  # noqa: F401  (fixtures)

# Asks again and again: a line "ok|FAIL milliseconds-since-1970" for each.
ASKER = ["sh", "-c", "trap 'exit 0' TERM; while :; do if getent ahostsv4 web >/dev/null; then r=ok; else r=FAIL; fi; echo $r $(date +%s%3N); done >/asked"]

REST = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


class Asked:
    def __init__(self, c, i):
        self.c, self.i = c, i

    def lines(self):
        text = run(self.c, self.i, "cat", "/asked")
        return [(a, int(b)) for a, b in (x.split() for x in text.splitlines() if len(x.split()) == 2)]

    def look(self, since):
        """What was asked since: how many were answered, how many not, the longest pause in ms."""
        got = [x for x in self.lines() if x[1] >= since - 50]
        times = [t for a, t in got if a == "ok"]
        return len(times), len(got) - len(times), max((b - a for a, b in zip(times, times[1:])), default=99999)


def now_ms():
    return int(time.time() * 1000)


@pytest.fixture
def asked(c):
    v = c.made("/vpcs", {"name": "asked"})["id"]
    launch(c, "busybox", name="web", vpc_id=v, cmd=REST)
    a = Asked(c, launch(c, name="asker", vpc_id=v, cmd=ASKER)["id"])
    assert clouds.until(lambda: len([x for x in a.lines() if x[0] == "ok"]) > 5, 20)
    a.vpc = v
    return a


def sockets(pid):
    n = 0
    for f in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            n += "socket" in os.readlink(f)
        except OSError:  # closed meanwhile
            pass
    return n


def back(cloud, c):
    cloud.wait_ready()
    assert clouds.until(lambda: c.get("/health/ready").status == 200, 15), c.get("/health/ready")


@pytest.mark.parametrize("role", ["agent", "api"])
def test_no_question_fails_while_a_role_is_killed(cloud, c, asked, role):
    since = now_ms()
    for _ in range(3):
        cloud.kill_role(role)
        time.sleep(0.7)
    back(cloud, c)
    answered, failed, pause = asked.look(since)
    assert answered > 20 and failed == 0 and pause < 1000, (answered, failed, pause)


def test_a_killed_edge_pauses_names_for_a_moment(cloud, c, asked):
    since, have = now_ms(), {r: sockets(cloud.role(r)) for r in ("edge", "agent")}
    for role in ("edge", "agent", "edge"):  # each of the two has what the other gave it
        cloud.kill_role(role)
        back(cloud, c)
        assert clouds.until(lambda: all(sockets(cloud.role(r)) >= n for r, n in have.items()), 10), have
    time.sleep(0.5)
    answered, failed, pause = asked.look(since)
    assert answered > 20 and failed == 0 and pause < 1500, (answered, failed, pause)


def test_an_edge_that_starts_while_the_api_is_away_knows_what_it_knew(cloud, c, asked):
    api, since = cloud.role("api"), now_ms()
    os.kill(api, signal.SIGSTOP)
    try:
        cloud.kill_role("edge")
        time.sleep(2)
    finally:
        os.kill(api, signal.SIGCONT)
    back(cloud, c)
    answered, failed, pause = asked.look(since)
    assert answered > 20 and failed == 0 and pause < 1500, (answered, failed, pause)


def test_names_are_back_with_the_supervisor(cloud, c, asked):
    cloud.kill()
    cloud.start()
    since = now_ms()
    back(cloud, c)
    # What was asked when all of it died is lost: the C library asks again after five seconds.
    assert clouds.until(lambda: asked.look(since)[0] > 5, 10)
    # What comes after is known as before.
    v = asked.vpc
    ip = launch(c, "busybox", name="late", vpc_id=v, cmd=REST)["private_ip"]
    assert run(c, asked.i, "getent", "ahostsv4", "late").split()[0] == ip


def test_a_name_answers_as_soon_as_its_instance_runs_and_not_after_its_end(c, asked):
    for n in range(3):
        i = launch(c, "busybox", name=f"n{n}", vpc_id=asked.vpc, cmd=REST)
        assert run(c, asked.i, "getent", "ahostsv4", f"n{n}").split()[0] == i["private_ip"]
        assert c.patch(f"/instances/{i['id']}", {"name": f"m{n}"}).status == 200
        assert clouds.until(lambda: c.post(f"/instances/{asked.i}/exec", {"cmd": ["getent", "ahostsv4", f"m{n}"]}).json["stdout"], 3)  # noqa: B023
        run(c, asked.i, "getent", "ahostsv4", f"n{n}", status=2)
        assert c.delete(f"/instances/{i['id']}").status == 200
        assert clouds.until(lambda: c.post(f"/instances/{asked.i}/exec", {"cmd": ["getent", "ahostsv4", f"m{n}"]}).json["exit_code"] == 2, 3)  # noqa: B023


def test_the_edge_lets_go_of_a_network_with_its_last_instance(cloud, c, asked):
    edge = cloud.role("edge")
    before = sockets(edge)
    i = launch(c, "busybox", name="alone", vpc_id=c.made("/vpcs", {"name": "short"})["id"], cmd=REST)["id"]
    assert sockets(edge) == before + 2
    delete(c, i)
    assert clouds.until(lambda: sockets(edge) == before, 10), sockets(edge)


def test_the_edge_has_no_rights(cloud, c):
    edge = cloud.role("edge")
    status = dict(x.split(":", 1) for x in clouds.read_text(f"/proc/{edge}/status").splitlines() if ":" in x)
    uid = str(pwd.getpwnam("brume-edge").pw_uid)
    assert set(status["Uid"].split()) == {uid} and not status["Groups"].strip()
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    files = [os.readlink(f) for f in pathlib.Path(f"/proc/{edge}/fd").iterdir()]
    assert not [f for f in files if "store.db" in f or "master.key" in f], files
    kept = cloud.state / "edge"
    assert kept.stat().st_mode & 0o777 == 0o700 and (kept / "feed").stat().st_mode & 0o777 == 0o600
    # It is looked after as the other roles are.
    assert c.get("/health/ready").json["checks"]["edge"] == "CONNECTED"
    said = clouds.lines_of([str(clouds.BRUME), "doctor", "--state-dir", str(cloud.state), "--run-dir", str(cloud.run),
                            "--listen", f"127.0.0.1:{cloud.port}"])
    assert any(x.startswith("ok ") and " edge " in x for x in said), said


def test_hangup_and_a_clean_stop_reach_the_edge(cloud, c):
    edge = cloud.role("edge")
    before = len([x for x in cloud.log_find('"reloaded"') if '"edge"' in x])
    os.kill(cloud.process.pid, signal.SIGHUP)
    assert clouds.until(lambda: len([x for x in cloud.log_find('"reloaded"') if '"edge"' in x]) > before, 5)
    assert cloud.role("edge") == edge
    assert cloud.stop() == 0
    assert not cloud.alive(edge)
    cloud.start()
    back(cloud, c)
