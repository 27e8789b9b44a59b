# SPDX-License-Identifier: Apache-2.0
"""Findings: what is found, what is kept of it, who sees it, and that it changes no answer."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest

from privcmdd.model.findings import FindingKind
from privcmdd.model.host import Host
from privcmdd.service.hypercalls import memory_op
from privcmdd.service.session import Session
from privcmdd.service.settings import AccessRule
from support.desk import BASE, OTHER, PAGE, ROOT, USER, Desk, Refused, errnos, frames, settings
from support.tool import Tool

DOM = 1
V1, V2, RESOURCE = "privcmd.mmapbatch", "privcmd.mmapbatch_v2", "privcmd.mmap_resource"
Making = Callable[[Desk, Session], Any]


@pytest.fixture
def desk() -> Desk:
    """A broker with an HVM domain, of which gfns 0 to 31 are populated, and that every uid may map."""
    return built()


def built() -> Desk:
    """See ``desk``."""
    rules = (AccessRule("admin", uids=(ROOT,)), AccessRule("write", uids=(USER, OTHER)))
    made = Desk(settings(access=rules))
    root = made.connect(ROOT)
    made.domain(root, dom=DOM, ranges=[{"gfn": 0, "npages": 32}])
    made.broker.disconnect(root)
    return made


def found(desk: Desk, session: Session) -> list[tuple[str, int]]:
    """Which kinds a client sees, and how often each was found."""
    return [(row["kind"], row["count"]) for row in desk.call(session, "findings.list")["findings"]]


def look(desk: Desk, session: Session, gfn: int) -> int:
    """Map one frame, of its own; its error."""
    at = desk.reserve(session, 1, BASE + 2**20)
    (error,) = desk.call(session, V2, dom=DOM, addr=at, arr=[gfn])["err"]
    desk.call(session, "munmap", addr=at, len=PAGE)
    return int(error)


def linux(desk: Desk, uid: int = USER) -> Session:
    """A client of personality linux."""
    session = desk.connect(uid)
    desk.call(session, "space.attach", personality="linux")
    return session


def lose_bits(desk: Desk, session: Session) -> None:
    """Map a frame whose number has more bits than count."""
    desk.reserve(session, 1)
    assert desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(1 << 40 | 5))["err"] is None
    assert desk.call(session, "fault", addr=BASE)["frame"] == 5


def map_unchecked(desk: Desk, session: Session) -> None:
    """Map frames that do not exist where no access is allowed."""
    desk.reserve(session, 2, prot=0)
    assert desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(40, 41))["err"] is None


def page_out_in_the_middle(desk: Desk, session: Session) -> None:
    """Map a batch of which another frame than the last is paged out."""
    desk.call(desk.connect(ROOT), "domain.page_out", dom=DOM, arr=[2])
    desk.reserve(session, 3)
    batch = desk.call(session, V2, dom=DOM, addr=BASE, arr=[1, 2, 3])
    assert (batch["ret"], batch["err"]) == (0, [0, -errno.ENOENT, 0])


def hide_an_error(desk: Desk, session: Session) -> None:
    """Map, by V1, a frame that does not exist and whose number looks like an error anyway."""
    desk.reserve(session, 2)
    assert desk.call(session, V1, dom=DOM, addr=BASE, arr=[1, 0xF000_0028])["arr"] == [1, 0xF000_0028]


def crash(desk: Desk, session: Session) -> None:
    """Map a frame that is to be populated on demand, of a domain that has no memory for it."""
    tool = Tool(desk, desk.connect(ROOT))
    assert tool.reserve(6, DOM, [40], flags=memory_op.POPULATE_ON_DEMAND) == 1
    desk.reserve(session, 1)
    assert desk.call(session, V2, dom=DOM, addr=BASE, arr=[40])["err"] == [-errno.EINVAL]


def ask_a_size(desk: Desk, session: Session) -> None:
    """Ask how large a resource of a type is that there is not."""
    assert desk.call(session, RESOURCE, dom=DOM, type=9, id=0) == {"num": 0xFFFF_FFA1}


def map_past_the_end(desk: Desk, session: Session) -> None:
    """Map a grant table of four pages over a mapping of two."""
    desk.reserve(session, 2)
    desk.call(session, RESOURCE, dom=DOM, type=1, id=0, addr=BASE, num=4)


def map_over_anonymous_memory(desk: Desk, session: Session) -> None:
    """The same, with memory of the process behind the mapping."""
    desk.call(session, "mmap", addr=BASE + 2 * PAGE, len=2 * PAGE, prot=3, fixed=True, file="anon")
    map_past_the_end(desk, session)


def fill_anothers(desk: Desk, session: Session) -> None:
    """Map domain 1 through an unrestricted file into a mapping of one that is restricted to domain 2."""
    desk.call(session, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True, opened=77)
    desk.call(session, "privcmd.restrict", dom=2, file=77)
    assert desk.call(session, V2, dom=DOM, addr=BASE, arr=[1], file=78)["err"] is None


def mapped(desk: Desk, session: Session, prot: int = 3) -> None:
    """Two frames at ``BASE``, of which the second fails."""
    desk.reserve(session, 2, prot=prot)
    desk.call(session, V2, dom=DOM, addr=BASE, arr=[1, 40])


def protect_in_vain(desk: Desk, session: Session) -> None:
    """Make mapped frames read-only, which they do not become."""
    mapped(desk, session)
    desk.call(session, "mprotect", addr=BASE, len=2 * PAGE, prot=1)
    desk.call(session, "write", addr=BASE, data=b"goes through")


def lose_a_mapping(desk: Desk, session: Session) -> None:
    """Make mapped frames inaccessible."""
    mapped(desk, session)
    desk.call(session, "mprotect", addr=BASE, len=2 * PAGE, prot=0)


def refused(desk: Desk, session: Session, method: str, **params: Any) -> str:
    """The errno that a call is refused with."""
    with pytest.raises(Refused) as caught:
        desk.call(session, method, **params)
    return caught.value.name


def write_for_ever(desk: Desk, session: Session) -> None:
    """Write to frames that were mapped read-only and then protected to be writable."""
    mapped(desk, session, prot=1)
    desk.call(session, "mprotect", addr=BASE, len=2 * PAGE, prot=3)
    assert refused(desk, session, "write", addr=BASE, data=b"x") == "EFAULT"


def touch_a_failed_frame(desk: Desk, session: Session) -> None:
    """Read where a frame failed."""
    mapped(desk, session)
    assert refused(desk, session, "read", addr=BASE + PAGE, len=1) == "EFAULT"


def stop_the_kernel(desk: Desk, session: Session) -> None:
    """MMAP over anonymous memory."""
    desk.call(session, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True, file="anon")
    assert refused(desk, session, "privcmd.mmap", dom=DOM, entry=[{"va": BASE, "mfn": 1, "npages": 1}]) == "EINVAL"


def balloon_under_a_mapping(desk: Desk, session: Session) -> None:
    """Take a frame from a domain while it is mapped."""
    mapped(desk, session)
    assert desk.call(desk.connect(ROOT), "domain.decrease_reservation", dom=DOM, arr=[0, 1, 2])["done"] == 3


def destroyed(desk: Desk, session: Session) -> None:
    """Have a domain mapped while somebody destroys it."""
    mapped(desk, session)
    assert desk.call(desk.connect(ROOT), "domain.destroy", dom=DOM)["state"] == "dying"


def keep_a_zombie(desk: Desk, session: Session) -> None:
    """And go on mapping it."""
    destroyed(desk, session)
    desk.now_s += settings().limits.zombie_s


def leave_it_mapped(desk: Desk, session: Session) -> None:
    """End without munmap."""
    mapped(desk, session)
    desk.broker.disconnect(session)


MAKING: dict[FindingKind, Making] = {
    FindingKind.FRAME_BITS_LOST: lose_bits,
    FindingKind.FRAMES_UNCHECKED: map_unchecked,
    FindingKind.ENOENT_LOST: page_out_in_the_middle,
    FindingKind.ERROR_HIDDEN: hide_an_error,
    FindingKind.DOMAIN_CRASHED: crash,
    FindingKind.STALE_MAPPING: balloon_under_a_mapping,
    FindingKind.RESOURCE_SIZE_BOGUS: ask_a_size,
    FindingKind.RESOURCE_PAST_VMA: map_past_the_end,
    FindingKind.OTHER_MEMORY_REPLACED: map_over_anonymous_memory,
    FindingKind.UNRESTRICTED_FILL: fill_anothers,
    FindingKind.MPROTECT_WITHOUT_EFFECT: protect_in_vain,
    FindingKind.MAPPING_LOST: lose_a_mapping,
    FindingKind.ENDLESS_REFAULT: write_for_ever,
    FindingKind.FAILED_FRAME_TOUCHED: touch_a_failed_frame,
    FindingKind.KERNEL_OOPS: stop_the_kernel,
    FindingKind.ZOMBIE_DOMAIN: keep_a_zombie,
    FindingKind.MAPPING_LEAKED: leave_it_mapped,
}
# What cannot be done without something else that is found.
WITH: dict[FindingKind, set[str]] = {
    FindingKind.OTHER_MEMORY_REPLACED: {FindingKind.RESOURCE_PAST_VMA},
    FindingKind.ENDLESS_REFAULT: {FindingKind.MPROTECT_WITHOUT_EFFECT},
}


def test_each_kind_can_be_made() -> None:
    """A kind that no request leads to would be a promise and no more."""
    assert set(MAKING) == set(FindingKind)


@pytest.mark.parametrize("kind", FindingKind)
def test_what_a_kind_is_found_by(kind: FindingKind) -> None:
    """The requests that the real host lets pass are answered as there, and are found: once, under that id."""
    desk = built()
    session = linux(desk)

    MAKING[kind](desk, session)

    watcher = desk.connect(ROOT)
    assert sorted(found(desk, watcher)) == sorted((each, 1) for each in {kind, *WITH.get(kind, ())})
    assert desk.call(watcher, "stats")["broker"]["findings"] == dict(found(desk, watcher))
    desk.broker.check()


def test_a_finding_names_who_did_what(desk: Desk) -> None:
    """The client as the kernel and hello name it, the request, the domain, and a sentence with the values."""
    session = linux(desk)
    desk.call(session, "hello", client="careless 1")
    lose_bits(desk, session)

    (row,) = desk.call(session, "findings.list")["findings"]

    assert row.pop("text").startswith("frame 0x10000000005 of domain 1 was asked for and frame 0x5 was mapped: ")
    assert row == {
        "kind": "frame-bits-lost", "count": 1, "dom": DOM, "addr": None, "uid": USER, "job": "", "pid": 1,
        "client": "careless 1", "connection": session.number, "method": V2, "request": 4,
    }  # fmt: skip


def test_equal_findings_are_counted(desk: Desk) -> None:
    """The same of the same connection is one row; another's is another."""
    session = linux(desk)
    lose_bits(desk, session)
    lose_bits(desk, session)
    lose_bits(desk, linux(desk))

    assert found(desk, session) == [("frame-bits-lost", 2), ("frame-bits-lost", 1)]


