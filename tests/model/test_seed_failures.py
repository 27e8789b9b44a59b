# SPDX-License-Identifier: Apache-2.0
"""What the seed discusses, point by point: frames that fail, faults, cancelled and refused requests."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Slot
from privcmdd.model.machine import memory
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import resolve, touch
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import FAILED, MmapEntry, with_nibbles
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import INVALID_FRAME, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE
from support.profiles import PROFILE
from support.small_machine import (
    BASE,
    HOLE,
    PERSONALITIES,
    ROOMY,
    World,
    batch,
    errors_of,
    in_form,
    page,
    privcmd,
    run,
    seen,
    shows,
    space_state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.privcmd.personality import Personality

N_FRAMES = {"mmapbatch": 64, "mmap": 30}
UVMS = [name for name in PERSONALITIES if name.startswith("uvm")]


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("access", [PROT_READ, PROT_WRITE])
def test_a_fault_on_a_failed_frame_is_efault_and_changes_nothing(personality: str, access: int) -> None:
    """The pager's fault routine is prepared to fail: EFAULT, a signal named, all as it was."""
    world = World()
    space = world.space(PERSONALITIES[personality], n_pages=3)
    batch(space, 1, BASE, [1, HOLE, 3])
    before = world.state()

    with pytest.raises(ModelError) as refused:
        touch(space, page(1) + 17, access)

    assert refused.value.errno == errno.EFAULT
    assert refused.value.details["signal"] == "SIGBUS"
    with pytest.raises(ModelError, match="EFAULT"):
        resolve(space, page(0), 3 * PAGE_SIZE, access)
    assert world.state() == before
    assert touch(space, page(2), access).entered is False
    world.check()


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_munmap_of_failed_frames_needs_no_fault(personality: str) -> None:
    """A caller may munmap failed frames without ever touching them: everything is given back."""
    world = World()
    empty = world.state()
    space = world.space(PERSONALITIES[personality], n_pages=3)
    batch(space, 1, BASE, [HOLE, 2, HOLE + 1])

    syscalls.munmap(space, BASE, 3 * PAGE_SIZE)

    assert space.counters.faults == 0
    space.close()
    world.spaces.clear()
    assert world.state() == empty


@pytest.mark.parametrize("n_pages", [3, 40])
@pytest.mark.parametrize("personality", UVMS)
def test_a_failed_frame_is_flagged_in_place_and_marked_in_the_object(personality: str, n_pages: int) -> None:
    """0xF0000000 is or-ed into the caller's array, the object keeps a marker that can be no frame."""
    world = World()
    space = world.space(PERSONALITIES[personality], n_pages=n_pages)
    gmfns = [*range(n_pages - 1), HOLE | 1 << 50]

    done = batch(space, 1, BASE, gmfns)

    flagged = with_nibbles(in_form(gmfns), done.errors, privcmd(space).paged_nibble)
    assert [int(name) for name in flagged] == [*range(n_pages - 1), HOLE | 1 << 50 | 0xF000_0000]
    entry = space.map.lookup(BASE)
    assert entry is not None
    assert entry.object is not None
    assert [int(name) for name in entry.object.gmfns] == [*range(n_pages - 1), INVALID_FRAME]
    assert done.ret == 0
    world.check()


def test_failures_are_normal_and_counted() -> None:
    """The device model seems to probe with them: the call returns 0 even when every frame failed."""
    world = World()
    space = world.space(n_pages=4)

    answers = [batch(space, 1, BASE, [HOLE] * 4) for _ in range(3)]

    assert [answer.ret for answer in answers] == [0, 0, 0]
    assert [answer.n_failed for answer in answers] == [4, 4, 4]
    assert space.counters.frames_failed == 12
    assert space.counters.frames_entered == 0
    world.check()


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("n_pages", [1, 4, 30, 600])
def test_a_failed_frame_leaves_no_pte_no_reference_no_ptp(personality: str, n_pages: int) -> None:
    """On failure the page table entry is removed again for proper ptp accounting: as if nothing had been there."""
    world = World()
    space = world.space(PERSONALITIES[personality], n_pages=n_pages)
    before = world.state()

    batch(space, 1, BASE, [HOLE] * n_pages)

    after = world.state()
    assert after["refs"] == before["refs"]
    assert (space.pmap.n_present, space.pmap.n_ptps, space.n_wired) == (0, 0, 0)
    assert world.account.used[Slot.FRAMES] == 0
    world.check()


