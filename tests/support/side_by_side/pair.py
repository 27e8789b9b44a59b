# SPDX-License-Identifier: Apache-2.0
"""The model and the naive model, driven together and compared.

Every operation goes to the model first; what the model was free to choose is handed to the naive side. Both must
refuse with the same errno or answer alike, and after each operation ``compare`` looks at everything: pages,
protections, objects, page table entries, references, places in memory files, charges.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle, memory, paging
from privcmdd.model.machine.domain import PAGED, POD, DomainKind
from privcmdd.model.machine.effects import Discard
from privcmdd.model.machine.frames import BARRED, NO_FRAME
from privcmdd.model.machine.machine import Machine
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import resolve, touch
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.privcmd.requests import MmapEntry, Stopped
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import INVALID_FRAME
from support.naive.host import DOMID_IO, Frame, Host, Refused
from support.naive.spaces import ANON, FOREIGN, PRIVCMD, Batch, Space, Thing
from support.small_machine import privcmd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from privcmdd.model.privcmd.linux import Linux
    from support.naive.host import KindName

N_FRAMES = 256 + 200
MAX_GFNS = 1 << 12
MAX_DOMAINS = 8
SLICE_FRAMES = 5
ROOMY = dict.fromkeys(Slot, 1 << 30)
TIGHT = {**ROOMY, Slot.FRAMES: 40, Slot.ENTRIES: 24, Slot.OBJECTS: 6, Slot.SPACES: 3}


def drain(steps: Generator[None, None, Any]) -> Any:
    """Run a prepared request to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


@dataclass(eq=False)
class Pair:
    """One address space, twice."""

    real: AddressSpace
    naive: Space
    limits: dict[Slot, int]
    things: dict[object, Thing] = field(default_factory=dict)  # an object of the model -> its thing
    steps: Generator[None, None, Any] | None = None  # a batch that is being prepared
    batch: Batch | None = None


