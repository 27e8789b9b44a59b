# SPDX-License-Identifier: Apache-2.0
"""Work in slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from privcmdd.model.slices import CHECKPOINT, MIDWAY, at_once, slices, to_the_end

if TYPE_CHECKING:
    from collections.abc import Generator


def counting(done: list[int], n: int) -> Generator[None, None, str]:
    """Work of ``n`` slices."""
    for number in range(n):
        done.append(number)
        if number < n - 1:
            yield CHECKPOINT
    return "all"


def test_all_slices_are_done_at_once() -> None:
    """With the result of the last one."""
    done: list[int] = []

    assert at_once(counting(done, 3)) == "all"
    assert done == [0, 1, 2]


@pytest.mark.parametrize("n_done", [1, 2, 3])
def test_work_that_must_go_on_is_done_when_it_is_closed(n_done: int) -> None:
    """Whoever closes it has the rest done: it cannot be given up."""
    done: list[int] = []
    steps = to_the_end(counting(done, 4))
    for _ in range(n_done):
        assert next(steps) is MIDWAY
    assert len(done) == n_done

    steps.close()

    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize(("n", "sizes"), [(0, [0]), (1, [1]), (4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
def test_slices_are_of_a_size_and_leave_nothing_out(n: int, sizes: list[int]) -> None:
    """All but the last have the size; of nothing there is one, which is empty."""
    numbers = list(range(n))
    parts = [numbers[part] for part in slices(n, 4)]

    assert [len(part) for part in parts] == sizes
    assert [number for part in parts for number in part] == numbers
