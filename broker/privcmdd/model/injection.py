# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: rules that make requests and single frames fail.

A rule says what it matches, what it then does, and which of its matches it takes. It counts its matches from 1
and decides by their number alone, probability included: with the same seed and the same requests the same ones fail,
whatever other rules there are and however a batch was cut into slices.

Rules about frames see good frames only, which then fail as real ones do: without a reference, a page table entry or
a page of page table. What failed anyway is not theirs to take, and not counted.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.units import FRAME_MASK

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Gmfns64 = npt.NDArray[np.uint64]
    Mfns32 = npt.NDArray[np.uint32]
    Errors32 = npt.NDArray[np.int32]
    # Runs of frames: (n,) first ones, and (n,) or (1,) how many.
    Spans = tuple[Gmfns64, Gmfns64]

# Each is asked for each request: a list of them, not a data base.
MOST_RULES: Final = 256
CERTAIN_PPM: Final = 1_000_000
# Look-ups of one frame that can be answered "paged out": they are counted in a byte.
MOST_TRIES: Final = 255


class InjectionKind(StrEnum):
    """What a rule does; the values are the keys of ``faults.add``."""

    FRAME_ERRNO = "frame_errno"
    PAGED = "paged"
    ERRNO = "errno"
    DELAY = "delay_ms"
    DROP = "drop"


OF_FRAMES: Final = frozenset((InjectionKind.FRAME_ERRNO, InjectionKind.PAGED))


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and for what: all that a rule may look at but frames.

    Attributes:
        connection: Its number.
        client: What it called itself in ``hello``.
        method: The method asked for.
    """

    connection: int
    client: str
    pid: int
    uid: int
    method: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to fail, and how. None: whatever it is.

    Attributes:
        kind: What happens.
        amount: An errno, tries (paged) or milliseconds (delay), by ``kind``.
        after: A delay or drop: after the work is done, not before.
        client: What the client called itself in ``hello``; ``*`` for anything, as of file names.
        connection: Its number.
        dom: The domain that is named.
        gfns: Frames, as a mapping names them: (first, number) of each range.
        method: A method's name; with a dot at its end, all that begin so.
        nth: The first match that it takes, counted from 1.
        times: How many it takes at most; None: without end.
        probability_ppm: How probable it is that it takes one, in parts per million.
        seed: Which of them, when they are not all.
    """

    kind: InjectionKind
    amount: int = 0
    after: bool = False
    client: str | None = None
    connection: int | None = None
    pid: int | None = None
    uid: int | None = None
    dom: int | None = None
    gfns: tuple[tuple[int, int], ...] | None = None
    method: str | None = None
    nth: int = 1
    times: int | None = None
    probability_ppm: int = CERTAIN_PPM
    seed: int = 0

    def matches(self, asker: Asker, dom: int | None) -> bool:
        """Whether a request is meant, its frames aside."""
        return (
            (self.client is None or fnmatchcase(asker.client, self.client))
            and self.connection in (None, asker.connection)
            and self.pid in (None, asker.pid)
            and self.uid in (None, asker.uid)
            and self.dom in (None, dom)
            and (
                self.method is None
                or (asker.method.startswith(self.method) if self.method.endswith(".") else asker.method == self.method)
            )
        )

    def among(self, gmfns: Gmfns64) -> npt.NDArray[np.bool_]:
        """Which frames are meant."""
        if self.gfns is None:
            return np.ones(len(gmfns), dtype=np.bool_)
        numbers = gmfns & np.uint64(FRAME_MASK)
        meant = np.zeros(len(gmfns), dtype=np.bool_)
        for first, n_frames in self.gfns:  # numbers below the first wrap around to large ones
            meant |= numbers - np.uint64(first) < np.uint64(n_frames)
        return meant

    def meets(self, spans: Spans) -> bool:
        """Whether one of these runs has a frame that is meant."""
        first, n_frames = spans[0] & np.uint64(FRAME_MASK), spans[1]
        return self.gfns is None or any(
            bool(((first < np.uint64(start + n)) & (first + n_frames > np.uint64(start))).any())
            for start, n in self.gfns
        )