def test_a_lost_pte_is_entered_again_by_a_fault() -> None:
    """uvm: the object remembers its frames, so a page whose entry was taken away comes back when it is touched."""
    world = World()
    space = world.space(n_pages=3)
    batch(space, 1, BASE, [1, HOLE, 3])
    syscalls.mprotect(space, BASE, 3 * PAGE_SIZE, PROT_NONE)
    assert seen(space, BASE, 3) == [None] * 3
    syscalls.mprotect(space, BASE, 3 * PAGE_SIZE, PROT_READ)

    first, again = touch(space, page(2), PROT_READ), touch(space, page(2), PROT_READ)

    assert (first.domid, first.gmfn, first.entered, again.entered) == (1, 3, True, False)
    assert space.counters.faults == 1
    with pytest.raises(ModelError, match="EFAULT"):
        touch(space, page(1), PROT_READ)
    assert seen(space, BASE, 3) == shows(1, [None, None, 3])
    world.check()


def test_a_fault_on_a_frame_that_went_away_is_efault() -> None:
    """uvm: between the batch and the fault the domain may have given the frame up."""
    world = World()
    space = world.space(n_pages=1)
    batch(space, 1, BASE, [1])
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_NONE)
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_READ)
    memory.decrease_reservation(world.machine, 1, [1])
    before = world.state()

    with pytest.raises(ModelError) as refused:
        touch(space, BASE, PROT_READ)

    assert (refused.value.errno, refused.value.details["cause"]) == (errno.EFAULT, errno.EINVAL)
    assert world.state() == before
    world.check()


def test_a_fault_over_quota_changes_nothing() -> None:
    """Entering a page is paid for like any other."""
    world = World()
    space = world.space(n_pages=2)
    batch(space, 1, BASE, [1, 2])
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_NONE)
    syscalls.mprotect(space, BASE, PAGE_SIZE, PROT_READ)
    world.account.relimit({**ROOMY, Slot.FRAMES: 1})
    before = world.state()

    with pytest.raises(ModelError, match="EDQUOT"):
        touch(space, BASE, PROT_READ)

    assert world.state() == before
    world.check()


def prepared(
    personality: Personality, slice_frames: int
) -> tuple[World, dict[str, Callable[[], Generator[None, None, Any]]]]:
    """A world with something mapped, and the map requests that would replace or fill it."""
    world = World()
    space = world.space(personality, n_pages=64, slice_frames=slice_frames)
    if not isinstance(personality, Linux):
        batch(space, 1, page(8), range(20))
        batch(space, 2, page(30), world.mfns(0, 20))
    gmfns = np.array([HOLE if i % 7 == 3 else i % 64 for i in range(64)], dtype=np.uint64)
    rows = [MmapEntry(page(0), 0, 30), MmapEntry(page(30), 4, 34)]
    return world, {
        "mmapbatch": lambda: personality.mmapbatch(space, 1, BASE, gmfns),
        "mmap": lambda: personality.mmap(space, 1, rows[:1]),
        "mmap of two": lambda: personality.mmap(space, 1, rows),
    }


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("request_name", ["mmapbatch", "mmap"])
@pytest.mark.parametrize("slice_frames", [1, 7, 25])
def test_cancelling_at_any_pause_leaves_all_as_it_was(personality: str, request_name: str, slice_frames: int) -> None:
    """The client died in the middle: what the request took is given back, and nothing has changed.

    But for linux's MMAP: the driver marks a VMA as used before it looks at the first frame.
    """
    n_pauses = 0
    while True:
        world, requests = prepared(PERSONALITIES[personality], slice_frames)
        before = world.state()
        steps = requests[request_name]()
        try:
            for _ in range(n_pauses + 1):
                next(steps)
        except StopIteration:
            break
        steps.close()
        after = world.state()
        if personality == "linux" and request_name == "mmap":
            after["spaces"], before["spaces"] = [], []
        assert after == before
        world.check()
        n_pauses += 1
    assert n_pauses == (N_FRAMES[request_name] - 1) // slice_frames


@pytest.mark.parametrize("personality", PERSONALITIES)
def test_cancelling_mmap_gives_back_all_that_is_not_placed(personality: str) -> None:
    """Entries already placed stay, as when a later entry is bad; no reference of the others is left."""
    n_pauses = 0
    while True:
        world, requests = prepared(PERSONALITIES[personality], 7)
        steps = requests["mmap of two"]()
        try:
            for _ in range(n_pauses + 1):
                next(steps)
        except StopIteration:
            break
        steps.close()
        world.check()
        n_pauses += 1
    assert n_pauses == 8


