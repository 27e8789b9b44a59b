# SPDX-License-Identifier: Apache-2.0
"""Holding all laws against the state after each request (``--paranoid``): the client that breaks a law is cut off."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from privcmdd.model import invariants

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmdd.model.errors import LawBroken
    from privcmdd.service.session import Session
    from privcmdd.service.world import World
    from privcmdd.wire.messages import BadRequest, Request

MOST_RECENT: Final = 128  # characters of a method's name or of an outcome that are remembered of a request


def breaches(world: World) -> Iterator[LawBroken]:
    """Every law that is broken now, each with its first breach in a part of the state."""
    return invariants.breaches(world.machine, list(world.spaces), world.accounts_below())


def look(world: World, session: Session, request: Request | BadRequest) -> None:
    """Hold all laws against what a request has left.

    Raises:
        LawBroken: A law that held before; one that an earlier request broke is only counted again.
    """
    raised = sys.exception()
    outcome = "done" if raised is None else f"{type(raised).__name__}: {raised}"
    session.recent.append((request.msgid, request.method[:MOST_RECENT], outcome[:MOST_RECENT]))
    before, world.broken = world.broken, {}
    fresh = None
    for breach in breaches(world):
        key = (breach.law, breach.subject)
        if key not in before:
            fresh = fresh or breach
        world.broken[key] = before.get(key, -1) + 1
    if fresh is not None:
        raise fresh
