# SPDX-License-Identifier: Apache-2.0
"""The C client builds with the compilers that people have, at every optimisation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPILERS = ("gcc-12", "gcc-13", "gcc-14", "gcc", "clang")


@pytest.mark.thorough
@pytest.mark.parametrize("optimisation", ["-O0", "-O1", "-O2", "-O3"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_it_builds_without_a_word(tmp_path: Path, compiler: str, optimisation: str) -> None:
    """`make shim` succeeds and warns of nothing."""
    if shutil.which(compiler) is None:
        pytest.skip(f"NOT TESTED: the C client by {compiler}; missing: {compiler} (apt-get install {compiler})")
    command = ["make", "-s", "-C", "clients/c", f"BUILD={tmp_path}", f"CC={compiler}", f"CFLAGS={optimisation} -g"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_warning_stops_nobodys_build() -> None:
    """A compiler that is newer than ours may warn of more: warnings are errors in `make lint` alone."""
    command = ["make", "-n", "-B", "-C", "clients/c", "all"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert "-Wall" in done.stdout
    assert "-Werror" not in done.stdout
