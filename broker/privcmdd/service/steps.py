# SPDX-License-Identifier: Apache-2.0
"""What a request may ask of whoever drives it: to pause.

A request is a generator. It yields either ``CHECKPOINT`` (others may run now; this is also the moment to
find out that the client has gone), a ``Ticket`` (go on when it is granted) or a ``Delay``. Closing the generator at
a pause gives back all that the request had taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


# What the model's generators yield as well: others may run, nothing is waited for.
CHECKPOINT: Final = None


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in a queue.

    Attributes:
        granted: It is this ticket's turn.
        on_grant: Set by the driver; called once, when the turn comes.
    """

    granted: bool = False
    on_grant: Callable[[], None] | None = None

    def grant(self) -> None:
        """It is this ticket's turn: say so to the driver."""
        self.granted = True
        if self.on_grant is not None:
            self.on_grant()


@dataclass(frozen=True, slots=True)
class Delay:
    """Go on after so many seconds; a client that goes meanwhile is noticed."""

    seconds: float


Pause = Ticket | Delay | None


class Dropped(Exception):  # noqa: N818 - nobody's error: it was asked for
    """The client is to hear nothing more: its connection ends where the answer would be."""