@pytest.mark.parametrize("by", ["method", "hypercall", "remove_from_physmap"])
def test_a_page_that_its_only_mapper_takes_out_is_no_finding(desk: Desk, by: str) -> None:
    """XSA-99: who maps a ring's page takes it out of the physmap, out of the guest's reach; it stays mapped."""
    session = linux(desk, ROOT)
    tool = Tool(desk, session)
    mapped(desk, session)
    if by == "method":
        assert desk.call(session, "domain.decrease_reservation", dom=DOM, arr=[1])["done"] == 1
    elif by == "hypercall":
        assert tool.reserve(1, DOM, [1]) == 1
    else:
        assert tool.memory(15, memory_op.REMOVE_FROM_PHYSMAP, domid=DOM, gpfn=1)[0] == 0
    assert look(desk, linux(desk), 1) == -errno.EINVAL

    desk.call(session, "write", addr=BASE, data=b"ring")
    assert desk.call(session, "read", addr=BASE, len=4)["data"] == b"ring"
    desk.call(session, "munmap", addr=BASE, len=2 * PAGE)
    assert found(desk, session) == []


def test_a_page_that_somebody_else_maps_as_well_is_found(desk: Desk) -> None:
    """The other does not know that it shows an old frame."""
    session, other = linux(desk, ROOT), linux(desk, OTHER)
    for each in (session, other):
        mapped(desk, each)

    desk.call(session, "domain.decrease_reservation", dom=DOM, arr=[0, 1])

    assert found(desk, session) == [("stale-mapping", 1)]


