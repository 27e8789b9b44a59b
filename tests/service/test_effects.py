# SPDX-License-Identifier: Apache-2.0
"""What the model decides happens outside, once and in order; and a bug of the broker ends one session only."""

from __future__ import annotations

import fcntl
import os

import pytest

from privcmdd.service.methods.stats import counters
from privcmdd.service.settings import AccessRule
from support.desk import BASE, OTHER, PAGE, ROOT, USER, Desk, Refused, finish, frames, result, settings

LONG = 30  # frames of a batch that is prepared in slices


def desk_with_domain() -> Desk:
    """A broker with an HVM domain, number 1."""
    desk = Desk(settings(slice_frames=12))
    desk.domain(desk.connect(ROOT), max_pages=64, dom=1)
    desk.backing.done.clear()
    return desk


def test_a_dying_domains_pages_are_discarded_as_they_go() -> None:
    """Released pages at once; those still mapped when the last mapping goes, with the whole file."""
    desk = desk_with_domain()
    holder, root = desk.connect(), desk.connect(ROOT)
    desk.call(root, "subscribe", topics=["domain"])
    desk.reserve(holder, 2)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1, 2])
    desk.call(holder, "write", addr=BASE, data=b"secret")

    assert desk.call(root, "domain.destroy", dom=1) == {"state": "dying"}
    assert desk.backing.done == [("write", 1), ("discard", 1)]
    assert desk.call(holder, "read", addr=BASE, len=6)["data"] == b"secret"
    desk.call(holder, "munmap", addr=BASE, len=PAGE)
    assert desk.backing.done[2:] == [("read", 1), ("discard", 1)]
    desk.broker.disconnect(holder)

    assert desk.backing.done[4:] == [("close", 1)]
    assert [event.params for event in desk.events] == [[{"dom": 1, "state": "dying"}], [{"dom": 1, "state": "gone"}]]
    assert desk.backing.files == {}
    desk.broker.check()


def test_a_domain_that_nobody_holds_is_gone_at_once() -> None:
    """Its file is closed once and nothing is discarded before."""
    desk = desk_with_domain()
    root = desk.connect(ROOT)

    assert desk.call(root, "domain.destroy", dom=1) == {"state": "gone"}

    assert desk.backing.done == [("close", 1)]
    with pytest.raises(Refused, match="ESRCH"):
        desk.call(root, "domain.destroy", dom=1)
    assert desk.domain(root, dom=1) == 1


def test_ballooned_pages_are_discarded() -> None:
    """No guest, nor the same one later, sees what was there."""
    desk = desk_with_domain()
    holder = desk.connect()
    desk.reserve(holder, 1)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[5])
    desk.call(holder, "write", addr=BASE, data=b"old")
    desk.call(holder, "domain.decrease_reservation", dom=1, arr=[5])
    assert ("discard", 1) not in desk.backing.done
    desk.call(holder, "munmap", addr=BASE, len=PAGE)
    assert desk.backing.done[-1] == ("discard", 1)

    desk.call(holder, "domain.populate", dom=1, arr=[5])
    desk.reserve(holder, 1)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[5])

    assert desk.call(holder, "read", addr=BASE, len=3)["data"] == bytes(3)


def test_a_number_can_be_used_again_while_a_request_pauses() -> None:
    """A request that ends a domain and then pauses: the old file goes before a new one of that number is made."""
    desk = desk_with_domain()
    root, holder = desk.connect(ROOT), desk.connect()
    desk.domain(root, dom=2, max_pages=64)
    desk.reserve(holder, 1 + LONG)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[5])
    desk.call(root, "domain.destroy", dom=1)
    rows = [{"va": BASE, "mfn": 3, "npages": 1}, {"va": BASE + PAGE, "mfn": 0, "npages": LONG}]
    steps = desk.start(holder, "privcmd.mmap", dom=2, entry=rows)
    next(steps)

    desk.domain(root, dom=1)
    assert result(finish(steps))["done"] == 2

    assert [step for step in desk.backing.done if step[0] in ("create", "close")] == [
        ("create", 2),
        ("close", 1),
        ("create", 1),
    ]
    assert set(desk.backing.files) == {1, 2}
    desk.broker.check()


