# SPDX-License-Identifier: Apache-2.0
"""gntdev: what a guest's grant table says can be mapped, and nothing else."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privcmdd.model.errors import LawBroken
from privcmdd.model.machine import log_dirty
from privcmdd.service.hypercalls import grant_table_op
from support.desk import BASE, PAGE, SMALL, Desk, Refused, frames, result, triples
from support.tool import Tool

PERMIT, READ_ONLY, TRANSFER = 1, 4, 2
TABLE = BASE + (1 << 30)  # where the guest's grant table is mapped, to be filled
GNTDEV = "gntdev"
READING, WRITING = 8, 16


class Granting:
    """A guest of 64 frames whose grant table this process writes, as the guest would."""

    def __init__(self, kind: str = "hvm") -> None:
        self.desk = Desk(replace(SMALL))
        self.session = self.desk.connect()
        self.call("space.attach", personality="linux")
        self.dom = self.desk.domain(self.session, kind, ranges=[{"gfn": 0, "npages": 32}])
        info = self.call("domain.info", dom=self.dom, start=0, num=64)
        self.names = struct.unpack("<64Q", info["frames"])
        self.call("mmap", addr=TABLE, len=2 * PAGE, prot=3, fixed=True)
        self.call("privcmd.mmap_resource", dom=self.dom, type=1, id=0, num=2, addr=TABLE)

    def call(self, method: str, /, **params: Any) -> Any:
        """The answer. Raises Refused."""
        return self.desk.call(self.session, method, **params)

    def grant(self, ref: int, frame: int, flags: int = PERMIT, to: int = 0) -> None:
        """Write an entry of version 1."""
        self.call("write", addr=TABLE + 8 * ref, data=struct.pack("<HHI", flags, to, frame))

    def flags(self, ref: int) -> int:
        """The flags of an entry of version 1, as the guest reads them."""
        flags: int = struct.unpack("<H", self.call("read", addr=TABLE + 8 * ref, len=2)["data"])[0]
        return flags

    def map(self, *refs: int, addr: int = BASE, prot: int = 3, **more: Any) -> Any:
        """Map grants at a fresh mapping of the device: the answer, or the name of the errno."""
        self.call("mmap", addr=addr, len=len(refs) * PAGE, prot=prot, fixed=True, file=GNTDEV)
        try:
            return self.call("gntdev.map", dom=self.dom, addr=addr, arr=frames(*refs), **more)
        except Refused as refused:
            return refused.name

    def held(self) -> int:
        """Page table entries of the process, without those of the table."""
        n: int = self.call("stats")["mappings"]["frames"]
        return n - 2


@pytest.mark.parametrize("kind", ["hvm", "pv", "pvh"])
def test_granted_frames_are_mapped(kind: str) -> None:
    """The frames that the entries name, in the order of the request, also from the table's second page."""
    guest = Granting(kind)
    guest.grant(8, guest.names[5])
    guest.grant(9, guest.names[6])
    guest.grant(512, guest.names[20])

    answer = guest.map(512, 8, 9, extents=True)

    assert (answer["num"], answer["prot"]) == (3, 3)
    assert triples(answer["extents"]) == [(0, 20, 1), (1, 5, 2)]
    (entry,) = (row for row in guest.call("maps")["entries"] if row["file"] == GNTDEV)
    assert (entry["dom"], entry["present"], entry["inherit"]) == (guest.dom, 3, "none")
    assert entry["request"].startswith("gntdev.map ")
    guest.call("munmap", addr=BASE, len=3 * PAGE)
    assert guest.held() == 0


