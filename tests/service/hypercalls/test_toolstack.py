# SPDX-License-Identifier: Apache-2.0
"""Hypercalls as toolstacks make them: domains built, looked at and unmade through C structures."""

from __future__ import annotations

import errno
import re
import struct
from typing import Any, Literal

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.host import Host
from privcmdd.service.hypercalls import domctl, events, hvm_op, info, memory_op, multicall, shadow, sysctl, version
from privcmdd.service.hypercalls.call import Call
from privcmdd.service.hypercalls.memory import CallerMemory
from privcmdd.service.settings import AccessRule
from privcmdd.service.world import MOST_NAMES, OTHERS
from support.desk import BASE, PAGE, Desk, Refused, errnos, frames, settings
from support.tool import (
    ARRAY,
    BUFFERS,
    DOMCTL,
    EVENTS,
    HVM,
    HVM_OP,
    MEMORY_OP,
    MULTICALL,
    N_BUFFERS,
    PV,
    PVH,
    SYSCTL,
    XEN_VERSION,
    Tool,
)

KINDS = (HVM, PV, PVH)


@pytest.fixture
def tool() -> Tool:
    """A toolstack that may do everything."""
    return Tool(Desk())


@pytest.mark.parametrize("kind", KINDS)
def test_a_domain_is_built_looked_at_and_destroyed(tool: Tool, kind: str) -> None:
    """As the probe does it: createdomain, max_mem, max_vcpus, populate_physmap, getdomaininfo, destroydomain."""
    dom = tool.build(kind)

    seen = tool.info(dom)

    assert (seen["domain"], seen["tot_pages"], seen["max_pages"], seen["max_vcpu_id"]) == (dom, 16, 64, 0)
    assert seen["flags"] == info.PAUSED | (0 if kind == PV else info.HVM | info.HAP)
    assert tool.domctl(4, dom)[0] == 0
    assert not tool.info(dom)["flags"] & info.PAUSED
    assert tool.domctl(4, dom)[0] == -errno.EINVAL
    assert [tool.domctl(command, dom)[0] for command in (3, 3, 4)] == [0, 0, 0]
    assert tool.info(dom)["flags"] & info.PAUSED
    assert tool.domctl(2, dom)[0] == 0
    assert tool.domctl(5, dom, info.DOMAIN_INFO)[0] == -errno.ESRCH
    assert tool.domctl(3, dom)[0] == -errno.ESRCH
    tool.desk.broker.check()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_built_domain_can_be_mapped(tool: Tool, kind: str) -> None:
    """Names are gfns; of a PV domain the machine frames that populate_physmap wrote into the list."""
    dom = tool.build(kind)
    names = tool.array(16)
    tool.desk.reserve(tool.session, 16)

    batch = tool.desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(*names))

    assert batch["n_failed"] == 0
    assert (names == list(range(16))) == (kind != PV)
    assert tool.domctl(2, dom)[0] == 0
    dying = tool.info(dom)
    assert (dying["flags"] & info.DYING, dying["tot_pages"]) == (info.DYING, 16)
    tool.desk.call(tool.session, "munmap", addr=BASE, len=16 * PAGE)
    assert tool.domctl(5, dom, info.DOMAIN_INFO)[0] == -errno.ESRCH
    tool.desk.broker.check()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_vcpus": 0}, errno.EINVAL),
        ({"max_vcpus": 129}, errno.EINVAL),
        ({"flags": 1}, errno.EOPNOTSUPP),  # shadow paging
        ({"flags": 2}, errno.EINVAL),
        ({"flags": 1 << 31 | 3}, errno.EINVAL),
        ({"arch": {"emulation_flags": 2}}, errno.EINVAL),
        ({"max_grant_frames": 0}, errno.EINVAL),
        ({"max_grant_frames": 65}, errno.EINVAL),
        ({"max_maptrack_frames": 1025}, errno.EINVAL),
        ({"grant_opts": 0}, errno.EINVAL),
        ({"grant_opts": 3}, errno.EINVAL),
        ({"vmtrace_size": 4096}, errno.EINVAL),
        ({"cpupool_id": 1}, errno.EINVAL),
    ],
    ids=str,
)
def test_domains_that_xen_does_not_make(tool: Tool, changes: dict[str, Any], error: int) -> None:
    """Each with its errno, and nothing is left of it."""
    assert tool.create(**changes)[0] == -error
    assert not tool.desk.broker.world.machine.domains
    assert [what for what, key in tool.desk.backing.done if key == 1] == []


