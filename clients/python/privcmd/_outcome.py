# SPDX-License-Identifier: Apache-2.0
"""The outcome of a batch: an error for each frame, and the good frames as runs of the domain's memory file."""

from __future__ import annotations

import errno
import os
from array import array
from typing import TYPE_CHECKING, Self

from privcmd import _mman as mman
from privcmd._mman import PAGE_SIZE
from privcmd.errors import FrameError, PrivcmdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmd._mapping import BaseMapping
    from privcmd.results import Batch

_NIBBLE, _PAGED = 0xF0000000, 0x80000000


class Outcome:
    """Errors (0 or negative errnos) and runs: flat u32 triples of (page here, page of the file, n_pages)."""

    def __init__(self, errors: array[int], runs: array[int], n_failed: int) -> None:
        self.errors = errors
        self.runs = runs
        self.n_failed: int = n_failed
        self._sorted = True

    @classmethod
    def of(cls, batch: Batch, n_frames: int) -> Self:
        """What a batch of V2 answered for ``n_frames`` frames."""
        if batch.extents is None or len(batch.extents) % 3:
            raise PrivcmdError(errno.EPROTO, "the broker's answer to a batch lacks its extents")
        errors = batch.frames if batch.frames is not None else array("i", bytes(4 * n_frames))
        return cls(errors, batch.extents, batch.n_failed)

    def put(self, first: int, part: Outcome) -> None:
        """Take over the outcome of a second try of the frames from ``first`` on."""
        self.errors[first : first + len(part.errors)] = part.errors
        for here, there, n_pages in _triples(part.runs):
            self.runs.extend((first + here, there, n_pages))
        self.n_failed -= len(part.errors) - part.n_failed
        self._sorted = False

    def spans_of(self, error: int) -> list[tuple[int, int]]:
        """Runs of frames with this error, as (first, n)."""
        spans: list[tuple[int, int]] = []
        if not self.n_failed:
            return spans
        for index, found in enumerate(self.errors):
            if found != error:
                continue
            if spans and sum(spans[-1]) == index:
                spans[-1] = (spans[-1][0], spans[-1][1] + 1)
            else:
                spans.append((index, 1))
        return spans

    def gaps(self) -> list[tuple[int, int]]:
        """Pages that no run covers, as (first, n)."""
        gaps = []
        end = 0
        runs = _triples(self.runs)
        for here, _, n_pages in runs if self._sorted else sorted(runs):
            if here > end:
                gaps.append((end, here - end))
            end = here + n_pages
        if end < len(self.errors):
            gaps.append((end, len(self.errors) - end))
        return gaps

    def refuse_failures(self, domid: int, names: bytes) -> None:
        """Raise an error if a frame failed, for a mapping that is all or nothing.

        Raises:
            FrameError: For the first frame that failed.
        """
        if not self.n_failed:
            return
        index, error = next((i, e) for i, e in enumerate(self.errors) if e)
        frame = int.from_bytes(names[8 * index : 8 * index + 8], "little")
        raise FrameError(
            -error,
            f"frame {frame:#x} of domain {domid}, at index {index}, cannot be mapped ({os.strerror(-error)}); "
            f"{self.n_failed} of {len(self.errors)} failed, and none is mapped",
            {"index": index, "frame": frame, "dom": domid, "n_failed": self.n_failed},
        )

    def check_room(self) -> None:
        """Raise ENOMEM when the kernel would not allow the mappings that this outcome needs."""
        mman.check_room(len(self.runs) // 3 + (len(self.gaps()) if self.n_failed else 0) + 2)

    def apply(self, mapping: BaseMapping, first: int, domid: int, names: bytes, fd: int) -> None:
        """Map the outcome into this process's memory, from page ``first`` of the mapping on, and note it there.

        Raises:
            PrivcmdError: ENOMEM, other threads have used up the kernel's mappings meanwhile.
        """
        base = mapping.address + first * PAGE_SIZE
        mman.map_runs(base, mapping.prot, fd, memoryview(self.runs))
        if self.n_failed:
            mman.map_failed(base, mapping.prot, self.gaps())
        mman.forbid_fork(base, len(self.errors) * PAGE_SIZE)
        mapping.domid = domid
        mapping.owners[first : first + len(self.errors)] = array("H", [domid]) * len(self.errors)
        mapping.gfns[first : first + len(self.errors)] = array("Q", names)
        mapping.errors[first : first + len(self.errors)] = self.errors


def failed_batch_v1(names: bytes, batch: Batch) -> Outcome:
    """A batch of V1 as an outcome: its nibbles tell paged-out frames from other failed frames."""
    asked = array("Q", names)
    runs = batch.extents if batch.extents is not None else array("I")
    outcome = Outcome(array("i", bytes(4 * len(asked))), runs, batch.n_failed)
    if batch.frames is not None:
        for first, n_pages in outcome.gaps():
            for index in range(first, first + n_pages):
                paged = batch.frames[index] ^ asked[index] == _PAGED or batch.frames[index] & _NIBBLE == _PAGED
                outcome.errors[index] = -errno.ENOENT if paged else -errno.EINVAL
    return outcome


def runs_of(runs: array[int] | None, start: int, n_pages: int) -> array[int]:
    """The part of runs that lies in pages ``start`` to ``start + n_pages``, counted from ``start``."""
    part = array("I")
    for here, there, n in _triples(runs if runs is not None else array("I")):
        low, high = max(here, start), min(here + n, start + n_pages)
        if low < high:
            part.extend((low - start, there + low - here, high - low))
    return part


def _triples(runs: array[int]) -> Iterator[tuple[int, int, int]]:
    at = iter(runs)
    return zip(at, at, at, strict=True)
