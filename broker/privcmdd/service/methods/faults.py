# SPDX-License-Identifier: Apache-2.0
"""Methods that add, list and clear rules of injection: requests and frames that fail on demand."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.injection import CERTAIN_PPM, MOST_TRIES, InjectionKind, Injections, Rule
from privcmdd.service.injection import EXEMPT
from privcmdd.service.session import Job
from privcmdd.service.suggest import meant
from privcmdd.wire.limits import SAFE_INTEGER
from privcmdd.wire.methods import METHODS

if TYPE_CHECKING:
    from privcmdd.model.injection import Armed
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

    Params = dict[str, Any]

# Errnos have names in the protocol: their numbers differ from system to system.
NUMBERS: Final = {name: number for name, number in vars(errno).items() if name.startswith("E")}
# A minute: longer than any client should wait, and short enough that a forgotten rule does little harm.
MOST_DELAY_MS: Final = 60_000
BOUNDS: Final = (
    ("paged", 1, MOST_TRIES),
    ("delay_ms", 1, MOST_DELAY_MS),
    ("nth", 1, SAFE_INTEGER - 1),
    ("times", 1, SAFE_INTEGER - 1),
    ("probability_ppm", 1, CERTAIN_PPM),
)
PLAIN: Final = ("client", "connection", "pid", "uid", "dom", "method", "nth", "times", "probability_ppm", "seed")
"""Fields of a rule that equal the parameters of the same name."""


def add(world: World, session: Session, params: Params) -> Params:
    """``faults.add``: add a rule."""
    session.check("admin", params["dom"])
    rule = rule_of(params)
    if world.injections is None:
        world.injections = Injections()
    return {"id": world.injections.add(rule, None if params["keep"] else session.number, session.job).id}


def listed(world: World, session: Session, _params: Params) -> Params:
    """``faults.list``: the rules, and how often each met a request and made it fail."""
    return {
        "faults": [
            {
                "id": armed.id,
                "seen": armed.n_seen,
                "fired": armed.n_fired,
                "connection": armed.owner,
                "job": armed.job.name if isinstance(armed.job, Job) else "",
                "rule": described(armed.rule),
            }
            for armed in within_reach(world.injections, session)
        ]
    }


def clear(world: World, session: Session, params: Params) -> Params:
    """``faults.clear``: remove a rule, or all rules within the client's reach."""
    number = params["id"]
    ended = [armed.id for armed in within_reach(world.injections, session) if number in (None, armed.id)]
    if number is not None and not ended:
        raise ModelError(errno.ENOENT, f"there is no rule {number}; faults.list shows those there are", key="id")
    for one in ended:
        assert world.injections is not None
        world.injections.clear(one)
    return {"cleared": len(ended)}


def within_reach(injections: Injections | None, session: Session) -> list[Armed]:
    """The rules that a client could have added; who belongs to a job could have added those of the job."""
    rules = () if injections is None else injections.rules.values()
    of_all = session.job is None
    return [armed for armed in rules if (of_all or armed.job is session.job) and session.holds("admin", armed.rule.dom)]


def rule_of(params: Params) -> Rule:
    """The rule that the parameters of ``faults.add`` describe.

    Raises:
        ModelError: EINVAL; the text names the parameter and what was expected.
    """
    given = [kind for kind in InjectionKind if params[kind.value] is not None and params[kind.value] is not False]
    if len(given) != 1:
        choices = ", ".join(InjectionKind)
        got = " and ".join(given) or "none"
        raise ModelError(errno.EINVAL, f"{got} is given: expected exactly one of {choices}", key=got.partition(" ")[0])
    kind = given[0]
    if params["when"] == "after" and kind not in (InjectionKind.DELAY, InjectionKind.DROP):
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


def amount_of(kind: InjectionKind, value: Any) -> int:
    """The number in a rule: that of an errno, or the one that was given.

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
    """Check that a name is one of a method, or of a group of methods, that rules can make fail.

    Raises:
        ModelError: EINVAL.
    """
    if name is None or (not name.startswith(EXEMPT) and name in METHODS):
        return
    if not name.endswith(".") or name == EXEMPT or not any(method.startswith(name) for method in METHODS):
        hint = meant(name, [method for method in METHODS if not method.startswith(EXEMPT)])
        raise ModelError(
            errno.EINVAL,
            f"method is {name!r}, expected a method's name, or the beginning of several with its dot, as privcmd.; "
            f"those of faults. never fail{hint}",
            key="method",
        )


def described(rule: Rule) -> Params:
    """A rule as parameters of ``faults.add``, without those that have their default."""
    amount: Any = rule.amount
    if rule.kind in (InjectionKind.ERRNO, InjectionKind.FRAME_ERRNO):
        amount = errno.errorcode[rule.amount]
    told: Params = {rule.kind.value: True if rule.kind is InjectionKind.DROP else amount}
    if rule.after:
        told["when"] = "after"
    if rule.gfns is not None:
        told["gfns"] = [{"gfn": first, "npages": n_frames} for first, n_frames in rule.gfns]
    plain = Rule(rule.kind)
    told.update((key, getattr(rule, key)) for key in PLAIN if getattr(rule, key) != getattr(plain, key))
    return told


def leave(world: World, session: Session) -> None:
    """Remove the rules of a connection that ends."""
    if world.injections:
        world.injections.leave(session.number)


HANDLERS: Final = {"faults.add": add, "faults.list": listed, "faults.clear": clear}
