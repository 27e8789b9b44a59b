# SPDX-License-Identifier: Apache-2.0
"""The broker's answers as values. Keys that a newer broker adds are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privcmd._answers import (
    DomainInfo,
    DomainRow,
    Fault,
    Finding,
    Health,
    Interrupts,
    IoreqServer,
    JobRow,
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
    "JobRow",
    "MapEntry",
    "MemoryFile",
    "Populated",
    "PortRow",
    "SharedPages",
    "Space",
    "SpaceRow",
]

HOLE = 2**64 - 1
"""Stands in ``DomainInfo.frames`` for a p2m position without a frame."""


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A domain's memory file, as a descriptor that the receiver closes."""

    fd: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SharedPages:
    """Pages of domain 0 that another domain may map.

    Attributes:
        refs: Their grants; the pages lie in the file in this order.
        fd: The memory file, to be mapped shared, as a descriptor that the receiver closes.
        page: The page of the file at which the first page lies.
        prot: The protection that they may be mapped with.
    """

    refs: list[int]
    fd: int
    page: int
    prot: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to a batch: ``ret`` is the ioctl's (0, or -2 when a frame is paged out).

    Attributes:
        n_failed: How many frames failed.
        frames: V2: 0 or a negative errno for each frame; V1: the array with its nibbles; None when none failed.
        extents: Good frames as (first index, page in the memory file, n_pages) runs, flat; None when not
            asked for.
    """

    ret: int
    n_failed: int
    frames: array[int] | None
    extents: array[int] | None
