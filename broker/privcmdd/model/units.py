# SPDX-License-Identifier: Apache-2.0
"""Pages, addresses, protections, and the numbers that Xen reserves."""

from __future__ import annotations

import sys
from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = PAGE_SIZE - 1


def end_of_addresses(machine: str) -> int:
    """Return the first address that a client cannot have.

    Clients are real processes on a Linux host, so this is its TASK_SIZE with page tables of four levels; it is used in
    place of NetBSD's slightly lower VM_MAXUSER_ADDRESS as well.

    Args:
        machine: What the interpreter was built for, as "x86_64-linux-gnu".
    """
    return 1 << 48 if machine.startswith("aarch64") else 0x7FFF_FFFF_F000


VM_MAX_ADDRESS: Final = end_of_addresses(getattr(sys.implementation, "_multiarch", ""))
# Where the broker starts to look when a client leaves the choice of an address to it.
VM_MMAP_BASE: Final = 0x7000_0000_0000

# A page table entry has 40 bits for the frame number: Xen and Linux (PV) drop higher bits without an error
# (docs/explanation/facts/recorded-host.md, 2.7).
FRAME_BITS: Final = 40
FRAME_MASK: Final = (1 << FRAME_BITS) - 1

# xen/include/public/xen.h
DOMID_FIRST_RESERVED: Final = 0x7FF0
DOMID_SELF: Final = 0x7FF0
DOMID_IO: Final = 0x7FF1
DOMID_XEN: Final = 0x7FF2
DOMID_INVALID: Final = 0x7FF4

# The frames below 4 GiB where a PC has no RAM: devices and the local APIC are there.
MMIO_FIRST: Final = 0xF0000
MMIO_END: Final = 0x100000
LAPIC_FRAME: Final = 0xFEE00

# In the frame lists of requests and answers: the number of no frame (xen/include/public/xen.h, INVALID_MFN).
INVALID_FRAME: Final = (1 << 64) - 1

# Page protection, with the names and bits of mman.h. Plain integers are fast, and every request uses these.
PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_ALL: Final = PROT_READ | PROT_WRITE | PROT_EXEC
