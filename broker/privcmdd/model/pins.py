# SPDX-License-Identifier: Apache-2.0
"""Which grants are in use, and how the guest sees it.

While a grant is mapped, Xen keeps two bits up where the guest can read them: GTF_reading, and GTF_writing when
somebody may write to it (xen/common/grant_table.c, _set_status and release_grant_for_copy). They are in the entry
itself in version 1 of the interface, in the status frames in version 2. A guest must not end a grant while they are
up. The counts are kept here and never read back from the guest, so what it writes there harms itself alone.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.effects import ByteCleared, GrantsInUse, Raised
from privcmdd.model.errors import ModelError
from privcmdd.model.traits import Pin
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from privcmdd.model.domain import Domain
    from privcmdd.model.hypervisor import Hypervisor
    from privcmdd.model.space import AddressSpace

GTF_READING: Final = 8
GTF_WRITING: Final = 16
ENTRY_V1_BYTES: Final = 8
STATUS_BYTES: Final = 2


class Held(NamedTuple):
    """What a page of an address space maps.

    Attributes:
        domain: Who granted it.
        ref: The grant's number.
        writes: It was mapped to be written.
    """

    domain: Domain
    ref: int
    writes: bool


class Notice(NamedTuple):
    """What is to be done when a page that maps a grant is unmapped.

    Attributes:
        byte: The domain, the page of its memory file and the byte of it that is to be cleared, if any.
        event: The channel, and which of its events, that is to be raised, if any.
    """

    byte: tuple[int, int, int] | None
    event: tuple[int, int] | None


def notify(space: AddressSpace, addr: int, event: tuple[int, int] | None, *, clear: bool) -> None:
    """Say what is to be done when a page is unmapped, in the place of what was said before.

    Raises:
        ModelError: ENOENT, it maps no grant; EINVAL, it is mapped read-only and to be written to.
    """
    page, offset = addr >> PAGE_SHIFT, addr & PAGE_MASK
    held = space.grants.get(page)
    if held is None:
        raise ModelError(errno.ENOENT, f"no grant is mapped at {addr:#x}", key="addr")
    if clear and not held.writes:
        raise ModelError(errno.EINVAL, f"a byte is to be cleared at {addr:#x}, which is mapped read-only", key="addr")
    file_page = int(space.hypervisor.frames.page[space.pmap.get(page)])
    space.notices[page] = Notice((held.domain.domid, file_page, offset) if clear else None, event)


def pin(hypervisor: Hypervisor, domain: Domain, refs: Sequence[int], frames: Sequence[int], *, writes: bool) -> None:
    """Grants are about to be mapped, each once for every mention."""
    pins = domain.grants.pins
    for ref, frame in zip(refs, frames, strict=True):
        held = pins.get(ref) or pins.setdefault(ref, Pin(frame))
        held.n_mappings += 1
        held.n_writable += writes
    show(hypervisor, domain, refs)


def unpin(hypervisor: Hypervisor, helds: Iterable[Held]) -> None:
    """Grants are no longer mapped by these pages."""
    touched: dict[Domain, list[int]] = {}
    for domain, ref, writes in helds:
        held = domain.grants.pins[ref]
        held.n_mappings -= 1
        held.n_writable -= writes
        if not held.n_mappings:
            del domain.grants.pins[ref]
        touched.setdefault(domain, []).append(ref)
    for domain, refs in touched.items():
        show(hypervisor, domain, refs)


def unmapped(space: AddressSpace, start: int, end: int) -> None:
    """A range of an address space maps nothing any more of what it did."""
    first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    grants = space.grants
    if last - first > len(grants):
        pages = [page for page in grants if first <= page < last]
    else:
        pages = [page for page in range(first, last) if page in grants]
    if pages:
        unpin(space.hypervisor, [grants.pop(page) for page in pages])
        for page in pages:
            if notice := space.notices.pop(page, None):
                effects = space.hypervisor.effects
                if notice.byte is not None:
                    effects.append(ByteCleared(*notice.byte))
                if notice.event is not None:
                    effects.append(Raised(*notice.event))


def show(hypervisor: Hypervisor, domain: Domain, refs: Iterable[int]) -> None:
    """Let the guest see which of its grants are in use; a dying one has no table to see it in."""
    rows = []
    for ref in dict.fromkeys(refs):
        place = flags_of(hypervisor, domain, ref)
        if place is not None:
            held = domain.grants.pins.get(ref)
            bits = (GTF_READING if held else 0) | (GTF_WRITING if held and held.n_writable else 0)
            rows.append((*place, bits))
    if rows:
        hypervisor.effects.append(GrantsInUse(domain.domid, rows))


def flags_of(hypervisor: Hypervisor, domain: Domain, ref: int) -> tuple[int, int] | None:
    """The page of the domain's file, and the byte in it, that has the bits of a grant."""
    grants = domain.grants
    frames, size = (grants.shared, ENTRY_V1_BYTES) if grants.version == 1 else (grants.status, STATUS_BYTES)
    index, rest = divmod(ref, PAGE_SIZE // size)
    return (int(hypervisor.frames.page[frames[index]]), rest * size) if index < len(frames) else None
