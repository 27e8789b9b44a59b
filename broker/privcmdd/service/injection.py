# SPDX-License-Identifier: Apache-2.0
"""Performs requests under the rules of injection.

The machine has a request's rules only while that request runs; at its pauses other requests run, under their own rules.
Methods of ``faults.`` are under no rule, so that every rule can be cleared.
"""

from __future__ import annotations

from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.injection import Asker, InjectionKind
from privcmdd.service.steps import Delay, Dropped
from privcmdd.wire.params import Frames

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.injection import Armed, Injections, Spans
    from privcmdd.model.machine.machine import Injection
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import Handler, World
    from privcmdd.wire.methods import Method

    Params = dict[str, Any]

EXEMPT: Final = "faults."
MS_PER_S: Final = 1000


def perform(
    world: World, faults: Injections, session: Session, method: Method, handler: Handler, params: Params
) -> Generator[Pause, None, Any]:
    """Perform a client's request under the rules that apply to it.

    Returns:
        The handler's result.

    Raises:
        ModelError: A rule makes the request fail; else as the handler.
        Dropped: A rule ends the connection without an answer.
    """
    if method.name.startswith(EXEMPT):
        return handler(world, session, params)
    identity = session.identity
    asker = Asker(session.number, session.client_name, identity.pid, identity.uid, method.name, session.job)
    later: list[Armed] = []
    for armed in faults.strikes(asker, params.get("dom"), spans(method, params)):
        if armed.rule.after:
            later.append(armed)
        else:
            yield from strike(armed, method.name)
    result = yield from under(world, partial(faults.fail_frames, asker), handler, session, params)
    if later and session.numbers is not None:
        session.numbers.stamp()  # the step that did the work ends here, before any delay of the answer
    for armed in later:
        yield from strike(armed, method.name)
    return result


def strike(armed: Armed, method: str) -> Generator[Pause, None, None]:
    """Inject what a rule says: a delay, the end of the connection, or an error."""
    rule = armed.rule
    if rule.kind is InjectionKind.DELAY:
        yield Delay(rule.amount / MS_PER_S)
    elif rule.kind is InjectionKind.DROP:
        raise Dropped
    else:
        raise ModelError(rule.amount, f"{method} fails on demand: rule {armed.id} of faults.list", fault=armed.id)


def under(
    world: World, injection: Injection, handler: Handler, session: Session, params: Params
) -> Generator[Pause, None, Any]:
    """Call a handler and run the generator that it may return. Rules about frames apply except at its pauses."""
    machine = world.machine
    machine.inject(injection)
    try:
        steps = handler(world, session, params)
    finally:
        machine.inject(None)
    if steps.__class__ is not GeneratorType:
        return steps
    try:
        while True:
            machine.inject(injection)
            try:
                pause = next(steps)
            except StopIteration as stop:
                return stop.value
            finally:
                machine.inject(None)
            yield pause
    finally:
        steps.close()


def spans(method: Method, params: Params) -> Spans | None:
    """The frames that a request names; None when it names no frames."""
    entries = params.get("entry")
    if entries is not None:
        rows = [(row["mfn"], row["npages"]) for row in entries]
        firsts, counts = np.array(rows, dtype=np.uint64).reshape(-1, 2).T
        return firsts, counts
    frames = params.get("arr")
    if isinstance(frames, Frames) and method.checks["arr"][1].unit == "frames":
        names = np.frombuffer(frames.data, dtype="<u8")
        return names, np.ones(1, dtype=np.uint64)
    return None
