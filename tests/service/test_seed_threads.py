# SPDX-License-Identifier: Apache-2.0
"""What the seed discusses, point by point: threads. Requests are driven by hand, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.ledger import Slot
from privcmdd.service.methods.stats import counters
from privcmdd.service.steps import Ticket
from support.desk import BASE, PAGE, Desk, Refused, finish, frames, result, settings
from support.profiles import PROFILE

if TYPE_CHECKING:
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from support.desk import Steps

N = 30  # more than FEW, so that there are slices
OLD, NEW, NEWER = range(N), range(40, 40 + N), range(80, 80 + N)


class Threads:
    """Three connections that are threads of one address space, with frames ``OLD`` mapped at ``BASE``."""

    def __init__(self, desk: Desk, domid: int, personality: str = "uvm", **attach: Any) -> None:
        self.desk = desk
        self.domid = domid
        self.one, self.two, self.looker = (desk.connect() for _ in range(3))
        space = desk.call(self.one, "space.attach", personality=personality, **attach)["space"]
        for other in (self.two, self.looker):
            desk.call(other, "space.attach", space=space)
        desk.reserve(self.one, N)
        if personality == "uvm":
            desk.call(self.one, "privcmd.mmapbatch_v2", dom=domid, addr=BASE, arr=frames(*OLD))

    def replace(self, thread: Session, names: range) -> Steps:
        """Begin to replace the range."""
        return self.desk.start(thread, "privcmd.mmapbatch_v2", dom=self.domid, addr=BASE, arr=frames(*names))

    def look(self) -> list[int | None]:
        """What every page of the range shows to a third thread, at this very moment."""
        shown: list[int | None] = []
        for index in range(N):
            try:
                shown.append(self.desk.call(self.looker, "fault", addr=BASE + index * PAGE)["frame"])
            except Refused as refused:
                assert refused.name == "EFAULT"
                shown.append(None)
        return shown


def turns(pauses: list[Pause]) -> list[bool]:
    """Whose turn has come, of those that wait."""
    return [isinstance(pause, Ticket) and pause.granted for pause in pauses]


@pytest.fixture
def desk() -> Desk:
    """A broker with one HVM domain, number 1."""
    made = Desk()
    made.domain(made.connect(), max_pages=128)
    return made


def test_callers_are_serialised_by_the_broker(desk: Desk) -> None:
    """Callers need not be serialised and bug-free: the second waits for the first, the third for the second."""
    threads = Threads(desk, 1)
    first = threads.replace(threads.one, NEW)
    assert next(first) is None
    second = threads.replace(threads.two, NEWER)
    tickets = [next(second)]
    third = desk.start(threads.looker, "munmap", addr=BASE, len=PAGE)
    tickets.append(next(third))
    assert turns(tickets) == [False, False]

    finish(first)

    assert turns(tickets) == [True, False]
    assert threads.look() == list(NEW)
    finish(second)
    assert turns(tickets) == [True, True]
    finish(third)
    assert threads.look() == [None, *NEWER[1:]]


@pytest.mark.parametrize("attach", [{}, {"probe": "scratch"}, {"merge": True}], ids=str)
def test_nothing_visible_is_ever_incomplete(desk: Desk, attach: dict[str, Any]) -> None:
    """The object is set up before it is mapped: until the call is done everybody sees all the old, then all the new."""
    threads = Threads(desk, 1, **attach)
    maps = desk.call(threads.looker, "maps")
    entry = [{"va": BASE + i * PAGE, "mfn": NEW[i], "npages": N // 2} for i in (0, N // 2)]
    merged = desk.start(threads.one, "privcmd.mmap", dom=1, entry=entry)
    steps = merged if attach.get("merge") else threads.replace(threads.one, NEW)

    n_pauses = 0
    for pause in steps:
        assert pause is None
        assert threads.look() == list(OLD)
        assert desk.call(threads.looker, "maps") == maps
        assert desk.call(threads.looker, "stats")["space"]["objects"]["alive"] == 1
        n_pauses += 1

    assert n_pauses == 14
    assert threads.look() == list(NEW)


def test_nobody_gets_the_va_between_unmap_and_map(desk: Desk) -> None:
    """While a range is replaced another thread's mmap that would like it waits, and then finds it taken."""
    threads = Threads(desk, 1)
    first = threads.replace(threads.one, NEW)
    next(first)
    other = desk.start(threads.two, "mmap", addr=BASE, len=PAGE, prot=3)
    waiting = next(other)
    assert waiting is not None

    finish(first)

    assert result(finish(other))["addr"] != BASE
    assert threads.look() == list(NEW)


