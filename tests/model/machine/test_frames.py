# SPDX-License-Identifier: Apache-2.0
"""The frame table: given, referred to, given back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.machine.frames import FIRST_RAM, FrameTable
from privcmdd.model.units import DOMID_IO, DOMID_XEN, MMIO_END, MMIO_FIRST
from support.profiles import PROFILE


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
    assert table.put(first[:2].tolist()).tolist() == first[:2].tolist()
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

    gone_few = tables[0].put(named)
    gone_many = tables[1].put(np.array(named, dtype=np.uint32))

    assert sorted(gone_few.tolist()) == gone_many.tolist() == sorted({m for m in named if m % 2 == 0})
    assert tables[0].refs.tolist() == tables[1].refs.tolist()


def test_frames_in_a_row_begin_at_a_multiple_of_their_number() -> None:
    """Fresh ones while there are some, then freed ones; what is skipped is given to others."""
    table = FrameTable(FIRST_RAM + 24)
    table.allocate(1, pages(0), pages(0))

    first = table.allocate_run(1, pages(*range(8)), pages(*range(8)))
    second = table.allocate_run(1, pages(*range(8)), pages(*range(8)))

    assert first is not None
    assert second is not None
    assert first.tolist() == list(range(FIRST_RAM + 8, FIRST_RAM + 16))
    assert second.tolist() == list(range(FIRST_RAM + 16, FIRST_RAM + 24))
    assert table.n_free == 7
    assert table.allocate_run(1, pages(*range(8)), pages(*range(8))) is None
    table.free(first[table.put(first.tolist()) - first[0]])
    again = table.allocate_run(2, pages(*range(8)), pages(*range(8)))
    assert again is not None
    assert again.tolist() == first.tolist()
    assert sorted(table.allocate(3, pages(*range(7)), pages(*range(7))).tolist()) == list(
        range(FIRST_RAM + 1, FIRST_RAM + 8)
    )
    assert table.n_free == 0


@PROFILE.law
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=30))
def test_no_frame_is_given_twice(steps: list[tuple[bool, int]]) -> None:
    """However runs and single frames are taken and freed: owners and the count of free ones agree."""
    table = FrameTable(FIRST_RAM + 64)
    held: list[np.ndarray[tuple[int], np.dtype[np.uint32]]] = []
    for take, order in steps:
        numbers = pages(*range(1 << order))
        if take and len(numbers) <= table.n_free:
            run = table.allocate_run(1, numbers, numbers)
            got = table.allocate(1, numbers, numbers) if run is None else run
            assert run is None or (int(run[0]) % len(run) == 0 and (np.diff(run.astype(np.int64)) == 1).all())
            held.append(got)
        elif held:
            gone = held.pop(order % len(held))
            table.free(table.put(gone))
        owned = [mfn for mfns in held for mfn in mfns.tolist()]
        assert len(set(owned)) == len(owned)
        assert np.flatnonzero(table.owner == 1).tolist() == sorted(owned)
        assert table.n_free == 64 - len(owned)


def test_a_large_machine_has_a_hole_and_a_table() -> None:
    """Devices below 4 GiB, Xen's machine-to-phys table at the end: neither is ever given to a guest."""
    table = FrameTable(MMIO_END + 4096)
    first, n_frames = table.machphys
    n_before = MMIO_FIRST - FIRST_RAM
    assert (first + n_frames, n_frames) == (MMIO_END + 4096, 5 * 512)
    assert table.n_free == n_before + 4096 - n_frames
    numbers = np.arange(n_before - 4, dtype=np.uint32)
    table.allocate(1, numbers, numbers)

    across = table.allocate(1, pages(*range(8)), pages(*range(8)))

    assert across.tolist() == [*range(MMIO_FIRST - 4, MMIO_FIRST), *range(MMIO_END, MMIO_END + 4)]
    assert table.owner[MMIO_FIRST] == table.owner[MMIO_END - 1] == DOMID_IO
    assert table.owner[first] == DOMID_XEN
    assert table.n_free == 4096 - n_frames - 4
    run = table.allocate_run(1, pages(*range(16)), pages(*range(16)))
    assert run is not None
    assert run[0] == MMIO_END + 16
