# SPDX-License-Identifier: Apache-2.0
"""Checkers, debuggers and tracers on programs under ``privcmdctl run``: a correct program is found to be correct."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from programs.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
LIBRARIES = ("-lxenctrl", "-lxenevtchn", "-lxenforeignmemory")
SAID = "frame 2: -22\n256 pages\na machine\ncapabilities\na last frame\nno store\nan event\n"
"""What ``correct.c`` says on its standard output."""
HEADER = Path("/usr/include/xenctrl.h")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Build a C program of this folder, once with the same arguments; where that cannot be, its test is skipped."""
    programs: dict[tuple[str, ...], str] = {}

    def one(source: str, *arguments: str, compiler: str = "cc") -> str:
        key = (compiler, source, *arguments)
        if key not in programs:
            needs_tool(compiler, "gcc" if compiler == "cc" else compiler)
            if set(LIBRARIES) & {*arguments} and not HEADER.exists():
                pytest.skip(f"NOT TESTED: {source}; Xen's headers are missing (apt-get install libxen-dev)")
            program = tmp_path_factory.mktemp("bin") / Path(source).stem
            command = [compiler, "-std=gnu11", "-g", "-O1", "-o", str(program), str(HERE / source), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if compiler == "clang" and "libclang_rt" in done.stderr:
                pytest.skip("NOT TESTED: clang's sanitizers; they are missing (apt-get install libclang-rt-14-dev)")
            assert done.returncode == 0, done.stderr
            programs[key] = str(program)
        return programs[key]

    return one


def needs_tool(name: str, package: str | None = None) -> str:
    """Where a tool is; the test is skipped, with its package's name, when it is not there."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"NOT TESTED: {name} is missing (apt-get install {package or name})")
    return path


def test_valgrind_finds_nothing_in_a_correct_program(compiled: Callable[..., str]) -> None:
    """Errors of frames, results of hypercalls, ports of events: what is read has been set, and memcheck knows it."""
    valgrind = [needs_tool("valgrind"), "-q", "--error-exitcode=9", "--leak-check=full"]

    done = run("--domain", "hvm:1M", "--leaks=error", "--", *valgrind, compiled("correct.c", *LIBRARIES))

    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")
