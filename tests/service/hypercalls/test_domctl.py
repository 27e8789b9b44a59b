# SPDX-License-Identifier: Apache-2.0
"""``domctl``: domains are built, looked at, changed and destroyed."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from privcmdd.service.hypercalls import domctl, info, sysctl
from privcmdd.service.settings import AccessRule
from support.desk import BASE, PAGE, Desk, frames, settings
from support.tool import (
    ARRAY,
    BUFFERS,
    HVM,
    PV,
    PVH,
    SYSCTL,
    Tool,
)

KINDS = (HVM, PV, PVH)


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


def test_another_interface_version_is_refused_first(tool: Tool) -> None:
    """EACCES before the command or the domain is looked at; in sysctl too."""
    assert tool.domctl(9999, 9999, version=0x14)[0] == -errno.EACCES
    tool.put(sysctl.HEAD.pack({"cmd": 3, "interface_version": 0x14}).ljust(sysctl.SYSCTL_BYTES, b"\0"))
    assert tool.call(SYSCTL, BUFFERS) == -errno.EACCES


def test_frames_are_told_apart(tool: Tool) -> None:
    """getpageframeinfo3: an ordinary page, or none."""
    dom = tool.build()
    tool.put(frames(0, 99, 15), ARRAY)

    assert tool.domctl(61, dom, domctl.FRAME_INFO, num=3, array=ARRAY)[0] == 0

    assert tool.array(3) == [0, domctl.NO_PAGE, 0]
    assert tool.domctl(61, dom, domctl.FRAME_INFO, num=1025, array=ARRAY)[0] == -errno.E2BIG


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
