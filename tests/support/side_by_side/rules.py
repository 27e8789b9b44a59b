# SPDX-License-Identifier: Apache-2.0
"""Rules of the state machine about what else belongs to a domain, and about what mostly works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import rule

if TYPE_CHECKING:
    from support.side_by_side.memory import WithMemory
    from support.side_by_side.pair import Pair

small = st.integers(0, 7)
spots = st.integers(0, 39)


class MemoryRules:
    """Mixed into a state machine that has ``both``, ``domid``, ``pair`` and ``place``."""

    both: WithMemory

    if TYPE_CHECKING:

        def domid(self, code: int) -> int: ...
        def pair(self, code: int) -> Pair | None: ...
        def place(self, pair: Pair, which: int, n: int) -> tuple[int, int]: ...

    def chosen(self, code: int, *, pv: bool) -> int:
        """Mostly a domain of that kind."""
        there = sorted(domid for domid, domain in self.both.host.domains.items() if (domain.kind == "pv") == pv)
        return there[code % len(there)] if there and code < 7 else self.domid(code)

    @rule(dom=small, first=st.sampled_from([12, 16, 20, 20, 20, 4090]), n=st.integers(1, 8), spare=st.integers(0, 9))
    def demand(self, dom: int, first: int, n: int, spare: int) -> None:
        """Let guest frames wait, and put some frames into their cache."""
        domid = self.chosen(dom, pv=False)
        self.both.demand(domid, list(range(first, first + n)))
        domain = self.both.host.domains.get(domid)
        have = 0 if domain is None else self.both.host.tot_pages(domid)
        self.both.set_pod_target(domid, have + spare)

    @rule(dom=small, which=spots, back=st.booleans())
    def page_table(self, dom: int, which: int, back: bool) -> None:
        """Pin or unpin a frame of a PV domain."""
        domid = self.chosen(dom, pv=True)
        own = sorted(frame.mfn or 0 for frame in self.both.host.frames() if frame.domid == domid)
        domain = self.both.host.domains.get(domid)
        if back and domain is not None and domain.tables:
            own = sorted(frame.mfn or 0 for frame in domain.tables)
        mfn = own[which % len(own)] if own else which
        (self.both.unpin if back else self.both.pin)(domid, mfn)

    @rule(space=small, dom=small, which=spots, first=st.sampled_from([0, 0, 1, 3, 63]), n=st.integers(1, 3))
    def map_grants(self, space: int, dom: int, which: int, first: int, n: int) -> None:
        """Map a grant table over what is there."""
        pair = self.pair(space)
        domid = self.domid(dom)
        if pair is None:
            return
        pages = pair.naive.pages
        vpns = sorted(vpn for vpn, page in pages.items() if pair.naive.kind == "uvm" or page.thing.what == "privcmd")
        if not vpns:
            return
        vpn = vpns[which % len(vpns)]
        while n > 1 and (vpn + n - 1 not in pages or pages[vpn + n - 1].thing is not pages[vpn].thing):
            n -= 1
        self.both.map_grants(pair, domid, vpn << 12, first, n)
