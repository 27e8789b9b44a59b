# SPDX-License-Identifier: Apache-2.0
"""What a toolstack saves of a domain beside its pages, and loads into another: all of it comes back."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from privcmdd.model.host import Host
from privcmdd.service.hypercalls import cpu_policy, domctl, hvm_context, memory_op, mmuext_op, sched_op, sysctl
from privcmdd.service.hypercalls.cpu_policy import EXTENDED, LEAF, MSR, NONE
from support.desk import Desk, settings
from support.tool import ARRAY, BUFFERS, DOMCTL, HVM, PV, PVH, SYSCTL, Tool

if TYPE_CHECKING:
    from privcmdd.service.layout import Layout

GET_POLICY, SET_POLICY, GET_CONTEXT, SET_CONTEXT, GET_RECORD, GET_TSC, SET_TSC = 82, 83, 33, 34, 55, 59, 60
SCHED_OP, MMUEXT_OP = 29, 26
MSRS_AT = ARRAY + 0x2000


@pytest.fixture
def tool() -> Tool:
    """A toolstack that may do everything."""
    return Tool(Desk())


def get_policy(tool: Tool, dom: int) -> tuple[dict[tuple[int, int], tuple[int, ...]], dict[int, int]]:
    """The leaves and MSRs of a domain."""
    ret, answer = tool.domctl(
        GET_POLICY,
        dom,
        cpu_policy.DOMAIN_POLICY,
        nr_leaves=cpu_policy.MOST_LEAVES,
        nr_msrs=2,
        leaves=ARRAY,
        msrs=MSRS_AT,
    )
    assert ret == 0
    leaves = LEAF.iter_unpack(tool.get(LEAF.size * answer["nr_leaves"], ARRAY))
    msrs = MSR.iter_unpack(tool.get(MSR.size * answer["nr_msrs"], MSRS_AT))
    return {row[:2]: row[2:] for row in leaves}, {number: value for number, _, value in msrs}


def set_policy(
    tool: Tool, dom: int, leaves: list[tuple[int, ...]], msrs: list[tuple[int, int, int]]
) -> tuple[int, dict[str, Any]]:
    """Change some of them."""
    tool.put(b"".join(LEAF.pack(*row) for row in leaves) or b"\0", ARRAY)
    tool.put(b"".join(MSR.pack(*row) for row in msrs) or b"\0", MSRS_AT)
    values = {"nr_leaves": len(leaves), "nr_msrs": len(msrs), "leaves": ARRAY, "msrs": MSRS_AT}
    return tool.domctl(SET_POLICY, dom, cpu_policy.DOMAIN_POLICY, **values)


@pytest.mark.parametrize("kind", [HVM, PV, PVH])
def test_a_domain_has_the_policy_that_it_was_given(tool: Tool, kind: str) -> None:
    """What was set is got; what was not mentioned is the processor's; another domain has nothing of it."""
    dom, other = tool.build(kind), tool.build(kind)
    leaves, msrs = get_policy(tool, dom)
    assert leaves[0, NONE][1:] == struct.unpack("<3I", b"AuthcAMDenti")

    changed = (1, NONE, 1, 2, 3, 4)
    assert set_policy(tool, dom, [changed], [(0xCE, 0, 1 << 31)])[0] == 0

    assert get_policy(tool, dom) == ({**leaves, (1, NONE): (1, 2, 3, 4)}, {**msrs, 0xCE: 1 << 31})
    assert get_policy(tool, other) == (leaves, msrs)


def test_leaves_past_the_last_are_kept_and_not_shown(tool: Tool) -> None:
    """Leaf 0 says how far the basic leaves go, 0x80000000 how far the extended ones do."""
    dom = tool.build()
    vendor = get_policy(tool, dom)[0][0, NONE][1:]

    assert set_policy(tool, dom, [(0, NONE, 0, *vendor), (7, 0, 9, 9, 9, 9)], [])[0] == 0
    shown = get_policy(tool, dom)[0]

    assert {place for place in shown if place[0] < 0x4000_0000} == {(0, NONE)}
    assert (EXTENDED + 8, NONE) in shown


