# SPDX-License-Identifier: Apache-2.0
"""A guest that a test can script: accesses of its vcpus to devices, its grants and its interrupts.

>>> from privcmd.guest import Guest, bdf
>>> with Guest(dom=1) as guest:                   # doctest: +SKIP
...     guest.pci_read(bdf(1, 1), 0, size=2)      # the IDE controller's vendor
...     guest.port_write(0x3f6, 2)
"""

from privcmd.guest._blocking import Guest
from privcmd.guest._operations import bdf
from privcmd.guest._pv import PvKernel

__all__ = ["Guest", "PvKernel", "bdf"]
