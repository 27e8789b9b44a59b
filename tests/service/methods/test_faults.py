# SPDX-License-Identifier: Apache-2.0
"""Injections: what a rule does to requests and frames, and who may add and end one."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.host import Host
from privcmdd.model.injection import MOST_RULES
from privcmdd.service.hypercalls import memory_op
from privcmdd.service.settings import AccessRule
from privcmdd.service.steps import Delay
from support.desk import BASE, OTHER, PAGE, ROOT, SMALL, USER, Desk, Refused, errnos, finish, frames, result, settings
from support.tool import Tool

if TYPE_CHECKING:
    from privcmdd.service.session import Session

LONG = 30  # frames of a batch that is prepared in slices
TABLE = BASE + (1 << 30)
FAILED, PAGED = 0xF000_0000, 0x8000_0000


class Client:
    """A client of an HVM domain, number 1, and somebody who adds rules."""

    def __init__(self, personality: str = "uvm", host: Host | None = None, desk: Desk | None = None) -> None:
        self.desk = desk or Desk(replace(settings(slice_frames=7), host=host or Host()))
        self.admin, self.session = self.desk.connect(ROOT), self.desk.connect()
        if desk is None:
            self.desk.domain(self.admin, max_pages=64, dom=1)
        self.call("space.attach", personality=personality)

    def call(self, method: str, /, **params: Any) -> Any:
        """The answer. Raises Refused."""
        return self.desk.call(self.session, method, **params)

    def errno(self, method: str, /, **params: Any) -> str | None:
        """The name of the errno that answers; None for a result."""
        return refusal(self.desk, self.session, method, **params)

    def fail(self, **rule: Any) -> int:
        """Add a rule."""
        number: int = self.desk.call(self.admin, "faults.add", **rule)["id"]
        return number

    def rule(self, number: int) -> tuple[int, int]:
        """How many matches a rule has seen and taken."""
        (row,) = (row for row in self.desk.call(self.admin, "faults.list")["faults"] if row["id"] == number)
        return row["seen"], row["fired"]

    def map(self, *names: int, at: int = BASE) -> list[int]:
        """Reserve a fresh range and map frames there: the errors of the frames."""
        self.desk.reserve(self.session, len(names), at)
        done = self.call("privcmd.mmapbatch_v2", dom=1, addr=at, arr=frames(*names))
        return errnos(done["err"]) or [0] * len(names)

    def held(self) -> int:
        """Page table entries."""
        n: int = self.call("stats")["mappings"]["frames"]
        return n


def refusal(desk: Desk, session: Session, method: str, /, **params: Any) -> str | None:
    """The name of the errno that answers; None for a result."""
    try:
        desk.call(session, method, **params)
    except Refused as refused:
        return refused.name
    return None


# Requests


def test_a_delay_is_a_pause_and_the_answer_is_as_ever() -> None:
    """Before the work or after it: the request asks its driver to wait, and nothing else is different."""
    for when in ("before", "after"):
        client = Client()
        client.fail(delay_ms=1500, method="mmap", when=when)

        steps = client.desk.start(client.session, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True)

        assert next(steps) == Delay(1.5)
        assert (len(client.call("maps")["entries"]) == 1) is (when == "after")
        with pytest.raises(StopIteration):
            next(steps)
        assert len(client.call("maps")["entries"]) == 1


def test_a_numbered_request_was_done_before_its_delay() -> None:
    """Feature ``seq``: the number is that of the step which did it, not of the one that answers."""
    client = Client()
    other = client.desk.connect()
    for session in (client.session, other):
        client.desk.call(session, "hello", features=["seq"])
    client.fail(delay_ms=1, method="domain.page_out", when="after")
    steps = client.desk.start(client.session, "domain.page_out", dom=1, arr=[1])
    next(steps)

    seen = client.desk.call(other, "domain.info", dom=1)

    assert seen["tot_pages"] == 63
    assert result(finish(steps))["seq"] < seen["seq"]


def test_a_delay_that_is_given_up_has_done_nothing() -> None:
    """The client hangs up while its request waits."""
    client = Client()
    client.fail(delay_ms=1500)
    steps = client.desk.start(client.session, "domain.page_out", dom=1, arr=[1])
    next(steps)

    steps.close()

    assert client.desk.call(client.admin, "faults.clear") == {"cleared": 1}
    assert client.call("domain.info", dom=1)["tot_pages"] == 64


def test_an_errno_comes_before_the_request_does_anything() -> None:
    """The old mapping stays whole; the sentence names the rule."""
    client = Client()
    client.map(1, 2)
    before = client.call("maps")
    rule = client.fail(errno="ENOMEM", method="privcmd.", dom=1)

    with pytest.raises(Refused, match=f"ENOMEM: privcmd.mmapbatch_v2 fails on demand: rule {rule} ") as refused:
        client.call("privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=[3, 4])

    assert refused.value.details == {"fault": rule}
    assert client.call("maps") == before
    assert client.rule(rule) == (1, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dropped_request_has_no_answer_and_was_done_or_not(when: str) -> None:
    """The reply says nothing and ends the session; whether the work was done is the rule's choice."""
    client = Client()
    client.fail(drop=True, method="domain.page_out", when=when)

    reply = client.desk.reply(client.session, "domain.page_out", dom=1, arr=[5])

    assert (reply.data, reply.fds, reply.close, reply.incident) == (b"", (), True, None)
    client.desk.broker.disconnect(client.session)
    assert client.desk.call(client.admin, "domain.info", dom=1)["tot_pages"] == (63 if when == "after" else 64)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("privcmd.mmap", {"entry": [{"va": BASE, "mfn": 3, "npages": 4}]}),
        ("privcmd.mmapbatch", {"addr": BASE, "arr": [1, 5]}),
        ("privcmd.mmapbatch_v2", {"addr": BASE, "arr": frames(5)}),
        ("domain.page_out", {"arr": [5]}),
    ],
)
def test_requests_are_known_by_the_frames_that_they_name(method: str, params: dict[str, Any]) -> None:
    """A rule with gfns means the requests that name one of them, and no others."""
    client = Client()
    client.desk.reserve(client.session, 4)
    missed = client.fail(errno="EIO", gfns=[{"gfn": 7, "npages": 9}])
    taken = client.fail(errno="ENOMEM", gfns=[{"gfn": 40, "npages": 1}, {"gfn": 5, "npages": 1}])

    assert client.errno(method, dom=1, **params) == "ENOMEM"

    assert (client.rule(missed), client.rule(taken)) == ((0, 0), (1, 1))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("privcmd.hypercall", {"op": 17, "arg": bytes(40)}),
        ("privcmd.dm_op", {"dom": 1, "bufs": []}),
        ("privcmd.mmap_resource", {"dom": 1, "type": 1, "id": 0}),
        ("gntdev.map", {"dom": 1, "addr": BASE, "arr": frames(1)}),
        ("space.fork", {}),
        ("ping", {}),
    ],
)
def test_every_method_can_be_made_to_fail(method: str, params: dict[str, Any]) -> None:
    """Those without a domain as well; those that name grants name no frames."""
    client = Client()
    client.fail(errno="EIO", gfns=[{"gfn": 0, "npages": 64}])
    assert client.errno(method, **params) != "EIO"
    client.fail(errno="ENXIO", method=method, times=1)

    assert client.errno(method, **params) == "ENXIO"
    assert client.errno(method, **params) != "ENXIO"