@pytest.mark.parametrize(
    ("leaf", "msr", "ret", "place"),
    [
        ((14, NONE), None, errno.ERANGE, (14, NONE, NONE)),
        ((1, 0), None, errno.ERANGE, (1, 0, NONE)),
        ((4, 6), None, errno.ERANGE, (4, 6, NONE)),
        ((EXTENDED + 0x22, NONE), None, errno.ERANGE, (EXTENDED + 0x22, NONE, NONE)),
        ((0, NONE), None, errno.EINVAL, (0, NONE, NONE)),
        (None, (0x10, 0, 0), errno.ERANGE, (NONE, NONE, 0x10)),
        (None, (0xCE, 1, 0), errno.EINVAL, (NONE, NONE, 0xCE)),
        (None, (0xCE, 0, 1 << 32), errno.EOVERFLOW, (NONE, NONE, 0xCE)),
    ],
)
def test_a_bad_policy_is_refused_whole(
    tool: Tool, leaf: tuple[int, int] | None, msr: tuple[int, int, int] | None, ret: int, place: tuple[int, ...]
) -> None:
    """The answer names the leaf or the MSR, and nothing has changed."""
    dom = tool.build()
    before = get_policy(tool, dom)
    good = (1, NONE, 1, 2, 3, 4)

    answer = set_policy(tool, dom, [good, *([(*leaf, 99, 0, 0, 0)] if leaf else [])], [msr] if msr else [])

    assert answer[0] == -ret
    assert tuple(answer[1][name] for name in ("err_leaf", "err_subleaf", "err_msr")) == place
    assert get_policy(tool, dom) == before


def test_room_for_a_policy(tool: Tool) -> None:
    """Without a place the most that there can be is told; too little room is ENOBUFS, too much told E2BIG."""
    dom = tool.build()
    ret, most = tool.domctl(GET_POLICY, dom, cpu_policy.DOMAIN_POLICY)

    assert (ret, most["nr_leaves"], most["nr_msrs"]) == (0, 120, 2)
    assert tool.domctl(GET_POLICY, dom, cpu_policy.DOMAIN_POLICY, nr_leaves=3, leaves=ARRAY)[0] == -errno.ENOBUFS
    assert set_policy(tool, dom, [(1, NONE, 0, 0, 0, 0)] * 121, [])[0] == -errno.E2BIG


def test_the_policies_of_the_machine(tool: Tool) -> None:
    """There are six, all as a new domain's."""
    dom = tool.build()
    leaves, _ = get_policy(tool, dom)

    def ask(**values: int) -> int:
        head = sysctl.HEAD.pack({"cmd": 29, "interface_version": sysctl.INTERFACE_VERSIONS["4.17"]})
        tool.put((head + cpu_policy.SYSTEM_POLICY.pack(values)).ljust(sysctl.SYSCTL_BYTES, b"\0"))
        return tool.call(SYSCTL, BUFFERS)

    for index in range(6):
        assert ask(index=index, nr_leaves=120, leaves=ARRAY) == 0
        assert {row[:2]: row[2:] for row in LEAF.iter_unpack(tool.get(LEAF.size * len(leaves), ARRAY))} == leaves
    assert ask(index=6) == -errno.EINVAL
    assert ask(index=0, _rsvd=1) == -errno.EINVAL


def test_the_features_of_the_machine(tool: Tool) -> None:
    """Words of the same leaves; too little room is ENOBUFS, with what fits."""

    def ask(**values: int) -> int:
        head = sysctl.HEAD.pack({"cmd": 26, "interface_version": sysctl.INTERFACE_VERSIONS["4.17"]})
        tool.put((head + cpu_policy.FEATURESET.pack(values)).ljust(sysctl.SYSCTL_BYTES, b"\0"))
        return tool.call(SYSCTL, BUFFERS)

    assert ask(index=1) == 0
    assert cpu_policy.FEATURESET.unpack(tool.get(sysctl.SYSCTL_BYTES), sysctl.HEAD.size)["nr_features"] == 19
    assert ask(index=1, nr_features=30, features=ARRAY) == 0
    words = struct.unpack("<19I", tool.get(76, ARRAY))
    leaves = get_policy(tool, tool.build())[0]
    assert words[:4] == (*leaves[1, NONE][:1:-1], *leaves[EXTENDED + 1, NONE][:1:-1])
    assert not any(words[4:])
    tool.put(bytes(8), ARRAY)
    assert ask(index=0, nr_features=1, features=ARRAY) == -errno.ENOBUFS
    assert struct.unpack("<2I", tool.get(8, ARRAY)) == (words[0], 0)
    assert ask(index=6, nr_features=19, features=ARRAY) == -errno.EINVAL