def test_a_debug_build_makes_domains_with_shadow_paging(tool: Tool) -> None:
    """The custom Xen of docs/explanation/facts/recorded-host.md, section 1; a release says EOPNOTSUPP."""
    tool.desk.broker.world.machine.host = Host(build="debug")

    assert tool.create(flags=1)[0] == 0
    assert [domain.kind for domain in tool.desk.broker.world.machine.domains.values()] == ["hvm"]


def test_another_interface_version_is_refused_first(tool: Tool) -> None:
    """EACCES before the command or the domain is looked at; in sysctl too."""
    assert tool.domctl(9999, 9999, version=0x14)[0] == -errno.EACCES
    tool.put(sysctl.HEAD.pack({"cmd": 3, "interface_version": 0x14}).ljust(sysctl.SYSCTL_BYTES, b"\0"))
    assert tool.call(SYSCTL, BUFFERS) == -errno.EACCES


@pytest.mark.parametrize(
    ("xen", "version", "advice"),
    [
        ("4.17", 0x17, 'Xen 4.17 has version 0x15; set host.xen = "4.20"'),
        ("4.20", 0x15, 'Xen 4.20 has version 0x17; set host.xen = "4.17"'),
        ("4.20", 0x99, "Xen 4.20 has version 0x17; known are 0x15 (Xen 4.17), 0x17 (Xen 4.20)"),
    ],
)
def test_the_refusal_of_a_version_names_the_setting(
    tool: Tool, xen: Literal["4.17", "4.20"], version: int, advice: str
) -> None:
    """Tools for another release are told which Xen to ask for."""
    world = tool.desk.broker.world
    world.machine.host = Host(xen=xen)
    call = Call(world, tool.session, CallerMemory(world.residence(tool.session).space, world.backing, 0, b""))
    tool.put(domctl.HEAD.pack({"cmd": 5, "interface_version": version}).ljust(domctl.DOMCTL_BYTES, b"\0"))

    with pytest.raises(ModelError, match=re.escape(f"the caller has version {version:#x} of domctl, {advice}")) as told:
        domctl.domctl(call, (BUFFERS, 0, 0, 0, 0))
    assert told.value.errno == errno.EACCES


@pytest.fixture
def newer(tool: Tool) -> Tool:
    """The same on Xen 4.20."""
    tool.desk.broker.world.machine.host = Host(xen="4.20")
    return tool


@pytest.mark.parametrize("kind", KINDS)
def test_tools_for_4_20_build_domains_on_4_20(newer: Tool, kind: str) -> None:
    """With 4.20's version of domctl, and its createdomain, which is four bytes longer."""
    dom = newer.build(kind)

    assert newer.info(dom)["tot_pages"] == 16
    assert newer.domctl(2, dom)[0] == 0
    newer.desk.broker.check()


