# SPDX-License-Identifier: Apache-2.0
"""A process ``privcmdd serve`` that was started by this one."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys

from privcmd._runtimes import preload_without_them
from privcmd.errors import NoBroker

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Sequence

START_TIMEOUT_S = 30.0
"""How long a start may take. It usually takes a fifth of a second, and ten times that on a busy machine."""

STOP_TIMEOUT_S = 10.0
"""How long a stop may take before it is forced; longer than the broker's own ``drain_timeout_s``."""


class Serving:
    """A broker's process.

    Of the environment it takes no ``PRIVCMDD_`` settings.

    Args:
        directory: Where its output goes, and its configuration; the caller's to remove.
        args: More arguments for ``privcmdd serve``: where it is to serve, at least.
        config: A configuration as TOML text; None is the built-in one.
        fds: Descriptors that it inherits.
        notify: The socket that it tells when it is ready; none unless given.
        apart: Whether it is out of the reach of the terminal's signals.

    Attributes:
        pid: The process.
    """

    def __init__(
        self,
        directory: str,
        args: Sequence[str],
        config: str | None = None,
        *,
        fds: Sequence[int] = (),
        notify: str | None = None,
        apart: bool = False,
    ) -> None:
        self._output = f"{directory}/output"
        command = [sys.executable, "-m", "privcmdd", "serve", *args]
        if config is not None:
            with open(f"{directory}/privcmdd.toml", "w", encoding="utf-8") as file:
                file.write(config)
            command += ["--config", f"{directory}/privcmdd.toml"]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PRIVCMDD_")}
        if "LD_PRELOAD" in inherited:
            inherited["LD_PRELOAD"] = preload_without_them()
        told = {} if notify is None else {"NOTIFY_SOCKET": notify}
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=fds,
                env={**inherited, **told},
                start_new_session=apart,
            )
        self.pid: int = self._process.pid

    @property
    def output(self) -> str:
        """All that it has written to its standard output and error so far."""
        with open(self._output, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def lives(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask it to stop (SIGTERM) and wait; after ``timeout_s`` seconds kill it.

        Returns:
            Its exit status, negative for a signal.
        """
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait() if not self.lives or self._ends_within(timeout_s) else self.kill()

    def kill(self) -> int:
        """End it at once (SIGKILL) and wait. Returns -9, or its exit status if it had ended before."""
        self._process.send_signal(signal.SIGKILL)
        return self._process.wait()

    def ended_early(self) -> NoBroker:
        """Wait for its end, which came before it served anybody. Returns the error that says so."""
        why = f"ended with status {self._process.wait()} before it listened"
        return NoBroker(errno.ECONNREFUSED, f"the broker {why}:\n{self.output.strip()}")

    def _ends_within(self, timeout_s: float) -> bool:
        """Wait for its end. (``Popen.wait`` with a timeout looks again and again, up to every 50 ms.)."""
        pidfd = os.pidfd_open(self.pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            return bool(poller.poll(timeout_s * 1000))
        finally:
            os.close(pidfd)
