# SPDX-License-Identifier: Apache-2.0
"""Personality linux: MMAP, what memory shows, system calls; held against recorded answers (PV dom0)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import paging
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import resolve, touch
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Stopped
from privcmdd.model.units import PAGE_SIZE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE
from support.small_machine import BASE, HOLE, RW, World, batch, errors_of, page, privcmd, run, seen, shows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.privcmd.requests import Batch


def vma(world: World, n_pages: int, prot: int = RW) -> AddressSpace:
    """A space with a fresh mapping of the device."""
    return world.space(Linux(), n_pages=n_pages, prot=prot)


def mmap(space: AddressSpace, domid: int, *rows: tuple[int, int, int]) -> Batch:
    """IOCTL_PRIVCMD_MMAP with (offset in bytes, frame, pages) rows."""
    entries = [MmapEntry(BASE + at, mfn, n) for at, mfn, n in rows]
    done: Batch = run(privcmd(space).mmap(space, domid, entries))
    return done


def stopped(space: AddressSpace, domid: int, *rows: tuple[int, int, int]) -> tuple[int, int]:
    """The errno and the entry that MMAP stopped with."""
    with pytest.raises(Stopped) as stop:
        mmap(space, domid, *rows)
    return stop.value.errno, stop.value.details["entry"]


def refused(space: AddressSpace, domid: int, *rows: tuple[int, int, int]) -> int:
    """The errno that MMAP refused with before the first entry."""
    with pytest.raises(ModelError) as refusal:
        mmap(space, domid, *rows)
    assert not isinstance(refusal.value, Stopped)
    return refusal.value.errno


P = PAGE_SIZE


def test_mmap_of_one_page_leaves_holes() -> None:
    """One page into four: V2 may fill the rest, MMAP may not."""
    world = World()
    space = vma(world, 4)

    assert mmap(space, 1, (0, 1, 1)).ret == 0

    assert seen(space, BASE, 4) == shows(1, [1, None, None, None])
    assert refused(space, 1, (0, 1, 1)) == errno.EINVAL
    assert refused(space, 1, (P, 2, 1)) == errno.EINVAL
    assert errors_of(batch(space, 1, page(1), [5, 6, 7])) == [0, 0, 0]
    world.check()


def test_mmap_maps_consecutive_frames_of_contiguous_entries() -> None:
    """An entry names its first frame; the next entry begins where it ends."""
    world = World()
    space = vma(world, 40)

    mmap(space, 1, (0, 1, 1), (P, 3, 1), (2 * P, 2, 38))

    assert seen(space, BASE, 40) == shows(1, [1, 3, *range(2, 40)])
    world.check()


@pytest.mark.parametrize(
    ("rows", "entry"),
    [
        ([(0, 1, 1), (2 * P, 3, 1)], 1),  # gap
        ([(0, 1, 2), (P, 3, 1)], 1),  # overlap
        ([(0, 1, 1), (P, 3, 4)], 1),  # past the mapping
        ([(0, 1, 1), (P, 3, 1), (3 * P, 3, 1)], 2),
        ([(0, 1, 5)], 0),
        *[([(0, 1, n)], 0) for n in (2**64 - 1, 2**52, 2**51, 2**51 - 1, 2**35)],
        ([(0, 1, 1), (P + 8, 2, 1)], 1),
    ],
)
def test_mmap_stops_at_an_entry_out_of_place(rows: list[tuple[int, int, int]], entry: int) -> None:
    """EINVAL there; entries before it stay, the mapping is used up for MMAP, V2 may fill the holes."""
    world = World()
    space = vma(world, 4)

    assert stopped(space, 1, *rows) == (errno.EINVAL, entry)

    n_mapped = sum(n for _, _, n in rows[:entry])
    assert space.pmap.n_present == n_mapped
    assert refused(space, 1, (0, 1, 1)) == errno.EINVAL
    assert errors_of(batch(space, 1, page(n_mapped), [9] * (4 - n_mapped))) == [0] * (4 - n_mapped)
    world.check()


@pytest.mark.parametrize("at", [P, 8, -P, 2**30])
def test_mmap_begins_at_the_start_of_a_mapping(at: int) -> None:
    """Any other first va is EINVAL, and the mapping stays fresh."""
    world = World()
    space = vma(world, 4)

    assert refused(space, 1, (at, 1, 1)) == errno.EINVAL
    assert mmap(space, 1, (0, 1, 1)).ret == 0


def test_mmap_over_anonymous_memory_is_refused() -> None:
    """Where the real driver brings the kernel down, EINVAL."""
    world = World()
    space = world.space(Linux())
    syscalls.mmap(space, BASE, P, RW, fixed=True, file="anon")

    assert refused(space, 1, (0, 1, 1)) == errno.EINVAL


def test_mmap_of_nothing() -> None:
    """Num 0 is 0, whatever else is wrong; npages 0 is nothing, and the next entry may begin there."""
    world = World()
    space = vma(world, 4)

    assert mmap(space, 999).ret == 0
    assert mmap(space, 1, (0, HOLE, 0), (0, 2, 1)).ret == 0
    assert seen(space, BASE, 4) == shows(1, [2, None, None, None])


@pytest.mark.parametrize("n_good", [0, 2, 18, 30])
def test_mmap_stops_at_a_bad_frame(n_good: int) -> None:
    """Its errno; the good ones before it in the same entry stay mapped."""
    world = World()
    space = vma(world, 40)

    assert stopped(space, 1, (0, 5, 1), (P, 64 - n_good, n_good + 2), (P * (n_good + 3), 1, 1)) == (errno.EINVAL, 1)

    assert seen(space, BASE, 40) == shows(1, [5, *range(64 - n_good, 64), *[None] * (39 - n_good)])
    world.check()


def test_mmap_answers_each_kind_of_bad_frame() -> None:
    """ESRCH without the domain, EPERM and EBUSY of a PV domain, ENOENT paged out: then the call itself fails."""
    world = World()
    own = world.mfns(0, 1)[0]
    paging.page_out(world.machine, 1, [7])
    for domid, mfn, number in (
        (999, own, errno.ESRCH),
        (0x7FF4, own, errno.ESRCH),
        (2, 3, errno.EPERM),
        (2, int(world.hvm.p2m[0]), errno.EBUSY),
        (1, 7, errno.ENOENT),
    ):
        assert stopped(vma(world, 4), domid, (0, mfn, 1)) == (number, 0)
    space = vma(world, 4)
    assert stopped(space, 1, (0, 6, 3)) == (errno.ENOENT, 0)
    assert seen(space, BASE, 4) == shows(1, [6, None, None, None])
    world.check()


def accesses(space: AddressSpace, at: int = BASE) -> tuple[str | None, str | None]:
    """What reading and writing a page come to: None, or the signal (or 'hang' where there is none)."""
    outcome: list[str | None] = []
    for access in (PROT_READ, PROT_WRITE):
        try:
            touch(space, at, access)
            outcome.append(None)
        except ModelError as error:
            assert error.errno == errno.EFAULT
            outcome.append(error.details.get("signal", "hang"))
    return outcome[0], outcome[1]


def test_what_memory_shows() -> None:
    """Before any ioctl and where a frame failed SIGBUS; against the protection SIGSEGV."""
    world = World()
    for prot, fresh, good in (
        (RW, ("SIGBUS", "SIGBUS"), (None, None)),
        (PROT_READ, ("SIGBUS", "SIGSEGV"), (None, "SIGSEGV")),
        (PROT_WRITE, ("SIGBUS", "SIGBUS"), (None, None)),
        (RW | PROT_EXEC, ("SIGBUS", "SIGBUS"), (None, None)),
        (PROT_NONE, ("SIGSEGV", "SIGSEGV"), ("SIGSEGV", "SIGSEGV")),
    ):
        space = vma(world, 2, prot)
        assert accesses(space) == fresh
        batch(space, 1, BASE, [1, HOLE])
        assert accesses(space) == good
        assert accesses(space, page(1)) == fresh
        assert accesses(space, page(2)) == ("SIGSEGV", "SIGSEGV")
    world.check()


def test_a_range_over_a_failed_frame_cannot_be_read() -> None:
    """write(2) from a buffer that only reaches into a failed frame is EFAULT; all of it or nothing."""
    world = World()
    space = vma(world, 3)
    batch(space, 1, BASE, [1, 2, HOLE])

    assert [(s.page, s.offset, s.size) for s in resolve(space, BASE + 10, 2 * P - 10, PROT_READ)] == [
        (1, 10, 2 * P - 10)
    ]
    with pytest.raises(ModelError, match="EFAULT"):
        resolve(space, BASE + 10, 2 * P, PROT_READ)


MPROTECT: Sequence[tuple[int, Sequence[int], tuple[str | None, str | None]]] = [
    (RW, [], (None, None)),
    (RW, [PROT_READ], (None, None)),
    (PROT_READ, [RW], (None, "hang")),
    (RW, [PROT_NONE, RW], ("SIGBUS", "SIGBUS")),
    (PROT_READ, [PROT_NONE, PROT_READ], ("SIGBUS", "SIGSEGV")),
]


@pytest.mark.parametrize(("made", "then", "shown"), MPROTECT)
def test_mprotect_of_live_pages(made: int, then: Sequence[int], shown: tuple[str | None, str | None]) -> None:
    """It returns 0 and does not work: a page made read-only stays so, through PROT_NONE the mapping is lost."""
    world = World()
    space = vma(world, 1, made)
    batch(space, 1, BASE, [1])

    for prot in then:
        syscalls.mprotect(space, BASE, P, prot)

    assert accesses(space) == shown
    world.check()


def test_mprotect_before_the_ioctl() -> None:
    """Read-only to writable before anything is mapped works."""
    world = World()
    space = vma(world, 1, PROT_READ)
    syscalls.mprotect(space, BASE, P, RW)
    batch(space, 1, BASE, [1])

    assert accesses(space) == (None, None)


@pytest.mark.parametrize("filled", [False, True])
def test_a_mapping_cannot_be_cut(filled: bool) -> None:
    """munmap, mprotect and MAP_FIXED of a part change nothing; the whole goes, twice if one likes."""
    world = World()
    space = vma(world, 3)
    if filled:
        batch(space, 1, BASE, [1, 2, 3])
    before = world.state()

    for at, n in ((0, 1), (1, 1), (2, 1), (0, 2), (1, 5), (-1, 2)):
        with pytest.raises(ModelError, match="EINVAL"):
            syscalls.munmap(space, page(at), n * P)
    for at, n in ((0, 1), (1, 1), (2, 1)):
        with pytest.raises(ModelError, match="EINVAL"):
            syscalls.mprotect(space, page(at), n * P, PROT_READ)
    for addr, size in ((BASE + 8, P), (BASE, 0), (BASE, 2**63)):
        with pytest.raises(ModelError, match="EINVAL"):
            syscalls.munmap(space, addr, size)
    with pytest.raises(ModelError):
        syscalls.mmap(space, page(1), P, RW, fixed=True)
    assert world.state() == before

    syscalls.munmap(space, BASE, 3 * P)
    syscalls.munmap(space, BASE, 3 * P)
    assert len(space.map) == 0
    world.check()


def test_anonymous_memory_can_be_cut() -> None:
    """Only the driver's mappings say no."""
    world = World()
    space = world.space(Linux())
    syscalls.mmap(space, BASE, 3 * P, RW, fixed=True, file="anon")

    syscalls.munmap(space, page(1), P)

    assert [(e.start, e.n_pages) for e in space.map] == [(page(0), 1), (page(2), 1)]


def test_a_fork_has_none_of_it() -> None:
    """The mapping is absent from the child, filled or not; the parent is unaffected."""
    world = World()
    space = vma(world, 2)
    syscalls.mmap(space, page(8), 2 * P, RW, fixed=True)
    batch(space, 1, BASE, [1, 2])

    child = syscalls.fork(space, 7)
    world.spaces.append(child)

    assert len(child.map) == 0
    with pytest.raises(ModelError, match="EINVAL"):
        batch(child, 1, BASE, [1, 2])
    assert errors_of(batch(space, 1, page(8), [1, 2])) == [0, 0]
    world.check()


def test_sizes_are_rounded_up() -> None:
    """100 bytes are a page; none is EINVAL; one TiB is fine."""
    world = World()
    space = world.space(Linux())

    at = syscalls.mmap(space, 0, 100, RW)
    entry = space.map.lookup(at)
    assert entry is not None
    assert entry.n_pages == 1
    with pytest.raises(ModelError, match="EINVAL"):
        syscalls.mmap(space, 0, 0, RW)
    syscalls.mmap(space, 0, 2**40, RW)
    with pytest.raises(ModelError, match="EINVAL"):
        syscalls.mmap(space, 0, 4096, 8)
