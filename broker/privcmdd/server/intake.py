# SPDX-License-Identifier: Apache-2.0
"""Room for messages that come in pieces: what is kept of them is charged to the uid before it is read.

A message has its room from the read that showed how long it is until its requests are done, because a batch of frames
costs as much again while it is worked on. When the uid has no room left, the rest of the message waits in the socket,
where it costs the client and not the broker. Messages get room in the order in which they asked for it.

Who has room and needs more of it, which only many small values in one message do, does not wait: two such messages
could wait for each other.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from privcmdd.model.errors import ModelError

if TYPE_CHECKING:
    from privcmdd.model.ledger import Account, Charge

FREE_BYTES: Final = 16_384
"""What every connection may keep of a message without room: one read."""


class Intake:
    """Gives room to messages. One object for all connections."""

    def __init__(self) -> None:
        self._waiting: dict[Account, deque[trio.Event]] = {}

    def enter(self, account: Account, charge: Charge, n_bytes: int) -> bool:
        """Charge for a message without waiting.

        Args:
            account: The uid's.
            charge: The connection's charge for what comes in.
            n_bytes: How long the message is, as far as is known.

        Returns:
            False when the message has to wait for room.

        Raises:
            ModelError: EDQUOT, it has room already, and there is no more.
        """
        if charge.amount >= n_bytes:
            return True
        if not charge.amount and self._waiting.get(account):
            return False
        try:
            charge.resize(n_bytes)
        except ModelError:
            if charge.amount:
                raise
            return False
        return True

    async def wait(self, account: Account, charge: Charge, n_bytes: int) -> None:
        """Wait for room, and take it. A wait that is cancelled leaves its place to the next one."""
        waiting = self._waiting.setdefault(account, deque())
        turn = trio.Event()
        waiting.append(turn)
        try:
            while True:
                await turn.wait()
                try:
                    charge.resize(n_bytes)
                except ModelError:
                    turn = waiting[0] = trio.Event()
                else:
                    return
        finally:
            waiting.remove(turn)
            self._wake(account)

    def leave(self, account: Account, charge: Charge) -> None:
        """Give the room of a message back."""
        charge.release()
        self._wake(account)

    def _wake(self, account: Account) -> None:
        waiting = self._waiting.get(account)
        if waiting:
            waiting[0].set()
        elif waiting is not None:
            del self._waiting[account]
