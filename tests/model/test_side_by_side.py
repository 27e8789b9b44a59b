# SPDX-License-Identifier: Apache-2.0
"""The model answers as the naive model does, and every law holds after every step.

Runs with an eye on four different things. ``PRIVCMDD_PROFILE=long`` makes two of each, of at least 13,000 steps, so
more than 10^5 in all; the count is printed and asserted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.uvm import Uvm
from support.naive.host import NOBODYS
from support.naive.spaces import ANON, LIMIT, PRIVCMD
from support.profiles import PROFILE
from support.side_by_side.memory import WithMemory
from support.side_by_side.rules import MemoryRules

if TYPE_CHECKING:
    from support.side_by_side.pair import Pair

N_ARENA = 40
CORNER = 0x5A << 39  # where page tables of every level meet
TOP = 8  # pages of the arena that lie just below the limit


@dataclass(frozen=True)
class Focus:
    """What the address spaces of a run are like."""

    personalities: tuple[Linux | Uvm, ...]
    accounts: tuple[int, ...]  # 0: roomy, 1: tight


@dataclass(frozen=True)
class Wish:
    """A request that mostly works: which address space, domain, place, how many pages, from which frame on."""

    space: int
    dom: int
    which: int
    n: int
    first: int
    odd: int  # this frame of it is an odd one, when it has so many
    array: bool


WISHES = st.builds(
    Wish,
    space=st.integers(0, 7),
    dom=st.sampled_from([*range(7), *range(7), 12, 13, 14]),
    which=st.integers(0, 63),
    n=st.integers(1, 12),
    first=st.integers(0, 15),
    odd=st.integers(0, 40),
    array=st.booleans(),
)
UVM = (Uvm("load"), Uvm("scratch"), Uvm("load", merge=True), Uvm("scratch", merge=True))
FOCI = {
    "uvm": Focus(UVM, (0,)),
    "linux": Focus((Linux(),), (0,)),
    "quotas": Focus((*UVM, Linux()), (1,)),
    "all": Focus((*UVM, Linux(), Linux()), (0, 1)),
}

small = st.integers(0, 7)
domids = st.sampled_from([*range(7), *range(7), *range(7, 7 + 6)])
spots = st.integers(0, N_ARENA - 1)
lengths = st.one_of(st.integers(1, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, N_ARENA))
skews = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 8, 4095])
prots = st.sampled_from([3, 3, 3, 1, 1, 0, 5, 7, 2, 4])
name_codes = st.lists(st.integers(0, 255), min_size=1, max_size=14)
maybe = st.sampled_from([True, True, True, False])

OTHERS = [*NOBODYS, 0, 77, 0x7FF4]  # domids of no ordinary domain
ODD_NAMES = [0, 3, 255, 256, 455, 456, 4095, 4096, 2**20, 2**40 - 1, 2**40 - 2, 2**52 - 1, 2**63, 2**64 - 1, 2**64 - 2]


def address(spot: int) -> int:
    """A page of the arena: most around a corner of the page tables, the last ones below the limit."""
    return CORNER + (spot - 16) * 4096 if spot < N_ARENA - TOP else LIMIT - (N_ARENA - spot) * 4096


class TwoModels(MemoryRules, RuleBasedStateMachine):
    focus = FOCI["all"]
    n_steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.both = WithMemory()

    # --- choosing -----------------------------------------------------------------------------------

    def domid(self, code: int) -> int:
        """Mostly a domain that there is."""
        there = sorted(self.both.host.domains)
        return there[code % len(there)] if there and code < 7 else OTHERS[code % len(OTHERS)]

    def gmfns(self, domid: int, codes: list[int]) -> list[int]:
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

    def anyone(self, code: int) -> Pair | None:
        """Any address space: faults take no turns."""
        return self.both.pairs[code % len(self.both.pairs)] if self.both.pairs else None

    def busy(self, code: int) -> Pair:
        pending = [pair for pair in self.both.pairs if pair.steps is not None]
        return pending[code % len(pending)]

    def any_busy(self) -> bool:
        return any(pair.steps is not None for pair in self.both.pairs)

    def whole_vma(self, pair: Pair, code: int, spot: int, n: int) -> tuple[int, int]:
        """Often exactly a VMA of the privcmd device: nothing less of one can be changed."""
        vmas = [t for t in dict.fromkeys(p.thing for p in pair.naive.pages.values()) if t.what == PRIVCMD]
        if not vmas or code > 3:
            return address(spot), min(n, N_ARENA - spot)
        vpns = [vpn for vpn, page in pair.naive.pages.items() if page.thing is vmas[spot % len(vmas)]]
        return min(vpns) << 12, len(vpns)

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
        for each in (kind, "hvm", "pv"):
            self.both.create(each, 24, ((0, 12), (16, 4)), None)  # type: ignore[arg-type]
        self.attach(0, 0)

    @precondition(lambda self: len(self.both.host.domains) < 6)
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

    @precondition(lambda self: len(self.both.host.domains) > 2)
    @rule(dom=small)
    def destroy(self, dom: int) -> None:
        self.both.destroy(self.domid(dom))

    @rule(dom=small, gfns=st.lists(st.one_of(st.integers(0, 40), st.sampled_from([4095, 4096, 2**40]))), array=maybe)
    def populate(self, dom: int, gfns: list[int], array: bool) -> None:
        self.both.memory("populate", self.domid(dom), gfns, as_array=array)

    @rule(
        operation=st.sampled_from(["decrease_reservation", "page_out", "page_in"]),
        dom=small,
        codes=name_codes,
        array=maybe,
    )
    def change_memory(self, operation: str, dom: int, codes: list[int], array: bool) -> None:
        domid = self.domid(dom)
        self.both.memory(operation, domid, self.gmfns(domid, codes), as_array=array)

    # --- address spaces -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.both.pairs) < 5)
    @rule(which=small, account=small)
    def attach(self, which: int, account: int) -> None:
        personalities, accounts = self.focus.personalities, self.focus.accounts
        pair = self.both.attach(personalities[which % len(personalities)], accounts[account % len(accounts)])
        if pair is not None and pair.naive.kind == "uvm":
            self.both.mmap(pair, address(0), (N_ARENA - TOP) * 4096, 3, fixed=True, what=None)
        elif pair is not None:
            for spot, n in ((0, 6), (6, 1), (14, 7), (N_ARENA - 4, 4)):
                self.both.mmap(pair, address(spot), n * 4096, 3, fixed=True, what=None)

    @precondition(lambda self: len(self.both.pairs) < 5)
    @rule(space=small)
    def fork(self, space: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.fork(pair)

    @precondition(lambda self: len(self.both.pairs) > 2)
    @rule(space=small)
    def close(self, space: int) -> None:
        self.both.close(self.both.pairs[space % len(self.both.pairs)])

    @rule(
        space=small,
        spot=spots,
        n=lengths,
        prot=prots,
        skew=skews,
        fixed=maybe,
        what=st.sampled_from([None, None, "anon", "privcmd"]),
    )
    def mmap(self, space: int, spot: int, n: int, prot: int, skew: int, fixed: bool, what: str | None) -> None:
        pair = self.pair(space)
        if pair is not None:
            size = min(n * 4096 + skew, LIMIT - address(spot)) if spot >= N_ARENA - TOP else n * 4096 + skew
            self.both.mmap(pair, address(spot) + skew, size, prot, fixed=fixed, what=what)

    @rule(space=small, where=small, spot=spots, n=lengths, skew=skews)
    def munmap(self, space: int, where: int, spot: int, n: int, skew: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            addr, n = self.whole_vma(pair, where, spot, n)
            self.both.munmap(pair, addr + skew, n * 4096)

    @rule(space=small, where=small, spot=spots, n=st.integers(1, 8), prot=prots, skew=skews)
    def mprotect(self, space: int, where: int, spot: int, n: int, prot: int, skew: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            addr, n = self.whole_vma(pair, where, spot, n)
            self.both.mprotect(pair, addr + skew, n * 4096, prot)

    @rule(space=small, spot=spots, skew=skews, n=st.integers(1, 4), access=st.sampled_from([1, 2]))
    def touch_anything(self, space: int, spot: int, skew: int, n: int, access: int) -> None:
        pair = self.pair(space)
        if pair is not None:
            self.both.touch(pair, address(spot) + skew, access)
            self.both.resolve(pair, address(spot) + skew, min(n, N_ARENA - spot) * 4096 - skew, access)

    # --- what works: without these most steps would be refusals ----------------------------------------

    def place(self, pair: Pair, which: int, n: int) -> tuple[int, int]:
        """Pages in a row that a batch can go over: a fresh VMA, holes of a used one, or anything mapped (uvm)."""
        pages, uvm = pair.naive.pages, pair.naive.kind == "uvm"
        free = {
            vpn
            for vpn, page in pages.items()
            if page.prot and (uvm or (page.thing.what == PRIVCMD and vpn not in pair.naive.ptes))
        }
        if not free:
            return address(which % N_ARENA), n
        vpn = sorted(free)[which % len(free)]
        thing = pages[vpn].thing
        if not uvm and not thing.used:
            vpns = [at for at, page in pages.items() if page.thing is thing]
            return min(vpns) << 12, len(vpns)
        run = 1
        while run < n and vpn + run in free and (uvm or pages[vpn + run].thing is thing):
            run += 1
        return vpn << 12, run

    def begin_wish(self, wish: Wish) -> Pair | None:
        """Begin to map frames that are there, but for an odd one at times."""
        pair = self.pair(wish.space)
        domid = self.domid(wish.dom)
        if pair is None or (domid not in self.both.host.domains and pair.naive.kind != "linux"):
            return None
        addr, n = self.place(pair, wish.which, wish.n)
        codes = [(wish.first + i) * 8 + (5 + wish.which % 3 if i == wish.odd else 0) for i in range(n)]
        self.both.begin(pair, domid, addr, self.gmfns(domid, codes), may_write=True, as_array=wish.array)
        return pair

    @rule(wish=WISHES, times=st.sampled_from([1, 1, 3]))
    def map_frames(self, wish: Wish, times: int) -> None:
        pair = self.begin_wish(replace(wish, n=wish.n * times))
        while pair is not None and pair.steps is not None:
            self.both.proceed(pair)

    @rule(wish=WISHES)
    def map_frames_again(self, wish: Wish) -> None:
        """So that half of all steps are not about something else."""
        self.map_frames(wish, 1)

    @rule(wish=WISHES)
    def begin_to_map_frames(self, wish: Wish) -> None:
        self.begin_wish(replace(wish, n=wish.n + 5, array=True))

    @rule(space=small, which=spots, prot=st.sampled_from([3, 3, 3, 1, 0]))
    def renew(self, space: int, which: int, prot: int) -> None:
        """Map a VMA, or the pages of an object, anew."""
        pair = self.pair(space)
        if pair is not None and (vpn := self.there(pair, which)) is not None:
            thing = pair.naive.pages[vpn].thing
            vpns = [at for at, page in pair.naive.pages.items() if page.thing is thing]
            self.both.mmap(pair, min(vpns) << 12, (max(vpns) + 1 - min(vpns)) * 4096, prot, fixed=True, what=None)

    @rule(space=small, which=spots)
    def unload(self, space: int, which: int) -> None:
        """Take PTEs away and leave the mapping: touching it enters them again (uvm)."""
        pair = self.pair(space)
        if pair is not None and pair.naive.kind == "uvm" and (vpn := self.there(pair, which)) is not None:
            prot = pair.naive.pages[vpn].max_prot
            for each in (0, prot):
                self.both.mprotect(pair, vpn << 12, min(4, (LIMIT >> 12) - vpn) * 4096, each)

    @rule(wish=WISHES, pieces=st.integers(1, 3))
    def map_runs(self, wish: Wish, pieces: int) -> None:
        """MMAP in pieces of n pages, at most as many as there is room for."""
        pair = self.pair(wish.space)
        domid = self.domid(wish.dom)
        if pair is None or domid not in self.both.host.domains:
            return
        addr, room = self.place(pair, wish.which, pieces * wish.n)
        page = pair.naive.pages.get(addr >> 12)
        if page is not None and page.thing.used:  # MMAP needs a fresh VMA
            vpns = [vpn for vpn, other in pair.naive.pages.items() if other.thing is page.thing]
            addr, room = min(vpns) << 12, len(vpns)
            self.both.mmap(pair, addr, room * 4096, 3, fixed=True, what=None)
        name = self.gmfns(domid, [wish.first * 8])[0]
        entries = [
            (addr + at * 4096, name + at % 4 + (wish.odd == at), min(wish.n, room - at))
            for at in range(0, room, wish.n)
        ]
        self.both.map_entries(pair, domid, entries)

    def there(self, pair: Pair, which: int) -> int | None:
        """A page of a foreign mapping."""
        foreign = sorted(vpn for vpn, page in pair.naive.pages.items() if page.thing.what != ANON)
        chosen = sorted(pair.naive.ptes) if which % 2 else foreign
        return chosen[which % len(chosen)] if chosen else None

    @rule(space=small, which=spots, n=st.integers(1, 5), prot=st.sampled_from([0, 0, 1, 1, 2, 3, 3]))
    def protect_what_is_there(self, space: int, which: int, n: int, prot: int) -> None:
        pair = self.pair(space)
        if pair is not None and (vpn := self.there(pair, which)) is not None:
            thing = pair.naive.pages[vpn].thing
            vpns = [at for at, page in pair.naive.pages.items() if page.thing is thing]
            start, n = (min(vpns), len(vpns)) if pair.naive.kind == "linux" else (vpn, min(n, (LIMIT >> 12) - vpn))
            self.both.mprotect(pair, start << 12, n * 4096, prot)

    @rule(space=small, which=spots, skew=skews, access=st.sampled_from([1, 2]))
    def touch_what_is_there(self, space: int, which: int, skew: int, access: int) -> None:
        pair = self.anyone(space)
        if pair is not None and (vpn := self.there(pair, which)) is not None:
            self.both.touch(pair, (vpn << 12) + skew, access)

    @rule(space=small, which=spots, n=st.integers(1, 3), skew=skews, access=st.sampled_from([1, 2]))
    def resolve_what_is_there(self, space: int, which: int, n: int, skew: int, access: int) -> None:
        pair = self.anyone(space)
        if pair is not None and (vpn := self.there(pair, which)) is not None:
            self.both.resolve(pair, (vpn << 12) + skew, min(n * 4096, LIMIT - (vpn << 12)) - skew, access)

    # --- map requests -------------------------------------------------------------------------------

    @rule(
        space=small,
        dom=domids,
        codes=name_codes,
        where=small,
        spot=spots,
        skew=skews,
        may_write=maybe,
        array=maybe,
        whole=maybe,
        times=st.sampled_from([1, 1, 1, 1, 2, 4]),
    )
    def mmapbatch(
        self,
        space: int,
        dom: int,
        codes: list[int],
        where: int,
        spot: int,
        skew: int,
        may_write: bool,
        array: bool,
        whole: bool,
        times: int,
    ) -> None:
        """Run an MMAPBATCH to its end, or leave it after its first slice."""
        pair = self.pair(space)
        if pair is None:
            return
        domid = self.domid(dom)
        addr, n = self.fitting(pair, where, spot, len(codes) * times)
        gmfns = (self.gmfns(domid, codes) * n)[:n]
        self.both.begin(pair, domid, addr + skew, gmfns, may_write=may_write, as_array=array)
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
        dom=domids,
        where=small,
        spot=spots,
        pieces=st.lists(
            st.tuples(st.integers(0, 255), st.integers(0, 9), st.sampled_from([0, 0, 0, 0, 1, -1, 9])), max_size=4
        ),
        skew=skews,
        may_write=maybe,
    )
    def map_entries(
        self,
        space: int,
        dom: int,
        where: int,
        spot: int,
        pieces: list[tuple[int, int, int]],
        skew: int,
        may_write: bool,
    ) -> None:
        """MMAP of entries that mostly follow each other in va."""
        pair = self.pair(space)
        if pair is None:
            return
        domid = self.domid(dom)
        va, _ = self.fitting(pair, where, spot, 1)
        entries = []
        for (code, n, jump), name in zip(pieces, self.gmfns(domid, [p[0] for p in pieces]), strict=True):
            va += jump * 4096
            entries.append((va + skew, name, n if code % 64 else 2**52))
            va += n * 4096
        self.both.map_entries(pair, domid, entries, may_write=may_write)

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
        assert not self.both.machine.domains
        assert not self.both.host.frames()


@pytest.mark.parametrize("part", range(PROFILE.n_parts))
@pytest.mark.parametrize("focus", FOCI)
def test_the_model_answers_as_the_naive_model(focus: str, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever clients and toolstacks do, in whatever order: same answers, same state, no law broken."""

    class Focused(TwoModels):
        pass

    Focused.focus = FOCI[focus]
    TwoModels.n_steps = 0
    run_state_machine_as_test(Focused, settings=PROFILE.machine)
    run = f"{focus}, part {part + 1} of {PROFILE.n_parts}, profile {PROFILE.name}"
    with capsys.disabled():
        print(f"\n{TwoModels.n_steps} steps of the state machine ({run})")
    assert TwoModels.n_steps >= PROFILE.n_steps_at_least
