# SPDX-License-Identifier: Apache-2.0
"""Descriptors that the broker keeps when a connection ends are paid for until they are closed (promise B6)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest

from support.desk import PAGE, USER, Desk, Refused, result, settings

if TYPE_CHECKING:
    from privcmdd.service.session import Session


def fds(desk: Desk) -> int:
    """How many descriptors the user pays for."""
    return desk.broker.world.usage().get(str(USER), {}).get("fds", 0)


def ask(desk: Desk, session: Session, method: str, **params: Any) -> Any:
    """The result of a request; the descriptors that come with it are closed."""
    reply = desk.reply(session, method, **params)
    for fd in reply.fds:
        os.close(fd)
    return result(reply)


def test_events_of_a_guests_port_are_paid_for_as_long_as_the_port() -> None:
    """Law: the uid that had them made pays, also when its connections have gone; with the guest the charge ends."""
    desk = Desk()
    session, admin = desk.connect(), desk.connect(uid=0)
    dom = desk.domain(admin)
    ask(desk, session, "evtchn.alloc_unbound", on=dom, remote=0)
    assert fds(desk) == 3

    desk.broker.disconnect(session)
    desk.broker.check()
    assert fds(desk) == 2

    desk.call(admin, "domain.destroy", dom=dom)
    desk.broker.check()
    assert str(USER) not in desk.broker.world.usage()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("evtchn.alloc_unbound", {"on": 1, "remote": 0}),
        ("gntalloc.alloc", {"dom": 1, "num": 1, "writable": True}),
        ("mmap", {"len": PAGE, "prot": 3, "file": "hypercall"}),
        ("space.buffers", {}),
    ],
)
def test_what_cannot_be_paid_for_is_refused_and_nothing_stays(method: str, params: dict[str, Any]) -> None:
    """Law: at the limit of descriptors each of these is EDQUOT, and changes nothing (B7)."""
    desk = Desk(settings(fds=1))
    session = desk.connect()
    desk.domain(session)
    files, raised = set(desk.backing.files), dict(desk.backing.raised)

    with pytest.raises(Refused) as refused:
        ask(desk, session, method, **params)

    assert refused.value.errno == errno.EDQUOT
    assert (set(desk.backing.files), desk.backing.raised) == (files, raised)
    assert fds(desk) == 1
    desk.broker.check()


def test_a_shared_page_is_paid_for_when_its_maker_has_gone() -> None:
    """Law: a file of shared pages that somebody else maps costs the uid that made it until it is let go."""
    desk = Desk()
    maker, mapper = desk.connect(), desk.connect(uid=0)
    dom = desk.domain(mapper)
    refs = ask(desk, maker, "gntalloc.alloc", dom=dom, num=1, writable=True)["refs"]
    ask(desk, mapper, "gntalloc.map", refs=refs, on=dom, addr=0)
    desk.broker.disconnect(maker)
    desk.broker.check()
    assert fds(desk) == 1

    desk.broker.disconnect(mapper)
    assert desk.broker.world.usage() == {}
