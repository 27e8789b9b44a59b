# SPDX-License-Identifier: Apache-2.0
"""One connection's life: cuts change nothing, the first fault ends it."""

import tracemalloc
from itertools import pairwise

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.wire import limits
from privcmdd.wire.connection import TRANSITIONS, Connection, Input, ProtocolError, State
from privcmdd.wire.messages import BadRequest, Notification, Request
from support.bombs import BOMBS
from support.documents import STREAMS, feed, plain


def request(method: str = "ping", msgid: int = 1, **params: object) -> bytes:
    """Encode a request as a client does."""
    return bytes(msgpack.packb([0, msgid, method, [params]]))


@given(STREAMS)
def test_whole_and_byte_at_a_time_are_the_same(stream: bytes) -> None:
    """h11's law: the events of a stream do not depend on how it is cut."""
    whole = [plain(event) for event in feed([stream])]
    bytewise = [plain(event) for event in feed([stream[i : i + 1] for i in range(len(stream))])]

    assert bytewise == whole


@given(STREAMS, st.lists(st.integers(0, 2000), max_size=8))
def test_whole_and_random_pieces_are_the_same(stream: bytes, cuts: list[int]) -> None:
    """Nor on any other cut."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]

    assert [plain(event) for event in feed(pieces)] == [plain(event) for event in feed([stream])]


@given(STREAMS, STREAMS)
def test_a_protocol_error_is_the_last_event(stream: bytes, more: bytes) -> None:
    """After the first fault nothing comes out and nothing is kept, whatever arrives."""
    connection = Connection()
    events = connection.receive(stream)
    faults = [event for event in events if isinstance(event, ProtocolError)]

    assert faults in ([], events[-1:])
    if faults:
        assert connection.state is State.CLOSED
        assert connection.receive(more) == []
        assert connection.statistics().buffered_bytes == 0


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_the_connection_after_what_came_before(name: str) -> None:
    """Requests in front of a bomb are still answered; the bomb is named, and takes no memory."""
    data, reason = BOMBS[name]
    connection = Connection()
    stream = request() + data
    tracemalloc.start()
    try:
        events = [e for at in range(0, len(stream), 65_536) for e in connection.receive(stream[at : at + 65_536])]
        held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [type(event) for event in events] == [Request, ProtocolError]
    assert isinstance(events[1], ProtocolError)
    assert events[1].reason == reason
    assert held_bytes < 128 * 1024
    assert peak_bytes < limits.MESSAGE_BYTES * 2 if reason == "size" else peak_bytes < 512 * 1024


def test_the_table_names_every_state() -> None:
    """A state without a row, or a way out of CLOSED, would be a bug that only a client would find."""
    assert set(TRANSITIONS) == set(State)
    assert set(TRANSITIONS[State.CLOSED].values()) == {State.CLOSED}
    for state in (State.IDLE, State.PARTIAL):
        assert set(TRANSITIONS[state]) == set(Input)


def test_states_follow_the_stream() -> None:
    """IDLE between messages, PARTIAL inside one, with exactly the unfinished bytes kept."""
    connection = Connection()
    message = request()

    connection.receive(message + message[:3])

    assert connection.statistics().state == "PARTIAL"
    assert connection.statistics().buffered_bytes == 3

    connection.receive(message[3:])

    assert connection.statistics().state == "IDLE"
    assert connection.statistics().buffered_bytes == 0
    assert connection.statistics().requests == 2


def test_an_end_between_messages_is_no_fault() -> None:
    """A client that closes when it is done has done nothing wrong."""
    connection = Connection()
    connection.receive(request())

    assert connection.receive_end() == []
    assert connection.receive_end() == []
    assert connection.state is State.CLOSED


def test_an_end_inside_a_message_is_told() -> None:
    """Half a message and then nothing: the connection says so, once."""
    connection = Connection()
    connection.receive(request()[:5])

    (event,) = connection.receive_end()

    assert isinstance(event, ProtocolError)
    assert event.reason == "truncated"
    assert connection.receive_end() == []


def test_nothing_of_the_readers_buffer_is_kept() -> None:
    """The caller may read into the same memory again at once."""
    connection = Connection()
    data = bytearray(request("a", note=b"xyz") + request("b")[:4])
    (first,) = connection.receive(memoryview(data))
    data[:] = bytes(len(data))

    (second,) = connection.receive(request("b")[4:])

    assert first == Request(1, "a", {"note": b"xyz"})
    assert second == Request(1, "b", {})


def test_a_large_bin_in_many_pieces_is_copied_but_twice() -> None:
    """A message of 8 MiB in 64 KiB pieces needs its buffer, its value, and no third copy."""
    stream = request(arr=bytes(8 << 20))
    pieces = [stream[i : i + 65_536] for i in range(0, len(stream), 65_536)]
    connection = Connection()
    tracemalloc.start()
    try:
        events = [event for piece in pieces for event in connection.receive(piece)]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(events) == 1
    assert peak_bytes < 2.3 * len(stream)


def test_counters_tell_what_came() -> None:
    """`statistics()` tells requests, bad ones among them, and notifications apart."""
    connection = Connection()
    bad = msgpack.packb([0, 2, "ping", [1, 2]])
    note = msgpack.packb([2, b"nvim_set_client_info", ["x"]])
    events = connection.receive(request() + bad + note)
    counted = connection.statistics()

    assert [type(event) for event in events] == [Request, BadRequest, Notification]
    assert (counted.requests, counted.bad_requests, counted.notifications) == (2, 1, 1)
    assert counted.bytes_received == len(request() + bad + note)
