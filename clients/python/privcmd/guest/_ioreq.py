# SPDX-License-Identifier: Apache-2.0
"""The requests that a vcpu and a device model write into shared pages (xen/include/public/hvm/ioreq.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap


class IoreqType(IntEnum):
    """IOREQ_TYPE_*."""

    PIO = 0
    COPY = 1
    PCI_CONFIG = 2
    INVALIDATE = 8


class IoreqState(IntEnum):
    """STATE_IOREQ_*, STATE_IORESP_*."""

    NONE = 0
    READY = 1
    IN_PROCESS = 2
    ANSWERED = 3


# addr, data, count, size; then the port, which Xen writes, padding, and two bytes: bits with the state, and the type.
REQUEST = struct.Struct("<QQII")
SLOT_BYTES = 32
BITS_OFFSET = 30
TYPE_OFFSET = 31
DATA = struct.Struct("<Q")
DATA_OFFSET = 8
STATE_BITS = 0xF
DATA_IS_POINTER = 1 << 4
READ = 1 << 5
DESCENDING = 1 << 6

# A page of buffered requests: two counters, then slots of two words.
COUNTERS = struct.Struct("<II")
BUFFERED = struct.Struct("<II")
N_BUFFERED = 511
BUFFERED_SIZES = {1: 0, 2: 1, 4: 2}
BUFFERED_ADDRESSES = 1 << 20


@dataclass(frozen=True, slots=True)
class Ioreq:
    """One request to a device model.

    Attributes:
        addr: Port, guest physical address, or for PCI_CONFIG function << 32 | register.
        data: The data to write; with ``is_pointer`` the address of the data in the guest's memory.
        size: Bytes of one access: 1, 2, 4 or 8.
        count: How many accesses, one after the other.
        descending: Whether later accesses are at lower addresses.
    """

    type: IoreqType
    addr: int
    size: int = 0
    data: int = 0
    count: int = 1
    read: bool = False
    is_pointer: bool = False
    descending: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last address that the request accesses: bytes of memory, or ports."""
        if self.type is IoreqType.PIO:
            return self.addr, self.addr + self.size - 1
        behind = (self.count - 1) * self.size
        first = self.addr - behind if self.descending else self.addr
        return first, first + behind + self.size - 1


class IoreqSlot:
    """Where one vcpu's requests are, in a page that it shares with a device model."""

    def __init__(self, page: mmap.mmap, offset: int) -> None:
        self._page = page
        self._offset = offset

    @property
    def state(self) -> IoreqState:
        """The state of the slot. A value that no state has, written by a bad device model, counts as in process."""
        bits = self._page[self._offset + BITS_OFFSET] & STATE_BITS
        return IoreqState(bits) if bits <= IoreqState.ANSWERED else IoreqState.IN_PROCESS

    def put(self, request: Ioreq) -> None:
        """Write a request. Its state is written last, because that hands the request over."""
        at = self._offset
        self._page[at : at + REQUEST.size] = REQUEST.pack(request.addr, request.data, request.count, request.size)
        self._page[at + TYPE_OFFSET] = request.type
        flags = (READ * request.read) | (DATA_IS_POINTER * request.is_pointer) | (DESCENDING * request.descending)
        self._page[at + BITS_OFFSET] = flags | IoreqState.READY

    def take(self) -> int:
        """Take an answer and free the slot. Returns the answer's data."""
        (data,) = DATA.unpack_from(self._page, self._offset + DATA_OFFSET)
        self._page[self._offset + BITS_OFFSET] = IoreqState.NONE
        return int(data)


def put_buffered(page: mmap.mmap, address: int, size: int, data: int) -> bool:
    """Put a memory write into the ring of buffered requests. Returns False when the ring is full.

    Args:
        page: The page of buffered requests.
        address: Guest physical address, below 1 MiB.
        size: 1, 2 or 4 bytes.
        data: What is written.
    """
    read, written = COUNTERS.unpack_from(page, 0)
    if (written - read) & 0xFFFF_FFFF >= N_BUFFERED:
        return False
    first = IoreqType.COPY | BUFFERED_SIZES[size] << 10 | address << 12
    BUFFERED.pack_into(page, COUNTERS.size + written % N_BUFFERED * BUFFERED.size, first, data)
    struct.pack_into("<I", page, 4, (written + 1) & 0xFFFF_FFFF)
    return True
