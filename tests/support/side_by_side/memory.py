# SPDX-License-Identifier: Apache-2.0
"""The two models driven together: populate on demand, page tables of PV domains, resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from privcmdd.model.machine import page_types, pod
from privcmdd.model.machine.pod import CRASHED
from privcmdd.model.machine.resources import GrantId, ResourceType
from privcmdd.model.mm import access
from privcmdd.model.privcmd.requests import Part
from support.side_by_side.pair import SideBySide
from support.small_machine import privcmd

if TYPE_CHECKING:
    from support.side_by_side.pair import Pair

NO_ENTRIES = np.zeros(512, dtype=np.uint64)


class WithMemory(SideBySide):
    """Both models, and what else belongs to a domain."""

    def demand(self, domid: int, gfns: list[int]) -> None:
        """Let guest frames wait to be populated."""
        done, expected = self.both(
            lambda: pod.mark_populate_on_demand(self.machine, domid, gfns), lambda: self.host.demand(domid, gfns)
        )
        assert done == expected

    def set_pod_target(self, domid: int, target: int) -> None:
        """Give their cache frames."""
        self.both(lambda: pod.set_target(self.machine, domid, target), lambda: self.host.set_pod_target(domid, target))

    def pin(self, domid: int, mfn: int) -> None:
        """Pin an empty page table."""
        self.both(
            lambda: page_types.pin(self.machine, domid, mfn, 1, NO_ENTRIES, written=self.is_written(mfn)),
            lambda: self.host.pin(domid, mfn),
        )

    def is_written(self, mfn: int) -> bool:
        """What the hypercall finds out before it pins."""
        return any(access.writes(pair.real, page) for pair in self.pairs for page in pair.real.pmap.find(mfn))

    def unpin(self, domid: int, mfn: int) -> None:
        """Make it an ordinary frame again."""
        self.both(lambda: page_types.unpin(self.machine, domid, mfn), lambda: self.host.unpin(domid, mfn))

    def map_grants(self, pair: Pair, domid: int, addr: int, first: int, n: int) -> None:
        """MMAP_RESOURCE of part of a grant table."""
        part = Part(dom=domid, type=ResourceType.GRANT_TABLE, id=GrantId.SHARED, idx=first, num=n)
        answer, frames = self.both(
            lambda: privcmd(pair.real).mmap_resource(pair.real, part, addr),
            lambda: pair.naive.map_grants(domid, addr, first, n),
            pair,
        )
        if answer is None:
            return
        self.placed(answer.mfns, frames or [0] * n)
        if pair.naive.kind == "uvm":
            pair.naive.pages[addr >> 12].thing.gmfns = [int(mfn) for mfn in answer.mfns]

    def compare_domains(self, references: object) -> None:
        """Also what waits, what is kept for it, who has crashed, and which frames are page tables."""
        super().compare_domains(references)  # type: ignore[arg-type]
        for domid, naive in self.host.domains.items():
            real = self.machine.domain(domid)
            assert np.flatnonzero(real.p2m == 1).tolist() == sorted(naive.waiting)
            assert (real.n_pod, real.n_cached) == (len(naive.waiting), naive.n_cached)
            assert real.shutdown == (CRASHED if naive.crashed else None)
            assert set(real.tables) == {frame.mfn for frame in naive.tables}
            for mfn, frame in zip(real.grants.shared, naive.grants, strict=True):
                self.learn(frame, mfn)
