# SPDX-License-Identifier: Apache-2.0
"""What an address of a client may be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from privcmdd.model.units import VM_MAX_ADDRESS, end_of_addresses


def test_all_that_a_process_here_has_lies_below_the_end() -> None:
    """Law: on whichever machine, no mapping of a real process is beyond; the page that the kernel adds is none."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    ends = [
        int(end, 16) for end, name in re.findall(r"^\w+-(\w+) .*?(\S*)$", maps, re.MULTILINE) if name != "[vsyscall]"
    ]

    assert VM_MAX_ADDRESS // 2 < max(ends) <= VM_MAX_ADDRESS


@pytest.mark.parametrize(
    ("machine", "end"), [("x86_64-linux-gnu", 0x7FFF_FFFF_F000), ("aarch64-linux-gnu", 1 << 48), ("", 0x7FFF_FFFF_F000)]
)
def test_each_machine_has_its_own_end(machine: str, end: int) -> None:
    """Law: TASK_SIZE with page tables of four levels; x86-64 leaves the last page out."""
    assert end_of_addresses(machine) == end
