# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: let requests and frames fail, to see whether the code that meets them copes.

``client.faults.add(...)`` and its siblings; both faces have them under the same names.
"""

from __future__ import annotations

import contextlib
import errno as errnos
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from privcmd.calls import Call
from privcmd.errors import PrivcmdError
from privcmd.faces import awaiting, blocking
from privcmd.results import pick

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from privcmd.faces import Awaiting, Blocking

T = TypeVar("T")
PPM = 1_000_000


@dataclass(slots=True)
class InjectedFault:
    """A rule, and what it has done.

    Attributes:
        id: Its number.
        seen: Matches so far: good frames that were looked up, or requests.
        fired: How many of them it took.
        connection: The connection that it ends with; None when it is kept.
        rule: What it was made of, as it travels.
    """

    id: int
    seen: int = 0
    fired: int = 0
    connection: int | None = None
    rule: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        """The rule in the words of ``privcmdctl fault add`` and ``run --fault``."""
        return ",".join(word for key, value in (self.rule or {}).items() for word in words(key, value))


def add(
    *,
    frame_errno: str | int | None = None,
    paged: int | None = None,
    errno: str | int | None = None,
    delay_ms: int | None = None,
    drop: bool = False,
    when: str = "before",
    client: str | None = None,
    connection: int | None = None,
    pid: int | None = None,
    uid: int | None = None,
    dom: int | None = None,
    gfns: Iterable[int | range] | None = None,
    method: str | None = None,
    nth: int = 1,
    times: int | None = None,
    probability: float | None = None,
    seed: int | None = None,
    keep: bool = False,
) -> Call[int]:
    """Let requests or frames fail from now on; returns the rule's number.

    Exactly one of the first five says what happens; the others narrow down to whom and when. A rule ends with
    this connection, unless it is kept.

    Args:
        frame_errno: Frames fail with this errno, by name or number.
        paged: Frames are paged out (ENOENT) for so many look-ups, and then good.
        errno: Requests fail with this errno before they do anything.
        delay_ms: Requests wait.
        drop: The connection is closed where the answer would be.
        when: A delay or drop "before" the work is done, or "after".
        client: Only requests of clients that call themselves so in ``hello``; ``*`` stands for anything.
        connection: Only those of the connection of this number.
        pid: Only those of this process.
        uid: Only those of this user.
        dom: Only those that name this domain, and its frames.
        gfns: Only these frames (PV: mfns); a range, or any integers and ranges. At most 64 runs of them.
        method: Only this method, or with a dot at its end all that begin so.
        nth: The first match that is taken, counted from 1.
        times: How many are taken at most.
        probability: How probable it is that one is taken, above 0 and up to 1.
        seed: Which ones: the same seed takes the same matches.
        keep: The rule stays when this connection ends.

    Raises:
        PrivcmdError: EINVAL (what is wrong is named), EPERM, ENOSPC (too many rules), E2BIG (too many runs).
    """
    params = {
        "frame_errno": name_of(frame_errno), "paged": paged, "errno": name_of(errno), "delay_ms": delay_ms,
        "client": client, "connection": connection, "pid": pid, "uid": uid, "dom": dom,
        "gfns": None if gfns is None else runs(gfns), "method": method, "times": times, "seed": seed,
        "probability_ppm": None if probability is None else round(probability * PPM),
    }  # fmt: skip
    given = {key: value for key, value in params.items() if value is not None}
    always = {"drop": drop, "when": when, "nth": nth, "keep": keep}
    return Call("faults.add", {**given, **always}, lambda answer, _: answer["id"])


def listed() -> Call[list[InjectedFault]]:
    """The rules that this caller could have added, with what they have done."""
    return Call("faults.list", {}, lambda answer, _: [pick(InjectedFault, row) for row in answer["faults"]])


def clear(id: int | None = None) -> Call[int]:  # noqa: A002 - the protocol's word
    """End one rule, or all that this caller could have added; returns how many.

    Raises:
        PrivcmdError: ENOENT, there is no such rule.
    """
    return Call("faults.clear", {} if id is None else {"id": id}, lambda answer, _: answer["cleared"])


def name_of(errno: str | int | None) -> str | None:
    """An errno by its name, as it travels."""
    return errnos.errorcode.get(errno, str(errno)) if isinstance(errno, int) else errno


def runs(frames: Iterable[int | range]) -> list[dict[str, int]]:
    """Frames as ranges; those that follow each other become one."""
    found: list[dict[str, int]] = []
    for part in [frames] if isinstance(frames, range) and frames.step == 1 else frames:
        frame, n_frames = (part.start, len(part)) if isinstance(part, range) else (part, 1)
        if found and frame == found[-1]["gfn"] + found[-1]["npages"]:
            found[-1]["npages"] += n_frames
        else:
            found.append({"gfn": frame, "npages": n_frames})
    return found


def words(key: str, value: Any) -> list[str]:
    """A part of a rule, as an option without its dashes."""
    if key == "gfns":
        return [f"gfns={run['gfn']:#x}+{run['npages']:#x}" for run in value]
    if key == "probability_ppm":
        return [f"probability={value / PPM:g}"]
    if key in ("when", "drop"):
        return ["after" if key == "when" else key]
    return [f"{'delay' if key == 'delay_ms' else key.replace('_', '-')}={value}"]


def settle(rule: InjectedFault, rules: list[InjectedFault]) -> None:
    """Take over what a rule has done in the end."""
    for one in rules:
        if one.id == rule.id:
            rule.seen, rule.fired, rule.connection, rule.rule = one.seen, one.fired, one.connection, one.rule


class Faults:
    """Faults on demand: ``client.faults.add(...)`` and so on."""

    def __init__(self, client: Blocking) -> None:
        self._client = client

    def perform(self, call: Call[T]) -> T:
        """As the client does."""
        return self._client.perform(call)

    add = blocking(add)
    list = blocking(listed)
    clear = blocking(clear)

    @contextlib.contextmanager
    def during(self, **rule: Any) -> Iterator[InjectedFault]:
        """Have a rule for the time of a block; takes what ``add`` takes.

        After the block ``seen`` and ``fired`` of what it gives say what the rule did. Not within reach any more, as
        when the rule dropped this very connection, they stay 0.

        Raises:
            PrivcmdError: As ``add``.
        """
        made = InjectedFault(self.add(**rule))
        try:
            yield made
        finally:
            with contextlib.suppress(PrivcmdError):
                settle(made, self.list())
                self.clear(made.id)


class AsyncFaults:
    """Faults on demand: ``await client.faults.add(...)`` and so on."""

    def __init__(self, client: Awaiting) -> None:
        self._client = client

    async def perform(self, call: Call[T]) -> T:
        """As the client does."""
        return await self._client.perform(call)

    add = awaiting(add)
    list = awaiting(listed)
    clear = awaiting(clear)

    @contextlib.asynccontextmanager
    async def during(self, **rule: Any) -> AsyncIterator[InjectedFault]:
        """Have a rule for the time of a block; see `Faults.during`."""
        made = InjectedFault(await self.add(**rule))
        try:
            yield made
        finally:
            with contextlib.suppress(PrivcmdError):
                settle(made, await self.list())
                await self.clear(made.id)
