# SPDX-License-Identifier: Apache-2.0
"""A pager of the toolstack's: frames nominated, evicted, wanted, loaded.

See docs/explanation/facts/recorded-host.md, section 5.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.machine.evtchn import MOST_PORTS
from privcmdd.service import vm_event
from privcmdd.service.hypercalls import hvm_op, paging
from support.desk import BASE, PAGE, Desk, errnos, frames
from support.profiles import PROFILE
from support.tool import BUFFERS, HVM_OP, MEMORY_OP, PV, Tool

RING = 15
NOMINATE, EVICT, LOAD = 0, 1, 2


class Pager:
    """A pager of one domain, in a process of its own."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.tool = Tool(self.desk)
        self.dom = self.tool.build()
        self.session = self.desk.connect()
        self.desk.call(self.session, "space.attach", personality="linux")

    def enable(self, ring: int = RING) -> int:
        """Say where the ring is, and begin."""
        self.tool.put(hvm_op.PARAM.pack({"domid": self.dom, "index": paging.RING_PARAM, "value": ring}))
        assert self.tool.call(HVM_OP, 0, BUFFERS) == 0
        return self.tool.domctl(56, self.dom, paging.EVENT_OP, op=0, mode=paging.PAGING_MODE)[0]

    def move(self, op: int, gfn: int, buffer: int = 0) -> int:
        """A paging operation."""
        return self.tool.memory(20, paging.PAGING_OP, op=op, domain=self.dom, gfn=gfn, buffer=buffer)[0]

    def map(self, *names: int, at: int = BASE) -> tuple[int, list[int]]:
        """MMAPBATCH_V2 into a fresh mapping: what it returns, and the errors."""
        desk, session = self.desk, self.session
        desk.call(session, "mmap", addr=at, len=len(names) * PAGE, prot=3, fixed=True)
        got = desk.call(session, "privcmd.mmapbatch_v2", dom=self.dom, addr=at, arr=frames(*names))
        return got["ret"], errnos(got["err"])

    def requests(self) -> tuple[int, list[int]]:
        """How many requests were made, and the frames of those in the ring."""
        page = self.desk.backing.files[self.dom].get(RING, bytearray(PAGE))
        (produced,) = struct.unpack_from("<I", page)
        size = vm_event.REQUEST_BYTES
        at = [vm_event.RING_OFFSET + index * size + vm_event.REQUEST.size for index in range(min(produced, 8))]
        return produced, [struct.unpack_from("<Q", page, offset)[0] for offset in at]


@pytest.fixture
def pager() -> Pager:
    """One that has begun."""
    made = Pager()
    assert made.enable() == 0
    return made


def test_a_frame_is_evicted_when_nobody_maps_it(pager: Pager) -> None:
    """Nominated while mapped: EBUSY. A nominated frame maps fine, and is evicted once it is unmapped."""
    assert pager.map(3) == (0, [])
    assert pager.move(NOMINATE, 3) == -errno.EBUSY
    pager.desk.call(pager.session, "munmap", addr=BASE, len=PAGE)
    assert pager.move(EVICT, 3) == -errno.EBUSY  # not nominated
    assert pager.move(NOMINATE, 3) == 0
    assert pager.map(3) == (0, [])
    assert pager.move(EVICT, 3) == -errno.EBUSY
    pager.desk.call(pager.session, "munmap", addr=BASE, len=PAGE)
    assert pager.move(EVICT, 3) == 0
    assert pager.tool.info(pager.dom)["paged_pages"] == 1
    assert pager.map(1, 3) == (-errno.ENOENT, [0, -errno.ENOENT])
    assert pager.map(3, 1) == (0, [-errno.ENOENT, 0])


def test_wanted_frames_are_told_once_and_as_many_as_the_ring_holds(pager: Pager) -> None:
    """A request for each frame, eight at most until the pager answers."""
    for gfn in range(10):
        assert (pager.move(NOMINATE, gfn), pager.move(EVICT, gfn)) == (0, 0)

    pager.map(4)
    pager.map(4)
    assert pager.requests() == (1, [4])
    for gfn in range(10):
        pager.map(gfn)
    produced, wanted = pager.requests()
    assert (produced, wanted) == (8, [4, 0, 1, 2, 3, 5, 6, 7])
    page = pager.desk.backing.files[pager.dom][RING]
    page[8:12] = struct.pack("<I", 2)  # rsp_prod
    pager.map(8)
    assert pager.requests()[0] == 9


