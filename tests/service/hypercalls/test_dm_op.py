# SPDX-License-Identifier: Apache-2.0
"""What a device model asks of its domain, and what whoever plays that domain sees of it."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.ranges import Ranges
from privcmdd.service.hypercalls import dm_interrupts, dm_ioreq, dm_memory
from privcmdd.service.hypercalls.dm_op import HEAD
from support.desk import BASE, PAGE, Desk, frames, settings
from support.profiles import PROFILE
from support.tool import HVM, Tool

if TYPE_CHECKING:
    from privcmdd.service.layout import Layout

NO_SUCH = 77


class Machine:
    """A domain of 64 pages, and a device model's connection."""

    def __init__(self) -> None:
        self.desk = Desk(settings(fds=64))
        self.tool = Tool(self.desk)
        self.session = self.tool.session
        self.dom = self.tool.build(HVM, n_pages=32)

    def op(self, number: int, layout: Layout, *more: bytes, **values: Any) -> tuple[int, dict[str, Any], list[bytes]]:
        """A DM_OP: what came back, its structure and its other buffers."""
        first = HEAD.pack({"op": number}) + layout.pack(values)
        answer = self.desk.call(self.session, "privcmd.dm_op", dom=self.dom, bufs=[first, *more])
        self.desk.broker.check()
        name = f"{errno.errorcode[-answer['ret']]}: dm_op " if answer["ret"] else ""
        assert answer.get("why", "").startswith(name)
        assert ("why" in answer) == bool(name)
        return answer["ret"], layout.unpack(answer["bufs"][0], HEAD.size), answer["bufs"][1:]

    def create(self, bufioreq: int = 2) -> int:
        """An ioreq server."""
        ret, answer, _ = self.op(1, dm_ioreq.CREATE, handle_bufioreq=bufioreq)
        assert ret == 0
        number: int = answer["id"]
        return number

    def range(self, number: int, server: int, kind: int, start: int, end: int) -> int:
        """Map (3) or unmap (4) a range."""
        return self.op(number, dm_ioreq.RANGE, id=server, type=kind, start=start, end=end)[0]

    def servers(self) -> Any:
        """As whoever plays the guest sees them."""
        return self.desk.call(self.session, "ioreq.servers", dom=self.dom)["servers"]

    def interrupts(self, after: int = 0) -> Any:
        """The guest's lines."""
        return self.desk.call(self.session, "guest.interrupts", dom=self.dom, after=after)


def test_each_vcpu_has_a_port_and_finds_it_in_its_page() -> None:
    """The ports are the guest's, wait for domain 0, and are Xen's own; enabling writes them into the ioreq page."""
    machine = Machine()
    number = machine.create()
    (server,) = machine.servers()
    rows = machine.desk.call(machine.session, "evtchn.list", on=machine.dom)["ports"]

    assert [(row["port"], row["state"], row["dom"], row["for_xen"]) for row in rows] == [
        (server["ports"][0], "unbound", 0, True),
        (server["bufioreq_port"], "unbound", 0, True),
    ]
    linux = machine.desk.connect()
    machine.desk.call(linux, "space.attach", personality="linux")
    at = machine.desk.call(linux, "mmap", addr=BASE, len=2 * PAGE, prot=3, fixed=True)["addr"]
    machine.desk.call(linux, "privcmd.mmap_resource", dom=machine.dom, type=0, id=number, num=2, addr=at)
    assert machine.op(5, dm_ioreq.STATE, id=number, enabled=1)[0] == 0
    page = machine.desk.call(linux, "read", addr=at + PAGE, len=32)["data"]
    assert struct.unpack_from("<I", page, 24)[0] == server["ports"][0]
    ret, told, _ = machine.op(2, dm_ioreq.INFO, id=number, flags=1)
    assert (ret, told["bufioreq_port"]) == (0, server["bufioreq_port"])
    assert machine.op(2, dm_ioreq.INFO, id=number, flags=0)[0] == -errno.EPERM
    assert machine.op(2, dm_ioreq.INFO, id=number, flags=2)[0] == -errno.EINVAL

    assert machine.op(6, dm_ioreq.DESTROY, id=number)[0] == 0
    assert machine.desk.call(machine.session, "evtchn.list", on=machine.dom)["ports"] == []


