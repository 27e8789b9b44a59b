# SPDX-License-Identifier: Apache-2.0
"""Device models of one's own beside a program: started before it, waited for, and ended after it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from privcmd.errors import PrivcmdError
from privcmd.run import _program as program
from privcmd.run import _reach as reach
from privcmd.run import _sanitizers as sanitizers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from privcmd._connection import Connection

READY_TIMEOUT_S: Final = 60.0
"""How long device models may take until they are ready."""
TERM_S: Final = 2.0
"""From SIGTERM to SIGKILL."""
TRY_AGAIN_S: Final = 0.05
"""From one run of a command that says whether they are ready to the next."""


class Models:
    """The device models of a run.

    Args:
        commands: The command line of each.
        env: Their environment, with the shim preloaded. What they write to standard output goes to standard error,
            because standard output is the program's.

    Raises:
        PrivcmdError: One of them cannot be started (``_reach.Unreachable``).
    """

    def __init__(self, commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> None:
        self._stack = contextlib.ExitStack()
        self._running: list[tuple[str, subprocess.Popen[bytes], int]] = []
        try:
            for words in commands:
                path = reach.check(words[0])
                its = sanitizers.environment(env, path)
                process = program.start(self._stack, [path, *words[1:]], its, sys.stderr.fileno(), signal.SIGTERM)
                pidfd = os.pidfd_open(process.pid)
                self._stack.callback(os.close, pidfd)
                self._running.append((words[0], process, pidfd))
        except BaseException:
            self.end()
            raise

    def wait_for_servers(self, link: Connection, doms: Sequence[int], n: int) -> None:
        """Wait until domains have so many ioreq servers that are enabled.

        Args:
            link: A connection to the broker; it hears of ioreq servers from now on.
            doms: The domains; empty: all that there are.
            n: How many.

        Raises:
            PrivcmdError: EIO, a device model ended before; ETIMEDOUT.
        """
        link.call("subscribe", topics=["ioreq"])

        def there() -> int:
            of = doms or [row["dom"] for row in link.call("domain.list")["domains"]]
            return sum(row["enabled"] for dom in of for row in link.call("ioreq.servers", dom=dom)["servers"])

        def missing() -> str:
            return (
                f"{n} ioreq servers were waited for, and {there()} are enabled; a device model makes one by "
                "XEN_DMOP_create_ioreq_server, and enables it by XEN_DMOP_set_ioreq_server_state"
            )

        self._wait(lambda: there() >= n, missing, link.fileno())

    def wait_for_command(self, command: str, env: Mapping[str, str]) -> None:
        """Wait until a shell command succeeds: it is run again and again.

        Raises:
            PrivcmdError: EIO, a device model ended before; ETIMEDOUT, with what the command said last.
        """
        done = subprocess.CompletedProcess[str]([], 0, "")

        def succeeds() -> bool:
            nonlocal done
            done = subprocess.run(  # noqa: S602 - a shell command is what it is said to be
                command, shell=True, env=env, text=True, errors="replace", check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            return not done.returncode

        self._wait(
            succeeds,
            lambda: f"{command!r} was to say when all is ready, and ended with status {done.returncode}: {done.stdout}",
        )

    def end(self) -> bool:
        """End them, with all processes of theirs, and say which have ended before, and how. Idempotent.

        Returns:
            Whether one did not end by itself when it was told to (SIGTERM).
        """
        cut_off = False
        for name, process, pidfd in self._running:
            if process.poll() is not None:
                sys.stderr.write(f"privcmdctl: {name} {how(process.returncode)} before the program ended\n")
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
                _readable([pidfd], TERM_S)
            cut_off |= process.wait() < 0
        self._running.clear()
        self._stack.close()
        return cut_off

    def _wait(self, done: Callable[[], bool], missing: Callable[[], str], *heard: int) -> None:
        """Wait until something is done; it is looked at again when one of ``heard`` can be read, or else soon."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not done():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise PrivcmdError(errno.ETIMEDOUT, f"not ready within {READY_TIMEOUT_S:g} s: {missing().strip()}")
            _readable([*heard, *(pidfd for _, _, pidfd in self._running)], left_s if heard else TRY_AGAIN_S)
            for name, process, _ in self._running:
                if process.poll() is not None and not done():
                    self._running.clear()
                    raise PrivcmdError(errno.EIO, f"{name} {how(process.returncode)} before it was ready")


def how(status: int) -> str:
    """How a process ended."""
    return f"ended with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"


def _readable(fds: Sequence[int], timeout_s: float) -> bool:
    """Wait until one of the descriptors can be read. Returns whether one can."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
