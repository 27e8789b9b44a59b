# SPDX-License-Identifier: Apache-2.0
"""What a program has left running: named, given some time, and ended, because the host goes with the run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Iterator

LINGER_S = 5.0
"""How long what a program left running may go on, in seconds, unless ``--linger`` says otherwise."""
QUIET_S = 0.2
"""A process that ends within this is not worth a word: a pipe's other end, a shell's last command."""
TERM_S = 2.0
"""From SIGTERM to SIGKILL."""
PF_KTHREAD = 0x0020_0000  # linux/sched.h


class Left:
    """A process that a program left running.

    Attributes:
        pid: The process.
        command: Its command line.
    """

    __slots__ = ("command", "pid")

    def __init__(self, pid: int, command: str) -> None:
        self.pid = pid
        self.command = command

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def end(env: dict[str, str], linger_s: float, *, quiet: bool = False) -> list[Left]:
    """Wait until what a program left running has ended, and end it when it does not.

    Args:
        env: The program's environment: by it its processes are known, whoever their parent is by now.
        linger_s: How long to wait, in seconds.
        quiet: Name nothing.

    Returns:
        Those that had to be ended.
    """
    if not _living(env):
        return []
    left: list[Left] = []
    try:
        _wait(env, min(QUIET_S, linger_s))
        left = [Left(pid, _command(pid)) for pid in _living(env)]
        if left and linger_s > QUIET_S:
            for one in [] if quiet else left:
                sys.stderr.write(f"privcmdctl: still running: {one}; it has {linger_s:g} s to end (--linger)\n")
            sys.stderr.flush()
            _wait(env, linger_s - QUIET_S)
            left = [Left(pid, _command(pid)) for pid in _living(env)]
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            _send(env, number)
            _wait(env, TERM_S)
    return left


def _living(env: dict[str, str]) -> list[int]:
    """Processes with the environment of the program; a zombie has none any more."""
    marks = [f"{name}={env[name]}".encode() for name in ("PRIVCMDD_CLIENT", "PRIVCMDD_SOCKET")]
    return [pid for pid in _younger() if _has(pid, marks)]


def _younger() -> Iterator[int]:
    """Processes that were started after us; all of them where that cannot be told, as the numbers began anew."""
    with open("/proc/loadavg", "rb") as file:
        newest = int(file.read().split()[-1])
    oldest = os.getpid() if newest >= os.getpid() else 0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) > oldest:
            yield int(name)


def _has(pid: int, marks: list[bytes]) -> bool:
    try:
        while not (variables := _read(pid, "environ").split(b"\0"))[0] and _in_exec(pid):
            os.sched_yield()
    except OSError:  # it has ended, or is another user's
        return False
    return all(mark in variables for mark in marks)


def _in_exec(pid: int) -> bool:
    """Whether a process is on its way from one program to the next: for that moment it has no environment.

    By proc(5), stat: a program's environment begins somewhere; that of a zombie and of a kernel thread does not.
    """
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    state, flags, env_start = fields[0], int(fields[6]), int(fields[47])
    return env_start == 0 and state not in (b"Z", b"X") and not flags & PF_KTHREAD


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def _command(pid: int) -> str:
    try:
        words = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
    except OSError:
        return "it has ended"
    return b" ".join(words).decode(errors="replace")


def _wait(env: dict[str, str], timeout_s: float) -> None:
    """Wait until none of the processes lives, those included that they start meanwhile."""
    deadline = time.monotonic() + timeout_s
    while (pids := _living(env)) and (left_s := deadline - time.monotonic()) > 0:
        with contextlib.ExitStack() as stack:
            poller = select.poll()
            for pid in pids:
                try:
                    pidfd = os.pidfd_open(pid)
                except ProcessLookupError:
                    left_s = 0.0
                    continue
                stack.callback(os.close, pidfd)
                poller.register(pidfd, select.POLLIN)
            poller.poll(min(left_s * 1000, 2**31 - 1))


def _send(env: dict[str, str], number: signal.Signals) -> None:
    for pid in _living(env):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
