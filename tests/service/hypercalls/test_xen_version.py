# SPDX-License-Identifier: Apache-2.0
"""``xen_version``: what Xen says of itself."""

from __future__ import annotations

import errno

from privcmdd.service.hypercalls import xen_version
from support.desk import PAGE
from support.tool import (
    BUFFERS,
    MEMORY_OP,
    XEN_VERSION,
    Tool,
)


def test_what_xen_says_of_itself(tool: Tool) -> None:
    """xen_version, as the recorded host answers."""

    def said(command: int, size: int) -> bytes:
        tool.put(bytes(size))
        assert tool.call(XEN_VERSION, command, BUFFERS) == 0
        return tool.get(size).rstrip(b"\0")

    assert tool.call(XEN_VERSION, 0) == 0x40011
    assert said(1, 16) == b".7"
    assert said(3, 1024) == b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
    assert said(2, xen_version.COMPILE_INFO.size).startswith(b"x86_64-linux-gnu-gcc")
    assert xen_version.FEATURE_INFO.unpack(said(6, 8).ljust(8, b"\0"))["submap"] == 0x228F0
    assert tool.call(XEN_VERSION, 7) == PAGE
    assert tool.call(XEN_VERSION, 10) == 20
    assert tool.call(XEN_VERSION, 99) == -errno.ENOSYS
    assert tool.call(60) == -errno.ENOSYS
    assert tool.call(MEMORY_OP, 2) == tool.desk.broker.world.machine.frames.n_frames
