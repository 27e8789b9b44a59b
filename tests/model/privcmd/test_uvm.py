# SPDX-License-Identifier: Apache-2.0
"""Personality uvm: what NetBSD's privcmd does, and the system calls around it."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import paging
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import resolve, touch
from privcmdd.model.mm.uobject import UvmObject
from privcmdd.model.mm.vm_map import File
from privcmdd.model.privcmd.requests import FAILED, MmapEntry, Stopped
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import (
    INVALID_FRAME,
    PAGE_SIZE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_MAX_ADDRESS,
    VM_MMAP_BASE,
)
from support.small_machine import BASE, RW, World, batch, errors_of, page, privcmd, run, seen, shows

BAD_RANGES = [
    (BASE, 0),
    (VM_MAX_ADDRESS, 1),
    (VM_MAX_ADDRESS - PAGE_SIZE, 2),
    (2**52, 1),
    (2**63, 1),
    (2**64 - PAGE_SIZE, 1),
    (0, 1),
    (BASE + 2**40, 1),
    (BASE - PAGE_SIZE, 2),
    (BASE, 5),
]


@pytest.mark.parametrize(("addr", "n"), BAD_RANGES)
def test_mmapbatch_of_a_range_that_is_none(addr: int, n: int) -> None:
    """Num 0, past the limit, not mapped at its start or later: EINVAL, and all is as it was."""
    world = World()
    space = world.space(n_pages=4)
    before = world.state()

    with pytest.raises(ModelError) as refused:
        batch(space, 1, addr, [1] * n)

    assert refused.value.errno == errno.EINVAL
    assert world.state() == before


@pytest.mark.parametrize(("addr", "n"), [*BAD_RANGES, (BASE, 2**52), (BASE, 2**63), (BASE, 2**64 - 1), (BASE, 2**35)])
def test_mmap_of_a_range_that_is_none(addr: int, n: int) -> None:
    """Npages 0, va above the limit, and the same for a range that runs past it: EINVAL at that entry."""
    world = World()
    space = world.space(n_pages=4)
    before = world.state()

    with pytest.raises(Stopped) as refused:
        run(privcmd(space).mmap(space, 1, [MmapEntry(addr, 1, n)]))

    assert (refused.value.errno, refused.value.details["entry"]) == (errno.EINVAL, 0)
    assert world.state() == before


def test_mmap_rounds_va_down_and_mmapbatch_does_not() -> None:
    """As NetBSD does for MMAP; an unaligned batch is refused, for it is nearly always a mistake."""
    world = World()
    space = world.space(n_pages=4)

    run(privcmd(space).mmap(space, 1, [MmapEntry(page(1) + 100, 7, 2)]))

    assert seen(space, BASE, 4) == shows(1, [None, 7, 8, None])
    with pytest.raises(ModelError, match="EINVAL"):
        batch(space, 1, page(1) + 100, [1])


def test_mmap_of_no_entries() -> None:
    """Nothing to do is no error."""
    space = World().space()

    assert run(privcmd(space).mmap(space, 999, [])).ret == 0


def test_one_mapping_is_of_one_domain_and_any_domain_may_follow() -> None:
    """A mapped range may be replaced by any other's frames, and paged frames fail like others."""
    world = World()
    paging.page_out(world.machine, 1, [7])
    space = world.space(n_pages=3)

    assert errors_of(batch(space, 1, BASE, [6, 7, 8])) == [0, -errno.ENOENT, 0]
    done = batch(space, 2, page(1), [*world.mfns(0, 1), 3])

    assert (done.ret, errors_of(done)) == (0, [0, -errno.EPERM])
    assert seen(space, BASE, 3) == [(1, 6), (2, world.mfns(0, 1)[0]), None]
    assert privcmd(space).paged_nibble == FAILED
    world.check()


