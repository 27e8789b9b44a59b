# SPDX-License-Identifier: Apache-2.0
"""A new domain, its memory file and its lease, made together; and the end of a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle
from privcmdd.service.leases import RETRY_S, Lease, Until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from privcmdd.model.machine.domain import Domain, DomainKind
    from privcmdd.model.machine.records import GrantTable, Traits
    from privcmdd.service.session import Session
    from privcmdd.service.world import World

NOT_MADE: Final = -1
"""The generation of a domain that is not there yet."""


def make_domain(
    world: World,
    session: Session,
    kind: DomainKind,
    max_pages: int,
    ranges: Iterable[tuple[int, int]] | None,
    wanted: int | None,
    name: str,
    *,
    n_spill: int | None = None,
    traits: Traits | None = None,
    grants: GrantTable | None = None,
    until: Until | None = None,
    ttl_s: int | None = None,
) -> Domain:
    """Make a domain. Its memory file is made first, because the host may refuse it.

    Args:
        world: The state.
        session: The client that makes it.
        kind: Passed to ``lifecycle.create``, as are all that follow.
        max_pages: Its maximum reservation.
        ranges: First gfn and number of pages of each range to populate; None: all of ``max_pages``, from gfn 0 on.
        wanted: Its domid; None: the next free one.
        name: For people.
        n_spill: Pages of the file for frames that do not lie at the page of their number; None: ``max_pages``.
        traits: What the toolstack says about it.
        grants: Its grant table.
        until: What it is destroyed with; None: with the client's job, or if it has none by a request only.
        ttl_s: After how many seconds it is destroyed in any case.

    Returns:
        The domain.

    Raises:
        ModelError: As ``lifecycle.create``; ENOMEM, the host refuses the file.
    """
    machine, backing = world.machine, world.backing
    domid = lifecycle.free_domid(machine, wanted)
    lease = lease_of(domid, session, world.now())
    if until is not None:
        lease.until = until
    if ttl_s is not None:
        lease.expires_s = lease.since_s + ttl_s
    backing.create(domid, lifecycle.file_pages(machine, max_pages, n_spill))
    try:
        world.leases.enter(lease)  # before the domain is there: nothing may fail when it is
        domain = lifecycle.create(
            machine, kind, max_pages, ranges, domid, name, n_spill=n_spill, traits=traits, grants=grants
        )
    except BaseException:
        world.leases.forget(domid)
        backing.close(domid)
        raise
    lease.generation = domain.generation
    return domain


def lease_of(domid: int, session: Session, now_s: float) -> Lease:
    """The lease of a domain that a client's current request makes: it ends with a job that does not keep it."""
    identity = session.identity
    return Lease(
        domid,
        NOT_MADE,
        identity.uid,
        identity.pid,
        session.client_name,
        session.number,
        session.method,
        session.n_requests,
        session.job,
        now_s,
        Until.DESTROYED if session.job is None or session.job.keeps else Until.JOB,
    )


def end_leases(world: World) -> None:
    """Destroy the domains whose lease is over. What cannot be kept is tried again later."""
    due = world.leases.take_due(world.now())
    if not due:
        return
    for lease in due:
        domain = world.machine.domains.get(lease.domid)
        if domain is not None and domain.generation == lease.generation:
            lifecycle.destroy(world.machine, lease.domid)
        if lease.job is not None and not lease.job.sessions and not lease.job.ended:
            world.end_job(lease.job)  # nobody has come back
    try:
        world.keep()
    except ModelError:
        world.leases.end(due.__contains__, world.now() + RETRY_S)
