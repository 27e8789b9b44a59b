# SPDX-License-Identifier: Apache-2.0
"""``sysctl``: the list of domains."""

from __future__ import annotations

import errno

from privcmdd.service.hypercalls import info, sysctl
from support.tool import (
    ARRAY,
    BUFFERS,
    PV,
    SYSCTL,
    Tool,
)


def test_domain_0_leads_the_list(tool: Tool) -> None:
    """getdomaininfolist: from a number on, as many as there is room for."""
    made = [tool.build(), tool.build(PV)]

    def listed(first: int, most: int) -> list[int]:
        head = sysctl.HEAD.pack({"cmd": 6, "interface_version": sysctl.INTERFACE_VERSIONS["4.17"]})
        asked = sysctl.DOMAIN_INFO_LIST.pack({"first_domain": first, "max_domains": most, "buffer": ARRAY})
        tool.put((head + asked).ljust(sysctl.SYSCTL_BYTES, b"\0"))
        assert tool.call(SYSCTL, BUFFERS) == 0
        n = sysctl.DOMAIN_INFO_LIST.unpack(tool.get(sysctl.SYSCTL_BYTES), 8)["num_domains"]
        size = info.DOMAIN_INFO.size
        return [info.DOMAIN_INFO.unpack(tool.get(size, ARRAY + index * size))["domain"] for index in range(n)]

    assert listed(0, 10) == [0, *made]
    assert listed(0, 2) == [0, made[0]]
    assert listed(made[0] + 1, 10) == [made[1]]
    assert listed(made[1] + 1, 10) == []


def test_a_list_that_cannot_be_written_makes_no_page(tool: Tool) -> None:
    """A list of domains for a bad buffer is EFAULT before a PV domain's shared_info page is made."""
    tool.build(PV)
    before = tool.desk.broker.world.machine.frames.n_free
    head = sysctl.HEAD.pack({"cmd": 6, "interface_version": 0x15})
    asked = sysctl.DOMAIN_INFO_LIST.pack({"max_domains": 4, "buffer": 0x1000})
    tool.put((head + asked).ljust(sysctl.SYSCTL_BYTES, b"\0"))

    assert tool.call(SYSCTL, BUFFERS) == -errno.EFAULT
    assert tool.desk.broker.world.machine.frames.n_free == before
