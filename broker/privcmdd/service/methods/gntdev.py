# SPDX-License-Identifier: Apache-2.0
"""/dev/xen/gntdev: mapping the pages that guests grant, and copying from and to them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.grants import copy as grant_copy
from privcmdd.model.grants.copy import DEST_GREF, SOURCE_GREF, Segment, check
from privcmdd.model.privcmd import gntdev
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.methods.privcmd import answer, check_counts, first_of
from privcmdd.service.session import authorise

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.privcmd.requests import Batch
    from privcmdd.service.backing import Backing
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import World

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]

CLEAR_BYTE: Final = 1  # UNMAP_NOTIFY_*
SEND_EVENT: Final = 2


def map_grants(world: World, session: Session, params: Params) -> Steps:
    """``gntdev.map``: map grants of one domain, all of them or none."""
    residence = world.residence(session)
    domid = params["dom"]
    may_write = authorise(session, residence, domid, 0)
    refs = np.frombuffer(params["arr"].data, dtype="<u8").tolist()
    check_counts(world.settings.limits, None, len(refs), "arr")

    def read(at: int, size: int) -> bytes:
        return world.backing.read(domid, at // PAGE_SIZE, at % PAGE_SIZE, size)

    def ready(done: Batch) -> Params:
        return answer(world, residence, params, done, {"num": len(refs)})

    ticket = yield from residence.turnstile.enter()
    try:
        residence.space.serve(session.method, session.n_requests)
        space, addr = residence.space, params["addr"]
        done: Params = gntdev.map_grants(space, domid, addr, refs, read, may_write=may_write, ready=ready)
        return done
    finally:
        residence.turnstile.leave(ticket)


class GuestMemory:
    """The memory files of domains, as ``grants.copy`` wants them."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing

    def read(self, domid: int, at: int, size: int) -> bytes:
        """Read bytes of a domain's file."""
        return self._backing.read(domid, at // PAGE_SIZE, at % PAGE_SIZE, size)

    def write(self, domid: int, at: int, data: bytes) -> None:
        """Write bytes of a domain's file."""
        self._backing.write(domid, at // PAGE_SIZE, at % PAGE_SIZE, data)


def copy(world: World, session: Session, params: Params) -> Params:
    """``gntdev.copy``: copy each segment; the answer has a status for each."""
    residence = world.residence(session)
    segments = [Segment(**row) for row in params["segments"]]
    for segment in segments:
        if segment.flags & SOURCE_GREF:
            authorise(session, residence, segment.source_dom, 0)
        if segment.flags & DEST_GREF and not authorise(session, residence, segment.dest_dom, 0):
            raise ModelError(
                errno.EPERM,
                f"domain {segment.dest_dom} may only be mapped read-only, and copying to it changes it",
                dom=segment.dest_dom,
            )
    check(segments)
    given = params["data"] or b""
    n_given = sum(segment.len for segment in segments if not segment.flags & SOURCE_GREF)
    if n_given != len(given):
        raise ModelError(errno.EINVAL, f"data has {len(given)} bytes, the segments take {n_given}", key="data")
    memory, at, statuses, taken = GuestMemory(world.backing), 0, [0] * len(segments), []
    refusals: list[str] = []
    for index, segment in enumerate(segments):
        own = b"" if segment.flags & SOURCE_GREF else given[at : at + segment.len]
        at += len(own)
        data = b""
        try:
            data = grant_copy.copy(world.machine, segment, own, memory)
        except ModelError as refusal:
            statuses[index] = refusal.details["status"]
            refusals.append(f"segments[{index}]: {refusal.text}")
        if not segment.flags & DEST_GREF:
            taken.append(data.ljust(segment.len, b"\0"))
    return {"status": statuses, "data": b"".join(taken), **first_of(refusals)}


def notify(world: World, session: Session, params: Params) -> Params:
    """``gntdev.notify``: what happens when a page is unmapped: a byte is cleared, an event is raised."""
    event = event_of(world, session, params)
    residence = world.residence(session)
    gntdev.notify(residence.space, params["addr"], event, clear=bool(params["action"] & CLEAR_BYTE))
    return {}


def event_of(world: World, session: Session, params: Params) -> tuple[int, int] | None:
    """The event that a notice is to raise, as its channel and side; None when it is to raise none.

    Raises:
        ModelError: EINVAL, there is no such action, or no such port.
    """
    action = params["action"]
    if action & ~(CLEAR_BYTE | SEND_EVENT):
        raise ModelError(errno.EINVAL, f"action is {action:#x}, expected a sum of 1 and 2", key="action")
    if not action & SEND_EVENT:
        return None
    uid, number = session.identity.uid, params["port"]
    if not any(number in other.ports for other in world.sessions.values() if other.identity.uid == uid):
        raise ModelError(errno.EINVAL, f"port {number} is none of this uid's", key="port")
    port = world.machine.events.port(0, number)
    return port.channel, 1 - port.side


HANDLERS: Final = {"gntdev.map": map_grants, "gntdev.copy": copy, "gntdev.notify": notify}