def test_huge_counts_cost_nothing() -> None:
    """A request may name 2^52 frames; whether it names one that is meant is found without counting them."""
    client = Client()
    rule = client.fail(errno="EIO", gfns=[{"gfn": 2**39, "npages": 2**50}])

    assert client.errno("privcmd.mmap", dom=1, entry=[{"va": BASE, "mfn": 0, "npages": 2**52}]) == "EIO"
    assert client.rule(rule) == (1, 1)


def test_the_first_rule_that_answers_is_the_last_one_asked() -> None:
    """Rules are asked in the order of their ids; those behind the one that refused have seen nothing."""
    client = Client()
    waits, refuses, never = (
        client.fail(method="ping", **what) for what in ({"delay_ms": 1}, {"errno": "EIO"}, {"drop": True})
    )

    assert client.errno("ping") == "EIO"

    assert [client.rule(number) for number in (waits, refuses, never)] == [(1, 1), (1, 1), (0, 0)]


# Frames


@pytest.mark.parametrize("dom0", ["pv", "pvh"])
@pytest.mark.parametrize("personality", ["uvm", "linux"])
@pytest.mark.parametrize("n", [5, LONG])
def test_a_failed_frame_fails_as_a_real_one(personality: str, dom0: Any, n: int) -> None:
    """No page table entry, no reference, counted as failed; small batches and sliced ones."""
    client = Client(personality, Host(dom0=dom0))
    rule = client.fail(frame_errno="EXDEV", gfns=[{"gfn": 3, "npages": 2}, {"gfn": 20, "npages": 1}])
    failed = [gfn for gfn in (3, 4, 20) if gfn < n]

    errors = client.map(*range(n))

    assert errors == [-errno.EXDEV if i in failed else 0 for i in range(n)]
    assert client.rule(rule) == (len(failed), len(failed))
    assert client.held() == n - len(failed)
    assert client.call("stats")["done"]["frames_failed"] == len(failed)
    if personality == "uvm" or dom0 == "pv":
        assert client.errno("read", addr=BASE + 3 * PAGE, len=1) == "EFAULT"
    client.call("munmap", addr=BASE, len=n * PAGE)
    assert client.desk.call(client.admin, "domain.destroy", dom=1) == {"state": "gone"}


