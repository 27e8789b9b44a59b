# SPDX-License-Identifier: Apache-2.0
"""C structures of Xen's public headers, said once and read and written by name.

A layout lists the members in order; where they lie follows from the x86-64 ABI: each at a multiple of its own
alignment, the whole a multiple of the largest. A test holds every one of them against the installed headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CODES: Final = {"u8": "B", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q"}


@dataclass(frozen=True, slots=True)
class Bytes:
    """An array of bytes as a member: read as it is, written padded with zeros, cut when too long."""

    size: int


class Member(NamedTuple):
    """One member: where it lies, and what it is."""

    name: str
    kind: str | Bytes | Layout
    offset: int
    size: int


class Layout:
    """A C structure.

    Attributes:
        c_name: As the headers call it, with ``struct`` when it is one.
        members: In order.
        size: In bytes.
        alignment: In bytes.
    """

    size: int
    alignment: int

    def __init__(self, c_name: str, *members: tuple[str, str | Bytes | Layout]) -> None:
        self.c_name = c_name
        self.alignment = 1
        laid: list[Member] = []
        at = 0
        for name, kind in members:
            if isinstance(kind, str):
                size = alignment = struct.calcsize(CODES[kind])
            else:
                size, alignment = kind.size, kind.alignment if isinstance(kind, Layout) else 1
            at = -(-at // alignment) * alignment
            laid.append(Member(name, kind, at, size))
            at += size
            self.alignment = max(self.alignment, alignment)
        self.members = tuple(laid)
        self.size = -(-at // self.alignment) * self.alignment

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """Read it: integers by their names, arrays of bytes as bytes, structures inside as dictionaries."""
        values: dict[str, Any] = {}
        for name, kind, at, size in self.members:
            start = offset + at
            if isinstance(kind, str):
                values[name] = struct.unpack_from("<" + CODES[kind], data, start)[0]
            elif isinstance(kind, Layout):
                values[name] = kind.unpack(data, start)
            else:
                values[name] = bytes(data[start : start + size])
        return values

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Write it; what ``values`` lacks is zero, integers are cut to their size."""
        data = bytearray(self.size)
        for name, kind, at, size in self.members:
            if name not in values:
                continue
            value = values[name]
            if isinstance(kind, Layout):
                data[at : at + size] = kind.pack(value)
            elif isinstance(kind, Bytes):
                data[at : at + size] = value[:size].ljust(size, b"\0")
            else:
                data[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return bytes(data)
