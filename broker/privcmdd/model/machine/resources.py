# SPDX-License-Identifier: Apache-2.0
"""Resources: frames that belong to a domain and are not part of its RAM (``XENMEM_acquire_resource``).

Resources are grant table frames and the pages of ioreq servers. Their frames are made when they are first asked for,
lie in an area of their own in the domain's memory file, and do not count for its ``tot_pages``. As long as one is
mapped, a dying domain is not gone (docs/explanation/facts/recorded-host.md, sections 9 and 10).
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import FindingKind
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.machine.machine import Machine, no_such_domain

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain

IOREQ_FRAMES: Final = 2  # a page of buffered requests, and a page of synchronous ones: enough for 128 vcpus
STATUS_PER_SHARED: Final = 8  # shared frames of version 2 whose status one status frame has
NO_GFN: Final = (1 << 32) - 1
STATUS_INDEX: Final = 1 << 31  # XENMAPIDX_grant_table_status


class ResourceType(IntEnum):
    """XENMEM_resource_*, of which Xen looks at 16 bits."""

    IOREQ_SERVER = 0
    GRANT_TABLE = 1
    VMTRACE_BUF = 2


class GrantId(IntEnum):
    """XENMEM_resource_grant_table_id_*."""

    SHARED = 0
    STATUS = 1


def max_frames(machine: Machine, domid: int, kind: int, number: int) -> int:
    """Return how many frames a resource has.

    Args:
        machine: The simulated machine.
        domid: The domain that has the resource.
        kind: A ``ResourceType``, in 16 bits; higher bits are dropped.
        number: The id of the resource.

    Raises:
        ModelError: ESRCH; EPERM, domain 0; EINVAL, no such resource.
    """
    size = _existing_size(machine, domid, kind, number)
    if kind & 0xFFFF not in {*ResourceType}:
        machine.found(
            FindingKind.RESOURCE_SIZE_BOGUS,
            f"there is no resource of type {kind:#x}, and asked for its size Xen {machine.host.xen} says {size:#x} "
            "frames and no error: it is an errno that was stored in a count",
            dom=domid,
        )
    return size


def _existing_size(machine: Machine, domid: int, kind: int, number: int) -> int:
    domain = _remote(machine, domid)
    size = _max_frames(machine, domain, kind & 0xFFFF, number)
    if not size:
        raise ModelError(errno.EINVAL, f"domain {domid} has no resource of type {kind:#x}, id {number}", type=kind)
    return size


def _remote(machine: Machine, domid: int) -> Domain:
    if domid == 0:
        raise ModelError(errno.EPERM, "dom is 0: the resources of the caller's own domain cannot be mapped", dom=0)
    domain = machine.domains.get(domid)
    if domain is None:
        raise no_such_domain(domid)
    return domain


def _max_frames(machine: Machine, domain: Domain, kind: int, number: int) -> int:
    if kind == ResourceType.GRANT_TABLE:
        if number == GrantId.SHARED:
            return domain.grants.max_frames
        return -(-domain.grants.max_frames // STATUS_PER_SHARED) if number == GrantId.STATUS else 0
    if kind == ResourceType.IOREQ_SERVER:
        return IOREQ_FRAMES if domain.kind.translated else 0
    # Xen 4.17 stores -EOPNOTSUPP in an unsigned count (xen/common/memory.c, resource_max_frames).
    return 0 if kind == ResourceType.VMTRACE_BUF or machine.host.xen != "4.17" else (1 << 32) - errno.EOPNOTSUPP


def mfns_of(machine: Machine, domid: int, kind: int, number: int, first: int, n_frames: int) -> npt.NDArray[np.uint32]:
    """Return the mfns of part of a resource; no references are taken.

    Raises:
        ModelError: As ``max_frames``; EINVAL, the part reaches past the resource's end; EOPNOTSUPP, no such type (Xen
            4.17); EBUSY, the domain is dying; ENOENT, no such ioreq server; ENOMEM.
    """
    size = _existing_size(machine, domid, kind, number)
    kind &= 0xFFFF
    if first + n_frames > size:
        raise ModelError(
            errno.EINVAL, f"frames {first} to {first + n_frames} are asked for, there are {size}", key="idx"
        )
    if kind not in (ResourceType.GRANT_TABLE, ResourceType.IOREQ_SERVER):
        raise ModelError(errno.EOPNOTSUPP, f"there is no type of resource {kind}", key="type")
    domain = machine.domains[domid]
    if not domain.alive:
        raise ModelError(errno.EBUSY, f"domain {domid} is dying: its resources cannot be mapped", dom=domid)
    if kind == ResourceType.GRANT_TABLE:
        frames = _grant_frames(machine, domain, number, first + n_frames)
    else:
        frames = _ioreq_frames(machine, domain, number, first)
    return np.array(frames[first : first + n_frames], dtype=np.uint32)


def _grant_frames(machine: Machine, domain: Domain, number: int, n_needed: int) -> list[int]:
    grants = domain.grants
    if number == GrantId.STATUS and grants.version != 2:
        raise ModelError(
            errno.EINVAL, f"domain {domain.domid} uses version 1 of grants, which has no status frames", key="id"
        )
    frames = grants.shared if number == GrantId.SHARED else grants.status
    if len(frames) < n_needed:
        frames += _allocate(machine, domain, n_needed - len(frames))
    return frames


def make_status_frames(machine: Machine, domain: Domain) -> None:
    """Make as many status frames as the shared frames of a grant table of version 2 need.

    Raises:
        ModelError: ENOMEM.
    """
    _grant_frames(machine, domain, GrantId.STATUS, -(-len(domain.grants.shared) // STATUS_PER_SHARED))


def _ioreq_frames(machine: Machine, domain: Domain, number: int, first: int) -> list[int]:
    server = domain.ioreq_servers.get(number)
    if server is None or (first == 0 and not server.bufioreq):
        raise ModelError(errno.ENOENT, f"domain {domain.domid} has no ioreq server {number}", key="id")
    if not server.frames:
        server.frames = _allocate(machine, domain, IOREQ_FRAMES)
    return server.frames


def _allocate(machine: Machine, domain: Domain, n_frames: int) -> list[int]:
    if n_frames > machine.frames.n_free:
        raise ModelError(errno.ENOMEM, "the machine has no free frame left (machine.memory_mib)")
    pages = domain.file.find_resources(n_frames)
    if pages is None:
        raise ModelError(errno.ENOMEM, f"the resources of domain {domain.domid} fill their part of its file")
    places = domain.file.places(pages)
    gfns = np.full(n_frames, NO_GFN, dtype=np.uint32)
    machine.touch(domain.domid)
    made: list[int] = machine.frames.allocate(domain.domid, gfns, pages).tolist()
    domain.file.hold(places)
    domain.n_resource += n_frames
    return made


def shared_info_frame(machine: Machine, domain: Domain) -> int:
    """Return the mfn of a domain's shared_info page, which is made at the first call.

    Raises:
        ModelError: ENOMEM, the page cannot be made.
    """
    domain.shared_info = domain.shared_info or _allocate(machine, domain, 1)
    return domain.shared_info[0]


def add_to_physmap(machine: Machine, domid: int, space: int, index: int, gfn: int) -> None:
    """Add a page that Xen keeps for a translated domain to the domain's p2m (XENMEM_add_to_physmap).

    Args:
        machine: The simulated machine.
        domid: The domain.
        space: 0 for its shared_info page, 1 for its grant table; bit 31 of ``index`` means status frames.
        index: The frame of the shared_info page or grant table.
        gfn: The guest frame that it becomes; the frame that was there is put.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV, or has no such frame; ENOMEM.
    """
    domain = machine.translated(domid)
    if gfn >= machine.max_gfns:
        raise ModelError(errno.EINVAL, f"guest frame {gfn:#x} is past those a domain may have", dom=domid)
    if space == 0:
        if index:
            raise ModelError(errno.EINVAL, f"there is one shared_info page, asked for {index}", dom=domid)
        mfn = shared_info_frame(machine, domain)
    else:
        number = GrantId.STATUS if index & STATUS_INDEX else GrantId.SHARED
        frame = index & (STATUS_INDEX - 1)
        mfn = int(mfns_of(machine, domid, ResourceType.GRANT_TABLE, number, frame, 1)[0])
    domain.reach(gfn + 1)
    old = int(machine.frames.gfn[mfn])
    if old != NO_GFN and domain.p2m[old] == mfn:  # it moves, and its reference with it; perhaps to where it is
        domain.enter(old, NO_FRAME)
    else:
        machine.frames.refs_of[mfn] += 1
    gone = domain.vacate(slice(gfn, gfn + 1))
    domain.enter(gfn, mfn)
    machine.frames.gfn[mfn] = gfn
    domain.top_gfn = max(domain.top_gfn, gfn)
    machine.put(gone)


def held(domain: Domain) -> list[int]:
    """Return the frames to which a domain has references besides those of its p2m."""
    frames = domain.shared_info + domain.grants.shared + domain.grants.status + domain.detached
    for server in domain.ioreq_servers.values():
        frames += server.frames
    return frames


def forget(domain: Domain) -> None:
    """Forget the frames that ``held`` returns, of a dying domain; the caller puts them."""
    domain.shared_info, domain.detached = [], []
    domain.grants.shared, domain.grants.status = [], []
    domain.ioreq_servers = {}
