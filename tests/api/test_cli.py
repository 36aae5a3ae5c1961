# SPDX-License-Identifier: Apache-2.0
"""The client as a user runs it: against a cloud that serves, in a shell, with what can go wrong."""
import json
import os
import signal
import subprocess
import time

import cloud as clouds
import pytest


@pytest.fixture(scope="module")
def cli():
    """A cloud of its own, and its client: run(…) → (exit code, output, errors)."""
    c = clouds.Cloud({"compute.fake_drivers": "true"}, name="cli")
    try:
        c.start()
        yield c
        assert c.stop() == 0
        assert c.crashes() == []
    finally:
        c.remove()


def ok(c, *args, **kw):
    rc, out, err = c.cli(*args, **kw)
    assert rc == 0 and err == "", (args, rc, out, err)
    return out


def made(c, *args):
    return json.loads(ok(c, *args, "-o", "json"))


def says(c, code, words, *args, **kw):
    """Ends with 'code' and one line that has each of 'words'."""
    rc, out, err = c.cli(*args, **kw)
    assert (rc, out) == (code, ""), (args, rc, out, err)
    assert err.count("\n") == 1 and err.startswith("brume: "), (args, err)
    for w in words:
        assert w in err, (args, w, err)


def test_every_resource_is_used(cli):
    vpc = made(cli, "vpc", "create", "--name", "net")
    subnet = made(cli, "subnet", "create", "net", "--name", "s", "--cidr-block", "10.0.1.0/24")
    assert subnet["vpc_id"] == vpc["id"]
    assert ok(cli, "subnets", "list", "net", "-o", "id") == subnet["id"] + "\n"
    assert ok(cli, "vpc", "subnet", "list", "net", "-o", "id") == subnet["id"] + "\n"
    assert made(cli, "subnet", "update", subnet["id"], "--name", "t")["name"] == "t"
    ok(cli, "subnet", "delete", subnet["id"])
    assert "basic-2" in ok(cli, "instance-types", "list")
    assert made(cli, "image", "create", "--name", "nginx", "--wait")["status"] == "ready"
    assert "nginx" in ok(cli, "image", "recipe", "list")
    i = made(cli, "instance", "create", "--name", "web", "--image", "nginx", "--vpc", "net", "--wait")
    assert (i["status"], i["vpc_id"]) == ("running", vpc["id"])
    for verb, end in (("stop", "stopped"), ("start", "running"), ("pause", "paused"), ("resume", "running"), ("restart", "running")):
        assert made(cli, "instance", verb, "web", "--wait")["status"] == end
    assert made(cli, "instance", "update", "web", "--labels", "a=b")["labels"] == {"a": "b"}
    assert made(cli, "instance", "list", "--status", "running")[0]["name"] == "web"
    ok(cli, "instance", "logs", "web")
    ok(cli, "instance", "stats", "web")
    assert "gone" in ok(cli, "instance", "delete", "web", "--wait")
    ok(cli, "image", "delete", "nginx")
    ok(cli, "vpc", "delete", "net")
    me = made(cli, "auth", "me")
    key = made(cli, "key", "create", "--name", "ci", "--scopes", "queues:read", "--tenant-id", me["tenant_id"])
    assert key["key"].startswith("thecloud_") and key["tenant_id"] == me["tenant_id"]
    assert made(cli, "key", "rotate", "ci")["key"] != key["key"]
    ok(cli, "key", "delete", "ci")
    tenant = made(cli, "tenant", "create", "--name", "Acme")
    u = cli.user()
    assert made(cli, "tenant", "member", "create", "acme", "--email", u.email)["user_id"] == u.id
    assert u.id in ok(cli, "tenant", "member", "list", "Acme")
    assert made(cli, "tenant", "member", "update", "acme", u.id, "--role", "viewer")["role"] == "viewer"
    ok(cli, "tenant", "member", "delete", "acme", u.id)
    assert made(cli, "tenant", "get", "acme")["id"] == tenant["id"]
    assert "QUEUE" not in ok(cli, "audit", "list", "--action", "TENANT_CREATE", "--all")
    assert json.loads(ok(cli, "event", "list", "--limit", "500", "-o", "json"))
    assert made(cli, "error", "get", "not_found") == {"code": "not_found", "description": "There is no such thing, or it is another tenant's.",
                                                      "status": 404, "retry": False}
    assert json.loads(ok(cli, "openapi", "get", "-o", "json"))["openapi"].startswith("3.1")
    ok(cli, "health", "live")
    ok(cli, "health", "ready")
    assert "brume_http_requests_total" in ok(cli, "metrics", "get")