def get_context(tool: Tool, dom: int) -> bytes:
    """The context of a domain."""
    ret, answer = tool.domctl(GET_CONTEXT, dom, hvm_context.CONTEXT)
    assert ret == 0
    size: int = answer["size"]
    assert tool.domctl(GET_CONTEXT, dom, hvm_context.CONTEXT, size=size - 1, buffer=ARRAY)[0] == -errno.ENOSPC
    assert tool.domctl(GET_CONTEXT, dom, hvm_context.CONTEXT, size=size, buffer=ARRAY)[0] == 0
    return tool.get(size, ARRAY)


def set_context(tool: Tool, dom: int, context: bytes) -> int:
    """Load one."""
    tool.put(context, ARRAY)
    return tool.domctl(SET_CONTEXT, dom, hvm_context.CONTEXT, size=len(context), buffer=ARRAY)[0]


def records(context: bytes) -> dict[tuple[int, int], bytes]:
    """Its records, without header and end."""
    return {(code, instance): data for code, instance, data in hvm_context.read_records(context, errno.EINVAL)}


def context_of(content: dict[tuple[int, int], bytes], head: bytes) -> bytes:
    """A context from another's header and records."""
    rows = [hvm_context.described(*key, data) for key, data in content.items()]
    return head[: hvm_context.DESCRIPTOR.size + hvm_context.HEADER.size] + b"".join(rows) + bytes(8)


@pytest.mark.parametrize("kind", [HVM, PVH])
def test_virtual_hardware_comes_back_in_another_domain(tool: Tool, kind: str) -> None:
    """Every record as it was loaded, and no more; a vcpu without registers in it is offline."""
    source, target = tool.build(kind), tool.build(kind)
    blank = get_context(tool, source)
    assert (2, 0) not in records(blank), "nobody has set up its vcpu"
    assert tool.info(target)["nr_online_vcpus"] == 0
    filled = {key: bytes(range(1, 9)) + data[8:] for key, data in records(blank).items() if key[0] not in (7, 8, 9)}
    filled[2, 0] = b"\1" * 1032
    filled[16, 0] = b"an xsave area of any size"

    assert set_context(tool, source, context_of(filled, blank)) == 0
    saved = get_context(tool, source)
    assert set_context(tool, target, saved) == 0

    assert get_context(tool, target) == saved
    assert records(saved) == {**records(blank), **filled}
    assert tool.info(target)["nr_online_vcpus"] == 1


def test_interrupt_lines_are_part_of_it(tool: Tool) -> None:
    """Levels and routes that a device model has set are saved, and are the lines of the domain that loads them."""
    source, target = tool.build(), tool.build()
    lines = tool.desk.broker.world.machine.domain(source).interrupts
    lines.set_intx(3, 1, asserted=True)
    lines.set_isa(4, asserted=True)
    lines.set_route(0, 11)
    loaded = tool.desk.broker.world.machine.domain(target).interrupts
    loaded.set_isa(9, asserted=True)

    assert set_context(tool, target, get_context(tool, source)) == 0

    assert (loaded.intx, loaded.asserted(), loaded.routes) == ({(3, 1)}, [4, 11], [11, 0, 0, 0])
    assert tool.desk.call(tool.session, "guest.interrupts", dom=target, after=0)["isa"] == [4, 11]


@pytest.mark.parametrize(("xen", "ret"), [("4.17", errno.EPERM), ("4.20", errno.EINVAL)])
def test_a_bad_context_is_refused_whole(xen: Literal["4.17", "4.20"], ret: int) -> None:
    """Cut short, of another format, with records that no such domain has: nothing is loaded."""
    tool = Tool(Desk(replace(settings(), host=Host(xen=xen))))
    dom = tool.build()
    good = get_context(tool, dom)
    head, end = good[:32], bytes(8)
    row = hvm_context.described
    bad = [
        good[:-8],
        good[:20],
        good[32:],
        b"\1\0\0\0\x18\0\0\0" + bytes(24) + end,
        head + row(99, 0, b"") + end,
        head + row(11, 0, b"\1" * 24) + row(2, 0, bytes(1031)) + end,
        head + row(2, 1, bytes(1032)) + end,
        head + row(3, 2, bytes(8)) + end,
        head + row(9, 0, b"\x10" + bytes(7)) + end,
        head + row(11, 0, bytes(24))[:-1],
    ]

    assert [set_context(tool, dom, context) for context in bad] == [-ret] * len(bad)
    assert get_context(tool, dom) == good
    assert tool.domctl(SET_CONTEXT, dom, hvm_context.CONTEXT, size=2**31, buffer=ARRAY)[0] == -errno.ENOMEM


