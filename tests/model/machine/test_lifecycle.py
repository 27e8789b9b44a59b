# SPDX-License-Identifier: Apache-2.0
"""Domains and their frames: made, changed, looked up, gone."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import foreign, lifecycle, memory, paging
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.machine import Machine
from privcmdd.model.units import INVALID_FRAME, PAGE_SIZE
from support.profiles import PROFILE
from support.small_machine import BASE, HOLE, World, batch

MANY = [0] * 30  # makes a list long enough for numpy's path

BAD_DOMAINS: list[tuple[dict[str, Any], int]] = [
    ({"domid": 1}, errno.EEXIST),
    ({"domid": 0}, errno.EINVAL),
    ({"domid": 0x7FF0}, errno.EINVAL),
    ({"domid": -1}, errno.EINVAL),
    ({"max_pages": 4097}, errno.ENOMEM),
    ({"max_pages": 2**52}, errno.ENOMEM),
    ({"max_pages": 4, "ranges": [(0, 5)]}, errno.ENOMEM),
    ({"max_pages": 4, "ranges": [(4095, 2)]}, errno.ENOMEM),
    ({"max_pages": 4, "ranges": [(4096, 1)]}, errno.EINVAL),
    ({"max_pages": 4, "ranges": [(2**52, 1)]}, errno.EINVAL),
    ({"max_pages": 4, "ranges": [(0, 2), (1, 2)]}, errno.EINVAL),
    ({"max_pages": 4096, "ranges": [(0, 4096)]}, errno.ENOMEM),
]


@pytest.mark.parametrize(("asked", "number"), BAD_DOMAINS, ids=str)
def test_a_domain_that_cannot_be_made(asked: dict[str, Any], number: int) -> None:
    """The errno says why, and nothing is left of it."""
    world = World()
    before = world.state()

    with pytest.raises(ModelError) as refused:
        lifecycle.create(world.machine, DomainKind.HVM, **{"max_pages": 4, **asked})

    assert refused.value.errno == number
    assert world.state() == before
    assert world.machine.take_effects() == []


def test_numbers_of_domains() -> None:
    """The next after the last, around the end, those that exist left out; no more than there may be."""
    machine = Machine(1024, max_domains=5, max_gfns=64)
    assert [
        lifecycle.create(machine, DomainKind.PVH, 1).domid,
        lifecycle.create(machine, DomainKind.PVH, 1, domid=0x7FEF).domid,
    ] == [
        1,
        0x7FEF,
    ]
    assert lifecycle.create(machine, DomainKind.PVH, 1).domid == 2
    lifecycle.destroy(machine, 1)
    assert lifecycle.create(machine, DomainKind.PVH, 1).domid == 3
    lifecycle.create(machine, DomainKind.PVH, 0)
    lifecycle.create(machine, DomainKind.PVH, 5, ranges=())
    with pytest.raises(ModelError, match="ENOMEM"):
        lifecycle.create(machine, DomainKind.PVH, 1)
    with pytest.raises(ModelError, match="ESRCH"):
        machine.domain(1)


def test_a_number_that_is_used_again_has_another_generation() -> None:
    """Who remembers a domain by number and generation does not take the next one for it (ABA)."""
    machine = Machine(1024)
    seen = set()
    for _ in range(5):
        domain = lifecycle.create(machine, DomainKind.HVM, 4, domid=7)
        seen.add(domain.generation)
        lifecycle.destroy(machine, 7)

    assert len(seen) == 5


def test_names_of_frames() -> None:
    """Gfns of a translated domain, mfns of a PV one; all ones for a hole and past the end."""
    world = World()

    assert world.hvm.gmfns(62, 4).tolist() == [62, 63, INVALID_FRAME, INVALID_FRAME]
    assert world.hvm.gmfns(4000, 2).tolist() == [INVALID_FRAME] * 2
    assert world.pv.gmfns(0, 2).tolist() == world.pv.p2m[:2].tolist()
    assert world.pv.gmfns(63, 2).tolist() == [int(world.pv.p2m[63]), INVALID_FRAME]


@PROFILE.law
@given(
    st.integers(1, 3),
    st.lists(
        st.one_of(
            st.integers(0, 140),
            st.integers(250, 460),
            st.sampled_from([2**20, 2**40 - 2, 2**40 - 1, 2**40 + 5, 2**63 + 5, 2**63 + 300, 2**64 - 1, 2**64 - 2]),
        ),
        min_size=1,
        max_size=24,
    ),
)
def test_few_frames_are_looked_up_as_many_are(domid: int, gmfns: list[int]) -> None:
    """A list and an array give the same frames, the same errors and the same references."""
    answers = []
    for asked in (gmfns, np.array(gmfns, dtype=np.uint64)):
        world = World(n_frames=512)
        paging.page_out(world.machine, 1, [3, 7])
        mfns, errors = foreign.get(world.machine, domid, asked)
        listed = None if errors is None else [int(error) for error in errors]
        answers.append(([int(mfn) for mfn in mfns], listed, world.machine.frames.refs.tolist()))
        runs = [row.tolist() for row in world.machine.extents(mfns)]
        frames = [(first + i, page + i) for first, page, n in runs for i in range(n)]
        assert frames == [(i, int(world.machine.frames.page[mfn])) for i, mfn in enumerate(mfns) if mfn]
        for (first, page, n), (start, at, _) in pairwise(runs):
            assert (first + n, page + n) != (start, at), "two runs that are one"

    assert answers[0] == answers[1]


def test_extents_of_one_frame_and_of_none() -> None:
    """The usual batch of one frame; and one in which all failed."""
    world = World()
    mfns, _ = foreign.get(world.machine, 1, [5])

    assert world.machine.extents(mfns).tolist() == [[0, 5, 1]]
    assert world.machine.extents([0]).tolist() == []
    assert world.machine.extents([0] * 3).tolist() == []


@pytest.mark.parametrize("more", [[], MANY])
def test_a_dying_domain_has_no_frames_to_look_up(more: list[int]) -> None:
    """EINVAL for each of a translated one, in a short list and in a long one."""
    world = World()
    batch(world.space(n_pages=1), 1, BASE, [0])
    lifecycle.destroy(world.machine, 1)

    gmfns: Any = np.array([0, *more], np.uint64) if more else [0]
    _, errors = foreign.get(world.machine, 1, gmfns)

    assert errors is not None
    assert [int(error) for error in errors] == [-errno.EINVAL] * len(gmfns)
    for change in (memory.populate, memory.decrease_reservation, paging.page_out, paging.page_in):
        with pytest.raises(ModelError, match="EINVAL"):
            change(world.machine, 1, [0])
    world.check()


@pytest.mark.parametrize(
    ("gmfns", "n_done", "why"),
    [
        ([64, 65, 66], 3, None),
        ([64, 5, 66], 1, "0x5 is populated already"),
        ([64, 65, 64], 2, "0x40 is populated already"),
        ([64, 4096], 1, "past the guest frames"),
        ([64, 2**63], 1, "past the guest frames"),
        ([*range(64, 96), *range(112, 160)], 48, "the reservation of 128 pages is used up"),
        ([*range(64, 96), *range(112, 128), 5], 48, "0x5 is populated already"),
        ([], 0, None),
    ],
)
def test_populating_stops_at_the_first_that_cannot_be(gmfns: list[int], n_done: int, why: str | None) -> None:
    """In order: those before it are the domain's."""
    world = World()
    before = world.hvm.tot_pages

    done = memory.populate(world.machine, 1, gmfns)

    assert (done.n_done, len(done.mfns)) == (n_done, n_done)
    assert (done.why is None) if why is None else (why in str(done.why))
    assert world.hvm.tot_pages == before + n_done
    assert world.hvm.gmfns(0, 4096)[gmfns[:n_done]].tolist() == gmfns[:n_done]
    world.check()


