# SPDX-License-Identifier: Apache-2.0
"""Page tables of PV guests, as far as they keep others from writing (``xen/arch/x86/mm.c``, page types).

A frame that is pinned as a page table can be mapped read-only and not writable; one that is mapped writable cannot
be pinned. What it holds must be what a page table may hold: entries for the domain's own frames.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.units import FRAME_BITS, PAGE_SHIFT

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine

PRESENT: Final = 1


def pin(machine: Machine, domid: int, mfn: int, level: int, entries: npt.NDArray[np.uint64], *, written: bool) -> None:
    """Make a frame a page table (MMUEXT_PIN_Ln_TABLE).

    Args:
        machine: The simulated machine.
        domid: Whose it is.
        mfn: The frame.
        level: 1 to 4.
        entries: (512,) uint64, what it holds.
        written: Somebody has it mapped writable.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or not PV, has no such frame, the frame is mapped writable,
            is a table of another level, or holds what no table may hold.
    """
    domain = _pv_frame(machine, domid, mfn)
    present = entries[entries & np.uint64(PRESENT) != 0]
    pointed = (present >> np.uint64(PAGE_SHIFT)) & np.uint64((1 << FRAME_BITS) - 1)
    inside = pointed < np.uint64(machine.frames.n_frames)
    own = inside.all() and (machine.frames.owner[pointed.astype(np.int64)] == domid).all()
    if written or not own or domain.tables.get(mfn, level) != level:
        raise ModelError(
            errno.EINVAL,
            f"frame {mfn:#x} is mapped writable, or does not hold a page table of level {level}",
            dom=domid,
        )
    domain.tables[mfn] = level


def unpin(machine: Machine, domid: int, mfn: int) -> None:
    """Make it an ordinary frame again (MMUEXT_UNPIN_TABLE).

    Raises:
        ModelError: ESRCH; EINVAL, it was not pinned.
    """
    domain = _pv_frame(machine, domid, mfn)
    if domain.tables.pop(mfn, None) is None:
        raise ModelError(errno.EINVAL, f"frame {mfn:#x} of domain {domid} is no pinned page table", dom=domid)


def _pv_frame(machine: Machine, domid: int, mfn: int) -> Domain:
    domain = machine.living(domid)
    if domain.kind.translated or mfn >= machine.frames.n_frames or machine.frames.owner[mfn] != domid:
        raise ModelError(errno.EINVAL, f"frame {mfn:#x} is none of domain {domid}, or it is not PV", dom=domid)
    return domain


def refuse_tables(
    domain: Domain, mfns: npt.NDArray[np.uint32], errors: npt.NDArray[np.int32] | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32] | None]:
    """Frames that were looked up to be written to: page tables among them are EBUSY."""
    pinned = np.isin(mfns, np.fromiter(domain.tables, dtype=np.uint32))
    if not pinned.any():
        return mfns, errors
    found = np.zeros(len(mfns), dtype=np.int32) if errors is None else errors
    found[pinned] = -errno.EBUSY
    return np.where(pinned, NO_FRAME, mfns).astype(np.uint32), found
