# SPDX-License-Identifier: Apache-2.0
"""Descriptors that the broker holds for a client and keeps when the connection ends, and who pays for them.

The events of a channel stay as long as one of its ports, a file of hypercall buffers as long as an address space has
buffers in it, a file of shared pages as long as somebody has one of them. The uid that they were made for pays until
they are closed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot

if TYPE_CHECKING:
    from collections.abc import Hashable

    from privcmdd.model.ledger import Charge

FOR_CONNECTIONS: Final = 16


class Channel(NamedTuple):
    """The key of the events of an event channel.

    Attributes:
        number: The channel's.
        what: Always the same text; it makes the key unequal to every key of another kind.
    """

    number: int
    what: str = "channel"


class LastingDescriptors:
    """What is held, and the charge for each."""

    def __init__(self) -> None:
        self._charges: dict[Hashable, Charge] = {}
        self._accounts: dict[Account, Account] = {}

    def hold(self, key: Hashable, payer: Account, n_fds: int) -> bool:
        """Charge for descriptors that are about to be made.

        Args:
            key: Names what they belong to.
            payer: The account of a uid.
            n_fds: How many they are.

        Returns:
            False when they are held already; whoever had them made first pays.

        Raises:
            ModelError: EDQUOT, too few would be left for connections, by which the uid can give others back.
        """
        if key in self._charges:
            return False
        limit, used = payer.limits[Slot.FDS], payer.used[Slot.FDS]
        n_kept = min(FOR_CONNECTIONS, limit // 2)
        if used + n_fds > limit - n_kept:
            raise ModelError(
                errno.EDQUOT,
                f"{payer.name} may use {limit} fds, {n_kept} of them for connections only, uses {used} and asks for "
                f"{n_fds} more; give some back or raise limits.fds",
                slot=Slot.FDS.value,
                limit=limit,
                used=used,
                asked=n_fds,
            )
        account = self._accounts.get(payer) or Account(f"{payer.name}, what lasts", {}, payer)
        self._charges[key] = account.charge(Slot.FDS, n_fds)
        self._accounts[payer] = account
        return True

    def let_go(self, key: Hashable) -> None:
        """End the charge for what is closed. What was never charged for costs nothing."""
        charge = self._charges.pop(key, None)
        if charge is not None:
            charge.release()
            self._accounts = {payer: account for payer, account in self._accounts.items() if not account.idle}

    def channels(self) -> list[int]:
        """The channels whose events are held."""
        return [key.number for key in self._charges if isinstance(key, Channel)]

    def account_of(self, payer: Account) -> Account | None:
        """The account that pays for what a uid holds; it draws on the uid's. None: it holds nothing."""
        return self._accounts.get(payer)