def test_a_queue_is_used_by_its_verbs(cli):
    ok(cli, "queue", "create", "--name", "dead")
    q = made(cli, "queue", "create", "--name", "jobs", "--dead-letter-queue", "dead", "--max-receives", "3")
    assert made(cli, "queue", "send", "jobs", "--body", "one")["queue_id"] == q["id"]
    made(cli, "queue", "send-batch", "jobs", "--messages", '[{"body":"two"},{"body":"three"}]')
    got = json.loads(ok(cli, "queue", "receive", "jobs", "--count", "10", "--wait", "1", "-o", "json"))
    assert [m["body"] for m in got] == ["one", "two", "three"]
    assert made(cli, "queue", "get", "jobs")["in_flight"] == 3
    ok(cli, "queue", "extend", "jobs", got[0]["receipt_handle"], "--visibility-timeout", "60")
    ok(cli, "queue", "ack", "jobs", got[0]["receipt_handle"])
    assert ok(cli, "queue", "ack-batch", "jobs", "--receipt-handles", got[1]["receipt_handle"]).count("true") == 1
    says(cli, 5, ["no such receipt"], "queue", "ack", "jobs", got[0]["receipt_handle"])
    assert made(cli, "queue", "messages", "create", "jobs", "--body", "as its path says")["body"] == "as its path says"
    table = ok(cli, "queue", "list", "--name", "jobs")
    assert "DEPTH" in table and "IN FLIGHT" in table
    ok(cli, "queue", "update", "jobs", "--clear", "dead_letter_queue_id", "--max-receives", "0")
    ok(cli, "queue", "purge", "jobs")
    assert ok(cli, "queue", "list", "-o", "yaml").count("name: ") == 2
    ok(cli, "queue", "delete", "jobs")
    ok(cli, "queue", "delete", "dead")


def test_every_command_has_help_and_every_flag_of_it_is_taken(cli):
    words = ok(cli, "__complete", "").split()
    seen = 0
    for resource in words:
        if resource in ("serve", "login", "config", "backup", "restore"):
            assert "brume " + resource in ok(cli, resource, "--help")
            continue
        text = ok(cli, resource, "--help")
        for line in text.splitlines():
            if not line.startswith("  ") or line.startswith("   ") or resource in ("help", "doctor", "version", "completion"):
                continue
            command = [w for w in line.split("  ")[1].split() if w.islower()]
            assert command[0] == resource
            page = ok(cli, *command, "--help")
            assert page.startswith("brume " + " ".join(command)), page
            assert ok(cli, "help", *command) == page
            flags = ok(cli, "__complete", *command, "--").split()
            for f in flags:
                assert f in page, (command, f)
            seen += 1
    assert seen > 50


def test_help_shows_the_default_of_a_number_where_that_is_its_value(cli):
    assert "1 MiB" in ok(cli, "instance", "exec", "--help")
    assert "Seconds after which it is killed, with all that it started. (60 if not given)" in ok(cli, "instance", "exec", "--help")
    assert "-1" not in ok(cli, "queue", "send", "--help")


