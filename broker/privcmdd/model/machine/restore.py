# SPDX-License-Identifier: Apache-2.0
"""Entering domains into a machine as they were when their state was kept.

What follows from the rest is not kept and counted anew here: reference counts, totals, which pages of a memory file
are in use. References of address spaces are none of a domain's state: a frame that only they referred to is free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from privcmdd.model.machine.domain import FLAGS, PAGED, POD
from privcmdd.model.machine.frames import ONE
from privcmdd.model.machine.resources import held

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
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


def enter(machine: Machine, domain: Domain, pages: npt.NDArray[np.uint32], others: Rows) -> None:
    """Enter a domain. After the last one, ``frames.settle`` has to follow.

    Args:
        machine: The machine; no domain there has the domain's number or its frames.
        domain: The domain, with its p2m and lists of frames; its totals are counted here.
        pages: (len(p2m),) uint32, for each entry of the p2m that names a frame the frame's page in the memory file.
        others: As ``held_rows`` returned them.

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
    domain.n_resource = int(np.count_nonzero(rows.pages >= domain.file.first_resource))
    domain.n_paged = int(np.count_nonzero(domain.p2m >= PAGED))
    domain.n_pod = int(np.count_nonzero(domain.p2m == POD))
    domain.tot_pages = len(rows.mfns) - domain.n_resource - domain.n_paged
    domain.file.occupy(rows.pages)
    domain.p2m_of = domain.p2m.data
    domain.changes = machine.changes
    machine.domains[domain.domid] = domain
