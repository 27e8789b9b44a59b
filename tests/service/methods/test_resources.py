# SPDX-License-Identifier: Apache-2.0
"""MMAP_RESOURCE and DM_OP as the recorded host answers them.

See docs/explanation/facts/recorded-host.md, sections 9 and 10.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import replace
from typing import Any

import pytest

from privcmdd.model.host import Host
from privcmdd.service.settings import MachineSize
from support.desk import BASE, PAGE, SMALL, Desk, Refused, errnos, frames, triples
from support.tool import HVM, PV, Tool

KINDS = (HVM, PV)
UNKNOWN = 2**32 - errno.EOPNOTSUPP


class Guest:
    """A domain with four grant frames, and a process that maps its resources."""

    def __init__(
        self,
        kind: str = HVM,
        personality: str = "linux",
        host: Host | None = None,
        machine: MachineSize = SMALL.machine,
    ) -> None:
        self.desk = Desk(replace(SMALL, host=host or Host(), machine=machine))
        self.session = self.desk.connect()
        self.desk.call(self.session, "space.attach", personality=personality)
        self.tool = Tool(self.desk, self.session)
        self.dom = self.tool.build(kind)
        self.file = "privcmd" if personality == "linux" else "anon"

    def vma(self, n_pages: int, at: int = BASE, prot: int = 3) -> int:
        """A fresh mapping of the device, or of memory to be replaced."""
        params = {"addr": at, "len": n_pages * PAGE, "prot": prot, "fixed": True, "file": self.file}
        addr: int = self.desk.call(self.session, "mmap", **params)["addr"]
        return addr

    def map(self, addr: int, num: int, *, kind: int = 1, number: int = 0, idx: int = 0, **more: Any) -> Any:
        """The answer, or the name of the errno."""
        asked = {"dom": self.dom, "type": kind, "id": number, "idx": idx, "num": num, "addr": addr, **more}
        try:
            return self.desk.call(self.session, "privcmd.mmap_resource", **asked)
        except Refused as refused:
            return refused.name

    def size(self, kind: int, number: int = 0, **more: Any) -> int | str:
        """A size query."""
        answer = self.map(0, 0, kind=kind, number=number, **more)
        return answer if isinstance(answer, str) else answer["num"]

    def present(self, n_pages: int, at: int = BASE) -> list[bool]:
        """Which pages have a frame."""
        space = self.session.residence.space if self.session.residence else None
        assert space is not None
        return [bool(mfn) for mfn in space.pmap.frames(at >> 12, n_pages).tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_sizes(kind: str) -> None:
    """Grant table: max_grant_frames, and a status frame for eight of them; a device model's pages only for HVM."""
    host = Guest(kind)

    assert [host.size(1), host.size(1, 1), host.size(1, 2)] == [4, 1, "EINVAL"]
    assert [host.size(0), host.size(0, 1000)] == ([2, 2] if kind == HVM else ["EINVAL"] * 2)
    assert host.size(2) == "EINVAL"
    assert host.size(0x10001) == 4
    assert host.size(1, idx=7) == 4
    assert [host.size(1, dom=dom) for dom in (999, 0x7FF0, 0)] == ["ESRCH", "ESRCH", "EPERM"]


@pytest.mark.parametrize(("xen", "size", "mapped"), [("4.17", UNKNOWN, "ENOTSUP"), ("4.20", "EINVAL", "EINVAL")])
def test_unknown_types(xen: Any, size: int | str, mapped: str) -> None:
    """Xen 4.17 tells an errno as the size; 4.20 does not. ENOTSUP is Python's name for EOPNOTSUPP."""
    host = Guest(host=Host(xen=xen))
    host.vma(1)

    assert host.size(3) == size
    assert host.map(BASE, 1, kind=3) == mapped
    assert host.map(BASE, 1, kind=2) == "EINVAL"


