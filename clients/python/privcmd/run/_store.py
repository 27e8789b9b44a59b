# SPDX-License-Identifier: Apache-2.0
"""As much of a xenstore client as a toolstack needs to get a device model going (docs/misc/xenstore.txt)."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Self

from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from pathlib import Path

# XS_* of xen/include/public/io/xs_wire.h.
READ: Final = 2
WATCH: Final = 4
WRITE: Final = 11
WATCH_EVENT: Final = 15
ERROR: Final = 16
HEADER: Final = struct.Struct("<4I")  # type, request, transaction, size
ANSWER_TIMEOUT_S: Final = 10.0


class Store:
    """One connection to xenstored.

    Args:
        directory: Where its socket is.

    Raises:
        OSError: Nobody listens there.
    """

    def __init__(self, directory: str | Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(ANSWER_TIMEOUT_S)
            self._socket.connect(f"{directory}/socket")
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._socket.close()

    def write(self, path: str, value: str) -> None:
        """Write a node, and those above it that are not there.

        Raises:
            PrivcmdError: EIO, xenstored refuses, with its word for why.
        """
        self._ask(WRITE, f"{path}\0{value}".encode())

    def read(self, path: str) -> str | None:
        """What a node holds; None when there is none.

        Raises:
            PrivcmdError: EIO, xenstored refuses.
        """
        try:
            return self._ask(READ, f"{path}\0".encode()).decode(errors="replace")
        except FileNotFoundError:
            return None

    def wait_for(self, path: str, value: str, *, pidfd: int, timeout_s: float) -> bool:
        """Wait until a node holds a value.

        Args:
            path: The node.
            value: What it is to hold.
            pidfd: The process that is to write it; when that has ended, waiting ends.
            timeout_s: How long at most, in seconds.

        Returns:
            Whether it does.
        """
        deadline = time.monotonic() + timeout_s
        self._ask(WATCH, f"{path}\0{value}\0".encode())
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        while self.read(path) != value:
            left_ms = max(0.0, (deadline - time.monotonic()) * 1000)
            ready = {fd for fd, _ in poller.poll(left_ms)}
            if pidfd in ready or not ready:
                return self.read(path) == value
            self._message()  # a watch event: look again
        return True

    def _ask(self, kind: int, body: bytes) -> bytes:
        self._socket.sendall(HEADER.pack(kind, 0, 0, len(body)) + body)
        while True:
            answered, data = self._message()
            if answered == ERROR:
                name = data.rstrip(b"\0").decode(errors="replace")
                if name == "ENOENT":
                    raise FileNotFoundError
                raise PrivcmdError(errno.EIO, f"xenstored answers {name} to {body.split(bytes(1))[0].decode()}")
            if answered == kind:
                return data

    def _message(self) -> tuple[int, bytes]:
        kind, _, _, size = HEADER.unpack(self._received(HEADER.size))
        return kind, self._received(size)

    def _received(self, size: int) -> bytes:
        try:
            data = self._socket.recv(size, socket.MSG_WAITALL) if size else b""
        except ConnectionError:
            data = b""
        if len(data) < size:
            raise PrivcmdError(errno.EIO, "xenstored has hung up")
        return data
