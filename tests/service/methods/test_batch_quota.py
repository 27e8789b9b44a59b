# SPDX-License-Identifier: Apache-2.0
"""MMAP over the quota of requests under way is refused as over any other: at an entry, and the caller learns which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.desk import BASE, PAGE, Desk, Refused, finish, frames, settings, triples

if TYPE_CHECKING:
    from privcmdd.service.session import Session
    from support.desk import Steps


@pytest.fixture
def desk() -> Desk:
    """A uid may have one request under way; two frames are looked up in a step."""
    made = Desk(settings(batches=1))
    made.domain(made.connect(), dom=1, max_pages=64, ranges=[{"gfn": 0, "npages": 64}])
    return made


def busy(desk: Desk) -> Steps:
    """A request of the same uid that is under way."""
    session = desk.connect()
    desk.reserve(session, 30)
    steps = desk.start(session, "privcmd.mmapbatch", dom=1, addr=BASE, arr=frames(*range(30)))
    next(steps)
    return steps


def client(desk: Desk, personality: str) -> Session:
    """A client with a range of ten pages."""
    session = desk.connect()
    desk.call(session, "space.attach", personality=personality)
    desk.reserve(session, 10)
    return session


def mmap(desk: Desk, session: Session, *npages: int) -> Any:
    """MMAP of runs of frames one after the other."""
    ends = [sum(npages[: i + 1]) for i in range(len(npages))]
    entry = [{"va": BASE + (end - n) * PAGE, "mfn": end - n, "npages": n} for end, n in zip(ends, npages, strict=True)]
    return desk.call(session, "privcmd.mmap", dom=1, entry=entry, extents=True)


@pytest.mark.parametrize("personality", ["uvm", "linux"])
def test_the_entries_before_it_are_told(desk: Desk, personality: str) -> None:
    """The entry that would have to wait is the one that stops the call; those before it stay mapped, and are told."""
    session = client(desk, personality)
    other = busy(desk)
    with pytest.raises(Refused, match="EDQUOT") as refused:
        mmap(desk, session, 1, 9)
    details = refused.value.details
    assert (details["entry"], details["done"], details["slot"]) == (1, 1, "batches")
    assert triples(details["extents"]) == [(0, 0, 1)]
    assert desk.call(session, "fault", addr=BASE)["frame"] == 0
    finish(other)


@pytest.mark.parametrize("personality", ["uvm", "linux"])
def test_nothing_has_changed_when_it_is_the_first(desk: Desk, personality: str) -> None:
    """As if it had not been asked: the same call succeeds when the other one has ended."""
    session = client(desk, personality)
    other = busy(desk)
    before = desk.call(session, "maps")
    with pytest.raises(Refused, match="EDQUOT"):
        mmap(desk, session, 10)
    assert desk.call(session, "maps") == before
    finish(other)
    assert mmap(desk, session, 10)["done"] == 1


def test_a_thread_that_dies_in_its_first_entry_leaves_the_vma_fresh(desk: Desk) -> None:
    """Given up between two slices, it is as if it had not come: another thread can fill the VMA (linux)."""
    session, thread = client(desk, "linux"), desk.connect()
    assert session.residence is not None
    desk.call(thread, "space.attach", space=session.residence.space.number)
    before = desk.call(session, "maps")
    steps = desk.start(thread, "privcmd.mmap", dom=1, entry=[{"va": BASE, "mfn": 0, "npages": 10}])
    next(steps)
    steps.close()
    desk.broker.disconnect(thread)
    assert desk.call(session, "maps") == before
    assert mmap(desk, session, 10)["done"] == 1
