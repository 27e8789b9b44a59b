# SPDX-License-Identifier: Apache-2.0
"""Holding all laws against the state after each request (``--paranoid``): who breaks one pays, and nobody else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from privcmdd.model.errors import InternalFault
    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session
    from privcmdd.wire.messages import BadRequest, Request

MOST_RECENT: Final = 128  # characters of a method's name or of an outcome that are remembered of a request


class Scrutiny:
    """What is known of broken laws.

    Attributes:
        broken: The laws that are broken, each with what it is broken for, and how often that was found again; only
            known when every request is checked.
    """

    def __init__(self, broker: Broker) -> None:
        self.broken: dict[tuple[str, str], int] = {}
        self._broker = broker

    def breaches(self) -> Iterator[InternalFault]:
        """Every law that is broken now, each with its first breach in a part of the state."""
        from privcmdd.model import invariants  # noqa: PLC0415 - as late as the machine itself

        broker = self._broker
        return invariants.breaches(broker.hypervisor, list(broker.spaces), broker.accounts())

    def look(self, session: Session, request: Request | BadRequest) -> None:
        """Hold all laws against what a request has left; it pays for those that it broke, and for no others.

        Raises:
            InternalFault: A law that held before.
        """
        raised = sys.exception()
        outcome = "done" if raised is None else f"{type(raised).__name__}: {raised}"
        session.recent.append((request.msgid, request.method[:MOST_RECENT], outcome[:MOST_RECENT]))
        before, self.broken = self.broken, {}
        fresh = None
        for breach in self.breaches():
            key = (breach.law, breach.subject)
            if key not in before:
                fresh = fresh or breach
            self.broken[key] = before.get(key, -1) + 1
        if fresh is not None:
            raise fresh