@pytest.mark.parametrize("personality", ["linux", "uvm"])
@pytest.mark.parametrize("kind", KINDS)
def test_mapping_the_grant_table(kind: str, personality: str) -> None:
    """Its pages lie behind all guest frames of the memory file, are not counted, and are the same for all who map."""
    host = Guest(kind, personality)
    tot_pages = host.tool.info(host.dom)["tot_pages"]
    host.vma(4)
    host.vma(2, BASE + 16 * PAGE)

    answer = host.map(BASE, 4, extents=True)
    host.desk.call(host.session, "write", addr=BASE + 3 * PAGE, data=b"grant")

    ((first, page, n_pages),) = triples(answer["extents"])
    assert (first, n_pages, answer["prot"], answer["num"]) == (0, 4, 3, 4)
    # A PV guest's shared_info page, made when it was told of, lies before them.
    assert page == host.desk.broker.world.machine.domains[host.dom].file.first_resource + (kind == "pv")
    assert host.map(BASE + 16 * PAGE, 1, idx=3) == {"num": 1}
    assert host.desk.call(host.session, "read", addr=BASE + 16 * PAGE, len=5)["data"] == b"grant"
    assert host.tool.info(host.dom)["tot_pages"] == tot_pages
    for idx, num in ((4, 1), (3, 2), (0, 5)):
        assert host.map(BASE + 16 * PAGE, num, idx=idx) == "EINVAL"
    assert host.map(BASE + 16 * PAGE, 1, number=1) == "EINVAL"  # version 1 has no status frames


def test_order_of_checks() -> None:
    """Restricted; one of addr and num; the address; an absurd number; then Xen's own."""
    host = Guest()
    host.vma(2)
    host.desk.call(host.session, "privcmd.restrict", dom=host.dom, file=5)

    assert host.map(0, 1, dom=999, file=5) == "EPERM"
    assert host.map(0, 1, dom=999) == "EINVAL"
    assert host.map(BASE, 0, dom=999) == "EINVAL"
    assert host.map(BASE + 64 * PAGE, 2**40, dom=999) == "EINVAL"
    assert host.map(BASE, 2**20, dom=999) == "ENOMEM"
    assert host.map(BASE, 1, dom=999, kind=3) == "ESRCH"
    assert host.map(BASE, 1, dom=0) == "EPERM"
    assert host.map(BASE, 1, dom=0x7FF2) == "ESRCH"


def test_a_resource_replaces_whatever_is_there() -> None:
    """Again, at another offset, over frames and holes; what it leaves are holes that V2 fills."""
    host = Guest()
    vma = host.vma(4)

    def v2(index: int, name: int) -> str | list[int]:
        params = {"dom": host.dom, "addr": vma + index * PAGE, "arr": frames(name)}
        try:
            return errnos(host.desk.call(host.session, "privcmd.mmapbatch_v2", **params)["err"])
        except Refused as refused:
            return refused.name

    assert host.map(vma, 1) == {"num": 1}
    assert host.map(vma, 1) == {"num": 1}
    assert host.map(vma + PAGE + 8, 1) == {"num": 1}
    assert host.present(4) == [True, True, False, False]
    assert v2(3, 1) == []
    assert v2(0, 1) == "EINVAL"
    assert host.map(vma + 3 * PAGE, 1, idx=3) == {"num": 1}
    assert host.desk.call(host.session, "maps")["entries"][0]["end"] == vma + 4 * PAGE


def test_a_resource_goes_past_a_mapping() -> None:
    """Below it, and behind it over anonymous memory: the driver does not look; the mapping itself stays whole."""
    host = Guest()
    vma = host.vma(2, BASE + 4 * PAGE)
    behind = vma + 2 * PAGE
    host.desk.call(host.session, "mmap", addr=behind, len=2 * PAGE, prot=3, fixed=True, file="anon")

    assert host.map(vma - PAGE, 1) == {"num": 1}
    assert host.map(vma, 4) == {"num": 4}

    assert host.present(8) == [False, False, False, True, True, True, True, True]
    for addr in (vma - PAGE, behind):
        host.desk.call(host.session, "munmap", addr=addr, len=PAGE)
    with pytest.raises(Refused):
        host.desk.call(host.session, "munmap", addr=vma, len=PAGE)
    host.desk.call(host.session, "munmap", addr=BASE, len=16 * PAGE)
    assert not any(host.present(8))


def test_a_read_only_mapping_is_told_so() -> None:
    """``prot`` is what the range allows."""
    host = Guest()

    assert host.map(host.vma(1, prot=1), 1, extents=True)["prot"] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("personality", ["linux", "uvm"])
