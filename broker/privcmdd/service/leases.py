# SPDX-License-Identifier: Apache-2.0
"""Leases: who a domain was made for, and until when it is there.

A lease that is over is ended by ``domain_files.end_leases``, which destroys the domain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmdd.service.session import Job

RETRY_S: Final = 1.0
"""When a domain is destroyed that could not be, because the host could not keep that it is."""


class Until(StrEnum):
    """What a domain is destroyed with."""

    CONNECTION = "connection"
    JOB = "job"
    DESTROYED = "destroyed"


@dataclass(slots=True, eq=False)
class Lease:
    """The lease of one domain.

    Attributes:
        domid: The domain's number.
        generation: The domain's generation: the number may be another one's later.
        uid: Who made it, as are the five that follow.
        pid: As the kernel named it, for people.
        client: The name that the client gave itself.
        connection: The number of the connection.
        method: The method by which it was made.
        request: The number of the request within its connection.
        job: The job that it was made in.
        since_s: When it was made.
        until: What it is destroyed with.
        expires_s: When it is destroyed in any case.
        ends_s: When the lease is over, as far as is known.
    """

    domid: int
    generation: int
    uid: int
    pid: int
    client: str
    connection: int
    method: str
    request: int
    job: Job | None
    since_s: float
    until: Until
    expires_s: float = math.inf
    ends_s: float = math.inf


class Leases:
    """All leases.

    Attributes:
        next_s: When the next one is over.
        on_sooner: Called when that has become sooner.
    """

    def __init__(self) -> None:
        self.next_s = math.inf
        self.on_sooner: Callable[[], None] = lambda: None
        self._by_domid: dict[int, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_domid.values())

    def enter(self, lease: Lease) -> None:
        """Add the lease of a new domain."""
        self._by_domid[lease.domid] = lease
        lease.ends_s = min(lease.ends_s, lease.expires_s)
        self._come(lease.ends_s)

    def of(self, domid: int, generation: int) -> Lease | None:
        """The lease of a domain; None: nobody is known to have made it."""
        lease = self._by_domid.get(domid)
        return lease if lease is not None and lease.generation == generation else None

    def forget(self, domid: int) -> None:
        """Forget the lease of a domain that is gone."""
        self._by_domid.pop(domid, None)

    def end(self, which: Callable[[Lease], bool], at_s: float) -> None:
        """Have leases be over at a time, if they do not expire before."""
        for lease in self:
            if which(lease):
                lease.ends_s = min(at_s, lease.expires_s)
                self._come(lease.ends_s)

    def take_due(self, now_s: float) -> list[Lease]:
        """The leases that are over; each is returned once."""
        due = [lease for lease in self if lease.ends_s <= now_s]
        for lease in due:
            lease.ends_s = lease.expires_s = math.inf
        self.next_s = min((lease.ends_s for lease in self), default=math.inf)
        return due

    def _come(self, at_s: float) -> None:
        if at_s < self.next_s:
            self.next_s = at_s
            self.on_sooner()
