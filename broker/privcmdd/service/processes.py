# SPDX-License-Identifier: Apache-2.0
"""Address spaces and the connections that are their threads."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import TYPE_CHECKING

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError
from privcmdd.model.mm import syscalls
from privcmdd.model.mm.space import AddressSpace
from privcmdd.model.mm.uobject import ObjectCounters
from privcmdd.model.privcmd.personalities import PERSONALITIES
from privcmdd.service.restrictions import Restrictions
from privcmdd.service.session import Residence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmdd.model.machine.machine import Machine
    from privcmdd.service.session import Session
    from privcmdd.service.settings import SpaceDefaults


class Spaces:
    """All address spaces of the broker, by number.

    Attributes:
        objects: Counts the uvm objects of all address spaces.
        closed_counters: The sums of the counters of the spaces that are closed.
    """

    def __init__(self, machine: Machine, tell: Callable[[Residence, str], None]) -> None:
        self._machine = machine
        self._tell = tell
        self._residences: dict[int, Residence] = {}
        self._last_number = 0
        self.objects = ObjectCounters()
        self.closed_counters: dict[str, int] = {}

    def __iter__(self) -> Iterator[AddressSpace]:
        return (residence.space for residence in self._residences.values())

    def __len__(self) -> int:
        return len(self._residences)

    def residences(self) -> Iterator[Residence]:
        """All address spaces with the connections that live in them."""
        return iter(self._residences.values())

    def of(self, session: Session, defaults: SpaceDefaults, slice_frames: int) -> Residence:
        """The space that a connection lives in; a new one when it has none yet.

        Raises:
            ModelError: EDQUOT.
        """
        if session.residence is None:
            self.make(session, defaults, slice_frames)
        assert session.residence is not None
        return session.residence

    def make(self, session: Session, settings: SpaceDefaults, slice_frames: int) -> Residence:
        """Make a space and move a connection that has none into it.

        Raises:
            ModelError: EDQUOT.
        """
        account = session.uid_account
        rules = PERSONALITIES[settings.personality](self._machine.host, settings.probe, settings.merge)
        space = AddressSpace(self._last_number + 1, self._machine, account, rules, slice_frames, self.objects)
        identity = session.identity
        with ExitStack() as undo:
            undo.callback(space.close)
            restrictions = Restrictions(account)
            residence = Residence(
                space, rules, settings, identity.uid, identity.pid, session.client_name, restrictions, job=session.job
            )
            self._add(residence)
            undo.pop_all()
        self.join(session, residence)
        return residence

    def find(self, session: Session, number: int) -> Residence:
        """Find an address space that a connection may join.

        Raises:
            ModelError: ESRCH; EPERM, it is another uid's.
        """
        residence = self._residences.get(number)
        if residence is None:
            raise ModelError(errno.ESRCH, f"there is no address space {number}", key="space", space=number)
        if residence.uid != session.identity.uid:
            raise ModelError(errno.EPERM, f"address space {number} belongs to another uid", key="space", space=number)
        return residence

    def join(self, session: Session, residence: Residence) -> None:
        """Move a connection that has no space into one: it becomes a thread there."""
        session.residence = residence
        residence.threads.add(session.number)

    def fork(self, session: Session, parent: Residence) -> Residence:
        """Make the space of a child. A connection may join it for as long as the session lives that made it.

        Raises:
            ModelError: EDQUOT.
        """
        space = syscalls.fork(parent.space, self._last_number + 1)
        with ExitStack() as undo:
            undo.callback(space.close)
            restrictions = parent.restrictions.share()
            undo.callback(restrictions.leave)
            child = Residence(
                space,
                parent.personality,
                parent.settings,
                parent.uid,
                parent.pid,
                parent.client,
                restrictions,
                job=parent.job,
            )
            self._add(child)
            undo.pop_all()
        session.forked.append(child)
        return child

    def leave(self, session: Session) -> None:
        """Take a connection that ends out of its spaces; close those left without a thread. Any number of times."""
        left = [*session.forked] if session.residence is None else [session.residence, *session.forked]
        session.residence = None
        session.forked.clear()
        for residence in left:
            residence.threads.discard(session.number)
            if not residence.threads:
                self._close(residence)

    def _add(self, residence: Residence) -> None:
        self._last_number = residence.space.number
        self._residences[residence.space.number] = residence
        try:
            self._tell(residence, "made")
        except BaseException:
            del self._residences[residence.space.number]
            raise

    def _close(self, residence: Residence) -> None:
        space = residence.space
        if not space.closed:
            self._tell(residence, "gone")
            space.close()
            residence.restrictions.leave()
            del self._residences[space.number]
            for name, value in space.counters.as_dict().items():
                self.closed_counters[name] = self.closed_counters.get(name, 0) + value
            invariants.closed_space_is_empty(space)
