# SPDX-License-Identifier: Apache-2.0
"""A driver of the first disk of a PIIX3 IDE controller, by bus-master DMA and by ports."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from privcmd.guest import bdf

if TYPE_CHECKING:
    from privcmd.guest import Guest

CONTROLLER = bdf(1, 1)
SECTOR = 512
BUS_MASTER = 0xC000
COMMAND, STATUS, TABLE = BUS_MASTER, BUS_MASTER + 2, BUS_MASTER + 4
START, INTO_MEMORY = 1, 8
ACTIVE, ERROR, INTERRUPT = 1, 2, 4
COUNT, LBA, DEVICE, TASK = 0x1F2, 0x1F3, 0x1F6, 0x1F7
DATA = 0x1F0
READ_DMA, WRITE_DMA, READ_SECTORS = 0xC8, 0xCA, 0x20
BUSY, REQUEST = 0x80, 0x08
LAST = 0x8000
DESCRIPTORS = 0x2000  # where the guest has its table
IRQ = 14


class Disk:
    """The master of the first channel."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        guest.pci_write(CONTROLLER, 0x20, BUS_MASTER | 1)
        guest.pci_write(CONTROLLER, 4, 5, 2)

    def begin(self, command: int, sector: int, n_sectors: int) -> None:
        """Tell the disk what is wanted."""
        self.guest.port_write(DEVICE, 0xE0 | sector >> 24)
        self.guest.port_write(COUNT, n_sectors & 0xFF)
        for i in range(3):
            self.guest.port_write(LBA + i, sector >> 8 * i & 0xFF)
        self.guest.port_write(TASK, command)

    def start_dma(self, command: int, sector: int, pieces: list[tuple[int, int]]) -> None:
        """Begin a transfer over pieces of guest memory: (address, bytes) each."""
        table = [
            struct.pack("<IHH", addr, size & 0xFFFF, LAST if i == len(pieces) - 1 else 0)
            for i, (addr, size) in enumerate(pieces)
        ]
        self.guest.write(DESCRIPTORS, b"".join(table))
        self.guest.port_write(TABLE, DESCRIPTORS, 4)
        self.guest.port_write(STATUS, ERROR | INTERRUPT)
        self.begin(command, sector, sum(size for _, size in pieces) // SECTOR)
        direction = INTO_MEMORY if command == READ_DMA else 0
        self.guest.port_write(COMMAND, direction)
        self.guest.port_write(COMMAND, direction | START)

    def dma(self, command: int, sector: int, pieces: list[tuple[int, int]]) -> int:
        """A transfer to its end; the bus master's status."""
        self.start_dma(command, sector, pieces)
        self.guest.wait_interrupt(IRQ)
        status = self.guest.port_read(STATUS)
        self.guest.port_write(COMMAND, 0)
        self.guest.port_read(TASK)  # acknowledges the interrupt
        return status

    def read_by_ports(self, sector: int, addr: int) -> None:
        """A sector through the data port, into guest memory (rep insw)."""
        self.begin(READ_SECTORS, sector, 1)
        while self.guest.port_read(TASK) & (BUSY | REQUEST) != REQUEST:
            pass
        self.guest.rep_ins(DATA, addr, SECTOR // 2)
