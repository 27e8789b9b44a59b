# SPDX-License-Identifier: Apache-2.0
"""Runs of whole brokers under seeded schedulers: no law broken, no answer lost, nothing left behind, and repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.coverage import met, reachable
from sim.plan import hunt, plan
from sim.world import Result, World

N_ASKS = 250
PARTS = 4
MOST_HUNTS = 1500
SEEDS_PER_PART = {"default": 12, "long": 1_000}[os.environ.get("PRIVCMDD_PROFILE", "default")]
TESTS = Path(__file__).parent.parent


def run(seed: int) -> Result:
    """One run."""
    return World(plan(seed, N_ASKS)).run()


@pytest.mark.parametrize("part", range(PARTS))
def test_both_phases_of_each_seed(part: int) -> None:
    """Every law holds after every step; afterwards every request is answered and nothing is left."""
    for seed in range(part * SEEDS_PER_PART, (part + 1) * SEEDS_PER_PART):
        result = run(seed)
        assert result.n_asks >= N_ASKS, f"python -m sim --seed {seed} --asks {N_ASKS}"


def test_the_same_seed_is_the_same_run() -> None:
    """Byte for byte, in this process and in another one that hashes differently."""
    seeds = range(40, 44)
    first = [run(seed).log_hash for seed in seeds]

    assert [run(seed).log_hash for seed in seeds] == first
    assert len(set(first)) == len(first)
    command = [sys.executable, "-m", "sim", "--seeds", f"{seeds.start}:{seeds.stop}", "--asks", str(N_ASKS)]
    environ = {**os.environ, "PYTHONHASHSEED": "4711"}
    printed = subprocess.run(command, cwd=TESTS, env=environ, check=True, capture_output=True, text=True).stdout
    assert [line.rpartition("log=")[2] for line in printed.splitlines()[: len(seeds)]] == [log[:16] for log in first]


def test_faults_meet_all_that_is_stated() -> None:
    """Every kind of fault in every state at every method that it can meet; later runs look for what earlier missed."""
    missing = reachable()
    for number in range(MOST_HUNTS):
        missing -= met(World(hunt(number, N_ASKS, missing), missing).run().cells)
        if not missing:
            break
    assert not missing
