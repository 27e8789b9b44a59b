# SPDX-License-Identifier: Apache-2.0
"""The pauses that a request may ask of its driver (trio, or a simulator).

A request is a generator. It yields either ``CHECKPOINT`` (other requests may run now, and the driver checks whether the
client has gone), a ``Ticket`` (go on when it is granted) or a ``Delay``. Closing the generator at a pause gives back
all that the request had taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


# The model's generators yield it too: other requests may run, nothing is waited for.
CHECKPOINT: Final = None


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


Pause = Ticket | Delay | None


class Dropped(Exception):  # noqa: N818 - it is no error: a rule of injection asks for it
    """The connection ends without an answer, as a rule of injection says."""
