# SPDX-License-Identifier: Apache-2.0
"""Personality linux, held against what a real Xen and the real driver answered (PV dom0)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, paging
from privcmdd.model.mm import syscalls
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import Part, with_nibbles
from privcmdd.model.units import PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE
from support.small_machine import BASE, HOLE, RW, World, batch, errors_of, in_form, page, privcmd, seen, shows

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace

EINVAL, ENOENT, EPERM, EBUSY, ESRCH = (
    -number for number in (errno.EINVAL, errno.ENOENT, errno.EPERM, errno.EBUSY, errno.ESRCH)
)
ALL_ONES = 2**64 - 1


def vma(world: World, n_pages: int, prot: int = RW) -> AddressSpace:
    """A space with a fresh mapping of the device."""
    return world.space(Linux(), n_pages=n_pages, prot=prot)


def refused(space: AddressSpace, domid: int, addr: int, gmfns: list[int]) -> int:
    """The errno that a whole MMAPBATCH is refused with."""
    with pytest.raises(ModelError) as refusal:
        batch(space, domid, addr, gmfns)
    return refusal.value.errno


# Section 4: values of frame errors. Names beside what an HVM domain answers: an error, or the gfn it shows.
HVM_NAMES = {
    "populated": (5, 5),
    "not populated": (HOLE, EINVAL),
    "past the end": (5000, EINVAL),
    "2^20": (2**20, EINVAL),
    "2^39": (2**39, EINVAL),
    "2^40-1": (2**40 - 1, EINVAL),
    "~0>>12": (ALL_ONES >> 12, EINVAL),
    "~0": (ALL_ONES, EINVAL),
    "~0-1": (ALL_ONES - 1, EINVAL),
    "2^40": (2**40, 0),
    "2^51": (2**51, 0),
    "2^52": (2**52, 0),
    **{f"2^{bit}|5": (2**bit | 5, 5) for bit in (40, 50, 51, 52, 63)},
}


@pytest.mark.parametrize(("name", "answer"), HVM_NAMES.values(), ids=list(HVM_NAMES))
@pytest.mark.parametrize("n_around", [1, 20])
def test_a_frame_of_a_translated_domain(n_around: int, name: int, answer: int) -> None:
    """Forty bits count; what is not populated is EINVAL; the call returns 0 and the good ones around stay."""
    world = World()
    space = vma(world, n_around + 1)

    done = batch(space, 1, BASE, [*range(n_around), name])

    assert done.ret == 0
    assert errors_of(done) == [*[0] * n_around, min(answer, 0)]
    assert seen(space, BASE, n_around + 1) == shows(1, [*range(n_around), answer if answer >= 0 else None])
    world.check()


@pytest.mark.parametrize("n_around", [1, 30])
def test_a_frame_of_a_pv_domain(n_around: int) -> None:
    """Frames are named by mfn: no RAM is EPERM, somebody else's or nobody's EBUSY, all ones EINVAL."""
    world = World()
    own = world.mfns(0, n_around)
    other = int(world.hvm.p2m[0])
    free = world.machine.frames.n_frames - 1
    cases = {
        own[0]: 0,
        own[0] | 2**40: 0,
        own[0] | 2**63: 0,
        other: EBUSY,
        free: EBUSY,
        0: EPERM,
        255: EPERM,
        world.machine.frames.n_frames: EPERM,
        2**20: EPERM,
        2**39: EPERM,
        2**40: EPERM,
        2**40 - 1: EINVAL,
        ALL_ONES >> 12: EINVAL,
        ALL_ONES: EINVAL,
        ALL_ONES - 1: EPERM,
    }
    space = vma(world, n_around + len(cases))

    done = batch(space, 2, BASE, [*own, *cases])

    assert done.ret == 0
    assert errors_of(done) == [*[0] * n_around, *cases.values()]
    assert space.pmap.n_present == n_around + 3
    world.check()


@pytest.mark.parametrize("domid", [999, 32000, 0x7FEF, 0x7FF3, 0x7FF4, 0x7FF5, 0x7FF6, 0x7FFF, 0x8000, 0xFFFF, 0])
@pytest.mark.parametrize("prot", [RW, PROT_READ, PROT_NONE])
@pytest.mark.parametrize("n", [2, 30])
def test_a_domain_that_is_not_there(domid: int, prot: int, n: int) -> None:
    """ESRCH a frame, ret 0, also for 0, which is not the caller's own, and where nothing is accessible."""
    world = World()
    space = vma(world, n, prot)

    done = batch(space, domid, BASE, list(range(n)))

    assert (done.ret, errors_of(done)) == (0, [ESRCH] * n)
    assert space.pmap.n_present == 0
    world.check()