@pytest.mark.parametrize("call", [(2, dm_ioreq.INFO), (3, dm_ioreq.RANGE), (4, dm_ioreq.RANGE), (5, dm_ioreq.STATE)])
def test_a_server_that_is_not_there_is_enoent(call: tuple[int, Layout]) -> None:
    """For all that name one."""
    assert Machine().op(*call, id=NO_SUCH, flags=1)[0] == -errno.ENOENT


def test_ranges_are_refused_as_xen_refuses_them() -> None:
    """EINVAL backwards or of no type, EEXIST overlapping, ENOENT not all there, ENOMEM too many."""
    machine = Machine()
    number = machine.create()

    assert machine.range(3, number, 0, 0x60, 0x64) == 0
    assert machine.range(3, number, 0, 0x64, 0x70) == -errno.EEXIST
    assert machine.range(3, number, 0, 0x65, 0x70) == 0
    assert machine.servers()[0]["ranges"]["port"] == [[0x60, 0x70]]
    assert machine.range(4, number, 0, 0x62, 0x71) == -errno.ENOENT
    assert machine.range(4, number, 0, 0x62, 0x63) == 0
    assert machine.servers()[0]["ranges"]["port"] == [[0x60, 0x61], [0x64, 0x70]]
    assert machine.range(3, number, 1, 9, 8) == -errno.EINVAL
    assert machine.range(3, number, 3, 8, 9) == -errno.EINVAL
    for at in range(256):
        assert machine.range(3, number, 1, 4 * at, 4 * at) == 0
    assert machine.range(3, number, 1, 4096, 4096) == -errno.ENOMEM
    assert machine.range(3, number, 1, 1, 1) == 0, "next to another, it is no range more"
    assert machine.range(3, number, 1, (1 << 64) - 1, (1 << 64) - 1) == -errno.ENOMEM


@PROFILE.law
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 6)), max_size=20))
def test_ranges_are_sets_of_numbers(changes: list[tuple[bool, int, int]]) -> None:
    """Adding what is not there and taking away what is, they hold what a set holds, in as few ranges as can be."""
    ranges, numbers = Ranges(), set[int]()
    for add, start, n in changes:
        part = set(range(start, start + n + 1))
        assert ranges.overlaps(start, start + n) == bool(part & numbers)
        assert ranges.contains(start, start + n) == (part <= numbers)
        if add and not part & numbers:
            ranges, numbers = ranges.with_added(start, start + n), numbers | part
        elif not add and part <= numbers:
            ranges, numbers = ranges.without(start, start + n), numbers - part
        assert [number for first, last in ranges for number in range(first, last + 1)] == sorted(numbers)
        assert len(ranges) == sum(number - 1 not in numbers for number in numbers)


