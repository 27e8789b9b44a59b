# SPDX-License-Identifier: Apache-2.0
"""Pages that processes of domain 0 grant to other domains, as /dev/xen/gntalloc makes them (drivers/xen/gntalloc.c).

An allocation has a memory file of its own, so that who maps one sees nothing of another. A page stays granted as long
as its maker holds it, and is there as long as anybody has it mapped. Nobody but the broker sees domain 0's grant table,
so there are no entries to keep and no bits to show in it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from privcmdd.model.errors import ModelError
from privcmdd.model.keys import SharedFile
from privcmdd.model.machine.effects import ByteCleared, Raised, SharedFileGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from privcmdd.model.machine.effects import Effect

FIRST_REF: Final = 8  # those below are Xen's by custom
MOST_SHARES: Final = 1024  # a uid; the module's parameter `limit`


class Holder(NamedTuple):
    """Who keeps a share: a connection, or a page of an address space.

    Attributes:
        what: ``connection`` or ``page``.
        number: Of the connection or the address space.
        page: Of the address space, else 0.
    """

    what: str
    number: int
    page: int = 0


class Notice(NamedTuple):
    """What is to be done when a page is let go of.

    Attributes:
        byte: The file, its page and the byte of it that is to be cleared, if any. A domain's file is its domid.
        event: The channel, and which of its events, that is to be raised, if any.
    """

    byte: tuple[int | SharedFile, int, int] | None
    event: tuple[int, int] | None

    def effects(self) -> Iterable[Effect]:
        """What that means."""
        if self.byte is not None:
            yield ByteCleared(*self.byte)
        if self.event is not None:
            yield Raised(*self.event)


@dataclass(slots=True)
class Share:
    """One page that is granted.

    Attributes:
        file: Where it lies.
        page: Which page of that.
        to: The domain that may map it.
        writable: It may write to it too.
        uid: Whose processes made it.
        owners: Holders on the side of its maker.
        mappers: Holders on the other side.
        notice: What is to be done when its maker lets go.
    """

    file: SharedFile
    page: int
    to: int
    writable: bool
    uid: int
    owners: set[Holder]
    mappers: set[Holder] = field(default_factory=set)
    notice: Notice | None = None


class Shares:
    """Domain 0's own grants, by number."""

    def __init__(self, emit: Callable[[Effect], None]) -> None:
        self._emit = emit
        self._files = count(1)
        self.refs: dict[int, Share] = {}

    def next_file(self) -> SharedFile:
        """The key of the next allocation's file."""
        return SharedFile(next(self._files))

    def allocate(self, file: SharedFile, n: int, to: int, uid: int, holder: Holder, *, writable: bool) -> list[int]:
        """Grant pages of a file.

        Returns:
            Their numbers, the lowest that are free.

        Raises:
            ModelError: ENOSPC, the uid has as many as it may have.
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
        """A page that is granted.

        Raises:
            ModelError: ENOENT.
        """
        found = self.refs.get(ref)
        if found is None:
            raise ModelError(errno.ENOENT, f"domain 0 grants nothing by number {ref}", key="refs", ref=ref)
        return found

    def run(self, refs: Iterable[int]) -> int:
        """How many of these, from the first on, follow each other in one file."""
        first, n = None, 0
        for n, ref in enumerate(refs):
            share = self.refs.get(ref)
            first = first or share
            if first is None or share is None or (share.file, share.page) != (first.file, first.page + n):
                return n
        return n + 1

    def get(self, ref: int, holder: Holder, *, owned: bool) -> None:
        """A holder keeps a share, as its maker (``owned``) or on the other side.

        Raises:
            ModelError: ENOENT.
        """
        share = self.share(ref)
        (share.owners if owned else share.mappers).add(holder)

    def notify(self, ref: int, notice: Notice) -> None:
        """Say what is to be done when the maker of a share lets go of it; the last word counts.

        Raises:
            ModelError: ENOENT.
        """
        self.share(ref).notice = notice

    def put(self, ref: int, holder: Holder) -> None:
        """A holder keeps a share no longer, if it did."""
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
        """A holder is gone."""
        for ref in list(self.refs):
            self.put(ref, holder)


class Shared(NamedTuple):
    """What a page of an address space maps, when that is a page of domain 0's own.

    Attributes:
        ref: The grant's number.
        writes: It was mapped to be written.
    """

    ref: int
    writes: bool
