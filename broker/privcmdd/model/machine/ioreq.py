# SPDX-License-Identifier: Apache-2.0
"""Ioreq servers: which device model emulates what of a guest, and how it is told (xen/common/ioreq.c).

A server has two pages: one for the requests of all vcpus, one for buffered requests. It has a port of the guest for
each vcpu, to which the device model binds. The servers' ids and ranges decide which server a request goes to.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.effects import GuestChanged
from privcmdd.model.machine.records import IoreqServer, RangeType

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.interrupts import Interrupts
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.ranges import Ranges

MAX_IOREQ_SERVERS: Final = 8
MAX_RANGES: Final = 256  # of one type, for each server (MAX_NR_IO_RANGES)
BUFIOREQ_ATOMIC: Final = 2


def create(machine: Machine, domid: int, bufioreq: int) -> int:
    """Make an ioreq server (XEN_DMOP_create_ioreq_server).

    Returns:
        The server's id, the lowest that is free.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is PV or dying, or Xen knows no such ``bufioreq``; ENOSPC, the domain
            has as many servers, or event channels, as it may have.
    """
    domain = machine.living(domid)
    if not domain.kind.translated or not 0 <= bufioreq <= BUFIOREQ_ATOMIC:
        raise ModelError(errno.EINVAL, f"no ioreq server with bufioreq {bufioreq} for a {domain.kind} domain")
    number = next((n for n in range(MAX_IOREQ_SERVERS) if n not in domain.ioreq_servers), None)
    if number is None:
        raise ModelError(errno.ENOSPC, f"domain {domid} has {MAX_IOREQ_SERVERS} ioreq servers already")
    server = IoreqServer(bufioreq)
    try:
        _connect(machine, domain, server)
    except ModelError:
        _disconnect(machine, domain, server)
        raise
    domain.ioreq_servers[number] = server
    machine.effects.append(GuestChanged(domid, "ioreq"))
    return number


def make_vcpus(machine: Machine, domid: int, n_vcpus: int) -> None:
    """Make all vcpus of a domain (XEN_DOMCTL_max_vcpus); each ioreq server gets a port for each.

    Raises:
        ModelError: ESRCH; EINVAL, the domain was made for another number of vcpus; ENOSPC.
    """
    domain = machine.domain(domid)
    if n_vcpus != domain.traits.max_vcpus:
        raise ModelError(errno.EINVAL, f"max is {n_vcpus}, the domain was made for {domain.traits.max_vcpus}")
    domain.traits.n_vcpus = n_vcpus
    for server in domain.ioreq_servers.values():
        _connect(machine, domain, server)
        machine.effects.append(GuestChanged(domain.domid, "ioreq"))


def _connect(machine: Machine, domain: Domain, server: IoreqServer) -> None:
    """Take a port for each vcpu, and after vcpu 0's port the port for buffered requests."""
    for vcpu in range(len(server.ports), domain.traits.n_vcpus):
        server.ports.append(machine.events.alloc_unbound(domain.domid, 0, vcpu, for_xen=True))
        if vcpu == 0 and server.bufioreq:
            server.bufioreq_port = machine.events.alloc_unbound(domain.domid, 0, for_xen=True)


def _disconnect(machine: Machine, domain: Domain, server: IoreqServer) -> None:
    for port in (*server.ports, server.bufioreq_port):
        machine.events.close_for_xen(domain.domid, port)


def server_of(machine: Machine, domid: int, number: int) -> IoreqServer:
    """Return an ioreq server.

    Raises:
        ModelError: ESRCH; ENOENT, the domain has no such server.
    """
    server = machine.domain(domid).ioreq_servers.get(number)
    if server is None:
        raise ModelError(errno.ENOENT, f"domain {domid} has no ioreq server {number}", key="id")
    return server


def destroy(machine: Machine, domid: int, number: int) -> None:
    """Destroy an ioreq server; clients that have its pages mapped keep them.

    Raises:
        ModelError: ESRCH; ENOENT.
    """
    server = server_of(machine, domid, number)
    domain = machine.domain(domid)
    del domain.ioreq_servers[number]
    _disconnect(machine, domain, server)
    machine.effects.append(GuestChanged(domid, "ioreq"))
    if server.frames:
        machine.put(server.frames)


def map_io_range(machine: Machine, domid: int, number: int, kind: int, start: int, end: int) -> None:
    """Let a server emulate a range (XEN_DMOP_map_io_range_to_ioreq_server).

    Raises:
        ModelError: ESRCH; ENOENT; EINVAL, the range ends before it begins, or there is no such type; EEXIST, the
            server has part of the range already; ENOMEM, the server has too many ranges.
    """
    server = _with_range(machine, domid, number, kind, start, end)
    if server.ranges[kind].overlaps(start, end):
        raise ModelError(errno.EEXIST, f"server {number} has part of {start:#x} to {end:#x} already", key="start")
    _set_ranges(machine, domid, server, kind, server.ranges[kind].with_added(start, end))


def unmap_io_range(machine: Machine, domid: int, number: int, kind: int, start: int, end: int) -> None:
    """Take a range from a server (XEN_DMOP_unmap_io_range_from_ioreq_server).

    Raises:
        ModelError: ESRCH; ENOENT, no such server, or it does not have all of the range; EINVAL; ENOMEM.
    """
    server = _with_range(machine, domid, number, kind, start, end)
    if not server.ranges[kind].contains(start, end):
        raise ModelError(errno.ENOENT, f"server {number} does not have all of {start:#x} to {end:#x}", key="start")
    _set_ranges(machine, domid, server, kind, server.ranges[kind].without(start, end))


def _with_range(machine: Machine, domid: int, number: int, kind: int, start: int, end: int) -> IoreqServer:
    if start > end:
        raise ModelError(errno.EINVAL, f"the range from {start:#x} ends at {end:#x}, before it begins", key="end")
    server = server_of(machine, domid, number)
    if kind not in RangeType.__members__.values():
        raise ModelError(errno.EINVAL, f"there is no type of range {kind}", key="type")
    return server


def _set_ranges(machine: Machine, domid: int, server: IoreqServer, kind: int, ranges: Ranges) -> None:
    if len(ranges) > MAX_RANGES:
        raise ModelError(errno.ENOMEM, f"an ioreq server has at most {MAX_RANGES} ranges of a type", key="type")
    server.ranges[kind] = ranges
    machine.effects.append(GuestChanged(domid, "ioreq"))


def set_state(machine: Machine, domid: int, number: int, *, enabled: bool) -> IoreqServer:
    """Enable or disable a server, and return it: requests go to enabled servers (XEN_DMOP_set_ioreq_server_state).

    Raises:
        ModelError: ESRCH; ENOENT.
    """
    server = server_of(machine, domid, number)
    if server.enabled != enabled:
        server.enabled = enabled
        machine.effects.append(GuestChanged(domid, "ioreq"))
    return server


def drive(machine: Machine, domid: int, change: Callable[[Interrupts], bool]) -> None:
    """Drive interrupt lines of a translated domain.

    Args:
        machine: The simulated machine.
        domid: The domain.
        change: Drives the lines, and returns whether anything has changed.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV.
    """
    if change(machine.translated(domid).interrupts):
        machine.effects.append(GuestChanged(domid, "interrupt"))