def test_resources_keep_a_dying_domain(kind: str, personality: str) -> None:
    """With tot_pages 0, until the last of them is unmapped; they stay writable, and none can be mapped anew."""
    host = Guest(kind, personality)
    host.vma(4)
    host.vma(1, BASE + 16 * PAGE)
    host.map(BASE, 4)

    assert host.tool.domctl(2, host.dom)[0] == 0

    dying = host.tool.info(host.dom)
    assert (dying["flags"] & 1, dying["tot_pages"]) == (1, 0)
    host.desk.call(host.session, "write", addr=BASE, data=b"still")
    assert host.size(1) == 4
    assert host.map(BASE + 16 * PAGE, 1) == "EBUSY"
    host.desk.call(host.session, "munmap", addr=BASE, len=4 * PAGE)
    assert host.size(1) == "ESRCH"


def dm_op(host: Guest, *words: bytes, dom: int | None = None) -> tuple[int, list[bytes]]:
    """A DM_OP with these buffers."""
    params = {"dom": host.dom if dom is None else dom, "bufs": list(words)}
    answer = host.desk.call(host.session, "privcmd.dm_op", **params)
    return answer["ret"], answer["bufs"]


def create(host: Guest, bufioreq: int = 2) -> tuple[int, int]:
    """create_ioreq_server: what came back, and the id."""
    ret, (op,) = dm_op(host, struct.pack("<IIB3xH2x", 1, 0, bufioreq, 0))
    return ret, struct.unpack_from("<H", op, 12)[0]


def test_ioreq_servers() -> None:
    """Their pages: buffered and synchronous requests; a destroyed one's stay with those who have them."""
    host = Guest()
    host.vma(2)
    host.vma(3, BASE + 16 * PAGE)
    other = BASE + 16 * PAGE

    assert create(host) == (0, 0)
    assert create(host, 0) == (0, 1)
    assert create(host, 3)[0] == -errno.EINVAL
    assert host.map(BASE, 2, kind=0) == {"num": 2}
    host.desk.call(host.session, "write", addr=BASE + PAGE, data=b"ioreq")
    assert host.map(other, 1, kind=0, idx=1) == {"num": 1}
    assert host.desk.call(host.session, "read", addr=other, len=5)["data"] == b"ioreq"
    assert host.map(other, 1, kind=0, idx=2) == "EINVAL"
    assert host.map(other, 3, kind=0) == "EINVAL"
    assert host.map(other, 1, kind=0, number=9) == "ENOENT"
    assert host.map(other, 1, kind=0, number=1) == "ENOENT"  # it has no buffered requests
    assert dm_op(host, struct.pack("<IIHH", 6, 0, 0, 0))[0] == 0
    assert dm_op(host, struct.pack("<IIHH", 6, 0, 0, 0))[0] == -errno.ENOENT
    assert host.desk.call(host.session, "read", addr=BASE + PAGE, len=5)["data"] == b"ioreq"
    assert [create(host)[1] for _ in range(7)] == [0, 2, 3, 4, 5, 6, 7]
    assert create(host)[0] == -errno.ENOSPC


def test_what_the_driver_says_of_dm_op() -> None:
    """No buffers 0; too many or too long E2BIG; the rest is Xen's, and comes as a value."""
    host = Guest()

    assert dm_op(host) == (0, [])
    assert dm_op(host, dom=999) == (0, [])
    for buffers in ([b""] * 17, [bytes(4097)]):
        with pytest.raises(Refused) as refused:
            dm_op(host, *buffers)
        assert refused.value.name == "E2BIG"
    assert dm_op(host, struct.pack("<II", 99, 0).ljust(64, b"\0"))[0] == -errno.EOPNOTSUPP
    assert dm_op(host, bytes(8), dom=999)[0] == -errno.ESRCH
    assert dm_op(host, b"")[0] == -errno.EFAULT
    assert dm_op(host, struct.pack("<II", 1, 0))[0] == -errno.EFAULT
    assert dm_op(host, struct.pack("<II", 1, 1).ljust(64, b"\0"))[0] == -errno.EINVAL
    assert dm_op(host, struct.pack("<IIB3xH2x", 1, 0, 2, 0), dom=Tool(host.desk).build(PV))[0] == -errno.EINVAL


