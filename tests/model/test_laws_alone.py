# SPDX-License-Identifier: Apache-2.0
"""The laws, with nothing beside them: whatever is done to the model, what fails here is a law, by its name.

Other tests compare answers, and see most bugs before a law does. This one asks nothing of an answer, so it shows what
the laws see by themselves: each of them is broken by a mutant (tests/mutants) that this test finds.
"""

from __future__ import annotations

import pytest

from privcmdd.model import invariants
from support.small_machine import PERSONALITIES
from support.walk import Walk

N_STEPS = 1200


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("personality", PERSONALITIES)
def test_nothing_breaks_a_law(personality: str, seed: int) -> None:
    """Requests whole, in slices and given up, faults beside them, domains that change under them: all laws hold."""
    walk = Walk(PERSONALITIES[personality], seed)
    for _ in range(N_STEPS):
        walk.step()
    for space in walk.world.spaces:
        if space in walk.under_way:
            walk.under_way.pop(space)[0].close()
        space.close()
        invariants.closed_space_is_empty(space)
        walk.world.check()
    n_mapped = sum(space.counters.frames_entered for space in walk.world.spaces)

    assert n_mapped > 100, "the walk has hardly mapped anything"
