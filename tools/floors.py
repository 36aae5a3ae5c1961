"""Fails when a file includes what its floor may not: floors.txt says which floor sees which, and
among the rooms of a floor; among the services, services.def says it: a service sees those listed
above it.  Tests and fuzzers may include everything."""
import pathlib
import re
import sys

rules = {}
for line in open(sys.argv[1], encoding="utf-8"):
    floor, _, below = line.split("#")[0].partition(":")
    if floor.strip():
        rules[floor.strip()] = set(below.split()) | {floor.strip()}


def room_of(parts):
    """The room of a file in a floor that has rooms: "core/rows"; "." for what is in none."""
    room = "/".join(parts[:2])
    return room if len(parts) > 2 and room in rules else "."


def may_enter(at, to):
    """Whether a file may include another of its own floor."""
    room = room_of(at)
    return room == "." or room_of(to) in rules[room]


root, bad, seen = pathlib.Path(sys.argv[2]), [], 0
order = re.findall(r"^SERVICE\((\w+)\)", (root / "services/services.def").read_text(), re.M)
for path in sorted(root.rglob("*.[ch]")):
    if path.stem.endswith(("_test", "_fuzz")):
        continue
    at = path.relative_to(root).parts
    seen += 1
    if at[0] not in rules:
        bad.append(f"{path}: {at[0]}/ is no floor of {sys.argv[1]}")
        continue
    for number, text in enumerate(path.open(encoding="utf-8"), 1):
        m = re.match(r'\s*#\s*include\s+"(?:([\w-]+)/)?(?:([\w-]+)/)?', text)
        if not m:
            continue
        if m[1] is None or m[1] not in rules:
            bad.append(f"{path}:{number}: include by floor: \"db/db.h\"")
        elif m[1] not in rules[at[0]]:
            bad.append(f"{path}:{number}: {at[0]}/ may not include {m[1]}/")
        elif at[0] == m[1] and not may_enter(at, re.search('"(.*)"', text)[1].split("/")):
            bad.append(f"{path}:{number}: {room_of(at)}/ may not include {text.split()[1]}")
        elif at[0] == m[1] == "services" and m[2] and len(at) == 3 and m[2] != at[1]:
            if order.index(m[2]) > order.index(at[1]):
                bad.append(f"{path}:{number}: service {at[1]} stands above {m[2]} in services.def")
        elif at[0] == "services" and m[1] == "core" and not text.rstrip().endswith(
                ('"core/service.h"', '"core/config/config.h"')):
            bad.append(f"{path}:{number}: a service sees core/service.h and core/config/config.h only")
print("\n".join(bad) or f"{seen} files keep to their floors")
sys.exit(bool(bad) or seen == 0)