def test_interrupt_lines_are_as_they_are_driven() -> None:
    """ISA directly, PCI pins through the link they are wired to; messages in order; out of range is EINVAL."""
    machine = Machine()

    def isa(irq: int, level: int) -> int:
        return machine.op(9, dm_interrupts.ISA_IRQ, isa_irq=irq, level=level)[0]

    def intx(device: int, pin: int, level: int, **other: int) -> int:
        return machine.op(8, dm_interrupts.PCI_INTX, device=device, intx=pin, level=level, **other)[0]

    assert [isa(14, 1), isa(14, 1), isa(3, 1), isa(3, 0), isa(16, 1), isa(4, 2)] == [0] * 4 + [-errno.EINVAL] * 2
    assert machine.interrupts()["isa"] == [14]
    assert machine.interrupts()["n_changes"] == 3
    assert machine.op(10, dm_interrupts.LINK_ROUTE, link=2, isa_irq=11)[0] == 0
    assert machine.op(10, dm_interrupts.LINK_ROUTE, link=4, isa_irq=11)[0] == -errno.EINVAL
    assert machine.op(10, dm_interrupts.LINK_ROUTE, link=0, isa_irq=16)[0] == -errno.EINVAL
    assert intx(4, 2, 1) == 0
    assert machine.interrupts()["isa"] == [11, 14]
    assert machine.interrupts()["intx"] == [{"device": 4, "pin": 2}]
    refused = [intx(32, 0, 1), intx(1, 4, 1), intx(1, 0, 2), intx(1, 0, 1, bus=1), intx(1, 0, 1, domain=1)]
    assert refused == [-errno.EINVAL] * 5
    assert intx(4, 2, 0) == 0
    assert machine.interrupts()["isa"] == [14]
    for data in (0x30, 0x31):
        assert machine.op(14, dm_interrupts.MSI, addr=0xFEE00000, data=data)[0] == 0
    assert [msi["data"] for msi in machine.interrupts()["msis"]] == [0x30, 0x31]
    assert machine.interrupts(after=1)["msis"] == [{"number": 2, "address": 0xFEE00000, "data": 0x31}]


def test_whoever_plays_the_guest_is_told() -> None:
    """Of servers that change, and of interrupt lines that really do."""
    machine = Machine()
    machine.desk.call(machine.session, "subscribe", topics=["ioreq", "interrupt"])

    number = machine.create()
    machine.op(5, dm_ioreq.STATE, id=number, enabled=1)
    machine.op(5, dm_ioreq.STATE, id=number, enabled=1)
    machine.op(9, dm_interrupts.ISA_IRQ, isa_irq=14, level=1)
    machine.op(9, dm_interrupts.ISA_IRQ, isa_irq=14, level=1)

    assert [(event.topic, event.params) for event in machine.desk.events] == [
        ("ioreq", [{"dom": machine.dom}]),
        ("ioreq", [{"dom": machine.dom}]),
        ("interrupt", [{"dom": machine.dom}]),
    ]


def test_a_domain_is_shut_down_for_one_reason() -> None:
    """remote_shutdown: the first one, which the toolstack sees and is told of."""
    machine = Machine()

    for reason in (2, 3):
        assert machine.op(16, dm_interrupts.SHUTDOWN, reason=reason)[0] == 0

    flags = machine.tool.info(machine.dom)["flags"]
    assert flags >> 2 & 1
    assert flags >> 16 & 0xFF == 2


def test_relocated_frames_take_their_content_along() -> None:
    """Frames at the new place are put; overlapping moves go one after the other; a hole ends it, EINVAL."""
    machine = Machine()
    at = machine.desk.reserve(machine.session, 32)
    asked = {"dom": machine.dom, "addr": at, "arr": frames(*range(32))}
    machine.desk.call(machine.session, "privcmd.mmapbatch_v2", **asked)
    for gfn in range(32):
        machine.desk.call(machine.session, "write", addr=at + gfn * PAGE, data=bytes([gfn]))
    machine.desk.call(machine.session, "munmap", addr=at, len=32 * PAGE)

    def held() -> list[int | None]:
        where = machine.desk.reserve(machine.session, 64, addr=BASE + (1 << 30))
        batch = {"dom": machine.dom, "addr": where, "arr": frames(*range(64))}
        err = machine.desk.call(machine.session, "privcmd.mmapbatch_v2", **batch)["err"]
        errors = [number for (number,) in struct.iter_unpack("<i", err)]
        found = [
            None if error else machine.desk.call(machine.session, "read", addr=where + gfn * PAGE, len=1)["data"][0]
            for gfn, error in enumerate(errors)
        ]
        machine.desk.call(machine.session, "munmap", addr=where, len=64 * PAGE)
        return found

    def move(source: int, target: int, size: int) -> int:
        return machine.op(17, dm_memory.RELOCATE, src_gfn=source, dst_gfn=target, size=size)[0]

    expected: list[int | None] = [*range(32), *[None] * 32]
    for source, target, size in ((4, 40, 4), (10, 8, 4), (20, 22, 6), (0, 0, 9)):
        assert move(source, target, size) == 0 or source == 20
        for i in range(size if source != target else 0):
            if expected[source + i] is None:
                break
            expected[target + i], expected[source + i] = expected[source + i], None
        assert held() == expected
    assert move(60, 50, 1) == -errno.EINVAL
    assert move(0, 4096, 1) == -errno.EINVAL
    assert held() == expected