def test_4_20_tells_of_exactly_the_domain_that_is_named(newer: Tool) -> None:
    """4.17 goes on to the next one."""
    dom = newer.build()

    assert newer.domctl(5, dom + 1, info.DOMAIN_INFO)[0] == -errno.ESRCH
    assert newer.domctl(5, 0x7FF4, info.DOMAIN_INFO)[0] == -errno.ESRCH
    assert newer.info(dom)["domain"] == dom
    assert newer.info(0)["domain"] == 0
    newer.build()
    newer.domctl(2, dom)
    assert newer.domctl(5, dom, info.DOMAIN_INFO)[0] == -errno.ESRCH


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"altp2m_opts": 1}, 0),
        ({"altp2m_opts": 4}, errno.EINVAL),
        ({"altp2m_opts": 1, "flags": 3 | 1 << 6}, errno.EINVAL),  # nested virtualisation
        ({"arch": {"emulation_flags": (1 << 9) - 1}}, 0),  # no PIRQs
        ({"arch": {"emulation_flags": 2}}, errno.EINVAL),
    ],
    ids=str,
)
def test_domains_of_4_20(newer: Tool, changes: dict[str, Any], error: int) -> None:
    """What createdomain of 4.20 takes and 4.17 does not know, and what it refuses."""
    assert newer.create(**changes)[0] == -error


def test_operations_that_came_after_4_17(tool: Tool) -> None:
    """gsi_permission is accepted, cache colours are EOPNOTSUPP; on 4.17 both are unknown."""
    colours = domctl.SINCE_4_20[89][0]
    dom = tool.build()
    assert [tool.domctl(88, dom)[0], tool.domctl(89, dom, colours)[0]] == [-errno.ENOSYS] * 2

    tool.desk.broker.world.machine.host = Host(xen="4.20")

    assert tool.domctl(88, dom)[0] == 0
    assert tool.domctl(89, dom, colours)[0] == -errno.EOPNOTSUPP
    assert tool.domctl(89, dom, colours, pad=1)[0] == -errno.EINVAL


def test_a_list_that_cannot_be_written_makes_no_page(tool: Tool) -> None:
    """A list of domains for a bad buffer is EFAULT before a PV domain's shared_info page is made."""
    tool.build(PV)
    before = tool.desk.broker.world.machine.frames.n_free
    head = sysctl.HEAD.pack({"cmd": 6, "interface_version": 0x15})
    asked = sysctl.DOMAIN_INFO_LIST.pack({"max_domains": 4, "buffer": 0x1000})
    tool.put((head + asked).ljust(sysctl.SYSCTL_BYTES, b"\0"))

    assert tool.call(SYSCTL, BUFFERS) == -errno.EFAULT
    assert tool.desk.broker.world.machine.frames.n_free == before


def test_domain_0_leads_the_list(tool: Tool) -> None:
    """getdomaininfolist: from a number on, as many as there is room for."""
    made = [tool.build(), tool.build(PV)]

    def listed(first: int, most: int) -> list[int]:
        head = sysctl.HEAD.pack({"cmd": 6, "interface_version": sysctl.INTERFACE_VERSIONS["4.17"]})
        asked = sysctl.DOMAIN_INFO_LIST.pack({"first_domain": first, "max_domains": most, "buffer": ARRAY})
        tool.put((head + asked).ljust(sysctl.SYSCTL_BYTES, b"\0"))
        assert tool.call(SYSCTL, BUFFERS) == 0
        n = sysctl.DOMAIN_INFO_LIST.unpack(tool.get(sysctl.SYSCTL_BYTES), 8)["num_domains"]
        size = info.DOMAIN_INFO.size
        return [info.DOMAIN_INFO.unpack(tool.get(size, ARRAY + index * size))["domain"] for index in range(n)]

    assert listed(0, 10) == [0, *made]
    assert listed(0, 2) == [0, made[0]]
    assert listed(made[0] + 1, 10) == [made[1]]
    assert listed(made[1] + 1, 10) == []


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_given_and_taken(tool: Tool, kind: str) -> None:
    """Populate and decrease say how many extents were done; reservations add up."""
    dom = tool.build(kind, n_pages=8, max_pages=20)
    names = tool.array(8)

    def reservation(command: int) -> int:
        return tool.memory(command, memory_op.DOMAIN, domid=dom)[0]

    assert tool.reserve(1, dom, [names[1], names[3], 2**52]) == 2
    assert (reservation(3), reservation(4)) == (6, 20)
    assert tool.reserve(6, dom, [1, 3]) == 2
    assert tool.reserve(6, dom, [16], order=2) == 1
    assert reservation(3) == 12
    assert tool.reserve(6, dom, [32, 64], order=3) == 1
    assert reservation(3) == 20
    assert tool.reserve(6, dom, [100]) == 0
    assert reservation(14) == (39 if kind != PV else 0)
    tool.desk.broker.check()


