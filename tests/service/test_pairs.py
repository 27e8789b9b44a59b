# SPDX-License-Identifier: Apache-2.0
"""Pairs that are seldom crossed, and second looks at the same thing: random mutants showed that nothing asked."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from privcmdd.model.findings import FindingKind
from privcmdd.model.host import Host
from privcmdd.model.machine import resources
from privcmdd.service.hypercalls import (
    domctl,
    event_channel_op,
    grant_table_op,
    hvm_context,
    memory_op,
    mmuext_op,
    sysctl,
)
from privcmdd.service.hypercalls.names import NAMES
from support.desk import BASE, PAGE, SMALL, Desk, Refused, errnos, frames, settings
from support.tool import ARRAY, BUFFERS, HVM, MEMORY_OP, N_BUFFERS, PV, SYSCTL, Tool

if TYPE_CHECKING:
    from privcmdd.service.session import Session

V2, RESOURCE = "privcmd.mmapbatch_v2", "privcmd.mmap_resource"


class Host1:
    """A host with an HVM domain, perhaps of another kind, and one process of it."""

    def __init__(self, kind: str = HVM, personality: str = "linux", host: Host | None = None, **limits: Any) -> None:
        self.desk = Desk(replace(settings(**limits) if limits else SMALL, host=host or Host()))
        self.session: Session = self.desk.connect()
        self.call("space.attach", personality=personality)
        self.tool = Tool(self.desk, self.session)
        self.dom = self.tool.build(kind)
        self.file = "privcmd" if personality == "linux" else "anon"

    def call(self, method: str, /, **params: Any) -> Any:
        """The answer. Raises Refused."""
        return self.desk.call(self.session, method, **params)

    def refusal(self, method: str, /, **params: Any) -> str:
        """The errno with which a request is refused."""
        with pytest.raises(Refused) as refused:
            self.call(method, **params)
        return refused.value.name

    def vma(self, n_pages: int, at: int = BASE, prot: int = 3, file: str = "") -> None:
        """A fresh mapping."""
        self.call("mmap", addr=at, len=n_pages * PAGE, prot=prot, fixed=True, file=file or self.file)

    def row(self, at: int = BASE) -> Any:
        """What is told of the mapping at an address."""
        return next(row for row in self.call("maps")["entries"] if row["start"] == at)

    def found(self) -> dict[str, int]:
        """The findings, by kind."""
        return {row["kind"]: row["count"] for row in self.call("findings.list")["findings"]}

    @property
    def machine(self) -> Any:
        """The machine."""
        return self.desk.broker.world.machine


@pytest.mark.parametrize("personality", ["linux", "uvm"])
def test_a_mapping_says_whose_resource_it_has(personality: str) -> None:
    """As one of frames does, also where another domain's resource replaces it."""
    host = Host1(personality=personality)
    other = host.tool.build()
    for dom, at in ((host.dom, BASE), (other, BASE + 16 * PAGE)):
        host.vma(2, at)
        host.call(RESOURCE, dom=dom, type=1, id=0, num=2, addr=at)

        assert (host.row(at)["dom"], host.row(at)["present"]) == (dom, 2)


def test_a_resource_is_found_again_by_its_frames_and_not_by_guest_frames() -> None:
    """Page table entries taken away and touched again (uvm): the pages of the resource, not the guest's frame 0."""
    host = Host1(personality="uvm")
    host.vma(2)
    host.call(RESOURCE, dom=host.dom, type=1, id=0, num=2, addr=BASE)
    host.call("write", addr=BASE + PAGE, data=b"grants")
    for prot in (0, 3):
        host.call("mprotect", addr=BASE, len=2 * PAGE, prot=prot)

    host.call("fault", addr=BASE + PAGE)

    assert host.call("read", addr=BASE + PAGE, len=6)["data"] == b"grants"


def test_a_resource_mapped_without_access_is_not_looked_at() -> None:
    """As frames are not: nothing is held, the finding says so, and an access stays one."""
    host = Host1()
    host.vma(2, prot=0)
    host.call(RESOURCE, dom=host.dom, type=1, id=0, num=2, addr=BASE)

    assert host.found() == {FindingKind.FRAMES_UNCHECKED: 1}
    host.call("mprotect", addr=BASE, len=2 * PAGE, prot=3)
    assert host.refusal("fault", addr=BASE) == "EFAULT"


def test_a_mapping_that_was_never_filled_has_no_failed_frame() -> None:
    """Touching it is a signal and no finding; touching one whose frame failed is both."""
    host = Host1()
    host.vma(1)
    assert host.refusal("fault", addr=BASE) == "EFAULT"
    assert host.found() == {}
    host.call(V2, dom=host.dom, addr=BASE, arr=[4000])
    assert host.refusal("fault", addr=BASE) == "EFAULT"
    assert host.found() == {FindingKind.FAILED_FRAME_TOUCHED: 1}


