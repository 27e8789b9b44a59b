# SPDX-License-Identifier: Apache-2.0
"""The scanner finds exactly the messages that msgpack can decode, and refuses what would hurt."""

import struct
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.wire import limits
from privcmdd.wire.codec import CodecError, Scanner, decode, pack
from support.bombs import BOMBS
from support.documents import DOCUMENTS


def scan(data: bytes) -> int:
    """Scan with a fresh scanner."""
    return Scanner().scan(data, 0)


def refusal(data: bytes) -> str:
    """The reason for which these bytes are refused."""
    with pytest.raises(CodecError) as caught:
        decode(data[: scan(data)])
    return caught.value.reason


@given(DOCUMENTS, st.binary(max_size=4))
def test_the_scanner_ends_where_msgpack_ends(document: object, more: bytes) -> None:
    """A whole document is found with whatever follows it, and decodes to what was encoded."""
    data = msgpack.packb(document)

    assert scan(data + more) == len(data)
    assert decode(data) == document


@given(DOCUMENTS, st.data())
def test_a_truncated_document_is_never_taken_for_a_whole_one(document: object, data: st.DataObject) -> None:
    """Of every proper beginning of a document the scanner says that more must come."""
    packed = msgpack.packb(document)
    cut = data.draw(st.integers(0, len(packed) - 1))

    assert scan(packed[:cut]) == -1


@given(st.binary(max_size=64))
def test_any_bytes_are_a_document_or_unfinished_or_refused(data: bytes) -> None:
    """Where the scanner finds an end, msgpack finds the same one; nothing but CodecError comes out."""
    try:
        end = scan(data)
        if end >= 0:
            decode(data[:end])
    except CodecError:
        return
    unpacker = msgpack.Unpacker(strict_map_key=False, object_pairs_hook=tuple, unicode_errors="surrogateescape")
    unpacker.feed(data)
    if end < 0:
        with pytest.raises(msgpack.OutOfData):
            unpacker.unpack()
    else:
        unpacker.unpack()
        assert unpacker.tell() == end


@given(DOCUMENTS)
def test_a_scan_may_be_resumed_at_every_byte(document: object) -> None:
    """Growing the buffer one byte at a time gives the same end, and it comes with the last byte."""
    packed = msgpack.packb(document)
    scanner = Scanner()

    ends = [scanner.scan(packed[: n + 1], 0) for n in range(len(packed))]

    assert ends == [-1] * (len(packed) - 1) + [len(packed)]


@given(DOCUMENTS)
def test_what_we_pack_is_what_msgpack_packs(document: object) -> None:
    """One packer kept for the process leaves nothing behind from one answer to the next."""
    assert pack(document) == msgpack.packb(document)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_by_its_name(name: str) -> None:
    """Each corpus entry breaks one bound, and the refusal says which."""
    data, reason = BOMBS[name]

    assert refusal(data) == reason


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_no_memory(name: str) -> None:
    """Refusing allocates next to nothing, though msgpack alone would hold up to 40 MiB of it."""
    data, _ = BOMBS[name]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            decode(memoryview(data)[: scan(data)])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 64 * 1024


def nested(depth: int) -> bytes:
    """Arrays inside each other."""
    return b"\x91" * (depth - 1) + b"\x90"


EDGES: list[tuple[str, Callable[[int], bytes], int, str]] = [
    ("depth", nested, limits.DEPTH, "depth"),
    ("nodes", lambda n: b"\xdd" + struct.pack(">I", n - 1) + b"\x00" * (n - 1), limits.NODES, "nodes"),
    ("str", lambda n: b"\xdb" + struct.pack(">I", n) + b"x" * n, limits.STR_BYTES, "str"),
    ("bin", lambda n: b"\xc6" + struct.pack(">I", n) + bytes(n), limits.BIN_BYTES, "bin"),
]


@pytest.mark.parametrize(("name", "make", "bound", "reason"), EDGES, ids=[edge[0] for edge in EDGES])
def test_a_bound_is_the_last_value_allowed(name: str, make: Callable[[int], bytes], bound: int, reason: str) -> None:
    """Exactly at the bound all is well; one more is refused."""
    at_bound = make(bound)

    assert scan(at_bound) == len(at_bound), name
    assert refusal(make(bound + 1)) == reason


def test_a_declared_length_is_refused_before_its_bytes_come() -> None:
    """The header alone decides: no client can make us wait for, and keep, what we will not take."""
    assert refusal(b"\xc6" + struct.pack(">I", limits.BIN_BYTES + 1)) == "bin"


def test_keys_may_be_bins() -> None:
    """Clients whose language has no text type are understood."""
    assert decode(b"\x82\xc4\x03dom\x01\xa1a\x02") == {"dom": 1, "a": 2}


def test_the_largest_entry_list_fits() -> None:
    """1,024 entries of three fields, the most that `privcmd.mmap` takes, pass the bound on values."""
    entries = [{"va": i << 12, "mfn": i, "npages": 1} for i in range(limits.REQUEST_ENTRIES)]
    data = msgpack.packb([0, 1, "privcmd.mmap", [{"dom": 1, "entry": entries, "num": 1024, "extents": True}]])

    assert scan(data) == len(data)