def test_only_those_with_a_right_are_told() -> None:
    """Of domains that one may not see one is not told either; without a subscription nobody is."""
    rules = [AccessRule("admin", uids=(ROOT,)), AccessRule("read", uids=(USER,), domains=(2,))]
    desk = Desk(settings(access=rules))
    root, user, other, silent = (desk.connect(uid) for uid in (ROOT, USER, OTHER, ROOT))
    for session in (root, user, other):
        assert desk.call(session, "subscribe", topics=["domain"]) == {"topics": ["domain"]}
    for domid in (1, 2):
        desk.domain(root, dom=domid)
    desk.call(root, "domain.destroy", dom=2)

    told = {
        s.number: [(e.params[0]["dom"], e.params[0]["state"]) for e in desk.events if e.session == s.number]
        for s in (root, user, other, silent)
    }

    two = [(2, "paused"), (2, "dying"), (2, "gone")]
    assert told == {root.number: [(1, "paused"), *two], user.number: two, other.number: [], silent.number: []}


def test_a_file_that_cannot_be_made_leaves_no_domain() -> None:
    """And a domain that cannot be made leaves no file."""
    desk = Desk()
    root = desk.connect(ROOT)
    desk.backing.broken = OSError(24, "no descriptors left")
    assert desk.reply(root, "domain.create", kind="hvm", max_pages=4).close
    assert desk.call(root, "domain.list") == {"domains": []}

    for asked in ({"max_pages": 4, "ranges": [{"gfn": 0, "npages": 5}]}, {"max_pages": 4096}):
        with pytest.raises(Refused, match="ENOMEM"):
            desk.call(root, "domain.create", kind="hvm", **asked)
    assert desk.backing.files == {}
    desk.broker.check()


def test_an_internal_fault_ends_one_session_and_the_broker_goes_on() -> None:
    """EIO, ``close``, the exception for the log; the others notice nothing."""
    desk = desk_with_domain()
    unlucky, lucky = desk.connect(), desk.connect()
    for session in (unlucky, lucky):
        desk.reserve(session, 1)
        desk.call(session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1])
    desk.backing.broken = RuntimeError("the disk is on fire")

    reply = desk.reply(unlucky, "read", addr=BASE, len=1)

    assert reply.close
    assert repr(reply.incident) == "RuntimeError('the disk is on fire')"
    with pytest.raises(Refused, match="EIO") as refused:
        result(reply)
    assert "fire" not in refused.value.text
    desk.broker.disconnect(unlucky)
    assert desk.call(lucky, "read", addr=BASE, len=1) == {"data": b"\0"}
    stats = counters(desk.broker.world)
    assert stats["broker"]["faults"] == 1
    assert stats["mappings"]["frames"] == 1
    desk.broker.check()


@pytest.mark.parametrize("refused", [False, True])
def test_a_discard_that_fails_does_not_lose_what_comes_after_it(refused: bool) -> None:
    """The session that caused it ends with EIO, refused or not; the other effects are carried out all the same."""
    desk = desk_with_domain()
    root, holder = desk.connect(ROOT), desk.connect()
    desk.domain(root, dom=2)
    desk.call(root, "subscribe", topics=["domain"])
    desk.reserve(holder, 2)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1])
    desk.call(holder, "privcmd.mmapbatch_v2", dom=2, addr=BASE + PAGE, arr=[1])
    desk.call(root, "domain.decrease_reservation", dom=1, arr=[1])
    desk.call(root, "domain.destroy", dom=2)
    desk.events.clear()
    desk.backing.broken = OSError(5, "no hole today")

    bad = [{"va": BASE, "mfn": 5, "npages": 1}, {"va": BASE + PAGE, "mfn": 5, "npages": 1}]
    if refused:
        bad.append({"va": BASE, "mfn": 4000, "npages": 1})
    reply = desk.reply(holder, "privcmd.mmap", dom=1, entry=bad)

    assert reply.close
    assert isinstance(reply.incident, OSError)
    assert [event.params for event in desk.events] == [[{"dom": 2, "state": "gone"}]]
    assert set(desk.backing.files) == {1}
    desk.broker.check()


def test_a_discard_that_fails_when_a_client_goes_hurts_nobody_else() -> None:
    """Everything is given back, it is counted as a fault, and the broker goes on."""
    desk = desk_with_domain()
    holder = desk.connect()
    desk.reserve(holder, 1)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[1])
    desk.call(holder, "domain.decrease_reservation", dom=1, arr=[1])
    desk.backing.broken = OSError(5, "no hole today")

    desk.broker.disconnect(holder)

    assert counters(desk.broker.world)["broker"]["faults"] == 1
    assert counters(desk.broker.world)["mappings"]["frames"] == 0
    desk.broker.check()