def test_refusals_are_one_line_with_an_exit_code_of_their_kind(cli):
    ok(cli, "queue", "create", "--name", "r")
    url = {"HOME": "/nonexistent", "BRUME_URL": f"http://127.0.0.1:{cli.port}"}
    says(cli, 1, ["--visibility-timeout must be between", "`brume queue create --help`"],
         "queue", "create", "--name", "x", "--visibility-timeout", "99999999")
    says(cli, 1, ["brume: the request must be a JSON object"], "queue", "send", "r", "-d", "[1]")
    says(cli, 2, ["--name is missing", "brume queue create"], "queue", "create")
    says(cli, 2, ["--nam", "did you mean --name?"], "queue", "create", "--nam", "x")
    says(cli, 2, ["QUEUE is missing"], "queue", "get")
    says(cli, 2, ["one word too many"], "queue", "get", "a", "b")
    says(cli, 2, ["--status cannot be given at creation"], "instance", "create", "--status", "running")
    says(cli, 2, ["\"frob\"", "`brume queue --help`"], "queue", "frob")
    says(cli, 2, ["`brume help`"], "frob")
    says(cli, 2, ["VPC is missing", "brume subnet list VPC"], "subnet", "list")
    says(cli, 5, ["`brume queue list`"], "queue", "get", "none")
    says(cli, 5, ["`brume queue list`"], "queue", "get", "01890000-0000-7000-8000-000000000001")
    says(cli, 5, ["`brume vpc list`"], "instance", "create", "--name", "x", "--image", "nginx", "--vpc-id", "none")
    says(cli, 6, ["exists already"], "queue", "create", "--name", "r")
    says(cli, 3, ["cannot reach", "brume serve"], "--url", "http://127.0.0.1:1", "queue", "list")
    says(cli, 4, ["not logged in", "`brume login`"], "queue", "list", env=url)
    says(cli, 4, ["BRUME_API_KEY", "`brume login`"], "queue", "list", env={**url, "BRUME_API_KEY": "thecloud_wrong"})
    says(cli, 4, ["tenant"], "--tenant", "01890000-0000-7000-8000-000000000001", "queue", "list")
    says(cli, 1, ["`brume tenant list`"], "--tenant", "nonsense", "queue", "list")
    key = made(cli, "key", "create", "--name", "ro", "--scopes", "queues:read")["key"]
    says(cli, 4, ["queue:create", "`brume key list`"], "queue", "create", "--name", "y", env={**url, "BRUME_API_KEY": key})
    says(cli, 2, ["there is no profile"], "--profile", "none", "queue", "list")
    says(cli, 4, ["forgot-password"], "login", "--email", "nobody@example.com", stdin=b"wrong\n")
    wrong = cli.user().as_key(None).post("/auth/login", {"email": "nobody@example.com", "password": "wrong-password"})
    assert wrong.status == 401 and "API key" not in wrong.error["details"] and "password" in wrong.error["details"]
    ok(cli, "vpc", "create", "--name", "o", "--cidr-block", "10.60.0.0/16")
    ok(cli, "subnet", "create", "o", "--name", "a", "--cidr-block", "10.60.1.0/24")
    says(cli, 6, ["overlaps", "Take another name or range"], "subnet", "create", "o", "--name", "b", "--cidr-block", "10.60.1.0/25")
    for _ in range(5):
        cli.cli("auth", "forgot-password", "--email", "nobody@example.com")
    says(cli, 7, ["Try again in"], "auth", "forgot-password", "--email", "nobody@example.com")
    ok(cli, "queue", "delete", "r")


@pytest.mark.parametrize("args", [("queue", "list"), ("queue", "get", "full"), ("queue", "get", "full", "-o", "json"), ("queue", "get", "full", "--watch"),
                                  ("help",), ("queue", "create", "--help"), ("config",), ("config", "profiles"), ("version",), ("completion", "bash"),
                                  ("instance", "logs", "web", "--follow")], ids=" ".join)