@pytest.mark.parametrize(
    ("domid", "frame", "error"),
    [
        (0x7FF0, 300, -errno.EBUSY),  # RAM, and not the caller's
        (0x7FF0, 0xB8, 0),  # VGA
        (0x7FF1, 0xF0, 0),  # BIOS
        (0x7FF1, 300, -errno.EBUSY),
        (0x7FF1, 0xFEE00, -errno.EPERM),  # the local APIC
        (0x7FF2, 300, -errno.EBUSY),
        (0x7FF2, 0xB8, -errno.EPERM),
        *[(domid, name, EINVAL) for domid in (0x7FF0, 0x7FF1, 0x7FF2) for name in (2**40 - 1, ALL_ONES)],
        (0x7FF3, 300, ESRCH),
        (0, 300, ESRCH),
    ],
)
def test_frames_of_no_ordinary_domain(domid: int, frame: int, error: int) -> None:
    """DOMID_SELF, DOMID_IO and DOMID_XEN, by RESULTS section 4; what is mapped is not given away afterwards."""
    world = World()
    free = world.machine.frames.n_free
    space = vma(world, 1)

    assert errors_of(batch(space, domid, BASE, [frame])) == [error]
    assert space.pmap.n_present == (error == 0)
    world.check()
    space.close()
    assert world.machine.frames.n_free == free
    world.check()


def test_machine_frame_0_can_be_mapped() -> None:
    """It has a stand-in: its number means that there is no frame."""
    world = World()
    space = vma(world, 2)

    assert errors_of(batch(space, 0x7FF0, BASE, [0, 1])) == [0, 0]
    assert world.machine.extents(space.pmap.frames(BASE >> 12, 2)).tolist() == [[0, 0, 2]]
    world.check()


def test_a_mapping_without_access_takes_any_frame_and_no_reference() -> None:
    """PROT_NONE in a PV dom0: every number succeeds, nothing is referred to, the domain can be destroyed freely."""
    world = World()
    space = vma(world, 3, PROT_NONE)
    before = world.machine.frames.refs.tobytes()

    done = batch(space, 1, BASE, [5, HOLE, ALL_ONES])

    assert (done.ret, errors_of(done)) == (0, [0, 0, 0])
    assert world.machine.frames.refs.tobytes() == before
    assert lifecycle.destroy(world.machine, 1) == "gone"
    world.check()


@pytest.mark.parametrize(
    ("n", "bad"), [*[(36, i) for i in (0, 14, 15, 16, 17, 31, 32, 35)], *[(1030, i) for i in (511, 512, 1023, 1029)]]
)
def test_errors_sit_exactly_at_the_bad_frames(n: int, bad: int) -> None:
    """Chunks do not show; the same frame may be mapped many times."""
    world = World()
    space = vma(world, n)
    gmfns = [i % 64 for i in range(n)]
    gmfns[bad] = HOLE

    errors = errors_of(batch(space, 1, BASE, gmfns))

    assert [i for i, error in enumerate(errors) if error] == [bad]
    assert errors[bad] == EINVAL
    assert seen(space, BASE, n) == shows(1, [None if i == bad else name for i, name in enumerate(gmfns)])
    world.check()


# Section 5: address, size, repetition. One page more or less, and the first call must fill all.
def test_the_first_call_fills_the_whole_of_a_fresh_mapping() -> None:
    """Fewer or more frames, or another address, are EINVAL; the mapping stays fresh and the right call works."""
    world = World()
    space = vma(world, 4)

    for addr, n in ((BASE, 3), (BASE, 5), (page(1), 3), (BASE + 8, 4), (page(1), 4), (BASE - PAGE_SIZE, 4), (BASE, 0)):
        assert refused(space, 1, addr, list(range(n))) == errno.EINVAL

    assert errors_of(batch(space, 1, BASE, [1, 2, 3, 4])) == [0] * 4
    world.check()


