# SPDX-License-Identifier: Apache-2.0
"""The model answers as the naive model does, and every law holds after every step.

``PRIVCMDD_PROFILE=long`` makes at least 10^5 steps; the count is printed and asserted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from model.naive import LIMIT, PRIVCMD
from model.profiles import PROFILE
from model.side_by_side import Pair, SideBySide

from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.uvm import Uvm

if TYPE_CHECKING:
    import pytest

N_ARENA = 40
CORNER = 0x5A << 39  # where page tables of every level meet
TOP = 8  # pages of the arena that lie just below the limit

PERSONALITIES = [
    Uvm("load"),
    Uvm("scratch"),
    Uvm("load", merge=True),
    Uvm("scratch", merge=True),
    Linux(),
    Linux(),
]

small = st.integers(0, 7)
spots = st.integers(0, N_ARENA - 1)
lengths = st.one_of(st.integers(1, 6), st.integers(0, N_ARENA))
skews = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 8, 4095])
prots = st.sampled_from([3, 3, 3, 1, 1, 0, 5, 7, 2, 4])
name_codes = st.lists(st.integers(0, 255), min_size=1, max_size=14)
maybe = st.sampled_from([True, True, True, False])

ODD_NAMES = [0, 3, 255, 256, 455, 456, 4095, 4096, 2**20, 2**40 - 1, 2**40 - 2, 2**52 - 1, 2**63, 2**64 - 1, 2**64 - 2]


def address(spot: int) -> int:
    """A page of the arena: most around a corner of the page tables, the last ones below the limit."""
    return CORNER + (spot - 16) * 4096 if spot < N_ARENA - TOP else LIMIT - (N_ARENA - spot) * 4096


class TwoModels(RuleBasedStateMachine):
    n_steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.both = SideBySide()

    # --- choosing -----------------------------------------------------------------------------------

    def domid(self, code: int) -> int:
        """Mostly a domain that there is."""
        there = sorted(self.both.host.domains)
        return there[code % len(there)] if there and code < 7 else [0, 77, 0x7FF0, 0x7FF4][code % 4]

    def names(self, domid: int, codes: list[int]) -> list[int]:
        """Mostly frames that the domain has."""
        domain = self.both.host.domains.get(domid)
        own = []
        if domain is not None:
            own = [f.mfn or 0 for f in self.both.host.frames() if f.domid == domid]
            own = own if domain.kind == "pv" else sorted(domain.p2m)
        chosen = []
        for code in codes:
            kind, which = code % 8, code // 8
            name = own[which % len(own)] if own else which
            if kind == 5:
                name |= 1 << (40 + which % 24)
            elif kind == 6:
                name += which
            elif kind == 7:
                name = ODD_NAMES[which % len(ODD_NAMES)]
            chosen.append(name)
        return chosen

    def pair(self, code: int) -> Pair | None:
        """An address space that is not in the middle of a request."""
        idle = [pair for pair in self.both.pairs if pair.steps is None]
        return idle[code % len(idle)] if idle else None

    def busy(self, code: int) -> Pair:
        pending = [pair for pair in self.both.pairs if pair.steps is not None]
        return pending[code % len(pending)]

    def any_busy(self) -> bool:
        return any(pair.steps is not None for pair in self.both.pairs)

    def fitting(self, pair: Pair, code: int, spot: int, n: int) -> tuple[int, int]:
        """Where the next request should go: for linux a whole fresh VMA or some hole of a used one."""
        vmas = [t for t in dict.fromkeys(p.thing for p in pair.naive.pages.values()) if t.what == PRIVCMD]
        if not vmas or code == 7:
            return address(spot), n
        vma = vmas[code % len(vmas)]
        vpns = sorted(vpn for vpn, page in pair.naive.pages.items() if page.thing is vma)
        if not vma.used:
            return vpns[0] << 12, len(vpns)
        start = vpns[spot % len(vpns)]
        return start << 12, min(n, vpns[-1] + 1 - start)

    # --- domains ------------------------------------------------------------------------------------

    @initialize(kind=st.sampled_from(["pv", "hvm"]))
    def begin(self, kind: str) -> None:
        self.both.create(kind, 24, ((0, 12), (16, 4)), None)  # type: ignore[arg-type]
        self.attach(0 if kind == "hvm" else 4, 0)

    @rule(
        kind=st.sampled_from(["pv", "hvm", "pvh"]),
        spare=small,
        first=st.sampled_from([0, 0, 1, 40, 4090]),
        n=st.integers(0, 30),
        gap=small,
        domid=st.sampled_from([None, None, 1, 2, 3]),
    )
    def create(self, kind: str, spare: int, first: int, n: int, gap: int, domid: int | None) -> None:
        ranges = [(first, n)] if not gap else [(first, n), (first + n + gap, gap)]
        ranges = [(start, count) for start, count in ranges if count]
        max_pages = sum(count for _, count in ranges) + spare
        self.both.create(kind, max(max_pages, 1), ranges, domid)  # type: ignore[arg-type]

    @rule(dom=small)
    def destroy(self, dom: int) -> None:
        self.both.destroy(self.domid(dom))

    @rule(dom=small, gfns=st.lists(st.one_of(st.integers(0, 40), st.sampled_from([4095, 4096, 2**40]))), array=maybe)
    def populate(self, dom: int, gfns: list[int], array: bool) -> None:
        self.both.memory("populate", self.domid(dom), gfns, as_array=array)

    @rule(
        operation=st.sampled_from(["decrease_reservation", "page_out", "page_in"]), dom=small, codes=name_codes, array=maybe
    )
    def change_memory(self, operation: str, dom: int, codes: list[int], array: bool) -> None:
        domid = self.domid(dom)
        self.both.memory(operation, domid, self.names(domid, codes), as_array=array)

    # --- address spaces -----------------------------------------------------------------------------

    @rule(which=st.integers(0, len(PERSONALITIES) - 1), account=st.integers(0, 1))
    def attach(self, which: int, account: int) -> None:
        if len(self.both.pairs) >= 6:
            return
        pair = self.both.attach(PERSONALITIES[which], account)
        if pair is not None and pair.naive.kind == "uvm":
            self.both.mmap(pair, address(0), (N_ARENA - TOP) * 4096, 3, fixed=True, what=None)
        elif pair is not None:
            for spot, n in ((0, 6), (6, 1), (14, 7), (N_ARENA - 4, 4)):
                self.both.mmap(pair, address(spot), n * 4096, 3, fixed=True, what=None)

    @rule(space=small)
    def fork(self, space: int) -> None:
        pair = self.pair(space)
        if pair is not None and len(self.both.pairs) < 6:
            self.both.fork(pair)

    @rule(space=small)
    def close(self, space: int) -> None:
        if self.both.pairs:
            self.both.close(self.both.pairs[space % len(self.both.pairs)])

    @rule(
        space=small, spot=spots, n=lengths, prot=prots, skew=skews, fixed=maybe,
        what=st.sampled_from([None, None, "anon", "privcmd"]),
    )
    def mmap(self, space: int, spot: int, n: int, prot: int, skew: int, fixed: bool, what: str | None) -> None:
        pair = self.pair(space)
        if pair is not None:
            size = min(n * 4096 + skew, LIMIT - address(spot)) if spot >= N_ARENA - TOP else n * 4096 + skew
            self.both.mmap(pair, address(spot) + skew, size, prot, fixed=fixed, what=what)

    @rule(space=small, spot=spots, n=lengths, skew=skews)
    def munmap(self, space: int, spot: int, n: int, skew: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.munmap(pair, address(spot) + skew, min(n, N_ARENA - spot) * 4096)

    @rule(space=small, spot=spots, n=st.integers(1, 8), prot=prots, skew=skews)
    def mprotect(self, space: int, spot: int, n: int, prot: int, skew: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.mprotect(pair, address(spot) + skew, min(n, N_ARENA - spot) * 4096, prot)

    @rule(space=small, spot=spots, skew=skews, access=st.sampled_from([1, 2]))
    def touch(self, space: int, spot: int, skew: int, access: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.touch(pair, address(spot) + skew, access)

    @rule(space=small, spot=spots, skew=skews, n=st.integers(1, 4), access=st.sampled_from([1, 2]))
    def resolve(self, space: int, spot: int, skew: int, n: int, access: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.resolve(pair, address(spot) + skew, min(n, N_ARENA - spot) * 4096 - skew, access)

    # --- map requests -------------------------------------------------------------------------------

    @rule(
        space=small, dom=small, codes=name_codes, where=small, spot=spots, skew=skews, may_write=maybe, array=maybe,
        whole=maybe,
    )
    def mmapbatch(
        self, space: int, dom: int, codes: list[int], where: int, spot: int, skew: int, may_write: bool, array: bool,
        whole: bool,
    ) -> None:
        """Run an MMAPBATCH to its end, or leave it after its first slice."""
        pair = self.pair(space)
        if pair is None:
            return
        domid = self.domid(dom)
        addr, n = self.fitting(pair, where, spot, len(codes))
        names = (self.names(domid, codes) * n)[:n]
        self.both.begin(pair, domid, addr + skew, names, may_write=may_write, as_array=array)
        while whole and pair.steps is not None:
            self.both.proceed(pair)

    @precondition(any_busy)
    @rule(space=small)
    def proceed(self, space: int) -> None:
        self.both.proceed(self.busy(space))

    @precondition(any_busy)
    @rule(space=small)
    def abandon(self, space: int) -> None:
        self.both.abandon(self.busy(space))

    @rule(
        space=small,
        dom=small,
        where=small,
        spot=spots,
        pieces=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 5), st.sampled_from([0, 0, 0, 0, 1, -1, 9])), max_size=4),
        skew=skews,
    )
    def map_entries(
        self, space: int, dom: int, where: int, spot: int, pieces: list[tuple[int, int, int]], skew: int
    ) -> None:
        """MMAP of entries that mostly follow each other in va."""
        pair = self.pair(space)
        if pair is None:
            return
        domid = self.domid(dom)
        va, _ = self.fitting(pair, where, spot, 1)
        entries = []
        for (code, n, jump), name in zip(pieces, self.names(domid, [p[0] for p in pieces]), strict=True):
            va += jump * 4096
            entries.append((va + skew, name, n if code % 64 else 2**52))
            va += n * 4096
        self.both.map_entries(pair, domid, entries)

    @invariant()
    def alike(self) -> None:
        TwoModels.n_steps += 1
        self.both.compare()

    def teardown(self) -> None:
        for pair in list(self.both.pairs):
            self.both.close(pair)
        for domid in list(self.both.host.domains):
            self.both.destroy(domid)
        self.both.compare()
        assert not self.both.hv.domains
        assert not self.both.host.frames()


def test_the_model_answers_as_the_naive_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever clients and toolstacks do, in whatever order: same answers, same state, no law broken."""
    TwoModels.n_steps = 0
    run_state_machine_as_test(TwoModels, settings=PROFILE.machine)
    with capsys.disabled():
        print(f"\n{TwoModels.n_steps} steps of the state machine ({PROFILE.name})")
    assert TwoModels.n_steps >= PROFILE.n_steps_at_least