def test_output_that_nobody_took_is_no_success(cli, args):
    for made_of in (("queue", "--name", "full"), ("instance", "--name", "web", "--image", "nginx", "--wait")):
        if "full" in args and made_of[0] == "queue" or "web" in args and made_of[0] == "instance":
            cli.cli(made_of[0], "create", *made_of[1:])
    env = {"PATH": os.environ["PATH"], "HOME": str(cli.top / "home"), "LANG": "C.UTF-8"}
    with open("/dev/full", "wb") as full:
        p = subprocess.run([str(clouds.BRUME), *args], env=env, stdout=full, stderr=subprocess.PIPE, timeout=20, check=False)
    err = p.stderr.decode()
    assert p.returncode == 1 and err.count("\n") == 1 and "standard output" in err, (p.returncode, err)


def test_watch_shows_changes_and_ends_by_interrupt(cli):
    ok(cli, "queue", "create", "--name", "w")
    env = {"PATH": os.environ["PATH"], "HOME": str(cli.top / "home"), "LANG": "C.UTF-8"}
    p = subprocess.Popen([str(clouds.BRUME), "queue", "get", "w", "--watch"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    ok(cli, "queue", "send", "w", "--body", "x")
    time.sleep(1.6)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=5)
    assert (p.returncode, err) == (0, b""), (out, err)
    assert out.decode().count("name: ") == 1
    assert "depth: 0 → 1" in out.decode()
    ok(cli, "queue", "delete", "w")


BASH = r"""
source <(brume completion bash)
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _brume; echo "${COMPREPLY[*]}"; }
complete_line brume que
complete_line brume queue s
complete_line brume tenant member l
complete_line brume queue create --vis
complete_line brume instance list --status pa
complete_line brume instance list --status = pa
complete_line brume -o j
"""


BASH_CLONE = r"""
complete -p brume >/dev/null || exit 1
for p in ./brume '~/brume'; do COMP_WORDS=($p queue cre); COMP_CWORD=2; COMPREPLY=(); _brume; echo "${COMPREPLY[*]}"; done
"""


def test_completion_works_in_bash(cli):
    env = {"PATH": f"{clouds.BRUME.parent}:{os.environ['PATH']}", "HOME": str(cli.top / "home")}
    p = subprocess.run(["bash", "--norc", "-c", BASH], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert p.stderr == b""
    assert p.stdout.decode().splitlines() == ["queue", "send send-batch", "list",
                                              "--visibility-timeout", "paused", "paused", "json"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_asks_the_program_of_the_clone(cli, tmp_path, shell):
    (tmp_path / "brume").symlink_to(clouds.BRUME)
    script = ok(cli, "completion", shell)
    lines = {"bash": BASH_CLONE, "fish": "complete -C './brume queue cre'; complete -C '~/brume queue cre'",
             "zsh": "for p in ./brume '~/brume'; do words=($p queue cre); CURRENT=3; _brume; done"}
    first = "compdef() { }; compadd() { print -l -- ${(P)2}; }; _files() { }\n" if shell == "zsh" else ""
    argv = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-fc"], "fish": ["fish", "-c"]}[shell]
    p = subprocess.run([*argv, first + script + "\n" + lines[shell]], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"})
    assert p.stdout.decode().split() == ["create", "create"], (p.stdout, p.stderr)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_works_in_other_shells(cli, shell):
    script = ok(cli, "completion", shell)
    subprocess.run([shell, "-n"], input=script.encode(), check=True)
    env = {"PATH": f"{clouds.BRUME.parent}:{os.environ['PATH']}", "HOME": str(cli.top / "home"), "LANG": "C.UTF-8"}
    lines = {"brume queue cre": "create", "brume vpc subnet l": "list", "brume queue create --vis": "--visibility-timeout",
             "brume instance list --status pau": "paused", "brume instance list --status=pau": "--status=paused"}
    for line, word in lines.items():
        if shell == "fish":
            argv = ["fish", "-c", script + f"\ncomplete -C '{line}'"]
        else:
            argv = ["zsh", "-fc", "compdef() { }; compadd() { print -l -- ${(P)2}; }; _files() { }\n" + script +
                    f"\nwords=({line}); CURRENT=$#words; _brume"]
        p = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        assert p.stdout.decode().split() == [word], (line, p.stdout, p.stderr)