def test_what_is_no_grant_to_domain_0_is_refused() -> None:
    """Nothing there, another kind, another domain's, past the table, no such frame: EINVAL, and none is mapped."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 5, flags=TRANSFER)
    guest.grant(10, 5, to=3)
    guest.grant(11, 40)

    assert [guest.map(8, bad) for bad in (7, 9, 10, 11, 2 * 512, 2**32)] == ["EINVAL"] * 6
    assert guest.held() == 0
    assert guest.map(8)["num"] == 1


def test_a_read_only_grant_is_mapped_read_only() -> None:
    """GTF_readonly: for a mapping that may not be written."""
    guest = Granting()
    guest.grant(8, 5, flags=PERMIT | READ_ONLY)

    assert guest.map(8) == "EINVAL"
    assert guest.map(8, prot=1, extents=True)["prot"] == 1


def test_only_mappings_of_the_device_are_filled() -> None:
    """A range of another file, one that is too short, no grants at all, a domain that is not there: EINVAL."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    asked = {"dom": guest.dom, "addr": BASE, "arr": frames(8)}

    for wrong in ({"addr": TABLE}, {"addr": BASE + PAGE}, {"arr": frames(8, 8)}, {"arr": b""}, {"dom": guest.dom + 1}):
        with pytest.raises(Refused, match="EINVAL"):
            guest.call("gntdev.map", **{**asked, **wrong})


def test_a_mapped_grant_keeps_a_dying_domain() -> None:
    """The guest goes when the last of its frames is unmapped."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    guest.call("munmap", addr=TABLE, len=2 * PAGE)

    assert guest.call("domain.destroy", dom=guest.dom) == {"state": "dying"}
    guest.call("munmap", addr=BASE, len=PAGE)
    assert guest.call("domain.list") == {"domains": []}


def test_a_child_has_none() -> None:
    """Grants are not inherited."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    child = guest.desk.connect()
    guest.desk.call(child, "space.attach", space=guest.call("space.fork")["space"])

    assert guest.desk.call(child, "maps") == {"entries": []}


def test_the_guest_sees_what_is_in_use() -> None:
    """GTF_reading while a grant is mapped, GTF_writing while that may be written; the rest of the entry stays."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 6, flags=PERMIT | READ_ONLY)
    guest.map(8, 9, 8, prot=1)
    assert (guest.flags(8), guest.flags(9)) == (PERMIT | READING, PERMIT | READ_ONLY | READING)

    guest.map(8, addr=BASE + 16 * PAGE)
    assert guest.flags(8) == PERMIT | READING | WRITING
    guest.call("munmap", addr=BASE + 16 * PAGE, len=PAGE)
    assert guest.flags(8) == PERMIT | READING

    guest.call("munmap", addr=BASE, len=PAGE)
    assert guest.flags(8) == PERMIT | READING
    guest.call("mmap", addr=BASE + 2 * PAGE, len=PAGE, prot=3, fixed=True)
    assert (guest.flags(8), guest.flags(9)) == (PERMIT, PERMIT | READ_ONLY | READING)


def test_version_2_shows_it_in_the_status_frames() -> None:
    """The entries are 16 bytes, their bits lie in frames of their own, which are there when they are needed."""
    guest = Granting()
    guest.desk.broker.world.machine.domains[guest.dom].grants.version = 2
    guest.call("write", addr=TABLE + 16 * 8, data=struct.pack("<HHIQ", PERMIT, 0, 0, 5))
    guest.map(8)
    status = TABLE + 8 * PAGE
    guest.call("mmap", addr=status, len=PAGE, prot=3, fixed=True)
    guest.call("privcmd.mmap_resource", dom=guest.dom, type=1, id=1, num=1, addr=status)

    assert guest.call("read", addr=status, len=32)["data"] == bytes(16) + bytes([READING | WRITING]) + bytes(15)
    guest.call("munmap", addr=BASE, len=PAGE)
    assert guest.call("read", addr=status, len=32)["data"] == bytes(32)


def test_a_process_that_ends_uses_nothing_any_more() -> None:
    """However it ends, the guest may end its grants then."""
    guest = Granting()
    guest.grant(8, 5)
    other = guest.desk.connect()
    guest.desk.call(other, "space.attach", personality="linux")
    guest.desk.call(other, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True, file=GNTDEV)
    guest.desk.call(other, "gntdev.map", dom=guest.dom, addr=BASE, arr=frames(8))
    assert guest.flags(8) == PERMIT | READING | WRITING

    guest.desk.broker.disconnect(other)

    assert guest.flags(8) == PERMIT


def test_a_grant_in_use_is_what_it_was() -> None:
    """What the guest writes over a grant that is mapped changes nothing for who maps it again, as in Xen."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    guest.grant(8, 7, flags=0)

    again = guest.map(8, addr=BASE + PAGE, extents=True)

    assert triples(again["extents"]) == [(0, 5, 1)]
    guest.call("munmap", addr=BASE, len=2 * PAGE)
    assert guest.map(8) == "EINVAL"


