# SPDX-License-Identifier: Apache-2.0
"""``createdomain``: the domains that a toolstack makes, and those that Xen refuses."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.host import Host

if TYPE_CHECKING:
    from support.tool import (
        Tool,
    )


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_vcpus": 0}, errno.EINVAL),
        ({"max_vcpus": 129}, errno.EINVAL),
        ({"flags": 1}, errno.EOPNOTSUPP),  # shadow paging
        ({"flags": 2}, errno.EINVAL),
        ({"flags": 1 << 31 | 3}, errno.EINVAL),
        ({"arch": {"emulation_flags": 2}}, errno.EINVAL),
        ({"max_grant_frames": 0}, errno.EINVAL),
        ({"max_grant_frames": 65}, errno.EINVAL),
        ({"max_maptrack_frames": 1025}, errno.EINVAL),
        ({"grant_opts": 0}, errno.EINVAL),
        ({"grant_opts": 3}, errno.EINVAL),
        ({"vmtrace_size": 4096}, errno.EINVAL),
        ({"cpupool_id": 1}, errno.EINVAL),
    ],
    ids=str,
)
def test_domains_that_xen_does_not_make(tool: Tool, changes: dict[str, Any], error: int) -> None:
    """Each with its errno, and nothing is left of it."""
    assert tool.create(**changes)[0] == -error
    assert not tool.desk.broker.world.machine.domains
    assert [what for what, key in tool.desk.backing.done if key == 1] == []


def test_a_debug_build_makes_domains_with_shadow_paging(tool: Tool) -> None:
    """The custom Xen of docs/explanation/facts/recorded-host.md, section 1; a release says EOPNOTSUPP."""
    tool.desk.broker.world.machine.host = Host(build="debug")

    assert tool.create(flags=1)[0] == 0
    assert [domain.kind for domain in tool.desk.broker.world.machine.domains.values()] == ["hvm"]
