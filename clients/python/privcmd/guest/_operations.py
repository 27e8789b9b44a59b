# SPDX-License-Identifier: Apache-2.0
"""The operations of a guest, for both faces: each is a function from a vcpu to its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmd.guest._ioreq import Ioreq, IoreqType

if TYPE_CHECKING:
    from privcmd.guest._vcpu import Steps, Vcpu
    from privcmd.results import Interrupts


def port_read(vcpu: Vcpu, port: int, size: int = 1) -> Steps[int]:
    """Read an I/O port (in): all ones when no device model emulates it.

    Args:
        port: Its number.
        size: 1, 2 or 4 bytes.
    """
    return vcpu.request(Ioreq(IoreqType.PIO, port, size, read=True))


def port_write(vcpu: Vcpu, port: int, data: int, size: int = 1) -> Steps[None]:
    """Write an I/O port (out), and wait until the device model has done it."""
    yield from vcpu.request(Ioreq(IoreqType.PIO, port, size, data))


def mmio_read(vcpu: Vcpu, addr: int, size: int = 4) -> Steps[int]:
    """Read memory that a device model emulates, at a guest physical address; all ones when no device model does."""
    return vcpu.request(Ioreq(IoreqType.COPY, addr, size, read=True))


def mmio_write(vcpu: Vcpu, addr: int, data: int, size: int = 4) -> Steps[None]:
    """Write to memory that a device model emulates."""
    yield from vcpu.request(Ioreq(IoreqType.COPY, addr, size, data))


def buffered_write(vcpu: Vcpu, addr: int, data: int, size: int = 1) -> Steps[bool]:
    """Write without waiting, as Xen does to the VGA's memory; False when no server takes it or the ring is full."""
    return vcpu.buffered_write(addr, data, size)


def rep_ins(vcpu: Vcpu, port: int, addr: int, count: int, size: int = 2, *, descending: bool = False) -> Steps[None]:
    """Read a port many times into the guest's memory (rep ins); the device model writes to the memory itself.

    Args:
        port: Its number.
        addr: Guest physical address of the first item.
        count: How many.
        size: Bytes of each: 1, 2 or 4.
        descending: Whether later items are at lower addresses (the direction flag).
    """
    request = Ioreq(IoreqType.PIO, port, size, addr, count, read=True, is_pointer=True, descending=descending)
    yield from vcpu.request(request)


def rep_outs(vcpu: Vcpu, port: int, addr: int, count: int, size: int = 2, *, descending: bool = False) -> Steps[None]:
    """Write a port many times, from the guest's memory (rep outs)."""
    yield from vcpu.request(Ioreq(IoreqType.PIO, port, size, addr, count, is_pointer=True, descending=descending))


def pci_read(vcpu: Vcpu, function: int, register: int, size: int = 4) -> Steps[int]:
    """Read a register of a PCI function's configuration space.

    Args:
        function: bus << 8 | device << 3 | function, as ``bdf`` makes it.
        register: 0 to 255.
        size: 1, 2 or 4 bytes.
    """
    return vcpu.config_access(function, register, size, 0, read=True)


def pci_write(vcpu: Vcpu, function: int, register: int, data: int, size: int = 4) -> Steps[None]:
    """Write a register of a PCI function's configuration space."""
    yield from vcpu.config_access(function, register, size, data, read=False)


def read(vcpu: Vcpu, addr: int, length: int) -> Steps[bytes]:
    """Read the guest's memory, at a guest physical address.

    Raises:
        PrivcmdError: EFAULT, a guest frame is not there.
    """
    return vcpu.read_memory(addr, length)


def write(vcpu: Vcpu, addr: int, data: bytes) -> Steps[None]:
    """Write to the guest's memory.

    Raises:
        PrivcmdError: EFAULT, a guest frame is not there; the chunks of 4 MiB before its chunk have been written.
    """
    return vcpu.write_memory(addr, data)


def interrupts(vcpu: Vcpu) -> Steps[Interrupts]:
    """The interrupt lines as the device models drive them."""
    return vcpu.interrupts()


def wait_interrupt(vcpu: Vcpu, irq: int) -> Steps[None]:
    """Wait until an ISA interrupt is asserted, directly or through a PCI link."""
    return vcpu.wait_interrupt(irq)


def invalidate_mapcache(vcpu: Vcpu) -> Steps[None]:
    """Tell every device model to unmap the guest memory that it keeps mapped."""
    return vcpu.invalidate_mapcache()


def grant(vcpu: Vcpu, gfn: int, ref: int, *, to: int = 0, readonly: bool = False) -> Steps[None]:
    """Grant a frame in the guest's grant table (version 1), in place of what the entry granted before.

    Args:
        gfn: The guest frame.
        ref: The grant's number. By custom the numbers below 8 are Xen's.
        to: The domain that may map it.
        readonly: Whether the frame may only be read.

    Raises:
        PrivcmdError: EINVAL, the table has no such entry.
    """
    entry = yield from vcpu.grant_entry(ref)
    entry.permit(gfn, to, readonly=readonly)


def end_grant(vcpu: Vcpu, ref: int) -> Steps[None]:
    """End a grant, as a front end does.

    Raises:
        PrivcmdError: EBUSY, the granted page is mapped: the grant stays.
    """
    return vcpu.end_grant(ref)


def grant_in_use(vcpu: Vcpu, ref: int) -> Steps[bool]:
    """Whether a granted page is mapped, as the guest's grant table says."""
    return (yield from vcpu.grant_entry(ref)).in_use


def bdf(device: int, function: int = 0, bus: int = 0) -> int:
    """The number of a PCI function."""
    return bus << 8 | device << 3 | function
