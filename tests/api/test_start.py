# SPDX-License-Identifier: Apache-2.0
"""Starting: what a first run leaves alone, where a program that runs from a clone keeps things, and what is said to who is not root."""
import hashlib
import http.client
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import cloud as clouds
import pytest
import yaml

NOBODY = pwd.getpwnam("nobody")
ROOT = clouds.ROOT


def id_of(folder):
    """Of a clone, in the names of its places."""
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:8]


CLONE_ID = id_of(ROOT)


def run(argv, as_nobody=False, **kw):
    who = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []} if as_nobody else {}
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=300, **who, **kw)


# ---- the client's profile

def first_run(cloud, text=None):
    """What a first run prints, and the client's file after it."""
    at = cloud.top / "home/.config/brume/config.yaml"
    if text is not None:
        at.parent.mkdir(parents=True)
        at.write_text(text)
    cloud.start()
    return cloud.out.read_text(), yaml.safe_load(at.read_text())


def test_a_first_run_makes_the_profile_local(make_cloud):
    c = make_cloud()
    said, file = first_run(c)
    assert file == {"current": "local", "profiles": {"local": {"url": f"http://127.0.0.1:{c.port}", "api_key": c.key}}}
    assert f'profile "local" of {c.top}/home/.config/brume/config.yaml' in said and "config use" not in said
    assert c.cli("queue", "list")[0] == 0


def test_a_first_run_touches_no_profile_that_is_there(make_cloud):
    c = make_cloud()
    mine = {"local": {"url": "http://127.0.0.1:1", "api_key": "mine", "tenant": "t"}, "local-2": {"url": "http://b"}, "work": {"url": "https://c"}}
    said, file = first_run(c, yaml.safe_dump({"current": "work", "profiles": mine}))
    assert file == {"current": "work", "profiles": {**mine, "local-3": {"url": f"http://127.0.0.1:{c.port}", "api_key": c.key}}}
    assert 'profile "local-3" of ' in said
    use = re.search(r"`\./brume (config use local-3)`", said)
    assert use, said
    assert c.cli("queue", "list")[0] != 0
    assert c.cli(*use[1].split())[0] == 0 and c.cli("queue", "list")[0] == 0


def test_a_first_run_sets_no_current_profile_where_there_are_some(make_cloud):
    c = make_cloud()
    _, file = first_run(c, "profiles:\n  work:\n    url: https://c\n")
    assert "current" not in file and set(file["profiles"]) == {"work", "local"}


def test_a_client_file_that_cannot_be_read_stays_as_it_is(make_cloud):
    c = make_cloud()
    at = c.top / "home/.config/brume/config.yaml"
    at.parent.mkdir(parents=True)
    at.write_text("profiles: [\n")
    c.start()
    assert at.read_text() == "profiles: [\n" and "export BRUME_API_KEY=" in c.out.read_text()


# ---- a clone's places

def plain_env(**more):
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **more}


def places(program, *flags, **env):
    text = run([program, "config", *flags], env=plain_env(**env)).stdout
    return {k: yaml.safe_load(text)["places"][k] for k in ("state_dir", "run_dir")}


def test_a_program_in_its_clone_has_the_clones_places(tmp_path):
    dev = {"state_dir": f"/var/lib/brume-dev/{CLONE_ID}", "run_dir": f"/run/brume-dev/{CLONE_ID}"}
    assert places(clouds.BRUME) == dev
    text = run([clouds.BRUME, "config"], env=plain_env()).stdout
    assert text.count("From: the clone that it runs from") == 2
    assert places(clouds.BRUME, BRUME_PLACES_STATE_DIR="/x") == {**dev, "state_dir": "/x"}
    file = tmp_path / "brume.yaml"
    file.write_text("places:\n  state_dir: /f\n")
    assert places(clouds.BRUME, "--config", file) == {**dev, "state_dir": "/f"}
    assert places(clouds.BRUME, "--config", file, BRUME_PLACES_STATE_DIR="/x") == {**dev, "state_dir": "/x"}
    assert places(clouds.BRUME, "--config", file, "--state-dir", "/y") == {**dev, "state_dir": "/y"}
    elsewhere = tmp_path / "brume"
    shutil.copy(clouds.BRUME, elsewhere)
    assert places(elsewhere) == {"state_dir": "/var/lib/brume", "run_dir": "/run/brume"}


