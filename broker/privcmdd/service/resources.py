# SPDX-License-Identifier: Apache-2.0
"""Resources of a domain: mapping them, and the device model's requests that make some of them (DM_OP)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.privcmd.requests import Part
from privcmdd.service import detect
from privcmdd.service.hypercalls.dm_op import device_model
from privcmdd.service.methods.privcmd import authorise, placed
from privcmdd.wire.limits import DM_OP_BUFFERS, DM_OP_BYTES

if TYPE_CHECKING:
    from collections.abc import Generator

    from privcmdd.model.privcmd.requests import Batch
    from privcmdd.service.broker import Broker
    from privcmdd.service.processes import Residence
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]


def mmap_resource(broker: Broker, session: Session, params: Params) -> Steps:
    """``privcmd.mmap_resource``: map part of a resource, or say how large it is."""
    residence: Residence = broker.residence(session)
    domid, addr, num = params["dom"], params["addr"], params["num"]
    may_write = authorise(session, residence, domid, params["file"])
    if bool(addr) != bool(num):
        raise ModelError(
            errno.EINVAL,
            f"addr is {addr:#x} and num is {num}: both must be 0, to ask for the size, or neither",
            key="num" if addr else "addr",
        )
    if not addr:
        return {"num": broker.hypervisor.resource_size(domid, params["type"], params["id"])}
    wanted = Part(domid, params["type"], params["id"], params["idx"], num)

    def ready(done: Batch) -> Params:
        where = placed(broker, domid, done.mfns, done.protection) if params["extents"] else {}
        return {"num": num, **where}

    ticket = yield from residence.turnstile.enter()
    try:
        space = residence.space
        space.maker = (session.method, session.n_requests)
        result: Params = residence.personality.mmap_resource(space, wanted, addr, may_write=may_write, ready=ready)
    finally:
        residence.turnstile.leave(ticket)
    if residence.restrictions:
        detect.filled(broker, residence, domid, addr, params["file"])
    return result


def dm_op(broker: Broker, session: Session, params: Params) -> Params:
    """``privcmd.dm_op``: what the driver checks, then what Xen does."""
    residence: Residence = broker.residence(session)
    domid, asked = params["dom"], params["bufs"]
    may_write = authorise(session, residence, domid, params["file"])
    if not asked:
        return {"ret": 0, "bufs": []}
    if len(asked) > DM_OP_BUFFERS:
        raise ModelError(errno.E2BIG, f"{len(asked)} buffers, a DM_OP has at most {DM_OP_BUFFERS}", key="bufs")
    if (longest := max(map(len, asked))) > DM_OP_BYTES:
        raise ModelError(errno.E2BIG, f"a buffer of {longest} bytes, one has at most {DM_OP_BYTES}", key="bufs")
    if not may_write:
        raise ModelError(errno.EPERM, f"domain {domid} may only be mapped read-only, and a DM_OP changes it", dom=domid)
    op, *more = map(bytearray, asked)
    try:
        ret = device_model(broker, domid, op, more)
    except ModelError as refusal:
        ret = -refusal.errno
    return {"ret": ret, "bufs": [bytes(buffer) for buffer in (op, *more)]}


HANDLERS: Final = {"privcmd.mmap_resource": mmap_resource, "privcmd.dm_op": dm_op}
