# SPDX-License-Identifier: Apache-2.0
"""Two guests for a C program to map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from privcmd import Client
    from privcmd.broker import PrivateBroker

N_FRAMES = 128
# What the raw program can be asked to do.
CASES = (
    "batch_v2",
    "batch_v1",
    "mmap",
    "pointers",
    "restrict",
    "resource",
    "fork",
    "memory_calls",
    "threads",
    "storm",
    "signals",
)
# And the one about event channels.
EVENT_CASES = (
    "masked_until_written",
    "many_at_once",
    "refusals",
    "restricted",
    "the_last_descriptor",
    "a_child_shares_the_file",
    "interrupts",
    "a_timer_restarts",
    "a_signal_interrupts",
    "stopped_and_continued",
)


@dataclass(frozen=True, slots=True)
class Guests:
    """Two domains whose frames are filled with their number's low byte."""

    broker: PrivateBroker
    dom: int
    other: int

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a program that is to find the broker."""
        return {**os.environ, "PRIVCMDD_SOCKET": self.broker.path, **more}


def fill(client: Client, dom: int, content: bytes = bytes(range(N_FRAMES))) -> None:
    """Fill each frame with one byte, by default its number."""
    frames = client.call("domain.info", dom=dom, start=0, num=N_FRAMES)["frames"]
    addr = client.call("mmap", len=N_FRAMES * 4096, prot=3)["addr"]
    client.call("privcmd.mmapbatch_v2", dom=dom, addr=addr, arr=frames)
    client.call("write", addr=addr, data=b"".join(bytes([byte]) * 4096 for byte in content))
    client.call("munmap", addr=addr, len=N_FRAMES * 4096)
