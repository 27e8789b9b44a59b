# SPDX-License-Identifier: Apache-2.0
"""Sets of numbers, kept as a few ranges."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ranges:
    """A set of numbers as ranges, ends included; ranges that touch become one (xen/common/rangeset.c)."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __len__(self) -> int:
        return len(self._starts)

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether any number of a range is in the set."""
        at = bisect_left(self._ends, start)
        return at < len(self) and self._starts[at] <= end

    def contains(self, start: int, end: int) -> bool:
        """Return whether all numbers of a range are in the set."""
        at = bisect_left(self._ends, start)
        return at < len(self) and self._starts[at] <= start and end <= self._ends[at]

    def with_added(self, start: int, end: int) -> Ranges:
        """Return this set and a range; no number of the range is in the set yet."""
        low = bisect_left(self._ends, start - 1)
        high = bisect_left(self._starts, end + 2)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        return self._spliced(low, high, [(start, end)])

    def without(self, start: int, end: int) -> Ranges:
        """Return this set without a range; all numbers of the range are in the set."""
        at = bisect_left(self._ends, start)
        left = [(self._starts[at], start - 1), (end + 1, self._ends[at])]
        return self._spliced(at, at + 1, [(first, last) for first, last in left if first <= last])

    def _spliced(self, low: int, high: int, new: list[tuple[int, int]]) -> Ranges:
        made = Ranges()
        made._starts = [*self._starts[:low], *(start for start, _ in new), *self._starts[high:]]
        made._ends = [*self._ends[:low], *(end for _, end in new), *self._ends[high:]]
        return made
