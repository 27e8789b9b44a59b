# SPDX-License-Identifier: Apache-2.0
"""The order in which the broker did steps of requests, told to the connections that asked for it (feature ``seq``).

A request is done in steps, with steps of other clients in between. Every step of a connection with the feature takes
the next number when it ends, and the reply has these numbers: ``seq`` of the last step, ``slices`` of the steps before
that looked at the machine, ``queued`` of the step that took a place in a queue. A program that has all replies thus
knows in which order the machine was looked at and changed, and can check the replies against that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from privcmdd.service.reply import Packed, Reply, WithDescriptors
from privcmdd.service.steps import CHECKPOINT, Ticket
from privcmdd.wire.messages import response_ok

if TYPE_CHECKING:
    from privcmdd.service.steps import Pause


@dataclass(slots=True)
class Sequence:
    """Gives the numbers; there is one for the whole world.

    Attributes:
        last: The number given last; 0 before the first.
    """

    last: int = 0

    def take(self) -> int:
        """The next number, for the step that ends now."""
        self.last += 1
        return self.last


class Numbers:
    """The numbers of the request that a connection has under way."""

    __slots__ = ("_queued", "_seq", "_sequence", "_slices")

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        self.clear()

    def clear(self) -> None:
        """Forget the numbers: the request is over."""
        self._seq: int | None = None
        self._queued: int | None = None
        self._slices: list[int] = []

    def stamp(self) -> dict[str, Any]:
        """The numbers for the reply. The first call takes the last step's number; later calls return the same."""
        if self._seq is None:
            self._seq = self._sequence.take()
        stamp: dict[str, Any] = {"seq": self._seq}
        if self._queued is not None:
            stamp["queued"] = self._queued
        if self._slices:
            stamp["slices"] = self._slices
        return stamp

    def paused(self, pause: Pause) -> None:
        """Number a step that ends in a pause, if it looked at the machine or first took a place in a queue."""
        if pause is CHECKPOINT:
            self._slices.append(self._sequence.take())
        elif isinstance(pause, Ticket) and self._queued is None:
            self._queued = self._sequence.take()


@dataclass(frozen=True, slots=True)
class Numbered:
    """A handler's result whose reply has the numbers of its steps."""

    result: dict[str, Any] | Packed | WithDescriptors
    numbers: Numbers

    def reply(self, msgid: int) -> Reply:
        """The reply with its numbers; the last one is taken now."""
        result, stamp = self.result, self.numbers.stamp()
        if isinstance(result, WithDescriptors):
            reply = WithDescriptors({**result.result, **stamp}, result.open).reply(msgid)
        elif isinstance(result, Packed):
            reply = result.with_more(stamp).reply(msgid)
        else:
            reply = Reply(response_ok(msgid, {**result, **stamp}))
        self.numbers.clear()
        return reply