def test_who_lets_go_of_a_destroyed_domain_is_not_found(desk: Desk) -> None:
    """A daemon that hears of a domain's end a moment later and unmaps then is right, as is one that ends then."""
    session, other = linux(desk), linux(desk, OTHER)
    mapped(desk, other)
    destroyed(desk, session)
    desk.now_s += settings().limits.zombie_s / 2

    for each in (session, other):
        desk.call(each, "munmap", addr=BASE, len=2 * PAGE)
    desk.now_s += 1000
    assert found(desk, desk.connect(ROOT)) == []


def test_a_zombie_is_told_with_the_next_request_of_anybody(desk: Desk) -> None:
    """Those who keep one need not ask for anything; one that lets go too late is found, and so is one that ends."""
    session, other, watcher = linux(desk), linux(desk, OTHER), desk.connect(ROOT)
    desk.call(watcher, "subscribe", topics=["finding"])
    mapped(desk, other)
    destroyed(desk, session)
    desk.now_s += settings().limits.zombie_s
    desk.call(session, "munmap", addr=BASE, len=2 * PAGE)

    assert [event.params[0]["kind"] for event in desk.events] == ["zombie-domain"] * 2
    desk.broker.disconnect(other)
    assert sorted(found(desk, watcher)) == [("mapping-leaked", 1), ("zombie-domain", 1), ("zombie-domain", 1)]


