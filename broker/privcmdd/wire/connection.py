# SPDX-License-Identifier: Apache-2.0
"""The incoming side of one connection: it takes bytes and descriptor numbers and gives messages. It does no I/O.

Rules:

1. Every change of the state goes through `TRANSITIONS`; a pair that is not in the table is a bug of ours.
2. How the stream is cut into pieces changes nothing: whole or byte by byte, it gives the same events.
3. The first byte that cannot be decoded ends the connection: it gives one `ProtocolError`, and no event after that.
4. Descriptors are only numbers here. A descriptor that no message declared, or that no method takes, is handed back
   by `take_unclaimed_fds`, and the caller closes it.

Theory of operation. A connection is `IDLE` between messages and `PARTIAL` inside one. In `IDLE` it holds no
buffer: the bytes given to `receive` are decoded in place, and only the beginning of an unfinished message is kept.
Descriptors arrive with the first byte of their message, so when the connection is `IDLE` again, the descriptors left
over belong to no message.
"""

import enum
import errno
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from privcmdd.wire import limits
from privcmdd.wire.codec import Buffer, CodecError, Scanner, decode
from privcmdd.wire.messages import BadRequest, Notification, Request, interpret
from privcmdd.wire.methods import METHODS
from privcmdd.wire.params import shown


class State(enum.Enum):
    """The states of a connection."""

    IDLE = "between messages"
    PARTIAL = "inside a message"
    CLOSED = "nothing more is read"

    __hash__ = object.__hash__  # Enum's own hashes the name each time; each transition looks up two members


class Input(enum.Enum):
    """The events that change the state of a connection."""

    MESSAGE = "the last byte that came ended a message"
    REMAINDER = "the last byte that came is inside a message"
    BROKEN = "the stream broke a bound, a type or a shape"
    END = "the peer has shut down its side: it sends no more"

    __hash__ = object.__hash__


TRANSITIONS: Final[dict[State, dict[Input, State]]] = {
    State.IDLE: {
        Input.MESSAGE: State.IDLE,
        Input.REMAINDER: State.PARTIAL,
        Input.BROKEN: State.CLOSED,
        Input.END: State.CLOSED,
    },
    State.PARTIAL: {
        Input.MESSAGE: State.IDLE,
        Input.REMAINDER: State.PARTIAL,
        Input.BROKEN: State.CLOSED,
        Input.END: State.CLOSED,
    },
    State.CLOSED: {
        Input.END: State.CLOSED,
    },
}


