# SPDX-License-Identifier: Apache-2.0
"""Our HTTP/1.1 parser beside h11 and llhttp, over corpus.txt and over mutations of it.

* Each case of the corpus has the verdict that stands beside it.
* We never accept what both others refuse, but for the space before a chunk extension that RFC 9112
  7.1.1 has everybody read (its lines '+').
* What we accept, the others that accept it too frame alike: as many requests, the same bodies.
* Where we refuse what both others accept, the corpus says why (its lines '~'): the list of where we
  are stricter is that one and no longer.

BRUME_BUILD names the build folder; the probe is src/http/http1_probe in it."""
import os
import pathlib
import random
import re
import struct
import subprocess

import h11
import llhttp
import pytest

HERE = pathlib.Path(__file__).parent


# ---- the corpus

def unescape(text):
    text = re.sub(r"\{\{(.*?)\*(\d+)\}\}", lambda m: m[1] * int(m[2]), text)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def load():
    cases, case = {}, None
    for line in (HERE / "corpus.txt").read_text(encoding="ascii").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            assert line[1:-1] not in cases, f"{line} is there twice"
            case = cases[line[1:-1]] = {"data": b"", "stricter": None, "laxer": None, "expect": None}
        elif line.startswith("= "):
            case["expect"] = line[2:]
        elif line.startswith("~ "):
            case["stricter"] = line[2:]
        elif line.startswith("+ "):
            case["laxer"] = line[2:]
        else:
            assert line.startswith("> "), line
            case["data"] += unescape(line[2:])
    return cases


CASES = load()


# ---- the three readers.  Each gives (verdict, requests): 'ok', 'bad' or 'more', and of each request
# that was whole its method, target, headers and body.

def probe():
    path = pathlib.Path(os.environ["BRUME_BUILD"]) / "src/http/http1_probe"
    assert path.is_file(), f"{path} is not built"
    return str(path)


def unhex(word):
    return b"" if word == "-" else bytes.fromhex(word)


def ours_many(inputs):
    feed = b"".join(struct.pack(">I", len(i)) + i for i in inputs)
    lines = subprocess.run([probe()], input=feed, stdout=subprocess.PIPE, check=True,
                           timeout=300).stdout.decode().splitlines()
    results, verdict, status, requests = [], "ok", 0, []
    for line in lines:
        word, *rest = line.split(" ")
        if word == "request":
            requests.append({"method": unhex(rest[0]), "target": unhex(rest[1]),
                             "headers": [], "body": unhex(rest[3]), "keep": rest[4] == "keep"})
        elif word == "header":
            requests[-1]["headers"].append((unhex(rest[0]).lower(), unhex(rest[1])))
        elif word == "bad":
            verdict, status = "bad", int(rest[0])
        elif word == "more":
            verdict = "more"
        else:
            results.append((verdict, requests, status))
            verdict, status, requests = "ok", 0, []
    assert len(results) == len(inputs)
    return results


def by_h11(data):
    """One connection a message: h11 knows no empty line before a request (RFC 9112 2.2)."""
    requests = []
    while True:
        if data.startswith(b"\r\n"):
            data = data[2:]
        if not data:
            return "ok", requests
        verdict, request, data = one_by_h11(data)
        if verdict != "ok":
            return verdict, requests
        requests.append(request)
        if data is None:
            return "ok", requests


def one_by_h11(data):
    conn, now = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), None
    try:
        conn.receive_data(data)
        while True:
            event = conn.next_event()
            if isinstance(event, h11.Request):
                now = {"method": event.method, "target": event.target,
                       "headers": list(event.headers), "body": b""}
            elif isinstance(event, h11.Data):
                now["body"] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                goes_on = conn.their_state is h11.DONE
                return "ok", now, conn.trailing_data[0] if goes_on else None
            else:
                return "more", None, None
    except h11.RemoteProtocolError:
        return "bad", None, None


class Reader(llhttp.Request):
    """llhttp hands out a request piece by piece."""

    def __init__(self):
        super().__init__()
        self.requests, self.now = [], None

    def on_message_begin(self):
        self.now = {"method": b"", "target": b"", "headers": [], "body": b""}

    def on_method(self, p):
        self.now["method"] += bytes(p)

    def on_url(self, p):
        self.now["target"] += bytes(p)

    def on_header_field(self, p):
        headers = self.now["headers"]
        if not headers or headers[-1][2]:
            headers.append([b"", b"", False])
        headers[-1][0] += bytes(p)

    def on_header_field_complete(self):
        self.now["headers"][-1][2] = True

    def on_header_value(self, p):
        self.now["headers"][-1][1] += bytes(p)

    def on_body(self, p):
        self.now["body"] += bytes(p)

    def on_message_complete(self):
        self.requests.append(self.now)
        self.now = None