def test_a_count_that_is_wrong_is_found() -> None:
    """Law 11 counts again, in both directions."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8)
    domain = guest.desk.broker.world.machine.domains[guest.dom]
    pin = domain.grants.pins[8]

    pin.n_writable -= 1
    with pytest.raises(LawBroken, match="11 grants"):
        guest.desk.broker.check()
    pin.n_writable += 1
    guest.desk.broker.check()
    del domain.grants.pins[8]
    with pytest.raises(LawBroken, match="mapped and not counted"):
        guest.desk.broker.check()


@settings(max_examples=40, deadline=None)
@given(
    rubbish=st.binary(min_size=1, max_size=64),
    at=st.integers(0, 48),
    version=st.sampled_from([1, 2]),
    refs=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    prot=st.sampled_from([1, 3]),
)
def test_rubbish_in_a_table_harms_its_guest_alone(
    rubbish: bytes, at: int, version: int, refs: list[int], prot: int
) -> None:
    """Whatever a guest writes, before and while its grants are mapped: the laws hold and others are served."""
    guest = Granting()
    guest.desk.broker.world.machine.domains[guest.dom].grants.version = version
    other = guest.desk.connect()
    for ref in range(6):
        guest.grant(ref, ref)
    guest.call("write", addr=TABLE + at, data=rubbish)
    answer = guest.map(*refs, prot=prot)
    assert answer == "EINVAL" or answer["num"] == len(refs)
    guest.call("write", addr=TABLE + 128 - at - len(rubbish), data=rubbish)
    guest.map(*refs, addr=BASE + 8 * PAGE)
    guest.call("munmap", addr=BASE, len=16 * PAGE)

    assert not guest.desk.broker.world.machine.domains[guest.dom].grants.pins
    assert guest.desk.call(other, "ping")["instance"]
    guest.desk.broker.check()


def end(prefix: str, dom: int, ref: int, offset: int = 0) -> dict[str, int]:
    """One end of a segment that is a grant."""
    return {f"{prefix}_dom": dom, f"{prefix}_ref": ref, f"{prefix}_offset": offset}


def segment(size: int, source: dict[str, int] | None = None, dest: dict[str, int] | None = None) -> dict[str, int]:
    """A segment of so many bytes; an end that is None is the caller's own memory."""
    flags = (1 if source else 0) | (2 if dest else 0)
    return {"flags": flags, "len": size, **(source or end("source", 0, 0)), **(dest or end("dest", 0, 0))}