@pytest.mark.parametrize(("first", "then", "said"), [(3, 1, "stay writable"), (1, 3, "stay read-only")])
def test_a_protection_that_has_no_effect_says_what_stays(first: int, then: int, said: str) -> None:
    """In both directions."""
    host = Host1()
    host.vma(1, prot=first)
    host.call(V2, dom=host.dom, addr=BASE, arr=[1])
    host.call("mprotect", addr=BASE, len=PAGE, prot=then)

    (row,) = host.call("findings.list")["findings"]
    assert said in row["text"]


def test_a_debug_xen_takes_one_bit_for_its_mark() -> None:
    """Frames with bit 50 are not looked up; those with the bit beside it are, without the bit."""
    host = Host1(host=Host(build="debug"))
    host.vma(3)

    answer = host.call(V2, dom=host.dom, addr=BASE, arr=frames(5 | 1 << 50, 5 | 1 << 51, 5 | 1 << 49))

    assert [bool(error) for error in errnos(answer["err"])] == [True, False, False]


def test_a_pvh_dom0_holds_no_frame_of_another_domain() -> None:
    """Asked by mfn for a PV domain's frame that is another's: EINVAL, and no reference is taken."""
    host = Host1(PV, host=Host(dom0="pvh"))
    own = host.tool.array(16)[0]
    host.tool.build(PV)
    others = host.tool.array(16)[0]
    host.vma(3)
    before = host.machine.frames.refs.copy()

    answer = host.call(V2, dom=host.dom, addr=BASE, arr=frames(others, own, others))

    assert errnos(answer["err"]) == [-errno.EINVAL, 0, -errno.EINVAL]
    assert np.flatnonzero(host.machine.frames.refs != before).tolist() == [own]


def test_bytes_behind_hypercall_buffers_are_not_read_short() -> None:
    """A range that begins in a buffer and ends where nothing is mapped is EFAULT, whole."""
    host = Host1()
    end = BUFFERS + N_BUFFERS * PAGE

    assert len(host.call("read", addr=end - 8, len=8)["data"]) == 8
    assert host.refusal("read", addr=end - 8, len=16) == "EFAULT"
    assert host.refusal("write", addr=end - 8, data=bytes(16)) == "EFAULT"


def test_domain_0s_own_grants_are_told_and_read_only_where_they_are_mapped_so() -> None:
    """A mapping of them is domain 0's; a byte of a page that is mapped read-only is not to be cleared."""
    host = Host1()
    reply = host.desk.reply(host.session, "gntalloc.alloc", dom=0, num=1)
    (ref,) = host.desk.said(reply)["refs"]
    for fd in reply.fds:
        os.close(fd)
    for at, prot in ((BASE, 1), (BASE + 16 * PAGE, 3)):
        host.vma(1, at, prot=prot, file="gntdev")
        reply = host.desk.reply(host.session, "gntalloc.map", refs=[ref], addr=at)
        for fd in reply.fds:
            os.close(fd)
        assert host.row(at)["dom"] == 0

    assert host.refusal("gntdev.notify", addr=BASE, action=1) == "EINVAL"
    host.call("gntdev.notify", addr=BASE + 16 * PAGE, action=1)


def test_grants_are_paid_for_as_frames_are() -> None:
    """EDQUOT before anything is mapped, and nothing is in use."""
    host = Host1(frames=3)
    host.vma(1, BASE + 64 * PAGE)
    host.call(RESOURCE, dom=host.dom, type=1, id=0, num=1, addr=BASE + 64 * PAGE)
    host.call("write", addr=BASE + 64 * PAGE, data=b"".join(struct.pack("<HHI", 1, 0, n) for n in range(16)))
    host.vma(3, file="gntdev")

    assert host.refusal("gntdev.map", dom=host.dom, addr=BASE, arr=frames(8, 9, 10)) == "EDQUOT"
    assert host.machine.domains[host.dom].grants.pins == {}
    assert host.call("gntdev.map", dom=host.dom, addr=BASE, arr=frames(8, 9))["num"] == 2
    host.desk.broker.check()


def test_status_frames_are_placed_by_the_bit_of_their_index() -> None:
    """Bit 31 of the index tells them from the frames of the table itself."""
    host = Host1()
    domain = host.machine.domains[host.dom]
    domain.grants.version = 2
    resources.make_status_frames(host.machine, domain)
    for gfn, index in ((100, 1 << 31), (101, 0)):
        assert host.tool.memory(7, memory_op.ADD_TO_PHYSMAP, domid=host.dom, space=1, idx=index, gpfn=gfn)[0] == 0

    assert [int(domain.p2m[gfn]) for gfn in (100, 101)] == [domain.grants.status[0], domain.grants.shared[0]]


