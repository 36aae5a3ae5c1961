# SPDX-License-Identifier: Apache-2.0
"""Fixtures that start clouds: see cloud.py.  Each asserts at its end that the cloud left nothing behind."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import cloud as clouds  # noqa: E402


def end(c):
    """Deletes what runs, stops it as a user would, and looks."""
    try:
        if c.process and c.process.poll() is None and c.settings.get("compute.fake_drivers") != "true" and c.key:
            for i in c.admin.get("/instances").json:
                c.admin.delete(f"/instances/{i['id']}")
            assert clouds.until(lambda: not c.admin.get("/instances").json, 60), c.admin.get("/instances")
            # What is called terminated is being removed: a stop now would leave that to the next start.
            clouds.until(lambda: not [x for x in c.leftovers() if "shim run" in x or x.startswith(("netns", "mount"))], 30, 0.2)
        status = c.stop()
        assert status == 0, f"brume ended with {status}: {c.log_tail()}"
        clouds.until(lambda: not c.leftovers(), 3, 0.1)
        assert c.leftovers() == []
        assert c.crashes() == []
    finally:
        c.remove()


@pytest.fixture(scope="session")
def postgres():
    p = clouds.Postgres()
    yield p
    p.stop()


@contextlib.contextmanager
def running(settings, name):
    """A cloud that has started, and leaves nothing behind."""
    c = clouds.Cloud(settings, name=name)
    try:
        c.start()
    except BaseException:
        c.remove()
        raise
    yield c
    end(c)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def api(request):
    """The API over simulated drivers, on either store."""
    settings = {"compute.fake_drivers": "true"}
    if request.param == "postgres":
        settings["store.url"] = request.getfixturevalue("postgres").url
    with running(settings, "api") as c:
        c.store = request.param
        yield c


@pytest.fixture(scope="session")
def server():
    """The API over simulated drivers, for other people's clients."""
    with running({"compute.fake_drivers": "true"}, "clients") as c:
        yield c


@pytest.fixture
def two_apis(postgres):
    """Makes two replicas of one cloud: one database, one master key.  with two_apis({"key": "value"}) as (a, b)"""
    @contextlib.contextmanager
    def both(settings=None):
        name = f"two{uuid.uuid4().hex[:8]}"
        subprocess.run(["psql", "-q", postgres.url, "-c", f"CREATE DATABASE {name}"], check=True)
        settings = {"compute.fake_drivers": "true", "store.url": postgres.url.rsplit("/", 1)[0] + "/" + name, **(settings or {})}
        a, b = clouds.Cloud(settings, name="one"), clouds.Cloud(settings, name="two")
        try:
            a.start()
            b.state.mkdir(mode=0o750)
            for p in (b.state, b.state / "master.key"):
                if p != b.state:
                    shutil.copy(a.state / "master.key", p)
                st = os.stat(a.state / p.relative_to(b.state))
                os.chown(p, st.st_uid, st.st_gid)
                p.chmod(st.st_mode & 0o7777)
            b.start()
            yield a, b
            assert a.stop() == 0 and b.stop() == 0
        finally:
            a.remove()
            b.remove()
    return both


@pytest.fixture
def make_cloud():
    """Makes clouds of one's own, not started: make_cloud({"key": "value"}).  The API alone unless told otherwise."""
    made = []

    def make(settings=None, real=False):
        c = clouds.Cloud({**({} if real else {"compute.fake_drivers": "true"}), **(settings or {})})
        made.append(c)
        return c
    yield make
    for c in made:
        if c.process and c.process.poll() is None:
            end(c)
        else:
            c.remove()


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


@pytest.fixture(scope="session")
def cloud():
    """The whole cloud, with real containers."""
    subprocess.run([str(clouds.ROOT / "tools/cgroups")], check=True)
    with running(None, "e2e") as c:
        yield c


@pytest.fixture
def me(api):
    """Somebody new, owner of an empty tenant."""
    return api.user()
