# SPDX-License-Identifier: Apache-2.0
"""Finds harm that the model cannot see: it is in how answers are encoded, in open files, or in other clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from privcmdd.model.findings import FindingKind, Found, pages_of
from privcmdd.model.privcmd.requests import hidden
from privcmdd.model.units import PAGE_SHIFT
from privcmdd.service.findings import Culprit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmdd.model.machine.frames import Errors, Gmfns
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


def zombies(spaces: Spaces, domid: int) -> Iterator[tuple[Found, Culprit]]:
    """A finding for each address space whose mappings keep a destroyed domain."""
    for residence in spaces.residences():
        space = residence.space
        held = [(entry, space.pmap.count(entry.page, entry.n_pages)) for entry in space.map if entry.owner == domid]
        n_pages = sum(n for _, n in held)
        if not n_pages:
            continue
        first = next(entry for entry, n in held if n)
        method, request = first.made_by or ("", 0)
        text = (
            f"domain {domid} was destroyed while {pages_of(n_pages)} of it were mapped, the first at "
            f"{first.start:#x}: it stays as a zombie, with that memory, until the last of them is unmapped"
        )
        connection = min(residence.threads, default=0)
        yield (
            Found(FindingKind.ZOMBIE_DOMAIN, text, domid, first.start, first.made_by),
            Culprit(residence.uid, residence.pid, residence.client, connection, method, request),
        )