ELSEWHERE = {
    "NULL": 0,
    "unmapped": BASE + 2**30,
    "just below": BASE - PAGE_SIZE,
    "anonymous": BASE + 2**21,
    "the end of user addresses": 0x7FFF_FFFF_F000,
    "kernel half": 0xFFFF_8000_0000_0000,
    "non-canonical": 0x8000_0000_0000_0000 >> 4,
    "~0": ALL_ONES,
}


@pytest.mark.parametrize("addr", ELSEWHERE.values(), ids=list(ELSEWHERE))
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("filled", [False, True])
def test_an_address_that_is_no_device_mapping(addr: int, n: int, filled: bool) -> None:
    """EINVAL, and nothing changes."""
    world = World()
    space = vma(world, 4)
    syscalls.mmap(space, BASE + 2**21, 8 * PAGE_SIZE, RW, fixed=True, file="anon")
    if filled:
        batch(space, 1, BASE, [HOLE] * 4)
    before = world.state()

    assert refused(space, 1, addr, list(range(n))) == errno.EINVAL
    assert world.state() == before


def test_a_range_over_two_mappings() -> None:
    """Two that touch do not merge: EINVAL, fresh or used."""
    world = World()
    space = vma(world, 2)
    syscalls.mmap(space, page(2), 2 * PAGE_SIZE, RW, fixed=True)

    assert refused(space, 1, BASE, [1, 2, 3, 4]) == errno.EINVAL
    batch(space, 1, BASE, [HOLE] * 2)
    batch(space, 1, page(2), [HOLE] * 2)
    assert refused(space, 1, BASE, [1, 2, 3, 4]) == errno.EINVAL
    assert refused(space, 1, page(1), [1, 2]) == errno.EINVAL


def test_only_holes_can_be_filled_again() -> None:
    """A range with one mapped page in it is EINVAL and stays; any part of a hole is good, from any domain."""
    world = World()
    space = vma(world, 6)
    assert errors_of(batch(space, 1, BASE, [1, HOLE, HOLE, HOLE, HOLE, 6])) == [0, *[EINVAL] * 4, 0]

    for addr, n in ((BASE, 6), (BASE, 1), (BASE, 2), (page(4), 2), (page(5), 1)):
        assert refused(space, 1, addr, [9] * n) == errno.EINVAL
    assert seen(space, BASE, 6) == shows(1, [1, None, None, None, None, 6])

    assert errors_of(batch(space, 1, page(2), [HOLE, 13])) == [EINVAL, 0]
    assert errors_of(batch(space, 2, page(4), world.mfns(3, 1))) == [0]
    assert errors_of(batch(space, 1, page(1), [11, 12])) == [0, 0]
    expected = shows(1, [1, 11, 12, 13, None, 6])
    expected[4] = (2, world.mfns(3, 1)[0])
    assert seen(space, BASE, 6) == expected
    world.check()


def test_a_hole_is_retried_at_an_unaligned_address() -> None:
    """Aligned down, as long as the range's end is inside the mapping."""
    world = World()
    space = vma(world, 3)
    batch(space, 1, BASE, [HOLE] * 3)

    assert refused(space, 1, page(2) + 8, [5]) == errno.EINVAL
    assert errors_of(batch(space, 1, page(1) + 8, [5])) == [0]
    assert seen(space, BASE, 3) == shows(1, [None, 5, None])
    world.check()


def test_a_mapping_of_which_every_frame_failed() -> None:
    """The whole of it, or a part, can be asked for again."""
    for domid, gmfns in ((1, [HOLE] * 4), (999, [1, 2, 3, 4])):
        world = World()
        space = vma(world, 4)
        batch(space, domid, BASE, gmfns)

        assert errors_of(batch(space, 1, page(1), [5, 6])) == [0, 0]
        syscalls.munmap(space, BASE, 4 * PAGE_SIZE)
        syscalls.mmap(space, BASE, 4 * PAGE_SIZE, RW, fixed=True)
        batch(space, domid, BASE, gmfns)
        assert errors_of(batch(space, 1, BASE, [5, 6, 7, 8])) == [0] * 4
        world.check()


def test_mmap_over_a_live_mapping_makes_a_fresh_one() -> None:
    """MAP_FIXED of the same size takes the old one's place: SIGBUS until it is filled."""
    world = World()
    space = vma(world, 2)
    batch(space, 1, BASE, [1, 2])

    syscalls.mmap(space, BASE, 2 * PAGE_SIZE, RW, fixed=True)

    assert seen(space, BASE, 2) == [None, None]
    assert refused(space, 1, BASE, [1]) == errno.EINVAL
    assert errors_of(batch(space, 1, BASE, [3, 4])) == [0, 0]
    world.check()


