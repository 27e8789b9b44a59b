# SPDX-License-Identifier: Apache-2.0
"""Memory runs out at every point of every request: nothing has changed then, and nobody else notices.

What may fail: every array that numpy makes; what an account may use; what the host gives for memory files; and, to try
the order of things in between, every call of a function of the model or the service.
"""

from __future__ import annotations

import errno
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import UNLIMITED, Slot
from sim.scarcity import SCARCITY
from sim.scenes import CASES, Scene
from sim.snapshot import differences, snapshot

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from privcmdd.model.file_keys import FileKey

RUNS = [(personality, name) for name, case in CASES.items() for personality in case.personalities]


def ready(personality: str, name: str) -> Scene:
    """The state in which a request is made."""
    scene = Scene(personality)
    CASES[name].before(scene)
    return scene


@cache
def undisturbed(personality: str, name: str) -> tuple[tuple[str, Any], dict[str, Any]]:
    """What a request answers and leaves when nothing fails."""
    scene = ready(personality, name)
    expected = scene.attempt(CASES[name])
    assert expected[0] != "closed", repr(expected[1])
    return expected, snapshot(scene.desk)


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
@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_each_allocation_of_an_array_may_fail(personality: str, name: str, for_good: bool) -> None:
    """ENOMEM and nothing has changed, or done as ever: whichever allocation fails, once or it and all that follow."""
    case = CASES[name]
    expected, done = undisturbed(personality, name)
    scene = ready(personality, name)
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
            scene = ready(personality, name)
        elif outcome[0] == "ENOMEM":
            assert differences(before, snapshot(scene.desk)) == [], where
        else:
            assert outcome[1] in (expected[1], case.meanwhile), where
            assert differences(done, snapshot(scene.desk)) == [], where
            scene = ready(personality, name)
    assert outcome == expected
    assert differences(done, snapshot(scene.desk)) == []


@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_a_client_may_go_when_there_is_no_memory(personality: str, name: str) -> None:
    """Whatever it holds is given back: at once, or with the next request of somebody else when there is memory."""
    left = []
    for memory in (None, 1):
        scene = ready(personality, name)
        scene.attempt(CASES[name])
        with SCARCITY.running_out(memory, for_good=True):
            scene.desk.broker.disconnect(scene.actor)
        assert scene.desk.broker.world.n_incidents == 0
        assert not scene.desk.reply(scene.bystander, "ping").close
        scene.desk.broker.check()
        left.append(snapshot(scene.desk))

    assert differences(*left) == []


@pytest.mark.parametrize(("personality", "name"), [run for run in RUNS if "batch" in run[1] or run[1] == "mmap"])
def test_a_request_may_be_given_up_when_there_is_no_memory(personality: str, name: str) -> None:
    """A client dies at each pause of a request: what that had taken is given back."""
    case = CASES[name]
    n_pauses = 0
    while True:
        scene = ready(personality, name)
        before = snapshot(scene.desk)
        steps = scene.desk.start(scene.actor, case.method, **case.params)
        for _ in range(n_pauses + 1):
            if next(steps, steps) is steps:
                return
        with SCARCITY.running_out(1, for_good=True):
            steps.close()
        healed(scene)
        assert case.partly or differences(before, snapshot(scene.desk)) == []
        n_pauses += 1


@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_each_unit_of_a_quota_may_be_the_last(personality: str, name: str) -> None:
    """EDQUOT and nothing has changed, or done as ever: with no unit more than are in use, with one, with two, ..."""
    case = CASES[name]
    expected, done = undisturbed(personality, name)
    scene = ready(personality, name)
    before = snapshot(scene.desk)
    for slot in (Slot.FRAMES, Slot.ENTRIES, Slot.OBJECTS, Slot.SPACES, Slot.BATCHES):
        for n_more in (0, 1, 2, 11, 12, 29, UNLIMITED):
            account = scene.actor.uid_account
            account.limits[slot] = min(UNLIMITED, account.used[slot] + n_more)
            outcome = scene.attempt(case)
            account.limits[slot] = UNLIMITED
            if outcome == expected:
                assert differences(done, snapshot(scene.desk)) == []
                scene = ready(personality, name)
                break
            assert outcome[0] == "EDQUOT", f"{n_more} more {slot}: {outcome}"
            healed(scene)
            if case.partly:
                scene = ready(personality, name)
            else:
                assert differences(before, snapshot(scene.desk)) == [], f"{n_more} more {slot}"


