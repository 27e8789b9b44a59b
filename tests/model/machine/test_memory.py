# SPDX-License-Identifier: Apache-2.0
"""Memory operations name frames exactly: no page table entry is made that would drop a name's high bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model import invariants
from privcmdd.model.machine import foreign, lifecycle, memory, paging
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.machine import Machine
from support.naive.host import Host
from support.profiles import PROFILE

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("kind", [DomainKind.HVM, DomainKind.PV])
@pytest.mark.parametrize("bit", [32, 40, 63])
def test_decrease_reservation_takes_no_frame_by_a_name_with_high_bits(kind: DomainKind, bit: int) -> None:
    """The same frame under two names would be given back twice; XENMEM_decrease_reservation masks nothing."""
    machine = Machine(512)
    domain = lifecycle.create(machine, kind, 8)
    name = int(domain.gmfns(5, 1)[0])

    assert memory.decrease_reservation(machine, domain.domid, [name | 1 << bit]).n_done == 0
    assert memory.decrease_reservation(machine, domain.domid, [name, name | 1 << bit]).n_done == 1
    assert domain.tot_pages == 7
    invariants.check(machine, [], {})


def test_a_paged_out_frame_can_be_ballooned_out() -> None:
    """guest_remove_page drops a paged frame (p2m_mem_paging_drop_page): it is the guest's to give up."""
    machine = Machine(512)
    domain = lifecycle.create(machine, DomainKind.HVM, 8)
    paging.page_out(machine, domain.domid, [2, 3])

    assert memory.decrease_reservation(machine, domain.domid, [1, 2]).n_done == 2
    assert (domain.tot_pages, domain.n_paged) == (5, 1)
    assert machine.frames.n_free == 512 - 256 - 6
    invariants.check(machine, [], {})


def test_a_frame_mentioned_twice_is_answered_twice() -> None:
    """Each mention is answered as if the ones before it had been a request of their own."""
    machine = Machine(512)
    domain = lifecycle.create(machine, DomainKind.HVM, 8)
    foreign.get(machine, domain.domid, [3])

    assert list(paging.page_out(machine, domain.domid, [2, 3, 2, 3, 2])) == [0, -16, -22, -16, -22]
    assert list(paging.page_in(machine, domain.domid, [2, 3, 2])) == [0, -22, -22]


@pytest.mark.parametrize("kind", [DomainKind.HVM, DomainKind.PV])
def test_a_domain_without_frames_is_gone_at_once(kind: DomainKind) -> None:
    """Nothing was there to be given back, and nothing refers to it."""
    machine = Machine(512)
    empty = lifecycle.create(machine, kind, 8, ())
    drained = lifecycle.create(machine, kind, 8)
    memory.decrease_reservation(machine, drained.domid, drained.gmfns(0, 8))
    for domain in (empty, drained):
        assert domain.tot_pages == 0
        lifecycle.destroy(machine, domain.domid)
        assert domain.domid not in machine.domains
    invariants.check(machine, [], {})


gfns = st.lists(st.one_of(st.integers(0, 40), st.sampled_from([2**12 - 1, 2**12, 2**32 + 1, 2**40 + 1])), max_size=8)
operations = st.sampled_from([memory.populate, memory.decrease_reservation, paging.page_out, paging.page_in])


@PROFILE.law
@given(st.lists(st.tuples(operations, gfns, st.booleans()), max_size=12))
def test_memory_operations_do_what_a_dict_says(steps: list[tuple[Callable[..., Any], list[int], bool]]) -> None:
    """Repeated names, names past the end, plain lists and arrays: done up to the same place as on a dict."""
    machine, host = Machine(300, max_gfns=1 << 12), Host(300, 1 << 12)
    domain = lifecycle.create(machine, DomainKind.HVM, 22, ((0, 20),))
    naive = host.create(domain.domid, "hvm", 22, range(20))
    for operation, gmfns, as_array in steps:
        given_names = np.array(gmfns, np.uint64) if as_array else gmfns
        answer = operation(machine, domain.domid, given_names)
        expected = getattr(host, operation.__name__)(domain.domid, gmfns)

        assert (answer.n_done if isinstance(answer, memory.Extents) else list(answer)) == expected
        assert np.flatnonzero(domain.p2m).tolist() == sorted(naive.p2m)
        assert domain.tot_pages == host.tot_pages(domain.domid) <= domain.max_pages
        assert machine.frames.n_free == host.n_free()
        invariants.check(machine, [], {})
