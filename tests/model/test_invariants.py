# SPDX-License-Identifier: Apache-2.0
"""Each law finds what it is there to find: the state is tampered with by hand, and exactly that law is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from privcmdd.model import invariants
from privcmdd.model.errors import LawBroken
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainState
from privcmdd.model.machine.foreign import get
from privcmdd.model.mm.vm_map import Entry, File, Inherit
from privcmdd.model.privcmd.requests import Batch
from privcmdd.model.units import PAGE_SIZE, VM_MAX_ADDRESS
from support.small_machine import BASE, HOLE, World, batch, page, privcmd

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.mm.space import AddressSpace


def built() -> tuple[World, AddressSpace]:
    """A world in which something of everything is there."""
    world = World()
    space = world.space(n_pages=8)
    batch(space, 1, page(1), [1, HOLE, 3])
    batch(space, 2, page(5), world.mfns(0, 1))
    world.check()
    return world, space


def foreign(space: AddressSpace, at: int = BASE + PAGE_SIZE) -> Entry:
    """An entry with an object."""
    entry = space.map.lookup(at)
    assert entry is not None
    assert entry.object is not None
    return entry


def one(value: Any, name: str, by: Any = 1) -> None:
    """Change a number."""
    setattr(value, name, getattr(value, name) + by)


def move_object(space: AddressSpace) -> None:
    """Its last page is beyond the object."""
    foreign(space).offset += 1


def enter_failed(space: AddressSpace) -> None:
    """A page table entry where a frame failed."""
    mfns, _ = get(space.machine, 1, [9])
    space.fill(page(2), page(3), mfns)


def lose_entry(space: AddressSpace) -> None:
    """Its page table entry stays."""
    dead = space.map.replace(page(5), page(6), [])
    for entry in dead:
        assert entry.object is not None
        space.objects.freed_one()
    space.n_wired -= 1


def bar_without_map(space: AddressSpace) -> None:
    """An entry that is not present, where nothing is mapped."""
    space.bar(page(1 << 20), page((1 << 20) + 1))


def change_under_replacement(space: AddressSpace) -> None:
    """The map changes while a replacement is being prepared."""
    space.reserve(BASE, page(1), n_frames=1)
    one(space.map, "generation")


BREACHES: list[tuple[str, Callable[[World, AddressSpace], object]]] = [
    # 1: disjoint, aligned, not empty, found by their address, below the limit
    ("1 ", lambda _, space: one(foreign(space), "end", PAGE_SIZE)),
    ("1 ", lambda _, space: one(foreign(space), "end", -8)),
    ("1 ", lambda _, space: setattr(foreign(space), "end", foreign(space).start)),
    ("1 ", lambda _, space: one(foreign(space), "start", PAGE_SIZE)),
    ("1 ", lambda _, space: setattr([*space.map][-1], "end", VM_MAX_ADDRESS + PAGE_SIZE)),
    # 2: references, objects alive, what an object covers
    ("2 ", lambda _, space: one(foreign(space).object, "refs")),
    ("2 ", lambda _, space: one(foreign(space).object, "refs", -1)),
    ("2 ", lambda _, space: one(space.objects, "made")),
    ("2 ", lambda _, space: move_object(space)),
    # 3: references of frames, their owners, those that are free
    ("3 ", lambda world, _: world.machine.frames.refs.__setitem__(world.hvm.p2m[1], 1)),
    ("3 ", lambda world, _: world.machine.frames.refs.__setitem__(world.hvm.p2m[9], 2)),
    ("3 ", lambda world, _: world.machine.frames.refs.__setitem__(world.machine.frames.n_frames - 1, 1)),
    ("3 ", lambda world, _: world.machine.frames.owner.__setitem__(world.hvm.p2m[9], 2)),
    ("3 ", lambda world, _: one(world.machine.frames, "_fresh")),
    ("3 ", lambda world, _: world.hvm.detached.append(int(world.hvm.p2m[9]))),
    # 4: page table entries, tables, wired pages, failed frames, entries behind them
    ("4 ", lambda _, space: one(space.pmap, "n_present")),
    ("4 ", lambda _, space: one(space.pmap, "n_entries")),
    ("4 ", lambda _, space: bar_without_map(space)),
    ("4 ", lambda _, space: space.pmap._level3.update([77])),
    ("4 ", lambda _, space: one(space, "n_wired", -1)),
    ("4 ", lambda _, space: enter_failed(space)),
    ("4 ", lambda _, space: lose_entry(space)),
    # 5: the map under a replacement that is being prepared
    ("5 ", lambda _, space: change_under_replacement(space)),
    # 6: what was entered and removed
    ("6 ", lambda _, space: one(space.counters, "frames_entered")),
    ("6 ", lambda _, space: one(space.counters, "frames_removed")),
    # 8: totals, and when a domain is gone
    ("8 ", lambda world, _: one(world.hvm, "tot_pages")),
    ("8 ", lambda world, _: one(world.hvm, "n_paged")),
    ("8 ", lambda world, _: one(world.hvm, "n_pod")),
    ("8 ", lambda world, _: setattr(world.hvm, "state", DomainState.GONE)),
    # 9: what is paid
    ("9 ", lambda world, _: world.account.add(Slot.ENTRIES, 1)),
    ("9 ", lambda world, _: world.account.add(Slot.OBJECTS, -1)),
    ("9 ", lambda world, _: world.account.add(Slot.FRAMES, 1)),
    ("9 ", lambda world, _: world.account.add(Slot.SPACES, 1)),
    ("9 ", lambda world, _: world.account.add(Slot.FDS, 1)),
]


@pytest.mark.parametrize(("law", "breach"), BREACHES, ids=[f"law {law}{i}" for i, (law, _) in enumerate(BREACHES)])
def test_a_breach_is_found_by_its_law(law: str, breach: Callable[[World, AddressSpace], object]) -> None:
    """And by no other before it."""
    world, space = built()

    breach(world, space)

    with pytest.raises(LawBroken) as fault:
        world.check()
    assert fault.value.law.startswith(law)


def test_frames_of_a_domain_that_is_gone_are_a_breach() -> None:
    """Law 8: a domain is gone only when nothing refers to it."""
    world, _ = built()
    domain = lifecycle.create(world.machine, world.hvm.kind, 1)
    del world.machine.domains[domain.domid]

    with pytest.raises(LawBroken, match="8 a domain lives"):
        invariants.domains_live_as_long_as_referred_to(world.machine)


def test_a_dying_domain_that_owns_nothing_is_a_breach() -> None:
    """Law 8: and it does not stay longer."""
    world, _ = built()
    domain = lifecycle.create(world.machine, world.hvm.kind, 1, ranges=())
    domain.state = DomainState.DYING

    with pytest.raises(LawBroken, match="8 a domain lives"):
        world.check()


def test_charges_of_connections_add_up_to_their_uids() -> None:
    """Law 9: what connections pay the uid pays."""
    world, _ = built()
    connection = Account("connection", {}, world.account)
    charge = connection.charge(Slot.BATCHES, 2)
    invariants.charges_add_up(world.spaces, {world.account: (connection,)})

    connection.used[Slot.BATCHES] += 1

    with pytest.raises(LawBroken, match="9 charges equal use"):
        invariants.charges_add_up(world.spaces, {world.account: (connection,)})
    connection.used[Slot.BATCHES] -= 1
    charge.release()
    world.check()


def test_while_a_request_is_prepared_it_may_hold_more() -> None:
    """References and charges of a replacement under way are allowed for; missing ones are found even then."""
    world, _ = built()
    slow = world.space(n_pages=30, slice_frames=12)
    steps = privcmd(slow).mmapbatch(slow, 1, BASE, np.arange(30, dtype=np.uint64))
    next(steps)

    world.check()
    world.machine.frames.refs[world.hvm.p2m[1]] = 1
    with pytest.raises(LawBroken, match="3 references"):
        world.check()
    world.machine.frames.refs[world.hvm.p2m[1]] = 3
    steps.close()
    world.check()


BAD_BATCHES = [
    Batch(0, [300], None),
    Batch(0, [300, 301, 302], None),
    Batch(0, [300, 301], [0]),
    Batch(0, [300, 301], [0, -22]),
    Batch(0, [300, 0], [0, 22]),
]


@pytest.mark.parametrize("answer", BAD_BATCHES)
def test_an_answer_out_of_order_is_a_breach(answer: Batch) -> None:
    """Law 6, for one answer: an error or a frame for each frame asked for, never both."""
    with pytest.raises(LawBroken, match="6 every frame"):
        invariants.errors_are_in_order(answer, 2)


@pytest.mark.parametrize("answer", [Batch(0, [300, 301], None), Batch(0, [300, 0], [0, -22]), Batch(0, [0, 0], None)])
def test_an_answer_in_order_is_none(answer: Batch) -> None:
    """Law 6: as answers are."""
    invariants.errors_are_in_order(answer, 2)


LEFT: list[Callable[[AddressSpace], object]] = [
    lambda space: setattr(space, "closed", False),
    lambda space: space.map.replace(0, PAGE_SIZE, [Entry(0, PAGE_SIZE, 3, 3, Inherit.COPY, File.ANON)]),
    lambda space: space.pmap.swap(0, [300], 1),
    lambda space: one(space, "n_wired"),
    lambda space: one(space.objects, "made"),
]


@pytest.mark.parametrize("leave", LEFT)
def test_a_closed_space_that_holds_something_is_a_breach(leave: Callable[[AddressSpace], object]) -> None:
    """Law 7: when the last thread has gone, nothing is left."""
    _, space = built()
    space.close()
    invariants.closed_space_is_empty(space)

    leave(space)

    with pytest.raises(LawBroken, match="7 everything"):
        invariants.closed_space_is_empty(space)
