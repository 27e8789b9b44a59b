# SPDX-License-Identifier: Apache-2.0
"""A fair queue: it has one holder at a time, first come first served.

Each address space has one. A request holds it across prepare and commit, so that the threads of a client are
serialised here and need not be trusted to serialise themselves.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from privcmdd.service.steps import Ticket

if TYPE_CHECKING:
    from collections.abc import Generator


class Turnstile:
    """A queue of tickets; the first one holds the turn."""

    __slots__ = ("_queue", "_uncontended")

    def __init__(self) -> None:
        self._queue: deque[Ticket] = deque()
        # Only one request at a time holds the turn without having waited: one ticket serves all of them.
        self._uncontended = Ticket(granted=True)

    def try_enter(self) -> Ticket | None:
        """Take the turn if it is free; None if it is held."""
        if self._queue:
            return None
        self._queue.append(self._uncontended)
        return self._uncontended

    def enter(self) -> Generator[Ticket, None, Ticket]:
        """Take a place and wait for the turn.

        Returns:
            The ticket to leave with.

        Closing the generator while it waits gives the place up.
        """
        ticket = self.try_enter()
        if ticket is not None:
            return ticket
        ticket = Ticket()
        self._queue.append(ticket)
        try:
            while not ticket.granted:
                yield ticket
        except GeneratorExit:
            self.leave(ticket)
            raise
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give up the turn, or the place in the queue; the next ticket gets the turn."""
        held = self._queue[0] is ticket
        self._queue.remove(ticket)
        if held and self._queue:
            self._queue[0].grant()

    @property
    def n_waiting(self) -> int:
        """Tickets in the queue behind the holder."""
        return max(0, len(self._queue) - 1)
