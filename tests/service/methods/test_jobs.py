# SPDX-License-Identifier: Apache-2.0
"""Jobs: connections of one uid that belong together, and what is made for them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.service.settings import AccessRule
from support.desk import BASE, OTHER, ROOT, USER, Desk, Refused, settings
from support.keeping import MemoryStore, after_crash

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


def test_a_domain_of_a_job_that_keeps_its_domains_stays() -> None:
    """Who makes the job says so; who joins it later changes nothing."""
    desk = Desk()
    maker, other = desk.connect(), desk.connect()
    desk.call(maker, "hello", job="restore", keep=True)
    desk.call(other, "hello", job="restore", keep=False)
    made = [desk.domain(maker), desk.domain(other)]
    desk.broker.disconnect(maker)
    desk.broker.disconnect(other)
    assert doms(desk) == made


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


def test_a_job_that_is_led_ends_with_its_leader() -> None:
    """However many others belong to it: these are closed. Who joins a job that is there does not lead it."""
    desk = Desk()
    leader, other = desk.connect(), desk.connect()
    for session in (leader, other):
        desk.call(session, "hello", job="ci", leads=True)
    dom, third = desk.domain(other), member(desk, "ci")
    desk.broker.disconnect(other)
    assert (doms(desk), desk.evicted) == ([dom], [])
    desk.broker.disconnect(leader)
    assert (doms(desk), jobs(desk, desk.connect(ROOT))) == ([], [])
    assert [session for session, _ in desk.evicted] == [third]


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


def test_what_a_job_uses_is_told() -> None:
    """Requests of all its connections, its address spaces and the frames that these have mapped; nothing of others'."""
    desk = Desk()
    one, two, loose = member(desk, "a"), member(desk, "b"), desk.connect()
    dom = desk.domain(loose)
    for session, n in ((one, 3), (loose, 5)):
        desk.reserve(session, n)
        desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=[*range(n)])

    rows = desk.call(desk.connect(ROOT), "job.list")["jobs"]
    told = [(row["job"], row["requests"], row["spaces"], row["frames"]) for row in rows]
    assert told == [("a", 3, 1, 3), ("b", 1, 0, 0)]
    desk.broker.disconnect(two)