def test_bytes_are_copied_from_and_to_grants() -> None:
    """Own to grant, grant to grant, grant to own, in the order of the request; nothing is mapped and nothing in use."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 6)
    dom = guest.dom

    answer = guest.call(
        "gntdev.copy",
        segments=[
            segment(4, None, end("dest", dom, 8, 4092)),
            segment(4, end("source", dom, 8, 4092), end("dest", dom, 9, 1)),
            segment(6, end("source", dom, 9)),
            segment(0, end("source", dom, 99)),
        ],
        data=b"ring",
    )

    assert answer == {"status": [0, 0, 0, 0], "data": b"\0ring\0"}
    assert (guest.flags(8), guest.flags(9), guest.held()) == (PERMIT, PERMIT, 0)


def test_copying_to_a_frame_marks_it_dirty() -> None:
    """A domain that is being moved has it sent again; a copy from it changes nothing."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 6)
    machine = guest.desk.broker.world.machine
    log_dirty.switch(machine, guest.dom, on=True)

    guest.call("gntdev.copy", segments=[segment(4, end("source", guest.dom, 9), end("dest", guest.dom, 8))])

    assert log_dirty.take(machine, guest.dom, 32, clean=False).nonzero()[0].tolist() == [5]


def test_each_segment_has_its_own_status() -> None:
    """Xen's words; one that fails gives zeros, and the next is copied all the same."""
    guest = Granting()
    guest.grant(8, 5)
    guest.grant(9, 5, flags=PERMIT | READ_ONLY)
    guest.grant(10, 5, to=3)
    guest.grant(11, 40)
    guest.grant(12, 7)
    guest.call("domain.page_out", dom=guest.dom, arr=[7])
    dom = guest.dom
    sources = [end("source", *which) for which in ((dom + 1, 8), (dom, 2**32), (dom, 10), (dom, 11), (dom, 12))]
    asked = [segment(2, None, end("dest", dom, 9)), *(segment(2, source) for source in sources)]
    asked += [segment(2, None, end("dest", dom, 8)), segment(2, end("source", dom, 9))]

    answer = guest.call("gntdev.copy", segments=asked, data=b"noyo")

    assert answer.pop("why") == (
        f"segments[0]: grant 9 of domain {dom} is read-only (general_error) (the first of 6 that were refused)"
    )
    assert answer == {"status": [-1, -2, -3, -1, -9, -12, 0, 0], "data": bytes(10) + b"yo"}


def test_version_2_gives_parts_of_frames() -> None:
    """GTF_sub_page: these bytes can be copied and no others, and the frame cannot be mapped."""
    guest = Granting()
    guest.desk.broker.world.machine.domains[guest.dom].grants.version = 2
    guest.call("write", addr=TABLE + 16 * 8, data=struct.pack("<HHHHQ", PERMIT | 256, 0, 100, 16, 5))
    ends = [segment(8, None, end("dest", guest.dom, 8, offset)) for offset in (99, 100, 108, 109)]

    assert guest.call("gntdev.copy", segments=ends, data=b"." * 32)["status"] == [-1, 0, 0, -1]
    assert guest.map(8) == "EINVAL"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flags": 0}, "neither end"),
        ({"flags": 4}, "neither end"),
        ({"dest_offset": 4093}, "4096"),
        ({"len": 3}, "data has 4 bytes"),
    ],
)
def test_the_driver_refuses_before_anything_is_copied(change: dict[str, int], expected: str) -> None:
    """EINVAL for the whole request, whichever segment it is."""
    guest = Granting()
    guest.grant(8, 5)
    good = segment(4, None, end("dest", guest.dom, 8))

    with pytest.raises(Refused, match=expected):
        guest.call("gntdev.copy", segments=[good, {**good, **change}], data=b"ring" * (1 if "len" in change else 2))

    assert guest.call("gntdev.copy", segments=[segment(4, end("source", guest.dom, 8))])["data"] == bytes(4)


def taken(desk: Desk, session: Any, method: str, **params: int) -> int:
    """A port, without its descriptors."""
    reply = desk.reply(session, method, **params)
    for fd in reply.fds:
        os.close(fd)
    port: int = result(reply)["port"]
    return port