@pytest.mark.parametrize("command", [0, 1, 6])
@pytest.mark.parametrize("order", [19, 31, 32, 63, 2**32 - 1])
def test_an_absurd_order_is_refused_before_anything_is_multiplied(tool: Tool, command: int, order: int) -> None:
    """XSA-31: an order is the caller's number, and two to the power of it is not to be counted out."""
    _, dom = tool.create(HVM)

    assert tool.reserve(command, dom, [0], order) == -errno.EINVAL


def test_large_extents_of_a_pv_domain_are_contiguous(tool: Tool) -> None:
    """One machine frame is told for each, at a multiple of its size; the others follow it."""
    dom = tool.build(PV, n_pages=3)
    assert tool.reserve(6, dom, [16, 32], order=4) == 2
    first, second = tool.array(2)
    tool.desk.reserve(tool.session, 32)

    names = [*range(first, first + 16), *range(second, second + 16)]
    batch = tool.desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(*names))

    assert (first % 16, second % 16, batch["n_failed"]) == (0, 0, 0)
    assert tool.reserve(0, dom, [0, 0], order=1) == 2  # increase_reservation: wherever there is room
    assert all(mfn % 2 == 0 for mfn in tool.array(2))
    tool.desk.broker.check()


def test_guest_frames_are_populated_on_demand(tool: Tool) -> None:
    """RESULTS section 4: taken from the cache when first mapped; with an empty cache the domain crashes."""
    dom = tool.build(max_pages=64)
    assert tool.reserve(6, dom, list(range(32, 48)), flags=memory_op.POPULATE_ON_DEMAND) == 16
    assert tool.info(dom)["tot_pages"] == 16
    ret, pod = tool.memory(16, memory_op.POD_TARGET, domid=dom, target_pages=24)
    assert (ret, pod["tot_pages"], pod["pod_cache_pages"], pod["pod_entries"]) == (0, 24, 8, 16)
    tool.desk.reserve(tool.session, 16)

    def mapped(first: int, n: int) -> list[int]:
        names = frames(*range(first, first + n))
        got = tool.desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=names)
        return errnos(got["err"]) or [0] * n

    assert mapped(32, 4) == [0] * 4
    _, pod = tool.memory(17, memory_op.POD_TARGET, domid=dom)
    assert (pod["tot_pages"], pod["pod_cache_pages"], pod["pod_entries"]) == (24, 4, 12)
    assert mapped(36, 12) == [0] * 4 + [-errno.EINVAL] * 8
    crashed = tool.info(dom)
    assert crashed["flags"] & info.SHUTDOWN
    assert crashed["tot_pages"] == 24
    tool.desk.broker.check()
    assert tool.domctl(2, dom)[0] == 0
    tool.desk.broker.check()


def test_the_physmap_is_rearranged(tool: Tool) -> None:
    """RESULTS section 10: a moved frame shows at its new place, a removed one nowhere; old mappings are unaffected."""
    dom = tool.build()
    session = tool.session
    tool.desk.reserve(session, 2)
    tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(2, 3))
    tool.desk.call(session, "write", addr=BASE, data=b"two")
    asked = {"domid": dom, "space": 2, "idx": 2, "gpfn": 40}

    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, **asked)[0] == 0
    assert tool.memory(15, memory_op.REMOVE_FROM_PHYSMAP, domid=dom, gpfn=3)[0] == 0

    tool.desk.reserve(session, 3, BASE + 16 * PAGE)
    at = BASE + 16 * PAGE
    got = tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=at, arr=frames(2, 3, 40))
    assert errnos(got["err"]) == [-errno.EINVAL, -errno.EINVAL, 0]
    assert tool.desk.call(session, "read", addr=at + 2 * PAGE, len=3)["data"] == b"two"
    assert tool.desk.call(session, "fault", addr=BASE + PAGE)["dom"] == dom
    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, **{**asked, "idx": 999})[0] == -errno.EINVAL
    for space, idx, gfn in ((0, 0, 50), (1, 0, 51), (1, 1, 5)):
        assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=dom, space=space, idx=idx, gpfn=gfn)[0] == 0
    assert tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=dom, space=1, idx=0, gpfn=52)[0] == 0
    got = tool.desk.call(session, "privcmd.mmapbatch_v2", dom=dom, addr=at, arr=frames(50, 51, 52))
    assert errnos(got["err"]) == [0, -errno.EINVAL, 0]
    tool.desk.broker.check()
    assert tool.domctl(2, dom)[0] == 0
    tool.desk.broker.check()


