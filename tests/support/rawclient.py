# SPDX-License-Identifier: Apache-2.0
"""A client that is nothing but a socket and msgpack: it can send anything, and hides nothing that comes back."""

import array
import select
import socket
from typing import Any, Self

import msgpack

TIMEOUT_S = 30.0
"""A guard, not a measure: no test waits for it."""


class Refused(Exception):  # noqa: N818 - an answer, not a failure of the test
    """The broker answered with an error."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.errno: int = error[0]
        self.line: str = error[1]
        self.details: dict[str, Any] = error[2]

    @property
    def name(self) -> str:
        """`EINVAL` and so on, as the text begins."""
        return self.line.partition(":")[0]


class Ended(Exception):  # noqa: N818 - what some tests want to see
    """The broker closed the connection."""


class RawClient:
    """One connection."""

    def __init__(self, path: str | None = None, connected: socket.socket | None = None) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) if connected is None else connected
        self.sock.settimeout(TIMEOUT_S)
        if path is not None:
            try:
                self.sock.connect(path)
            except OSError:
                self.sock.close()
                raise
        self._unpacker = msgpack.Unpacker(max_buffer_size=64 << 20)
        self._msgid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send bytes, and descriptors with the first of them; a connection that ended meanwhile is no error."""
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                sent = self.sock.sendmsg([data], rights)
                data = data[sent:]
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def message(self) -> Any:
        """Receive the next message.

        Raises:
            Ended: the stream ended instead.
        """
        while True:
            try:
                return self._unpacker.unpack()
            except msgpack.OutOfData:
                pass
            try:
                data = self.sock.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Ended
            self._unpacker.feed(data)

    def post(self, method: str, params: Any) -> int:
        """Send a request, params as they are; return its msgid."""
        self._msgid += 1
        self.send(msgpack.packb([0, self._msgid, method, params]))
        return self._msgid

    def answer(self, msgid: int) -> Any:
        """Receive the answer to a request, which is the next message.

        Raises:
            Refused: it is an error.
        """
        kind, got, error, result = self.message()
        assert (kind, got) == (1, msgid)
        if error is not None:
            raise Refused(error)
        return result

    def call(self, method: str, /, **params: Any) -> Any:
        """Ask, and wait for the answer."""
        return self.answer(self.post(method, [params]))

    def ended(self) -> bool:
        """Read to the end of the stream; False when it does not end."""
        try:
            while True:
                self.message()
        except Ended:
            return True
        except TimeoutError:
            return False

    def flood(self, data: bytes, most_bytes: int) -> int:
        """Send again and again without reading, until nothing more is taken; how many bytes were."""
        taken = 0
        view = memoryview(data)
        self.sock.setblocking(False)
        poller = select.poll()
        poller.register(self.sock, select.POLLOUT)
        try:
            while taken < most_bytes and poller.poll(1000):
                taken += self.sock.send(view[taken % len(data) :])
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self.sock.settimeout(TIMEOUT_S)
        return taken