@pytest.mark.parametrize(("personality", "nibble"), [("uvm", FAILED), ("linux", PAGED)])
def test_the_first_batch_marks_what_failed(personality: str, nibble: int) -> None:
    """MMAPBATCH: paged frames by the nibble of their kernel, others by the error's."""
    client = Client(personality)
    client.fail(paged=1, gfns=[{"gfn": 8, "npages": 1}])
    client.fail(frame_errno="EPERM", gfns=[{"gfn": 9, "npages": 1}])
    client.desk.reserve(client.session, 3)

    done = client.call("privcmd.mmapbatch", dom=1, addr=BASE, arr=[7, 8, 9])

    assert done["arr"] == [7, 8 | nibble, 9 | FAILED]


@pytest.mark.parametrize("personality", ["uvm", "linux"])
def test_mmap_stops_there(personality: str) -> None:
    """The entry before it stays mapped; uvm maps none of the bad entry, Linux what is before the frame."""
    client = Client(personality)
    client.fail(frame_errno="EACCES", gfns=[{"gfn": 12, "npages": 1}])
    client.desk.reserve(client.session, 6)
    entries = [{"va": BASE + i * 3 * PAGE, "mfn": 8 + i * 3, "npages": 3} for i in range(2)]

    with pytest.raises(Refused, match="EACCES: entry 1: frame 0xc of domain 1 ") as refused:
        client.call("privcmd.mmap", dom=1, entry=entries)

    assert (refused.value.details["entry"], refused.value.details["done"]) == (1, 1)
    assert client.held() == (3 if personality == "uvm" else 4)


def test_linux_asks_again_for_what_is_paged_out() -> None:
    """The retry loop of libxenforeignmemory: -ENOENT so many times, each time for fewer frames, and then good."""
    client = Client("linux")
    client.fail(paged=2, gfns=[{"gfn": 2, "npages": 1}])
    client.fail(paged=3, gfns=[{"gfn": 6, "npages": 1}])
    holes = [gfn for gfn, error in enumerate(client.map(*range(8))) if error == -errno.ENOENT]
    rounds = []

    while holes:
        rounds.append(holes)
        rets = {
            gfn: client.call("privcmd.mmapbatch_v2", dom=1, addr=BASE + gfn * PAGE, arr=frames(gfn))["ret"]
            for gfn in holes
        }
        holes = [gfn for gfn, ret in rets.items() if ret == -errno.ENOENT]

    assert rounds == [[2, 6], [2, 6], [6]]
    assert client.held() == 8