def test_what_xen_says_of_itself(tool: Tool) -> None:
    """xen_version, as the recorded host answers."""

    def said(command: int, size: int) -> bytes:
        tool.put(bytes(size))
        assert tool.call(XEN_VERSION, command, BUFFERS) == 0
        return tool.get(size).rstrip(b"\0")

    assert tool.call(XEN_VERSION, 0) == 0x40011
    assert said(1, 16) == b".7"
    assert said(3, 1024) == b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
    assert said(2, version.COMPILE_INFO.size).startswith(b"x86_64-linux-gnu-gcc")
    assert version.FEATURE_INFO.unpack(said(6, 8).ljust(8, b"\0"))["submap"] == 0x228F0
    assert tool.call(XEN_VERSION, 7) == PAGE
    assert tool.call(XEN_VERSION, 10) == 20
    assert tool.call(XEN_VERSION, 99) == -errno.ENOSYS
    assert tool.call(60) == -errno.ENOSYS
    assert tool.call(MEMORY_OP, 2) == tool.desk.broker.world.machine.frames.n_frames


def test_several_calls_in_one(tool: Tool) -> None:
    """Each has its own result of 64 bits; one that fails stops none."""
    entries = [{"op": XEN_VERSION}, {"op": 60}, {"op": MULTICALL}, {"op": MEMORY_OP, "args[0]": 2}]
    tool.put(b"".join(multicall.ENTRY.pack(entry) for entry in entries), ARRAY)

    assert tool.call(MULTICALL, ARRAY, len(entries)) == 0

    size = multicall.ENTRY.size
    results = [multicall.ENTRY.unpack(tool.get(size, ARRAY + index * size))["result"] for index in range(4)]
    assert results[:3] == [0x40011, 2**64 - errno.ENOSYS, 2**64 - errno.ENOSYS]
    assert results[3] == tool.desk.broker.world.machine.frames.n_frames


def test_parameters_of_hvm_domains(tool: Tool) -> None:
    """Kept as they were set; a PV domain has none."""
    dom, pv = tool.build(), tool.build(PV)

    def param(command: int, **values: Any) -> tuple[int, int]:
        tool.put(hvm_op.PARAM.pack(values))
        return tool.call(HVM_OP, command, BUFFERS), hvm_op.PARAM.unpack(tool.get(16))["value"]

    assert param(0, domid=dom, index=27, value=2**63)[0] == 0
    assert param(1, domid=dom, index=27) == (0, 2**63)
    assert param(1, domid=dom, index=39)[0] == -errno.EINVAL
    assert param(1, domid=pv, index=1)[0] == -errno.EINVAL


def test_frames_are_told_apart(tool: Tool) -> None:
    """getpageframeinfo3: an ordinary page, or none."""
    dom = tool.build()
    tool.put(frames(0, 99, 15), ARRAY)

    assert tool.domctl(61, dom, domctl.FRAME_INFO, num=3, array=ARRAY)[0] == 0

    assert tool.array(3) == [0, domctl.NO_PAGE, 0]
    assert tool.domctl(61, dom, domctl.FRAME_INFO, num=1025, array=ARRAY)[0] == -errno.E2BIG


