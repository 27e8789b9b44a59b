# SPDX-License-Identifier: Apache-2.0
"""DM_OPs that raise interrupts, and the one that shuts a guest down (xen/arch/x86/hvm/dm.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import ioreq, lifecycle
from privcmdd.model.machine.interrupts import INTX, ISA_IRQS, PCI_DEVICES, PCI_LINKS
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from privcmdd.service.world import World

    Values = dict[str, Any]

PCI_INTX: Final = Layout(
    "struct xen_dm_op_set_pci_intx_level",
    ("domain", "u16"),
    ("bus", "u8"),
    ("device", "u8"),
    ("intx", "u8"),
    ("level", "u8"),
)
ISA_IRQ: Final = Layout("struct xen_dm_op_set_isa_irq_level", ("isa_irq", "u8"), ("level", "u8"))
LINK_ROUTE: Final = Layout("struct xen_dm_op_set_pci_link_route", ("link", "u8"), ("isa_irq", "u8"))
MSI: Final = Layout("struct xen_dm_op_inject_msi", ("data", "u32"), ("pad", "u32"), ("addr", "u64"))
SHUTDOWN: Final = Layout("struct xen_dm_op_remote_shutdown", ("reason", "u32"))


def check(values: Values, limits: dict[str, int]) -> None:
    """Check that each of some members is below its bound.

    Raises:
        ModelError: EINVAL.
    """
    for key, limit in limits.items():
        if values[key] >= limit:
            raise ModelError(errno.EINVAL, f"{key} is {values[key]}, expected less than {limit}", key="bufs")


def set_pci_intx(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_set_pci_intx_level``."""
    check(values, {"domain": 1, "bus": 1, "device": PCI_DEVICES, "intx": INTX, "level": 2})
    asserted = bool(values["level"])
    ioreq.drive(world.machine, domid, lambda lines: lines.set_intx(values["device"], values["intx"], asserted=asserted))
    return values


def set_isa_irq(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_set_isa_irq_level``."""
    check(values, {"isa_irq": ISA_IRQS, "level": 2})
    asserted = bool(values["level"])
    ioreq.drive(world.machine, domid, lambda lines: lines.set_isa(values["isa_irq"], asserted=asserted))
    return values


def set_link_route(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_set_pci_link_route``."""
    check(values, {"link": PCI_LINKS, "isa_irq": ISA_IRQS})
    ioreq.drive(world.machine, domid, lambda lines: lines.set_route(values["link"], values["isa_irq"]))
    return values


def inject_msi(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_inject_msi``."""
    ioreq.drive(world.machine, domid, lambda lines: lines.send_msi(values["addr"], values["data"]))
    return values


def remote_shutdown(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_remote_shutdown``: the first reason counts."""
    lifecycle.shut_down(world.machine, domid, values["reason"])
    return values


REQUESTS: Final = {
    8: (PCI_INTX, set_pci_intx),
    9: (ISA_IRQ, set_isa_irq),
    10: (LINK_ROUTE, set_link_route),
    14: (MSI, inject_msi),
    16: (SHUTDOWN, remote_shutdown),
}
