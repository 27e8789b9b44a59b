# SPDX-License-Identifier: Apache-2.0
"""What a client waits for beside others that never rest, counted in steps of their requests."""

from __future__ import annotations

from typing import Final

import pytest

from sim.kernel import LOOK_S
from sim.plan import ADMIN, RULES, USER
from sim.stage import Stage
from support.desk import BASE, PAGE, frames, settings

N_FRAMES: Final = 64
N_HOSTILE: Final = 8
LOOKS: Final = 5  # at the clock, until a quantum is over: a batch looks once at each pause
# Those of the turn that runs when the request arrives, and of the turn that is given before the broker has seen it.
MOST_STEPS: Final = 2 * (LOOKS + 1)


def go_on(stage: Stage) -> None:
    """A pass of the loop: whoever can go on does so, once."""
    for task in stage.kernel.ready():
        stage.run_task(task)


@pytest.mark.parametrize("uid", [ADMIN, USER], ids=["their uid", "another uid"])
def test_a_short_request_waits_for_two_turns_of_long_ones(uid: int) -> None:
    """B5: beside batches of many slices the next turn is that of who has just come, whatever they all have used."""
    limits = {"slice_frames": 1, "batches": N_HOSTILE, "spaces": N_HOSTILE, "fds": N_HOSTILE + 1}
    plenty = {"frames": 1 << 20, "entries": 64, "objects": 64}
    with Stage(settings(access=RULES, paranoid=False, **limits, **plenty), quantum_s=LOOKS * LOOK_S) as stage:
        hostile = [stage.client(ADMIN) for _ in range(N_HOSTILE)]
        victim = stage.client(uid)
        stage.ask(hostile[0], "domain.create", kind="hvm", max_pages=N_FRAMES, dom=1)
        stage.ask(victim, "ping")
        for client in hostile:
            stage.ask(client, "mmap", addr=BASE, len=N_FRAMES * PAGE, prot=3, fixed=True)
        for client in hostile:
            stage.say(client, "privcmd.mmapbatch_v2", dom=1, addr=BASE, arr=frames(*range(N_FRAMES)))
        for _ in range(2 * N_HOSTILE):  # until each of them goes on
            go_on(stage)
        waited = []
        while all(client.asked and not client.end.n_unread for client in hostile):
            stage.say(victim, "ping")
            before = stage.result.n_checks
            while not victim.end.n_unread:
                go_on(stage)
            victim.read(1 << 30, 0)
            waited.append(stage.result.n_checks - before - 1)
            for _ in range(3):
                go_on(stage)

        assert len(waited) > N_FRAMES // LOOKS
        assert max(waited) <= MOST_STEPS


def test_whoever_asks_for_descriptors_takes_turns() -> None:
    """B5: a client with a hundred such requests under way does one, and another client goes on."""
    with Stage(settings(paranoid=False)) as stage:
        hostile, victim = stage.client(ADMIN), stage.client(ADMIN)
        stage.ask(hostile, "domain.create", kind="hvm", max_pages=16, dom=1)
        stage.ask(victim, "ping")
        for _ in range(100):
            stage.say(hostile, "domain.memory", dom=1)
        stage.say(victim, "ping")
        before = stage.result.n_checks
        while not victim.end.n_unread:
            go_on(stage)

        assert stage.result.n_checks - before - 1 <= 2
        hostile.read(1 << 30, 0)