def test_memory_that_is_left_to_a_device_model() -> None:
    """set_mem_type: mmio_dm cannot be mapped, ram_ro can, writable too (RESULTS, section 4)."""
    host = Guest()
    vma = host.vma(3)

    def set_type(kind: int, first: int, n_pages: int) -> int:
        return dm_op(host, struct.pack("<IIIHHQ", 12, 0, n_pages, kind, 0, first))[0]

    assert set_type(2, 1, 1) == 0
    assert set_type(1, 2, 1) == 0
    assert set_type(5, 1, 1) == -errno.EINVAL
    assert set_type(0, 60, 9) == -errno.EINVAL
    got = host.desk.call(host.session, "privcmd.mmapbatch_v2", dom=host.dom, addr=vma, arr=frames(1, 2, 3))
    assert errnos(got["err"]) == [-errno.EINVAL, 0, 0]
    assert set_type(0, 1, 1) == 0
    got = host.desk.call(host.session, "privcmd.mmapbatch_v2", dom=host.dom, addr=vma, arr=frames(1))
    assert got["n_failed"] == 0


def test_memory_of_ones_lies_where_frames_failed() -> None:
    """A PVH dom0: which pages those are is told beside the extents; a PV dom0 has holes there."""
    for host, voids in ((Host(dom0="pvh"), [(1, 2), (4, 1)]), (Host(), None)):
        guest = Guest(host=host)
        vma = guest.vma(5)
        asked = {"dom": guest.dom, "addr": vma, "arr": frames(0, 99, 98, 1, 97), "extents": True}

        answer = guest.desk.call(guest.session, "privcmd.mmapbatch_v2", **asked)

        told = answer.get("voids")
        assert (told and list(struct.iter_unpack("<II", told))) == voids
        assert answer["n_failed"] == 3


def test_memory_of_the_machine_itself() -> None:
    """I/O frames keep what is written; the first page has a BIOS' vectors; Xen's table can only be read."""
    guest = Guest()
    vma = guest.vma(3)
    asked = {"dom": 0x7FF0, "addr": vma, "arr": frames(0, 0xB8, 300), "extents": True}

    answer = guest.desk.call(guest.session, "privcmd.mmapbatch_v2", **asked)

    assert errnos(answer["err"]) == [0, 0, -errno.EBUSY]
    assert triples(answer["extents"]) == [(0, 0, 1), (1, 0xB8, 1)]
    assert guest.desk.call(guest.session, "read", addr=vma, len=8)["data"].hex() == "53ff00f053ff00f0"
    guest.desk.call(guest.session, "write", addr=vma + PAGE, data=b"text")
    other = guest.vma(1, BASE + 16 * PAGE)
    guest.desk.call(guest.session, "privcmd.mmapbatch_v2", dom=0x7FF1, addr=other, arr=frames(0xB8))
    assert guest.desk.call(guest.session, "read", addr=other, len=4)["data"] == b"text"
    for dom in (0x7FF0, 0x7FF1):
        reply = guest.desk.reply(guest.session, "domain.memory", dom=dom, write=True)
        assert len(reply.fds) == 1
        os.close(reply.fds[0])
    with pytest.raises(Refused):
        guest.desk.call(guest.session, "domain.memory", dom=0x7FF3)


def test_the_machine_to_phys_table() -> None:
    """Of a machine that has one: which guest frame each frame is, when it is mapped; ones for those that are none."""
    guest = Guest(PV, machine=MachineSize(memory_mib=1024, domains=8, gfns_per_domain=4096))
    first, n_frames = guest.desk.broker.world.machine.frames.machphys
    mfn = guest.tool.array(16)[5]
    vma = guest.vma(1, prot=1)

    def table(prot: int) -> list[int]:
        guest.vma(1, prot=prot)
        params = {"dom": 0x7FF2, "addr": vma, "arr": frames(first)}
        return errnos(guest.desk.call(guest.session, "privcmd.mmapbatch_v2", **params)["err"])

    assert n_frames == 512
    assert table(3) == [-errno.EBUSY]
    assert table(1) == []
    entries = struct.unpack("<512Q", guest.desk.call(guest.session, "read", addr=vma, len=PAGE)["data"])
    assert entries[0] == 2**64 - 1
    assert entries[mfn] == 5
    reply = guest.desk.reply(guest.session, "domain.memory", dom=0x7FF2, write=True)
    assert os.get_inheritable(reply.fds[0]) is False
    os.close(reply.fds[0])
