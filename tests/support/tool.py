# SPDX-License-Identifier: Apache-2.0
"""A toolstack in a test: hypercall buffers, and hypercalls made with them."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Any

from privcmdd.service.hypercalls import createdomain, domctl, info, memory_op
from support.desk import PAGE, frames, result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.service.layout import Layout
    from privcmdd.service.session import Session
    from support.desk import Desk

BUFFERS = 0x20_0000_0000
N_BUFFERS = 16
ARRAY = BUFFERS + 4 * PAGE  # where lists are put
MEMORY_OP, MULTICALL, XEN_VERSION, EVENTS, HVM_OP, SYSCTL, DOMCTL = 12, 13, 17, 32, 34, 35, 36
HVM, PV, PVH = "hvm", "pv", "pvh"
FLAGS = {HVM: (3, createdomain.EMU_HVM), PVH: (3, createdomain.EMU_LAPIC), PV: (0, 0)}


class Tool:
    """One client with buffers at ``BUFFERS``."""

    def __init__(self, desk: Desk, session: Session | None = None) -> None:
        self.desk = desk
        self.why = ""
        """Why the last hypercall was refused."""
        self.session = session or desk.connect()
        desk.call(self.session, "mmap", addr=BUFFERS, len=N_BUFFERS * PAGE, prot=3, fixed=True, file="hypercall")

    @property
    def xen(self) -> str:
        """The release of the host's Xen."""
        return self.desk.broker.world.machine.host.xen

    def put(self, data: bytes, at: int = BUFFERS) -> int:
        """Bytes into a buffer; its address."""
        self.desk.call(self.session, "write", addr=at, data=data)
        return at

    def get(self, size: int, at: int = BUFFERS) -> bytes:
        """Bytes of a buffer."""
        data: bytes = self.desk.call(self.session, "read", addr=at, len=size)["data"]
        return data

    def call(self, op: int, *args: int) -> int:
        """A hypercall."""
        words = struct.pack("<5Q", *(*args, 0, 0, 0, 0, 0)[:5])
        reply = self.desk.reply(self.session, "privcmd.hypercall", op=op, arg=words)
        for fd in reply.fds:
            os.close(fd)
        answer = result(reply)
        ret: int = answer["ret"]
        self.why = answer.get("why", "")
        if ret < 0:  # whatever is refused is refused in words
            assert self.why.startswith(f"{errno.errorcode[-ret]}: ")
        return ret

    def memory(self, command: int, layout: Layout, **values: Any) -> tuple[int, dict[str, Any]]:
        """A memory operation, and its structure afterwards."""
        self.put(layout.pack(values))
        ret = self.call(MEMORY_OP, command, BUFFERS)
        return ret, layout.unpack(self.get(layout.size))

    def reserve(self, command: int, dom: int, extents: list[int], order: int = 0, flags: int = 0) -> int:
        """Populate (6), increase (0) or decrease (1); ``extents`` lie at ``ARRAY``."""
        self.put(frames(*extents), ARRAY)
        values = {"extent_start": ARRAY, "nr_extents": len(extents), "extent_order": order, "mem_flags": flags}
        return self.memory(command, memory_op.RESERVATION, domid=dom, **values)[0]

    def array(self, n: int) -> list[int]:
        """The list at ``ARRAY``."""
        return list(struct.unpack(f"<{n}Q", self.get(8 * n, ARRAY)))

    def domctl(
        self,
        command: int,
        dom: int,
        layout: Layout = domctl.NOTHING,
        version: int | None = None,
        **values: Any,
    ) -> tuple[int, dict[str, Any]]:
        """A domctl, of the host's version; what its structure holds afterwards, the head's ``domain`` too."""
        version = domctl.INTERFACE_VERSIONS[self.xen] if version is None else version
        head = domctl.HEAD.pack({"cmd": command, "interface_version": version, "domain": dom})
        self.put((head + layout.pack(values)).ljust(domctl.DOMCTL_BYTES, b"\0"))
        ret = self.call(DOMCTL, BUFFERS)
        data = self.get(domctl.DOMCTL_BYTES)
        return ret, {**layout.unpack(data, 16), "dom": domctl.HEAD.unpack(data)["domain"]}

    def create(self, kind: str = HVM, **changes: Any) -> tuple[int, int]:
        """A domain; what the call returned, and its number."""
        flags, emulation_flags = FLAGS[kind]
        values: Mapping[str, Any] = {
            "flags": flags,
            "arch": {"emulation_flags": emulation_flags},
            "max_vcpus": 1,
            "max_evtchn_port": 1023,
            "max_grant_frames": 4,
            "max_maptrack_frames": 4,
            "grant_opts": 2,
            **changes,
        }
        ret, answer = self.domctl(1, 0, createdomain.CREATE[self.xen], **values)
        return ret, answer["dom"]

    def build(self, kind: str = HVM, n_pages: int = 16, max_pages: int = 64) -> int:
        """A domain with memory, as domain builders make it; a PV one's frames are at ``ARRAY``."""
        ret, dom = self.create(kind)
        assert ret == 0
        assert self.domctl(11, dom, domctl.MAX_MEM, max_memkb=4 * max_pages)[0] == 0
        assert self.domctl(15, dom, domctl.MAX_VCPUS, max=1)[0] == 0
        assert self.reserve(6, dom, list(range(n_pages))) == n_pages
        return dom

    def info(self, dom: int) -> dict[str, Any]:
        """``getdomaininfo``."""
        ret, answer = self.domctl(5, dom, info.DOMAIN_INFO)
        assert ret == 0
        return answer