def test_a_frame_fails_when_it_is_touched_again() -> None:
    """Uvm: a page without an entry is looked up anew, by a fault, a read or a write; all or nothing."""
    client = Client("uvm")
    client.map(1, 2, 3)
    for prot in (0, 3):
        client.call("mprotect", addr=BASE, len=3 * PAGE, prot=prot)
    rule = client.fail(frame_errno="EINVAL", gfns=[{"gfn": 2, "npages": 1}], times=3)

    for method, params in (
        ("fault", {"addr": BASE + PAGE, "access": "write"}),
        ("read", {"addr": BASE, "len": 3 * PAGE}),
        ("write", {"addr": BASE, "data": bytes(3 * PAGE)}),
    ):
        assert client.errno(method, **params) == "EFAULT"
    assert client.rule(rule) == (3, 3)
    assert client.errno("write", addr=BASE, data=bytes(3 * PAGE)) is None


@pytest.mark.parametrize("personality", ["uvm", "linux"])
def test_a_resource_is_mapped_whole_or_not_at_all(personality: str) -> None:
    """Its pages have no gfn: rules with gfns leave them alone, others take them, and the request has their errno."""
    client = Client(personality)
    client.desk.reserve(client.session, 2)
    used = client.call("stats")["uids"]
    call = {"dom": 1, "type": 1, "id": 0, "num": 2, "addr": BASE}
    named = client.fail(frame_errno="EIO", gfns=[{"gfn": 0, "npages": 64}])
    rule = client.fail(frame_errno="EACCES", nth=2, times=1)

    assert client.errno("privcmd.mmap_resource", **call) == "EACCES"

    assert (client.rule(named), client.rule(rule)) == ((0, 0), (2, 1))
    assert client.held() == 0
    assert client.call("stats")["uids"] == used
    assert client.errno("privcmd.mmap_resource", **call) is None
    assert client.held() == 2


def test_a_grant_that_fails_is_einval_as_gntdev_has_it() -> None:
    """All or none; the driver knows one errno."""
    client = Client("linux")
    client.desk.reserve(client.session, 1, TABLE)
    client.call("privcmd.mmap_resource", dom=1, type=1, id=0, num=1, addr=TABLE)
    client.call("write", addr=TABLE + 8 * 8, data=struct.pack("<HHIHHI", 1, 0, 5, 1, 0, 6))
    client.call("mmap", addr=BASE, len=2 * PAGE, prot=3, fixed=True, file="gntdev")
    rule = client.fail(frame_errno="EBUSY", gfns=[{"gfn": 6, "npages": 1}], times=1)

    assert client.errno("gntdev.map", dom=1, addr=BASE, arr=frames(8, 9)) == "EINVAL"

    assert client.rule(rule) == (1, 1)
    assert client.held() == 1
    assert client.errno("gntdev.map", dom=1, addr=BASE, arr=frames(8, 9)) is None


def test_a_frame_that_moves_is_looked_up_for_nobody() -> None:
    """XENMEM_add_to_physmap of a page of the grant table: no mapping is made, so no rule about frames has a say."""
    client = Client()
    tool = Tool(client.desk, client.session)
    rule = client.fail(frame_errno="EIO")

    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=1, space=1, idx=0, gpfn=0x20)[0] == 0
    assert client.rule(rule)[1] == 0


def test_a_rule_is_for_the_request_that_runs() -> None:
    """Batches of two clients in turns, slice by slice: the rule for one of them takes nothing of the other's."""
    client = Client()
    other = Client(desk=client.desk)
    client.fail(frame_errno="EIO", connection=client.session.number)
    for each in (client, other):
        each.desk.reserve(each.session, LONG)
    call = {"dom": 1, "addr": BASE, "arr": frames(*range(LONG))}
    steps = [each.desk.start(each.session, "privcmd.mmapbatch_v2", **call) for each in (client, other)]
    done = 0

    while steps:
        for one in tuple(steps):
            try:
                next(one)
            except StopIteration:
                steps.remove(one)
                done += 1

    assert done == 2
    assert client.held() == LONG
    assert other.errno("read", addr=BASE, len=1) is None
    assert client.errno("read", addr=BASE, len=1) == "EFAULT"


# Rules