def test_a_fault_finds_its_frame_by_offset() -> None:
    """Index = entry offset + va - entry start, whichever part of the mapping is left."""
    world = World()
    space = world.space(n_pages=6)
    batch(space, 1, BASE, [10, 11, 12, 13, 14, 15])
    syscalls.mprotect(space, BASE, 6 * PAGE_SIZE, PROT_NONE)
    syscalls.munmap(space, page(2), PAGE_SIZE)
    syscalls.mprotect(space, BASE, 2 * PAGE_SIZE, PROT_READ)
    syscalls.mprotect(space, page(3), 3 * PAGE_SIZE, PROT_READ)

    assert [touch(space, page(i), PROT_READ).gmfn for i in (5, 0, 3)] == [15, 10, 13]
    assert [(s.page, s.size) for s in resolve(space, page(3), 3 * PAGE_SIZE, PROT_READ)] == [(13, 3 * PAGE_SIZE)]
    world.check()


@pytest.mark.parametrize("form", [list, np.array])
def test_an_object_knows_its_bounds_and_its_failures(form: type) -> None:
    """Beyond the object EINVAL, the invalid marker EFAULT."""
    gmfns = [5, INVALID_FRAME] if form is list else np.array([5, INVALID_FRAME], np.uint64)
    made = UvmObject(1, 1, gmfns)

    assert made.n_pages == 2
    assert made.gmfn(0) == 5
    for index, number in ((1, errno.EFAULT), (2, errno.EINVAL), (-1, errno.EINVAL)):
        with pytest.raises(ModelError) as refused:
            made.gmfn(index)
        assert refused.value.errno == number


def test_the_device_cannot_be_mapped() -> None:
    """ENODEV: users reserve with anonymous memory, then call the ioctl over it."""
    space = World().space()

    with pytest.raises(ModelError, match="ENODEV"):
        syscalls.mmap(space, BASE, PAGE_SIZE, RW, file="privcmd")
    assert syscalls.mmap(space, BASE, PAGE_SIZE, RW, file="anon") == BASE


def test_what_memory_shows() -> None:
    """Not mapped, anonymous, protected: EFAULT; with SIGSEGV where a process would get it."""
    world = World()
    space = world.space(n_pages=2)
    batch(space, 1, BASE, [1])
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_READ)

    for addr, access, signal in (
        (BASE - 1, PROT_READ, "SIGSEGV"),
        (page(1), PROT_READ, None),
        (BASE, PROT_WRITE, "SIGSEGV"),
    ):
        with pytest.raises(ModelError) as refused:
            touch(space, addr, access)
        assert (refused.value.errno, refused.value.details.get("signal")) == (errno.EFAULT, signal)
    for addr, size, number in (
        (BASE, 0, errno.EINVAL),
        (VM_MAX_ADDRESS - 1, 2, errno.EINVAL),
        (2**64, 1, errno.EINVAL),
        (BASE, PAGE_SIZE + 1, errno.EFAULT),
        (BASE + 3 * PAGE_SIZE, 1, errno.EFAULT),
    ):
        with pytest.raises(ModelError) as refused:
            resolve(space, addr, size, PROT_READ)
        assert refused.value.errno == number


def test_bytes_of_a_range_lie_in_runs() -> None:
    """Runs of the memory files, in address order, cut at the ends of the range."""
    world = World()
    space = world.space(n_pages=6)
    batch(space, 1, BASE, [10, 11, 3, 2])
    batch(space, 2, page(4), world.mfns(2, 2))

    found = resolve(space, BASE + 100, 6 * PAGE_SIZE - 200, PROT_WRITE)

    assert [(s.domid, s.page, s.offset, s.size) for s in found] == [
        (1, 10, 100, 2 * PAGE_SIZE - 100),
        (1, 3, 0, PAGE_SIZE),
        (1, 2, 0, PAGE_SIZE),
        (2, 2, 0, 2 * PAGE_SIZE - 100),
    ]


def test_protection_of_a_foreign_mapping_cannot_be_raised() -> None:
    """Its maximum is what the old range allowed: EACCES beyond."""
    world = World()
    space = world.space(n_pages=2, prot=PROT_READ)
    batch(space, 1, BASE, [1, 2])
    before = world.state()

    for prot in (RW, PROT_WRITE, PROT_READ | PROT_EXEC):
        with pytest.raises(ModelError) as refused:
            syscalls.mprotect(space, BASE, PAGE_SIZE, prot)
        assert refused.value.errno == errno.EACCES
    with pytest.raises(ModelError, match="ENOMEM"):
        syscalls.mprotect(space, BASE, 3 * PAGE_SIZE, PROT_READ)
    with pytest.raises(ModelError, match="EINVAL"):
        syscalls.mprotect(space, BASE, PAGE_SIZE, 16)
    assert world.state() == before