@pytest.mark.parametrize("how", ["munmap", "replaced", "process ends", "page replaced"])
def test_unmapping_clears_a_byte_and_sends_an_event(how: str) -> None:
    """Of one page, once, however it comes to be unmapped; the event also when its port is closed by then."""
    guest = Granting()
    guest.grant(8, 5)
    mine = guest.desk.connect()
    port = taken(guest.desk, guest.session, "evtchn.alloc_unbound", on=guest.dom, remote=0)
    local = taken(guest.desk, mine, "evtchn.bind_interdomain", dom=guest.dom, port=port)
    there = guest.desk.connect()
    guest.desk.call(there, "space.attach", personality="linux")
    guest.desk.call(there, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True, file=GNTDEV)
    guest.desk.call(there, "gntdev.map", dom=guest.dom, addr=BASE, arr=frames(8))
    guest.desk.call(there, "write", addr=BASE, data=b"\xff\xff\xff")
    guest.desk.call(there, "gntdev.notify", addr=BASE + 2, action=3, port=local)
    guest.desk.call(there, "gntdev.notify", addr=BASE + 1, action=3, port=local)
    guest.desk.broker.disconnect(mine)
    pending = [guest.call("evtchn.pending", on=guest.dom, port=port)["pending"]]

    if how == "process ends":
        guest.desk.broker.disconnect(there)
    elif how == "page replaced":
        guest.grant(9, 6)
        guest.desk.call(there, "gntdev.map", dom=guest.dom, addr=BASE, arr=frames(9))
    elif how == "replaced":
        guest.desk.call(there, "mmap", addr=BASE, len=PAGE, prot=3, fixed=True)
    else:
        guest.desk.call(there, "munmap", addr=BASE, len=PAGE)

    pending += [guest.call("evtchn.pending", on=guest.dom, port=port)["pending"] for _ in range(2)]
    assert pending == [False, True, False]
    guest.map(8)
    assert guest.call("read", addr=BASE, len=3)["data"] == b"\xff\0\xff"


def test_what_cannot_be_notified_is_refused() -> None:
    """No grant there: ENOENT. No such action, nobody's port, a byte that may not be written: EINVAL."""
    guest = Granting()
    guest.grant(8, 5)
    guest.map(8, prot=1)

    for asked, name in (
        ({"addr": BASE + PAGE, "action": 1}, "ENOENT"),
        ({"addr": TABLE, "action": 0}, "ENOENT"),
        ({"addr": BASE, "action": 1}, "EINVAL"),
        ({"addr": BASE, "action": 4}, "EINVAL"),
        ({"addr": BASE, "action": 2, "port": 77}, "EINVAL"),
    ):
        with pytest.raises(Refused) as refused:
            guest.call("gntdev.notify", **asked)
        assert refused.value.name == name
    guest.call("gntdev.notify", addr=BASE, action=0)


def test_tools_ask_through_a_hypercall() -> None:
    """Size and version of a table; a domain that is not there is a status of the one and an errno of the other."""
    desk = Desk()
    tool = Tool(desk)
    dom = desk.domain(tool.session)

    def call(command: int, layout: Any, *domids: int) -> tuple[int, list[dict[str, Any]]]:
        tool.put(b"".join(layout.pack({"dom": domid}) for domid in domids))
        ret = tool.call(20, command, 0x20_0000_0000, len(domids))
        data = tool.get(len(domids) * layout.size)
        return ret, [layout.unpack(data, index * layout.size) for index in range(len(domids))]

    ret, sizes = call(6, grant_table_op.QUERY_SIZE, dom, dom + 1)
    assert (ret, sizes[0]) == (0, {"dom": dom, "nr_frames": 0, "max_nr_frames": 64, "status": 0})
    assert sizes[1]["status"] == -2
    assert call(10, grant_table_op.GET_VERSION, dom)[1][0]["version"] == 1
    assert call(10, grant_table_op.GET_VERSION, dom + 1)[0] == -3
    assert call(6, grant_table_op.QUERY_SIZE, 0)[0] == -38
    assert call(2, grant_table_op.QUERY_SIZE, dom)[0] == -38
    assert tool.call(20, 6, 0x20_0000_0000, 1 << 20) == -7