def test_the_pool_for_page_tables(tool: Tool) -> None:
    """Whole pages; a PV domain has none."""
    dom, pv = tool.build(), tool.build(PV)

    assert tool.domctl(85, dom, shadow.MEMPOOL)[1]["size"] == 1 << 20
    assert tool.domctl(86, dom, shadow.MEMPOOL, size=64 << 10)[0] == 0
    assert tool.domctl(86, dom, shadow.MEMPOOL, size=4097)[0] == -errno.EINVAL
    assert tool.domctl(85, dom, shadow.MEMPOOL)[1]["size"] == 64 << 10
    assert tool.domctl(85, pv, shadow.MEMPOOL)[0] == -errno.EOPNOTSUPP


def test_vcpus_keep_their_registers(tool: Tool) -> None:
    """A vcpu that has not been set up has none; one that was not made is EINVAL."""
    dom = tool.build()

    assert tool.domctl(13, dom, domctl.VCPU_CONTEXT, vcpu=0, ctxt=ARRAY)[0] == -errno.ENODATA
    tool.put(b"registers", ARRAY)
    assert tool.domctl(12, dom, domctl.VCPU_CONTEXT, vcpu=0, ctxt=ARRAY)[0] == 0
    assert tool.domctl(13, dom, domctl.VCPU_CONTEXT, vcpu=0, ctxt=ARRAY + 2 * PAGE)[0] == 0
    assert tool.get(9, ARRAY + 2 * PAGE) == b"registers"
    assert tool.domctl(13, dom, domctl.VCPU_CONTEXT, vcpu=1, ctxt=ARRAY)[0] == -errno.EINVAL
    assert tool.info(dom)["nr_online_vcpus"] == 1


def test_event_channels_are_numbered(tool: Tool) -> None:
    """alloc_unbound: the next port of that domain."""
    dom = tool.build()

    ports = []
    for _ in range(2):
        tool.put(events.ALLOC_UNBOUND.pack({"dom": dom, "remote_dom": 0}))
        assert tool.call(EVENTS, 6, BUFFERS) == 0
        ports.append(events.ALLOC_UNBOUND.unpack(tool.get(8))["port"])

    assert ports == [1, 2]


def test_what_is_not_answered_is_counted(tool: Tool) -> None:
    """By name, in stats, so that one can see what a program wanted."""
    tool.call(60)
    tool.call(60)
    tool.call(27)
    tool.domctl(9999, tool.build())
    tool.domctl(22, tool.build())

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert counted == {"hypercall 60": 2, "hypercall xsm_op": 1, "domctl 9999": 1, "domctl hypercall_init": 1}


def test_names_that_nobody_expected_are_counted_together(tool: Tool) -> None:
    """However many numbers a client makes up, a bounded number of names is kept, and no call goes uncounted."""
    for number in range(1000, 1000 + 2 * MOST_NAMES):
        tool.call(number)

    counted = tool.desk.call(tool.session, "stats")["broker"]["unanswered"]
    assert (len(counted), counted[OTHERS], sum(counted.values())) == (MOST_NAMES + 1, MOST_NAMES, 2 * MOST_NAMES)


@pytest.mark.parametrize("rights", ["read", "write"])
def test_changing_a_domain_needs_administration(rights: Any) -> None:
    """Whatever names a domain is EPERM without it; the list shows what one may map."""
    desk = Desk(settings(access=[AccessRule("admin", uids=(0,)), AccessRule(rights, uids=(1000,), domains=(1,))]))
    root = Tool(desk, desk.connect(0))
    dom = root.build()
    other = root.build()
    tool = Tool(desk, desk.connect(1000))

    assert tool.create()[0] == -errno.EPERM
    for command in (2, 3, 4, 10, 11, 85):
        assert tool.domctl(command, dom)[0] == -errno.EPERM
        assert tool.domctl(command, 77)[0] == -errno.EPERM
    assert tool.reserve(6, dom, [99]) == -errno.EPERM
    assert tool.info(0)["domain"] == 0
    assert tool.info(1)["domain"] == dom
    assert tool.domctl(5, other, info.DOMAIN_INFO)[0] == -errno.ESRCH


