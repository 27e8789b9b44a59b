# SPDX-License-Identifier: Apache-2.0
"""Finds harm that the model cannot see: it is in how answers are encoded, in open files, or in other clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model.findings import FindingKind, Found, pages_of
from privcmdd.model.privcmd.requests import hidden
from privcmdd.model.units import PAGE_SHIFT
from privcmdd.service.findings import Culprit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.processes import Spaces
    from privcmdd.service.session import Residence


def errors_hidden(machine: Machine, params: dict[str, Any], gmfns: Gmfns, marked: Gmfns, errors: Errors) -> None:
    """Record a finding when MMAPBATCH reports failed frames in bits that are set in their numbers already."""
    try:
        at = hidden(gmfns, marked, errors)
    except MemoryError:  # the frames are mapped, so the request succeeds: nothing is found
        return
    if at:
        machine.found(
            FindingKind.ERROR_HIDDEN,
            f"frame {int(gmfns[at[0]]):#x} of domain {params['dom']}, at index {at[0]}, failed, and its number has the "
            f"bits already by which MMAPBATCH says so: {len(at)} failed frames look mapped; use MMAPBATCH_V2",
            dom=params["dom"],
            addr=params["addr"] + (at[0] << PAGE_SHIFT),
        )


def taken(
    machine: Machine, spaces: Spaces, own: Residence | None, domid: int, gmfns: npt.NDArray[np.uint64], mfns: Mfns
) -> None:
    """Record a finding when frames were taken from a domain, and somebody else than who took them has them mapped.

    Who maps a page itself knows what it does: a pager takes the page of its ring out of the guest's reach (XSA-99).

    Args:
        machine: The machine.
        spaces: All address spaces.
        own: Where the client lives that took the frames; None when it maps nothing.
        domid: The domain.
        gmfns: (n,) uint64, the frames that were taken, by the domain's names.
        mfns: (n,) uint32, the same frames, by the machine's.
    """
    try:
        mapped = np.zeros(len(mfns), dtype=np.bool_)
        for residence in spaces.residences() if machine.frames.refs[mfns].any() else ():
            if residence is not own:
                mapped |= residence.space.pmap.maps(mfns)
        stale = gmfns[mapped]
    except MemoryError:  # the frames are taken already; without memory the finding is lost
        return
    if len(stale):
        more = f", and so were {len(stale) - 1} others of the list" if len(stale) > 1 else ""
        machine.found(
            FindingKind.STALE_MAPPING,
            f"frame {int(stale[0]):#x} was taken from domain {domid} while somebody else had it mapped{more}: "
            "the mapping goes on showing the old frame, also when the guest frame is populated anew; unmap before "
            "memory is given back",
            dom=domid,
        )


def filled(residence: Residence, domid: int, addr: int, file: int) -> None:
    """Record a finding when frames were mapped into a mapping of a file that is restricted to another domain."""
    vma = residence.space.map.lookup(addr)
    held = None if vma is None else residence.restrictions.get(vma.opened)
    if vma is not None and held not in (None, domid):
        residence.space.machine.found(
            FindingKind.UNRESTRICTED_FILL,
            f"frames of domain {domid} were mapped at {addr:#x} through file {file}, into a mapping of file "
            f"{vma.opened}, which is restricted to domain {held}: the restriction is of the file that asks, not of the "
            "memory; whoever may use that memory has the frames",
            dom=domid,
            addr=addr,
        )


def zombies(spaces: Spaces, domid: int, kept_s: float) -> Iterator[tuple[Found, Culprit]]:
    """A finding for each address space whose mappings have kept a destroyed domain for so many seconds."""
    for residence in spaces.residences():
        space = residence.space
        held = [(entry, space.pmap.count(entry.page, entry.n_pages)) for entry in space.map if entry.owner == domid]
        n_pages = sum(n for _, n in held)
        if not n_pages:
            continue
        first = next(entry for entry, n in held if n)
        method, request = first.made_by or ("", 0)
        text = (
            f"domain {domid} was destroyed, and {kept_s:.0f} seconds later {pages_of(n_pages)} of it are still mapped, "
            f"the first at {first.start:#x}: it stays as a zombie, with that memory, until the last of them is unmapped"
        )
        connection = min(residence.threads, default=0)
        yield (
            Found(FindingKind.ZOMBIE_DOMAIN, text, domid, first.start, first.made_by),
            Culprit(residence.uid, residence.job, residence.pid, residence.client, connection, method, request),
        )
