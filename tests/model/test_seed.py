# SPDX-License-Identifier: Apache-2.0
"""What the seed discusses, point by point: mapping (failures and threads have files of their own)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Slot
from privcmdd.model.machine.machine import Machine
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.vm_map import Inherit
from privcmdd.model.privcmd.requests import MmapEntry, Stopped
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import PAGE_SIZE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE
from support.small_machine import BASE, HOLE, ROOMY, RW, World, batch, errors_of, page, privcmd, run, seen, shows

if TYPE_CHECKING:
    from privcmdd.model.machine.frames import Mfns
    from privcmdd.model.mm.space import AddressSpace


def entries(*rows: tuple[int, int, int]) -> list[MmapEntry]:
    """(page of the test's range, frame, pages) each."""
    return [MmapEntry(page(index), mfn, n) for index, mfn, n in rows]


def test_mmap_gives_each_entry_an_object_of_its_own() -> None:
    """The va of one entry need not follow the last: each entry gets its range, its object, its map entry."""
    world = World()
    space = world.space(n_pages=20)

    done = run(privcmd(space).mmap(space, world.hvm.domid, entries((10, 3, 2), (0, 7, 1), (5, 20, 3))))

    assert done.ret == 0
    assert seen(space, page(0), 1) == shows(1, [7])
    assert seen(space, page(5), 3) == shows(1, [20, 21, 22])
    assert seen(space, page(10), 2) == shows(1, [3, 4])
    foreign = [entry for entry in space.map if entry.object is not None]
    assert [(e.start, e.n_pages, e.object.number) for e in foreign if e.object] == [
        (page(0), 1, 2),
        (page(5), 3, 3),
        (page(10), 2, 1),
    ]
    assert space.objects.alive == 3
    world.check()


def test_the_first_bad_entry_stops_mmap_and_the_earlier_ones_stay() -> None:
    """Entries are applied in order; nothing of the bad one or of later ones is."""
    world = World()
    space = world.space(n_pages=20)

    with pytest.raises(Stopped, match="entry 2") as stopped:
        run(privcmd(space).mmap(space, 1, entries((4, 3, 2), (0, 7, 1), (8, HOLE - 1, 2), (12, 1, 1))))

    assert stopped.value.errno == errno.EINVAL
    assert (stopped.value.details["entry"], stopped.value.details["done"]) == (2, 2)
    assert [world.machine.gmfn(mfn) for mfn in stopped.value.mfns] == [3, 4, 7]
    assert seen(space, page(0), 14) == shows(1, [7, None, None, None, 3, 4, *[None] * 8])
    world.check()


def test_merging_contiguous_vas_changes_only_the_counters() -> None:
    """One object and one map entry for a run of contiguous entries; the same frames at the same addresses."""
    rows = entries((0, 5, 1), (1, 9, 2), (3, 1, 1), (8, 2, 2), (10, 40, 1))
    worlds = World(), World()
    apart, merged = (
        world.space(Uvm(merge=merge), n_pages=16) for world, merge in zip(worlds, (False, True), strict=True)
    )

    answers = [run(privcmd(space).mmap(space, 1, rows)) for space in (apart, merged)]

    assert list(answers[0].mfns) == list(answers[1].mfns)
    assert seen(apart, BASE, 16) == seen(merged, BASE, 16)
    assert (apart.objects.made, merged.objects.made) == (5, 2)
    assert (apart.counters.merged, merged.counters.merged) == (0, 3)
    assert apart.n_wired == merged.n_wired == 7
    for world in worlds:
        world.check()


def test_entries_that_may_not_share_a_protection_are_not_merged() -> None:
    """Merging stops where the protection of the old range changes: an entry of the map has one."""
    world = World()
    space = world.space(Uvm(merge=True), n_pages=4)
    syscalls.mprotect(space, page(2), PAGE_SIZE, PROT_READ)

    run(privcmd(space).mmap(space, 1, entries((0, 5, 1), (1, 6, 1), (2, 7, 1), (3, 8, 1))))

    assert [(e.start, e.protection) for e in space.map] == [(page(0), RW), (page(2), PROT_READ), (page(3), RW)]
    assert seen(space, BASE, 4) == shows(1, [5, 6, 7, 8])
    world.check()


def test_an_error_behind_merged_entries_leaves_what_came_before() -> None:
    """With merging as without: a bad entry takes nothing back that came before it."""
    for merge in (False, True):
        world = World()
        space = world.space(Uvm(merge=merge), n_pages=6)

        with pytest.raises(Stopped) as stopped:
            run(privcmd(space).mmap(space, 1, entries((0, 5, 2), (2, 9, 1), (3, HOLE, 1))))

        assert len(stopped.value.mfns) == 3
        assert seen(space, BASE, 6) == shows(1, [5, 6, 9, None, None, None])
        world.check()


def test_mmapbatch_resolves_every_frame_inside_the_request() -> None:
    """Eager: when the call returns there is a page table entry for every good frame, and the entry is wired."""
    world = World()
    space = world.space(n_pages=40)

    done = batch(space, 1, BASE, range(40))

    assert done.errors is None
    assert seen(space, BASE, 40) == shows(1, range(40))
    assert space.n_wired == 40
    assert space.counters.faults == 0
    world.check()


@pytest.mark.parametrize("n_pages", [4, 40])
def test_probing_at_a_scratch_place_answers_as_loading_does(n_pages: int) -> None:
    """The two strategies give the same answers; ``load`` wires what it entered and unwires it with the entry."""
    gmfns = [HOLE if i % 3 == 1 else i for i in range(n_pages)]
    worlds = World(), World()
    load, scratch = (
        world.space(Uvm(probe), n_pages=n_pages) for world, probe in zip(worlds, ("load", "scratch"), strict=True)
    )

    answers = [batch(space, 1, BASE, gmfns) for space in (load, scratch)]

    assert errors_of(answers[0]) == errors_of(answers[1])
    assert seen(load, BASE, n_pages) == seen(scratch, BASE, n_pages)
    n_good = sum(name != HOLE for name in gmfns)
    assert (load.n_wired, scratch.n_wired) == (n_good, 0)
    assert (load.counters.scratch_probes, scratch.counters.scratch_probes) == (0, n_pages)
    syscalls.munmap(load, page(1), PAGE_SIZE)
    syscalls.munmap(load, BASE, n_pages * PAGE_SIZE)
    assert load.n_wired == 0
    for world in worlds:
        world.check()


WEAKEST = [
    ((RW, RW, RW), RW),
    ((RW, PROT_READ, RW), PROT_READ),
    ((PROT_READ, PROT_READ, PROT_READ), PROT_READ),
    ((PROT_WRITE, RW, PROT_WRITE), RW),
    ((RW | PROT_EXEC, RW, RW), RW),
    ((PROT_READ | PROT_EXEC, RW, RW), PROT_READ),
    ((RW, PROT_NONE, RW), None),
    ((PROT_EXEC, RW, RW), None),
    ((PROT_WRITE, PROT_READ, RW), None),
    ((RW, None, RW), None),
    ((None, RW, RW), None),
    ((RW, RW, None), None),
]


@pytest.mark.parametrize(("old", "new"), WEAKEST)
@pytest.mark.parametrize("ioctl", ["mmap", "mmapbatch"])
def test_the_weakest_protection_of_the_old_range_decides(
    ioctl: str, old: tuple[int | None, ...], new: int | None
) -> None:
    """Writable throughout gives read and write, readable throughout read; anything else, or a hole, is EINVAL."""
    world = World()
    space = world.space()
    for index, prot in enumerate(old):
        if prot is not None:
            syscalls.mmap(space, page(index), PAGE_SIZE, prot, fixed=True)
    before = world.state()
    steps = (
        privcmd(space).mmapbatch(space, 1, BASE, [1, 2, 3])
        if ioctl == "mmapbatch"
        else privcmd(space).mmap(space, 1, entries((0, 1, 3)))
    )

    if new is None:
        with pytest.raises(ModelError) as refused:
            run(steps)
        assert refused.value.errno == errno.EINVAL
        assert world.state() == before
    else:
        run(steps)
        assert [(e.start, e.n_pages, e.protection, e.max_protection) for e in space.map] == [(BASE, 3, new, new)]
    world.check()


class Watching(Machine):
    """A machine that looks at an address space whenever frames are given back."""

    space: AddressSpace | None = None
    looks: tuple[tuple[list[tuple[int, int]], int], ...] = ()

    def put(self, mfns: Mfns) -> None:
        if self.space is not None:
            refs = [(entry.start, entry.object.refs) for entry in self.space.map if entry.object is not None]
            self.looks += ((refs, self.space.objects.alive),)
        super().put(mfns)


def test_dead_entries_are_let_go_after_the_map_has_changed() -> None:
    """Frames of replaced entries go back when the new entries stand: detach never runs on a map half changed."""
    world = World(machine=Watching)
    machine = world.machine
    assert isinstance(machine, Watching)
    space = world.space(n_pages=6)
    batch(space, 1, BASE, [1, 2, 3])
    batch(space, 1, page(3), [4, 5, 6])

    machine.space = space
    batch(space, 1, page(1), [7, 8, 9])

    assert machine.looks == (([(page(0), 1), (page(1), 1), (page(4), 1)], 3),)
    world.check()


def test_replacement_takes_several_entries_and_parts_of_entries() -> None:
    """Arbitrary existing ranges: the outer parts of clipped entries keep their frames and their object."""
    world = World()
    space = world.space(n_pages=10)
    batch(space, 1, page(0), range(3))
    batch(space, 1, page(3), range(3, 6))
    batch(space, 1, page(6), range(6, 9))

    batch(space, 1, page(1), range(40, 47))

    assert seen(space, BASE, 10) == shows(1, [0, *range(40, 47), 8, None])
    assert [(e.start, e.n_pages, e.offset) for e in space.map] == [
        (page(0), 1, 0),
        (page(1), 7, 0),
        (page(8), 1, 2),
        (page(9), 1, 9),
    ]
    assert space.objects.alive == 3
    world.check()


def test_the_last_detach_frees_the_object() -> None:
    """An object lives as long as a map entry points to it, however often that was clipped."""
    world = World()
    space = world.space(n_pages=5)
    batch(space, 1, BASE, range(5))

    for index, alive in ((2, 1), (0, 1), (4, 1), (1, 1), (3, 0)):
        syscalls.munmap(space, page(index), PAGE_SIZE)
        assert space.objects.alive == alive
        world.check()
    assert space.objects.freed == 1


def test_foreign_mappings_are_not_inherited_and_not_merged() -> None:
    """Inheritance NONE: a child has no foreign mapping. Neighbours stay entries of their own."""
    world = World()
    space = world.space(n_pages=6)
    batch(space, 1, page(1), [1, 2])
    batch(space, 1, page(3), [3, 4])

    child = syscalls.fork(space, 2)
    world.spaces.append(child)

    assert [(e.start, e.inherit) for e in space.map if e.object] == [(page(1), Inherit.NONE), (page(3), Inherit.NONE)]
    assert [(e.start, e.n_pages) for e in child.map] == [(page(0), 1), (page(5), 1)]
    assert child.pmap.n_present == 0
    assert child.objects.alive == 0
    assert child.personality is space.personality
    world.check()


def test_objects_are_counted_alive_peak_made_and_freed() -> None:
    """Some tens for a device model, but they come and go: each space has its counters, and the machine their sum."""
    world = World()
    one, two = world.space(n_pages=8), world.space(n_pages=8)
    for _ in range(5):
        batch(one, 1, BASE, [1, 2])
    batch(two, 1, BASE, [3])
    batch(two, 1, page(4), [3])
    syscalls.munmap(two, BASE, 8 * PAGE_SIZE)

    assert (one.counters.replacements, two.counters.replacements) == (5, 2), "the first mapping of a range is none"
    counted = [(c.made, c.freed, c.alive, c.peak) for c in (one.objects, two.objects, world.objects)]

    assert counted[0] == (5, 4, 1, 2)  # the new one is made before the old one goes
    assert counted[1] == (2, 2, 0, 2)
    assert counted[2] == (7, 6, 1, 3)


@pytest.mark.parametrize("slot", [Slot.OBJECTS, Slot.ENTRIES, Slot.FRAMES])
def test_a_quota_refuses_and_leaves_the_old_mapping_whole(slot: Slot) -> None:
    """ENOMEM when the object cannot be allocated: here EDQUOT, and what was mapped is as it was."""
    world = World()
    space = world.space(n_pages=8)
    batch(space, 1, page(2), [1, 2, 3, 4])
    before = world.state()
    world.account.relimit({**ROOMY, slot: world.account.used[slot]})

    with pytest.raises(ModelError) as refused:
        batch(space, 1, page(3), [9, 10])

    assert refused.value.errno == errno.EDQUOT
    assert refused.value.details["slot"] == slot.value
    assert world.state() == before
    world.check()


def test_a_replacement_is_placed_exactly_where_it_was_asked() -> None:
    """What was newstart != start in the old code cannot be: the new entry begins and ends where asked."""
    world = World()
    space = world.space(n_pages=32)

    for first, n in ((0, 1), (31, 1), (7, 13)):
        batch(space, 1, page(first), [5] * n)
        entry = space.map.lookup(page(first))
        assert entry is not None
        assert (entry.start, entry.end) == (page(first), page(first + n))
        assert np.count_nonzero(space.pmap.frames(page(first) >> 12, n)) == n
