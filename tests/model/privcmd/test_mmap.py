# SPDX-License-Identifier: Apache-2.0
"""MMAP: a run of frames is what its frames are one by one, up to the first that cannot be mapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import memory, paging, pod
from privcmdd.model.machine.domain import PAGED, POD
from privcmdd.model.machine.effects import FrameWanted
from privcmdd.model.machine.records import Pager
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry
from privcmdd.model.privcmd.uvm import Uvm
from support.profiles import PROFILE
from support.small_machine import BASE, World, page, privcmd, run, seen

if TYPE_CHECKING:
    from privcmdd.model.privcmd.personality import Personality

PERSONALITIES: list[Personality] = [Linux(), Uvm("load"), Uvm("scratch"), Uvm("load", merge=True)]
THERE, WAITS, PAGED_OUT, ABSENT = "twpa"
KINDS = [PAGED_OUT, THERE, WAITS]


def asked(
    personality: Personality, frames: str, n_cached: int, entries: list[MmapEntry], slice_frames: int
) -> tuple[object, ...]:
    """What an MMAP of frames 0, 1, ... leaves behind: its errno, the guest's memory, who is told, what is mapped."""
    world = World()
    wait, out, absent = ([i for i, frame in enumerate(frames) if frame == kind] for kind in (WAITS, PAGED_OUT, ABSENT))
    memory.decrease_reservation(world.machine, 1, wait + absent)
    pod.mark_populate_on_demand(world.machine, 1, wait)
    pod.set_target(world.machine, 1, world.hvm.tot_pages + n_cached)
    paging.page_out(world.machine, 1, out)
    world.hvm.pager = Pager(0)
    world.machine.take_effects()
    space = world.space(personality, n_pages=len(frames), slice_frames=slice_frames)
    error = 0
    try:
        run(privcmd(space).mmap(space, 1, entries))
    except ModelError as refused:
        error = refused.errno
    world.check()
    wanted = [effect.gfn for effect in world.machine.take_effects() if isinstance(effect, FrameWanted)]
    kinds = np.select([world.hvm.p2m >= PAGED, world.hvm.p2m > POD, world.hvm.p2m == POD], KINDS, ABSENT).tolist()
    mapped = seen(space, BASE, len(frames)) if personality.name == "linux" else None
    return error, kinds, world.hvm.n_cached, world.hvm.tot_pages, world.hvm.shutdown, wanted, mapped


@PROFILE.law
@given(
    personality=st.sampled_from(PERSONALITIES),
    frames=st.text(f"{THERE}{THERE}{THERE}{WAITS}{WAITS}{PAGED_OUT}{ABSENT}", min_size=1, max_size=40),
    n_cached=st.integers(0, 6),
    slice_frames=st.sampled_from([1, 3, 8, 64]),
)
def test_a_run_is_what_its_frames_are_one_by_one(
    personality: Personality, frames: str, n_cached: int, slice_frames: int
) -> None:
    """Law: one entry of n pages and n entries of one page stop at the same frame, and touch nothing behind it."""
    whole = [MmapEntry(BASE, 0, len(frames))]
    singly = [MmapEntry(page(i), i, 1) for i in range(len(frames))]

    assert asked(personality, frames, n_cached, whole, slice_frames) == asked(
        personality, frames, n_cached, singly, slice_frames
    )


@pytest.mark.parametrize("personality", PERSONALITIES, ids=["linux", "load", "scratch", "merge"])
@pytest.mark.parametrize("slice_frames", [8, 64])
@pytest.mark.parametrize(
    ("frames", "n_cached", "error", "n_left", "wanted"),
    [
        ("twawptttttttttttttw", 3, errno.EINVAL, 2, []),  # an absent frame is the first
        ("twpwptttttttttttttw", 3, errno.ENOENT, 2, [2]),  # one that is paged out
        ("twwaptttttttttttttp", 1, errno.EINVAL, 0, []),  # one for which the cache has no frame
    ],
)
def test_frames_behind_the_first_bad_one_are_left_alone(
    personality: Personality,
    slice_frames: int,
    frames: str,
    n_cached: int,
    error: int,
    n_left: int,
    wanted: list[int],
) -> None:
    """Law: they are not populated, and no pager is told of them (do_mmu_update stops at the first that fails)."""
    found = asked(personality, frames, n_cached, [MmapEntry(BASE, 0, len(frames))], slice_frames)

    assert (found[0], found[2], found[5]) == (error, n_left, wanted)
