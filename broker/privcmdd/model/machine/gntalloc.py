# SPDX-License-Identifier: Apache-2.0
"""Pages that processes of domain 0 grant to other domains, as /dev/xen/gntalloc makes them (drivers/xen/gntalloc.c).

Each allocation has a memory file of its own, so that a domain that maps one allocation sees no other. A page stays
granted as long as its maker holds it, and exists as long as it is held or mapped. Only the broker sees domain 0's grant
table, so the table has no entries, and no bits that say which grants are in use.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.errors import ModelError
from privcmdd.model.file_keys import SharedFile
from privcmdd.model.machine.effects import ByteCleared, Raised, SharedFileGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from privcmdd.model.machine.effects import Effect

FIRST_REF: Final = 8  # lower grant numbers are reserved by convention
MOST_SHARES: Final = 1024  # for each uid; the kernel module's parameter `limit`


class Holder(NamedTuple):
    """A holder of a share: a connection, or a page of an address space.

    Attributes:
        what: ``connection`` or ``page``.
        number: The number of the connection or of the address space.
        page: The page of the address space; 0 for a connection.
    """

    what: str
    number: int
    page: int = 0


class UnmapNotify(NamedTuple):
    """What is done when a page is unmapped or given up (SET_UNMAP_NOTIFY of gntdev and gntalloc).

    Attributes:
        byte: The byte to be cleared: the file's key, the page of the file, the byte of the page. None for none.
        event: The event to be raised: the channel, and which of its two events. None for none.
    """

    byte: tuple[int | SharedFile, int, int] | None
    event: tuple[int, int] | None

    def effects(self) -> Iterable[Effect]:
        """Yield the effects that do this."""
        if self.byte is not None:
            yield ByteCleared(*self.byte)
        if self.event is not None:
            yield Raised(*self.event)


@dataclass(slots=True)
class Share:
    """One page that domain 0 grants.

    Attributes:
        file: The key of the memory file in which the page lies.
        page: The page of that file.
        to: The domain that may map the page.
        writable: That domain may write to the page.
        uid: The uid whose process made the page.
        owners: Holders on the maker's side.
        mappers: Holders on the other side.
        notice: What is done when the last holder on the maker's side gives the page up.
    """

    file: SharedFile
    page: int
    to: int
    writable: bool
    uid: int
    owners: set[Holder]
    mappers: set[Holder] = field(default_factory=set)
    notice: UnmapNotify | None = None


class Shares:
    """Domain 0's own grants, by number."""

    def __init__(self, emit: Callable[[Effect], None]) -> None:
        self._emit = emit
        self._files = count(1)
        self.refs: dict[int, Share] = {}

    def next_file(self) -> SharedFile:
        """Return the key of the next allocation's file."""
        return SharedFile(next(self._files))

    def allocate(self, file: SharedFile, n: int, to: int, uid: int, holder: Holder, *, writable: bool) -> list[int]:
        """Grant pages of a file.

        Returns:
            The grants' numbers, the lowest that are free.

        Raises:
            ModelError: ENOSPC, the uid would have more pages than it may have.
        """
        n_held = sum(share.uid == uid for share in self.refs.values())
        if n_held + n > MOST_SHARES:
            raise ModelError(
                errno.ENOSPC, f"{n} pages are asked for, uid {uid} has {n_held} of {MOST_SHARES} it may have", key="num"
            )
        free = (ref for ref in count(FIRST_REF) if ref not in self.refs)
        refs = [next(free) for _ in range(n)]
        for page, ref in enumerate(refs):
            self.refs[ref] = Share(file, page, to, writable, uid, {holder})
        return refs

    def share(self, ref: int) -> Share:
        """Return the page that domain 0 grants by a number.

        Raises:
            ModelError: ENOENT, there is no such grant.
        """
        found = self.refs.get(ref)
        if found is None:
            raise ModelError(errno.ENOENT, f"domain 0 grants nothing by number {ref}", key="refs", ref=ref)
        return found

    def run(self, refs: Iterable[int]) -> int:
        """Return how many of these grants, from the first on, are consecutive pages of one file."""
        first, n = None, 0
        for n, ref in enumerate(refs):
            share = self.refs.get(ref)
            first = first or share
            if first is None or share is None or (share.file, share.page) != (first.file, first.page + n):
                return n
        return n + 1

    def get(self, ref: int, holder: Holder, *, owned: bool) -> None:
        """Add a holder to a share, on the maker's side (``owned``) or on the other side.

        Raises:
            ModelError: ENOENT.
        """
        share = self.share(ref)
        (share.owners if owned else share.mappers).add(holder)

    def notify(self, ref: int, notice: UnmapNotify) -> None:
        """Set what is done when the maker gives a share up, in place of what was set before.

        Raises:
            ModelError: ENOENT.
        """
        self.share(ref).notice = notice

    def put(self, ref: int, holder: Holder) -> None:
        """Take a holder from a share. Nothing happens when it does not hold the share."""
        share = self.refs.get(ref)
        if share is None:
            return
        share.mappers.discard(holder)
        if holder in share.owners:
            share.owners.remove(holder)
            if not share.owners and share.notice is not None:
                for effect in share.notice.effects():
                    self._emit(effect)
        if not share.owners and not share.mappers:
            del self.refs[ref]
            if all(other.file != share.file for other in self.refs.values()):
                self._emit(SharedFileGone(share.file))

    def put_all(self, holder: Holder) -> None:
        """Take a holder from all shares."""
        for ref in list(self.refs):
            self.put(ref, holder)


class Shared(NamedTuple):
    """The grant that a page of an address space maps, when domain 0 grants it.

    Attributes:
        ref: The grant's number.
        writes: The mapping is writable.
    """

    ref: int
    writes: bool
