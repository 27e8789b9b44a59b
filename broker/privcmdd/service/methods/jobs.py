# SPDX-License-Identifier: Apache-2.0
"""Methods about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.service.jobs import sees
from privcmdd.service.leases import Until

if TYPE_CHECKING:
    from privcmdd.service.session import Job, Session
    from privcmdd.service.world import World

    Params = dict[str, Any]


def listed(world: World, session: Session, _: Params) -> Params:
    """``job.list``: the jobs that the client may see."""
    return {"jobs": [row(world, job) for job in world.jobs if sees(session, job.uid, job)]}


def row(world: World, job: Job) -> Params:
    """A job as ``job.list`` answers it."""
    return {
        "uid": job.uid,
        "job": job.name,
        "pid": job.pid,
        "client": job.client,
        "age_s": int(world.now() - job.since_s),
        "connections": len(job.sessions),
        "requests": job.n_requests + sum(world.sessions[number].n_requests for number in job.sessions),
        "doms": sorted(lease.domid for lease in world.leases if lease.job is job),
    }


def leave(world: World, session: Session) -> None:
    """Take a connection that ends out of its job, and have the leases be over that end with it, or with the job."""
    ended = world.jobs.leave(session)
    world.leases.end(
        lambda lease: (
            (lease.until is Until.CONNECTION and lease.connection == session.number)
            or (lease.until is Until.JOB and ended is not None and lease.job is ended)
        ),
        world.now(),
    )
    if ended is not None:
        world.findings.end(ended)
        if world.injections is not None:
            world.injections.end(ended)


HANDLERS: Final = {"job.list": listed}
