# SPDX-License-Identifier: Apache-2.0
"""The method ``privcmd.hypercall``: its arguments, and files that are restricted."""

from __future__ import annotations

import struct

import pytest

from privcmdd.service.hypercalls import domctl
from support.desk import Refused
from support.tool import (
    MEMORY_OP,
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


def test_a_refusal_says_which_operation_of_which_domain_and_why(tool: Tool) -> None:
    """Law: the answer of a hypercall that is refused names errno, operation, domain and the value that is wrong."""
    dom = tool.build()

    tool.domctl(15, dom, domctl.MAX_VCPUS, max=7)
    of_its_own = tool.why
    tool.domctl(11, 99, domctl.MAX_MEM, max_memkb=4)
    of_no_domain = tool.why
    tool.domctl(11, dom, domctl.MAX_MEM, version=9, max_memkb=4)
    of_another_version = tool.why
    tool.reserve(6, dom, [1], order=40)
    of_a_list = tool.why
    tool.call(MEMORY_OP, 13, 0)
    of_none = tool.why
    tool.call(XEN_VERSION, 0)

    assert of_its_own.startswith(f"EINVAL: domctl max_vcpus of domain {dom}: ")
    assert "7" in of_its_own
    assert of_no_domain == "ESRCH: domctl max_mem of domain 99: there is no domain 99"
    assert of_another_version.startswith("EACCES: domctl max_mem: the caller has version 0x9 of domctl, ")
    assert of_a_list.startswith("EINVAL: memory_op populate_physmap: extent_order is 40, ")
    assert of_none == "ENOSYS: memory_op set_memory_map is not answered here"
    assert tool.why == ""


def test_a_hypercall_that_succeeds_has_no_words(tool: Tool) -> None:
    """Law: ``why`` is in the answer only when something was refused."""
    assert tool.desk.call(tool.session, "privcmd.hypercall", op=XEN_VERSION, arg=bytes(40)) == {"ret": 0x40011}
