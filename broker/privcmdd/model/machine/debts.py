# SPDX-License-Identifier: Apache-2.0
"""What a change leaves to be given back, when that is too much for one step.

A range of a million pages is unmapped in one step, but its references to frames are put in slices. The change makes a
debt, and the request that made the change pays it before its reply. Nobody can reach what is owed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privcmdd.model.machine.frames import Mfns


class Debt(Protocol):
    """Something that is given back in slices."""

    def pay(self) -> bool:
        """Give a slice back. Returns whether anything is left."""


class FrameDebt:
    """References to frames that are still to be put.

    Attributes:
        parts: The frames; ``NO_FRAME`` and barred entries may be among them.
    """

    __slots__ = ("_put", "_size", "parts")

    def __init__(self, put: Callable[[Sequence[Mfns]], None], parts: Sequence[Mfns], size: int) -> None:
        """Owe references.

        Args:
            put: Puts them.
            parts: The frames.
            size: How many are put at a time.
        """
        self._put = put
        self._size = size
        self.parts = [*parts]

    def pay(self) -> bool:
        """Put a slice of the references."""
        taken: list[Mfns] = []
        left = self._size
        while self.parts and left:
            part = self.parts.pop()
            if len(part) > left:
                self.parts.append(part[left:])
            taken.append(part[:left])
            left -= len(taken[-1])
        self._put(taken)
        return bool(self.parts)


class Debts:
    """The debts of a machine.

    Attributes:
        made: Those that the step which runs now has made; whoever runs it is to ``take`` and ``settle`` them.
        owed: All that are not paid yet.
    """

    __slots__ = ("made", "owed")

    def __init__(self) -> None:
        self.made: list[Debt] = []
        self.owed: list[Debt] = []

    def make(self, debt: Debt) -> None:
        """Add a debt."""
        self.owed.append(debt)
        self.made.append(debt)

    def take(self) -> list[Debt]:
        """Return the debts that were made since the last call, for the caller to pay."""
        taken, self.made = self.made, []
        return taken

    def pay(self, debt: Debt) -> bool:
        """Give a slice of a debt back. Returns whether anything of it is left."""
        if debt.pay():
            return True
        self.owed.remove(debt)
        return False
