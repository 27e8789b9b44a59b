# SPDX-License-Identifier: Apache-2.0
"""Which host is simulated, where hosts answer differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that clients believe to be on.

    Attributes:
        dom0: How the domain that clients run in is virtualised; a PVH one has an auto-translated physmap.
        linux: Its kernel, for the personality of that name; 5.10 can split a VMA of the device.
        xen: The hypervisor.
        build: How it is built. ``debug``: for development, with shadow paging; it refuses page table entries with a
            bit that it marks grants with (docs/explanation/facts/recorded-host.md, sections 4 and 12).
    """

    dom0: Literal["pv", "pvh"] = "pv"
    linux: Literal["6.1", "5.10"] = "6.1"
    xen: Literal["4.17", "4.20"] = "4.17"
    build: Literal["release", "debug"] = "release"
