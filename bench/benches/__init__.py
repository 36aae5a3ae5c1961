# SPDX-License-Identifier: Apache-2.0
"""The benchmarks, by what they measure; the cloud that they start is that of the tests."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests"))