def test_what_4_17_saved_is_loaded_on_4_20(tool: Tool) -> None:
    """The record of a local APIC is longer there: a shorter one gets zeros behind it. The way back is refused."""
    newer = Tool(Desk(replace(settings(), host=Host(xen="4.20"))))
    old, new = tool.build(), newer.build()
    lapic = hvm_context.LAPIC, 0
    saved = records(get_context(tool, old))
    saved[lapic] = b"\7" * 24

    assert set_context(newer, new, context_of(saved, get_context(tool, old))) == 0

    assert records(get_context(newer, new))[lapic] == b"\7" * 24 + bytes(8)
    assert set_context(tool, old, get_context(newer, new)) == -errno.EPERM


def test_one_record(tool: Tool) -> None:
    """Its size, and its content without a descriptor."""
    dom, pv = tool.build(), tool.build(PV)

    def ask(dom: int, **values: int) -> tuple[int, int]:
        ret, answer = tool.domctl(GET_RECORD, dom, hvm_context.PARTIAL, **values)
        return ret, answer["bufsz"]

    assert ask(dom, type=14, instance=0) == (0, 240)
    assert ask(dom, type=14, instance=0, bufsz=4096, buffer=ARRAY) == (0, 240)
    assert ask(dom, type=14, instance=0, bufsz=239, buffer=ARRAY)[0] == -errno.EINVAL
    assert ask(dom, type=14, instance=1)[0] == -errno.ENOENT
    assert ask(dom, type=99)[0] == -errno.EINVAL
    assert ask(pv, type=14)[0] == -errno.EINVAL
    assert tool.domctl(GET_CONTEXT, pv, hvm_context.CONTEXT)[0] == -errno.EINVAL


def test_time_stamp_counters_are_kept(tool: Tool) -> None:
    """As they were set, one incarnation on; a frequency of 0 is the processor's; there are three modes."""
    dom = tool.build()
    names = ("tsc_mode", "gtsc_khz", "incarnation", "elapsed_nsec")

    def told(*values: int) -> int:
        return tool.domctl(SET_TSC, dom, domctl.TSC_INFO, **dict(zip(names, values, strict=True)))[0]

    def ask() -> tuple[int, ...]:
        ret, answer = tool.domctl(GET_TSC, dom, domctl.TSC_INFO)
        assert ret == 0
        return tuple(answer[name] for name in names)

    assert ask() == (0, 2_000_000, 1, 0)
    assert told(1, 1_800_000, 7, 123) == 0
    assert ask() == (1, 1_800_000, 8, 123)
    assert told(3, 0, 0, 0) == -errno.EINVAL
    assert ask() == (1, 1_800_000, 8, 123)
    assert told(0, 0, 0xFFFF_FFFF, 0) == 0
    assert ask() == (0, 2_000_000, 0, 0)
    assert told(2, 5, 0, 5) == 0
    assert ask() == (2, 0, 1, 0), "of one that is never emulated nothing is told"


def test_a_domain_is_suspended_and_goes_on(tool: Tool) -> None:
    """SCHEDOP_remote_shutdown and resumedomain: the first reason counts, until it goes on."""
    dom = tool.build()

    def shut_down(domid: int, reason: int) -> int:
        tool.put(sched_op.SHUTDOWN.pack({"domain_id": domid, "reason": reason}))
        return tool.call(SCHED_OP, 4, BUFFERS)

    def stopped() -> int:
        flags: int = tool.info(dom)["flags"]
        return flags & 0xFF0004

    assert stopped() == 0
    assert [shut_down(dom, 2), shut_down(dom, 3)] == [0, 0]
    assert stopped() == 2 << 16 | 4
    assert tool.domctl(27, dom)[0] == 0
    assert stopped() == 0
    assert (shut_down(0, 2), shut_down(0x7FF0, 2), shut_down(77, 2)) == (-errno.EPERM, -errno.EPERM, -errno.ESRCH)
    assert tool.call(SCHED_OP, 0, 0) == -errno.ENOSYS


def test_page_tables_are_told_from_other_frames(tool: Tool) -> None:
    """A pinned frame's level is in its type (LPINTAB), until it is unpinned."""
    dom = tool.build(PV)
    mfns = tool.array(16)

    def types() -> list[int]:
        tool.put(struct.pack("<2Q", *mfns[:2]), ARRAY)
        assert tool.domctl(61, dom, domctl.FRAME_INFO, num=2, array=ARRAY)[0] == 0
        return tool.array(2)

    def pin(command: int) -> int:
        tool.put(mmuext_op.OPERATION.pack({"cmd": command, "arg1": mfns[1]}))
        return tool.call(MMUEXT_OP, BUFFERS, 1, 0, dom)

    assert types() == [0, 0]
    assert pin(3) == 0
    assert types() == [0, 0xC000_0000]
    assert pin(mmuext_op.UNPIN) == 0
    assert types() == [0, 0]


