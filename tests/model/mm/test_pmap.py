# SPDX-License-Identifier: Apache-2.0
"""Page tables: short ranges and long ones are the same, and tables go with their last entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.machine.frames import FEW
from privcmdd.model.mm.pmap import LEAF_PAGES, Pmap
from support.profiles import PROFILE


def table(pmap: Pmap) -> dict[int, int]:
    """All entries."""
    return {first + i: int(leaf[i]) for first, leaf in pmap.leaves() for i in np.flatnonzero(leaf).tolist()}


steps = st.tuples(st.integers(0, 40), st.lists(st.integers(0, 3), min_size=1, max_size=FEW), st.booleans())


@PROFILE.law
@given(st.lists(steps, max_size=10), st.sampled_from([0, LEAF_PAGES - 20, 2**18 - 20]))
def test_few_and_many_are_the_same(rows: list[tuple[int, list[int], bool]], base: int) -> None:
    """A short range swapped in one piece, page by page, or as part of a long one."""
    short, single, long = Pmap(), Pmap(), Pmap()
    for start, mfns, fill in rows:
        page, n = base + start, len(mfns)
        new = mfns if fill else None
        old = [
            list(short.swap(page, new, n)),
            [m for i, mfn in enumerate(mfns) for m in single.swap(page + i, [mfn] if fill else None, 1)],
        ]
        around = long.frames(base, start), long.frames(page + n, 600)
        body = np.array(mfns, np.uint32) if fill else np.zeros(n, np.uint32)
        was = [int(m) for m in long.frames(page, n) if m]
        long.swap(base, np.concatenate([around[0], body, around[1]]), start + n + 600)

        assert old[0] == old[1] == was
        assert table(short) == table(single) == table(long)
        assert short.n_ptps == single.n_ptps == long.n_ptps
        assert short.n_present == single.n_present == long.n_present == len(table(short))


@pytest.mark.parametrize("mfns", [None, [0, 0]])
def test_entering_nothing_makes_no_table(mfns: list[int] | None) -> None:
    """Neither in a short range nor in a long one."""
    pmap = Pmap()

    assert list(pmap.swap(5, mfns, 2)) == []
    assert list(pmap.swap(0, None if mfns is None else [0] * 1000, 1000)) == []
    assert pmap.n_ptps == 0


def test_tables_of_every_level_go_with_their_last_entry() -> None:
    """A leaf, the table above it and the one above that are counted as long as something is below them."""
    pmap = Pmap()
    for count, page in ((3, 0), (4, 512), (6, 2**18), (9, 2**27)):
        pmap.swap(page, [7], 1)
        assert pmap.n_ptps == count
    for count, page in ((6, 2**27), (5, 0), (2 + 1, 512), (0, 2**18)):
        pmap.swap(page, None, 1)
        assert pmap.n_ptps == count


def test_looking_at_one_page_or_many() -> None:
    """``get``, ``frames`` and ``count`` agree."""
    pmap = Pmap()
    pmap.swap(510, [1, 0, 3, 4], 4)

    assert [pmap.get(page) for page in range(509, 515)] == pmap.frames(509, 6).tolist() == [0, 1, 0, 3, 4, 0]
    assert [pmap.count(page, 1) for page in range(509, 515)] == [0, 1, 0, 1, 1, 0]
    assert pmap.count(511, 2) == 1
    assert pmap.count(0, 2**30) == 3


def test_a_range_may_be_far_larger_than_what_is_there() -> None:
    """Only tables that exist are looked at, and only those in the range."""
    pmap = Pmap()
    for page in (5, 2**27, 2**30):
        pmap.swap(page, [7], 1)

    assert pmap.count(6, 2**29) == 1
    assert list(pmap.swap(6, None, 2**29)) == [7]
    assert sorted(table(pmap)) == [5, 2**30]