def test_a_zombie_is_found_when_who_keeps_it_ends(desk: Desk) -> None:
    """Nobody has asked for anything since."""
    session = linux(desk)
    destroyed(desk, session)
    desk.now_s += settings().limits.zombie_s

    desk.broker.disconnect(session)

    assert found(desk, desk.connect(ROOT)) == [("zombie-domain", 1), ("mapping-leaked", 1)]


def test_a_domain_of_the_same_number_is_not_taken_for_the_destroyed_one(desk: Desk) -> None:
    """The zombie went, and another domain has its number."""
    session, root = linux(desk), desk.connect(ROOT)
    destroyed(desk, session)
    desk.call(session, "munmap", addr=BASE, len=2 * PAGE)
    desk.domain(root, dom=DOM, ranges=[{"gfn": 0, "npages": 32}])
    mapped(desk, session)
    desk.now_s += 1000

    assert found(desk, session) == []


def test_a_crash_for_one_cause_is_one_finding(desk: Desk) -> None:
    """A domain that has crashed does not crash again, whichever of its frames are looked at; once resumed it may."""
    root = desk.connect(ROOT)
    tool = Tool(desk, root)
    session = linux(desk)
    tool.reserve(6, DOM, [40, 41, 42], flags=memory_op.POPULATE_ON_DEMAND)
    for gfn in (40, 41):
        assert look(desk, session, gfn) == -errno.EINVAL
    look(desk, linux(desk), 42)
    assert found(desk, root) == [("domain-crashed", 1)]

    assert tool.domctl(27, DOM)[0] == 0  # resumedomain
    look(desk, session, 42)
    assert found(desk, root) == [("domain-crashed", 1)] * 2


@pytest.mark.parametrize("n_frames", [1, 5, 100])
def test_a_batch_is_one_finding_a_slice_at_most(desk: Desk, n_frames: int) -> None:
    """Lists and arrays are looked at alike; what is not mapped loses nothing."""
    session = linux(desk)
    desk.reserve(session, n_frames + 1)

    desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(*[1 << 52 | 3] * n_frames, 1 << 52 | 40))

    assert 1 <= sum(count for _, count in found(desk, session)) <= n_frames
    assert {kind for kind, _ in found(desk, session)} == {"frame-bits-lost"}


def test_one_sees_the_findings_of_ones_own_uid(desk: Desk) -> None:
    """Administrators see all, and clear all; a restricted connection sees those about its domain."""
    session, other, root = linux(desk), linux(desk, OTHER), desk.connect(ROOT)
    lose_bits(desk, session)

    assert found(desk, other) == []
    assert desk.call(other, "findings.clear") == {"cleared": 0}
    assert len(found(desk, root)) == 1
    desk.call(session, "privcmd.restrict", dom=2)
    assert found(desk, session) == []
    assert desk.call(root, "findings.clear") == {"cleared": 1}
    assert found(desk, root) == []