class SideBySide:
    """A machine, twice, with its address spaces."""

    def __init__(self) -> None:
        self.machine = Machine(N_FRAMES, max_domains=MAX_DOMAINS, max_gfns=MAX_GFNS)
        self.host = Host(N_FRAMES, MAX_GFNS)
        self.accounts = [(Account("roomy", ROOMY), ROOMY), (Account("tight", TIGHT), TIGHT)]
        self.pairs: list[Pair] = []
        self.n_spaces = 0
        self.is_pv: dict[int, bool] = {}
        self.living: set[tuple[int, int | None]] = set()  # places in memory files, after the last step

    # --- both sides ---------------------------------------------------------------------------------

    def both(self, real: Callable[[], Any], naive: Callable[[], Any], pair: Pair | None = None) -> tuple[Any, Any]:
        """Both answers; (None, None) when both refuse with the same errno."""
        try:
            answer = real()
        except ModelError as error:
            if error.errno == errno.EDQUOT and pair is not None:
                assert pair.limits is TIGHT, f"over a quota that was not reached: {error}"
                return None, None
            try:
                unlike = naive()
            except Refused as refused:
                assert error.errno == refused.errno, f"{error}, expected {errno.errorcode[refused.errno]}"
                return None, None
            raise AssertionError(f"{error}, expected the answer {unlike}") from error
        try:
            expected = naive()
        except Refused as refused:
            raise AssertionError(f"answer {answer}, expected {errno.errorcode[refused.errno]}") from refused
        return answer, expected

    # --- domains ------------------------------------------------------------------------------------

    def create(self, kind: KindName, max_pages: int, ranges: Sequence[tuple[int, int]], domid: int | None) -> None:
        gfns = [gfn for start, n in ranges for gfn in range(start, start + n)]
        try:
            domain = lifecycle.create(self.machine, DomainKind(kind), max_pages, ranges, domid)
        except ModelError as error:
            expected = {
                errno.EINVAL: len(gfns) > max_pages or any(start >= MAX_GFNS for start, _ in ranges),
                errno.EEXIST: domid in self.host.domains,
                errno.ENOMEM: len(gfns) > self.host.n_free()
                or len(self.host.domains) >= MAX_DOMAINS
                or any(gfn >= MAX_GFNS for gfn in gfns),
            }
            assert expected[error.errno], error
            return
        assert domid in (None, domain.domid)
        self.host.create(domain.domid, kind, max_pages, gfns)
        self.is_pv[domain.domid] = kind == "pv"

    def destroy(self, domid: int) -> None:
        self.both(lambda: lifecycle.destroy(self.machine, domid), lambda: self.host.destroy(domid))

    def memory(self, operation: str, domid: int, gmfns: list[int], *, as_array: bool) -> None:
        """populate, decrease_reservation, page_out or page_in."""
        given = np.array(gmfns, np.uint64) if as_array else gmfns
        room = paging if operation.startswith("page") else memory
        answer, expected = self.both(
            lambda: getattr(room, operation)(self.machine, domid, given),
            lambda: getattr(self.host, operation)(domid, gmfns),
        )
        if operation.startswith("page"):
            assert answer is None or list(answer) == expected
        else:
            assert answer is None or answer.n_done == expected
            assert answer is None or (answer.why is None) == (answer.n_done == len(gmfns))

    # --- address spaces -----------------------------------------------------------------------------

    def attach(self, personality: Linux | Uvm, account: int) -> Pair | None:
        payer, limits = self.accounts[account]
        self.n_spaces += 1
        try:
            real = AddressSpace(self.n_spaces, self.machine, payer, personality, SLICE_FRAMES)
        except ModelError as error:
            assert error.errno == errno.EDQUOT
            assert payer.used[Slot.SPACES] == limits[Slot.SPACES]
            return None
        probe, merge = (personality.probe, personality.merge) if isinstance(personality, Uvm) else ("", False)
        pair = Pair(real, Space(self.host, personality.name, probe, merge=merge), limits)
        self.pairs.append(pair)
        return pair

    def fork(self, pair: Pair) -> None:
        self.n_spaces += 1
        try:
            real = syscalls.fork(pair.real, self.n_spaces)
        except ModelError as error:
            assert error.errno == errno.EDQUOT
            assert pair.limits is TIGHT
            return
        self.pairs.append(Pair(real, pair.naive.fork(), pair.limits))

    def close(self, pair: Pair) -> None:
        if pair.steps is not None:
            self.abandon(pair)
        pair.real.close()
        pair.naive.close()
        pair.real.close()
        invariants.closed_space_is_empty(pair.real)
        self.pairs.remove(pair)

    def mmap(self, pair: Pair, addr: int, size: int, prot: int, *, fixed: bool, what: str | None) -> None:
        n_pages = -(-size // 4096)

        def naive(at: int) -> None:
            default = PRIVCMD if pair.naive.kind == "linux" else ANON
            if pair.naive.kind == "uvm" and what == PRIVCMD:
                raise Refused(errno.ENODEV)
            if size == 0 or (fixed and addr % 4096):
                raise Refused(errno.EINVAL)
            if not fixed:
                assert at % 4096 == 0
                assert not any(vpn in pair.naive.pages for vpn in range(at >> 12, (at >> 12) + n_pages))
            pair.naive.mmap(at >> 12, n_pages, prot, what or default)

        at = addr

        def real() -> int:
            nonlocal at
            at = syscalls.mmap(pair.real, addr, size, prot, fixed=fixed, file=what)
            return at

        self.both(real, lambda: naive(at), pair)

    def munmap(self, pair: Pair, addr: int, size: int) -> None:
        def naive() -> None:
            if addr % 4096 or size == 0:
                raise Refused(errno.EINVAL)
            pair.naive.munmap(addr >> 12, -(-size // 4096))

        self.both(lambda: syscalls.munmap(pair.real, addr, size), naive, pair)

    def mprotect(self, pair: Pair, addr: int, size: int, prot: int) -> None:
        def naive() -> None:
            if addr % 4096:
                raise Refused(errno.EINVAL)
            pair.naive.mprotect(addr >> 12, -(-size // 4096), prot)

        self.both(lambda: syscalls.mprotect(pair.real, addr, size, prot), naive, pair)

    def touch(self, pair: Pair, addr: int, access: int) -> None:
        answer, expected = self.both(
            lambda: touch(pair.real, addr, access), lambda: pair.naive.touch(addr >> 12, access), pair
        )
        if answer is not None:
            frame, entered = expected
            assert (answer.domid, answer.entered) == (frame.domid, entered)
            assert answer.gmfn == (frame.mfn if self.is_pv.get(frame.domid, True) else frame.gfn)

    def resolve(self, pair: Pair, addr: int, size: int, access: int) -> None:
        """Read or write a range: all of it or nothing, though PTEs may be entered on the way to a refusal."""
        vpns = range(addr >> 12, (addr + size - 1 >> 12) + 1)

        def naive() -> list[Frame]:
            for vpn in vpns:  # nothing is entered when some page is not there or does not allow it
                page = pair.naive.pages.get(vpn)
                if page is None or page.thing.what == ANON:
                    raise Refused(errno.EFAULT)
            return [pair.naive.touch(vpn, access)[0] for vpn in vpns]

        answer, frames = self.both(lambda: resolve(pair.real, addr, size, access), naive, pair)
        if answer is None:
            return
        assert sum(segment.size for segment in answer) == size
        at = addr
        for segment in answer:
            for byte in (0, segment.size - 1):
                frame = frames[(at + byte >> 12) - vpns[0]]
                assert segment.domid == frame.domid
                assert (at + byte) % 4096 == (segment.offset + byte) % 4096
                assert frame.place in (None, segment.page + (segment.offset + byte >> 12))
            at += segment.size

    # --- map requests -------------------------------------------------------------------------------

    def begin(self, pair: Pair, domid: int, addr: int, gmfns: list[int], *, may_write: bool, as_array: bool) -> None:
        """Begin an MMAPBATCH: it ends at once, or pauses after its first slice (short plain lists never do)."""
        given: Any = np.array(gmfns, np.uint64) if as_array or len(gmfns) > 24 else list(gmfns)
        steps = privcmd(pair.real).mmapbatch(pair.real, domid, addr, given, may_write=may_write)
        paused = object()

        def real() -> Any:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value
            return paused

        def naive() -> Batch:
            batch = pair.naive.begin(addr, domid, gmfns)
            if batch.prot & 2 and not may_write:
                batch.abandon()
                raise Refused(errno.EPERM)
            return batch

        result, batch = self.both(real, naive, pair)
        if result is paused:
            assert len(gmfns) > SLICE_FRAMES
            batch.advance(SLICE_FRAMES)
            pair.steps, pair.batch = steps, batch
        elif batch is not None:
            self.answered(pair, result, batch)

    def proceed(self, pair: Pair) -> bool:
        """Prepare another slice, or end the batch; whether it is still going on."""
        assert pair.steps is not None
        assert pair.batch is not None
        try:
            next(pair.steps)
        except StopIteration as stop:
            self.answered(pair, stop.value, pair.batch)
            return False
        pair.batch.advance(SLICE_FRAMES)
        return True

    def answered(self, pair: Pair, result: Any, batch: Batch) -> None:
        pair.steps = pair.batch = None
        expected = pair.naive.finish(batch)
        errors = [0] * len(batch.gmfns) if result.errors is None else list(result.errors)
        assert (result.ret, errors) == (expected.ret, expected.errs)
        assert result.n_failed == sum(map(bool, errors))
        invariants.errors_are_in_order(result, len(batch.gmfns))
        self.placed(result.mfns, batch.found)

    def abandon(self, pair: Pair) -> None:
        """The client died while its batch was prepared."""
        assert pair.steps is not None
        assert pair.batch is not None
        pair.steps.close()
        pair.batch.abandon()
        pair.steps = pair.batch = None

    def map_entries(
        self, pair: Pair, domid: int, entries: list[tuple[int, int, int]], *, may_write: bool = True
    ) -> None:
        """MMAP, from its first look to its end."""
        given = [MmapEntry(*entry) for entry in entries]
        steps = privcmd(pair.real).mmap(pair.real, domid, given, may_write=may_write)
        error, done = 0, len(entries)
        mfns: Any = []
        try:
            mfns = drain(steps).mfns
        except Stopped as stopped:
            error, done, mfns = stopped.errno, stopped.details["entry"], stopped.mfns
        except ModelError as refused:
            error, done = refused.errno, 0
        if error == errno.EDQUOT:
            assert pair.limits is TIGHT
            *expected, frames = pair.naive.map_entries(domid, entries[:done], may_write=may_write)
            assert expected == [0, done]
        else:
            *expected, frames = pair.naive.map_entries(domid, entries, may_write=may_write)
            assert [error, done] == expected
        self.placed(mfns, list(frames))

    def placed(self, mfns: Any, frames: Sequence[Frame | int]) -> None:
        """The frames of an answer, and the runs of the memory file that they make."""
        there = [mfn for mfn in mfns if mfn != NO_FRAME]
        assert len(there) == sum(isinstance(frame, Frame) for frame in frames)
        runs = self.machine.extents(mfns).tolist()
        places = {first + i: page + i for first, page, n in runs for i in range(n)}
        assert len(places) == sum(n for _, _, n in runs) == len(there)
        for index, frame in enumerate(frames):
            if isinstance(frame, Frame):
                self.learn(frame, int(mfns[index]))
                assert places[index] == frame.place
        for (first, page, n), (after, next_page, _) in pairwise(runs):
            assert first + n <= after
            assert (first + n, page + n) != (after, next_page), "two runs that are one"

    # --- looking ------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Everything that can be seen of the model is as the naive model has it, and the laws hold."""
        references = self.host.references()
        frames = self.host.frames()
        self.compare_domains(references)
        for pair in self.pairs:
            self.compare_space(pair)
        self.compare_frames(frames, references)
        self.compare_accounts()
        self.compare_effects(frames)
        invariants.check(
            self.machine, [pair.real for pair in self.pairs], {account: () for account, _ in self.accounts}
        )

    def compare_domains(self, references: Counter[Frame]) -> None:
        assert set(self.machine.domains) == set(self.host.domains), "law 8: the domains that live"
        for domid, naive in self.host.domains.items():
            real = self.machine.domain(domid)
            assert real.alive != naive.dying
            assert (real.tot_pages, real.max_pages) == (self.host.tot_pages(domid), naive.max_pages)
            assert not naive.dying or any(frame.domid == domid for frame in references)
            there = np.flatnonzero(real.p2m > POD).tolist()
            assert there == sorted(naive.p2m)
            gmfns = real.gmfns(0, MAX_GFNS).tolist() if not naive.dying else []
            for gfn, frame in naive.p2m.items():
                self.learn(frame, int(real.p2m[gfn]) & ~PAGED)
                assert bool(real.p2m[gfn] & PAGED) == frame.paged
                assert gmfns[gfn] == (frame.mfn if naive.kind == "pv" else gfn)
            assert sum(name != INVALID_FRAME for name in gmfns) == len(naive.p2m)

    def learn(self, frame: Frame, mfn: int) -> None:
        """The machine frame behind a naive frame, and its place in the memory file, never change."""
        place = int(self.machine.frames.page[mfn])
        if frame.place is None:
            assert mfn >= 256 or frame.domid == DOMID_IO, "the first MiB is not RAM"
            frame.mfn, frame.place = mfn, place
        assert (frame.mfn, frame.place) == (mfn, place)

    def compare_space(self, pair: Pair) -> None:
        real, naive = pair.real, pair.naive
        at = 0
        seen: dict[int, tuple[object, ...]] = {}
        objects: Counter[object] = Counter()
        vmas: list[Thing] = []
        for entry in real.map:
            assert at <= entry.start < entry.end, "law 1: sorted and disjoint"
            assert entry.start % 4096 == entry.end % 4096 == 0, "law 1: aligned"
            at = entry.end
            first = naive.pages.get(entry.start >> 12)
            assert first is not None, f"{entry.start:#x} should not be mapped"
            if entry.object is not None:
                objects[entry.object] += 1
                assert pair.things.setdefault(entry.object, first.thing) is first.thing, "two mappings, one object"
            elif entry.file == PRIVCMD:
                assert (entry.private_data is not None) == first.thing.used
                vmas.append(first.thing)
            for vpn in range(entry.start >> 12, entry.end >> 12):
                offset = entry.offset + vpn - (entry.start >> 12)
                name = None if entry.object is None else int(entry.object.gmfns[offset])
                kind = FOREIGN if entry.object is not None else str(entry.file)
                seen[vpn] = (
                    kind,
                    entry.protection,
                    entry.max_protection,
                    str(entry.inherit),
                    entry.wired,
                    entry.object,
                    name,
                )
        assert len(set(vmas)) == len(vmas), "one VMA is one entry"
        things = {thing: found for found, thing in pair.things.items()}
        assert len(things) == len(pair.things), "one mapping, two objects"
        expected = {}
        for vpn, page in naive.pages.items():
            thing = page.thing
            name = thing.gmfns[page.index] if thing.what == FOREIGN else None
            expected[vpn] = (
                thing.what,
                page.prot,
                page.max_prot,
                "copy" if thing.what == ANON else "none",
                page.wired,
                things.get(thing),
                INVALID_FRAME if page.index in thing.failed else name,
            )
        assert seen == expected
        for found, n_entries in objects.items():
            assert found.refs == n_entries, "law 2: references of an object"  # type: ignore[attr-defined]
        pair.things = {found: thing for found, thing in pair.things.items() if found in objects}
        assert real.objects.alive == len(objects) == len(naive.things(FOREIGN)), "law 2: objects alive"
        assert (real.pmap.n_present, real.pmap.n_entries) == (len(naive.ptes), len(naive.ptes) + len(naive.barred))
        assert all(real.pmap.get(vpn) == BARRED for vpn in naive.barred)
        for vpn, frame in naive.ptes.items():
            mfn = real.pmap.get(vpn)
            assert mfn != NO_FRAME, f"law 4: page {vpn:#x} should have a PTE"
            self.learn(frame, mfn)
        assert real.pmap.n_ptps == naive.ptps(), "law 4: ptps"
        assert real.n_wired == naive.wired(), "law 4: wired pages"

    def compare_frames(self, frames: list[Frame], references: Counter[Frame]) -> None:
        table = self.machine.frames
        domains = self.host.domains.values()
        populated = {frame for domain in domains for frame in (*domain.p2m.values(), *domain.grants)}
        assert len({frame.mfn for frame in frames}) == len(frames), "two frames, one mfn"
        assert len({(frame.domid, frame.place) for frame in frames}) == len(frames), "two frames, one page"
        for frame in frames:
            assert frame.mfn is not None
            assert int(table.owner[frame.mfn]) == frame.domid
            assert int(table.refs[frame.mfn]) == references[frame] + (frame in populated), "law 3: references"
        io = [frame for frame in references if frame.domid == DOMID_IO]
        assert all(int(table.refs[frame.mfn]) == references[frame] for frame in io), "law 3: references to I/O frames"
        assert int(np.count_nonzero(table.refs)) == len(frames) + len(io), "law 3: no other frame is referred to"
        assert table.n_free == self.host.n_free()

    def compare_accounts(self) -> None:
        for account, _ in self.accounts:
            own = [pair for pair in self.pairs if pair.real.account is account]
            use = {
                Slot.SPACES: len(own),
                Slot.ENTRIES: sum(len(pair.real.map) for pair in own),
                Slot.OBJECTS: sum(len(pair.naive.things(FOREIGN)) for pair in own),
                Slot.FRAMES: sum(len(pair.naive.ptes) + len(pair.naive.barred) for pair in own),
            }
            for slot, amount in use.items():
                if any(pair.steps is not None for pair in own):
                    assert account.used[slot] >= amount, f"law 9: {slot}"
                else:
                    assert account.used[slot] == amount, f"law 9: {slot}"

    def compare_effects(self, frames: list[Frame]) -> None:
        """What is punched out of memory files is what no living frame uses."""
        living = {(frame.domid, frame.place) for frame in frames}
        discarded = set()
        for effect in self.machine.take_effects():
            if isinstance(effect, Discard):
                discarded |= {(effect.domid, page) for page in effect.pages.tolist()}
        assert not discarded & living, "a page that is in use was discarded"
        died = {place for place in self.living if place not in living and place[0] in self.host.domains}
        assert died <= discarded, "a dead frame's bytes are still there"
        self.living = living
