#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tidy.py BUILD FILE...: clang-tidy of these sources, as many at once as there are cores.

A source that was found clean is not looked at again while all that clang-tidy would read is the same: the source with its
includes and macros put in, its flags, .clang-tidy, the program.  What is remembered is that alone, an empty file by the name
of the hash of it, in $XDG_CACHE_HOME/brume/tidy (~/.cache): any clone profits.  What is not clean is never remembered."""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "brume/tidy"
KEPT_S = 30 * 86400
SAYS_WHAT = ("-I", "-D", "-U", "-std")  # flags that the preprocessor looks at


def output(argv, cwd=ROOT):
    return subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def commands(build):
    """Source -> (folder, flags), as it is compiled."""
    found = {}
    for c in json.loads((ROOT / build / "compile_commands.json").read_text()):
        file = os.path.relpath(os.path.join(c["directory"], c["file"]), ROOT)
        found[file] = (c["directory"], [x for x in shlex.split(c["command"]) if x.startswith("-")])
    return found


def fingerprint(file, directory, flags, common):
    """The hash of all that the verdict depends on; None: it cannot be preprocessed, which clang-tidy will tell."""
    argv = ["clang", "-E", "-P", "-CC", *(x for x in flags if x.startswith(SAYS_WHAT)), str(ROOT / file)]
    try:
        text = output(argv, directory)
    except subprocess.CalledProcessError:
        return None
    said = [x for x in flags if x.startswith(("-W", "-f", "-O", *SAYS_WHAT))]
    return hashlib.sha256(b"\0".join([common, file.encode(), " ".join(said).encode(), text])).hexdigest()


def look(build, file, known, common):
    """What clang-tidy says of a source; None where it has nothing to say."""
    if file not in known:
        return f"{file}: is not compiled in {build}"
    mark = fingerprint(file, *known[file], common)
    if mark and (CACHE / mark).exists():
        os.utime(CACHE / mark)
        return None
    p = subprocess.run(["clang-tidy", "--quiet", "-p", build, file], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, check=False)
    if p.returncode:
        return p.stdout.decode(errors="replace") or p.stderr.decode(errors="replace")
    if mark:
        (CACHE / mark).touch()
    return None


def forget():
    """What nobody has asked for in a long time goes."""
    for f in CACHE.iterdir():
        if f.stat().st_mtime < time.time() - KEPT_S:
            f.unlink(missing_ok=True)


def main():
    build, files = sys.argv[1], sys.argv[2:]
    CACHE.mkdir(parents=True, exist_ok=True)
    forget()
    common = (ROOT / ".clang-tidy").read_bytes() + output(["clang-tidy", "--version"])
    known = commands(build)
    # The longest first, or the last one keeps a core waiting.
    files.sort(key=lambda f: -(ROOT / f).stat().st_size)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        bad = [x for x in pool.map(lambda f: look(build, f, known, common), files) if x]
    print("\n".join(bad))
    return 1 if bad or not files else 0


if __name__ == "__main__":
    sys.exit(main())