def by_llhttp(data):
    reader = Reader()
    try:
        reader.execute(data)
    except llhttp.ClosedConnectionError:
        return "ok", reader.requests  # bytes behind "Connection: close" are nobody's
    except llhttp.PausedH2UpgradeError:
        return "bad", reader.requests
    except llhttp.Error:
        return "bad", reader.requests
    return ("more" if reader.now is not None else "ok"), reader.requests


# ---- what must hold

# Both others stop for good after these; so the count of requests behind them says nothing.
def ends(request):
    names = [n.lower() for n, *_ in request["headers"]]
    return request["method"] == b"CONNECT" or b"upgrade" in names


SPACED = re.compile(rb"\r\n[0-9A-Fa-f]+[^\r]*[ \t];")


def check(data, mine):
    """None, or what is wrong.  'stricter' if we refuse what both accept, 'laxer' if we read the space that they refuse."""
    verdict, requests, _ = mine
    others = {"h11": by_h11(data), "llhttp": by_llhttp(data)}

    def took(name, n):
        """Whether that reader took n requests whole."""
        return len(others[name][1]) >= n

    for n, request in enumerate(requests, 1):
        if not took("h11", n) and not took("llhttp", n):
            return "laxer" if SPACED.search(data) else f"we accept request {n}, both others do not"
        for name in others:
            if not took(name, n):
                continue
            theirs = others[name][1][n - 1]
            if theirs["body"] != request["body"]:
                return f"the body of request {n}: {request['body']!r}, {name}: {theirs['body']!r}"
            if theirs["method"].upper() != request["method"].upper():
                return f"the method of request {n}: {request['method']}, {name}: {theirs['method']}"
            if not theirs["target"].endswith(request["target"]) and request["target"] != b"/":
                return f"the target of request {n}: {request['target']}, {name}: {theirs['target']}"
        if ends(request):
            return None
    last = requests[-1] if requests else None
    for name, (their_verdict, theirs) in others.items():
        if verdict == "ok" and len(theirs) > len(requests) and (last is None or last["keep"]):
            return f"we see {len(requests)} requests, {name} {len(theirs)}"
    if verdict == "bad" and all(v != "bad" and len(r) > len(requests) for v, r in others.values()):
        return "stricter"
    return None


@pytest.fixture(scope="module")
def corpus_results():
    return dict(zip(CASES, ours_many([c["data"] for c in CASES.values()])))


@pytest.mark.parametrize("name", CASES)
def test_verdict(name, corpus_results):
    verdict, requests, status = corpus_results[name]
    want = CASES[name]["expect"].split(" ")
    if want[0] == "ok":
        assert verdict == "ok"
        assert [len(r["body"]) for r in requests] == [int(n) for n in want[1].split(",")]
    elif want[0] == "more":
        assert (verdict, requests) == ("more", [])
    else:
        assert (verdict, status) == ("bad", int(want[1]))
        assert len(requests) == (int(want[3]) if len(want) > 2 else 0)


@pytest.mark.parametrize("name", CASES)
def test_beside_others(name, corpus_results):
    wrong = check(CASES[name]["data"], corpus_results[name])
    if CASES[name]["stricter"]:
        assert wrong == "stricter", "the corpus says that we are stricter here; we are not"
    elif CASES[name]["laxer"]:
        assert wrong == "laxer", "the corpus says that both others refuse this; they do not"
    else:
        assert wrong is None


def test_headers_agree_with_h11(corpus_results):
    compared = 0
    for name, (_, requests, _) in corpus_results.items():
        _, theirs = by_h11(CASES[name]["data"])
        for mine, other in zip(requests, theirs):
            mine = [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in mine["headers"]]
            assert sorted(mine) == sorted(other["headers"]), name
            compared += 1
    assert compared > 30


PIECES = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"1", b"a", b"\x0b", b"\xa0",
          b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Host: b\r\n",
          b"0\r\n\r\n", b"\r\n\r\n", b"HTTP/1.0", b"Connection: close\r\n", b"-", b"+", b"0x", b"\x7f"]


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            data[at:at] = rng.choice(PIECES)
        elif kind == 1:
            del data[at:at + rng.choice((1, 1, 2, 4))]
        elif kind == 2 and at < len(data):
            data[at:at + 1] = rng.choice(PIECES)
        else:
            end = min(len(data), at + rng.randrange(30))
            data[at:at] = data[at:end]
    return bytes(data)


@pytest.mark.parametrize("seed", range(10))
def test_mutations(seed):
    """Where we alone refuse is fine here, the corpus lists the reasons; the rest must hold."""
    rng = random.Random(seed)
    seeds = [c["data"] for c in CASES.values() if len(c["data"]) < 500 and not c["laxer"]]
    inputs = [mutate(rng, rng.choice(seeds)) for _ in range(2000)]
    accepted = 0
    for data, mine in zip(inputs, ours_many(inputs)):
        wrong = check(data, mine)
        assert wrong in (None, "stricter", "laxer"), (wrong, data)
        accepted += bool(mine[1])
    assert accepted > 100