G, X, P = 5, HOLE, 7  # a good frame, one that is not populated, one that is paged out
PAGING = [
    ([P], -errno.ENOENT),
    ([G, P, G], 0),
    ([P, G, G], 0),
    ([G, G, P], -errno.ENOENT),
    ([P, P, P], -errno.ENOENT),
    ([X, P], -errno.ENOENT),
    ([P, X], 0),
    ([*[G] * 3, P, *[G] * 16], 0),
    ([*[G] * 15, P, *[G] * 4], 0),
    ([*[G] * 19, P], -errno.ENOENT),
    ([*[G] * 511, P, *[G] * 88], -errno.ENOENT),
    ([*[G] * 510, P, *[G] * 89], 0),
    ([*[G] * 512, P, *[G] * 87], 0),
]


@pytest.mark.parametrize(("gmfns", "ret"), PAGING)
def test_paged_out_frames(gmfns: list[int], ret: int) -> None:
    """ENOENT reaches the return value only where the last frame of a chunk of 512, or of all, has it."""
    world = World()
    paging.page_out(world.machine, 1, [P])
    space = vma(world, len(gmfns))

    done = batch(space, 1, BASE, gmfns)

    assert done.ret == ret
    assert errors_of(done) == [{G: 0, X: EINVAL, P: ENOENT}[name] for name in gmfns]
    hole = gmfns.index(P)
    assert errors_of(batch(space, 1, page(hole), [P])) == [ENOENT]
    paging.page_in(world.machine, 1, [P])
    assert errors_of(batch(space, 1, page(hole), [P])) == [0]
    world.check()


NIBBLES = [
    ([G, P, G], [0, 0x8000_0000, 0]),
    ([G, X, P], [0, 0xF000_0000, 0x8000_0000]),
    ([ALL_ONES], [0]),
    ([0xF000_0000], [0]),
    ([0xFFFF_FFFF], [0]),
    ([0x8000_0000], [0x7000_0000]),
    ([2**50 | X], [0xF000_0000]),
]


@pytest.mark.parametrize(("gmfns", "changed"), NIBBLES)
def test_v1_reports_in_the_callers_array(gmfns: list[int], changed: list[int]) -> None:
    """Bits or-ed into the lower half, the upper half kept: a frame that has them already looks good."""
    world = World()
    paging.page_out(world.machine, 1, [P])
    space = vma(world, len(gmfns))

    done = batch(space, 1, BASE, gmfns)
    after = with_nibbles(in_form(gmfns), done.errors, privcmd(space).paged_nibble)

    assert [int(name) ^ old for name, old in zip(after, gmfns, strict=True)] == changed
    assert done.n_failed == sum(name != G for name in gmfns)


def test_write_only_is_readable() -> None:
    """PROT_WRITE only, and with PROT_EXEC: accepted by the driver."""
    for prot in (PROT_WRITE, RW | 4):
        world = World()
        assert errors_of(batch(vma(world, 1, prot), 1, BASE, [1])) == [0]
        world.check()


def test_a_right_to_read_maps_only_what_is_not_writable() -> None:
    """Our own rule: EPERM before any frame is looked at."""
    world = World()
    for prot, allowed in ((PROT_READ, True), (PROT_NONE, True), (RW, False), (PROT_WRITE, False)):
        space = vma(world, 1, prot)
        steps = privcmd(space).mmapbatch(space, 1, BASE, [1], may_write=False)
        if allowed:
            with pytest.raises(StopIteration):
                next(steps)
        else:
            with pytest.raises(ModelError, match="EPERM"):
                next(steps)
    world.check()


@pytest.mark.parametrize("prot", [RW, 0])
def test_a_batch_lets_go_of_what_a_resource_has_put_there(prot: int) -> None:
    """MMAP_RESOURCE runs over into the next mapping; a batch fills that as a fresh one, and nothing is held twice."""
    world = World()
    space = world.space(Linux(), n_pages=2)
    syscalls.mmap(space, page(2), 2 * PAGE_SIZE, prot, fixed=True)
    privcmd(space).mmap_resource(space, Part(world.hvm.domid, 1, 0, 0, 3), BASE, may_write=True)
    world.check()

    batch(space, world.hvm.domid, page(2), [5, 6])

    world.check()
    space.close()
    world.check()
