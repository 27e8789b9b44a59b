# SPDX-License-Identifier: Apache-2.0
"""Records hold what they are made of: values of every kind that is kept, and physmaps of any shape, in few bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import fields, is_dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.injection import InjectionKind, Rule
from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.changes import PART_GFNS, Changes
from privcmdd.model.machine.domain import DEVICE, PAGED, POD, Domain, DomainKind
from privcmdd.model.machine.evtchn import Port, PortState
from privcmdd.model.machine.interrupts import Interrupts, Msi
from privcmdd.model.machine.machine import Machine
from privcmdd.model.machine.records import GrantTable, IoreqServer, Pager, Pin, Traits, Tsc
from privcmdd.model.ranges import Ranges
from privcmdd.service import packing, records
from privcmdd.service.packing import PackingError, pack, unpack
from support.profiles import PROFILE

PV, HVM = DomainKind.PV, DomainKind.HVM


def some_ranges() -> Ranges:
    """Two of them."""
    return Ranges().with_added(3, 9).with_added(100, 2**48)


VALUES: list[Any] = [
    None,
    [True, 0, -1, 2**64 - 1, 1.5, "text", b"bytes", [[]]],
    {(1, 2): {3}, 5: "five", "key": (1, (2, "x"), None)},
    deque([Msi(1, 0xFEE00000, 3)], maxlen=7),
    np.array([1, 2, 2**32 - 1], dtype=np.uint32),
    Traits(handle=b"h" * 16, contexts={1: b"r"}, params={2: 2**64 - 1}, leaves={(1, 0): (1, 2, 3, 4)}, tsc=Tsc(2)),
    GrantTable(version=2, shared=[300, 301], status=[302]),
    Pager(7, {1, 2}, port=4),
    IoreqServer(2, [5, 6], True, [1], 2, [Ranges(), some_ranges(), Ranges()]),
    Interrupts(3, 1, intx={(2, 1)}, routes=[5, 0, 0, 0]),
    Port(PortState.INTERDOMAIN, 4, 1, 7, 2),
    Rule(InjectionKind.PAGED, 3, gfns=((0, 4), (9, 1)), method="privcmd."),
    [PV, HVM],
]


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike in all that is kept."""
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype) and bool((one == other).all())
    if isinstance(one, Ranges):
        return list(one) == list(other)
    if is_dataclass(one):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and type(one) is type(other)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_what_it_was(value: Any) -> None:
    """Types and all, also those of keys and of what is inside."""
    assert same(unpack(pack(value)), value)


def test_fields_that_are_not_kept_have_their_default() -> None:
    """Mappings of grants end with the broker, and with them what counts them."""
    table = unpack(pack(GrantTable(version=2, pins={8: Pin(300, 1, 1)})))

    assert (table.version, table.pins) == (2, {})
    assert all(name in {f.name for f in fields(kind)} for kind, names in packing.NOT_KEPT.items() for name in names)


def test_a_field_that_is_missing_has_its_default_and_one_too_many_is_refused() -> None:
    """Records of an earlier version can be read, those of a later one are not misread."""
    assert unpack(msgpack.packb({"Tsc": {"mode": 1}})) == Tsc(1)
    with pytest.raises(PackingError, match=r"cannot be read.*unexpected keyword argument 'colour'"):
        unpack(msgpack.packb({"Tsc": {"mode": 1, "colour": 2}}))


def test_a_value_of_another_class_cannot_be_kept() -> None:
    """It is said when it is written, not when it is missed."""
    with pytest.raises(TypeError, match="Changes is no value that is kept"):
        pack({"x": [Changes()]})


def test_each_field_of_a_domain_is_kept_or_counted_or_made_anew() -> None:
    """Who adds a field decides that here; ``WHOLE`` takes it unless it is named otherwise."""
    names = {f.name for f in fields(Domain)}

    assert names == set(records.WHOLE) | records.COUNTED | records.IN_PARTS | records.LEFT_OUT
    assert not set(records.WHOLE) & {"p2m", "changes", "tot_pages"}


ENTRY = st.one_of(
    st.just(0),
    st.just(POD),
    st.integers(256, 300),
    st.integers(256, 300).map(lambda mfn: mfn | PAGED),
    st.integers(256, 300).map(lambda mfn: mfn | DEVICE),
)
RUN = st.tuples(ENTRY, st.integers(0, 40), st.integers(1, 30))


@PROFILE.law
@given(st.lists(RUN, max_size=12))
def test_a_part_is_read_as_it_was_written(drawn: list[tuple[int, int, int]]) -> None:
    """Any mixture of runs of frames, of holes and of frames that are to be populated."""
    entries, pages = [], []
    for value, page, n in drawn:
        counting = value > POD
        entries += [value + i if counting else value for i in range(n)]
        pages += [page + i if counting else 0 for i in range(n)]
    table, where = np.array(entries, dtype=np.uint32), np.array(pages, dtype=np.uint32)

    rows = records.runs(table, where)
    tables = records._Tables(len(table))
    tables.add(0, pack([rows.tobytes(), b"", b""]))

    assert tables.p2m.tolist() == entries
    assert tables.pages.tolist() == pages
    assert len(rows) <= len(drawn)


def test_a_guest_without_holes_takes_a_run_a_part() -> None:
    """64 GiB of one piece are kept in some ten kilobytes."""
    machine = Machine(5 * PART_GFNS, max_gfns=4 * PART_GFNS)
    domain = lifecycle.create(machine, HVM, 4 * PART_GFNS)

    sizes = [len(records.of_part(machine, domain, part) or b"") for part in range(records.n_parts(domain))]
    assert len(sizes) == 4
    assert max(sizes) < 40


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        (5, {0}),
        (PART_GFNS, {1}),
        (slice(PART_GFNS - 1, PART_GFNS + 1), {0, 1}),
        (slice(3, 3), set()),
        (np.array([0, 3 * PART_GFNS], dtype=np.uint32), {0, 3}),
        (np.zeros(0, dtype=np.uint64), set()),
    ],
)
def test_what_was_written_to_is_noted_by_parts(where: Any, parts: set[int]) -> None:
    """And its domain, also when nothing of its physmap has changed."""
    changes = Changes()
    changes.note(7, where)

    assert (changes.domains, changes.parts[7]) == ({7}, parts)
    changes.clear()
    assert not changes.domains
    assert not changes.parts