def test_what_is_listed_can_be_added() -> None:
    """A rule is listed as it was given, without defaults, and with the connection that it ends with."""
    client = Client()
    given = {
        "frame_errno": "EAGAIN", "client": "qemu*", "connection": 4, "pid": 9, "uid": 7, "dom": 1, "method": "privcmd.",
        "gfns": [{"gfn": 1, "npages": 2}], "nth": 3, "times": 4, "probability_ppm": 5, "seed": 6,
    }  # fmt: skip
    first, second = client.fail(**given), client.fail(drop=True, when="after", keep=True)

    rows = client.desk.call(client.admin, "faults.list")["faults"]

    assert rows == [
        {"id": first, "seen": 0, "fired": 0, "connection": client.admin.number, "job": "", "rule": given},
        {"id": second, "seen": 0, "fired": 0, "connection": None, "job": "", "rule": {"drop": True, "when": "after"}},
    ]


@pytest.mark.parametrize(
    ("rule", "key", "expected"),
    [
        ({}, "none", "exactly one of frame_errno, paged, errno, delay_ms, drop"),
        ({"errno": "EIO", "drop": True}, "errno", "exactly one of"),
        ({"errno": "EIO", "paged": 0}, "paged", "exactly one of"),
        ({"errno": "EFOO"}, "errno", "the name of an errno"),
        ({"frame_errno": "5"}, "frame_errno", "the name of an errno"),
        ({"errno": 5}, "errno", "a string"),
        ({"paged": 0}, "paged", "1 to 255"),
        ({"paged": 256}, "paged", "1 to 255"),
        ({"delay_ms": 60_001}, "delay_ms", "1 to 60000"),
        ({"errno": "EIO", "when": "after"}, "when", "before"),
        ({"paged": 1, "when": "after"}, "when", "before"),
        ({"drop": True, "when": "later"}, "when", '"before", "after"'),
        ({"errno": "EIO", "nth": 0}, "nth", "1 to "),
        ({"errno": "EIO", "times": 0}, "times", "1 to "),
        ({"errno": "EIO", "probability_ppm": 0}, "probability_ppm", "1 to 1000000"),
        ({"errno": "EIO", "probability_ppm": 1_000_001}, "probability_ppm", "1 to 1000000"),
        ({"errno": "EIO", "gfns": [{"gfn": 1, "npages": 0}]}, "gfns", "at least one"),
        ({"errno": "EIO", "gfns": [{"gfn": 1, "npages": 1}] * 65}, "gfns", "at most 64"),
        ({"errno": "EIO", "method": "privcmd"}, "method", "a method's name"),
        ({"errno": "EIO", "method": "nothing."}, "method", "a method's name"),
        ({"errno": "EIO", "method": "faults.list"}, "method", "those of faults. never fail"),
        ({"errno": "EIO", "method": "faults."}, "method", "those of faults. never fail"),
        ({"errno": "EIO", "dom": 70_000}, "dom", "a domain id"),
    ],
)
def test_a_bad_rule_is_refused_by_name(rule: dict[str, Any], key: str, expected: str) -> None:
    """The key, what it was and what was expected; no rule is made, and none that was there is lost."""
    client = Client()
    kept = client.fail(errno="EIO", method="mmap")

    with pytest.raises(Refused, match=expected) as refused:
        client.fail(**rule)

    assert refused.value.name in ("EINVAL", "E2BIG")
    assert refused.value.details["key"] == key
    assert [row["id"] for row in client.desk.call(client.admin, "faults.list")["faults"]] == [kept]


def test_rules_end_with_the_connection_that_added_them() -> None:
    """Unless they are kept: a test that dies leaves no faults to the next."""
    client = Client()
    client.fail(errno="EIO", method="ping")
    kept = client.fail(errno="ENXIO", method="ping", keep=True)
    assert client.errno("ping") == "EIO"

    client.desk.broker.disconnect(client.admin)

    assert client.errno("ping") == "ENXIO"
    assert client.call("faults.clear", id=kept) == {"cleared": 1}
    assert client.errno("ping") is None


