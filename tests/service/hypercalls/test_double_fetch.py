# SPDX-License-Identifier: Apache-2.0
"""Hypercall arguments lie in memory that the caller can change at any time: each byte of them is fetched once.

What was checked in one copy and used from another would be unchecked (XSA-155). So whatever toolstacks do, no hypercall
reads a byte of its caller's buffers twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmdd.model.keys import BufferFile
from service.hypercalls import test_toolstack as scenarios
from support.backing import MemoryBacking
from support.desk import Desk
from support.tool import HVM, PV, Tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.keys import FileKey


class CountingBacking(MemoryBacking):
    """Remembers which bytes of buffer files were read.

    Attributes:
        fetched: Bytes of the file, by their position.
        twice: Those that were read again; whoever watches empties both before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fetched: set[int] = set()
        self.twice: set[int] = set()

    def read(self, key: FileKey, page: int, offset: int, size: int) -> bytes:
        """Read bytes."""
        if isinstance(key, BufferFile):
            at = page * 4096 + offset
            span = set(range(at, at + size))
            self.twice |= self.fetched & span
            self.fetched |= span
        return super().read(key, page, offset, size)


class WatchingTool(Tool):
    """A toolstack whose every hypercall is watched."""

    n_fetched = 0

    def call(self, op: int, *args: int) -> int:
        """A hypercall."""
        backing = self.desk.backing
        assert isinstance(backing, CountingBacking)
        backing.fetched.clear()
        backing.twice.clear()
        ret = super().call(op, *args)
        assert not backing.twice, f"hypercall {op} with {args} reads bytes of its caller twice: {min(backing.twice):#x}"
        self.n_fetched += len(backing.fetched)
        return ret


SCENARIOS: dict[str, Callable[[WatchingTool], None]] = {
    "build hvm": lambda tool: scenarios.test_a_domain_is_built_looked_at_and_destroyed(tool, HVM),
    "build pv": lambda tool: scenarios.test_a_domain_is_built_looked_at_and_destroyed(tool, PV),
    "map": lambda tool: scenarios.test_frames_of_a_built_domain_can_be_mapped(tool, PV),
    "give and take": lambda tool: scenarios.test_memory_is_given_and_taken(tool, PV),
    "on demand": scenarios.test_guest_frames_are_populated_on_demand,
    "physmap": scenarios.test_the_physmap_is_rearranged,
    "version": scenarios.test_what_xen_says_of_itself,
    "several": scenarios.test_several_calls_in_one,
    "parameters": scenarios.test_parameters_of_hvm_domains,
    "types": scenarios.test_frames_are_told_apart,
    "registers": scenarios.test_vcpus_keep_their_registers,
    "events": scenarios.test_event_channels_are_numbered,
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_byte_of_an_argument_is_fetched_twice(scenario: str) -> None:
    """Structures, and the lists that they point to."""
    tool = WatchingTool(Desk(backing=CountingBacking()))
    SCENARIOS[scenario](tool)

    assert tool.n_fetched > 0
