# SPDX-License-Identifier: Apache-2.0
"""The choice of the device model that gets a request, as Xen does it (xen/common/ioreq.c, ioreq_server_select)."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from privcmd.guest._ioreq import SLOT_BYTES, Ioreq, IoreqSlot, IoreqType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privcmd.evtchn import EventChannel
    from privcmd.results import IoreqServer

PAGE_SIZE = 4096
CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC
CONFIG_ENABLED = 1 << 31


@dataclass
class Connected:
    """An ioreq server, and the guest's end of the connection to it.

    Attributes:
        server: The server as the broker describes it.
        pages: Its page of requests, and its page of buffered requests if it has one.
        channel: The event channel that announces this vcpu's requests.
        buffered: The event channel that announces buffered requests.
    """

    server: IoreqServer
    pages: list[mmap.mmap]
    channel: EventChannel
    buffered: EventChannel | None

    def slot(self, vcpu: int) -> IoreqSlot:
        """The slot of a vcpu's requests."""
        return IoreqSlot(self.pages[0], vcpu * SLOT_BYTES)

    def close(self) -> None:
        """Give back pages and descriptors. Idempotent."""
        for page in self.pages:
            page.close()
        for channel in (self.channel, self.buffered):
            if channel is not None:
                channel.close()


def map_pages(fd: int, file_pages: Iterable[int]) -> list[mmap.mmap]:
    """Map single pages of a domain's memory file, and close the descriptor. Returns the mappings."""
    try:
        return [mmap.mmap(fd, PAGE_SIZE, offset=page * PAGE_SIZE) for page in file_pages]
    finally:
        os.close(fd)


def chosen(connected: Iterable[Connected], request: Ioreq, config_address: int) -> tuple[Connected, Ioreq] | None:
    """The server that a port or memory access goes to, and the request that it gets.

    Args:
        connected: The servers that are enabled; of the servers that claim the access, the highest number gets it.
        request: The access.
        config_address: The value that was last written to port 0xcf8.

    Returns:
        Server and request; None when no device model emulates the access.
    """
    as_config = config_access(request, config_address)
    for one in sorted(connected, key=lambda one: one.server.id, reverse=True):
        ranges = one.server.ranges
        if as_config is not None:
            function = as_config.addr >> 32
            if contains(ranges["pci"], function, function):
                return one, as_config
        elif contains(ranges["port" if request.type is IoreqType.PIO else "memory"], *request.span):
            return one, request
    return None


def config_access(request: Ioreq, config_address: int) -> Ioreq | None:
    """An access to ports 0xcfc to 0xcff as one to the PCI function that port 0xcf8 selects; None when it is none."""
    if request.type is not IoreqType.PIO or request.addr & ~3 != CONFIG_DATA or not config_address & CONFIG_ENABLED:
        return None
    function = config_address >> 8 & 0xFFFF
    register = (config_address & 0xFC) | (request.addr & 3)
    return replace(request, type=IoreqType.PCI_CONFIG, addr=function << 32 | register)


def contains(ranges: Iterable[list[int]], first: int, last: int) -> bool:
    """Whether one of ``ranges`` contains all of the range from ``first`` to ``last``."""
    return any(low <= first and last <= high for low, high in ranges)
