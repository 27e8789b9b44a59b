# SPDX-License-Identifier: Apache-2.0
"""Jobs: connections of one uid that belong together, and what is made for them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from privcmdd.model.errors import ModelError
from support.desk import BASE, OTHER, ROOT, USER, Desk, Refused

if TYPE_CHECKING:
    from privcmdd.service.session import Session


def member(desk: Desk, name: str, uid: int = USER) -> Session:
    """A client that belongs to a job."""
    session = desk.connect(uid)
    desk.call(session, "hello", job=name, client="ci")
    return session


def jobs(desk: Desk, session: Session) -> list[tuple[int, str, int, list[int]]]:
    """The jobs that a client sees: uid, name, connections, domains."""
    rows = desk.call(session, "job.list")["jobs"]
    return [(row["uid"], row["job"], row["connections"], row["doms"]) for row in rows]


def doms(desk: Desk) -> list[int]:
    """The domains that there are."""
    return [row["dom"] for row in desk.call(desk.connect(ROOT), "domain.list")["domains"]]


def test_a_domain_ends_with_the_job_that_it_was_made_in() -> None:
    """It outlives the connection that made it, and is destroyed with the last connection of the job."""
    desk = Desk()
    one, two = member(desk, "ci-1"), member(desk, "ci-1")
    dom = desk.domain(one)
    desk.broker.disconnect(one)
    assert doms(desk) == [dom]
    assert jobs(desk, two) == [(USER, "ci-1", 1, [dom])]
    desk.broker.disconnect(two)
    assert doms(desk) == []
    assert jobs(desk, desk.connect(ROOT)) == []


def test_a_domain_that_was_made_in_no_job_stays() -> None:
    """It belongs to nobody, also where its maker's uid has jobs."""
    desk = Desk()
    job, loose = member(desk, "ci-1"), desk.connect()
    dom = desk.domain(loose)
    desk.broker.disconnect(loose)
    desk.broker.disconnect(job)
    assert doms(desk) == [dom]


def test_a_domain_of_a_job_that_others_map_is_dying() -> None:
    """It ends as by domain.destroy: whoever maps it keeps its frames until they are unmapped."""
    desk = Desk()
    job, other = member(desk, "ci-1"), desk.connect()
    dom = desk.domain(job)
    desk.reserve(other, 1)
    desk.call(other, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=[1])
    desk.broker.disconnect(job)
    assert desk.call(other, "domain.info", dom=dom)["state"] == "dying"
    desk.broker.disconnect(other)
    assert doms(desk) == []


def test_jobs_of_one_name_are_two_uids_own() -> None:
    """The end of one takes nothing from the other, and neither uid sees the other's."""
    desk = Desk()
    ours, theirs = member(desk, "ci"), member(desk, "ci", OTHER)
    dom = desk.domain(ours)
    assert jobs(desk, theirs) == [(OTHER, "ci", 1, [])]
    desk.broker.disconnect(theirs)
    assert doms(desk) == [dom]
    assert jobs(desk, ours) == [(USER, "ci", 1, [dom])]


def test_a_job_of_a_name_that_was_used_before_is_another_one() -> None:
    """It does not have the domains of the first one; those that still die are not destroyed a second time."""
    desk = Desk()
    first, holder = member(desk, "ci"), desk.connect()
    dom = desk.domain(first)
    desk.reserve(holder, 1)
    desk.call(holder, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=[1])
    desk.broker.disconnect(first)
    second = member(desk, "ci")
    assert jobs(desk, second) == [(USER, "ci", 1, [])]


def test_who_sees_which_jobs() -> None:
    """A member its own job; a connection in none those of its uid; who may administer all domains, all."""
    desk = Desk()
    one, _two, _three = member(desk, "a"), member(desk, "b"), member(desk, "c", OTHER)
    assert [name for _, name, _, _ in jobs(desk, one)] == ["a"]
    assert [name for _, name, _, _ in jobs(desk, desk.connect(OTHER))] == ["c"]
    assert [name for _, name, _, _ in jobs(desk, desk.connect(ROOT))] == ["a", "b", "c"]


def test_a_connection_belongs_to_one_job() -> None:
    """Its name may be said again; another name is EBUSY, and nothing changes."""
    desk = Desk()
    session = member(desk, "a")
    desk.call(session, "hello", job="a")
    desk.call(session, "hello")
    with pytest.raises(Refused, match="belongs to job 'a', asked for 'b'") as refused:
        desk.call(session, "hello", job="b")
    assert refused.value.errno == errno.EBUSY
    assert jobs(desk, session) == [(USER, "a", 1, [])]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "a\u202eb", "n" * 65])
def test_a_name_that_a_terminal_would_obey_is_refused(name: str) -> None:
    """Names are shown to people: they are printable, and short."""
    desk = Desk()
    with pytest.raises(Refused, match=r"job: .*printable") as refused:
        member(desk, name)
    assert refused.value.errno == errno.EINVAL


def test_whose_a_domain_is() -> None:
    """domain.info names the client, its job and the request that made it, since when, and until when it is there."""
    desk = Desk()
    session = member(desk, "ci")
    dom = desk.domain(session)
    desk.now_s += 90
    assert desk.call(session, "domain.info", dom=dom)["lease"] == {
        "uid": USER, "pid": 1, "client": "ci", "job": "ci", "connection": session.number, "method": "domain.create",
        "request": 2, "age_s": 90, "until": "job",
    }  # fmt: skip
    loose = desk.domain(desk.connect())
    assert desk.call(session, "domain.info", dom=loose)["lease"]["until"] == "destroyed"


def test_the_end_of_a_job_that_cannot_be_kept_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host cannot keep that a domain is destroyed, it is destroyed when it can: nothing of a job stays."""
    desk = Desk()
    session = member(desk, "ci")
    desk.domain(session)

    def full() -> None:
        raise ModelError(errno.ENOSPC, "no room")

    destroyed = []
    monkeypatch.setattr(desk.broker.world, "keep", full)
    monkeypatch.setattr("privcmdd.service.domain_files.lifecycle.destroy", lambda _, domid: destroyed.append(domid))
    desk.broker.disconnect(session)
    monkeypatch.undo()
    assert destroyed == [1]
    assert doms(desk) == [1]
    desk.now_s += 2
    assert doms(desk) == []
