# SPDX-License-Identifier: Apache-2.0
"""Frames pinned as page tables, and frames noted as written.

See docs/explanation/facts/recorded-host.md, sections 4 and 10.
"""

from __future__ import annotations

import errno
import struct

import pytest

from privcmdd.model.host import Host
from privcmdd.service.hypercalls import mmuext_op, shadow
from support.desk import BASE, PAGE, Desk, errnos, frames
from support.tool import ARRAY, BUFFERS, PV, Tool

PIN_L1, PIN_L2, UNPIN = 0, 1, 4
MMUEXT_OP = 26
RW, RO = 3, 1


class Builder:
    """A builder of a PV domain, and a process that maps it."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.tool = Tool(self.desk)
        self.dom = self.tool.build(PV)
        self.mfns = self.tool.array(16)
        self.session = self.desk.connect()
        self.desk.call(self.session, "space.attach", personality="linux")

    def map(self, mfn: int, prot: int, *, private: bool = False) -> list[int]:
        """The frame's error in a fresh mapping."""
        params = {"addr": BASE, "len": PAGE, "prot": prot, "fixed": True, "private": private}
        self.desk.call(self.session, "mmap", **params)
        batch = {"dom": self.dom, "addr": BASE, "arr": frames(mfn)}
        return errnos(self.desk.call(self.session, "privcmd.mmapbatch_v2", **batch)["err"])

    def unmap(self) -> None:
        """Let go of it."""
        self.desk.call(self.session, "munmap", addr=BASE, len=PAGE)

    def op(self, *operations: tuple[int, int]) -> tuple[int, int]:
        """Operations in one hypercall: what it returns, and how many were done."""
        rows = [mmuext_op.OPERATION.pack({"cmd": cmd, "arg1": mfn}) for cmd, mfn in operations]
        self.tool.put(b"".join(rows), ARRAY)
        ret = self.tool.call(MMUEXT_OP, ARRAY, len(rows), BUFFERS, self.dom)
        return ret, struct.unpack("<I", self.tool.get(4))[0]


@pytest.fixture
def builder() -> Builder:
    """A domain of 16 frames."""
    return Builder()


def test_a_page_table_is_not_mapped_writable(builder: Builder) -> None:
    """Pinned while mapped writable: EINVAL. Then writable is EBUSY, read-only and private fine; unpinned, all is."""
    first, second = builder.mfns[:2]

    assert builder.map(first, RW) == []
    assert builder.op((PIN_L1, first)) == (-errno.EINVAL, 0)
    builder.unmap()
    assert builder.map(first, RO) == []
    assert builder.op((PIN_L1, first)) == (0, 1)
    assert builder.map(first, RW) == [-errno.EBUSY]
    assert builder.map(second, RW) == []
    assert builder.map(first, RW, private=True) == []
    assert builder.map(first, RO) == []
    assert builder.op((PIN_L2, first)) == (-errno.EINVAL, 0)
    assert builder.op((UNPIN, first), (UNPIN, first)) == (-errno.EINVAL, 1)
    assert builder.map(first, RW) == []
    builder.desk.broker.check()


def test_a_pvh_dom0_keeps_no_frame_from_being_a_page_table(builder: Builder) -> None:
    """By the source: its mappings take no type of a frame, so a frame that is mapped writable can be pinned."""
    builder.desk.broker.world.machine.host = Host(dom0="pvh")
    mfn = builder.mfns[0]

    assert builder.map(mfn, RW) == []
    assert builder.op((PIN_L1, mfn)) == (0, 1)
    builder.desk.broker.check()


def test_a_page_table_holds_page_table_entries(builder: Builder) -> None:
    """Present entries name frames of the domain; anything else is EINVAL, and so is a frame of somebody else."""
    first, second = builder.mfns[:2]
    builder.map(first, RW)

    def pinned(entry: int) -> int:
        builder.map(first, RW)
        builder.desk.call(builder.session, "write", addr=BASE, data=struct.pack("<Q", entry))
        builder.unmap()
        ret = builder.op((PIN_L1, first))[0]
        builder.op((UNPIN, first))
        return ret

    assert pinned(second << 12 | 0x67) == 0
    assert pinned(0xFFFF_FFFF_FFFF_FFFE) == 0  # not present
    assert pinned(0x4F52_4143_4C45_0041) == -errno.EINVAL
    assert pinned((builder.desk.broker.world.machine.frames.n_frames - 1) << 12 | 1) == -errno.EINVAL
    assert builder.op((PIN_L1, 5)) == (-errno.EINVAL, 0)
    assert builder.op((PIN_L1, 2**63)) == (-errno.EINVAL, 0)
    assert builder.op((9, first)) == (-errno.ENOSYS, 0)


def test_a_frame_that_was_given_back_is_no_page_table(builder: Builder) -> None:
    """Nor is the domain held by its tables when it is destroyed."""
    first = builder.mfns[0]
    assert builder.op((PIN_L1, first)) == (0, 1)
    assert builder.tool.reserve(1, builder.dom, [first]) == 1
    assert builder.tool.reserve(6, builder.dom, [0]) == 1
    assert builder.map(builder.tool.array(1)[0], RW) == []
    builder.unmap()
    assert builder.op((PIN_L1, builder.mfns[1])) == (0, 1)
    assert builder.tool.domctl(2, builder.dom)[0] == 0
    assert builder.dom not in builder.desk.broker.world.machine.domains


def test_what_a_device_model_wrote_is_noted() -> None:
    """Log-dirty mode: modified_memory is seen once, writes through foreign mappings never."""
    desk = Desk()
    tool = Tool(desk)
    dom = tool.build()
    desk.reserve(tool.session, 2)
    desk.call(tool.session, "privcmd.mmapbatch_v2", dom=dom, addr=BASE, arr=frames(1, 2))

    def dirty(op: int) -> tuple[int, list[int], int]:
        ret, answer = tool.domctl(10, dom, shadow.SHADOW_OP, op=op, dirty_bitmap=ARRAY, pages=16)
        bits = int.from_bytes(tool.get(2, ARRAY), "little")
        return ret, [gfn for gfn in range(16) if bits >> gfn & 1], answer["stats"]["dirty_count"]

    assert dirty(shadow.SHADOW_CLEAN)[0] == -errno.EINVAL
    assert dirty(shadow.SHADOW_LOGDIRTY)[0] == 0
    assert dirty(shadow.SHADOW_LOGDIRTY)[0] == -errno.EINVAL
    desk.call(tool.session, "write", addr=BASE, data=b"unseen")
    assert dirty(shadow.SHADOW_PEEK) == (0, [], 0)
    extents = struct.pack("<IIQIIQ", 2, 0, 3, 200, 0, 9)
    answer = desk.call(tool.session, "privcmd.dm_op", dom=dom, bufs=[struct.pack("<IIII", 11, 0, 2, 0), extents])
    assert answer["ret"] == 0
    assert dirty(shadow.SHADOW_PEEK) == (0, [3, 4, *range(9, 16)], 9)
    assert dirty(shadow.SHADOW_CLEAN) == (0, [3, 4, *range(9, 16)], 9)
    assert dirty(shadow.SHADOW_CLEAN) == (0, [], 0)
    assert dirty(shadow.SHADOW_OFF)[0] == 0
    assert desk.call(tool.session, "privcmd.dm_op", dom=dom, bufs=[struct.pack("<IIII", 11, 0, 2, 0)])["ret"] == -22
