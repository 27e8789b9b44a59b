# SPDX-License-Identifier: Apache-2.0
"""Interface versions: tools for 4.17 and 4.20 are answered each under its own profile, and refused under the other."""

from __future__ import annotations

import errno
import re
from typing import Any, Literal

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.host import Host
from privcmdd.service.hypercalls import domctl, info
from privcmdd.service.hypercalls.caller_memory import CallerMemory
from privcmdd.service.hypercalls.context import Hypercall
from support.tool import BUFFERS, HVM, PV, PVH, Tool

KINDS = (HVM, PV, PVH)


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
    call = Hypercall(world, tool.session, CallerMemory(world.residence(tool.session).space, world.backing, 0, b""))
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