def test_a_restricted_file_makes_no_hypercalls(tool: Tool) -> None:
    """RESULTS section 8: EPERM whatever it names; another file of the process is free."""
    session = tool.session
    dom = tool.build()
    tool.desk.call(session, "privcmd.restrict", dom=dom, file=7)

    with pytest.raises(Refused) as refused:
        tool.desk.call(session, "privcmd.hypercall", op=XEN_VERSION, arg=bytes(40), file=7)

    assert refused.value.name == "EPERM"
    assert tool.desk.call(session, "privcmd.hypercall", op=XEN_VERSION, arg=bytes(40), file=8)["ret"] == 0x40011
    assert tool.call(XEN_VERSION, 0) == 0x40011


@pytest.mark.parametrize(
    "address",
    [0, 1, BUFFERS - 1, BUFFERS + N_BUFFERS * PAGE - 1, BUFFERS + N_BUFFERS * PAGE, 2**47, 2**63, 2**64 - 1],
    ids=hex,
)
@pytest.mark.parametrize("op", [MEMORY_OP, MULTICALL, XEN_VERSION, EVENTS, HVM_OP, SYSCTL, DOMCTL])
def test_bad_pointers_are_efault(tool: Tool, op: int, address: int) -> None:
    """Not mapped, not a buffer, or running past its end: EFAULT, and nothing is touched."""
    before = {key: {page: bytes(data) for page, data in file.items()} for key, file in tool.desk.backing.files.items()}
    args = {
        MEMORY_OP: (3, address),
        MULTICALL: (address, 1),
        XEN_VERSION: (3, address),
        EVENTS: (6, address),
        HVM_OP: (1, address),
    }.get(op, (address,))

    assert tool.call(op, *args) == -errno.EFAULT

    assert tool.desk.backing.files == before


def test_buffers_are_pages_of_a_file(tool: Tool) -> None:
    """Mmap says which; they are shared with the children of a fork, and empty when they are mapped anew."""
    desk, session = tool.desk, tool.session
    size = desk.call(session, "maps")["entries"]
    assert [(entry["file"], entry["inherit"]) for entry in size] == [("hypercall", "copy")]
    more = desk.call(session, "mmap", len=2 * PAGE, prot=3, file="hypercall")
    assert more["page"] == N_BUFFERS
    tool.put(b"shared", more["addr"])
    child = desk.connect()
    desk.call(child, "space.attach", space=desk.call(session, "space.fork")["space"])

    assert desk.call(child, "read", addr=more["addr"], len=6)["data"] == b"shared"
    desk.call(session, "munmap", addr=more["addr"], len=2 * PAGE)
    assert desk.call(child, "read", addr=more["addr"], len=6)["data"] == b"shared"
    desk.call(child, "munmap", addr=more["addr"] + PAGE, len=PAGE)
    desk.call(child, "munmap", addr=more["addr"], len=PAGE)
    again = desk.call(child, "mmap", len=PAGE, prot=3, file="hypercall")
    assert again["page"] == N_BUFFERS
    assert desk.call(child, "read", addr=again["addr"], len=6)["data"] == bytes(6)
    assert len(desk.backing.files) == 1
    desk.broker.disconnect(session)
    assert len(desk.backing.files) == 1
    desk.broker.disconnect(child)
    assert desk.backing.files == {}


def test_arguments_have_forty_bytes(tool: Tool) -> None:
    """Fewer are EINVAL, more E2BIG."""
    for size, name in ((39, "EINVAL"), (41, "E2BIG")):
        with pytest.raises(Refused) as refused:
            tool.desk.call(tool.session, "privcmd.hypercall", op=17, arg=bytes(size))
        assert refused.value.name == name
    assert struct.calcsize("<5Q") == 40