def test_populating_stops_when_the_machine_is_full() -> None:
    """The machine's frames are the last reason."""
    world = World(n_frames=256 + 80 + 64 + 2)

    done = memory.populate(world.machine, 1, [64, 65, 66])

    assert (done.n_done, "no free frame" in str(done.why)) == (2, True)
    with pytest.raises(ModelError, match="ENOMEM"):
        lifecycle.create(world.machine, DomainKind.HVM, 1)
    world.check()


def test_ballooning_stops_at_the_first_that_is_not_there() -> None:
    """A hole, a repetition, of a PV domain a frame that is not its own. One that is paged out can be taken."""
    for gmfns, n_done in (([1, HOLE, 2], 1), ([1, 2, 1], 2), ([1, 9, 2], 3), ([], 0), ([9, 9], 1)):
        world = World()
        paging.page_out(world.machine, 1, [9])
        done = memory.decrease_reservation(world.machine, 1, gmfns)
        assert done.n_done == n_done
        assert world.hvm.tot_pages + world.hvm.n_paged == 80 - n_done
        assert world.hvm.n_paged == (9 not in gmfns[:n_done])
        world.check()
    world = World()
    own = world.mfns(0, 3)
    assert memory.decrease_reservation(world.machine, 2, [own[2], own[0], int(world.hvm.p2m[0])]).n_done == 2
    assert world.pv.gmfns(0, 3).tolist() == [INVALID_FRAME, own[1], INVALID_FRAME]
    world.check()


def test_a_frame_populated_anew_does_not_share_a_page_with_one_still_mapped() -> None:
    """Page g of the file for frame g, or a spill page as long as an older frame is there."""
    world = World()
    space = world.space(n_pages=3)
    pages = []
    for i in range(3):
        batch(space, 1, BASE + i * PAGE_SIZE, [5])
        pages.append(int(world.machine.frames.page[space.pmap.get((BASE >> 12) + i)]))
        memory.decrease_reservation(world.machine, 1, [5])
        memory.populate(world.machine, 1, [5])

    limit = world.machine.max_gfns
    assert pages == [5, limit, limit + 1]
    space.close()
    world.spaces.clear()
    memory.decrease_reservation(world.machine, 1, [5])
    memory.populate(world.machine, 1, [5])
    assert int(world.machine.frames.page[world.hvm.p2m[5]]) == 5
    world.check()


def test_what_owns_and_names_a_frame() -> None:
    """Its gfn, or the mfn of a PV domain's."""
    world = World()

    assert (world.machine.owner(int(world.hvm.p2m[5])), world.machine.gmfn(int(world.hvm.p2m[5]))) == (1, 5)
    mfn = int(world.pv.p2m[5])
    assert (world.machine.owner(mfn), world.machine.gmfn(mfn)) == (2, mfn)
