# SPDX-License-Identifier: Apache-2.0
"""A client in "another language": no MessagePack library, only the golden bytes and a socket.

It plays the vectors as one session. What the broker answers must be the golden answer, byte for byte, except where
the answer names this run of the broker; there it must fit the schema.
"""

import socket
from typing import Any

import pytest

from support.vectors import SCHEMA, VECTORS, complaint

GOLDEN = {vector["name"]: vector for vector in VECTORS}

# Each name of a method plays its request; the domain is made first and destroyed while it is still mapped.
SESSION = [
    "ping",
    "describe",
    "subscribe",
    "domain.create",
    "domain.list",
    "domain.info",
    "domain.populate",
    "domain.decrease_reservation",
    "mmap",
    "privcmd.mmap",
    "privcmd.mmapbatch",
    "privcmd.mmapbatch_v2",
    "write",
    "read",
    "fault",
    "maps",
    "domain.page_out",
    "domain.page_in",
    "domain.memory",
    "privcmd.mmap_resource",
    "privcmd.hypercall",
    "privcmd.dm_op",
    "privcmd.unknown_ioctl",
    "space.buffers",
    "mprotect",
    "space.fork",
    "space.list",
    "faults.add",
    "faults.list",
    "faults.clear",
    "gntalloc.alloc",
    "gntalloc.notify",
    "gntalloc.map",
    "gntalloc.free",
    "ioreq.servers",
    "guest.interrupts",
    "evtchn.alloc_unbound",
    "evtchn.bind_interdomain",
    "evtchn.bind_virq",
    "evtchn.attach",
    "evtchn.notify",
    "evtchn.pending",
    "evtchn.list",
    "evtchn.close",
    "evtchn.restrict",
    "privcmd.restrict",
    "domain.destroy",
    "munmap",
    "health",
    "stats",
    "findings.list",
    "findings.clear",
    "job.list",
    "hello",
    "evict",
    "hand_over",  # the last: the broker ends all connections
]

# Answers that name this run, or count what happened in it.
OF_THIS_RUN = {
    "ping",
    "health",
    "describe",
    "space.list",
    "stats",
    "hello",
    "findings.list",
    "findings.clear",
    "job.list",
    "domain.info",
    "faults.list",
    "evict",
    "ioreq.servers",
    "guest.interrupts",
    "evtchn.list",
}


def value_at(data: bytes, at: int) -> tuple[Any, int]:
    """Decode the value at an index, into the notation of the vectors; the index behind it."""
    code = data[at]
    at += 1

    def number(size: int, *, signed: bool = False) -> int:
        nonlocal at
        at += size
        return int.from_bytes(data[at - size : at], "big", signed=signed)

    def many(count: int) -> list[Any]:
        nonlocal at
        items = []
        for _ in range(count):
            item, at = value_at(data, at)
            items.append(item)
        return items

    def text(count: int) -> bytes:
        nonlocal at
        if at + count > len(data):
            raise IndexError
        at += count
        return data[at - count : at]

    value: Any
    if code < 0x80 or code >= 0xE0:
        value = code if code < 0x80 else code - 0x100
    elif code < 0x90 or code in (0xDE, 0xDF):
        items = many(2 * (code & 15 if code < 0x90 else number(2 << (code - 0xDE))))
        value = dict(zip(items[::2], items[1::2], strict=True))
    elif code < 0xA0 or code in (0xDC, 0xDD):
        value = many(code & 15 if code < 0xA0 else number(2 << (code - 0xDC)))
    elif code < 0xC0 or 0xD9 <= code <= 0xDB:
        value = text(code & 31 if code < 0xC0 else number(1 << (code - 0xD9))).decode()
    elif 0xC4 <= code <= 0xC6:
        value = {"$bin": text(number(1 << (code - 0xC4))).hex()}
    elif 0xCC <= code <= 0xD3:
        value = number(1 << (code & 3), signed=code >= 0xD0)
    else:
        value = {0xC0: None, 0xC2: False, 0xC3: True}[code]
    return value, at


class Player:
    """A socket that plays golden requests."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(path)
        self.topics: list[Any] = []
        self._data = b""

    def play(self, name: str) -> tuple[Any, bytes]:
        """Send a golden request; the answer and its bytes. Notifications on the way are kept."""
        self.sock.sendall(bytes.fromhex(GOLDEN[f"{name}: request"]["bytes"]))
        while True:
            value, raw = self._message()
            if value[0] == 1:
                return value, raw
            self.topics.append(value)

    def _message(self) -> tuple[Any, bytes]:
        while True:
            try:
                value, end = value_at(self._data, 0)
            except IndexError:
                more = self.sock.recv(65_536)
                assert more, "the broker closed the connection"
                self._data += more
                continue
            raw, self._data = self._data[:end], self._data[end:]
            return value, raw


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_little_decoder_reads_the_golden_bytes(vector: dict[str, Any]) -> None:
    """The other language understands every message that the vectors explain."""
    if "value" in vector:
        data = bytes.fromhex(vector["bytes"])
        assert value_at(data, 0) == (vector["value"], len(data))


def test_the_vectors_are_a_session(path: str) -> None:
    """Every golden request is answered by its golden answer, and every answer fits the schema."""
    player = Player(path)
    with player.sock:
        for name in SESSION:
            answer, raw = player.play(name)
            assert answer[2] is None, (name, answer)
            assert complaint(answer[3], SCHEMA["$defs"][f"{name}.result"]) is None, name
            if name not in OF_THIS_RUN:
                assert (name, answer, raw.hex()) == (
                    name,
                    GOLDEN[f"{name}: response"]["value"],
                    GOLDEN[f"{name}: response"]["bytes"],
                )
        assert [topic[2][0]["state"] for topic in player.topics] == ["paused", "dying", "gone"]
        assert GOLDEN["a domain's state"]["value"] in player.topics

    second = Player(path)
    with second.sock:
        answer, raw = second.play("space.attach")
        assert raw.hex() == GOLDEN["space.attach: response"]["bytes"], answer

    played = {*SESSION, "space.attach", "gntdev.map", "gntdev.copy", "gntdev.notify"}  # no guest grants anything here
    assert played == {name.removesuffix(": request") for name in GOLDEN if name.endswith(": request")}
