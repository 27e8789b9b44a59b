# SPDX-License-Identifier: Apache-2.0
"""What page table entries keep (linux): the protection that they were made with, and pages that nobody can have.

By docs/explanation/facts/recorded-host.md, 2.8 and 2.9, and the driver's own question, whether an entry is
there at all (``pte_none``).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.host import Host
from privcmdd.model.ledger import Slot
from privcmdd.model.machine import lifecycle
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import resolve, touch, writes
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Part
from privcmdd.model.units import DOMID_IO, DOMID_SELF, DOMID_XEN, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE
from support.small_machine import BASE, HOLE, RW, World, batch, errors_of, page, privcmd, run, seen, shows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.model.mm.space import AddressSpace

N = 600  # pages: more than a leaf of the page tables has


def refused(space: AddressSpace, domid: int, addr: int, gmfns: Sequence[int]) -> int:
    """The errno of a batch that is refused as a whole."""
    with pytest.raises(ModelError) as refusal:
        batch(space, domid, addr, gmfns)
    return refusal.value.errno


def accesses(space: AddressSpace, index: int) -> tuple[bool, bool]:
    """Whether a page can be read and written."""
    outcome = []
    for access in (PROT_READ, PROT_WRITE):
        try:
            touch(space, page(index), access)
        except ModelError as error:
            assert error.errno == errno.EFAULT
            outcome.append(False)
        else:
            outcome.append(True)
    return outcome[0], outcome[1]


def pvh() -> tuple[World, Linux]:
    """A PVH dom0, where mprotect works on frames."""
    world = World()
    world.machine.host = Host(dom0="pvh")
    return world, Linux(world.machine.host)


@pytest.mark.parametrize("domid", [1, DOMID_SELF, DOMID_IO, DOMID_XEN])
@pytest.mark.parametrize("n", [3, N])
def test_a_mapping_without_access_is_filled_once(domid: int, n: int) -> None:
    """Any frame succeeds and none is held, yet no page of it is a hole; a domain that is not there leaves holes."""
    world = World()
    space = world.space(Linux(), n_pages=n, prot=PROT_NONE)
    assert errors_of(batch(space, 999, BASE, [5] * n)) == [-errno.ESRCH] * n

    assert errors_of(batch(space, domid, BASE, [HOLE] * n)) == [0] * n

    for prot in (PROT_NONE, RW):
        syscalls.mprotect(space, BASE, n * PAGE_SIZE, prot)
        assert refused(space, 1, BASE, [5] * n) == errno.EINVAL
        assert refused(space, 1, page(n - 1), [5]) == errno.EINVAL
        assert accesses(space, n - 1) == (False, False)
    assert space.pmap.n_present == 0
    world.check()
    syscalls.munmap(space, BASE, n * PAGE_SIZE)
    assert space.pmap.n_ptps == 0
    world.check()


def test_mmap_and_resources_without_access_hold_nothing() -> None:
    """They make the same entries: no reference keeps the domain, and their pages are no holes."""
    world = World()
    space = world.space(Linux(), n_pages=4, prot=PROT_NONE)

    run(privcmd(space).mmap(space, 1, [MmapEntry(BASE, HOLE, 2)]))
    privcmd(space).mmap_resource(space, Part(dom=1, type=1, id=0, idx=0, num=1), page(2))

    assert [refused(space, 1, page(index), [5]) for index in range(3)] == [errno.EINVAL] * 3
    assert errors_of(batch(space, 1, page(3), [5])) == [0]
    assert lifecycle.destroy(world.machine, 1) == "gone"
    world.check()


@pytest.mark.parametrize("n", [4, N])
def test_what_mprotect_has_taken_away_is_no_hole(n: int) -> None:
    """Frames are put and their pages are lost; what was a hole before can be filled, with what is allowed by then."""
    world = World()
    space = world.space(Linux(), n_pages=n)
    batch(space, 1, BASE, [*range(2), HOLE, *[7] * (n - 3)])

    syscalls.mprotect(space, BASE, n * PAGE_SIZE, PROT_NONE)
    syscalls.mprotect(space, BASE, n * PAGE_SIZE, RW)

    assert space.pmap.n_present == 0
    assert refused(space, 1, BASE, [5]) == errno.EINVAL
    assert refused(space, 1, page(2), [5, 5]) == errno.EINVAL
    assert errors_of(batch(space, 1, page(2), [5])) == [0]
    assert [accesses(space, index) for index in (0, 2, n - 1)] == [(False, False), (True, True), (False, False)]
    world.check()


@pytest.mark.parametrize("n", [4, N])
def test_pages_of_one_mapping_keep_what_each_was_made_with(n: int) -> None:
    """A hole that is filled after an mprotect is as that said; the pages around it are as they were."""
    world = World()
    space = world.space(Linux(), n_pages=n, prot=PROT_READ)
    batch(space, 1, BASE, [0, HOLE, *[2] * (n - 3), HOLE])

    syscalls.mprotect(space, BASE, n * PAGE_SIZE, RW)
    batch(space, 1, page(1), [1])
    syscalls.mprotect(space, BASE, n * PAGE_SIZE, PROT_READ)
    batch(space, 1, page(n - 1), [9])

    readable_only, both = (True, False), (True, True)
    shown = [accesses(space, index) for index in (0, 1, 2, n - 1)]
    assert shown == [readable_only, both, readable_only, readable_only]
    assert sum(segment.size for segment in resolve(space, BASE, n * PAGE_SIZE, PROT_READ)) == n * PAGE_SIZE
    assert resolve(space, page(1) + 8, 16, PROT_WRITE)[0].page == 1
    with pytest.raises(ModelError, match="EFAULT"):
        resolve(space, page(1), PAGE_SIZE + 1, PROT_WRITE)
    assert [writes(space, (BASE >> 12) + index) for index in (0, 1)] == [False, True]
    world.check()


def test_in_a_pvh_dom0_mprotect_works() -> None:
    """Made writable it is written to, made read-only it is not; without access it is kept, and comes back."""
    world, linux = pvh()
    space = world.space(linux, n_pages=1, prot=PROT_READ)
    batch(space, 1, BASE, [5])

    for prot, shown in (
        (RW, (True, True)),
        (PROT_READ, (True, False)),
        (PROT_NONE, (False, False)),
        (RW, (True, True)),
    ):
        syscalls.mprotect(space, BASE, PAGE_SIZE, prot)
        assert accesses(space, 0) == shown
        assert seen(space, BASE, 1) == shows(1, [5])
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_NONE)
    assert lifecycle.destroy(world.machine, 1) == "dying"
    world.check()


def test_in_a_pvh_dom0_mprotect_gives_no_right() -> None:
    """Our own rule: who may only read a domain cannot raise a mapping of it afterwards."""
    world, linux = pvh()
    space = world.space(linux, n_pages=1, prot=PROT_READ)
    run(linux.mmapbatch(space, 1, BASE, [5], may_write=False))

    with pytest.raises(ModelError, match="EACCES"):
        syscalls.mprotect(space, BASE, PAGE_SIZE, RW)


def test_a_quota_leaves_a_mapping_fresh_for_mmap() -> None:
    """EDQUOT at the first entry is ours, not the driver's: nothing has changed, and the same call works later."""
    world = World({Slot.FRAMES: 3})
    space = world.space(Linux(), n_pages=4)
    before = world.state()

    with pytest.raises(ModelError, match="EDQUOT"):
        run(privcmd(space).mmap(space, 1, [MmapEntry(BASE, 0, 4)]))

    assert world.state() == before
    assert run(privcmd(space).mmap(space, 1, [MmapEntry(BASE, 0, 3)])).ret == 0
    world.check()


def test_what_a_mapping_allows_decides_where_there_is_no_entry() -> None:
    """Made writable after it was filled read-only: writing to a hole is SIGBUS; to a page it would never end."""
    world = World()
    space = world.space(Linux(), n_pages=2, prot=PROT_READ)
    batch(space, 1, BASE, [0, HOLE])
    syscalls.mprotect(space, BASE, 2 * PAGE_SIZE, RW)

    signals = []
    for index in (0, 1):
        with pytest.raises(ModelError, match="EFAULT") as fault:
            touch(space, page(index), PROT_WRITE)
        signals.append(fault.value.details.get("signal"))
    assert signals == [None, "SIGBUS"]
