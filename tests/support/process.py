# SPDX-License-Identifier: Apache-2.0
"""A broker process under full control: its arguments, environment, descriptors, lines and signals."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.rawclient import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

GUARD_S = 30.0
"""A guard, not a measure: no test waits for it."""


class Process:
    """``privcmdd serve`` in a directory of its own, supervised through NOTIFY_SOCKET.

    Args:
        args: After ``serve``.
        listen: Give it ``--socket-path``.
        config: The text of its configuration file.
        environ: Added to its environment.
        fds: Descriptors it inherits.
        wrapper: A command that ends by executing the rest of its arguments.
        path: Where it listens; None: in its directory.
    """

    def __init__(
        self,
        *args: str,
        listen: bool = True,
        config: str | None = None,
        environ: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        wrapper: Sequence[str] = (),
        path: str | None = None,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="pv")
        self.folder = Path(self._directory.name)
        self.path = path or str(self.folder / "b")
        self.config = self.folder / "privcmdd.toml"
        command = [*wrapper, sys.executable, "-m", "privcmdd", "serve", *args]
        if listen:
            command += ["--socket-path", self.path]
        if config is not None:
            self.config.write_text(config)
            command += ["--config", str(self.config)]
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.settimeout(GUARD_S)
        self._manager.bind(str(self.folder / "n"))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PRIVCMDD_")}
        self.stderr = (self.folder / "stderr").open("w+b")
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=self.stderr,
            pass_fds=fds,
            env={**clean, "NOTIFY_SOCKET": str(self.folder / "n"), **(environ or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._manager.close()
        self.stderr.close()
        self._directory.cleanup()

    def told(self) -> dict[str, str]:
        """What it tells the service manager next; fails when it ends instead."""
        ended = os.pidfd_open(self.popen.pid)
        try:
            readable, _, _ = select.select([self._manager.fileno(), ended], [], [], GUARD_S)
        finally:
            os.close(ended)
        assert self._manager.fileno() in readable, f"ended or silent: {self.output()}"
        return dict(line.split("=", 1) for line in self._manager.recv(4096).decode().split("\n"))

    def ready(self) -> Self:
        """Wait until it accepts connections."""
        assert self.told()["READY"] == "1"
        return self

    def client(self) -> RawClient:
        """A new connection."""
        return RawClient(self.path)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return self.popen.wait(GUARD_S)

    def stop(self) -> int:
        """End it as a service manager would; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def output(self) -> str:
        """All it has written to standard error so far."""
        self.stderr.flush()
        return (self.folder / "stderr").read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.output().splitlines()]

    def events(self) -> list[str]:
        """What its log's lines are about."""
        return [line["event"] for line in self.lines()]


def eventually(true: Callable[[], bool]) -> bool:
    """Ask again and again until the answer is yes; return whether it was before the guard ended."""
    deadline = time.monotonic() + GUARD_S
    while not true():
        if time.monotonic() > deadline:
            return False
    return True
