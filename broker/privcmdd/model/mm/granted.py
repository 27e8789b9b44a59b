# SPDX-License-Identifier: Apache-2.0
"""Grants that an address space maps: of guests and of domain 0's own, and what is done when they are unmapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.in_use import Held, unpin
from privcmdd.model.machine.gntalloc import Holder, Notice, Shared
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import PAGE_MASK, PAGE_SHIFT, PROT_WRITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.files import SharedFile
    from privcmdd.model.mm.space import Mapped
    from privcmdd.model.mm.syscalls import AddressSpace


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
