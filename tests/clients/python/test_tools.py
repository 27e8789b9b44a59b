# SPDX-License-Identifier: Apache-2.0
"""Which Xen the installed tools are made for, and that a broker simulates that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmd import PrivateBroker
from privcmd import _tools as tools
from support.command import privcmdd

if TYPE_CHECKING:
    from pathlib import Path

XEN_VERSION = 17


@pytest.mark.parametrize(
    ("names", "release"),
    [
        ([], None),
        (["libxenctrl.so.4.17"], "4.17"),
        (["libxenctrl.so.4.17.0", "libxenctrl.so"], "4.17"),
        (["libxenctrl.so.4.20"], "4.20"),
        (["libxenctrl.so.4.17", "libxenctrl.so.4.20"], "4.20"),
        (["libxenctrl.so.4.11"], None),
        (["libxenctrl.so.4.11", "libxenctrl.so.4.17"], "4.17"),
    ],
)
def test_the_release_is_that_of_libxenctrl(tmp_path: Path, names: list[str], release: str | None) -> None:
    """By the library's name, which distributions give it; the newest that can be simulated."""
    for name in names:
        (tmp_path / name).touch()

    assert tools.release([str(tmp_path), str(tmp_path / "none")]) == release


@pytest.mark.parametrize(
    ("config", "version"),
    [
        (None, 20),
        ("[machine]\nmemory_mib = 64\n", 20),
        ('[host]\nxen = "4.17"\n', 17),
        ('host = { xen = "4.17" }\n', 17),
        ('[host]\ndom0 = "pvh"\n', 20),
    ],
)
def test_a_private_broker_follows_the_tools_unless_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, version: int
) -> None:
    """A program of this machine finds the Xen that it is made for; who sets host.xen gets that."""
    (tmp_path / "libxenctrl.so.4.20").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    with PrivateBroker(config) as broker, broker.client() as client:
        assert client.hypercall(XEN_VERSION, 0) == 4 << 16 | version


def test_the_command_follows_them_and_says_so(tmp_path: Path) -> None:
    """`privcmdd serve` simulates the Xen that `privcmdctl run` does; `check-config` says why; who sets it gets that."""
    (tmp_path / "libxenctrl.so.4.20").touch()
    there = {"LD_LIBRARY_PATH": str(tmp_path)}

    followed = privcmdd("check-config", env=there).stdout
    told = privcmdd("check-config", "--set", "host.xen=4.17", env=there).stdout

    assert "host.xen = '4.20'  # default: that of the installed tools\n" in followed
    assert "host.xen = '4.17'  # flag\n" in told
