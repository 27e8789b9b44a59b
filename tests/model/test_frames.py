# SPDX-License-Identifier: Apache-2.0
"""The frame table: given, referred to, given back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.profiles import PROFILE
from privcmdd.model.frames import FIRST_RAM, FrameTable
from privcmdd.model.units import DOMID_IO


def pages(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """Guest frame numbers or file pages."""
    return np.array(numbers, dtype=np.uint32)


def test_the_first_mebibyte_is_nobodys() -> None:
    """Frames are given from ``FIRST_RAM`` on; a machine smaller than that has none."""
    assert FrameTable(100).n_free == 0
    table = FrameTable(FIRST_RAM + 3)

    assert table.allocate(7, pages(1, 2, 3), pages(1, 2, 3)).tolist() == [FIRST_RAM, FIRST_RAM + 1, FIRST_RAM + 2]
    assert table.n_free == 0
    assert table.owner[FIRST_RAM - 1] == DOMID_IO


def test_freed_frames_are_given_again() -> None:
    """Fresh ones first, then those that were freed, with their new owner's particulars."""
    table = FrameTable(FIRST_RAM + 4)
    first = table.allocate(1, pages(0, 1, 2), pages(5, 6, 7))
    assert table.give(first[:2].tolist()).tolist() == first[:2].tolist()
    table.free(first[:2])
    assert table.n_free == 3

    again = table.allocate(2, pages(8, 9, 10), pages(1, 2, 3))

    assert set(again.tolist()) == {FIRST_RAM + 3, *first[:2].tolist()}
    assert table.owner[again].tolist() == [2, 2, 2]
    assert table.gfn[again].tolist() == [8, 9, 10]
    assert table.page[again].tolist() == [1, 2, 3]
    assert table.refs[again].tolist() == [1, 1, 1]
    assert table.n_free == 0


@PROFILE.law
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_giving_references_back_is_the_same_for_lists_and_arrays(mentions: list[int]) -> None:
    """One for each mention; who has none left is named once."""
    tables = FrameTable(FIRST_RAM + 10), FrameTable(FIRST_RAM + 10)
    for table in tables:
        mfns = table.allocate(1, pages(*range(10)), pages(*range(10)))
        for i in range(10):
            table.refs[mfns[i]] = max(1, mentions.count(i) + (i % 2))
    named = [FIRST_RAM + i for i in mentions]

    gone_few = tables[0].give(named)
    gone_many = tables[1].give(np.array(named, dtype=np.uint32))

    assert sorted(gone_few.tolist()) == gone_many.tolist() == sorted({m for m in named if m % 2 == 0})
    assert tables[0].refs.tolist() == tables[1].refs.tolist()
