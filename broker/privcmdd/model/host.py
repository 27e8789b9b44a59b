# SPDX-License-Identifier: Apache-2.0
"""Which host is simulated: hosts answer some requests differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Host:
    """The host that clients see.

    Attributes:
        dom0: How domain 0, in which clients run, is virtualised. A PVH domain 0 has an auto-translated physmap.
        linux: The version of domain 0's kernel, for the personality ``linux``; 5.10 can split a VMA of the device.
        xen: The version of the hypervisor.
        build: How the hypervisor is built. ``debug`` is a build for development, with shadow paging: it marks grants
            with a bit of the page table entry, and refuses other entries that have this bit
            (docs/explanation/facts/recorded-host.md, sections 4 and 12).
    """

    dom0: Literal["pv", "pvh"] = "pv"
    linux: Literal["6.1", "5.10"] = "6.1"
    xen: Literal["4.17", "4.20"] = "4.17"
    build: Literal["release", "debug"] = "release"
