# SPDX-License-Identifier: Apache-2.0
"""The README's tour works as it is printed."""
import re
import subprocess

import cloud as clouds


def tour():
    text = (clouds.ROOT / "README.md").read_text()
    blocks = re.findall(r"^```sh tour\n(.*?)^```$", text, re.M | re.S)
    assert blocks, "README.md has no block marked `sh tour`"
    return "\n".join(blocks)


def test_the_tour_of_the_readme_works_again_and_again(cloud):
    script = tour().replace("127.0.0.1:8080", f"127.0.0.1:{cloud.port}").replace("localhost:8080", f"127.0.0.1:{cloud.port}")
    script = script.replace("8088", str(clouds.claim_port()))
    env = {"PATH": f"{clouds.BRUME.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(cloud.top / "home"),
           "LANG": "C.UTF-8", "BRUME_API_KEY": cloud.key, "BRUME_URL": f"http://127.0.0.1:{cloud.port}"}
    work = cloud.top / "tour"
    work.mkdir()
    (work / "brume").symlink_to(clouds.BRUME)
    for _ in range(2):
        p = subprocess.run(["bash", "-euxo", "pipefail", "-c", script], cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=900, check=False)
        assert p.returncode == 0, p.stdout.decode(errors="replace")[-4000:]
