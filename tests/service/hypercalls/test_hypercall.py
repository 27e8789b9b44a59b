# SPDX-License-Identifier: Apache-2.0
"""The method ``privcmd.hypercall``: its arguments, and files that are restricted."""

from __future__ import annotations

import struct

import pytest

from support.desk import Refused
from support.tool import (
    XEN_VERSION,
    Tool,
)


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


def test_arguments_have_forty_bytes(tool: Tool) -> None:
    """Fewer are EINVAL, more E2BIG."""
    for size, name in ((39, "EINVAL"), (41, "E2BIG")):
        with pytest.raises(Refused) as refused:
            tool.desk.call(tool.session, "privcmd.hypercall", op=17, arg=bytes(size))
        assert refused.value.name == name
    assert struct.calcsize("<5Q") == 40
