# SPDX-License-Identifier: Apache-2.0
"""The map of an address space, beside a dict of pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privcmdd.model.mm.uobject import UvmObject
from privcmdd.model.mm.vm_map import Entry, File, Inherit, VmMap
from privcmdd.model.units import PAGE_SHIFT, PROT_ALL, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE
from support.profiles import PROFILE
from support.small_machine import BASE, RW, page


def entry(first: int, n: int, prot: int = RW, made: UvmObject | None = None) -> Entry:
    """An entry of the test's range."""
    return Entry(page(first), page(first + n), prot, PROT_ALL, Inherit.COPY, File.ANON, object=made)


def pages(vm: VmMap) -> dict[int, tuple[int, int]]:
    """Page -> the number of the object behind it and the page of that."""
    return {
        ((e.start - BASE) >> PAGE_SHIFT) + i: (e.object.number, e.offset + i)
        for e in vm
        if e.object is not None
        for i in range(e.n_pages)
    }


@PROFILE.law
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.booleans()), max_size=20))
def test_the_map_is_what_a_dict_of_pages_says(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever is replaced or removed: pages, offsets, references, growth, what came out are as with single pages."""
    vm, naive = VmMap(), dict[int, tuple[int, int]]()
    objects = []
    for number, (first, n, fill) in enumerate(steps):
        made = UvmObject(number, 1, [0] * n)
        new = [entry(first, n, made=made)] if fill else []
        growth, before = vm.growth(page(first), page(first + n), len(new)), len(vm)
        generation = vm.generation

        dead = vm.replace(page(first), page(first + n), new)

        assert len(vm) - before == growth
        assert vm.generation == generation + 1
        for gone in dead:
            assert gone.object is not None
            gone.object.refs -= 1
        if fill:
            made.refs += 1
            objects.append(made)
        out = {
            ((e.start - BASE) >> PAGE_SHIFT) + i: (e.object.number, e.offset + i)
            for e in dead
            if e.object is not None
            for i in range(e.n_pages)
        }
        assert out == {at: naive.pop(at) for at in range(first, first + n) if at in naive}
        naive.update({first + i: (number, i) for i in range(n) if fill})
        assert pages(vm) == naive
        for known in objects:
            assert known.refs == sum(e.object is known for e in vm)
        for at in range(44):
            found = vm.lookup(page(at) + 4095)
            assert (found is not None) == (at in naive)
        assert vm.covers(page(first), page(first + n)) == all(i in naive for i in range(first, first + n))
        assert [*vm.touching(page(5), page(20))] == [e for e in vm if e.end > page(5) and e.start < page(20)]


def test_what_lies_outside_is_not_there() -> None:
    """Before the first, behind the last, between two."""
    vm = VmMap()
    vm.replace(page(2), page(3), [entry(2, 1)])
    vm.replace(page(5), page(6), [entry(5, 1)])

    assert [vm.lookup(at) for at in (page(2) - 1, page(3), page(4), page(6))] == [None] * 4
    assert not vm.covers(page(2), page(6))
    assert [*vm.touching(page(3), page(5))] == []
    assert len(vm) == 2


@pytest.mark.parametrize(
    ("prots", "weakest"),
    [
        ([RW, RW], RW),
        ([RW, PROT_READ], PROT_READ),
        ([PROT_WRITE, PROT_ALL], RW),
        ([RW, PROT_NONE], None),
        ([PROT_EXEC], None),
        ([PROT_WRITE, PROT_READ], None),
        ([], None),
    ],
)
def test_the_weakest_protection(prots: list[int], weakest: int | None) -> None:
    """Of all entries of a range; a hole at its start, inside or at its end makes it none."""
    vm = VmMap()
    for index, prot in enumerate(prots):
        vm.replace(page(index), page(index + 1), [entry(index, 1, prot)])
    n = max(1, len(prots))

    assert vm.weakest_protection(page(0), page(n)) == weakest
    assert vm.weakest_protection(page(0), page(n + 1)) is None
    assert vm.weakest_protection(page(-1), page(n)) is None