def test_mprotect_clips_and_shares_the_object() -> None:
    """A part gets its protection, the object its three entries; to PROT_NONE the page table entries go."""
    world = World()
    space = world.space(n_pages=3)
    batch(space, 1, BASE, [1, 2, 3])

    syscalls.mprotect(space, page(1), PAGE_SIZE, PROT_READ)
    world.check()
    assert [(e.n_pages, e.protection, e.offset) for e in space.map] == [(1, RW, 0), (1, PROT_READ, 1), (1, RW, 2)]
    assert space.objects.alive == 1
    assert seen(space, BASE, 3) == shows(1, [1, 2, 3])

    syscalls.mprotect(space, page(1), PAGE_SIZE, PROT_NONE)
    world.check()
    assert seen(space, BASE, 3) == shows(1, [1, None, 3])


def test_mmap_takes_a_hint_or_looks_for_room() -> None:
    """A free hint is taken, rounded down; a taken one is not; without one the lowest free range is."""
    world = World()
    space = world.space(n_pages=2)

    assert syscalls.mmap(space, page(4) + 5, PAGE_SIZE, RW) == page(4)
    assert syscalls.mmap(space, page(1), PAGE_SIZE, RW) == VM_MMAP_BASE
    assert syscalls.mmap(space, 0, 3 * PAGE_SIZE, RW) == VM_MMAP_BASE + PAGE_SIZE
    syscalls.munmap(space, VM_MMAP_BASE, PAGE_SIZE)
    assert syscalls.mmap(space, 0, PAGE_SIZE, RW) == VM_MMAP_BASE
    assert syscalls.mmap(space, VM_MAX_ADDRESS - PAGE_SIZE + 1, PAGE_SIZE, RW) == VM_MAX_ADDRESS - PAGE_SIZE
    world.check()


def test_mmap_without_room_is_enomem() -> None:
    """Above the base, then from the bottom, then not at all."""
    world = World()
    space = world.space()
    upper = VM_MAX_ADDRESS - VM_MMAP_BASE

    assert syscalls.mmap(space, 0, upper, RW) == VM_MMAP_BASE
    assert syscalls.mmap(space, 0, 2**40, RW) == 1 << 16
    with pytest.raises(ModelError, match="ENOMEM"):
        syscalls.mmap(space, 0, VM_MMAP_BASE, RW)
    with pytest.raises(ModelError, match="EINVAL"):
        syscalls.mmap(space, 0, VM_MAX_ADDRESS + 1, RW)
    world.check()


def test_a_child_gets_the_parents_anonymous_ranges() -> None:
    """And pays for them; without the means it does not come to be."""
    world = World()
    space = world.space(Uvm("scratch", merge=True), n_pages=4)
    batch(space, 1, page(1), [1])

    child = syscalls.fork(space, 2)
    world.spaces.append(child)
    world.check()
    assert [(e.start, e.n_pages, e.file) for e in child.map] == [
        (page(0), 1, File.ANON),
        (page(2), 2, File.ANON),
    ]

    before = world.state()
    for slot, spare in (("spaces", 0), ("entries", 0), ("entries", 1)):
        world.account.relimit({s: n + spare if s == slot else 2**30 for s, n in world.account.used.items()})
        with pytest.raises(ModelError, match="EDQUOT"):
            syscalls.fork(space, 3)
        assert world.state() == before


def test_a_closed_space_has_given_everything_back() -> None:
    """Any number of times."""
    world = World()
    before = world.state()
    space = world.space(n_pages=600)
    batch(space, 1, BASE, [i % 64 for i in range(600)])

    for _ in range(2):
        space.close()
        assert space.closed

    world.spaces.clear()
    assert world.state() == before