def test_an_entry_of_a_page_table_points_by_forty_bits() -> None:
    """Those above, the bit against execution among them, say nothing about the frame."""
    host = Host1(PV)
    mfns = host.tool.array(16)
    host.vma(1)
    host.call(V2, dom=host.dom, addr=BASE, arr=frames(mfns[0]))
    host.call("write", addr=BASE, data=struct.pack("<Q", 0xFFF << 52 | mfns[1] << 12 | 1))
    host.call("munmap", addr=BASE, len=PAGE)
    host.tool.put(mmuext_op.OPERATION.pack({"cmd": 0, "arg1": mfns[0]}), ARRAY)

    assert host.tool.call(26, ARRAY, 1, BUFFERS, host.dom) == 0


TABLES: dict[str, Any] = {
    "memory_op": memory_op.COMMANDS,
    "sysctl": sysctl.COMMANDS,
    "domctl": domctl.COMMANDS,
    "event_channel_op": event_channel_op.COMMANDS,
    "grant_table_op": grant_table_op.COMMANDS,
}


@pytest.mark.parametrize("kind", TABLES)
def test_an_operation_is_found_by_its_own_number(kind: str) -> None:
    """What the function for a number says that it does is what Xen calls that number; some do the same for several."""
    wrong = {}
    for number, row in TABLES[kind].items():
        function = row[-1] if isinstance(row, tuple) else row
        says = (function.__doc__ or "").lower()
        name = NAMES[kind].get(number, "?")
        if (
            name not in says
            and not ("accepted" in says and "permission" in name)
            and name != "get_sharing_shared_pages"
        ):
            wrong[number] = (NAMES[kind].get(number), says.partition("\n")[0])

    assert wrong == {}


def test_memory_on_demand_counts_for_what_a_domain_has() -> None:
    """Frames in the cache are the domain's already; a domain without any counts none."""
    host = Host1()
    domain = host.machine.domains[host.dom]
    assert host.tool.memory(3, memory_op.DOMAIN, domid=host.dom)[0] == domain.tot_pages
    assert host.tool.reserve(6, host.dom, list(range(32, 40)), flags=memory_op.POPULATE_ON_DEMAND) == 8
    target = host.tool.memory(16, memory_op.POD_TARGET, domid=host.dom, target_pages=domain.tot_pages + 5)
    assert target[0] == 0

    assert host.tool.memory(3, memory_op.DOMAIN, domid=host.dom)[0] == domain.tot_pages + 5


def test_a_pool_of_processors_shows_its_own() -> None:
    """Pool 0 has the processor, and none is free; a caller without room for the bits gets none."""
    host = Host1()
    head = sysctl.HEAD.pack({"cmd": 18, "interface_version": 0x15})
    for op, first in ((3, b"\1"), (7, b"\0")):
        for n_bits, expected in ((16, first + b"\0"), (0, b"\xff\xff")):
            host.tool.put(b"\xff\xff", ARRAY)
            values = {"op": op, "cpumap": {"bitmap": ARRAY, "nr_bits": n_bits}}
            host.tool.put((head + sysctl.CPUPOOL_OP.pack(values)).ljust(144, b"\0"))

            assert host.tool.call(SYSCTL, BUFFERS) == 0
            assert host.tool.get(2, ARRAY) == expected


def test_a_pv_domain_has_no_device_model() -> None:
    """Whatever is asked, before the request is looked at."""
    host = Host1(PV)

    answer = host.call("privcmd.dm_op", dom=host.dom, bufs=[struct.pack("<IIII", 20, 0, 0, 0)])
    assert answer["ret"] == -errno.EINVAL


def test_frames_that_a_device_model_wrote_end_with_the_last_there_can_be() -> None:
    """An extent that ends exactly there is taken, one past it is not."""
    host = Host1()
    for first, ret in (((1 << 52) - 1, 0), (1 << 52, -errno.EINVAL)):
        bufs = [struct.pack("<IIII", 11, 0, 1, 0), struct.pack("<IIQ", 1, 0, first)]
        assert host.call("privcmd.dm_op", dom=host.dom, bufs=bufs)["ret"] == ret


def test_a_saved_state_has_a_largest_size() -> None:
    """The last size is read, so that bytes which are not there are missed; one more is refused before."""
    host = Host1()
    for size, ret in ((hvm_context.MOST_BYTES, -errno.EFAULT), (hvm_context.MOST_BYTES + 1, -errno.ENOMEM)):
        assert host.tool.domctl(34, host.dom, hvm_context.CONTEXT, size=size, buffer=BUFFERS)[0] == ret
    assert hvm_context.MOST_BYTES == 1 << 20


def test_what_is_no_memory_operation_is_none() -> None:
    """Numbers between those that there are, and behind the last."""
    host = Host1()
    for number in (8, 29, 63):
        assert host.tool.call(MEMORY_OP, number, BUFFERS) == -errno.ENOSYS
