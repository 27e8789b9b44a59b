# SPDX-License-Identifier: Apache-2.0
"""Entering domains into a machine as they were when their state was kept: after a restart, or to take a change back.

What follows from the rest is not kept and counted anew here: reference counts, totals, which pages of a memory file
are in use. References of address spaces are none of a domain's state: a frame that only they referred to is free.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from privcmdd.model.machine.domain import FLAGS, PAGED, POD, Domain
from privcmdd.model.machine.frames import NOTHING, ONE
from privcmdd.model.machine.resources import forget, held

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.machine import Machine


class Rows(NamedTuple):
    """Rows of the frame table.

    Attributes:
        mfns: (n,) uint32, the frames.
        gfns: (n,) uint32, the gfn of each.
        pages: (n,) uint32, the page of each in its domain's memory file.
    """

    mfns: npt.NDArray[np.uint32]
    gfns: npt.NDArray[np.uint32]
    pages: npt.NDArray[np.uint32]


def held_rows(machine: Machine, domain: Domain) -> Rows:
    """Return the rows of the frames that a domain holds besides those of its p2m."""
    mfns = np.array(held(domain), dtype=np.uint32)
    return Rows(mfns, machine.frames.gfn[mfns], machine.frames.page[mfns])


def enter(
    machine: Machine,
    domain: Domain,
    pages: npt.NDArray[np.uint32],
    others: Rows,
    strays: npt.NDArray[np.uint32] = NOTHING,
) -> None:
    """Enter a domain. After the last one, ``frames.settle`` or ``frames.withdraw`` has to follow.

    Args:
        machine: The machine; no other domain there has the domain's frames.
        domain: The domain, with its p2m and lists of frames; its totals are counted here.
        pages: (len(p2m),) uint32, for each entry of the p2m that names a frame the frame's page in the memory file.
        others: As ``held_rows`` returned them.
        strays: (n,) uint32, frames that are the domain's already, because somebody has them mapped.

    Raises:
        ValueError: What was kept is no state that a machine can have: a frame is there twice, or not in the machine.
    """
    frames = machine.frames
    gfns = np.flatnonzero(domain.p2m > POD)
    mfns = domain.p2m[gfns] & ~np.uint32(FLAGS)
    apart = ~np.isin(others.mfns, mfns)
    rows = Rows(
        np.concatenate((mfns, others.mfns[apart])),
        np.concatenate((gfns.astype(np.uint32), others.gfns[apart])),
        np.concatenate((pages[gfns], others.pages[apart])),
    )
    frames.claim(domain.domid, *rows)
    np.add.at(frames.refs, mfns, ONE)
    np.add.at(frames.refs, others.mfns, ONE)
    strays = strays[~np.isin(strays, rows.mfns)]
    all_pages = np.concatenate((rows.pages, frames.page[strays]))
    domain.n_resource = int(np.count_nonzero(all_pages >= domain.file.first_resource))
    domain.n_paged = int(np.count_nonzero(domain.p2m >= PAGED))
    domain.n_pod = int(np.count_nonzero(domain.p2m == POD))
    domain.tot_pages = len(all_pages) - domain.n_resource - domain.n_paged
    domain.file.occupy(all_pages)
    domain.p2m_of = domain.p2m.data
    domain.changes = machine.changes
    machine.domains[domain.domid] = domain


def leave(machine: Machine, domain: Domain) -> None:
    """Take what a domain holds from it: frames that nobody has mapped are free, and nobody is told."""
    own = domain.p2m[domain.p2m > POD] & ~np.uint32(FLAGS)
    gone = machine.frames.put(np.append(own, np.array(held(domain), dtype=np.uint32)))
    machine.frames.free(gone)
    domain.p2m = NOTHING
    domain.p2m_of = NOTHING.data
    forget(domain)


def enter_again(
    machine: Machine, made: Domain, pages: npt.NDArray[np.uint32], others: Rows, old: Domain | None
) -> None:
    """Enter a domain in place of what has become of it; ``leave`` has taken its frames from it.

    Args:
        machine: The machine.
        made: The domain as it was kept.
        pages: As ``enter``.
        others: As ``enter``.
        old: The domain as it is, if it is still there: whoever has it, has the one that was kept from now on.
    """
    if old is not None:  # what address spaces and device models count is not kept, and has not been taken back
        made.grants.pins, made.vram = old.grants.pins, old.vram
        if made.pager is not None and old.pager is not None:
            made.pager.asked = old.pager.asked
    enter(machine, made, pages, others, np.flatnonzero(machine.frames.owner == made.domid).astype(np.uint32))
    if old is not None:
        for each in fields(Domain):
            setattr(old, each.name, getattr(made, each.name))
        machine.domains[made.domid] = old