def test_rules_of_a_job_are_about_its_clients_and_end_with_it() -> None:
    """No other client of the uid meets them; a job lists and clears its own; kept ones end with the job."""
    desk = Desk()
    one, two, loose = (desk.connect() for _ in range(3))
    desk.call(one, "hello", job="a")
    desk.call(two, "hello", job="b")
    for session in (one, two):
        desk.call(session, "faults.add", errno="EIO", method="domain.list", keep=True)

    assert [row["job"] for row in desk.call(one, "faults.list")["faults"]] == ["a"]
    assert [row["job"] for row in desk.call(loose, "faults.list")["faults"]] == ["a", "b"]
    assert desk.call(two, "faults.clear") == {"cleared": 1}
    desk.call(two, "domain.list")
    desk.call(loose, "domain.list")
    with pytest.raises(Refused, match="fails on demand"):
        desk.call(one, "domain.list")
    again = desk.connect()
    desk.call(again, "hello", job="a")
    desk.broker.disconnect(one)
    with pytest.raises(Refused, match="fails on demand"):
        desk.call(again, "domain.list")
    desk.broker.disconnect(again)
    assert desk.call(loose, "faults.list") == {"faults": []}


def test_rules_of_no_job_are_about_all() -> None:
    """Who may administer all domains can make clients of every job fail."""
    desk = Desk()
    member, loose = desk.connect(), desk.connect()
    desk.call(member, "hello", job="a")
    desk.call(loose, "faults.add", errno="EIO", method="domain.list", times=1)
    with pytest.raises(Refused, match="fails on demand"):
        desk.call(member, "domain.list")


def test_whatever_was_set_can_be_cleared() -> None:
    """A rule for all requests of everybody: those of faults. meet none."""
    client = Client()
    client.fail(drop=True)

    assert [len(client.call("faults.list")["faults"]), client.call("faults.clear")] == [1, {"cleared": 1}]
    assert client.errno("ping") is None
    assert client.fail(errno="EIO", method="ping") == 2
    assert client.errno("ping") == "EIO"
    assert client.call("faults.clear", id=2) == {"cleared": 1}
    assert client.call("stats")["injected"] == {
        "rules": 0, "frame_errno": 0, "paged": 0, "errno": 1, "delay_ms": 0, "drop": 0,
    }  # fmt: skip


def test_rights_are_of_the_domain_that_a_rule_names() -> None:
    """Who administers a domain may let its requests fail; for all requests it takes the right to all domains."""
    rules = (AccessRule("admin", uids=(ROOT,)), AccessRule("admin", uids=(USER,), domains=(1,)))
    desk = Desk(settings(access=rules))
    root, user, other = desk.connect(ROOT), desk.connect(USER), desk.connect(OTHER)
    everywhere = desk.call(root, "faults.add", errno="EIO", method="ping")["id"]
    of_one = desk.call(user, "faults.add", errno="EIO", dom=1)["id"]

    assert refusal(desk, user, "faults.add", errno="EIO") == "EPERM"
    assert refusal(desk, user, "faults.add", errno="EIO", dom=2) == "EPERM"
    assert refusal(desk, other, "faults.add", errno="EIO", dom=1) == "EPERM"
    listed = [[row["id"] for row in desk.call(who, "faults.list")["faults"]] for who in (root, user, other)]
    assert listed == [[everywhere, of_one], [of_one], []]
    assert refusal(desk, user, "faults.clear", id=everywhere) == "ENOENT"
    assert refusal(desk, user, "faults.clear", id=77) == "ENOENT"
    assert [desk.call(who, "faults.clear") for who in (other, user, root)] == [{"cleared": n} for n in (0, 1, 1)]


def test_there_is_an_end_to_rules() -> None:
    """ENOSPC, with a sentence that says what to do."""
    client = Client()
    for _ in range(MOST_RULES):
        client.fail(errno="EIO", method="ping")

    with pytest.raises(Refused, match="ENOSPC: there are 256 rules already: clear some"):
        client.fail(errno="EIO")


def test_without_rules_no_frame_knows_of_them() -> None:
    """The hypervisor has the rules while a request runs that they may meet, and not at its pauses or afterwards."""
    client = Client()
    assert SMALL.paranoid
    client.fail(frame_errno="EIO", nth=2**40)
    client.desk.reserve(client.session, LONG)
    machine = client.desk.broker.world.machine

    for pause in client.desk.start(client.session, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(LONG))):
        assert pause is None
        assert machine.injection is None
    assert client.errno("mmap", addr=1, len=1, prot=3, fixed=True) == "EINVAL"
    assert machine.injection is None