class Armed:
    """A rule at work.

    Attributes:
        id: Never used twice.
        owner: The connection that it ends with; None: it stays until it is cleared.
        n_seen: Matches so far: frames for rules about frames, else requests.
        n_fired: How many of them it took.
    """

    __slots__ = ("_tries", "id", "n_fired", "n_seen", "owner", "rule")

    def __init__(self, number: int, rule: Rule, owner: int | None) -> None:
        self.id = number
        self.rule = rule
        self.owner = owner
        self.n_seen = 0
        self.n_fired = 0
        self._tries: dict[int, npt.NDArray[np.uint8]] = {}

    def take(self, n: int) -> npt.NDArray[np.bool_]:
        """See ``n`` more matches; which of them it takes."""
        rule = self.rule
        taken = np.ones(n, dtype=np.bool_)
        early = rule.nth - 1 - self.n_seen
        if early > 0:
            taken[:early] = False
        if rule.probability_ppm < CERTAIN_PPM:
            taken &= draws(rule.seed, self.n_seen, n) % np.uint64(CERTAIN_PPM) < np.uint64(rule.probability_ppm)
        if rule.times is not None:
            taken &= np.cumsum(taken) <= rule.times - self.n_fired
        self.n_seen += n
        self.n_fired += int(np.count_nonzero(taken))
        return taken

    def take_frames(self, dom: int, gmfns: Gmfns64) -> npt.NDArray[np.int64]:
        """See frames that could be mapped.

        Args:
            dom: Whose.
            gmfns: (n,) as the caller wrote them.

        Returns:
            The indices of those that it takes, ascending.
        """
        meant = np.flatnonzero(self.rule.among(gmfns))
        if self.rule.kind is not InjectionKind.PAGED or not len(meant):
            return meant[self.take(len(meant))]
        numbers = (gmfns[meant] & np.uint64(FRAME_MASK)).astype(np.int64)
        tries = self._tries_of(dom, int(numbers.max()))
        out = tries[numbers] < self.rule.amount
        meant, numbers = meant[out], numbers[out]
        taken = self.take(len(meant))
        tries[numbers[taken]] += 1  # a frame that is named twice has been tried once
        return meant[taken]

    def _tries_of(self, dom: int, highest: int) -> npt.NDArray[np.uint8]:
        """How often each frame of a domain was paged out; good frames are few enough to have a byte each."""
        tries = self._tries.get(dom)
        if tries is None or highest >= len(tries):
            grown = np.zeros(1 << highest.bit_length(), dtype=np.uint8)
            if tries is not None:
                grown[: len(tries)] = tries
            self._tries[dom] = tries = grown
        return tries


class Injections:
    """The rules in force.

    Attributes:
        rules: By id, oldest first: the order in which they are asked.
        totals: How often rules of each kind have fired, those that are gone included.
    """

    def __init__(self) -> None:
        self.rules: dict[int, Armed] = {}
        self.totals: Counter[InjectionKind] = Counter()
        self._ids = count(1)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def add(self, rule: Rule, owner: int | None = None) -> Armed:
        """Put a rule in force.

        Raises:
            ModelError: ENOSPC, there are too many.
        """
        if len(self.rules) >= MOST_RULES:
            raise ModelError(errno.ENOSPC, f"there are {MOST_RULES} rules already: clear some", limit=MOST_RULES)
        armed = Armed(next(self._ids), rule, owner)
        self.rules[armed.id] = armed
        return armed

    def clear(self, number: int) -> None:
        """End a rule. Raises KeyError."""
        del self.rules[number]

    def leave(self, owner: int) -> None:
        """A connection has ended: so do its rules."""
        self.rules = {number: armed for number, armed in self.rules.items() if armed.owner != owner}

    def statistics(self) -> dict[str, int]:
        """Rules there are, and how often those of each kind have fired."""
        return {"rules": len(self.rules), **{kind.value: self.totals[kind] for kind in InjectionKind}}

    def strikes(self, asker: Asker, dom: int | None, spans: Spans | None) -> Iterator[Armed]:
        """The rules about requests that take this one, in order; one that is not asked for any more has not seen it.

        Args:
            asker: Who asks.
            dom: The domain that the request names; None for none.
            spans: The frames that it names; None for none.
        """
        for armed in list(self.rules.values()):
            rule = armed.rule
            if rule.kind in OF_FRAMES or armed.id not in self.rules or not rule.matches(asker, dom):
                continue
            if rule.gfns is not None and (spans is None or not rule.meets(spans)):
                continue
            if armed.take(1)[0]:
                self.totals[rule.kind] += 1
                yield armed

    def fail_frames(
        self, asker: Asker, dom: int, gmfns: Gmfns64 | None, mfns: Mfns32, errors: Errors32 | None
    ) -> tuple[Mfns32, Errors32 | None]:
        """Let good frames fail, before anybody has a reference to them.

        Args:
            asker: Who asks for them.
            dom: Whose they are.
            gmfns: (n,) as the caller wrote them; None for pages of a resource, which have no such name.
            mfns: (n,) uint32, ``NO_FRAME`` where one has failed already.
            errors: None, or (n,) int32, as ``foreign.get`` answers them.

        Returns:
            ``mfns`` and ``errors``, as they are now.
        """
        for armed in self.rules.values():
            rule = armed.rule
            if rule.kind not in OF_FRAMES or not rule.matches(asker, dom) or (gmfns is None and rule.gfns is not None):
                continue
            good = np.flatnonzero(mfns != NO_FRAME)
            of_good = good.astype(np.uint64) if gmfns is None else gmfns[good]
            # Pages of a resource are counted apart: their indices are nobody's frame numbers.
            taken = good[armed.take_frames(~dom if gmfns is None else dom, of_good)]
            if not len(taken):
                continue
            self.totals[rule.kind] += len(taken)
            errors = np.zeros(len(mfns), dtype=np.int32) if errors is None else errors
            errors[taken] = -(errno.ENOENT if rule.kind is InjectionKind.PAGED else rule.amount)
            mfns = mfns.copy()  # it may be a view of the p2m
            mfns[taken] = NO_FRAME
        return mfns, errors


def draws(seed: int, first: int, n: int) -> Gmfns64:
    """Numbers ``first`` to ``first + n`` of a sequence of uniform u64, by splitmix64.

    Each is a function of the seed and its place alone, in every release of numpy.
    """
    z = np.arange(first + 1, first + n + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))
