# SPDX-License-Identifier: Apache-2.0
"""The incoming side of one connection: it takes bytes and gives messages. It does no I/O.

Rules:

1. Every change of the state goes through `TRANSITIONS`; a pair that is not in the table is a bug of ours.
2. How the stream is cut into pieces changes nothing: whole or byte by byte, it gives the same events.
3. The first byte that cannot be decoded ends the connection: it gives one `ProtocolError`, and no event after that.

Theory of operation. A connection is `IDLE` between messages and `PARTIAL` inside one. In `IDLE` it holds no
buffer: the bytes given to `receive` are decoded in place, and only the beginning of an unfinished message is kept.
"""

import enum
from dataclasses import dataclass
from typing import Final

from privcmdd.wire.codec import Buffer, CodecError, Scanner, decode
from privcmdd.wire.messages import BadRequest, Notification, Request, interpret


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
    """

    state: str
    bytes_received: int
    requests: int
    bad_requests: int
    notifications: int
    buffered_bytes: int


Event = Request | BadRequest | Notification | ProtocolError


class Connection:
    """Makes events of one peer's stream; holds at most one unfinished message."""

    __slots__ = (
        "_bad_requests",
        "_buffer",
        "_bytes_received",
        "_notifications",
        "_requests",
        "_scanner",
        "_state",
    )

    def __init__(self) -> None:
        self._state = State.IDLE
        self._scanner = Scanner()
        self._buffer = bytearray()
        self._bytes_received = 0
        self._requests = 0
        self._bad_requests = 0
        self._notifications = 0

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    @property
    def n_expected(self) -> int:
        """How many bytes are kept, or will be, of the unfinished message, as far as its headers have told."""
        return max(len(self._buffer), self._scanner.n_expected)

    def receive(self, data: Buffer) -> list[Event]:
        """Decode the bytes of one read.

        Args:
            data: the bytes; no reference to them is kept.

        Returns:
            The messages that are complete now, in order. A `ProtocolError` is the last event of the connection.
        """
        self._bytes_received += len(data)
        if self._state is CLOSED:
            return []
        events: list[Event] = []
        source: Buffer = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        start = 0
        try:
            start = self._messages(source, events)
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
        return events

    def receive_end(self) -> list[Event]:
        """Note that the peer has shut down its side; return a `ProtocolError` if that is inside a message."""
        if self._state is State.PARTIAL:
            text = f"the stream ended inside a message, {len(self._buffer)} bytes into it"
            return [self._fail(CodecError("truncated", text))]
        self._move(Input.END)
        return []

    def statistics(self) -> ConnectionStatistics:
        """Return the counters as they are now."""
        return ConnectionStatistics(
            state=self._state.name,
            bytes_received=self._bytes_received,
            requests=self._requests,
            bad_requests=self._bad_requests,
            notifications=self._notifications,
            buffered_bytes=len(self._buffer),
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
                self._requests += 1
                self._bad_requests += event.__class__ is BadRequest
            events.append(event)
        return start

    def _fail(self, error: CodecError) -> ProtocolError:
        self._buffer = bytearray()
        self._scanner = Scanner()
        self._move(Input.BROKEN)
        return ProtocolError(error.reason, error.text)

    def _move(self, happened: Input) -> None:
        self._state = TRANSITIONS[self._state][happened]
