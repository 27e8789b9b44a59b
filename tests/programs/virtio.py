# SPDX-License-Identifier: Apache-2.0
"""A driver of a virtio-blk device, as far as one request at a time: the legacy interface through port I/O."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from privcmd.guest import Guest

PAGE = 4096
SECTOR = 512
# Registers of the legacy header (virtio 1.2, section 4.1.4.10).
GUEST_FEATURES, QUEUE_PFN, QUEUE_SIZE, QUEUE_SELECT, QUEUE_NOTIFY, STATUS, ISR, CAPACITY = 4, 8, 12, 14, 16, 18, 19, 20
ACKNOWLEDGE, DRIVER, DRIVER_OK = 1, 2, 4
NEXT, WRITE = 1, 2
IN, OUT = 0, 1
DESCRIPTOR = struct.Struct("<QIHH")
ROOM = 0x30_0000  # of the guest: header and status


class Disk:
    """The first queue of a virtio-blk device behind an I/O BAR."""

    def __init__(self, guest: Guest, bar: int, queue: int = 0x31_0000) -> None:
        self.guest = guest
        self.bar = bar
        guest.port_write(bar + STATUS, 0)
        guest.port_write(bar + STATUS, ACKNOWLEDGE | DRIVER)
        guest.port_write(bar + GUEST_FEATURES, 0, 4)
        guest.port_write(bar + QUEUE_SELECT, 0, 2)
        self.size = guest.port_read(bar + QUEUE_SIZE, 2)
        self.queue = queue
        self.available = queue + 16 * self.size
        self.used = -(-(self.available + 6 + 2 * self.size) // PAGE) * PAGE
        guest.write(queue, bytes(self.used + 6 + 8 * self.size - queue))
        guest.port_write(bar + QUEUE_PFN, queue // PAGE, 4)
        guest.port_write(bar + STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK)
        self.n_requests = 0

    @property
    def n_sectors(self) -> int:
        """How large the disk is."""
        low, high = self.guest.port_read(self.bar + CAPACITY, 4), self.guest.port_read(self.bar + CAPACITY + 4, 4)
        return high << 32 | low

    def transfer(self, kind: int, sector: int, buffers: list[tuple[int, int]]) -> int:
        """One request over some pieces of guest memory, (address, bytes) each; the status that the device wrote."""
        guest = self.guest
        guest.write(ROOM, struct.pack("<IIQ", kind, 0, sector) + b"\xff")
        flags = WRITE if kind == IN else 0
        chain = [(ROOM, 16, 0), *((addr, size, flags) for addr, size in buffers), (ROOM + 16, 1, WRITE)]
        table = b"".join(
            DESCRIPTOR.pack(addr, size, flag | (NEXT if i < len(chain) - 1 else 0), i + 1)
            for i, (addr, size, flag) in enumerate(chain)
        )
        guest.write(self.queue, table)
        slot = self.n_requests % self.size
        guest.write(self.available + 4 + 2 * slot, struct.pack("<H", 0))
        self.n_requests += 1
        guest.write(self.available + 2, struct.pack("<H", self.n_requests & 0xFFFF))
        guest.port_write(self.bar + QUEUE_NOTIFY, 0, 2)
        while struct.unpack("<H", guest.read(self.used + 2, 2))[0] != self.n_requests & 0xFFFF:
            guest.port_read(self.bar + STATUS)
        return guest.read(ROOM + 16, 1)[0]
