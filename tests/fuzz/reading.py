# SPDX-License-Identifier: Apache-2.0
"""Bytes from a fuzzer, read as numbers: a byte chooses a likely one, 255 says that the next eight bytes are it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmdd.service.layout import Bytes, Layout
from support.random_arguments import END
from support.tool import ARRAY, BUFFERS

if TYPE_CHECKING:
    from collections.abc import Sequence

LIKELY = (*range(41), BUFFERS, ARRAY, ARRAY + 1, END - 8, END, 2**31, 2**32 - 1, 2**52, 2**63, 2**64 - 1)
DOMAINS = (1, 2, 3, 0, 0x7FF0, 0x7FF4, 0xFFFF)


class Reading:
    """What is left of the bytes; zeros when nothing is."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    @property
    def more(self) -> bool:
        """Whether something is left."""
        return self.at < len(self.data)

    def take(self, n: int) -> bytes:
        """So many bytes."""
        taken = self.data[self.at : self.at + n]
        self.at += n
        return taken.ljust(n, b"\0")

    def byte(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def one_of(self, values: Sequence[Any]) -> Any:
        """One of these."""
        return values[self.byte() % len(values)]

    def number(self) -> int:
        """A number."""
        code = self.byte()
        return int.from_bytes(self.take(8), "little") if code == 255 else LIKELY[code % len(LIKELY)]

    def values_of(self, layout: Layout) -> dict[str, Any]:
        """Likely and unlikely values of a structure."""
        values: dict[str, Any] = {}
        for name, kind, _, size in layout.members:
            if name in ("domid", "domain", "dom"):
                values[name] = self.one_of(DOMAINS)
            elif isinstance(kind, Layout):
                values[name] = self.values_of(kind)
            elif isinstance(kind, Bytes):
                values[name] = self.take(min(size, 8))
            else:
                values[name] = self.number()
        return values