@pytest.mark.parametrize("personality", PERSONALITIES)
@pytest.mark.parametrize("request_name", ["mmapbatch", "mmap"])
@pytest.mark.parametrize("slot", [Slot.ENTRIES, Slot.OBJECTS, Slot.FRAMES])
def test_running_out_at_any_charge_leaves_all_as_it_was(personality: str, request_name: str, slot: Slot) -> None:
    """With one unit more each time until it succeeds: refused with EDQUOT and unchanged, or done."""
    refused = 0
    world, requests = prepared(PERSONALITIES[personality], 16)
    before = world.state()
    for spare in range(100):
        world.account.relimit({**ROOMY, slot: world.account.used[slot] + spare})
        try:
            run(requests[request_name]())
        except ModelError as error:
            assert error.errno == errno.EDQUOT
            after = world.state()
            if personality == "linux" and request_name == "mmap":
                for entry in world.spaces[0].map:
                    entry.private_data = None
                after = world.state()
            assert after == before
            world.check()
            refused += 1
        else:
            break
    world.check()
    # The request swallows more entries than it adds; linux has no objects.
    n_objects = 0 if personality == "linux" else 1
    assert refused == {Slot.FRAMES: N_FRAMES[request_name], Slot.OBJECTS: n_objects, Slot.ENTRIES: 0}[slot]


@PROFILE.law
@given(
    st.sampled_from(["uvm-load", "linux"]),
    st.lists(st.integers(0, 70), min_size=1, max_size=40),
    st.integers(1, 41),
)
@example("uvm-load", [HOLE, 1, 2, 3, 4, 5], 2)
@example("linux", [1, HOLE, 2, 3, 4, 5], 2)
def test_slicing_does_not_change_an_answer(personality: str, gmfns: list[int], slice_frames: int) -> None:
    """However few frames are prepared between two pauses: the same answer and the same state."""
    answers = []
    for size in (slice_frames, 10_000):
        world = World()
        space = world.space(PERSONALITIES[personality], n_pages=len(gmfns), slice_frames=size)
        done = run(privcmd(space).mmapbatch(space, 1, BASE, np.array(gmfns, dtype=np.uint64)))
        world.check()
        answers.append((done.ret, [int(m) for m in done.mfns], errors_of(done), space_state(space)))

    assert answers[0] == answers[1]


@PROFILE.law
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 70), st.integers(0, 4)), max_size=6),
    st.sampled_from(["load", "scratch"]),
)
def test_merging_and_probing_do_not_change_an_answer(rows: list[tuple[int, int, int]], probe: str) -> None:
    """Any MMAP: the same answer, or the same errno at the same entry; and the same frames everywhere."""
    outcomes = []
    for personality in (Uvm("load"), Uvm(probe, merge=True)):
        world = World()
        space = world.space(personality, n_pages=22)
        syscalls.mprotect(space, page(9), 3 * PAGE_SIZE, PROT_READ)
        done: tuple[object, ...]
        try:
            answer = run(personality.mmap(space, 1, [MmapEntry(page(i), mfn, n) for i, mfn, n in rows]))
            done = (0, [int(mfn) for mfn in answer.mfns])
        except ModelError as error:
            done = (error.errno, error.details["entry"], error.text)
        world.check()
        protections = [e.protection for i in range(22) if (e := space.map.lookup(page(i)))]
        outcomes.append((done, seen(space, BASE, 22), protections))

    assert outcomes[0] == outcomes[1]


@PROFILE.law
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.sampled_from([0, -2, -22, -3])), min_size=1, max_size=30))
def test_nibbles_are_the_same_for_lists_and_arrays(rows: list[tuple[int, int]]) -> None:
    """Bits are or-ed into failed entries only, whatever was in them; a paged frame may have a nibble of its own."""
    gmfns = [name for name, _ in rows]
    errors = [error for _, error in rows]
    for paged in (0x8000_0000, FAILED):
        few = with_nibbles(gmfns, errors, paged)
        many = with_nibbles(np.array(gmfns, np.uint64), np.array(errors, np.int32), paged)

        assert list(few) == [int(name) for name in many]
        assert list(few) == [name | ({0: 0, -errno.ENOENT: paged}.get(error, 0xF000_0000)) for name, error in rows]
