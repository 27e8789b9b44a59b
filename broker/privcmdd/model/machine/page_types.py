# SPDX-License-Identifier: Apache-2.0
"""Page types of PV guests, as far as they decide what may be mapped writable (``xen/arch/x86/mm.c``).

A frame that is pinned as a page table can be mapped read-only and not writable; a frame that is mapped writable
cannot be pinned. A page table may hold only entries for the domain's own frames.
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
    """Pin a frame as a page table (MMUEXT_PIN_Ln_TABLE).

    Args:
        machine: The simulated machine.
        domid: The domain that owns the frame.
        mfn: The frame.
        level: 1 to 4.
        entries: (512,) uint64, the frame's content.
        written: The frame is mapped writable.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or not PV, or has no such frame; or the frame is mapped
            writable, is pinned as a table of another level, or holds an entry for a frame of another domain.
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
    """Unpin a page table: the frame is an ordinary one again (MMUEXT_UNPIN_TABLE).

    Raises:
        ModelError: ESRCH; EINVAL, the frame was not pinned.
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
    """Return the mfns and errors of a look-up for a writable mapping, with EBUSY for each pinned page table."""
    pinned = np.isin(mfns, np.fromiter(domain.tables, dtype=np.uint32))
    if not pinned.any():
        return mfns, errors
    found = np.zeros(len(mfns), dtype=np.int32) if errors is None else errors
    found[pinned] = -errno.EBUSY
    return np.where(pinned, NO_FRAME, mfns).astype(np.uint32), found
