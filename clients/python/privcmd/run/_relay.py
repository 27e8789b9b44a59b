# SPDX-License-Identifier: Apache-2.0
"""Takes those who waited at a socket to another one, and copies between the two for as long as both go on."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

PIECE_BYTES: Final = 65_536


class Relay:
    """Accepts at one socket and connects to another, for each client.

    Args:
        listener: Where clients come; the caller's to close.
        path: The socket that they are taken to.
    """

    def __init__(self, listener: socket.socket, path: str) -> None:
        self._listener = listener
        self._path = path
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """End it, and all connections through it."""
        _shut(self._listener)  # which wakes accept(2)
        self._accepting.join()
        for sock in self._sockets:
            _shut(sock)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._sockets += [client, server]
                server.connect(self._path)
                for pair in ((client, server), (server, client)):
                    thread = threading.Thread(target=_copy, args=pair, daemon=True)
                    self._threads.append(thread)
                    thread.start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the source ends; then the target hears of it."""
    with contextlib.suppress(OSError):
        while data := source.recv(PIECE_BYTES):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
