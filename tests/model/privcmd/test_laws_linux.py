# SPDX-License-Identifier: Apache-2.0
"""Rows of the recorded answers that a page table entry decides, and the chunks that only long requests have."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle, paging
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.machine import Machine
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.access import touch
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.privcmd.linux import Linux
from support.side_by_side.pair import SideBySide, drain
from support.small_machine import privcmd

START = 0x10_0000_0000
READ, WRITE = 1, 2


@pytest.mark.parametrize(
    ("made_with", "changed_to", "readable", "writable"),
    [(3, 1, True, True), (1, 3, True, False), (3, 0, False, False), (2, 1, True, True)],
)
def test_mprotect_does_not_change_page_table_entries(
    made_with: int,
    changed_to: int,
    readable: bool,
    writable: bool,
) -> None:
    """RW to RO stays writable, RO to RW never becomes it, and what was once without access is lost."""
    both = SideBySide()
    both.create("hvm", 8, ((0, 8),), None)
    pair = both.attach(Linux(), 0)
    assert pair is not None
    both.mmap(pair, START, 4 * 4096, made_with, fixed=True, what=None)
    both.begin(pair, 1, START, [0, 1, 2, 3], may_write=True, as_array=False)
    both.mprotect(pair, START, 4 * 4096, changed_to)
    if changed_to == 0:
        both.mprotect(pair, START, 4 * 4096, 3)
    both.compare()
    for access, allowed in ((READ, readable), (WRITE, writable)):
        both.touch(pair, START, access)
        if allowed:
            assert touch(pair.real, START, access).gmfn == 0
        else:
            with pytest.raises(ModelError, match="EFAULT"):
                touch(pair.real, START, access)
    both.close(pair)


@pytest.mark.parametrize("n_frames", [1, 16, 17, 511, 512, 513, 600, 1024, 1030])
@pytest.mark.parametrize("slice_frames", [100, 512, 16384])
def test_enoent_is_returned_when_a_chunk_ends_with_it(n_frames: int, slice_frames: int) -> None:
    """A paged frame at any index is reported there; the call returns -ENOENT for the last of each 512 only."""
    machine = Machine(4096)
    domid = lifecycle.create(machine, DomainKind.HVM, 1100).domid
    paging.page_out(machine, domid, [7])
    space = AddressSpace(1, machine, Account("someone", dict.fromkeys(Slot, 1 << 20)), Linux(), slice_frames)
    for at in {0, 14, 15, 16, 510, 511, 512, 1023, 1024, n_frames - 2, n_frames - 1} & set(range(n_frames)):
        gmfns = np.arange(20, 20 + n_frames, dtype=np.uint64)
        gmfns[at] = 7
        syscalls.mmap(space, START, n_frames * 4096, 3, fixed=True)
        batch = drain(privcmd(space).mmapbatch(space, domid, START, gmfns))

        assert np.flatnonzero(batch.errors).tolist() == [at]
        assert batch.errors[at] == -errno.ENOENT
        assert batch.ret == (-errno.ENOENT if at % 512 == 511 or at == n_frames - 1 else 0)
        assert space.pmap.n_present == n_frames - 1


@pytest.mark.parametrize("n_good", [0, 1, 2, 7, 8])
def test_mmap_keeps_the_good_frames_before_a_bad_one(n_good: int) -> None:
    """An entry that runs into a hole of the domain maps the frames before it, and keeps no reference behind it."""
    both = SideBySide()
    both.create("hvm", 24, ((0, 8), (10, 14)), None)
    pair = both.attach(Linux(), 0)
    assert pair is not None
    both.mmap(pair, START, 12 * 4096, 3, fixed=True, what=None)
    both.map_entries(pair, 1, [(START, 8 - n_good, 12)])
    both.compare()

    assert pair.real.pmap.n_present == n_good
    both.close(pair)
    both.compare()


def test_a_range_with_a_mapped_page_cannot_be_filled_again() -> None:
    """Wherever in the range the mapped page is: EINVAL, and nothing changes; holes alone can be filled."""
    both = SideBySide()
    both.create("hvm", 8, ((0, 8),), None)
    pair = both.attach(Linux(), 0)
    assert pair is not None
    both.mmap(pair, START, 6 * 4096, 3, fixed=True, what=None)
    both.begin(pair, 1, START, [99, 99, 2, 99, 99, 5], may_write=True, as_array=False)
    for first in range(6):
        for n_pages in range(1, 7 - first):
            if first <= 2 < first + n_pages or first + n_pages == 6:
                both.begin(pair, 1, START + first * 4096, [7] * n_pages, may_write=True, as_array=False)
                both.compare()
    assert pair.real.pmap.n_present == 2
    both.begin(pair, 1, START + 3 * 4096, [3, 4], may_write=True, as_array=False)
    both.begin(pair, 1, START + 8, [0, 1], may_write=True, as_array=False)
    both.compare()

    assert pair.real.pmap.n_present == 6