def test_a_copy_of_a_clone_has_places_of_its_own(tmp_path):
    at = tmp_path / "copy" / os.path.relpath(clouds.BRUME.parent, ROOT)
    if ".." in at.parts:
        pytest.skip("the build folder is outside of the clone")
    at.mkdir(parents=True)
    for f in ("brume", ".brume-clone"):
        shutil.copy(clouds.BRUME.parent / f, at / f)
    here = id_of(tmp_path / "copy")
    assert places(at / "brume") == {"state_dir": f"/var/lib/brume-dev/{here}", "run_dir": f"/run/brume-dev/{here}"}
    (at / ".brume-clone").write_text("../../nowhere\n")
    here = id_of(at)
    assert places(at / "brume") == {"state_dir": f"/var/lib/brume-dev/{here}", "run_dir": f"/run/brume-dev/{here}"}


def test_doctor_in_a_clone_looks_at_the_clones_places():
    text = run([clouds.BRUME, "doctor", "--listen", f"127.0.0.1:{clouds.claim_port()}"], env=plain_env()).stdout
    assert f"/var/lib/brume-dev/{CLONE_ID}" in text and "/var/lib/brume " not in text, text


def test_doctor_finds_the_cloud_that_serves_from_the_clones_places(make_cloud):
    c = make_cloud()
    text = run([clouds.BRUME, "doctor", "--state-dir", c.state, "--run-dir", c.run, "--listen", f"127.0.0.1:{c.port}"], env=plain_env()).stdout
    assert f"{c.port} is free" in text
    c.start()
    text = run([clouds.BRUME, "doctor", "--state-dir", c.state, "--run-dir", c.run, "--listen", f"127.0.0.1:{c.port}"], env=plain_env()).stdout
    assert f"{c.port}: brume serves there" in text


def port_of(text):
    return re.search(r"^(\w+) +port +(.*)$", text, re.M).groups()


def test_doctor_does_not_take_another_server_for_brume(make_cloud):
    c = make_cloud()
    c.start()
    places = ["--state-dir", c.state, "--run-dir", c.run]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        def answer():
            with other.accept()[0] as s:
                s.recv(4096)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        threading.Thread(target=answer, daemon=True).start()
        grade, said = port_of(run([clouds.BRUME, "doctor", *places, "--listen", f"127.0.0.1:{port}"], env=plain_env()).stdout)
        assert grade == "FAIL" and f"port {port} is used by" in said
    grade, said = port_of(run([clouds.BRUME, "doctor", *places, "--listen", "192.0.2.77:8080", "--allow-plain"], env=plain_env()).stdout)
    assert grade == "FAIL" and "192.0.2.77" in said


def look(c, at):
    return port_of(run([clouds.BRUME, "doctor", "--state-dir", c.state, "--run-dir", c.run, "--listen", at], env=plain_env()).stdout)


def test_doctor_tells_another_brume_from_its_own(make_cloud):
    a, b = make_cloud(), make_cloud()
    a.start()
    assert look(a, f"127.0.0.1:{a.port}") == ("ok", f"127.0.0.1:{a.port}: brume serves there")
    grade, said = look(b, f"127.0.0.1:{a.port}")
    assert grade == "FAIL" and "another brume, brume (pid " in said
    b.start()
    assert look(b, f"127.0.0.1:{a.port}")[0] == "FAIL" and look(b, f"127.0.0.1:{b.port}")[0] == "ok"


def test_doctor_knows_two_brumes_by_their_addresses_at_one_port(make_cloud):
    a, b = make_cloud(), make_cloud()
    b.settings["server.listen"] = f"127.0.0.2:{a.port}"
    a.start()
    b.spawn()
    assert clouds.until(lambda: "serves at" in b.out.read_text(), 30), b.log_tail()
    assert look(b, f"127.0.0.2:{a.port}")[0] == "ok" and look(a, f"127.0.0.1:{a.port}")[0] == "ok"
    for mine, at in ((b, "127.0.0.1"), (a, "127.0.0.2")):
        grade, said = look(mine, f"{at}:{a.port}")
        assert grade == "FAIL" and "another brume, brume (pid " in said
    b.stop()


# ---- the first run

def test_nobody_is_served_before_the_first_user_is_there(make_cloud):
    """Else whoever waits at the listeners could register first, and nobody would operate the installation."""
    c = make_cloud({"identity.argon2_memory_kib": 262144, "identity.argon2_passes": 4})
    c.spawn()

    def answered():
        try:
            return clouds.Client(c.port).get("/health/live").status == 200
        except (OSError, http.client.HTTPException):
            return False
    assert clouds.until(answered, 60), c.log_tail()
    assert (c.run / "control.sock").exists()  # made after the first user
    assert clouds.until(c.ready, 30)
    assert re.search(r"^  key +\S+$", c.out.read_text(), re.M)


