# SPDX-License-Identifier: Apache-2.0
"""Lists of numbers: which are repeated, and which there are.

``np.unique`` answers both, and is a hundred times slower than a sort: numpy 2.4 finds distinct numbers by hashing.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

N = TypeVar("N", bound=np.unsignedinteger)


def ascending(numbers: npt.NDArray[N]) -> bool:
    """Return whether each number is larger than the one before it; then none is repeated."""
    return bool((numbers[1:] > numbers[:-1]).all())


def distinct(numbers: npt.NDArray[N]) -> npt.NDArray[N]:
    """Return the numbers of a list in ascending order, each once."""
    if ascending(numbers):
        return numbers
    ordered = np.sort(numbers)
    fresh = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    return ordered[fresh]


def repeated(numbers: npt.NDArray[N]) -> npt.NDArray[np.bool_]:
    """Return for each number whether it also stands earlier in the list."""
    again = np.zeros(len(numbers), dtype=np.bool_)
    if ascending(numbers):
        return again
    ordered = np.sort(numbers)
    if not (ordered[1:] == ordered[:-1]).any():
        return again
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    again[order[1:]] = ordered[1:] == ordered[:-1]
    return again
