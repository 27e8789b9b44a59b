# SPDX-License-Identifier: Apache-2.0
"""/dev/xen/gntdev: mapping what guests grant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model import grants
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.privcmd import answer, authorise, check_counts

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.privcmd import Batch
    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session
    from privcmdd.service.spaces import Residence
    from privcmdd.service.steps import Pause

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]


def map_grants(broker: Broker, session: Session, params: Params) -> Steps:
    """``gntdev.map``: map grants of one domain, all or none."""
    residence: Residence = broker.residence(session)
    domid = params["dom"]
    may_write = authorise(session, residence, domid, 0)
    refs = np.frombuffer(params["arr"].data, dtype="<u8").tolist()
    check_counts(broker, None, len(refs), "arr")

    def read(at: int, size: int) -> bytes:
        return broker.backing.read(domid, at // PAGE_SIZE, at % PAGE_SIZE, size)

    def ready(done: Batch) -> Params:
        return answer(broker, residence, params, done, {"num": len(refs)})

    ticket = yield from residence.turnstile.enter()
    try:
        residence.space.maker = (session.method, session.n_requests)
        space, addr = residence.space, params["addr"]
        done: Params = grants.map_grants(space, domid, addr, refs, read, may_write=may_write, ready=ready)
        return done
    finally:
        residence.turnstile.leave(ticket)


HANDLERS: Final = {"gntdev.map": map_grants}
