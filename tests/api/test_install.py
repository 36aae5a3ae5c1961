# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts there finds itself."""
import os
import re
import subprocess

import cloud as clouds


def test_the_unit_starts_the_program_that_was_installed_with_it(tmp_path):
    subprocess.run(["meson", "install", "-C", str(clouds.BUILD), "--quiet", "--no-rebuild"], check=True,
                   env={**os.environ, "DESTDIR": str(tmp_path)}, stdout=subprocess.DEVNULL)
    units = list(tmp_path.rglob("lib/systemd/system/brume.service"))
    assert len(units) == 1
    program = re.search(r"^ExecStart=(\S+) serve$", units[0].read_text(), re.M).group(1)
    assert os.access(tmp_path / program.lstrip("/"), os.X_OK), program
    assert subprocess.run([tmp_path / program.lstrip("/"), "version"], check=False, stdout=subprocess.PIPE).returncode == 0
