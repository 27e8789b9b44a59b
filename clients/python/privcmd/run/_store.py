# SPDX-License-Identifier: Apache-2.0
"""As much of a xenstore client as a toolstack needs to make domains known there (docs/misc/xenstore.txt)."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from privcmd.errors import PrivcmdError

if TYPE_CHECKING:
    from pathlib import Path

# XS_* of xen/include/public/io/xs_wire.h.
READ: Final = 2
WRITE: Final = 11
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

    def _ask(self, kind: int, body: bytes) -> bytes:
        self._socket.sendall(HEADER.pack(kind, 0, 0, len(body)) + body)
        answered, data = self._message()
        if answered != ERROR:
            return data
        name = data.rstrip(b"\0").decode(errors="replace")
        if name == "ENOENT":
            raise FileNotFoundError
        raise PrivcmdError(errno.EIO, f"xenstored answers {name} to {body.split(bytes(1))[0].decode()}")

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
