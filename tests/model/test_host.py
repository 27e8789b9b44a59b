# SPDX-License-Identifier: Apache-2.0
"""Hosts other than a PV dom0 with Linux 6.1: what they answer otherwise (docs/explanation/facts/recorded-host.md)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.host import Host
from privcmdd.model.machine import lifecycle, page_types, paging
from privcmdd.model.machine.records import Pager
from privcmdd.model.mm import syscalls
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Part
from privcmdd.model.units import PAGE_SIZE
from support.small_machine import BASE, HOLE, World, batch, errors_of, page, run

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace

EINVAL = -errno.EINVAL


def world_of(host: Host) -> tuple[World, Linux]:
    """A machine of that host, and its kernel."""
    world = World()
    world.machine.host = host
    return world, Linux(host)


def refused(space: AddressSpace, domid: int, addr: int, *gmfns: int) -> int:
    """The errno of a batch that is refused as a whole."""
    with pytest.raises(ModelError) as caught:
        batch(space, domid, addr, gmfns)
    return caught.value.errno


def test_linux_5_10_splits_a_mapped_vma() -> None:
    """Section 6: the parts keep their pages, and take retries of their holes."""
    world, linux = world_of(Host(linux="5.10"))
    space = world.space(linux, n_pages=4)
    batch(space, 1, BASE, [0, HOLE, 2, HOLE])

    syscalls.munmap(space, page(2), PAGE_SIZE)

    assert [(entry.start, entry.end) for entry in space.map] == [(BASE, page(2)), (page(3), page(4))]
    assert errors_of(batch(space, 1, page(1), [1])) == [0]
    assert errors_of(batch(space, 1, page(3), [3])) == [0]
    assert refused(space, 1, page(0), 1) == errno.EINVAL
    syscalls.mprotect(space, page(0), PAGE_SIZE, 1)
    world.check()


def test_parts_of_a_fresh_vma_are_mapped_whole() -> None:
    """Section 6: each by itself, none from the old start."""
    world, linux = world_of(Host(linux="5.10"))
    space = world.space(linux, n_pages=4)

    syscalls.munmap(space, page(1), PAGE_SIZE)

    assert refused(space, 1, BASE, 0, 1, 2, 3) == errno.EINVAL
    assert refused(space, 1, page(2), 1) == errno.EINVAL
    assert errors_of(batch(space, 1, BASE, [0])) == [0]
    assert errors_of(batch(space, 1, page(2), [1, 2])) == [0, 0]
    world.check()


def test_a_pvh_dom0_has_no_mmap() -> None:
    """ENOSYS, before everything."""
    _, linux = world_of(Host(dom0="pvh"))

    with pytest.raises(ModelError) as caught:
        linux.check_mmap()

    assert caught.value.errno == errno.ENOSYS


@pytest.mark.parametrize("many", [False, True])
def test_frame_errors_of_a_pvh_dom0(many: bool) -> None:
    """Section 4: every bit of a name counts, and all that is wrong with it is EINVAL; of domains ESRCH and EPERM."""
    world, linux = world_of(Host(dom0="pvh"))
    more = [0] * 30 if many else []

    def errors(domid: int, *gmfns: int) -> list[int]:
        space = world.space(linux, n_pages=len(gmfns) + len(more))
        found = errors_of(batch(space, domid, BASE, [*gmfns, *more]))[: len(gmfns)]
        space.close()
        return found

    assert errors(1, 5, HOLE, 1 << 40, 1 << 40 | 5, 2**64 - 1, 2**64 - 2) == [0, *[EINVAL] * 5]
    first = world.mfns(0, 1)[0]
    free = world.machine.frames.n_frames - 1
    assert errors(2, first, 0, free, 1 << 40 | first, 1 << 30) == [0, *[EINVAL] * 4]
    assert errors(999, 5) == [-errno.ESRCH]
    assert errors(0x7FF0, 5) == [-errno.ESRCH]
    assert errors(0x7FF1, 5) == [-errno.ESRCH]
    assert errors(0, 5) == [-errno.EPERM]
    assert errors(0x7FF2, 5) == [EINVAL]
    world.check()


def test_a_failed_frame_is_no_hole_in_a_pvh_dom0() -> None:
    """Section 2.3: something is mapped there, and a retry is EINVAL."""
    world, linux = world_of(Host(dom0="pvh"))
    space = world.space(linux, n_pages=2)

    assert errors_of(batch(space, 1, BASE, [0, HOLE])) == [0, EINVAL]
    assert refused(space, 1, page(1), 1) == errno.EINVAL
    world.check()


def test_a_resource_that_failed_leaves_a_mapping_to_be_filled() -> None:
    """Section 9, PVH dom0: V2 can fill it, MMAP_RESOURCE never again."""
    world, linux = world_of(Host(dom0="pvh"))
    space = world.space(linux, n_pages=1)

    with pytest.raises(ModelError):
        linux.mmap_resource(space, Part(dom=999, type=1, id=0, idx=0, num=1), BASE)

    assert errors_of(batch(space, 1, BASE, [5])) == [0]
    assert refused(space, 1, BASE, 5) == errno.EINVAL
    world.check()


def test_a_mapping_without_access_is_checked_in_a_pvh_dom0() -> None:
    """Section 4: real errors, and real references that keep a destroyed domain."""
    world, linux = world_of(Host(dom0="pvh"))
    space = world.space(linux, n_pages=2, prot=0)

    assert errors_of(batch(space, 1, BASE, [0, HOLE])) == [0, EINVAL]
    assert lifecycle.destroy(world.machine, 1) == "dying"
    syscalls.munmap(space, BASE, 2 * PAGE_SIZE)
    assert 1 not in world.machine.domains
    world.check()


def test_what_crashes_a_real_kernel_is_refused() -> None:
    """Section 9: a second MMAP_RESOURCE on a mapping, in a PVH dom0."""
    world, linux = world_of(Host(dom0="pvh"))
    space = world.space(linux, n_pages=1)
    wanted = Part(dom=1, type=1, id=0, idx=0, num=1)
    linux.mmap_resource(space, wanted, BASE)

    with pytest.raises(ModelError) as caught:
        linux.mmap_resource(space, wanted, BASE)

    assert caught.value.errno == errno.ENOTRECOVERABLE
    world.check()


def test_mmap_of_5_10_is_that_of_6_1() -> None:
    """Only splitting differs."""
    world, linux = world_of(Host(linux="5.10"))
    space = world.space(linux, n_pages=2)

    run(linux.mmap(space, 1, [MmapEntry(BASE, 0, 2)]))

    assert space.pmap.n_present == 2


@pytest.mark.parametrize("many", [False, True])
def test_a_paged_out_frame_is_like_any_bad_one_to_a_pvh_dom0(many: bool) -> None:
    """By the source (p2m_add_foreign): EINVAL, ret 0, and the pager is told nothing."""
    world, linux = world_of(Host(dom0="pvh"))
    paging.page_out(world.machine, 1, [7])
    world.machine.domain(1).pager = Pager(ring_page=0)
    world.machine.take_effects()
    gmfns = [5] * (30 if many else 1) + [7]
    space = world.space(linux, n_pages=len(gmfns))

    done = batch(space, 1, BASE, gmfns)

    assert done.ret == 0
    assert errors_of(done) == [*[0] * (len(gmfns) - 1), EINVAL]
    assert world.machine.take_effects() == []
    world.check()


def test_page_tables_are_writable_for_a_pvh_dom0() -> None:
    """By the source: it takes a reference of no type, so that only a PV dom0 is refused."""
    for host, error in ((Host(), -errno.EBUSY), (Host(dom0="pvh"), 0)):
        world, linux = world_of(host)
        mfn = world.mfns(0, 1)[0]
        page_types.pin(world.machine, 2, mfn, 1, np.zeros(512, dtype=np.uint64), written=False)

        assert errors_of(batch(world.space(linux, n_pages=1), 2, BASE, [mfn])) == [error]
        assert errors_of(batch(world.space(linux, n_pages=1, prot=1), 2, BASE, [mfn])) == [0]
        world.check()


@pytest.mark.parametrize("n_around", [0, 30])
@pytest.mark.parametrize("domid", [1, 2])
def test_a_debug_build_refuses_the_bit_that_marks_grants(domid: int, n_around: int) -> None:
    """Section 4: 2^50|g5 is EINVAL there, and only that; other bits above 40 are lost as ever."""
    for build, error in (("release", 0), ("debug", EINVAL)):
        world, linux = world_of(Host(build=build))  # type: ignore[arg-type]
        frame = 5 if domid == 1 else world.mfns(5, 1)[0]
        gmfns = [*(1 << bit | frame for bit in (50, 49, 51, 63)), *[frame] * n_around]
        space = world.space(linux, n_pages=len(gmfns))

        assert errors_of(batch(space, domid, BASE, gmfns)) == [error, *[0] * (len(gmfns) - 1)]
        world.check()
