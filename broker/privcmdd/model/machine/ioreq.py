# SPDX-License-Identifier: Apache-2.0
"""Ioreq servers: who emulates what of a guest, and where they are told (xen/common/ioreq.c).

A server has two pages: one for the requests of every vcpu, one for buffered requests. Each vcpu has a port of the
guest's that waits for the device model; the server's numbers and ranges decide which server a request goes to.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.effects import GuestChanged
from privcmdd.model.machine.records import IoreqServer, RangeType
from privcmdd.model.machine.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.interrupts import Interrupts
    from privcmdd.model.ranges import Ranges

MAX_IOREQ_SERVERS: Final = 8
MAX_RANGES: Final = 256  # MAX_NR_IO_RANGES, of one type and server
BUFIOREQ_ATOMIC: Final = 2


class IoreqServers(Resources):
    """The ioreq servers of all domains."""

    def create_ioreq_server(self, domid: int, bufioreq: int) -> int:
        """Make an ioreq server (XEN_DMOP_create_ioreq_server).

        Returns:
            Its id, the lowest that is free.

        Raises:
            ModelError: ESRCH; EINVAL, the domain is PV, or dying, or ``bufioreq`` is none of Xen's; ENOSPC, it has as
                many servers, or event channels, as there may be.
        """
        domain = self.living(domid)
        if not domain.kind.translated or not 0 <= bufioreq <= BUFIOREQ_ATOMIC:
            raise ModelError(errno.EINVAL, f"no ioreq server with bufioreq {bufioreq} for a {domain.kind} domain")
        number = next((n for n in range(MAX_IOREQ_SERVERS) if n not in domain.ioreq_servers), None)
        if number is None:
            raise ModelError(errno.ENOSPC, f"domain {domid} has {MAX_IOREQ_SERVERS} ioreq servers already")
        server = IoreqServer(bufioreq)
        try:
            self._connect(domain, server)
        except ModelError:
            self._disconnect(domain, server)
            raise
        domain.ioreq_servers[number] = server
        self.effects.append(GuestChanged(domid, "ioreq"))
        return number

    def make_vcpus(self, domid: int, n_vcpus: int) -> None:
        """Make all vcpus of a domain (XEN_DOMCTL_max_vcpus); each ioreq server gets a port for each.

        Raises:
            ModelError: ESRCH; EINVAL, the domain was made for another number of them; ENOSPC.
        """
        domain = self.domain(domid)
        if n_vcpus != domain.traits.max_vcpus:
            raise ModelError(errno.EINVAL, f"max is {n_vcpus}, the domain was made for {domain.traits.max_vcpus}")
        domain.traits.n_vcpus = n_vcpus
        for server in domain.ioreq_servers.values():
            self._connect(domain, server)
            self.effects.append(GuestChanged(domain.domid, "ioreq"))

    def _connect(self, domain: Domain, server: IoreqServer) -> None:
        """Take a port for each vcpu, and after the first one's that for buffered requests."""
        for vcpu in range(len(server.ports), domain.traits.n_vcpus):
            server.ports.append(self.events.alloc_unbound(domain.domid, 0, vcpu, for_xen=True))
            if vcpu == 0 and server.bufioreq:
                server.bufioreq_port = self.events.alloc_unbound(domain.domid, 0, for_xen=True)

    def _disconnect(self, domain: Domain, server: IoreqServer) -> None:
        for port in (*server.ports, server.bufioreq_port):
            self.events.close_for_xen(domain.domid, port)

    def ioreq_server(self, domid: int, number: int) -> IoreqServer:
        """Look one up.

        Raises:
            ModelError: ESRCH; ENOENT.
        """
        server = self.domain(domid).ioreq_servers.get(number)
        if server is None:
            raise ModelError(errno.ENOENT, f"domain {domid} has no ioreq server {number}", key="id")
        return server

    def destroy_ioreq_server(self, domid: int, number: int) -> None:
        """Destroy an ioreq server; those who have its pages mapped keep them.

        Raises:
            ModelError: ESRCH; ENOENT.
        """
        server = self.ioreq_server(domid, number)
        domain = self.domain(domid)
        del domain.ioreq_servers[number]
        self._disconnect(domain, server)
        self.effects.append(GuestChanged(domid, "ioreq"))
        if server.frames:
            self.give(server.frames)

    def map_io_range(self, domid: int, number: int, kind: int, start: int, end: int) -> None:
        """Let a server emulate a range (XEN_DMOP_map_io_range_to_ioreq_server).

        Raises:
            ModelError: ESRCH; ENOENT; EINVAL, it ends before it begins, or there is no such type; EEXIST, part of it
                is the server's already; ENOMEM, it has too many.
        """
        server = self._with_range(domid, number, kind, start, end)
        if server.ranges[kind].overlaps(start, end):
            raise ModelError(errno.EEXIST, f"server {number} has part of {start:#x} to {end:#x} already", key="start")
        self._set_ranges(domid, server, kind, server.ranges[kind].with_added(start, end))

    def unmap_io_range(self, domid: int, number: int, kind: int, start: int, end: int) -> None:
        """Let a server emulate a range no more (XEN_DMOP_unmap_io_range_from_ioreq_server).

        Raises:
            ModelError: ESRCH; ENOENT, no such server, or it does not have all of the range; EINVAL; ENOMEM.
        """
        server = self._with_range(domid, number, kind, start, end)
        if not server.ranges[kind].contains(start, end):
            raise ModelError(errno.ENOENT, f"server {number} does not have all of {start:#x} to {end:#x}", key="start")
        self._set_ranges(domid, server, kind, server.ranges[kind].without(start, end))

    def _with_range(self, domid: int, number: int, kind: int, start: int, end: int) -> IoreqServer:
        if start > end:
            raise ModelError(errno.EINVAL, f"the range from {start:#x} ends at {end:#x}, before it begins", key="end")
        server = self.ioreq_server(domid, number)
        if kind not in RangeType.__members__.values():
            raise ModelError(errno.EINVAL, f"there is no type of range {kind}", key="type")
        return server

    def _set_ranges(self, domid: int, server: IoreqServer, kind: int, ranges: Ranges) -> None:
        if len(ranges) > MAX_RANGES:
            raise ModelError(errno.ENOMEM, f"an ioreq server has at most {MAX_RANGES} ranges of a type", key="type")
        server.ranges[kind] = ranges
        self.effects.append(GuestChanged(domid, "ioreq"))

    def set_ioreq_server_state(self, domid: int, number: int, *, enabled: bool) -> IoreqServer:
        """Let requests go to a server, or not (XEN_DMOP_set_ioreq_server_state).

        Raises:
            ModelError: ESRCH; ENOENT.
        """
        server = self.ioreq_server(domid, number)
        if server.enabled != enabled:
            server.enabled = enabled
            self.effects.append(GuestChanged(domid, "ioreq"))
        return server

    def drive(self, domid: int, change: Callable[[Interrupts], bool]) -> None:
        """Drive interrupt lines of a translated domain.

        Args:
            domid: The domain.
            change: Does it, and says whether anything is different now.

        Raises:
            ModelError: ESRCH; EINVAL, it is dying or PV.
        """
        if change(self._translated(domid).interrupts):
            self.effects.append(GuestChanged(domid, "interrupt"))
