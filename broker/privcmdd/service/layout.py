# SPDX-License-Identifier: Apache-2.0
"""C structures of Xen's public headers, each described once, and read and written by the names of their members.

A layout lists the members in order; their offsets follow from the x86-64 ABI: each member lies at a multiple of its own
alignment, and the size is a multiple of the largest. A test compares every layout with the installed headers.
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
    """An array of bytes as a member: read as it is; written padded with zeros, or cut when too long."""

    size: int


class Member(NamedTuple):
    """One member of a structure."""

    name: str
    kind: str | Bytes | Layout
    offset: int
    size: int


Row = tuple[str, "str | Bytes | Layout"]
"""A member as it is written down: its name, and an integer's code, an array of bytes or a structure."""


class Layout:
    """A C structure.

    Attributes:
        c_name: Its name in the headers, with ``struct`` when it has that.
        members: Its members, in order.
        size: Its size in bytes.
        alignment: Its alignment in bytes.
    """

    size: int
    alignment: int

    def __init__(self, c_name: str, *members: Row) -> None:
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
        """Read a structure: a value for each member; arrays of bytes as bytes, inner structures as dictionaries."""
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
        """The bytes of a structure; members that ``values`` lacks are zero, integers are cut to their size."""
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
