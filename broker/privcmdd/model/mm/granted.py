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

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.effects import GrantsInUse
from privcmdd.model.machine.gntalloc import Holder, Notice
from privcmdd.model.machine.records import Pin
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.gntalloc import SharedFile
    from privcmdd.model.machine.lifecycle import Hypervisor
    from privcmdd.model.mm.space import Mapped
    from privcmdd.model.mm.syscalls import AddressSpace

GTF_READING: Final = 8
GTF_WRITING: Final = 16
ENTRY_V1_BYTES: Final = 8
STATUS_BYTES: Final = 2


class Held(NamedTuple):
    """What a page of an address space maps.

    Attributes:
        domid: Who granted it: it stays as long as it is mapped.
        ref: The grant's number.
        writes: It was mapped to be written.
    """

    domid: int
    ref: int
    writes: bool


class Shared(NamedTuple):
    """What a page of an address space maps, when that is a page of domain 0's own.

    Attributes:
        ref: The grant's number.
        writes: It was mapped to be written.
    """

    ref: int
    writes: bool


def notify(space: AddressSpace, addr: int, event: tuple[int, int] | None, *, clear: bool) -> None:
    """Say what is to be done when a page is unmapped, in the place of what was said before.

    Raises:
        ModelError: ENOENT, it maps no grant; EINVAL, it is mapped read-only and to be written to.
    """
    page, offset = addr >> PAGE_SHIFT, addr & PAGE_MASK
    held = space.grants.get(page)
    if held is None:
        raise ModelError(errno.ENOENT, f"no grant is mapped at {addr:#x}", key="addr")
    file: int | SharedFile
    if isinstance(held, Shared):
        share = space.hypervisor.shares.share(held.ref)
        file, file_page = share.file, share.page
    else:
        file, file_page = held.domid, int(space.hypervisor.frames.page[space.pmap.get(page)])
    if clear and not held.writes:
        raise ModelError(errno.EINVAL, f"a byte is to be cleared at {addr:#x}, which is mapped read-only", key="addr")
    space.notices[page] = Notice((file, file_page, offset) if clear else None, event)


def share(space: AddressSpace, addr: int, refs: Sequence[int], prot: int, *, owned: bool) -> None:
    """Pages of a mapping of the gntdev device hold domain 0's own grants, whose bytes are the process' to map.

    Raises:
        ModelError: EINVAL, the range is no such mapping, or is mapped to allow more than ``prot``.
    """
    end = addr + (len(refs) << PAGE_SHIFT)
    entry = space.map.lookup(addr)
    if entry is None or entry.file is not File.GNTDEV or end > entry.end or addr & PAGE_MASK:
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} is no mapping of the gntdev device", key="addr")
    writes = bool(entry.protection & PROT_WRITE)
    if writes and not prot & PROT_WRITE:
        raise ModelError(errno.EINVAL, "one of these grants is read-only, and the mapping is not", key="refs")
    first = addr >> PAGE_SHIFT
    if any(page in space.grants for page in range(first, first + len(refs))):
        raise ModelError(errno.EINVAL, f"{addr:#x} to {end:#x} maps grants already", key="addr")
    for page, ref in enumerate(refs, first):
        held = space.hypervisor.shares.share(ref)
        (held.owners if owned else held.mappers).add(Holder("page", space.number, page))
        space.grants[page] = Shared(ref, writes)
    entry.used = True
    entry.domid = 0
    entry.made_by = space.maker


def pin(domain: Domain, refs: Sequence[int], frames: Sequence[int], *, writes: bool) -> None:
    """Grants are about to be mapped, each once for every mention."""
    pins = domain.grants.pins
    for ref, frame in zip(refs, frames, strict=True):
        held = pins.get(ref) or pins.setdefault(ref, Pin(frame))
        held.n_mappings += 1
        held.n_writable += writes


def unpin(hypervisor: Hypervisor, helds: Iterable[Held]) -> None:
    """Grants are no longer mapped by these pages."""
    touched: dict[int, list[int]] = {}
    for domid, ref, writes in helds:
        domain = hypervisor.domains[domid]
        held = domain.grants.pins[ref]
        held.n_mappings -= 1
        held.n_writable -= writes
        if not held.n_mappings:
            del domain.grants.pins[ref]
        touched.setdefault(domid, []).append(ref)
    for domid, refs in touched.items():
        hypervisor.effects.append(GrantsInUse(domid, refs))


def unmapped(space: Mapped, start: int, end: int) -> None:
    """A range of an address space maps nothing any more of what it did."""
    first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
    grants = space.grants
    if last - first > len(grants):
        pages = [page for page in grants if first <= page < last]
    else:
        pages = [page for page in range(first, last) if page in grants]
    if pages:
        gone = [(page, grants.pop(page)) for page in pages]
        unpin(space.hypervisor, [held for _, held in gone if isinstance(held, Held)])
        for page, held in gone:
            if notice := space.notices.pop(page, None):
                space.hypervisor.effects.extend(notice.effects())
            if isinstance(held, Shared):
                space.hypervisor.shares.let_go(held.ref, Holder("page", space.number, page))


def in_use(hypervisor: Hypervisor, effect: GrantsInUse) -> list[tuple[int, int, int]]:
    """What a guest is to see: a dying one, or one that is gone, has no table to see it in.

    Returns:
        For each grant the page of the domain's memory file, the byte in it, and which of the two bits are up.
    """
    rows: list[tuple[int, int, int]] = []
    domain = hypervisor.domains.get(effect.domid)
    if domain is None:
        return rows
    for ref in effect.refs:
        place = flags_of(hypervisor, domain, ref)
        if place is not None:
            held = domain.grants.pins.get(ref)
            bits = (GTF_READING if held else 0) | (GTF_WRITING if held and held.n_writable else 0)
            rows.append((*place, bits))
    return rows


def flags_of(hypervisor: Hypervisor, domain: Domain, ref: int) -> tuple[int, int] | None:
    """The page of the domain's file, and the byte in it, that has the bits of a grant."""
    grants = domain.grants
    frames, size = (grants.shared, ENTRY_V1_BYTES) if grants.version == 1 else (grants.status, STATUS_BYTES)
    index, rest = divmod(ref, PAGE_SIZE // size)
    return (int(hypervisor.frames.page[frames[index]]), rest * size) if index < len(frames) else None
