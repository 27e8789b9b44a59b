# SPDX-License-Identifier: Apache-2.0
"""Every bound of the codec holds wherever a message is cut: what was counted of it is not forgotten between pieces."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise

import msgpack
import pytest

from privcmdd.wire import limits
from privcmdd.wire.codec import CodecError, Scanner, decode
from privcmdd.wire.connection import Connection, ProtocolError
from support.bombs import ARRAY16, ARRAY32, BOMBS, MAP16, MAP32

SHORT = 2_500
Make = Callable[[int], bytes]


def head(code: bytes, length: int) -> bytes:
    """The first bytes of a container, text or bin with a length of two or four bytes."""
    return code + struct.pack(">H" if code in (ARRAY16, MAP16, b"\xda", b"\xc5") else ">I", length)


def array_of(*items: bytes) -> bytes:
    """A short array."""
    return bytes((0x90 + len(items),)) + b"".join(items)


def two_bins(n: int) -> bytes:
    """Bins whose second ends behind so many bytes, but for the text after it: the bound is tried where that begins."""
    return array_of(head(b"\xc6", n // 2) + bytes(n // 2), head(b"\xc6", n - n // 2 - 11) + bytes(n - n // 2 - 11))


EDGES: dict[str, tuple[Make, int, str]] = {
    "nodes in one array": (lambda n: head(ARRAY16, n - 1) + b"\0" * (n - 1), limits.NODES, "nodes"),
    "nodes in one long array": (lambda n: head(ARRAY32, n - 1) + b"\0" * (n - 1), limits.NODES, "nodes"),
    "nodes in two arrays": (
        lambda n: array_of(head(ARRAY16, 4000) + b"\0" * 4000, head(ARRAY16, n - 4003) + b"\0" * (n - 4003)),
        limits.NODES,
        "nodes",
    ),
    "nodes in short arrays": (
        lambda n: head(ARRAY16, 600) + (b"\x9c" + b"\0" * 12) * 599 + head(ARRAY16, n - 7789) + b"\0" * (n - 7789),
        limits.NODES,
        "nodes",
    ),
    "nodes in short maps": (
        lambda n: head(ARRAY16, 600) + (b"\x86" + b"\0" * 12) * 599 + head(ARRAY16, n - 7789) + b"\0" * (n - 7789),
        limits.NODES,
        "nodes",
    ),
    "nodes in a map": (
        lambda n: array_of(head(MAP16, 4000) + b"\0" * 8000, head(ARRAY16, n - 8003) + b"\0" * (n - 8003)),
        limits.NODES,
        "nodes",
    ),
    "nodes in a long map": (
        lambda n: array_of(head(ARRAY16, n - 8003) + b"\0" * (n - 8003), head(MAP32, 4000) + b"\0" * 8000),
        limits.NODES,
        "nodes",
    ),
    "arrays in arrays": (lambda n: b"\x91" * (n - 1) + b"\x90", limits.DEPTH, "depth"),
    "an empty map in arrays": (lambda n: b"\x91" * (n - 1) + b"\x80", limits.DEPTH, "depth"),
    "long arrays in arrays": (lambda n: head(ARRAY16, 1) * (n - 1) + head(ARRAY32, 0), limits.DEPTH, "depth"),
    "maps in maps": (lambda n: b"\x81\xa1k" * (n - 1) + head(MAP16, 0), limits.DEPTH, "depth"),
    "depth behind what is closed": (
        lambda n: array_of(b"\x91" * (limits.DEPTH - 2) + b"\x90", b"\x91" * (n - 2) + b"\x90"),
        limits.DEPTH,
        "depth",
    ),
    "a text": (lambda n: head(b"\xda", n) + b"x" * n, limits.STR_BYTES, "str"),
    "a long text": (lambda n: head(b"\xdb", n) + b"x" * n, limits.STR_BYTES, "str"),
    "a bin": (lambda n: head(b"\xc6", n) + bytes(n), limits.BIN_BYTES, "bin"),
    "two bins": (two_bins, limits.MESSAGE_BYTES, "size"),
}


def pieces(data: bytes) -> list[memoryview]:
    """A message cut at every byte; the inside of a large one in pieces of 64 KiB."""
    if len(data) < 1 << 16:
        cuts = list(range(len(data) + 1))
    else:
        near = {at + d for at in (0, len(data) // 2, len(data)) for d in range(-16, 17)}
        cuts = sorted(at for at in near | set(range(0, len(data), 65_521)) if 0 <= at <= len(data))
    return [memoryview(data)[first:last] for first, last in pairwise(cuts)]


def ends(data: bytes, parts: list[memoryview]) -> list[int]:
    """What a scanner says as a message grows by these parts."""
    scanner, whole, known = Scanner(), memoryview(data), 0
    said = []
    for part in parts:
        known += len(part)
        said.append(scanner.scan(whole[:known], 0))
        assert scanner.n_expected <= len(data)
    return said


@pytest.mark.parametrize("edge", EDGES)
def test_a_bound_is_the_same_in_pieces(edge: str) -> None:
    """At the bound the message ends with its last byte and not before; one above it is refused, by the same name."""
    make, bound, reason = EDGES[edge]
    good, bad = make(bound), make(bound + 1)

    assert Scanner().scan(good, 0) == len(good)
    parts = pieces(good)
    assert ends(good, parts) == [-1] * (len(parts) - 1) + [len(good)]
    for parts in ([memoryview(bad)], pieces(bad)):
        with pytest.raises(CodecError) as caught:
            ends(bad, parts)
        assert caught.value.reason == reason
        assert str(caught.value) == f"{reason}: {caught.value.text}"


@pytest.mark.parametrize("edge", EDGES)
def test_each_message_has_bounds_of_its_own(edge: str) -> None:
    """What one message used up is the next one's again, and what is left over of it is not the next one's."""
    make, bound, _ = EDGES[edge]
    data = make(bound)
    scanner, stream = Scanner(), data + data
    middle = len(data) + len(data) // 2

    assert scanner.scan(memoryview(stream)[:middle], 0) == len(data)
    assert scanner.n_expected == 0
    assert scanner.scan(memoryview(stream)[:middle], len(data)) == -1
    assert scanner.scan(stream, len(data)) == len(stream)
    with pytest.raises(CodecError):
        scanner.scan(make(bound + 1), 0)


@pytest.mark.parametrize("name", [name for name, (data, _) in BOMBS.items() if len(data) <= SHORT])
def test_a_bomb_is_the_same_wherever_it_is_cut(name: str) -> None:
    """In two pieces, cut at each byte, and behind a good message: the same refusal, and nothing after it."""
    data, reason = BOMBS[name]
    good = b"\x94\x00\x01\xa4ping\x90"
    for cut in range(len(good) + len(data)):
        connection = Connection()
        stream = good + data
        events = [*connection.receive(stream[:cut]), *connection.receive(stream[cut:]), *connection.receive(good)]

        assert [isinstance(event, ProtocolError) for event in events] == [False, True]
        assert isinstance(events[1], ProtocolError)
        assert events[1].reason == reason


LENGTHS = (0, 1, 15, 16, 31, 32, 255, 256, 257, 1000, 4096)


@pytest.mark.parametrize("n", LENGTHS)
def test_every_head_is_read_as_msgpack_writes_it(n: int) -> None:
    """Texts, bins, arrays and maps on either side of each length at which the head changes: the same end and value."""
    for value in ("x" * n, bytes(n), [0] * n, {str(i): 0 for i in range(n // 2)}):
        data = msgpack.packb(value)

        assert Scanner().scan(data + b"\0", 0) == len(data)
        assert decode(data) == value


@pytest.mark.parametrize("code", [b"\xd9", b"\xda", b"\xdb", b"\xc4", b"\xc5", b"\xc6", ARRAY16, ARRAY32, MAP16, MAP32])
def test_a_head_may_be_longer_than_it_must(code: bytes) -> None:
    """Each size of a length field says three, and three values or bytes follow."""
    size = {b"\xd9": 1, b"\xc4": 1, ARRAY32: 4, MAP32: 4, b"\xdb": 4, b"\xc6": 4}.get(code, 2)
    body = b"\xa1a\0\xa1b\0\xa1c\0" if code in (MAP16, MAP32) else b"abc" if code < ARRAY16 else b"\1\2\3"
    data = code + (3).to_bytes(size, "big") + body

    assert ends(data + b"\0", pieces(data)) == [-1] * (len(data) - 1) + [len(data)]
    decode(data)


@pytest.mark.parametrize("code", range(256))
def test_every_first_byte_is_taken_or_refused(code: int) -> None:
    """Nothing but ``CodecError`` comes of any, and its text says what the byte stands for."""
    refused = code == 0xC1 or 0xC7 <= code <= 0xCB or 0xD4 <= code <= 0xD8
    try:
        Scanner().scan(bytes((code,)) + bytes(64), 0)
    except CodecError as error:
        assert refused, error.text
        assert error.reason == "type"
    else:
        assert not refused
