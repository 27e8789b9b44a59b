# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: what a rule does to requests and frames, and that it does it to no others."""

from __future__ import annotations

from typing import Any

import pytest

from privcmdd.model.faults import Faults, Kind, Rule
from privcmdd.service.steps import Delay
from service.desk import BASE, ROOT, Desk, Refused, errnos, frames, settings

LONG = 30  # frames of a batch that is prepared in slices


def desk_with_domain(**limits: Any) -> Desk:
    """A broker with an HVM domain, number 1, and no rule yet."""
    desk = Desk(settings(**limits))
    desk.domain(desk.connect(ROOT), max_pages=64, dom=1)
    desk.broker.faults = Faults()
    return desk


def rules(desk: Desk) -> Faults:
    """The rules of a broker."""
    assert desk.broker.faults is not None
    return desk.broker.faults


def test_a_delay_is_a_pause_and_the_answer_is_as_ever() -> None:
    """Before the work or after it: the request asks its driver to wait, and nothing else is different."""
    for after in (False, True):
        desk = desk_with_domain()
        session = desk.connect()
        rules(desk).add(Rule(Kind.DELAY, 1500, method="mmap", after=after))

        steps = desk.start(session, "mmap", addr=BASE, len=4096, prot=3, fixed=True)

        assert next(steps) == Delay(1.5)
        assert (len(desk.call(session, "maps")["entries"]) == 1) is after
        with pytest.raises(StopIteration):
            next(steps)
        assert len(desk.call(session, "maps")["entries"]) == 1


def test_an_errno_comes_before_the_request_does_anything() -> None:
    """The old mapping stays whole; the sentence names the rule."""
    desk = desk_with_domain()
    session = desk.connect()
    desk.reserve(session, 2)
    desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2])
    before = desk.call(session, "maps")
    rule = rules(desk).add(Rule(Kind.ERRNO, 12, method="privcmd.", dom=1))

    with pytest.raises(Refused, match=f"ENOMEM: privcmd.mmapbatch_v2 fails on demand: rule {rule.id} ") as refused:
        desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[3, 4])

    assert refused.value.details == {"fault": rule.id}
    assert desk.call(session, "maps") == before
    assert (rule.n_seen, rule.n_fired) == (1, 1)


def test_a_dropped_request_has_no_answer_and_was_done_or_not() -> None:
    """The reply says nothing and ends the session; whether the work was done is the rule's choice."""
    for after in (False, True):
        desk = desk_with_domain()
        session, other = desk.connect(), desk.connect()
        rules(desk).add(Rule(Kind.DROP, method="domain.page_out", after=after))

        reply = desk.reply(session, "domain.page_out", dom=1, arr=[5])

        assert (reply.data, reply.close, reply.fault) == (b"", True, None)
        desk.broker.disconnect(session)
        assert desk.call(other, "domain.info", dom=1)["tot_pages"] == (63 if after else 64)


@pytest.mark.parametrize("personality", ["uvm", "linux"])
def test_a_failed_frame_fails_as_a_real_one(personality: str) -> None:
    """No page table entry, no reference, counted; touching it is EFAULT."""
    desk = desk_with_domain(slice_frames=7)
    session = desk.connect()
    desk.call(session, "space.attach", personality=personality)
    desk.reserve(session, LONG)
    rule = rules(desk).add(Rule(Kind.FRAME_ERRNO, 1, gfns=((4, 2), (20, 1))))

    done = desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(LONG)))

    assert [i for i, error in enumerate(errnos(done["err"])) if error == -1] == [4, 5, 20]
    assert done["n_failed"] == rule.n_fired == rule.n_seen == 3
    assert desk.call(session, "stats")["mappings"]["frames"] == LONG - 3
    rules(desk).clear(rule.id)
    with pytest.raises(Refused, match="EFAULT"):
        desk.call(session, "read", addr=BASE + 4 * 4096, len=1)
