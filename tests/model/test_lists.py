# SPDX-License-Identifier: Apache-2.0
"""Lists of numbers: repeated and distinct ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.lists import ascending, distinct, repeated
from support.profiles import PROFILE

numbers = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=40)


@PROFILE.law
@given(numbers)
def test_distinct_numbers_are_those_of_the_set(listed: list[int]) -> None:
    """Each number of the list stands once in the answer, in ascending order."""
    assert distinct(np.array(listed, dtype=np.uint64)).tolist() == sorted(set(listed))


@PROFILE.law
@given(numbers)
def test_a_number_is_repeated_where_it_stands_earlier_in_the_list(listed: list[int]) -> None:
    """The first mention of a number is not repeated, and each later one is."""
    expected = [number in listed[:at] for at, number in enumerate(listed)]

    assert repeated(np.array(listed, dtype=np.uint64)).tolist() == expected


@pytest.mark.parametrize(("listed", "ascends"), [([], True), ([7], True), ([1, 5], True), ([5, 5], False)])
def test_a_list_ascends_when_each_number_is_larger_than_the_one_before(listed: list[int], ascends: bool) -> None:
    """Equal numbers do not ascend; a list of one number does."""
    assert ascending(np.array(listed, dtype=np.uint64)) is ascends
