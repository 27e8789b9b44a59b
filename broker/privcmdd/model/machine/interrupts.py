# SPDX-License-Identifier: Apache-2.0
"""The interrupt lines of a guest, as its device models drive them (xen/arch/x86/hvm/irq.c).

No guest code runs here, so no interrupt is ever acknowledged: the lines have levels, and messages are kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ISA_IRQS: Final = 16
PCI_LINKS: Final = 4
PCI_DEVICES: Final = 32
INTX: Final = 4
# Messages that are kept: older ones are dropped, so that a guest that never looks needs no more memory.
MOST_MSIS: Final = 256


class Msi(NamedTuple):
    """A message-signalled interrupt."""

    number: int
    address: int
    data: int


@dataclass(slots=True, eq=False)
class Interrupts:
    """All interrupt lines of one guest.

    Attributes:
        n_changes: How often a line or a route has changed, or a message has come.
        n_msis: The number of messages so far.
        isa: Whether each ISA interrupt is asserted.
        intx: The pins of PCI devices that are asserted, as (device, pin).
        routes: The ISA interrupt that each PCI link leads to; 0 is none.
        msis: The last messages, oldest first.
    """

    n_changes: int = 0
    n_msis: int = 0
    isa: list[bool] = field(default_factory=lambda: [False] * ISA_IRQS)
    intx: set[tuple[int, int]] = field(default_factory=set)
    routes: list[int] = field(default_factory=lambda: [0] * PCI_LINKS)
    msis: deque[Msi] = field(default_factory=lambda: deque(maxlen=MOST_MSIS))

    def set_isa(self, irq: int, *, asserted: bool) -> bool:
        """Drive an ISA interrupt line, and return whether that changed it."""
        changed = self.isa[irq] != asserted
        self.isa[irq] = asserted
        return self._changed(changed)

    def set_intx(self, device: int, pin: int, *, asserted: bool) -> bool:
        """Drive the pin of a PCI device, and return whether that changed it."""
        line = (device, pin)
        changed = (line in self.intx) != asserted
        if asserted:
            self.intx.add(line)
        else:
            self.intx.discard(line)
        return self._changed(changed)

    def set_route(self, link: int, irq: int) -> bool:
        """Lead a PCI link to an ISA interrupt, and return whether that changed it."""
        changed = self.routes[link] != irq
        self.routes[link] = irq
        return self._changed(changed)

    def send_msi(self, address: int, data: int) -> bool:
        """Keep a message, and return True: a message always is a change."""
        self.n_msis += 1
        self.msis.append(Msi(self.n_msis, address, data))
        return self._changed(True)

    def asserted(self) -> list[int]:
        """Return the ISA interrupts that are asserted, directly or through the link that a PCI pin is wired to."""
        through = {self.routes[(device + pin) % PCI_LINKS] for device, pin in self.intx}
        return [irq for irq in range(ISA_IRQS) if self.isa[irq] or (irq and irq in through)]

    def _changed(self, changed: bool) -> bool:
        self.n_changes += changed
        return changed
