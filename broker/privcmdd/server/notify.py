# SPDX-License-Identifier: Apache-2.0
"""Messages to the service manager: about the broker's state, and descriptors that it keeps over a crash of the broker.

sd_notify(3) over NOTIFY_SOCKET, sd_pid_notify_with_fds(3) for descriptors.

Nothing is sent when NOTIFY_SOCKET is not set, and no failure of the manager makes the broker fail.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class Notifier:
    """The connection to the service manager; it sends nothing when NOTIFY_SOCKET is not set.

    Attributes:
        watchdog_s: Within which time the manager wants to hear that we are alive, again and again; 0: it does not ask.
        stores: Whether the manager keeps descriptors, and says so (FDSTORE; systemd 254).
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        # An abstract address is written with an @ in place of the leading zero.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        # Only in the process that it was meant for, as sd_watchdog_enabled(3) has it.
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        meant = self._address and usec.isdecimal() and pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if meant else 0.0
        self.stores = bool(self._address) and environ.pop("FDSTORE", "0") not in ("", "0")
        self._sock: socket.socket | None = None
        if self._address:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.setblocking(False)

    def ready(self, status: str) -> None:
        """Tell that connections are accepted."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; ``ready`` has to follow, also after an error."""
        # Type=notify-reload tells a new reload from an old one by this clock.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Tell that no more connections are accepted, and that what has arrived is served."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Tell that the loop that serves turns."""
        self._tell("WATCHDOG=1")

    def store(self, name: str, fd: int) -> None:
        """Have the manager keep a descriptor for the next broker, which gets it by this name."""
        if self._sock is not None and self.stores:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
            with contextlib.suppress(OSError):
                self._sock.sendmsg([f"FDSTORE=1\nFDNAME={name}".encode()], rights, 0, self._address)

    def unstore(self, name: str) -> None:
        """Have the manager close what it keeps by this name."""
        if self.stores:
            self._tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tell(self, *lines: str) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendto("\n".join(lines).encode(), self._address)
