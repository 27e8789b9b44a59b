# SPDX-License-Identifier: Apache-2.0
"""Which domain each restricted file of the device may name (IOCTL_PRIVCMD_RESTRICT). Children share their parents'."""

from __future__ import annotations

from privcmdd.model.ledger import Account, Slot


class Restrictions:
    """The restricted files of an address space and of those forked from it.

    Attributes:
        payer: The account of the uid.
        account: Pays for them; it draws on the payer's.
    """

    __slots__ = ("_charge", "_domids", "_n_spaces", "account", "payer")

    def __init__(self, payer: Account) -> None:
        self.payer = payer
        self.account = Account(f"{payer.name}, restricted files", {}, payer)
        self._domids: dict[int, int] = {}
        self._charge = self.account.charge(Slot.RESTRICTED_FILES)
        self._n_spaces = 1

    def __bool__(self) -> bool:
        return bool(self._domids)

    def get(self, file: int) -> int | None:
        """The domain that a file is restricted to; None: it is not."""
        return self._domids.get(file)

    def add(self, file: int, domid: int) -> None:
        """Restrict a file.

        Raises:
            ModelError: EDQUOT.
        """
        self._charge.resize(len(self._domids) + 1)
        self._domids[file] = domid

    def share(self) -> Restrictions:
        """Let one more address space have them."""
        self._n_spaces += 1
        return self

    def leave(self) -> None:
        """One of the address spaces has ended; with the last one nothing is paid any more."""
        self._n_spaces -= 1
        if not self._n_spaces:
            self._domids.clear()
            self._charge.release()
