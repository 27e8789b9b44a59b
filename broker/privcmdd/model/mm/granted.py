# SPDX-License-Identifier: Apache-2.0
"""The grants that the pages of an address space map, and what is done when such a page is unmapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privcmdd.model.grants.in_use import Held, unpin
from privcmdd.model.machine.gntalloc import Holder, Shared
from privcmdd.model.units import PAGE_SHIFT

if TYPE_CHECKING:
    from privcmdd.model.machine.gntalloc import UnmapNotify
    from privcmdd.model.machine.machine import Machine


class GrantedPages:
    """The pages of one address space that map grants, of guests and of domain 0 itself.

    Attributes:
        machine: The machine whose domains grant.
        number: The number of the address space.
        refs: The grant that each page maps, by page.
        notices: What is done when a page is unmapped, by page.
    """

    __slots__ = ("machine", "notices", "number", "refs")

    def __init__(self, machine: Machine, number: int) -> None:
        self.machine = machine
        self.number = number
        self.refs: dict[int, Held | Shared] = {}
        self.notices: dict[int, UnmapNotify] = {}

    def unmapped(self, start: int, end: int) -> None:
        """Put the grants of a range of addresses that is unmapped, and carry out the notices of its pages."""
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        refs = self.refs
        if last - first > len(refs):
            pages = [page for page in refs if first <= page < last]
        else:
            pages = [page for page in range(first, last) if page in refs]
        if pages:
            gone = [(page, refs.pop(page)) for page in pages]
            unpin(self.machine, [held for _, held in gone if isinstance(held, Held)])
            for page, held in gone:
                if notice := self.notices.pop(page, None):
                    self.machine.effects.extend(notice.effects())
                if isinstance(held, Shared):
                    self.machine.shares.put(held.ref, Holder("page", self.number, page))