def test_a_request_that_is_given_up_still_carries_out_what_it_did() -> None:
    """A client dies between two entries: what the first one freed outside is freed."""
    desk = desk_with_domain()
    root, holder = desk.connect(ROOT), desk.connect()
    desk.domain(root, dom=2)
    desk.reserve(holder, 1 + LONG)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[5])
    desk.call(root, "domain.destroy", dom=1)
    rows = [{"va": BASE, "mfn": 3, "npages": 1}, {"va": BASE + PAGE, "mfn": 0, "npages": LONG}]
    steps = desk.start(holder, "privcmd.mmap", dom=2, entry=rows)
    next(steps)

    steps.close()

    assert set(desk.backing.files) == {2}
    desk.broker.disconnect(holder)
    desk.broker.check()


def test_a_descriptor_is_not_lost_when_a_law_is_broken() -> None:
    """It is opened last: where there is no answer there is none."""
    desk = desk_with_domain()
    session = desk.connect()
    desk.reserve(session, 1)
    assert session.residence is not None
    session.residence.space.n_wired += 1

    reply = desk.reply(session, "domain.memory", dom=1)

    assert reply.close
    assert reply.fds == ()
    session.residence.space.n_wired -= 1


def test_an_address_space_that_keeps_something_at_its_end_is_noticed() -> None:
    """Law 7 is checked when the last thread goes; the breach is counted, and nobody else is hurt by it."""
    desk = desk_with_domain()
    session, other = desk.connect(), desk.connect()
    desk.reserve(session, 1)
    assert session.residence is not None
    session.residence.space.n_wired += 1

    desk.broker.disconnect(session)

    assert desk.broker.world.n_incidents == 1
    assert session.number not in desk.broker.world.sessions
    assert desk.call(other, "ping")
    desk.broker.check()


def test_memory_comes_as_a_descriptor() -> None:
    """One that the receiver of the reply owns; read-only unless asked for; the size in bytes beside it."""
    desk = desk_with_domain()
    session = desk.connect()
    for write, mode in ((False, os.O_RDONLY), (True, os.O_RDWR)):
        reply = desk.reply(session, "domain.memory", dom=1, write=write)
        (fd,) = reply.fds
        opened = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        os.close(fd)
        assert result(reply)["size_bytes"] == desk.broker.world.machine.domain(1).file.n_pages * PAGE
        assert opened == mode
    with pytest.raises(Refused, match="ESRCH"):
        desk.call(session, "domain.memory", dom=9)


def test_paging_and_ballooning_answer_in_order() -> None:
    """``done`` counts up to the first that cannot be; ``err`` is nil when nothing failed."""
    desk = desk_with_domain()
    root = desk.connect(ROOT)
    pv = desk.domain(root, "pv", dom=2, max_pages=4, ranges=[{"gfn": 0, "npages": 2}])

    assert desk.call(root, "domain.page_out", dom=1, arr=[1, 2]) == {"n_failed": 0, "err": None}
    assert desk.call(root, "domain.page_out", dom=1, arr=[2, 3]) == {"n_failed": 1, "err": [-22, 0]}
    assert desk.call(root, "domain.page_in", dom=1, arr=frames(1, 9))["err"] == (0).to_bytes(4, "little") + (
        -22
    ).to_bytes(4, "little", signed=True)
    taken = desk.call(root, "domain.decrease_reservation", dom=1, arr=[4, 5, 4])
    assert (taken["done"], "0x4 is not populated" in taken["why"]) == (2, True)
    assert desk.call(root, "domain.populate", dom=1, arr=[4, 5]) == {"done": 2, "why": None, "frames": None}
    made = desk.call(root, "domain.populate", dom=pv, arr=[2, 3, 0])
    assert made["done"] == 2
    info = desk.call(root, "domain.info", dom=pv, num=4)
    assert info["frames"][16:] == made["frames"]
    assert (info["held_pages"], info["gfn_limit"], info["tot_pages"]) == (4, 4, 4)
    row = desk.call(root, "domain.info", dom=1)
    assert "frames" not in row
    assert [row[key] for key in ("kind", "state", "name", "max_pages", "held_pages")] == ["hvm", "paused", "", 64, 64]
    with pytest.raises(Refused, match="ENODEV"):
        desk.call(root, "domain.page_out", dom=pv, arr=[1])
    with pytest.raises(Refused, match="ESRCH"):
        desk.call(root, "domain.info", dom=9)