def test_whose_a_domain_is() -> None:
    """domain.info names the client, its job and the request that made it, since when, and until when it is there."""
    desk = Desk()
    session = member(desk, "ci")
    dom = desk.domain(session)
    desk.now_s += 90
    assert desk.call(session, "domain.info", dom=dom)["lease"] == {
        "uid": USER, "pid": 1, "client": "ci", "job": "ci", "connection": session.number, "method": "domain.create",
        "request": 2, "age_s": 90, "until": "job", "ttl_s": None,
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


def test_a_domain_may_belong_to_a_connection() -> None:
    """It goes with the connection that made it, in a job and in none."""
    desk = Desk()
    member_of, loose, other = member(desk, "ci"), desk.connect(), member(desk, "ci")
    made = [desk.domain(one, until="connection") for one in (member_of, loose)]
    desk.broker.disconnect(member_of)
    assert doms(desk) == made[1:]
    desk.broker.disconnect(loose)
    assert doms(desk) == []
    assert jobs(desk, other) == [(USER, "ci", 1, [])]


def test_a_domain_of_a_job_may_stay() -> None:
    """With until=destroyed it outlives the job; until=job without a job is EINVAL, and makes nothing."""
    desk = Desk()
    session = member(desk, "ci")
    dom = desk.domain(session, until="destroyed")
    desk.broker.disconnect(session)
    assert doms(desk) == [dom]
    with pytest.raises(Refused, match="belongs to none") as refused:
        desk.domain(desk.connect(), until="job")
    assert (refused.value.errno, doms(desk)) == (errno.EINVAL, [dom])


def test_a_domain_may_have_a_time_to_live() -> None:
    """It is destroyed when its time has passed, or with its job before, whoever joins that; what is left is told."""
    desk = Desk()
    job, loose = member(desk, "ci"), desk.connect()
    first, second, third = desk.domain(job, ttl_s=10), desk.domain(loose, ttl_s=20), desk.domain(job, ttl_s=99)
    desk.now_s += 9.5
    desk.broker.disconnect(member(desk, "ci"))
    assert desk.call(loose, "domain.info", dom=first)["lease"]["ttl_s"] == 1
    desk.now_s += 0.5
    assert doms(desk) == [second, third]
    desk.broker.disconnect(job)
    assert doms(desk) == [second]
    desk.now_s += 10
    assert doms(desk) == []


def test_a_lease_that_is_over_needs_no_request() -> None:
    """Without any request the broker destroys the domain, and gives all of it back."""
    desk = Desk()
    session = desk.connect()
    desk.domain(session, ttl_s=10)
    free = desk.broker.world.machine.frames.n_free
    desk.now_s += 10
    for _ in desk.broker.expire():
        pass
    assert not desk.broker.world.machine.domains
    assert desk.broker.world.machine.frames.n_free == free + 64


def test_a_host_that_fails_at_the_end_of_a_lease_keeps_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is raised when all of every domain is given back, and the broker goes on."""
    desk = Desk()
    session = desk.connect()
    free = desk.broker.world.machine.frames.n_free
    for _ in range(2):
        desk.domain(session, ttl_s=10)
    desk.now_s += 10

    def refuse(_key: object) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(desk.broker.world.backing, "close", refuse)
    with pytest.raises(OSError, match="the disk is gone"):
        for _ in desk.broker.expire():
            pass
    assert desk.broker.world.machine.frames.n_free == free
    assert doms(desk) == []


def test_a_time_to_live_outlives_the_broker() -> None:
    """It goes on where it was."""
    store = MemoryStore()
    desk = Desk(store=store)
    dom = desk.domain(desk.connect(), ttl_s=100)
    after = after_crash(desk, store)
    after.now_s = 60
    root = after.connect(ROOT)
    assert after.call(root, "domain.info", dom=dom)["lease"]["ttl_s"] == 40
    after.now_s = 100
    assert doms(after) == []


def test_what_is_evicted_ends() -> None:
    """A connection; a job with its domains; all that a uid has connected: each closed, the caller's own left out."""
    desk = Desk()
    root, loose, (one, two) = desk.connect(ROOT), desk.connect(), (member(desk, "a"), member(desk, "b"))
    stays, first, second = desk.domain(loose), desk.domain(one), desk.domain(two)

    assert desk.call(root, "evict", connection=loose.number) == {"connections": 1, "jobs": 0, "doms": []}
    assert [session for session, _ in desk.evicted] == [loose]
    assert desk.evicted.pop()[1] == "process 1 of uid 0 has evicted it"
    desk.broker.disconnect(loose)
    assert desk.call(root, "evict", job="a", uid=USER) == {"connections": 1, "jobs": 1, "doms": [first]}
    assert (doms(desk), [session for session, _ in desk.evicted]) == ([stays, second], [one])
    desk.broker.disconnect(one)
    assert desk.call(two, "evict", job="b") == {"connections": 0, "jobs": 1, "doms": [second]}
    assert desk.call(root, "evict", uid=USER) == {"connections": 1, "jobs": 0, "doms": []}
    assert doms(desk) == [stays]
    desk.broker.check()


def test_a_job_whose_name_comes_again_while_it_is_evicted_is_another_one() -> None:
    """Connections of the evicted job that have not ended yet take nothing from it."""
    desk = Desk()
    root, old = desk.connect(ROOT), member(desk, "ci")
    desk.call(root, "evict", job="ci", uid=USER)
    new = member(desk, "ci")
    dom = desk.domain(new)
    desk.broker.disconnect(old)
    assert (doms(desk), jobs(desk, new)) == ([dom], [(USER, "ci", 1, [dom])])


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"uid": OTHER}, "EPERM"),
        ({"job": "theirs", "uid": OTHER}, "EPERM"),
        ({"job": "none such", "uid": OTHER}, "EPERM"),
        ({"job": "none such"}, "ESRCH"),
        ({"connection": 99}, "ESRCH"),
        ({}, "EINVAL"),
        ({"connection": 1, "uid": USER}, "EINVAL"),
        ({"job": "ours"}, None),
        ({"uid": USER}, None),
    ],
    ids=str,
)
def test_who_may_evict_whom(params: dict[str, Any], name: str | None) -> None:
    """One's own uid's; who may administer all domains, anybody's. A refusal ends nothing."""
    desk = Desk(settings(access=(AccessRule("admin", uids=(ROOT,)),)))
    user = desk.connect()
    theirs = member(desk, "theirs", OTHER)
    member(desk, "ours")
    if name is None:
        assert desk.call(user, "evict", **params)["connections"] == 1
        return
    with pytest.raises(Refused) as refused:
        desk.call(user, "evict", **params)
    assert refused.value.name == name
    with pytest.raises(Refused, match="administer all domains"):
        desk.call(user, "evict", connection=theirs.number)
    assert desk.evicted == []


def test_a_job_evicts_itself_alone() -> None:
    """Who belongs to a job may end what belongs to it, and nothing else, whatever its rights."""
    desk = Desk()
    one, two, other, loose = member(desk, "a"), member(desk, "a"), member(desk, "b"), desk.connect()
    for params in ({"job": "b"}, {"connection": other.number}, {"connection": loose.number}, {"uid": USER}):
        with pytest.raises(Refused, match="belongs to job 'a'") as refused:
            desk.call(one, "evict", **params)
        assert refused.value.name == "EPERM"
    assert desk.call(one, "evict", connection=two.number)["connections"] == 1
    assert desk.call(one, "evict", job="a")["jobs"] == 1