def test_holes_are_refused_and_parts_of_entries_are_not(desk: Desk) -> None:
    """Arbitrary existing ranges can be replaced; one with a hole in it is EINVAL and stays."""
    threads = Threads(desk, 1)
    desk.call(threads.one, "munmap", addr=BASE + 5 * PAGE, len=PAGE)

    with pytest.raises(Refused, match="EINVAL"):
        result(finish(threads.replace(threads.one, NEW)))

    assert threads.look() == [*OLD[:5], None, *OLD[6:]]
    desk.call(threads.two, "privcmd.mmapbatch", dom=1, addr=BASE + PAGE, arr=[50, 51])
    assert threads.look() == [0, 50, 51, 3, 4, None, *OLD[6:]]


@PROFILE.law
@given(
    schedule=st.lists(st.sampled_from(["one", "two", "close one", "close two"]), min_size=1, max_size=14),
    personality=st.sampled_from(["uvm", "linux"]),
    scratch=st.booleans(),
)
def test_a_range_is_seen_all_old_or_all_new(schedule: list[str], personality: str, scratch: bool) -> None:
    """Whatever the order in which two threads run and die: a third never sees a hole that was not there, nor a mix."""
    desk = Desk(settings(paranoid=False, slice_frames=12))
    domid = desk.domain(desk.connect(), max_pages=128)
    threads = Threads(desk, domid, personality, probe="scratch" if scratch else "load")
    nothing = [None] * N
    whole = [nothing, list(NEW), list(NEWER)] if personality == "linux" else [list(OLD), list(NEW), list(NEWER)]
    running = {
        "one": threads.replace(threads.one, NEW),
        "two": threads.replace(threads.two, NEWER),
    }
    waiting: dict[str, Any] = {}
    for move in schedule:
        name = move.split()[-1]
        if name not in running:
            continue
        if move.startswith("close"):
            running.pop(name).close()
        elif name not in waiting or waiting[name] is None or waiting[name].granted:
            try:
                waiting[name] = next(running[name])
            except StopIteration:
                del running[name]
        assert threads.look() in whole
        desk.broker.check()
    for steps in running.values():
        steps.close()
    assert threads.look() in whole
    desk.broker.check()
    for thread in (threads.one, threads.two, threads.looker):
        desk.broker.disconnect(thread)
    desk.broker.check()
    assert counters(desk.broker.world)["mappings"]["frames"] == 0


def test_a_fault_beside_a_replacement_does_not_touch_what_it_has_paid_for() -> None:
    """A page entered by a fault while another thread prepares is paid for on top, and the commit cannot fail."""
    desk = Desk(settings(frames=N + N + 1, slice_frames=12))
    desk.domain(desk.connect(), max_pages=128)
    threads = Threads(desk, 1)
    for prot in (0, 3):  # page table entries of the first page go away
        desk.call(threads.one, "mprotect", addr=BASE, len=PAGE, prot=prot)
    steps = threads.replace(threads.one, NEW)
    next(steps)
    greedy = desk.connect()
    desk.reserve(greedy, 4)

    assert desk.call(threads.looker, "fault", addr=BASE)["entered"]
    with pytest.raises(Refused, match="EDQUOT"):
        desk.call(greedy, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2, 3, 4])

    assert result(finish(steps))["n_failed"] == 0
    assert threads.look() == list(NEW)
    desk.broker.check()


def test_a_fault_beside_a_replacement_over_quota_changes_nothing() -> None:
    """The replacement keeps what it has reserved; the fault is refused and can be tried again."""
    desk = Desk(settings(frames=N - 1 + N))
    desk.domain(desk.connect(), max_pages=128)
    threads = Threads(desk, 1)
    for prot in (0, 3):
        desk.call(threads.one, "mprotect", addr=BASE, len=PAGE, prot=prot)
    steps = threads.replace(threads.one, NEW)
    next(steps)
    paid = threads.one.uid_account.used[Slot.FRAMES]

    with pytest.raises(Refused, match="EDQUOT"):
        desk.call(threads.looker, "fault", addr=BASE)

    assert threads.one.uid_account.used[Slot.FRAMES] == paid
    assert result(finish(steps))["n_failed"] == 0
    desk.broker.check()


def test_a_breach_of_a_law_ends_the_session_and_not_the_broker(desk: Desk) -> None:
    """What was an assertion in the seed: the session that met it ends with EIO, the broker goes on."""
    threads = Threads(desk, 1)
    residence = threads.one.residence
    assert residence is not None
    residence.space.n_wired += 1

    reply = desk.reply(threads.one, "ping")

    assert reply.close
    assert "4 page tables" in str(reply.incident)
    with pytest.raises(Refused, match="EIO"):
        result(reply)
    residence.space.n_wired -= 1
    desk.broker.disconnect(threads.one)
    assert desk.call(threads.two, "ping") == {"instance": "instance-1"}
