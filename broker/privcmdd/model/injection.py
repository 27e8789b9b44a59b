# SPDX-License-Identifier: Apache-2.0
"""Injections: rules that make requests and single frames fail.

A rule says which requests or frames it matches, what it does to them, and which of its matches it takes. It counts
its matches from 1 and decides by that number alone, also when it takes matches with a probability. So the same seed
and the same requests give the same failures, whatever other rules there are and however a batch is cut into slices.

Rules about frames see only frames that could be mapped. A frame that a rule takes fails as a real one does: no
reference, no page table entry and no page table page is made for it. A frame that fails by itself is not a match and
is not counted.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
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

# Every rule is asked for every request, one after the other: this bounds the time that takes.
MOST_RULES: Final = 256
CERTAIN_PPM: Final = 1_000_000
# The most look-ups of one frame that a rule answers with "paged out": they are counted in a byte.
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
    """Who sends a request, and which method: what a rule may look at, besides frames.

    Attributes:
        connection: The number of the connection.
        client: The name that the client gave in ``hello``.
        method: The method of the request.
        job: The job that the client belongs to; any object that is compared by identity.
    """

    connection: int
    client: str
    pid: int
    uid: int
    method: str
    job: object = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is to fail, and how. A field that is None matches anything.

    Attributes:
        kind: What happens to a match.
        amount: An errno, a number of look-ups (paged) or milliseconds (delay), by ``kind``.
        after: The delay or drop comes after the request is performed, not before.
        client: The name that the client gave in ``hello``; ``*`` stands for any characters, as in file names.
        connection: The number of the connection.
        dom: The domain that the request names.
        gfns: Ranges (first, number) of frames, by the numbers that a mapping uses.
        method: A method's name; with a dot at its end, all methods that begin with it.
        nth: The first match that the rule takes, counted from 1.
        times: How many matches the rule takes at most; None: no limit.
        probability_ppm: The probability that the rule takes a match, in parts per million.
        seed: Decides which matches the rule takes, when it takes them with a probability.
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
        """Return whether the rule matches a request; the request's frames are not looked at.

        A rule without a method leaves ``hello`` alone: libraries say it, and not the program that is to fail.
        """
        return (
            (self.client is None or fnmatchcase(asker.client, self.client))
            and self.connection in (None, asker.connection)
            and self.pid in (None, asker.pid)
            and self.uid in (None, asker.uid)
            and self.dom in (None, dom)
            and (
                asker.method != "hello"
                if self.method is None
                else asker.method.startswith(self.method)
                if self.method.endswith(".")
                else asker.method == self.method
            )
        )

    def among(self, gmfns: Gmfns64) -> npt.NDArray[np.bool_]:
        """Return for each frame whether the rule matches it."""
        if self.gfns is None:
            return np.ones(len(gmfns), dtype=np.bool_)
        numbers = gmfns & np.uint64(FRAME_MASK)
        meant = np.zeros(len(gmfns), dtype=np.bool_)
        for first, n_frames in self.gfns:  # numbers below the first wrap around to large ones
            meant |= numbers - np.uint64(first) < np.uint64(n_frames)
        return meant

    def meets(self, spans: Spans) -> bool:
        """Return whether the rule matches a frame of these runs."""
        first, n_frames = spans[0] & np.uint64(FRAME_MASK), spans[1]
        return self.gfns is None or any(
            bool(((first < np.uint64(start + n)) & (first + n_frames > np.uint64(start))).any())
            for start, n in self.gfns
        )


class Armed:
    """A rule in force, with its counts.

    Attributes:
        id: The rule's number; never used twice.
        owner: The rule ends with this connection; None: the rule stays until it is cleared.
        job: The rule is about clients of this job alone, and ends with it; None: it is about all.
        n_seen: Matches so far: frames for a rule about frames, else requests.
        n_fired: How many of these matches the rule took.
        tries: (frames so far,) uint8, how often each frame was answered "paged out", by domain; kind PAGED only.
    """

    __slots__ = ("id", "job", "n_fired", "n_seen", "owner", "rule", "tries")

    def __init__(self, number: int, rule: Rule, owner: int | None, job: object = None) -> None:
        self.id = number
        self.rule = rule
        self.owner = owner
        self.job = job
        self.n_seen = 0
        self.n_fired = 0
        self.tries: dict[int, npt.NDArray[np.uint8]] = {}

    @property
    def stays(self) -> bool:
        """Whether the rule is there until it is cleared."""
        return self.owner is None and self.job is None

    def matches(self, asker: Asker, dom: int | None) -> bool:
        """Return whether the rule matches a request; the request's frames are not looked at."""
        return (self.job is None or self.job is asker.job) and self.rule.matches(asker, dom)

    def take(self, n: int) -> npt.NDArray[np.bool_]:
        """Count ``n`` more matches, and return for each whether the rule takes it."""
        taken = self._would_take(n)
        self.n_seen += n
        self.n_fired += int(np.count_nonzero(taken))
        return taken

    def _would_take(self, n: int) -> npt.NDArray[np.bool_]:
        """Return for each of the next ``n`` matches whether the rule takes it; later matches have no say in that."""
        rule = self.rule
        taken = np.ones(n, dtype=np.bool_)
        early = rule.nth - 1 - self.n_seen
        if early > 0:
            taken[:early] = False
        if rule.probability_ppm < CERTAIN_PPM:
            taken &= draws(rule.seed, self.n_seen, n) % np.uint64(CERTAIN_PPM) < np.uint64(rule.probability_ppm)
        if rule.times is not None:
            taken &= np.cumsum(taken) <= rule.times - self.n_fired
        return taken

    def take_frames(self, dom: int, gmfns: Gmfns64) -> npt.NDArray[np.int64]:
        """Count the matches among frames that could be mapped.

        Args:
            dom: The domain that has the frames.
            gmfns: (n,) as the caller wrote them.

        Returns:
            The indices of the frames that the rule takes, ascending.
        """
        meant = self._matches(dom, gmfns)
        taken = meant[self.take(len(meant))]
        if self.rule.kind is InjectionKind.PAGED and len(taken):
            numbers = (gmfns[taken] & np.uint64(FRAME_MASK)).astype(np.int64)
            self._counted(dom, int(numbers.max()))[numbers] += 1  # a frame named twice counts as one look-up
        return taken

    def first_taken(self, dom: int, gmfns: Gmfns64) -> int:
        """Return the index of the first frame that ``take_frames`` would take; ``len(gmfns)`` for none."""
        meant = self._matches(dom, gmfns)
        taken = meant[self._would_take(len(meant))]
        return int(taken[0]) if len(taken) else len(gmfns)

    def _matches(self, dom: int, gmfns: Gmfns64) -> npt.NDArray[np.int64]:
        """Return the indices of the frames that the rule matches, ascending."""
        meant = np.flatnonzero(self.rule.among(gmfns))
        if self.rule.kind is not InjectionKind.PAGED or not len(meant):
            return meant
        numbers = (gmfns[meant] & np.uint64(FRAME_MASK)).astype(np.int64)
        return meant[self._counted(dom, int(numbers.max()))[numbers] < self.rule.amount]

    def _counted(self, dom: int, highest: int) -> npt.NDArray[np.uint8]:
        """Return how often each frame of a domain was answered "paged out", a byte a frame."""
        tries = self.tries.get(dom)
        if tries is None or highest >= len(tries):
            grown = np.zeros(1 << highest.bit_length(), dtype=np.uint8)
            if tries is not None:
                grown[: len(tries)] = tries
            self.tries[dom] = tries = grown
        return tries