# To look up a member in its enumeration costs 0.1 us in Python 3.11, and every message needs these three.
IDLE: Final = State.IDLE
CLOSED: Final = State.CLOSED
MESSAGE: Final = Input.MESSAGE


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """The peer's stream is broken, and the connection is to be closed. `CodecError` lists the reasons."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """What one connection has received so far.

    Attributes:
        state: the name of the connection's state.
        bytes_received: all bytes, decodable or not.
        requests: requests that can be answered, bad requests included.
        bad_requests: requests answered with an error before their method was looked up.
        notifications: messages that want no answer.
        buffered_bytes: bytes kept of an unfinished message.
        waiting_fds: descriptors whose message is unfinished.
        unclaimed_fds: descriptors handed back so far, whether or not the caller has taken them.
    """

    state: str
    bytes_received: int
    requests: int
    bad_requests: int
    notifications: int
    buffered_bytes: int
    waiting_fds: int
    unclaimed_fds: int


Event = Request | BadRequest | Notification | ProtocolError


class Connection:
    """Makes events of one peer's stream; holds at most one unfinished message."""

    __slots__ = (
        "_bad_requests",
        "_buffer",
        "_bytes_received",
        "_fds",
        "_notifications",
        "_requests",
        "_scanner",
        "_state",
        "_unclaimed",
        "_unclaimed_count",
    )

    def __init__(self) -> None:
        self._state = State.IDLE
        self._scanner = Scanner()
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._unclaimed: list[int] = []
        self._bytes_received = 0
        self._requests = 0
        self._bad_requests = 0
        self._notifications = 0
        self._unclaimed_count = 0

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    def receive(self, data: Buffer, fds: Sequence[int] = ()) -> list[Event]:
        """Decode the bytes of one read.

        Args:
            data: the bytes; no reference to them is kept.
            fds: the descriptors that came with the bytes, in order. The caller owns them, and takes those that no
                message uses back with `take_unclaimed_fds` after each call.

        Returns:
            The messages that are complete now, in order. A `ProtocolError` is the last event of the connection.
        """
        self._bytes_received += len(data)
        if fds:
            self._fds.extend(fds)
        if self._state is CLOSED:
            self._hand_back()
            return []
        events: list[Event] = []
        source: Buffer = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        start = 0
        try:
            start = self._messages(source, events)
            if start < len(source):
                self._check_waiting_fds()
        except CodecError as error:
            events.append(self._fail(error))
            return events
        if start < len(source):
            if source is self._buffer:
                del self._buffer[:start]
            else:
                self._buffer += memoryview(source)[start:]
            self._move(Input.REMAINDER)
        elif data and self._state is not IDLE:
            self._buffer.clear()
            self._move(MESSAGE)
        if self._fds and self._state is IDLE:
            self._hand_back()
        return events

    def receive_end(self) -> list[Event]:
        """Note that the peer has shut down its side; return a `ProtocolError` if that is inside a message."""
        if self._state is State.PARTIAL:
            text = f"the stream ended inside a message, {len(self._buffer)} bytes into it"
            return [self._fail(CodecError("truncated", text))]
        self._hand_back()
        self._move(Input.END)
        return []

    def take_unclaimed_fds(self) -> list[int]:
        """Hand over descriptors that nobody declared or wants; the caller closes them."""
        if not self._unclaimed:
            return []
        taken, self._unclaimed = self._unclaimed, []
        return taken

    def statistics(self) -> ConnectionStatistics:
        """Return the counters as they are now."""
        return ConnectionStatistics(
            state=self._state.name,
            bytes_received=self._bytes_received,
            requests=self._requests,
            bad_requests=self._bad_requests,
            notifications=self._notifications,
            buffered_bytes=len(self._buffer),
            waiting_fds=len(self._fds),
            unclaimed_fds=self._unclaimed_count,
        )

    def _messages(self, source: Buffer, events: list[Event]) -> int:
        """Append an event for each complete message; return where the unfinished message begins."""
        scan = self._scanner.scan
        start = 0
        while start < len(source):
            end = scan(source, start)
            if end < 0:
                break
            whole = start == 0 and end == len(source)
            message = decode(source if whole else memoryview(source)[start:end])
            start = end
            event: Event = interpret(message)
            if event.__class__ is Notification:
                self._notifications += 1
            else:
                if event.__class__ is Request and "fds" in event.params:
                    event = self._claim(event)
                self._requests += 1
                self._bad_requests += event.__class__ is BadRequest
            events.append(event)
        return start

    def _claim(self, request: Request) -> Request | BadRequest:
        """Take the reserved key `fds`, with which a request declares its descriptors, out of the request."""
        declared = request.params.pop("fds")
        key: dict[str, object] = {"key": "fds"}
        if declared.__class__ is not int or not 0 <= declared <= limits.FDS_PER_MESSAGE:
            text = f"fds: {shown(declared)}; expected how many descriptors came, 0..{limits.FDS_PER_MESSAGE}"
            return BadRequest(request.msgid, request.method, errno.EINVAL, text, key)
        assert isinstance(declared, int)
        if declared > len(self._fds):
            raise CodecError(
                "fds",
                f"{request.method} declares {declared} descriptors and {len(self._fds)} came; "
                "they travel with the first byte of their message",
            )
        for _ in range(declared):
            self._hand_back_one()
        if declared and request.method in METHODS:
            text = f"fds: {declared}; {request.method} takes no descriptors, leave the key out"
            return BadRequest(request.msgid, request.method, errno.EINVAL, text, key)
        return request

    def _check_waiting_fds(self) -> None:
        if len(self._fds) > limits.FDS_PER_MESSAGE:
            text = f"{len(self._fds)} descriptors wait for one message; at most {limits.FDS_PER_MESSAGE} may"
            raise CodecError("fds", text)

    def _hand_back_one(self) -> None:
        self._unclaimed.append(self._fds.popleft())
        self._unclaimed_count += 1

    def _hand_back(self) -> None:
        while self._fds:
            self._hand_back_one()

    def _fail(self, error: CodecError) -> ProtocolError:
        self._hand_back()
        self._buffer = bytearray()
        self._scanner = Scanner()
        self._move(Input.BROKEN)
        return ProtocolError(error.reason, error.text)

    def _move(self, happened: Input) -> None:
        self._state = TRANSITIONS[self._state][happened]
