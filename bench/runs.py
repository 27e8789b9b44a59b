# SPDX-License-Identifier: Apache-2.0
"""What ``privcmdctl run`` costs, beside ``python3 -c pass``: a program that needs no Xen, and one that maps a page."""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import privcmd
import privcmdd

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
N_TESTS = 24
SESSION_GOAL_S = 2.0


def took_s(words: list[str], **env: str) -> float:
    """Seconds from the start of a command to its end; it must succeed."""
    begin = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})
    return time.perf_counter() - begin


def rows(n_rounds: int) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the table: what, figure, ratio, goal."""
    ctl = Path(sys.executable).with_name("privcmdctl")
    if shutil.which("cc") is None or not ctl.exists():
        yield "privcmdctl run", f"not measured: {'cc' if ctl.exists() else ctl} is missing", "", ""
        return
    # As every installation has it; the environment may keep Python from writing bytecode.
    for package in (privcmd, privcmdd):
        compileall.compile_dir(package.__path__[0], quiet=1)
    with tempfile.TemporaryDirectory(prefix="pb-") as directory, privcmd.PrivateBroker() as broker:
        page = f"{directory}/page"
        subprocess.run(["cc", "-O2", "-Wall", "-o", page, str(HERE / "runs.c")], check=True)
        nothing, session = [sys.executable, "-c", "pass"], {"PRIVCMDD_SESSION": broker.path}
        true = [str(ctl), "run", "--", "/bin/true"]
        mapping = [str(ctl), "run", "--domain", "hvm:64M", "--leaks=error", "--", page]
        contestants: tuple[tuple[str, list[str], dict[str, str], str], ...] = (
            ("python3 -c pass", nothing, {}, ""),
            ("run of /bin/true", true, {}, "<= 10"),
            ("run that maps a page of a fresh domain", mapping, {}, "<= 20"),
            ("run of /bin/true, with a broker that runs", true, session, "<= 3"),
            ("run that maps a page of a fresh domain, with a broker that runs", mapping, session, "<= 3"),
        )
        taken: dict[str, list[float]] = {name: [] for name, *_ in contestants}
        for number in range(2 * n_rounds + 1):
            for name, words, env, _ in contestants:
                seconds = took_s(words, **env)
                if number:
                    taken[name].append(seconds)
        floor = median(taken["python3 -c pass"])
        for name, _, _, goal in contestants:
            seconds = median(taken[name])
            yield name, f"{seconds * 1e3:.1f} ms", f"{seconds / floor:.1f} x pass", goal
        yield from suite([str(ctl), "session", "--"], mapping, n_rounds, directory)


def suite(session: list[str], command: list[str], n_rounds: int, directory: str) -> Iterator[tuple[str, str, str, str]]:
    """A suite of equal tests under CTest, in a session."""
    what = f"session of {N_TESTS} CTest programs, each under its own run"
    if shutil.which("ctest") is None:
        yield what, "not measured: ctest is missing", "", ""
        return
    words = " ".join(f'"{word}"' for word in command)
    tests = "".join(f"add_test(map-{number} {words})\n" for number in range(N_TESTS))
    Path(directory, "CTestTestfile.cmake").write_text(tests)
    whole = [took_s([*session, "ctest", "--test-dir", directory]) for _ in range(n_rounds)]
    alone = took_s(["ctest", "--test-dir", directory])
    yield what, f"{median(whole):.2f} s (without the session {alone:.2f} s)", "", f"<= {SESSION_GOAL_S:g} s"
