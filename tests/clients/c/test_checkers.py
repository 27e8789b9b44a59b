# SPDX-License-Identifier: Apache-2.0
"""The client is clean under the compiler's sanitizers and under valgrind, and the same when clang builds it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.c_guests import CASES, EVENT_CASES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.c_guests import Guests

PRELOAD = "libprivcmdd-preload.so"
TIMEOUT_S = 100
# Those that touch nothing that is not mapped: for valgrind that is an error, however much it is meant.
UNDER_VALGRIND = [
    *(("raw.c", case) for case in ("batch_v1", "mmap", "restrict", "fork", "threads")),
    *(("events.c", case) for case in EVENT_CASES if case != "refusals"),
]


def run(command: Sequence[str], guests: Guests, case: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a case of the raw program."""
    return subprocess.run(
        [*command, str(guests.dom), str(guests.other), case],
        env=guests.environment(**environment),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


# Those that between them make every kind of system call that the client makes.
BY_CLANG = (("raw.c", "batch_v2"), ("raw.c", "memory_calls"), ("raw.c", "fork"), ("events.c", "masked_until_written"))
SOURCES = [*(("raw.c", case) for case in CASES), *(("events.c", case) for case in EVENT_CASES)]


@pytest.mark.parametrize(("source", "case"), SOURCES)
def test_the_sanitizers_find_nothing(
    source: str, case: str, sanitized: str, compiled: Callable[..., Path], guests: Guests
) -> None:
    """No bad access, no undefined behaviour, no leak, in the client and in its use of libc."""
    program = compiled(source, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    options = "handle_segv=0:handle_sigbus=0:detect_leaks=1"

    done = run([str(program)], guests, case, LD_PRELOAD=sanitized, ASAN_OPTIONS=options)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("source", "case"), BY_CLANG)
def test_clang_makes_the_same_client(
    source: str, case: str, clang_libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """What C leaves open, and one compiler happens to do, is not relied on."""
    done = run([str(compiled(source))], guests, case, LD_PRELOAD=str(clang_libraries / PRELOAD))

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("source", "case"), UNDER_VALGRIND)
def test_valgrind_finds_nothing(
    source: str, case: str, libraries: Path, compiled: Callable[..., Path], guests: Guests
) -> None:
    """No use of what is not there or not set, and no leak."""
    if shutil.which("valgrind") is None:
        pytest.skip("NOT TESTED: the C client under valgrind; it is missing (apt-get install valgrind)")
    command = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", str(compiled(source))]

    done = run(command, guests, case, LD_PRELOAD=str(libraries / PRELOAD))

    assert (done.returncode, done.stderr) == (0, "")
