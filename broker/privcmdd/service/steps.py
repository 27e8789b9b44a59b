# SPDX-License-Identifier: Apache-2.0
"""The pauses that a request may ask of its driver (trio, or a simulator).

A request is a generator. It yields ``CHECKPOINT``, ``ASIDE`` or ``MIDWAY`` between two slices of its work
(``model/slices.py``: other requests may run now), a ``Ticket`` (go on when it is granted) or a ``Delay``. When its
client has gone, the driver throws ``GivenUp`` into the generator, at any pause but ``MIDWAY``, and goes on: what the
request had taken is given back, in steps if it is much. Closing the generator does the same at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from privcmdd.model.slices import ASIDE, CHECKPOINT, MIDWAY, Between

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ASIDE", "CHECKPOINT", "MIDWAY", "Delay", "Dropped", "GivenUp", "Pause", "Ticket"]


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in a queue.

    Attributes:
        granted: Whether it is this ticket's turn.
        on_grant: Set by the driver; called once, when the turn comes.
    """

    granted: bool = False
    on_grant: Callable[[], None] | None = None

    def grant(self) -> None:
        """Give this ticket its turn, and tell the driver."""
        self.granted = True
        if self.on_grant is not None:
            self.on_grant()


@dataclass(frozen=True, slots=True)
class Delay:
    """Go on after this time; a client that disconnects meanwhile is noticed."""

    seconds: float


Pause = Ticket | Delay | Between | None


class GivenUp(Exception):  # noqa: N818 - no error: the driver throws it into a request
    """The client of this request has gone."""


class Dropped(Exception):  # noqa: N818 - it is no error: a rule of injection asks for it
    """The connection ends without an answer, as a rule of injection says."""