def test_vcpus_of_a_pv_guest(tool: Tool) -> None:
    """What libxenguest asks of each: whether it is online, callbacks as they were set, no XSAVE area, no MSRs."""
    dom = tool.build(PV)
    callbacks: dict[str, Any] = {"syscall32_callback_eip": 1 << 40, "sysenter_callback_cs": 7, "vmce": {"caps": 9}}

    def extended() -> dict[str, Any]:
        ret, answer = tool.domctl(43, dom, domctl.EXTENDED_CONTEXT)
        assert (ret, answer["size"]) == (0, 64)
        return answer

    assert tool.domctl(14, dom, domctl.VCPU_INFO)[1]["online"] == 0
    tool.put(b"\1" * domctl.VCPU_CONTEXT_BYTES, ARRAY)
    assert tool.domctl(12, dom, domctl.VCPU_CONTEXT, ctxt=ARRAY)[0] == 0
    assert tool.domctl(14, dom, domctl.VCPU_INFO)[1]["online"] == 1
    assert extended()["syscall32_callback_eip"] == 0
    assert tool.domctl(42, dom, domctl.EXTENDED_CONTEXT, size=64, **callbacks)[0] == 0
    assert tool.domctl(42, dom, domctl.EXTENDED_CONTEXT, size=8)[0] == -errno.EINVAL
    found = extended()
    assert (found["syscall32_callback_eip"], found["sysenter_callback_cs"], found["vmce"]["caps"]) == (1 << 40, 7, 9)
    assert tool.domctl(63, dom, domctl.XSAVE_AREA, size=99)[1]["size"] == 0
    assert tool.domctl(72, dom, domctl.VCPU_MSRS, msr_count=99)[1]["msr_count"] == 0
    for command, layout in ((14, domctl.VCPU_INFO), (43, domctl.EXTENDED_CONTEXT), (63, domctl.XSAVE_AREA)):
        assert tool.domctl(command, dom, layout, vcpu=1)[0] == -errno.EINVAL


def test_a_pv_guest_says_how_far_its_p2m_goes(tool: Tool) -> None:
    """In its shared_info page, which has a frame of its own from when it is told of; 0 until the guest says more."""
    dom = tool.build(PV)

    def top() -> int:
        return tool.memory(14, memory_op.DOMAIN, domid=dom)[0]

    assert top() == 0
    tot_pages = tool.info(dom)["tot_pages"]
    frame = tool.info(dom)["shared_info_frame"]
    assert frame not in tool.array(16)
    assert top() == 0
    broker = tool.desk.broker
    page = int(broker.world.machine.frames.page[frame])
    for said, answered in ((17, 16), (1, 0), (0, 0), (2**64 - 1, memory_op.MOST_PFNS)):
        broker.world.backing.write(dom, page, memory_op.MAX_PFN_OFFSET, said.to_bytes(8, "little"))
        assert top() == answered
    assert tool.info(dom)["shared_info_frame"] == frame
    assert tool.info(dom)["tot_pages"] == tot_pages
    assert tool.domctl(2, dom)[0] == 0
    broker.check()


@pytest.mark.parametrize(
    ("command", "layout"),
    [
        (GET_POLICY, cpu_policy.DOMAIN_POLICY),
        (SET_POLICY, cpu_policy.DOMAIN_POLICY),
        (GET_CONTEXT, hvm_context.CONTEXT),
        (SET_CONTEXT, hvm_context.CONTEXT),
        (GET_RECORD, hvm_context.PARTIAL),
    ],
)
def test_memory_of_nobody_is_a_fault(tool: Tool, command: int, layout: Layout) -> None:
    """Pointers to where no buffer is: EFAULT."""
    dom = tool.build()
    pointers = {
        "leaves": 8,
        "msrs": 8,
        "buffer": 8,
        "size": 8192,
        "bufsz": 8192,
        "type": 14,
        "nr_leaves": 99,
        "nr_msrs": 2,
    }
    values = {member.name: pointers[member.name] for member in layout.members if member.name in pointers}

    assert tool.domctl(command, dom, layout, **values)[0] == -errno.EFAULT
    assert tool.call(DOMCTL, 8) == -errno.EFAULT
