# SPDX-License-Identifier: Apache-2.0
"""What the broker answers, as values. Keys that a newer broker adds are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privcmd.answers import (
    DomainInfo,
    DomainRow,
    Fault,
    Finding,
    Health,
    Interrupts,
    IoreqServer,
    MapEntry,
    Populated,
    PortRow,
    Space,
    SpaceRow,
)

if TYPE_CHECKING:
    from array import array

__all__ = [
    "HOLE",
    "Batch",
    "DomainInfo",
    "DomainRow",
    "Fault",
    "Finding",
    "Health",
    "Interrupts",
    "IoreqServer",
    "MapEntry",
    "Memory",
    "Populated",
    "PortRow",
    "SharedPages",
    "Space",
    "SpaceRow",
]

HOLE = 2**64 - 1
"""Stands in ``DomainInfo.frames`` for a p2m position without a frame."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A domain's memory file: the descriptor is the receiver's to close."""

    fd: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SharedPages:
    """Pages of domain 0's own that another domain may map.

    Attributes:
        refs: Their grants, side by side in the file.
        fd: The memory file, to be mapped shared; the descriptor is the receiver's to close.
        page: The page of the file that the first is.
        prot: What they may be mapped for.
    """

    refs: list[int]
    fd: int
    page: int
    prot: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to a batch: ``ret`` as the ioctl's (0, or -2 when a frame is paged out).

    Attributes:
        n_failed: How many frames failed.
        frames: V2: a negative errno per frame; V1: the array with its nibbles; None when none failed.
        extents: Good frames as (first index, page in the memory file, n_pages) runs, flat; None when not
            asked for.
    """

    ret: int
    n_failed: int
    frames: array[int] | None
    extents: array[int] | None
