# SPDX-License-Identifier: Apache-2.0
"""Memory of the machine itself, which a PV dom0 may map: I/O frames, and Xen's machine-to-phys table.

A device here is memory that keeps what is written to it; the first page has a BIOS' interrupt vectors. The
machine-to-phys table has the gfn of each mfn. A page of it is brought up to date when it is mapped, and when a
hypercall gives frames to a PV domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.lists import distinct
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.units import DOMID_FIRST_RESERVED, DOMID_IO, DOMID_SELF, DOMID_XEN, INVALID_FRAME, MMIO_END

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.frames import FrameTable, Mfns
    from privcmdd.service.backing import Backing
    from privcmdd.service.world import World

# A page of a PC's memory has 256 vectors at its beginning; SeaBIOS points unused ones at F000:FF53.
VECTORS: Final = bytes.fromhex("53ff00f0") * 256
ENTRIES: Final = 512  # frames that a page of the table has entries for
OWNERS: Final = {DOMID_SELF: DOMID_IO, DOMID_IO: DOMID_IO, DOMID_XEN: DOMID_XEN}


def size_pages(frames: FrameTable, owner: int) -> int:
    """The size of the file of I/O frames, or of the machine-to-phys table."""
    return MMIO_END if owner == DOMID_IO else max(1, frames.machphys[1])


def file_of(world: World, domid: int) -> int | None:
    """The key of the file of a domid that is reserved for the machine's memory; None for another domid.

    The file is made when it is first asked for.
    """
    owner = OWNERS.get(domid)
    if owner is not None and owner not in world.machine_files:
        world.backing.create(owner, size_pages(world.machine.frames, owner))
        world.machine_files.add(owner)
        if owner == DOMID_IO:
            world.backing.write(owner, 0, 0, VECTORS)
    return owner


def prepare(world: World, domid: int, mfns: Mfns) -> None:
    """Bring pages of the machine-to-phys table up to date, when frames of that table were mapped."""
    if domid < DOMID_FIRST_RESERVED:
        return
    mapped = np.asarray(mfns, dtype=np.uint32)
    mapped = mapped[mapped != NO_FRAME]
    if not len(mapped) or file_of(world, domid) != DOMID_XEN:
        return
    write_table(world.machine.frames, world.backing, distinct(world.machine.frames.page[mapped]))


def follow(world: World, mfns: npt.NDArray[np.uint32]) -> None:
    """Enter frames that were given to a PV domain into the machine-to-phys table, if it has ever been mapped."""
    if DOMID_XEN in world.machine_files and len(mfns):
        write_table(world.machine.frames, world.backing, distinct(mfns // np.uint32(ENTRIES)))


def write_table(frames: FrameTable, backing: Backing, pages: npt.NDArray[np.integer[Any]]) -> None:
    """Write pages of the machine-to-phys table from the frame table."""
    for page in pages.tolist():
        part = slice(page * ENTRIES, (page + 1) * ENTRIES)
        owned = frames.owner[part] < DOMID_FIRST_RESERVED
        table = np.full(ENTRIES, INVALID_FRAME, dtype="<u8")
        table[: len(owned)][owned] = frames.gfn[part][owned]
        backing.write(DOMID_XEN, page, 0, table.tobytes())
