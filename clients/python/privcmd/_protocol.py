# SPDX-License-Identifier: Apache-2.0
"""The client's half of the protocol, without any I/O: requests to bytes, bytes and descriptors to answers.

Promises: answers are matched to requests in any order; memory is bounded by one message; a descriptor that arrives
belongs to the answer that declared it, or is closed here; the conversation ends after a message that the protocol does
not allow. An answer that no caller waits for any more (`forget`) is dropped when it comes, so that later answers are
still matched to their requests.
"""

from __future__ import annotations

import errno
import os
from collections import deque

import msgpack

from privcmd._descriptors import DESCRIPTORS
from privcmd.errors import BrokerConfused, PrivcmdError

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

MAX_MESSAGE_BYTES = 16 * 1024 * 1024 + 64 * 1024
"""The longest message that either side sends: the answer to a batch of a million frames, and its envelope."""

MAX_FDS_PER_READ = 8
"""Descriptors that one read may bring."""

MAX_NOTICES = 4096
"""Notices that a client keeps until its ``notices`` are read; older ones are dropped."""

_REQUEST, _RESPONSE, _NOTIFICATION = 0, 1, 2
_MSGIDS = 1 << 32


class _Value:  # noqa: PLW1641 - no hash, as a dataclass that can be changed
    """What equals another of its kind whose parts are equal: a dataclass without their cost at import."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Answer(_Value):
    """The answer to one request: a result and its descriptors, which the caller closes, or an error."""

    __slots__ = ("error", "fds", "msgid", "result")

    def __init__(self, msgid: int, result: Any, error: PrivcmdError | None = None, fds: tuple[int, ...] = ()) -> None:
        self.msgid = msgid
        self.result = result
        self.error = error
        self.fds = fds


class Notification(_Value):
    """A notification of the broker, after ``subscribe``."""

    __slots__ = ("body", "topic")

    def __init__(self, topic: str, body: dict[str, Any]) -> None:
        self.topic: str = topic
        self.body: dict[str, Any] = body


class Conversation:
    """The state of one connection: the requests that are open, and the bytes of an unfinished answer."""

    def __init__(self) -> None:
        self._next_msgid = 0
        self._open: dict[int, int] = {}  # msgid -> descriptors that its answer brings
        self._forgotten: set[int] = set()
        self._fds: deque[int] = deque()
        self._n_fds_awaited = 0
        self._unpacker = _unpacker()
        self._n_undecoded = 0

    @property
    def n_asked(self) -> int:
        """The number of requests so far."""
        return self._next_msgid

    @property
    def n_open(self) -> int:
        """The number of requests without an answer yet, forgotten ones included."""
        return len(self._open)

    @property
    def expects_fds(self) -> bool:
        """Whether an open request may bring a descriptor; if not, a plain read is enough."""
        return self._n_fds_awaited > 0

    def request(self, method: str, params: Mapping[str, Any]) -> tuple[int, bytes]:
        """Open a request.

        Returns:
            Its msgid and the bytes to send.

        Raises:
            PrivcmdError: EINVAL, a parameter has a value that cannot be sent.
        """
        msgid = self._next_msgid
        try:
            data = msgpack.packb((_REQUEST, msgid, method, (params,)))
        except (TypeError, ValueError, OverflowError) as error:
            raise PrivcmdError(errno.EINVAL, f"{method}: a parameter cannot be sent: {error}") from error
        self._next_msgid = (msgid + 1) % _MSGIDS
        n_fds = DESCRIPTORS.get(method, 0)
        self._open[msgid] = n_fds
        self._n_fds_awaited += n_fds
        return msgid, data

    def requests(self, wanted: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[int], bytes]:
        """Open several requests, or none when one cannot be sent; raises as `request`."""
        msgids: list[int] = []
        parts: list[bytes] = []
        try:
            for method, params in wanted:
                msgid, data = self.request(method, params)
                msgids.append(msgid)
                parts.append(data)
        except PrivcmdError:
            for msgid in msgids:
                self._n_fds_awaited -= self._open.pop(msgid)
            raise
        return msgids, parts[0] if len(parts) == 1 else b"".join(parts)

    def forget(self, msgids: Iterable[int]) -> None:
        """Forget requests that no caller waits for: their answers are dropped when they come."""
        self._forgotten.update(msgid for msgid in msgids if msgid in self._open)

    def receive(self, data: bytes, fds: Iterable[int] = ()) -> list[Answer | Notification]:
        """Take what was read. Returns the messages that are complete, in the order in which the broker sent them.

        Raises:
            BrokerConfused: EPROTO, the protocol does not allow a message. All descriptors held are closed.
        """
        self._fds.extend(fds)
        events: list[Answer | Notification] = []
        try:
            self._unpacker.feed(data)
            self._n_undecoded += len(data)
            before = self._unpacker.tell()
            for message in self._unpacker:
                after = self._unpacker.tell()
                self._n_undecoded -= after - before
                before = after
                event = self._take(message)
                if event is not None:
                    events.append(event)
            self._bound()
        except (ValueError, TypeError, KeyError, IndexError, msgpack.exceptions.UnpackException) as error:
            for event in events:
                if isinstance(event, Answer):
                    close_all(event.fds)
            self.close()
            raise BrokerConfused(errno.EPROTO, f"the broker sent what is no answer: {error!r}") from error
        return events

    def close(self) -> None:
        """Drop everything; descriptors that no answer has claimed are closed. Idempotent."""
        while self._fds:
            os.close(self._fds.popleft())
        self._open.clear()
        self._forgotten.clear()
        self._n_fds_awaited = 0
        self._unpacker = _unpacker()
        self._n_undecoded = 0

    def _bound(self) -> None:
        if self._n_undecoded > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of more than {MAX_MESSAGE_BYTES} bytes")

    def _take(self, message: Any) -> Answer | Notification | None:
        """Make one decoded message an answer or a notice; None when it is dropped. Raises ValueError when it is bad."""
        if not isinstance(message, list) or not message:
            raise ValueError("not a MessagePack-RPC array")
        if message[0] == _RESPONSE and len(message) == 4:
            _, msgid, error, result = message
            n_fds = self._open.pop(msgid)
            self._n_fds_awaited -= n_fds
            fds: tuple[int, ...] = ()
            if n_fds and error is None:
                if len(self._fds) < n_fds:
                    raise ValueError(f"the answer to request {msgid} lacks {n_fds - len(self._fds)} of its descriptors")
                fds = tuple(self._fds.popleft() for _ in range(n_fds))
            if msgid in self._forgotten:
                self._forgotten.discard(msgid)
                close_all(fds)
                return None
            return Answer(msgid, result, None if error is None else error_from_wire(error), fds)
        if message[0] == _NOTIFICATION and len(message) == 3:
            _, topic, params = message
            body = params[0] if params else {}
            if not isinstance(topic, str) or not isinstance(body, dict):
                raise ValueError("a notification that is not [2, topic, [map]]")
            return Notification(topic, body)
        raise ValueError(f"a message of type {message[0]!r} and length {len(message)}")


def error_from_wire(error: Any) -> PrivcmdError:
    """``[errno, "ENAME: text", {details}]`` as an exception. Raises ValueError when it has another form."""
    number, text, details = error
    if not isinstance(number, int) or not isinstance(text, str) or not isinstance(details, dict):
        raise ValueError("an error that is not [errno, text, details]")  # noqa: TRY004
    _, _, sentence = text.partition(": ")
    return PrivcmdError(number, sentence or text, details)


def result_of(read: Callable[[Any, tuple[int, ...]], Any], answer: Answer) -> Any:
    """The value that ``read`` makes of the answer, or its error, not raised."""
    if answer.error is not None:
        return answer.error
    try:
        return read(answer.result, answer.fds)
    except (KeyError, TypeError, ValueError) as error:
        return PrivcmdError(errno.EPROTO, f"the broker's answer is not as agreed: {error!r}")


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that no answer takes."""
    for fd in fds:
        os.close(fd)


def _unpacker() -> msgpack.Unpacker:
    # Bytes beyond the bound are a ValueError of ours or msgpack's BufferFull. The buffer grows only as data comes.
    return msgpack.Unpacker(strict_map_key=True, max_buffer_size=2 * MAX_MESSAGE_BYTES)
