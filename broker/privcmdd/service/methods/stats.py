# SPDX-License-Identifier: Apache-2.0
"""The method that answers all counters."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from privcmdd import __version__

if TYPE_CHECKING:
    from privcmdd.model.mm.uobject import ObjectCounters
    from privcmdd.service.session import Residence, Session
    from privcmdd.service.world import World

    Params = dict[str, Any]


def stats(world: World, session: Session, _params: Params) -> Params:
    """``stats``: the broker's counters, those of the caller's connection, and of its space if it has one."""
    result = counters(world)
    result["connection"] = {
        "requests": session.n_requests,
        "ignored_notifications": session.n_ignored,
        "dropped_notifications": session.n_dropped,
    }
    if session.residence is not None:
        result["space"] = space_counters(session.residence)
    return result


def counters(world: World) -> Params:
    """All counters of the broker."""
    machine = world.machine
    done = Counter(world.spaces.closed_counters)
    spaces = list(world.spaces)
    for space in spaces:
        done.update(space.counters.as_dict())
    frames = machine.frames
    return {
        "broker": {
            "instance": world.instance,
            "version": __version__,
            "connections": len(world.sessions),
            "requests": world.n_requests,
            "refused": world.n_refused,
            "faults": world.n_incidents,
            "broken": {f"{law}: {subject}": n_again for (law, subject), n_again in world.broken.items()},
            "unanswered": dict(world.unanswered),
            "findings": {kind.value: n for kind, n in world.findings.totals.items()},
            "findings_dropped": world.findings.n_dropped,
        },
        "machine": {
            "frames": frames.n_frames,
            "free_frames": frames.n_free,
            "domains": len(machine.domains),
            "dying_domains": sum(not domain.alive for domain in machine.domains.values()),
        },
        "objects": object_counters(world.spaces.objects),
        "mappings": {
            "spaces": len(spaces),
            "entries": sum(len(space.map) for space in spaces),
            "frames": sum(space.pmap.n_present for space in spaces),
            "ptps": sum(space.pmap.n_ptps for space in spaces),
            "wired_pages": sum(space.n_wired for space in spaces),
        },
        "done": dict(done),
        "injected": {} if world.injections is None else world.injections.statistics(),
        "uids": world.usage(),
        "holds": world.holds.told(),
    }


def space_counters(residence: Residence) -> Params:
    """The counters of one address space."""
    space = residence.space
    return {
        "space": space.number,
        "threads": len(residence.threads),
        "waiting": residence.turnstile.n_waiting,
        "objects": object_counters(space.objects),
        "entries": len(space.map),
        "frames": space.pmap.n_present,
        "ptps": space.pmap.n_ptps,
        "wired_pages": space.n_wired,
        "done": space.counters.as_dict(),
    }


def object_counters(objects: ObjectCounters) -> Params:
    """The numbers of uvm objects: alive, at most alive, made and freed."""
    return {"alive": objects.alive, "peak": objects.peak, "made": objects.made, "freed": objects.freed}


HANDLERS: Final = {"stats": stats}
