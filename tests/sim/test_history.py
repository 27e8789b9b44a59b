# SPDX-License-Identifier: Apache-2.0
"""What simulated clients see, through stalls, deaths and lowered quotas, is the history of a right broker."""

from __future__ import annotations

import pytest

from history.replay import check
from sim.plan import plan
from sim.recorded import RecordedWorld
from support.profiles import PROFILE

N_ASKS = 250
PARTS = 2
SEEDS_PER_PART = 10 if PROFILE.name == "default" else 500


@pytest.mark.parametrize("part", range(PARTS))
def test_the_history_of_each_seed_is_right(part: int) -> None:
    """Every run leaves a history that is right to its end."""
    n_steps = n_unheard = 0
    for seed in range(part * SEEDS_PER_PART, (part + 1) * SEEDS_PER_PART):
        world = RecordedWorld(plan(seed, N_ASKS))
        world.run()
        summary = check(world.history())
        assert summary.undecided is None, f"seed {seed}: {summary}"
        n_steps += summary.n_steps
        n_unheard += summary.n_unanswered
    assert n_steps > 200 * SEEDS_PER_PART
    assert n_unheard > SEEDS_PER_PART
