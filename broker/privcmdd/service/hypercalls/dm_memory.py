# SPDX-License-Identifier: Apache-2.0
"""DM_OPs about a guest's memory (xen/arch/x86/hvm/dm.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import log_dirty, p2m
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.layout import Layout
from privcmdd.wire.limits import DM_OP_BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.backing import Backing
    from privcmdd.service.settings import Limits
    from privcmdd.service.world import World

    Values = dict[str, Any]

DIRTY_VRAM: Final = Layout("struct xen_dm_op_track_dirty_vram", ("nr", "u32"), ("pad", "u32"), ("first_pfn", "u64"))
MODIFIED: Final = Layout("struct xen_dm_op_modified_memory", ("nr_extents", "u32"), ("opaque", "u32"))
EXTENT: Final = Layout("struct xen_dm_op_modified_memory_extent", ("nr", "u32"), ("pad", "u32"), ("first_pfn", "u64"))
MEM_TYPE: Final = Layout(
    "struct xen_dm_op_set_mem_type", ("nr", "u32"), ("mem_type", "u16"), ("pad", "u16"), ("first_pfn", "u64")
)
RELOCATE: Final = Layout(
    "struct xen_dm_op_relocate_memory", ("size", "u32"), ("pad", "u32"), ("src_gfn", "u64"), ("dst_gfn", "u64")
)
CACHE_ATTRIBUTE: Final = Layout(
    "struct xen_dm_op_pin_memory_cacheattr", ("start", "u64"), ("end", "u64"), ("type", "u32"), ("pad", "u32")
)
MOST_VRAM_PAGES: Final = (1 << 30) // PAGE_SIZE
# One odd number for each word of a page: the sum of the words times these numbers differs when a page is written.
WEIGHTS: Final = np.random.default_rng(1).integers(1 << 63, size=PAGE_SIZE // 8, dtype=np.uint64) | np.uint64(1)


def track_dirty_vram(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_track_dirty_vram``: a bit for each page written since the last time, in the second buffer.

    Nothing traps writes here, so pages are compared with what they were. The first time all are dirty, as on Xen.

    Raises:
        ModelError: EINVAL, more pages than Xen takes, or no room for the answer.
    """
    n_pages, first, more = values["nr"], values["first_pfn"], values["more"]
    if n_pages > MOST_VRAM_PAGES or not more or len(more[0]) < -(-n_pages // 8):
        raise ModelError(errno.EINVAL, f"{n_pages} pages, and no second buffer with a bit for each", key="bufs")
    if not n_pages:
        p2m.forget_vram(world.machine, domid)
        return values
    world.machine.living(domid)
    dirty = p2m.compare_vram(world.machine, domid, first, digests(world.machine, world.backing, domid, first, n_pages))
    bits = np.packbits(dirty, bitorder="little").tobytes()
    more[0][: len(bits)] = bits
    return values


def digests(machine: Machine, backing: Backing, domid: int, first: int, n_pages: int) -> npt.NDArray[np.uint64]:
    """A digest of each guest frame's content, (n_pages,) uint64; 0 where there is no frame."""
    found = np.zeros(n_pages, dtype=np.uint64)
    mfns = p2m.present(machine, domid, first, n_pages)
    for index, page, n in machine.extents(mfns).tolist():
        data = np.frombuffer(backing.read(domid, page, 0, n * PAGE_SIZE), dtype="<u8").reshape(n, -1)
        found[index : index + n] = (data * WEIGHTS).sum(axis=1, dtype=np.uint64)
    return found


def modified_memory(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_modified_memory``: what the device model wrote, for log-dirty mode; extents in the second buffer."""
    n, more = values["nr_extents"], values["more"]
    if values["opaque"] or n * EXTENT.size > DM_OP_BYTES:
        raise ModelError(errno.EINVAL, f"{n} extents, or opaque is {values['opaque']} and not 0", key="bufs")
    if not more or len(more[0]) < n * EXTENT.size:
        raise ModelError(errno.EINVAL, f"there are no {n} extents in the second buffer", key="bufs")
    extents = [EXTENT.unpack(more[0], index * EXTENT.size) for index in range(n)]
    if any(extent["pad"] or extent["first_pfn"] + extent["nr"] > 1 << 52 for extent in extents):
        raise ModelError(errno.EINVAL, "padding of an extent is not 0, or it ends nowhere", key="bufs")
    for extent in extents:
        log_dirty.mark(world.machine, domid, extent["first_pfn"], extent["nr"])
    return values


def set_mem_type(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_set_mem_type``."""
    check_size(world.settings.limits, values["nr"])
    p2m.set_mem_type(world.machine, domid, values["mem_type"], values["first_pfn"], values["nr"])
    return values


def relocate(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_relocate_memory``: move frames; the frames that lay at the destination are released."""
    check_size(world.settings.limits, values["size"])
    p2m.move(world.machine, domid, values["src_gfn"], values["dst_gfn"], values["size"])
    return values


def check_size(limits: Limits, n_pages: int) -> None:
    """Check that a request is not for more pages than the limit of a batch.

    Raises:
        ModelError: E2BIG.
    """
    most = limits.frames_per_batch
    if n_pages > most:
        raise ModelError(
            errno.E2BIG, f"{n_pages} pages, a request may have {most} (limits.frames_per_batch)", key="bufs"
        )


def pin_cache_attribute(world: World, domid: int, values: Values) -> Values:
    """``XEN_DMOP_pin_memory_cacheattr``: kept, without effect: all memory here is cached alike."""
    p2m.pin_cache_attribute(world.machine, domid, values["start"], values["end"], values["type"])
    return values


REQUESTS: Final = {
    7: (DIRTY_VRAM, track_dirty_vram),
    11: (MODIFIED, modified_memory),
    12: (MEM_TYPE, set_mem_type),
    17: (RELOCATE, relocate),
    18: (CACHE_ATTRIBUTE, pin_cache_attribute),
}