def test_dirty_vram_is_what_has_changed() -> None:
    """All of it the first time; then the pages whose content is another; no room for the bits is EINVAL."""
    machine = Machine()
    at = machine.desk.reserve(machine.session, 16)
    asked = {"dom": machine.dom, "addr": at, "arr": frames(*range(16))}
    machine.desk.call(machine.session, "privcmd.mmapbatch_v2", **asked)

    def dirty(first: int, nr: int, room: int = 2) -> tuple[int, list[int]]:
        ret, _, more = machine.op(7, dm_memory.DIRTY_VRAM, bytes(room), first_pfn=first, nr=nr)
        bits = np.unpackbits(np.frombuffer(more[0], dtype=np.uint8), bitorder="little")
        return ret, np.flatnonzero(bits).tolist()

    assert dirty(4, 12) == (0, list(range(12)))
    assert dirty(4, 12) == (0, [])
    for gfn in (3, 4, 9):
        machine.desk.call(machine.session, "write", addr=at + gfn * PAGE + 100, data=b"pixel")
    assert dirty(4, 12) == (0, [0, 5])
    assert dirty(5, 12) == (0, list(range(12))), "another range begins anew"
    assert dirty(4, 12, room=1)[0] == -errno.EINVAL
    assert machine.op(7, dm_memory.DIRTY_VRAM, first_pfn=4, nr=1)[0] == -errno.EINVAL
    assert dirty(0, 0)[0] == 0
    assert machine.op(7, dm_memory.DIRTY_VRAM, b"", first_pfn=0, nr=(1 << 18) + 1)[0] == -errno.EINVAL


def test_pinned_cache_attributes_are_kept_apart() -> None:
    """ENOENT to forget what was never said, EBUSY across one that is there, EINVAL no such kind, ENOSPC too many."""
    machine = Machine()

    def pin(first: int, last: int, kind: int) -> int:
        return machine.op(18, dm_memory.CACHE_ATTRIBUTE, start=first, end=last, type=kind)[0]

    forget = 0xFFFF_FFFF
    answers = [
        pin(0, 9, 1),
        pin(0, 9, 6),
        pin(5, 12, 6),
        pin(1, 0, 6),
        pin(0, 1, 2),
        pin(0, 1 << 36, 6),
        pin(3, 4, forget),
    ]
    assert answers == [0, 0, -errno.EBUSY, *[-errno.EINVAL] * 3, -errno.ENOENT]
    for at in range(63):
        assert pin(100 + at, 100 + at, 0) == 0
    assert pin(300, 300, 0) == -errno.ENOSPC
    assert pin(0, 9, forget) == 0
    assert pin(300, 300, 0) == 0


def test_what_is_not_answered_is_counted_by_name() -> None:
    """So that people see what a program asked for and did not get."""
    machine = Machine()

    for number in (13, 15, NO_SUCH):
        assert machine.op(number, dm_interrupts.MSI)[0] == -errno.EOPNOTSUPP

    counts = machine.desk.call(machine.session, "stats")["broker"]["unanswered"]
    assert counts == {"dm_op inject_event": 1, "dm_op map_mem_type_to_ioreq_server": 1, f"dm_op {NO_SUCH}": 1}
