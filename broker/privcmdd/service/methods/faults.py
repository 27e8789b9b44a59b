# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: requests that meet the rules, and the methods that set them.

While a request runs, and only then, the hypervisor knows which rules it meets; at its pauses others run, who meet
theirs. Requests of ``faults.`` meet none: whatever was set can be cleared.
"""

from __future__ import annotations

import errno
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.injection import CERTAIN_PPM, MOST_TRIES, Asker, Faults, Kind, Rule
from privcmdd.service.steps import Delay, Dropped
from privcmdd.wire.limits import SAFE_INTEGER
from privcmdd.wire.methods import METHODS
from privcmdd.wire.params import Frames

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.injection import Armed, Spans
    from privcmdd.model.machine.machine import Injection
    from privcmdd.service.broker import Broker
    from privcmdd.service.dispatch import Handler
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.wire.methods import Method

    Params = dict[str, Any]

EXEMPT: Final = "faults."
MS_PER_S: Final = 1000
# Errnos have names in the protocol: their numbers differ from system to system.
NUMBERS: Final = {name: number for name, number in vars(errno).items() if name.startswith("E")}
# A minute: longer than any client should wait, and short enough for one that was forgotten.
MOST_DELAY_MS: Final = 60_000
BOUNDS: Final = (
    ("paged", 1, MOST_TRIES),
    ("delay_ms", 1, MOST_DELAY_MS),
    ("nth", 1, SAFE_INTEGER - 1),
    ("times", 1, SAFE_INTEGER - 1),
    ("probability_ppm", 1, CERTAIN_PPM),
)
PLAIN: Final = ("client", "connection", "pid", "uid", "dom", "method", "nth", "times", "probability_ppm", "seed")
"""Fields of a rule that are as the parameters of the same name."""


def perform(
    broker: Broker, faults: Faults, session: Session, method: Method, handler: Handler, params: Params
) -> Generator[Pause, None, Any]:
    """Do what a client asks, as far as the rules let it.

    Raises:
        ModelError: A rule says so; else as the handler.
        Dropped: A rule says that the client is to hear nothing more.
    """
    if method.name.startswith(EXEMPT):
        return handler(broker, session, params)
    identity = session.identity
    asker = Asker(session.number, session.client_name, identity.pid, identity.uid, method.name)
    later: list[Armed] = []
    for armed in faults.strikes(asker, params.get("dom"), spans(method, params)):
        if armed.rule.after:
            later.append(armed)
        else:
            yield from strike(armed, method.name)
    result = yield from under(broker, partial(faults.fail_frames, asker), handler, session, params)
    if later and session.numbers is not None:
        session.numbers.stamp()  # the step that did it ends here, whatever comes between it and the answer
    for armed in later:
        yield from strike(armed, method.name)
    return result


def strike(armed: Armed, method: str) -> Generator[Pause, None, None]:
    """Do what a rule says."""
    rule = armed.rule
    if rule.kind is Kind.DELAY:
        yield Delay(rule.amount / MS_PER_S)
    elif rule.kind is Kind.DROP:
        raise Dropped
    else:
        raise ModelError(rule.amount, f"{method} fails on demand: rule {armed.id} of faults.list", fault=armed.id)


def under(
    broker: Broker, injection: Injection, handler: Handler, session: Session, params: Params
) -> Generator[Pause, None, Any]:
    """Call a handler, and drive what it returns, with the rules about frames in force; not at its pauses."""
    hypervisor = broker.hypervisor
    hypervisor.injection = injection
    try:
        steps = handler(broker, session, params)
    finally:
        hypervisor.injection = None
    if steps.__class__ is not GeneratorType:
        return steps
    try:
        while True:
            hypervisor.injection = injection
            try:
                pause = next(steps)
            except StopIteration as stop:
                return stop.value
            finally:
                hypervisor.injection = None
            yield pause
    finally:
        steps.close()


def spans(method: Method, params: Params) -> Spans | None:
    """The frames that a request names; None for none."""
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


def add(broker: Broker, session: Session, params: Params) -> Params:
    """``faults.add``: put a rule in force."""
    session.check("admin", params["dom"])
    rule = rule_of(params)
    if broker.faults is None:
        broker.faults = Faults()
    return {"id": broker.faults.add(rule, None if params["keep"] else session.number).id}


def listed(broker: Broker, session: Session, _params: Params) -> Params:
    """``faults.list``: rules, and what they have done."""
    return {
        "faults": [
            {
                "id": armed.id,
                "seen": armed.n_seen,
                "fired": armed.n_fired,
                "connection": armed.owner,
                "rule": described(armed.rule),
            }
            for armed in within_reach(broker, session)
        ]
    }


def clear(broker: Broker, session: Session, params: Params) -> Params:
    """``faults.clear``: end rules."""
    number = params["id"]
    ended = [armed.id for armed in within_reach(broker, session) if number in (None, armed.id)]
    if number is not None and not ended:
        raise ModelError(errno.ENOENT, f"there is no rule {number}; faults.list shows those there are", key="id")
    for one in ended:
        assert broker.faults is not None
        broker.faults.clear(one)
    return {"cleared": len(ended)}


def within_reach(broker: Broker, session: Session) -> list[Armed]:
    """The rules that a client could have added."""
    rules = () if broker.faults is None else broker.faults.rules.values()
    return [armed for armed in rules if session.holds("admin", armed.rule.dom)]


def rule_of(params: Params) -> Rule:
    """What ``faults.add`` says, as a rule.

    Raises:
        ModelError: EINVAL, naming the key and what was expected.
    """
    given = [kind for kind in Kind if params[kind.value] is not None and params[kind.value] is not False]
    if len(given) != 1:
        choices = ", ".join(Kind)
        got = " and ".join(given) or "none"
        raise ModelError(errno.EINVAL, f"{got} is given: expected exactly one of {choices}", key=got.partition(" ")[0])
    kind = given[0]
    if params["when"] == "after" and kind not in (Kind.DELAY, Kind.DROP):
        raise ModelError(
            errno.EINVAL, f"when is after, and {kind} comes before the work is done: expected before", key="when"
        )
    for key, least, most in BOUNDS:
        if params[key] is not None and not least <= params[key] <= most:
            raise ModelError(errno.EINVAL, f"{key} is {params[key]}, expected {least} to {most}", key=key)
    gfns = None
    if params["gfns"] is not None:
        gfns = tuple((row["gfn"], row["npages"]) for row in params["gfns"])
        if not all(n_frames for _, n_frames in gfns):
            raise ModelError(errno.EINVAL, "gfns: a range of 0 pages, expected at least one", key="gfns")
    check_method(params["method"])
    return Rule(
        kind,
        amount_of(kind, params[kind.value]),
        params["when"] == "after",
        gfns=gfns,
        **{key: params[key] for key in PLAIN},
    )


def amount_of(kind: Kind, value: Any) -> int:
    """The number behind what a rule does: an errno's, or the one given.

    Raises:
        ModelError: EINVAL, there is no errno of that name.
    """
    if not isinstance(value, str):
        return int(value)
    number: int | None = NUMBERS.get(value)
    if number is None:
        raise ModelError(errno.EINVAL, f"{kind} is {value!r}, expected the name of an errno, as EINVAL", key=kind.value)
    return number


def check_method(name: str | None) -> None:
    """Whether there are such methods, and rules for them.

    Raises:
        ModelError: EINVAL.
    """
    if name is None or (not name.startswith(EXEMPT) and name in METHODS):
        return
    if not name.endswith(".") or name == EXEMPT or not any(method.startswith(name) for method in METHODS):
        raise ModelError(
            errno.EINVAL,
            f"method is {name!r}, expected a method's name, or the beginning of several with its dot, as privcmd.; "
            "those of faults. never fail",
            key="method",
        )


def described(rule: Rule) -> Params:
    """A rule as ``faults.add`` takes it, without what it has by default."""
    amount: Any = rule.amount
    if rule.kind in (Kind.ERRNO, Kind.FRAME_ERRNO):
        amount = errno.errorcode[rule.amount]
    told: Params = {rule.kind.value: True if rule.kind is Kind.DROP else amount}
    if rule.after:
        told["when"] = "after"
    if rule.gfns is not None:
        told["gfns"] = [{"gfn": first, "npages": n_frames} for first, n_frames in rule.gfns]
    plain = Rule(rule.kind)
    told.update((key, getattr(rule, key)) for key in PLAIN if getattr(rule, key) != getattr(plain, key))
    return told


HANDLERS: Final = {"faults.add": add, "faults.list": listed, "faults.clear": clear}
