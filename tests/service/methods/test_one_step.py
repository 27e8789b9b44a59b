# SPDX-License-Identifier: Apache-2.0
"""What a request looks at while it waits for its turn, it looks at again: look and take are one step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.service.steps import Ticket
from support.desk import BASE, PAGE, Desk, Refused, finish, frames, result, settings

if TYPE_CHECKING:
    from privcmdd.service.reply import Reply
    from privcmdd.service.session import Session
    from support.desk import Steps

N_PAGES = 40
ELSEWHERE = BASE + (1 << 24)


def two_threads(desk: Desk) -> tuple[Session, Session]:
    """Two connections of one address space that has a mapping at ELSEWHERE; domain 1 is there."""
    one, other = desk.connect(), desk.connect()
    desk.domain(one, dom=1, max_pages=64, ranges=[{"gfn": 0, "npages": 64}])
    space = desk.call(one, "space.attach", personality="linux")["space"]
    desk.call(other, "space.attach", space=space)
    desk.reserve(one, N_PAGES, ELSEWHERE)
    return one, other


def holding(desk: Desk, session: Session) -> Steps:
    """A request that holds the turn."""
    steps = desk.start(session, "privcmd.mmapbatch", dom=1, addr=ELSEWHERE, arr=frames(*range(N_PAGES)))
    next(steps)
    return steps


def waiting(desk: Desk, session: Session, method: str, /, **params: Any) -> Steps:
    """A request that waits for its turn."""
    steps = desk.start(session, method, **params)
    assert isinstance(next(steps), Ticket)
    return steps


def test_shared_pages_that_have_others_numbers_now() -> None:
    """Law 5.4: pages that go while gntalloc.map waits are not mapped; those that have their numbers then are."""
    desk = Desk()
    maker, thread = two_threads(desk)
    friend = desk.connect()
    desk.call(maker, "mmap", addr=BASE, len=8 * PAGE, prot=3, fixed=True, file="gntdev")
    drop(desk.reply(maker, "gntalloc.alloc", dom=0, num=3))
    before = holding(desk, maker)
    asked = waiting(desk, thread, "gntalloc.map", refs=[9, 10], addr=BASE)
    desk.call(maker, "gntalloc.free", refs=[8, 9, 10])
    refs = [result(drop(desk.reply(friend, "gntalloc.alloc", dom=0, num=2)))["refs"] for _ in range(2)]
    assert refs == [[8, 9], [10, 11]]
    finish(before)

    assert result(drop(finish(asked))) == {"num": 1, "page": 1, "prot": 3}
    *_, sent = (key for what, key in desk.backing.done if what == "descriptor")
    assert sent == desk.broker.world.machine.shares.share(9).file


def drop(reply: Reply) -> Reply:
    """A reply whose descriptors are closed."""
    for fd in reply.fds:
        os.close(fd)
    return reply


def test_a_mapping_that_has_grown() -> None:
    """Law 5.4: MMAP is held to the limit of a request by the mapping that it meets, not by the one that was there."""
    desk = Desk(settings(frames_per_batch=N_PAGES))
    session, thread = two_threads(desk)
    desk.reserve(session, 10)
    before = holding(desk, session)
    growing = waiting(desk, session, "mmap", addr=BASE, len=2 * N_PAGES * PAGE, prot=3, fixed=True)
    asked = waiting(desk, thread, "privcmd.mmap", dom=1, entry=[{"va": BASE, "mfn": 0, "npages": 2 * N_PAGES}])
    finish(before)
    finish(growing)

    with pytest.raises(Refused, match="E2BIG"):
        result(finish(asked))
