# SPDX-License-Identifier: Apache-2.0
"""Jobs: connections of one uid that belong together, as the processes of one CI job do.

A connection joins a job by its name in ``hello``, which makes the job if there is none of that name. Names are a uid's
own: two uids may have jobs of one name, which have nothing in common. A job ends with its last connection, or with the
one that leads it, as a session of a terminal does, and what was made for it ends with the job.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from privcmdd.model.errors import ModelError
from privcmdd.service.session import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmdd.service.session import Session


class Jobs:
    """All jobs."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[int, str], Job] = {}

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def join(self, session: Session, name: str, now_s: float, *, leads: bool, keep: bool = False) -> None:
        """Have a connection belong to the job of its uid that has this name.

        Args:
            session: The connection.
            name: The job's name.
            now_s: The time.
            leads: Whether the job, if it is made now, ends with this connection.
            keep: Whether domains that are made in it, if it is made now, stay when it ends.

        Raises:
            ModelError: EBUSY, it belongs to another job.
        """
        if session.job is not None:
            if session.job.name == name:
                return
            raise ModelError(
                errno.EBUSY, f"this connection belongs to job {session.job.name!r}, asked for {name!r}", key="job"
            )
        uid = session.identity.uid
        job = self._jobs.get((uid, name))
        if job is None:
            job = Job(uid, name, session.identity.pid, session.client_name, now_s)
            job.leader = session.number if leads else None
            job.keeps = keep
            self._jobs[uid, name] = job
        job.sessions.add(session.number)
        session.job = job

    def restored(self, uid: int, name: str, pid: int, client: str, since_s: float) -> Job:
        """The job of a uid that has this name, made without a connection if there is none."""
        return self._jobs.setdefault((uid, name), Job(uid, name, pid, client, since_s))

    def end(self, job: Job) -> None:
        """End a job; its connections belong to it until they end."""
        job.ended = True
        if self._jobs.get((job.uid, job.name)) is job:
            del self._jobs[job.uid, job.name]

    def leave(self, session: Session) -> Job | None:
        """Take a connection that ends out of its job. Returns the job if it ends with it."""
        job = session.job
        if job is None:
            return None
        job.sessions.discard(session.number)
        job.n_requests += session.n_requests
        return None if (job.sessions and job.leader != session.number) or job.ended else job


def sees(session: Session, uid: int, job: Job | None) -> bool:
    """Whether a client may see what belongs to a uid, and to a job of it.

    Who belongs to a job sees that job alone; others see their uid, and who may administer all domains sees all.
    """
    if session.job is not None:
        return session.job is job
    return session.identity.uid == uid or session.access.allows("admin", None)
