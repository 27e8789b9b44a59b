# SPDX-License-Identifier: Apache-2.0
"""Which grants are in use, and how the guest sees that.

While a grant is mapped, Xen keeps two bits set where the guest can read them: GTF_reading, and GTF_writing when a
mapping is writable (xen/common/grant_table.c, _set_status and release_grant_for_copy). The bits are in the entry
itself in version 1 of the interface, in the status frames in version 2. A guest must not end a grant while they are
set. The counts are kept here and never read back from the guest: a guest that writes over the bits harms itself alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.machine.effects import GrantsInUse
from privcmdd.model.machine.records import Pin
from privcmdd.model.units import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine

GTF_READING: Final = 8

GTF_WRITING: Final = 16

ENTRY_V1_BYTES: Final = 8

STATUS_BYTES: Final = 2


class Held(NamedTuple):
    """The grant that a page of an address space maps.

    Attributes:
        domid: The domain that granted it; that domain is not gone as long as the grant is mapped.
        ref: The grant's number.
        writes: The mapping is writable.
    """

    domid: int
    ref: int
    writes: bool


def pin(domain: Domain, refs: Sequence[int], frames: Sequence[int], *, writes: bool) -> None:
    """Count grants that are about to be mapped; a grant that is listed twice is mapped twice."""
    pins = domain.grants.pins
    for ref, frame in zip(refs, frames, strict=True):
        held = pins.get(ref) or pins.setdefault(ref, Pin(frame))
        held.n_mappings += 1
        held.n_writable += writes


def unpin(machine: Machine, helds: Iterable[Held]) -> None:
    """Count grants less that pages no longer map, and have the guest see it."""
    touched: dict[int, list[int]] = {}
    for domid, ref, writes in helds:
        domain = machine.domains[domid]
        held = domain.grants.pins[ref]
        held.n_mappings -= 1
        held.n_writable -= writes
        if not held.n_mappings:
            del domain.grants.pins[ref]
        touched.setdefault(domid, []).append(ref)
    for domid, refs in touched.items():
        machine.effects.append(GrantsInUse(domid, refs))


def in_use(machine: Machine, effect: GrantsInUse) -> list[tuple[int, int, int]]:
    """Find out what a guest is to see in its grant table. A domain that is dying or gone has no table any more.

    Returns:
        For each grant: the page of the domain's memory file, the byte in that page, and the bits that are set.
    """
    rows: list[tuple[int, int, int]] = []
    domain = machine.domains.get(effect.domid)
    if domain is None:
        return rows
    for ref in effect.refs:
        place = flags_of(machine, domain, ref)
        if place is not None:
            held = domain.grants.pins.get(ref)
            bits = (GTF_READING if held else 0) | (GTF_WRITING if held and held.n_writable else 0)
            rows.append((*place, bits))
    return rows


def flags_of(machine: Machine, domain: Domain, ref: int) -> tuple[int, int] | None:
    """Return the page of the domain's file, and the byte in it, that has the bits of a grant; None if there is none."""
    grants = domain.grants
    frames, size = (grants.shared, ENTRY_V1_BYTES) if grants.version == 1 else (grants.status, STATUS_BYTES)
    index, rest = divmod(ref, PAGE_SIZE // size)
    return (int(machine.frames.page[frames[index]]), rest * size) if index < len(frames) else None