class ScarceBacking:
    """Refuses what a host may refuse, as ``server.memory`` says it: the nth file, descriptor or page."""

    def __init__(self, scene: Scene, nth: int) -> None:
        self.n_left = nth
        self._do = scene.desk.backing._do
        scene.desk.backing._do = self  # type: ignore[method-assign]

    def __call__(self, what: str, key: FileKey) -> None:
        """Something is asked of the host."""
        if what in ("create", "descriptor", "write"):
            self.n_left -= 1
            if not self.n_left:
                raise ModelError(errno.ENOMEM, f"no room to {what} {key}")
        self._do(what, key)


@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_each_file_descriptor_and_page_of_the_host_may_be_refused(personality: str, name: str) -> None:
    """ENOMEM and nothing has changed, but for bytes that were written, and for an empty file of buffers.

    Or all is done, and what a guest is to see of it comes later.
    """
    case = CASES[name]
    expected, done = undisturbed(personality, name)
    nth = 0
    while True:
        nth += 1
        scene = ready(personality, name)
        before = snapshot(scene.desk)
        host = ScarceBacking(scene, nth)
        outcome = scene.attempt(case)
        if host.n_left > 0:
            break
        assert outcome[0] in ("ENOMEM", "done"), outcome
        healed(scene)
        if not case.partly and case.method not in ("write", "space.buffers"):
            assert differences(done if outcome[0] == "done" else before, snapshot(scene.desk)) == []
    assert outcome == expected


# What the rest counts on not to fail: it gives back, makes visible what has been prepared, or tells of what is done.
SURE = frozenset({
    "Account.add", "AddressSpace.abandon", "AddressSpace.bar", "AddressSpace.close", "AddressSpace.commit",
    "AddressSpace.enter", "AddressSpace.fill", "AddressSpace.overlay", "AddressSpace.relabel",
    "AddressSpace.withdraw", "Charge.release", "Charge.resize", "Domain.enter", "EventChannels.add", "FilePages.hold",
    "FrameTable._assign", "lifecycle.destroy", "Linux._cap", "Linux._note", "Linux._use", "Machine.announce",
    "Machine.put", "Machine.put_parts", "Spaces._add", "Tally.pay", "Turnstile.leave", "World.count", "broker.stamped",
    "detect.enoent_lost", "effects.carry_out",
})  # fmt: skip


def name_of(code: CodeType) -> str:
    """A method by its class, a function by its module."""
    name = code.co_qualname
    return name if "." in name else f"{Path(code.co_filename).stem}.{name}"


class Failing:
    """Raises MemoryError at the nth call of a function of the model or the service."""

    def __init__(self, nth: int) -> None:
        self.n_left = nth

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """A profile function."""
        code = frame.f_code
        if event != "call" or not ("/privcmdd/model/" in code.co_filename or "/privcmdd/service/" in code.co_filename):
            return
        above: FrameType | None = frame
        while above is not None and name_of(above.f_code) not in SURE:
            above = above.f_back
        if above is not None or code.co_qualname == "Broker.perform":
            return
        self.n_left -= 1
        if not self.n_left:
            raise MemoryError(code.co_qualname)


@pytest.mark.parametrize(("personality", "name"), RUNS)
def test_each_call_may_fail(personality: str, name: str) -> None:
    """The state is that before or that after, never one in between; the session goes on, and the turn is free."""
    case = CASES[name]
    expected, done = undisturbed(personality, name)
    scene = ready(personality, name)
    before = snapshot(scene.desk)
    nth = 0
    while True:
        nth += 1
        failing = Failing(nth)
        sys.setprofile(failing)
        try:
            outcome = scene.attempt(case)
        finally:
            sys.setprofile(None)
        if failing.n_left > 0:
            break
        assert outcome[0] in ("ENOMEM", "done"), f"call {nth}: {outcome}"
        healed(scene)
        now = snapshot(scene.desk)
        if case.partly or differences(before, now):
            assert case.partly or differences(done, now) == [], f"call {nth}: {outcome}"
            scene = ready(personality, name)
    assert outcome == expected
    assert differences(done, snapshot(scene.desk)) == []
