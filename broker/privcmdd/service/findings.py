# SPDX-License-Identifier: Apache-2.0
"""Findings that are kept: what the model found, the request that caused it, and how often.

Equal findings are counted and not kept again. Each job, and each uid for what belongs to no job, has room for a bounded
number; a finding without room is only counted, so that the first ones, which explain the rest, stay. Those of a job are
forgotten with it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from privcmdd.service import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from privcmdd.model.findings import FindingKind, Found
    from privcmdd.service.session import Job, Session

    Params = dict[str, Any]

MOST_PER_JOB: Final = 256  # different findings: more of them would say nothing new
MOST_PER_UID: Final = 1_024  # of all jobs of a uid
MOST: Final = 4_096  # of all uids


@dataclass(frozen=True, slots=True)
class Culprit:
    """The client and the request that a finding is about.

    Attributes:
        uid: The client's uid: only that uid, and administrators, see the finding.
        job: The client's job; clients in other jobs do not see the finding.
        pid: The process, as the kernel named it, for people.
        client: The name that the process gave itself.
        connection: The connection's number.
        method: The method of the request.
        request: The request's number within its connection, from 1 on.
    """

    uid: int
    job: Job | None
    pid: int
    client: str
    connection: int
    method: str
    request: int


@dataclass(slots=True)
class Finding:
    """One finding, and how often it was made."""

    found: Found
    culprit: Culprit
    count: int = 1

    def row(self) -> Params:
        """The finding as ``findings.list`` answers it."""
        found, culprit = self.found, self.culprit
        return {
            "kind": found.kind,
            "count": self.count,
            "text": found.text,
            "dom": found.dom,
            "addr": found.addr,
            "uid": culprit.uid,
            "job": "" if culprit.job is None else culprit.job.name,
            "pid": culprit.pid,
            "client": culprit.client,
            "connection": culprit.connection,
            "method": culprit.method,
            "request": culprit.request,
        }


@dataclass(slots=True)
class Room:
    """The findings of a job, or those of a uid that belong to no job.

    Attributes:
        kept: Those that are kept.
        n_dropped: How many there was no room for.
    """

    kept: dict[tuple[Any, ...], Finding] = field(default_factory=dict)
    n_dropped: int = 0


class Findings:
    """All findings of a broker's run.

    Attributes:
        totals: How often each kind was found, kept or not.
        n_dropped: Findings that there was no room for.
    """

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        """Begin with no finding.

        Args:
            tell: Called with each finding that is new.
        """
        self.totals: Counter[FindingKind] = Counter()
        self.n_dropped = 0
        self._tell = tell
        self._rooms: dict[tuple[int, Job | None], Room] = {}

    def record(self, found: Found, culprit: Culprit) -> None:
        """Keep a finding, or count it."""
        self.totals[found.kind] += 1
        if culprit.job is not None and culprit.job.ended:
            self.n_dropped += 1  # nobody is left who could ask
            return
        room = self._rooms.setdefault((culprit.uid, culprit.job), Room())
        key = (found.kind, found.text, culprit.connection, culprit.method)
        there = room.kept.get(key)
        if there is not None:
            there.count += 1
        elif self._has_place(culprit.uid, room):
            room.kept[key] = finding = Finding(found, culprit)
            self._tell(finding)
        else:
            self.n_dropped += 1
            room.n_dropped += 1

    def seen_by(self, session: Session) -> Iterator[Finding]:
        """The findings that a client may see, in the order in which they were made, job by job."""
        for (uid, job), room in self._rooms.items():
            yield from (one for one in room.kept.values() if sees(session, uid, job, one.found.dom))

    def dropped_of(self, session: Session) -> int:
        """How many findings of those jobs and uids that a client sees there was no room for."""
        return sum(room.n_dropped for (uid, job), room in self._rooms.items() if jobs.sees(session, uid, job))

    def clear(self, session: Session) -> int:
        """Forget the findings that a client may see, and how many there was no room for.

        Returns:
            How many were forgotten.
        """
        n_cleared = 0
        for (uid, job), room in [*self._rooms.items()]:
            left = {key: one for key, one in room.kept.items() if not sees(session, uid, job, one.found.dom)}
            n_cleared += len(room.kept) - len(left)
            room.kept = left
            if session.restricted_to is None and jobs.sees(session, uid, job):
                room.n_dropped = 0
            if not left and not room.n_dropped:
                del self._rooms[uid, job]
        return n_cleared

    def end(self, job: Job) -> None:
        """Forget the findings of a job that has ended."""
        self._rooms.pop((job.uid, job), None)

    def _has_place(self, uid: int, room: Room) -> bool:
        if len(room.kept) >= MOST_PER_JOB:
            return False
        of_uid = sum(len(other.kept) for (whose, _), other in self._rooms.items() if whose == uid)
        return of_uid < MOST_PER_UID and sum(len(other.kept) for other in self._rooms.values()) < MOST


def sees(session: Session, uid: int, job: Job | None, dom: int | None) -> bool:
    """Whether a client may see a finding; after RESTRICT, only one about the domain that is left to it."""
    return jobs.sees(session, uid, job) and (session.restricted_to is None or session.restricted_to == dom)


def serving(session: Session, found: Found) -> Culprit:
    """The client that is being served and the request that the finding is about, by default its current one."""
    identity = session.identity
    method, number = found.request or (session.method, session.n_requests)
    return Culprit(identity.uid, session.job, identity.pid, session.client_name, session.number, method, number)
