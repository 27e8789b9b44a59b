# SPDX-License-Identifier: Apache-2.0
"""Memory runs out at every point of every request: nothing has changed then, and nobody else notices."""

from __future__ import annotations

import pytest

from sim.scarcity import SCARCITY
from sim.scenes import CASES, Case, Scene
from sim.snapshot import differences, snapshot

RUNS = [
    pytest.param(personality, case, id=f"{personality}-{name}")
    for name, case in CASES.items()
    for personality in case.personalities
]


def ready(personality: str, case: Case) -> Scene:
    """The state in which a request is made."""
    scene = Scene(personality)
    case.before(scene)
    return scene


def healed(scene: Scene) -> None:
    """There is memory again: what was put off is done with the next request, all laws hold, nobody holds a turn."""
    assert not scene.desk.reply(scene.bystander, "ping").close
    scene.desk.broker.check()
    for session in (scene.actor, scene.bystander):
        assert session.residence is not None
        ticket = session.residence.turnstile.try_enter()
        assert ticket is not None, "the turn was not given up"
        session.residence.turnstile.leave(ticket)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
@pytest.mark.parametrize(("personality", "case"), RUNS)
def test_each_allocation_of_an_array_may_fail(personality: str, case: Case, for_good: bool) -> None:
    """ENOMEM and nothing has changed, or done as ever: whichever allocation fails, once or it and all that follow."""
    scene = ready(personality, case)
    expected = scene.attempt(case)
    assert expected[0] != "closed", repr(expected[1])
    done = snapshot(scene.desk)
    scene = ready(personality, case)
    before = snapshot(scene.desk)
    nth = 0
    while True:
        nth += 1
        with SCARCITY.running_out(nth, for_good=for_good):
            outcome = scene.attempt(case)
        if not SCARCITY.n_refused:
            break
        where = f"allocation {nth}: {outcome}"
        assert outcome[0] in ("done", "ENOMEM"), where
        healed(scene)
        if case.partly:
            scene = ready(personality, case)
        elif outcome[0] == "ENOMEM":
            assert differences(before, snapshot(scene.desk)) == [], where
        else:
            assert outcome[1] in (expected[1], case.meanwhile), where
            assert differences(done, snapshot(scene.desk)) == [], where
            scene = ready(personality, case)
    assert outcome == expected
    assert differences(done, snapshot(scene.desk)) == []