def test_a_loaded_frame_has_what_the_pager_gave(pager: Pager) -> None:
    """From a page outside the hypercall buffers, which the pager lends when it is told to."""
    assert (pager.move(NOMINATE, 3), pager.move(EVICT, 3)) == (0, 0)
    pager.tool.put(paging.PAGING_OP.pack({"op": LOAD, "domain": pager.dom, "gfn": 3, "buffer": 0x5000}))
    asked: dict[str, Any] = {"op": MEMORY_OP, "arg": struct.pack("<5Q", 20, BUFFERS, 0, 0, 0)}

    refused = pager.desk.call(pager.tool.session, "privcmd.hypercall", **asked)
    assert "memory_op paging_op of domain" in refused.pop("why")
    assert refused == {"ret": -errno.EFAULT, "want_addr": 0x5000, "want_bytes": PAGE}
    assert pager.map(3) == (-errno.ENOENT, [-errno.ENOENT])
    lent = b"loaded".ljust(PAGE, b"\0")
    assert pager.desk.call(pager.tool.session, "privcmd.hypercall", **asked, lent_addr=0x5000, lent=lent) == {"ret": 0}

    assert pager.map(3) == (0, [])
    assert pager.desk.call(pager.session, "read", addr=BASE, len=6)["data"] == b"loaded"
    assert pager.move(LOAD, 3) == -errno.ENOENT


def test_without_a_pager_nothing_is_moved() -> None:
    """ENODEV; to begin one needs a ring, and a domain that can be paged."""
    pager = Pager()
    pv = pager.tool.build(PV)

    assert pager.move(NOMINATE, 3) == -errno.ENODEV
    assert pager.enable(0) == -errno.ENOSYS
    assert pager.enable(999) == -errno.EINVAL
    assert pager.tool.domctl(56, pv, paging.EVENT_OP, op=0, mode=1)[0] == -errno.EOPNOTSUPP
    assert pager.enable() == 0
    assert pager.enable() == -errno.EBUSY
    assert pager.move(NOMINATE, 999) == -errno.EINVAL
    assert pager.move(7, 3) == -errno.ENOSYS
    assert pager.tool.domctl(56, pager.dom, paging.EVENT_OP, op=1, mode=1)[0] == 0
    assert pager.move(NOMINATE, 3) == -errno.ENODEV


def test_a_pager_has_a_port_while_it_lasts() -> None:
    """It is Xen's own, and given back; a domain without a free one gets no pager at all."""
    pager = Pager()
    ports = pager.desk.broker.world.machine.events.ports(pager.dom)
    for _ in range(3):
        assert pager.enable() == 0
        assert [port.for_xen for port in ports.values()] == [True]
        assert pager.tool.domctl(56, pager.dom, paging.EVENT_OP, op=1, mode=1)[0] == 0
        assert not ports

    for _ in range(MOST_PORTS - 1):
        pager.desk.broker.world.machine.events.alloc_unbound(pager.dom, 0)
    assert pager.enable() == -errno.ENOSPC
    assert pager.move(NOMINATE, 3) == -errno.ENODEV


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=64), st.integers(0, 9)), min_size=1, max_size=6))
@PROFILE.law
def test_rubbish_in_the_ring_harms_nobody_else(written: list[tuple[bytes, int]]) -> None:
    """Whoever writes the indexes as it likes loses requests, in a ring of its own; the frames' errors stay right."""
    pager = Pager()
    assert pager.enable() == 0
    other = pager.tool.build()
    for gfn in range(10):
        assert (pager.move(NOMINATE, gfn), pager.move(EVICT, gfn)) == (0, 0)
    files = pager.desk.backing.files

    for rubbish, gfn in written:
        pager.desk.backing.write(pager.dom, RING, 0, rubbish)
        before = {page: bytes(data) for page, data in files[pager.dom].items() if page != RING}
        assert pager.map(10, gfn) == (-errno.ENOENT, [0, -errno.ENOENT])
        assert {page: bytes(data) for page, data in files[pager.dom].items() if page != RING} == before
        assert len(files[pager.dom][RING]) == PAGE
        assert files[other] == {}
        pager.desk.broker.check()
