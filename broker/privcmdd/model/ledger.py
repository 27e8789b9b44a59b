# SPDX-License-Identifier: Apache-2.0
"""Who pays for what: an account has limits, a charge is what something in use costs.

A ``Charge`` is held next to the thing that it pays for, and is released with that thing. A connection's account
draws on its uid's account, so that what one connection uses counts for both. The design is dbus-broker's
(``util/user.h``): when a limit is hit, the answer is an errno and nothing has changed.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Slot(StrEnum):
    """The kinds of things that are counted."""

    FRAMES = "frames"  # present foreign pages
    ENTRIES = "entries"  # map entries
    OBJECTS = "objects"  # uvm objects
    SPACES = "spaces"  # address spaces
    BATCHES = "batches"  # map requests in flight
    QUEUED_BYTES = "queued_bytes"  # output that the client has not taken
    INCOMING_BYTES = "incoming_bytes"  # messages that come in pieces, until their requests are done
    RESTRICTED_FILES = "restricted_files"  # files of the device that may name one domain only
    FDS = "fds"  # descriptors held for the client


UNLIMITED: Final = 1 << 62
NO_LIMITS: Final = dict.fromkeys(Slot, UNLIMITED)  # one object: each connection's account has no limits of its own
# Looking a member of an enumeration up costs 0.1 us in Python 3.11, and every request uses these members.
ENTRIES: Final = Slot.ENTRIES
OBJECTS: Final = Slot.OBJECTS
FRAMES: Final = Slot.FRAMES


class Account:
    """What one uid, or one connection of it, uses and may use.

    Attributes:
        name: A name for people, such as ``uid 1000``.
        used: Units in use, by slot.
        limits: The most units that may be in use, by slot.
    """

    __slots__ = ("_parent", "limits", "name", "used")

    def __init__(self, name: str, limits: Mapping[Slot, int], parent: Account | None = None) -> None:
        self.name = name
        self.used: dict[Slot, int] = dict.fromkeys(Slot, 0)
        self._parent = parent
        self.relimit(limits)

    def charge(self, slot: Slot, amount: int = 0) -> Charge:
        """Return a new charge of ``amount`` units.

        Raises:
            ModelError: EDQUOT, this account, or the account that it draws on, would be over its limit.
        """
        charge = Charge(self, slot)
        charge.resize(amount)
        return charge

    def relimit(self, limits: Mapping[Slot, int]) -> None:
        """Set new limits. Use above a new limit stays; only growth is refused (as Xen does for a lowered max_mem)."""
        self.limits = {slot: limits.get(slot, UNLIMITED) for slot in Slot} if limits else NO_LIMITS

    @property
    def idle(self) -> bool:
        """Whether nothing is charged."""
        return not any(self.used.values())

    def add(self, slot: Slot, amount: int, *, owed: bool = False) -> None:
        """Change the use of a slot by ``amount``; for ``Charge`` and ``Tally`` only.

        Args:
            slot: The kind of thing.
            amount: Units; less than 0 to give units back.
            owed: These units were given back a moment ago by a change that is now undone: no limit is checked.

        Raises:
            ModelError: EDQUOT, on growth only.
        """
        used = self.used[slot] + amount
        limit = self.limits[slot]
        if amount > 0 and used > limit and not owed:
            raise ModelError(
                errno.EDQUOT,
                f"{self.name} may use {limit} {slot.value.replace('_', ' ')}, uses {self.used[slot]} and asks for "
                f"{amount} more; give some back or raise limits.{slot.value}",
                slot=slot.value,
                limit=limit,
                used=self.used[slot],
                asked=amount,
            )
        if self._parent is not None:
            self._parent.add(slot, amount, owed=owed)
        self.used[slot] = used


class Charge:
    """A number of units that an account pays for, until ``release``."""

    __slots__ = ("_account", "_slot", "amount")

    def __init__(self, account: Account, slot: Slot) -> None:
        self._account = account
        self._slot = slot
        self.amount = 0

    def resize(self, amount: int) -> None:
        """Pay for ``amount`` units from now on.

        Raises:
            ModelError: EDQUOT, on growth only; nothing changes then.
        """
        if amount != self.amount:
            self._account.add(self._slot, amount - self.amount)
            self.amount = amount

    def release(self) -> None:
        """Pay for nothing any more. Calling it again does nothing."""
        self.resize(0)


class Tally:
    """The three charges of an address space, changed together: entries, objects, frames."""

    __slots__ = ("_account", "entries", "frames", "objects")

    def __init__(self, account: Account) -> None:
        self._account = account
        self.entries = self.objects = self.frames = 0

    def afford(self, entries: int, objects: int, frames: int) -> None:
        """Check that ``pay`` with these amounts would succeed; nothing is paid.

        This is enough for a caller that lets no other request run before it pays.

        Raises:
            ModelError: EDQUOT.
        """
        used, limits = self._account.used, self._account.limits
        if (
            used[ENTRIES] + entries - self.entries > limits[ENTRIES]
            or used[OBJECTS] + objects - self.objects > limits[OBJECTS]
            or used[FRAMES] + frames - self.frames > limits[FRAMES]
        ):
            # A limit may have been lowered below what is used: only ``pay`` tells whether this request passes a limit.
            paid = (self.entries, self.objects, self.frames)
            self.pay(max(entries, self.entries), max(objects, self.objects), max(frames, self.frames))
            self.pay(*paid)  # the request may still be refused for another reason: nothing is paid yet

    def pay(self, entries: int, objects: int, frames: int) -> None:
        """Pay for these from now on.

        Raises:
            ModelError: EDQUOT, on growth only; nothing changes then.
        """
        if entries == self.entries and objects == self.objects and frames == self.frames:
            return
        before = (self.entries, self.objects, self.frames)
        try:
            if entries != self.entries:
                self._account.add(ENTRIES, entries - self.entries)
                self.entries = entries
            if objects != self.objects:
                self._account.add(OBJECTS, objects - self.objects)
                self.objects = objects
            if frames != self.frames:
                self._account.add(FRAMES, frames - self.frames)
                self.frames = frames
        except ModelError:
            paid = (self.entries, self.objects, self.frames)
            for slot, was, now in zip((ENTRIES, OBJECTS, FRAMES), before, paid, strict=True):
                self._account.add(slot, was - now, owed=True)
            self.entries, self.objects, self.frames = before
            raise
