# SPDX-License-Identifier: Apache-2.0
"""Addresses and lengths from a client cost what it holds, not what it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.machine import Machine
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.pmap import Pmap
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.privcmd.linux import Linux
from privcmdd.model.privcmd.requests import MmapEntry, Stopped
from privcmdd.model.privcmd.uvm import Uvm
from privcmdd.model.units import PAGE_SHIFT, VM_MAX_ADDRESS
from support.profiles import PROFILE
from support.side_by_side.pair import drain

if TYPE_CHECKING:
    from privcmdd.model.privcmd.personality import Personality

N_PAGES = VM_MAX_ADDRESS >> PAGE_SHIFT


def test_emptying_all_addresses_looks_only_at_the_tables_there_are() -> None:
    """Munmap of the whole address space takes no longer for the 2^26 tables that are not there."""
    pmap = Pmap()
    for page in (0, 511, 512, N_PAGES - 1):
        pmap.swap(page, [7], 1)

    assert pmap.count(0, N_PAGES) == 4
    assert pmap.count(1, N_PAGES - 2) == 2
    assert list(pmap.swap(1, None, N_PAGES - 2)) == [7, 7]
    assert list(pmap.swap(0, None, N_PAGES)) == [7, 7]
    assert list(pmap.swap(0, None, N_PAGES)) == []
    assert pmap.n_ptps == pmap.n_present == 0


pieces = st.tuples(st.integers(0, 1400), st.integers(1, 700), st.booleans(), st.integers(1, 4))


@PROFILE.law
@given(st.lists(pieces, max_size=12), st.integers(0, 2))
def test_page_tables_are_what_a_dict_says(steps: list[tuple[int, int, bool, int]], where: int) -> None:
    """Whatever is entered and removed, in runs short and long: the entries and tables of a dict of pages."""
    pmap, naive = Pmap(), dict[int, int]()
    base = (0, 2**18 - 700, 2**27 - 700)[where]
    for start, n_pages, entered, stride in steps:
        page = base + start
        mfns = np.zeros(n_pages, np.uint32)
        if entered:
            mfns[::stride] = np.arange(1000, 1000 + n_pages, dtype=np.uint32)[::stride]
        old = pmap.swap(page, mfns if entered else None, n_pages)

        assert list(old) == [naive.pop(at) for at in range(page, page + n_pages) if at in naive]
        naive.update({page + i: mfn for i, mfn in enumerate(mfns.tolist()) if mfn})
        assert pmap.n_present == len(naive) == pmap.count(0, N_PAGES)
        assert pmap.n_ptps == sum(len({at >> level for at in naive}) for level in (9, 18, 27))
        assert pmap.frames(page, n_pages).tolist() == [naive.get(at, 0) for at in range(page, page + n_pages)]


@pytest.mark.parametrize("personality", [Uvm(), Linux()])
@pytest.mark.parametrize("mfn", [2**40 - 1, 2**63 - 1, 2**64 - 1])
def test_mmap_of_frames_at_the_end_of_their_numbers_is_refused(personality: Personality, mfn: int) -> None:
    """Mfn + npages past 64 bits wraps as it does in C; the first frame is bad, so its errno ends the call."""
    machine = Machine(512)
    domid = lifecycle.create(machine, DomainKind.HVM, 8).domid
    space = AddressSpace(1, machine, Account("someone", dict.fromkeys(Slot, 1000)), personality)
    syscalls.mmap(space, 0x1000, 3 * 4096, 3, fixed=True)
    with pytest.raises(Stopped, match="EINVAL"):
        drain(personality.mmap(space, domid, [MmapEntry(0x1000, mfn, 3)]))

    assert space.pmap.n_present == 0
