# SPDX-License-Identifier: Apache-2.0
"""The effects that the machine leaves for the service."""

from __future__ import annotations

from typing import Any

from privcmdd.model.machine import lifecycle
from privcmdd.model.machine.domain import DomainState
from support.small_machine import BASE, World, batch


def test_effects_come_in_order_and_once() -> None:
    """What the service is to do outside: dying, pages to discard, gone."""
    world = World()
    space = world.space(n_pages=2)
    batch(space, 1, BASE, [1, 2])
    lifecycle.destroy(world.machine, 1)
    space.close()

    effects: list[Any] = [*world.machine.take_effects()]

    told = [(e.domid, e.state if hasattr(e, "state") else len(e.pages)) for e in effects]
    assert told == [(1, DomainState.DYING), (1, 78), (1, 2), (1, DomainState.GONE)]
    assert sorted(effects[2].pages.tolist()) == [1, 2]
    assert world.machine.take_effects() == []
