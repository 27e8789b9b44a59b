# SPDX-License-Identifier: Apache-2.0
"""Runs pytest again and again, each time in a child that finds imported what no mutant is in: a second saved each time.

Reads lines of JSON, a limit in seconds, whether memory is bounded, pytest's arguments. Answers each with its exit code,
or ``late``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import traceback

import hypothesis.stateful  # noqa: F401  (imported for the children, as the others)
import msgpack  # noqa: F401
import numpy as np  # noqa: F401
import pytest
import structlog  # noqa: F401
import trio  # noqa: F401

MOST_BYTES = 12 << 30  # of address space: a mutant that fills memory ends there


def child(arguments: list[str], *, bounded: bool) -> int:
    """Run the tests, seen by nobody, in a session of its own."""
    os.setsid()
    if bounded:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)
    return int(pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments]))


def run(limit_s: float, arguments: list[str], *, bounded: bool) -> str:
    """Run the tests in a child, and end all that it started."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(arguments, bounded=bounded)
        except BaseException:  # noqa: BLE001 (a child goes no further, whatever happens)
            traceback.print_exc()
        finally:
            os._exit(code)
    fd = os.pidfd_open(pid)
    ended = select.select([fd], [], [], limit_s)[0]
    os.close(fd)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return str(os.waitstatus_to_exitcode(status)) if ended else "late"


if __name__ == "__main__":
    for line in sys.stdin:
        limit_s, bounded, *arguments = json.loads(line)
        print(run(limit_s, arguments, bounded=bounded), flush=True)
