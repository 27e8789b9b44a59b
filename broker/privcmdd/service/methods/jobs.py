# SPDX-License-Identifier: Apache-2.0
"""Methods about jobs."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.domain_files import end_leases
from privcmdd.service.jobs import sees
from privcmdd.service.leases import Until

if TYPE_CHECKING:
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.service.session import Job, Session
    from privcmdd.service.world import World

    Params = dict[str, Any]


def listed(world: World, session: Session, _: Params) -> Params:
    """``job.list``: the jobs that the client may see."""
    doms: dict[Job | None, list[int]] = {}
    for lease in world.leases:
        doms.setdefault(lease.job, []).append(lease.domid)
    spaces: dict[Job | None, list[AddressSpace]] = {}
    for residence in world.spaces.residences():
        spaces.setdefault(residence.job, []).append(residence.space)
    return {
        "jobs": [
            row(world, job, doms.get(job, []), spaces.get(job, [])) for job in world.jobs if sees(session, job.uid, job)
        ]
    }


def row(world: World, job: Job, doms: list[int], spaces: list[AddressSpace]) -> Params:
    """A job as ``job.list`` answers it."""
    return {
        "uid": job.uid,
        "job": job.name,
        "pid": job.pid,
        "client": job.client,
        "age_s": int(world.now() - job.since_s),
        "connections": len(job.sessions),
        "requests": job.n_requests + sum(world.sessions[number].n_requests for number in job.sessions),
        "spaces": len(spaces),
        "frames": sum(space.pmap.n_present for space in spaces),
        "doms": sorted(doms),
    }


def evict(world: World, session: Session, params: Params) -> Params:
    """``evict``: end a connection, a job, or all that a uid has connected, and what was made for it."""
    number, name = params["connection"], params["job"]
    uid = session.identity.uid if params["uid"] is None else params["uid"]
    if (number is None and name is None and params["uid"] is None) or (
        number is not None and (name is not None or params["uid"] is not None)
    ):
        raise ModelError(errno.EINVAL, "expected a connection, or a job, or a uid, or a job and the uid that has it")
    if number is not None:
        sessions, jobs = [one for one in world.sessions.values() if one.number == number], []
        if not sessions:
            raise ModelError(errno.ESRCH, f"there is no connection {number}", key="connection")
        check_may_end(session, sessions[0].identity.uid, sessions[0].job)
    else:
        jobs = [job for job in world.jobs if job.uid == uid and name in (None, job.name)]
        check_may_end(session, uid, jobs[0] if name is not None and jobs else None)
        if name is not None and not jobs:
            raise ModelError(errno.ESRCH, f"uid {uid} has no job {name!r}; job.list shows those there are", key="job")
        of_uid = [one for one in world.sessions.values() if one.identity.uid == uid]
        sessions = of_uid if name is None else [one for one in of_uid if one.job in jobs]
    evicted = [one for one in sessions if one is not session]
    for one in evicted:
        world.hang_up(one, f"process {session.identity.pid} of uid {session.identity.uid} has evicted it")
    doms = [lease.domid for lease in world.leases if lease.job in jobs and lease.until is Until.JOB]
    for job in jobs:
        world.end_job(job)
    end_leases(world)
    return {"connections": len(evicted), "jobs": len(jobs), "doms": sorted(doms)}


def check_may_end(session: Session, uid: int, job: Job | None) -> None:
    """Check that a client may end what belongs to a uid, and to a job of it.

    Raises:
        ModelError: EPERM.
    """
    if uid != session.identity.uid or session.restricted_to is not None:
        session.check("admin", None)
    if session.job is not None and job is not session.job:
        raise ModelError(
            errno.EPERM, f"this connection belongs to job {session.job.name!r}, and may end what belongs to that alone"
        )


HANDLERS: Final = {"job.list": listed, "evict": evict}