def test_what_is_kept_is_bounded(desk: Desk) -> None:
    """One uid's findings take no room from another's; what finds no room is counted."""
    session, other = linux(desk), linux(desk, OTHER)
    for high in range(1, 301):
        desk.reserve(session, 1)
        desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(high << 40))
    lose_bits(desk, other)

    assert len(found(desk, session)) == 256
    assert len(found(desk, other)) == 1
    stats = desk.call(session, "stats")["broker"]
    assert (stats["findings"], stats["findings_dropped"]) == ({"frame-bits-lost": 301}, 300 - 256)


def test_a_job_sees_and_forgets_its_own_findings(desk: Desk) -> None:
    """Those of other jobs of the same uid, and of no job, are neither listed nor cleared; outside, all are."""
    sessions = [linux(desk) for _ in range(3)]
    for session, job in zip(sessions, ("a", "b", ""), strict=True):
        desk.call(session, "hello", job=job)
        lose_bits(desk, session)
    one, two, loose = sessions

    assert [row["job"] for row in desk.call(one, "findings.list")["findings"]] == ["a"]
    assert [row["job"] for row in desk.call(loose, "findings.list")["findings"]] == ["a", "b", ""]
    assert desk.call(one, "findings.clear") == {"cleared": 1}
    assert (found(desk, one), len(found(desk, two)), len(found(desk, loose))) == ([], 1, 2)


def test_findings_of_others_take_no_room_from_a_job(desk: Desk) -> None:
    """However many its uid's other jobs made; and what finds no room is counted for the job that made it alone."""
    noisy, quiet = linux(desk), linux(desk)
    desk.call(noisy, "hello", job="noisy")
    desk.call(quiet, "hello", job="quiet")
    for high in range(1, 301):
        desk.reserve(noisy, 1)
        desk.call(noisy, V2, dom=DOM, addr=BASE, arr=frames(high << 40))
    lose_bits(desk, quiet)

    assert desk.call(noisy, "findings.list")["dropped"] == 300 - 256
    heard = desk.call(quiet, "findings.list")
    assert (len(heard["findings"]), heard["dropped"]) == (1, 0)
    desk.call(noisy, "findings.clear")
    assert desk.call(noisy, "findings.list") == {"findings": [], "dropped": 0}


def test_findings_of_a_job_go_with_it(desk: Desk) -> None:
    """They take no room any more, those included that its last connection leaves by ending."""
    session, loose = linux(desk), linux(desk)
    desk.call(session, "hello", job="a")
    lose_bits(desk, session)
    assert len(found(desk, loose)) == 1
    desk.broker.disconnect(session)
    assert desk.call(loose, "findings.list") == {"findings": [], "dropped": 0}
    assert desk.call(loose, "stats")["broker"]["findings"] == {"frame-bits-lost": 1, "mapping-leaked": 1}


def test_all_jobs_of_a_uid_have_bounded_room(desk: Desk) -> None:
    """Many jobs of one uid leave room for other uids, and are told what they lost."""
    for job in range(5):
        session = linux(desk)
        desk.call(session, "hello", job=f"job {job}")
        for high in range(1, 257):
            desk.reserve(session, 1)
            desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(high << 40))
    other = linux(desk, OTHER)
    lose_bits(desk, other)

    assert (len(found(desk, session)), desk.call(session, "findings.list")["dropped"]) == (0, 256)
    assert len(found(desk, other)) == 1


def test_subscribers_hear_of_new_findings(desk: Desk) -> None:
    """Those who may see one are told when it is new, with all that the list says."""
    watchers = [desk.connect(uid) for uid in (USER, OTHER, ROOT)]
    for watcher in watchers:
        desk.call(watcher, "subscribe", topics=["finding"])
    session = linux(desk)
    lose_bits(desk, session)
    lose_bits(desk, session)

    rows = desk.call(session, "findings.list")["findings"]
    assert [(event.session, event.topic, event.params) for event in desk.events] == [
        (watcher.number, "finding", [{**rows[0], "count": 1}]) for watcher in (watchers[0], watchers[2])
    ]


