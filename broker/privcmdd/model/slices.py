# SPDX-License-Identifier: Apache-2.0
"""Work in slices: between two slices of a request's work others may run.

A request that takes long is a generator, and yields where others may run. What it yields says whether the request may
be given up there, because its client has gone. Closing the generator always leaves the state whole: what was prepared
is given back, and what must go on is done at once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


@dataclass(slots=True)
class Pace:
    """How much is done in one step: each of these takes some 150 us.

    Attributes:
        frames: Frames that a map request looks up.
        bulk: Frames that any other request looks at, and references that are put.
        entries: Map entries.
    """

    frames: int = 16_384
    bulk: int = 16_384
    entries: int = 64


class Between(Enum):
    """What lies between two slices, besides ``CHECKPOINT``."""

    ASIDE = "aside"
    MIDWAY = "midway"


CHECKPOINT: Final = None
"""The slice has looked at the machine, and the next one sees what others change. The request may be given up."""
ASIDE: Final = Between.ASIDE
"""The slice has worked on what the request has for itself: nobody can tell that there was a pause."""
MIDWAY: Final = Between.MIDWAY
"""The request has changed something and goes on without its client: it cannot be given up."""

Steps: TypeAlias = Generator[Between | None, None, T]


def at_once(steps: Generator[object, None, T]) -> T:
    """Do all slices of a request, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def to_the_end(steps: Generator[object, None, T]) -> Generator[Between, None, T]:
    """Do all slices, with pauses at which the request cannot be given up; when it is closed there, the rest at once."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            yield MIDWAY
    except GeneratorExit:
        at_once(steps)
        raise


def slices(n: int, size: int) -> Iterator[slice]:
    """Return the slices of a list of ``n``, each of at most ``size``; at least one."""
    return (slice(at, min(n, at + size)) for at in range(0, max(n, 1), size))