class Injections:
    """The rules in force.

    Attributes:
        rules: The rules by id, oldest first: they are asked in this order.
        totals: How many matches the rules of each kind have taken, rules that have ended included.
    """

    def __init__(self) -> None:
        self.rules: dict[int, Armed] = {}
        self.totals: Counter[InjectionKind] = Counter()
        self.last_id = 0

    def __bool__(self) -> bool:
        return bool(self.rules)

    def add(self, rule: Rule, owner: int | None = None, job: object = None) -> Armed:
        """Put a rule in force, and return it.

        Raises:
            ModelError: ENOSPC, there are too many rules.
        """
        if len(self.rules) >= MOST_RULES:
            raise ModelError(errno.ENOSPC, f"there are {MOST_RULES} rules already: clear some", limit=MOST_RULES)
        self.last_id += 1
        armed = Armed(self.last_id, rule, owner, job)
        self.rules[armed.id] = armed
        return armed

    def clear(self, number: int) -> None:
        """End a rule. Raises KeyError."""
        del self.rules[number]

    def leave(self, owner: int) -> None:
        """End the rules of a connection that has ended."""
        self.rules = {number: armed for number, armed in self.rules.items() if armed.owner != owner}

    def end(self, job: object) -> None:
        """End the rules of a job that has ended."""
        self.rules = {number: armed for number, armed in self.rules.items() if armed.job is not job}

    def statistics(self) -> dict[str, int]:
        """Return the number of rules, and how many matches the rules of each kind have taken."""
        return {"rules": len(self.rules), **{kind.value: self.totals[kind] for kind in InjectionKind}}

    def strikes(self, asker: Asker, dom: int | None, spans: Spans | None) -> Iterator[Armed]:
        """Yield the rules that take this request, in order. A rule is asked, and counts, only when its turn comes.

        So when the caller stops here, the rules that come later have not seen the request.

        Args:
            asker: Who sends the request.
            dom: The domain that the request names; None when it names none.
            spans: The frames that the request names; None when it names none.
        """
        for armed in list(self.rules.values()):
            rule = armed.rule
            if rule.kind in OF_FRAMES or armed.id not in self.rules or not armed.matches(asker, dom):
                continue
            if rule.gfns is not None and (spans is None or not rule.meets(spans)):
                continue
            if armed.take(1)[0]:
                self.totals[rule.kind] += 1
                yield armed

    def fail_frames(
        self,
        asker: Asker,
        dom: int,
        gmfns: Gmfns64 | None,
        mfns: Mfns32,
        errors: Errors32 | None,
        *,
        stop: bool = False,
    ) -> tuple[Mfns32, Errors32 | None]:
        """Make frames of a look-up fail, before a reference to them is taken.

        Args:
            asker: Who asks for the frames.
            dom: The domain that has the frames.
            gmfns: (n,) as the caller wrote them; None for pages of a resource, which have no gmfn.
            mfns: (n,) uint32, ``NO_FRAME`` where a frame has failed already.
            errors: None, or (n,) int32, as ``foreign.get`` answers them.
            stop: The caller stops at the first frame that fails: no frame behind it is a match.

        Returns:
            ``mfns`` and ``errors`` after the rules were asked; with ``stop``, the first frame that fails is the last.
        """
        asked = [
            armed
            for armed in self.rules.values()
            if armed.rule.kind in OF_FRAMES
            and armed.matches(asker, dom)
            and (gmfns is not None or armed.rule.gfns is None)
        ]
        # Pages of a resource are counted apart (as domain ~dom): their indices are not frame numbers.
        whose = ~dom if gmfns is None else dom
        numbers = np.arange(len(mfns), dtype=np.uint64) if gmfns is None else gmfns
        if stop and asked:
            good = np.flatnonzero(mfns != NO_FRAME)
            first = min(armed.first_taken(whose, numbers[good]) for armed in asked)
            end = len(mfns) if first == len(good) else int(good[first]) + 1
            mfns, errors = mfns[:end], None if errors is None else errors[:end]
        for armed in asked:
            good = np.flatnonzero(mfns != NO_FRAME)
            taken = good[armed.take_frames(whose, numbers[good])]
            if not len(taken):
                continue
            self.totals[armed.rule.kind] += len(taken)
            errors = np.zeros(len(mfns), dtype=np.int32) if errors is None else errors
            errors[taken] = -(errno.ENOENT if armed.rule.kind is InjectionKind.PAGED else armed.rule.amount)
            mfns = mfns.copy()  # it may be a view of the p2m
            mfns[taken] = NO_FRAME
        return mfns, errors


def draws(seed: int, first: int, n: int) -> Gmfns64:
    """Return the numbers ``first`` to ``first + n`` of a sequence of uniform u64, by splitmix64.

    Each number depends on the seed and on its place in the sequence alone; numpy's own generators may change between
    releases.
    """
    z = np.arange(first + 1, first + n + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))
