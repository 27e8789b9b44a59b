# SPDX-License-Identifier: Apache-2.0
"""Checks all laws after each request (``--paranoid``), and ends the connection whose request broke one."""

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

MOST_RECENT: Final = 32  # requests of a connection that are kept
MOST_CHARACTERS: Final = 128  # of a request's method, and of its outcome


def breaches(world: World) -> Iterator[LawBroken]:
    """The laws that are broken now, each with the first breach in each part of the state."""
    return invariants.breaches(world.machine, list(world.spaces), world.accounts_below())


def look(world: World, session: Session, request: Request | BadRequest) -> None:
    """Check all laws after a request.

    Raises:
        LawBroken: A law that held before this request; one that an earlier request broke is only counted again.
    """
    raised = sys.exception()
    outcome = "done" if raised is None else f"{type(raised).__name__}: {raised}"
    session.recent.append((request.msgid, request.method[:MOST_CHARACTERS], outcome[:MOST_CHARACTERS]))
    del session.recent[:-MOST_RECENT]
    before, world.broken = world.broken, {}
    fresh = None
    for breach in breaches(world):
        key = (breach.law, breach.subject)
        if key not in before:
            fresh = fresh or breach
        world.broken[key] = before.get(key, -1) + 1
    if fresh is not None:
        raise fresh