def test_doctor_finds_its_own_brume_at_a_unix_socket(make_cloud):
    c, at = make_cloud(), f"unix:/var/tmp/brume-doctor-{os.getpid()}.sock"
    c.settings["server.listen"] = at
    p = c.spawn()
    assert clouds.until(lambda: "serves at" in c.out.read_text(), 30), c.log_tail()
    got = look(c, at)
    p.terminate()
    assert p.wait(30) == 0
    assert got == ("ok", f"{at}: brume serves there")


# ---- who is not root

def test_doctor_leaves_to_root_what_only_root_can_see():
    top = readable()
    shutil.copy(clouds.BRUME, top / "brume")
    try:
        for f in ("cert.pem", "key.pem", "password"):
            (top / f).touch(0o600)
        text = run([top / "brume", "doctor", "--listen", f"127.0.0.1:{clouds.claim_port()}", "--server.tls_cert", top / "cert.pem",
                    "--server.tls_key", top / "key.pem"], as_nobody=True, cwd=top, env=plain_env()).stdout
        other = run([top / "brume", "doctor", "--listen", "127.0.0.1:81", "--store", "postgres://127.0.0.1:1/none", "--store.password_file",
                     top / "password"], as_nobody=True, cwd=top, env=plain_env()).stdout
    finally:
        shutil.rmtree(top)
    assert re.search(r"^warn  store +only root can look$", other, re.M), other
    assert re.search(r"^(warn  port +only root can look|ok    port +127.0.0.1:81 is free)$", other, re.M), other
    for check in ("overlayfs", "idmapped mounts", "nftables", "tls", "store", "agent"):
        assert re.search(rf"^warn  {check} +only root can look$", text, re.M), text
    assert "modprobe" not in text


def readable(*names):
    """A copy of parts of the clone that everybody can read, wherever the clone lies."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="brume-nobody-", dir="/var/tmp"))
    top.chmod(0o755)
    for n in names:
        (shutil.copytree if (ROOT / n).is_dir() else shutil.copy)(ROOT / n, top / n)
    return top


def test_who_is_not_root_is_told_what_to_do_in_one_line():
    top = readable("Makefile", "tools", "meson.build")
    shutil.copy(clouds.BRUME, top / "brume")
    try:
        r = run(["make", "run"], as_nobody=True, cwd=top, env=plain_env())
        ours = [x for x in r.stderr.splitlines() if not x.startswith("make: ***")]
        assert r.returncode != 0 and r.stdout == "" and len(ours) == 1 and "`sudo make run`" in ours[0], r
        r = run([top / "brume", "serve"], as_nobody=True, env=plain_env())
        assert r.returncode == 2 and r.stderr.count("\n") == 1 and "`sudo brume serve`" in r.stderr, r
        (top / ".brume-clone").write_text(".\n")
        r = run([top / "brume", "serve", "--nonsense"], as_nobody=True, env=plain_env())
        assert r.returncode == 2 and r.stderr.count("\n") == 1 and "`sudo make run`" in r.stderr, r
        r = run([top / "brume", "doctor"], as_nobody=True, env=plain_env())
        assert "FAIL  root             not root: `sudo ./brume doctor`" in r.stdout, r
    finally:
        shutil.rmtree(top)


# ---- the build

def test_the_build_takes_the_systems_python(tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("python", "python3"):
        (bin_dir / name).write_text("#!/bin/sh\nexit 1\n")
        (bin_dir / name).chmod(0o755)
    env = plain_env(PATH=f"{bin_dir}:{os.environ['PATH']}", HOME=os.environ.get("HOME", "/root"))
    r = run(["meson", "setup", tmp_path / "build", ROOT], env=env)
    assert r.returncode == 0, r
    rules = (tmp_path / "build/build.ninja").read_text()
    assert str(bin_dir) not in rules and "/usr/bin/python3" in rules
    first = {f: f.open("rb").readline() for d in ("tools", "tests", "bench") for f in (ROOT / d).iterdir() if f.is_file()}
    scripts = {f.name: line for f, line in first.items() if line.startswith(b"#!") and b"python" in line}
    assert {"test", "new-service", "run", "with-postgres"} <= set(scripts)
    assert set(scripts.values()) == {b"#!/usr/bin/python3\n"}
