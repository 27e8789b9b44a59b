# SPDX-License-Identifier: Apache-2.0
"""A private broker for as long as a ``with`` block lasts: for tests, demonstrations and `run`."""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import tempfile
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Self

from privcmd._serving import START_TIMEOUT_S, STOP_TIMEOUT_S, Serving
from privcmd._signals import put_off
from privcmd.errors import NoBroker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd.client import Client

__all__ = ["PrivateBroker"]

_SUN_PATH_ROOM = 80


class PrivateBroker:
    """Starts ``privcmdd serve`` on a socket in a private directory, and stops it at the end.

    Args:
        config: A configuration as TOML text; by default the built-in one, whatever the environment says.
        args: More arguments for ``privcmdd serve``, such as ``("--paranoid",)``.
        start_timeout_s: How long to wait for it to listen, in seconds.

    Attributes:
        path: The broker's socket.
        pid: The broker's process.

    Raises:
        NoBroker: The broker ended before it listened, or did not listen in time; the message has its output.

    The broker simulates the release of Xen that the tools on this machine are made for, unless ``host.xen`` chooses
    another.

    When the block ends, when the object is collected, and at the end of the interpreter the process is killed and its
    directory removed. The broker's output goes to a file; see `output`.
    """

    def __init__(
        self,
        config: str | None = None,
        args: Sequence[str] = (),
        *,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        base = tempfile.gettempdir()
        directory = tempfile.mkdtemp(prefix="pc-", dir=base if len(base) < _SUN_PATH_ROOM else "/tmp")  # noqa: S108
        place = Path(directory)
        self.path: str = str(place / "s")
        started: list[Serving] = []
        self._finish = weakref.finalize(self, _finish, started, directory, os.getpid())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.bind(str(place / "n"))
                with put_off():
                    where = ["--socket-path", self.path]
                    self._serving = Serving(directory, [*where, *args], config, notify=str(place / "n"))
                    started.append(self._serving)
                self.pid: int = self._serving.pid
                self._wait_until_ready(notify, start_timeout_s)
        except BaseException:
            self._finish()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._serving.lives:
            self.terminate()
        self._finish()

    def client(self, *, timeout_s: float | None = None) -> Client:
        """Make a new connection to the broker."""
        from privcmd.client import Client  # noqa: PLC0415 - slow to import, and not all who start a broker need it

        return Client(self.path, timeout_s=timeout_s)

    @property
    def output(self) -> str:
        """All that the broker has written to its standard output and error so far."""
        return self._serving.output

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask the broker to stop (SIGTERM) and wait; after ``timeout_s`` seconds kill it.

        Returns:
            The broker's exit status, negative for a signal.
        """
        return self._serving.terminate(timeout_s)

    def kill(self) -> int:
        """End the broker at once (SIGKILL) and wait. Returns -9, or its exit status if it had ended before."""
        return self._serving.kill()

    def _wait_until_ready(self, notify: socket.socket, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        ended = os.pidfd_open(self.pid)
        try:
            poller = select.poll()
            poller.register(notify, select.POLLIN)
            poller.register(ended, select.POLLIN)
            while True:
                left_s = deadline - time.monotonic()
                ready = {fd for fd, _ in poller.poll(max(0.0, left_s) * 1000)}
                if notify.fileno() in ready and b"READY=1" in notify.recv(4096).split(b"\n"):
                    return
                if ended in ready:
                    raise self._serving.ended_early()
                if not ready:
                    raise NoBroker(
                        errno.ETIMEDOUT, f"the broker did not listen in {timeout_s} s:\n{self.output.strip()}"
                    )
        finally:
            os.close(ended)


def _finish(started: list[Serving], directory: str, pid: int) -> None:
    """Kill the broker and remove its directory; but not in a forked child, because the broker belongs to the parent."""
    if os.getpid() != pid:
        return
    for serving in started:
        if serving.lives:
            serving.kill()
    shutil.rmtree(directory, ignore_errors=True)