def test_a_pause_does_not_put_it_down_to_somebody_else(desk: Desk) -> None:
    """A request that is under way while another client's ends: each has its own findings."""
    session, other = linux(desk), linux(desk, OTHER)
    desk.reserve(session, 200)
    steps = desk.start(session, V2, dom=DOM, addr=BASE, arr=frames(*[1 << 40 | 5] * 200))
    next(steps)
    desk.call(other, "ping")

    assert found(desk, other) == []
    assert len(found(desk, session)) == 1
    steps.close()


def on(dom0: Literal["pv", "pvh"]) -> Desk:
    """As ``built``, with another domain 0."""
    chosen = replace(settings(), host=Host(dom0=dom0))
    made = Desk(chosen)
    made.domain(made.connect(ROOT), dom=DOM, ranges=[{"gfn": 0, "npages": 32}])
    return made


@pytest.mark.parametrize("second", [False, True])
def test_what_stops_the_kernel_of_a_pvh_dom0(second: bool) -> None:
    """RESULTS section 9: fewer pages of a resource than the mapping has, and a second resource over it."""
    desk = on("pvh")
    session = linux(desk)
    desk.reserve(session, 4)
    desk.call(session, RESOURCE, dom=DOM, type=1, id=0, addr=BASE, num=4 if second else 2)
    if second:
        assert found(desk, session) == []
        assert refused(desk, session, RESOURCE, dom=DOM, type=1, id=0, addr=BASE, num=4) == "ENOTRECOVERABLE"

    assert found(desk, session) == [("kernel-oops", 1)]


def test_what_a_pvh_dom0_does_right_is_no_finding() -> None:
    """RESULTS sections 2, 4 and 6: frame numbers are checked to the last bit, mprotect works, PROT_NONE is checked."""
    desk = on("pvh")
    session = linux(desk)
    desk.reserve(session, 2, prot=0)
    batch = desk.call(session, V2, dom=DOM, addr=BASE, arr=frames(1 << 40 | 5, 5))
    assert errnos(batch["err"]) == [-errno.EINVAL, 0]
    for prot in (1, 3, 0, 1):
        desk.call(session, "mprotect", addr=BASE, len=2 * PAGE, prot=prot)
    desk.call(session, "read", addr=BASE + PAGE, len=1)
    desk.call(session, "munmap", addr=BASE, len=2 * PAGE)

    assert found(desk, session) == []


def test_what_uvm_does_right_is_no_finding(desk: Desk) -> None:
    """NetBSD's mprotect works, and a frame that a range without access would be for is refused."""
    session = desk.connect()
    desk.reserve(session, 2)
    desk.call(session, V2, dom=DOM, addr=BASE, arr=[1, 2])
    for prot in (1, 3, 0, 1):
        desk.call(session, "mprotect", addr=BASE, len=2 * PAGE, prot=prot)
    desk.call(session, "read", addr=BASE, len=1)
    desk.call(session, V2, dom=DOM, addr=BASE, arr=[3, 4])
    desk.call(session, "munmap", addr=BASE, len=2 * PAGE)
    desk.broker.disconnect(session)

    assert found(desk, desk.connect()) == []


@pytest.mark.parametrize(
    "kind",
    [
        FindingKind.FRAME_BITS_LOST,
        FindingKind.ERROR_HIDDEN,
        FindingKind.DOMAIN_CRASHED,
        FindingKind.RESOURCE_SIZE_BOGUS,
        FindingKind.FAILED_FRAME_TOUCHED,
        FindingKind.ZOMBIE_DOMAIN,
        FindingKind.MAPPING_LEAKED,
    ],
)
def test_what_both_personalities_let_pass(kind: FindingKind) -> None:
    """Harm that is Xen's, or the protocol's, is found in personality uvm as well."""
    desk = built()

    MAKING[kind](desk, desk.connect())

    assert found(desk, desk.connect()) == [(kind, 1)]


def test_a_mapping_made_before_its_file_was_restricted(desk: Desk) -> None:
    """Frames that were there at RESTRICT are no finding; those of the domain that is left are none."""
    session = linux(desk)
    desk.call(session, "mmap", addr=BASE, len=2 * PAGE, prot=3, fixed=True, opened=77)
    desk.call(session, V2, dom=DOM, addr=BASE, arr=[1, 40], file=77)
    desk.call(session, "privcmd.restrict", dom=DOM, file=77)
    desk.call(session, V2, dom=DOM, addr=BASE + PAGE, arr=[2], file=78)

    assert found(desk, session) == []
