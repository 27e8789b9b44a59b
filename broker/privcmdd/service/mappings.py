# SPDX-License-Identifier: Apache-2.0
"""Methods that act in an address space: system calls, privcmd's ioctls, bytes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model import access
from privcmdd.model.errors import ModelError
from privcmdd.model.frames import FEW
from privcmdd.model.ledger import Slot
from privcmdd.model.privcmd import MmapEntry, Stopped, with_nibbles
from privcmdd.model.units import DOMID_INVALID, INVALID_FRAME, PAGE_SHIFT, PROT_READ, PROT_WRITE
from privcmdd.service.steps import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.frames import Errors, Mfns, Names
    from privcmdd.model.ledger import Charge
    from privcmdd.model.privcmd import Batch
    from privcmdd.model.space import AddressSpace
    from privcmdd.model.vm_map import Entry
    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session
    from privcmdd.service.spaces import Residence
    from privcmdd.service.steps import Pause
    from privcmdd.wire.params import Frames

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]

ACCESS: Final = {"read": PROT_READ, "write": PROT_WRITE}


def system_call(call: Callable[[AddressSpace, Params], Params]) -> Callable[[Broker, Session, Params], Steps]:
    """A call that changes the map: it takes its turn in the address space."""

    def handler(broker: Broker, session: Session, params: Params) -> Steps:
        residence: Residence = broker.residence(session)
        ticket = yield from residence.turnstile.enter()
        try:
            return call(residence.space, params)
        finally:
            residence.turnstile.leave(ticket)

    return handler


def mmap(space: AddressSpace, params: Params) -> Params:
    """``mmap``: reserve a range."""
    addr, size, prot = params["addr"], params["len"], params["prot"]
    return {"addr": space.mmap(addr, size, prot, fixed=params["fixed"], file=params["file"])}


def munmap(space: AddressSpace, params: Params) -> Params:
    """``munmap``: remove what is in a range."""
    space.munmap(params["addr"], params["len"])
    return {}


def mprotect(space: AddressSpace, params: Params) -> Params:
    """``mprotect``: change a range's protection."""
    space.mprotect(params["addr"], params["len"], params["prot"])
    return {}


def in_turn(
    session: Session, residence: Residence, request: Generator[None, None, Batch]
) -> Generator[Pause, None, Batch]:
    """Take a map request to its end, alone in its address space. One that outlives a step counts as in flight."""
    turnstile = residence.turnstile
    ticket = turnstile.try_enter()
    in_flight: Charge | None = None
    try:
        if ticket is None:
            in_flight = session.account.charge(Slot.BATCHES, 1)
            ticket = yield from turnstile.enter()
        while True:
            try:
                next(request)
            except StopIteration as stop:
                done: Batch = stop.value
                return done
            in_flight = in_flight or session.account.charge(Slot.BATCHES, 1)
            yield CHECKPOINT
    finally:
        request.close()
        if ticket is not None:
            turnstile.leave(ticket)
        if in_flight is not None:
            in_flight.release()


def batch(
    broker: Broker, session: Session, params: Params, names: Names
) -> tuple[Residence, Generator[Pause, None, Batch]]:
    """Begin to map single frames over one range."""
    check_counts(broker, params["num"], len(names), "arr")
    domid = params["dom"]
    may_write = authorise(session, domid)
    residence: Residence = broker.residence(session)
    space = residence.space
    request = space.personality.mmapbatch(space, domid, params["addr"], names, may_write=may_write)
    return residence, in_turn(session, residence, request)


def mmapbatch(broker: Broker, session: Session, params: Params) -> Steps:
    """``privcmd.mmapbatch``: failures come back in the array."""
    names = named(params["arr"])
    residence, request = batch(broker, session, params, names)
    done = yield from request
    arr = None
    if done.errors is not None:
        nibble = residence.space.personality.paged_nibble
        arr = frames_like(params["arr"], with_nibbles(names, done.errors, nibble))
    return answer(broker, params, done, {"ret": done.ret, "n_failed": done.n_failed, "arr": arr})


def mmapbatch_v2(broker: Broker, session: Session, params: Params) -> Steps:
    """``privcmd.mmapbatch_v2``: failures come back beside the array."""
    arr: Frames = params["arr"]
    _, request = batch(broker, session, params, named(arr))
    done = yield from request
    err = errors_like(arr, done.errors)
    return answer(broker, params, done, {"ret": done.ret, "n_failed": done.n_failed, "err": err})


def mmap_entries(broker: Broker, session: Session, params: Params) -> Steps:
    """``privcmd.mmap``: several ranges, in order, until one is bad."""
    entries = [MmapEntry(row["va"], row["mfn"], row["npages"]) for row in params["entry"]]
    check_counts(broker, params["num"], len(entries), "entry")
    check_counts(broker, None, sum(entry.npages for entry in entries), "npages")
    may_write = authorise(session, params["dom"])
    residence: Residence = broker.residence(session)
    space = residence.space
    request = space.personality.mmap(space, params["dom"], entries, may_write=may_write)
    try:
        done = yield from in_turn(session, residence, request)
    except Stopped as stopped:
        if params["extents"]:
            stopped.details["extents"] = extents(broker, stopped.mfns)
        raise
    return answer(broker, params, done, {"ret": done.ret, "done": len(entries)})


def restrict(_broker: Broker, session: Session, params: Params) -> Params:
    """``privcmd.restrict``: the first names the domain, later ones must name the same."""
    asked = params["dom"]
    if session.restricted_to is None:
        session.restricted_to = None if asked == DOMID_INVALID else asked
    elif session.restricted_to != asked:
        raise ModelError(
            errno.EINVAL,
            f"dom is {asked}, and this connection is restricted to domain {session.restricted_to}",
            key="dom",
            restricted_to=session.restricted_to,
        )
    return {}


def read(broker: Broker, session: Session, params: Params) -> Params:
    """``read``: bytes of a range, all of them or none."""
    segments = access.resolve(broker.residence(session).space, params["addr"], params["len"], PROT_READ)
    return {"data": b"".join(broker.backing.read(s.domid, s.page, s.offset, s.size) for s in segments)}


def write(broker: Broker, session: Session, params: Params) -> Params:
    """``write``: bytes of a range, all of them or none."""
    data = memoryview(params["data"])
    at = 0
    for segment in access.resolve(broker.residence(session).space, params["addr"], len(data), PROT_WRITE):
        broker.backing.write(segment.domid, segment.page, segment.offset, data[at : at + segment.size])
        at += segment.size
    return {"n": at}


def fault(broker: Broker, session: Session, params: Params) -> Params:
    """``fault``: touch a page."""
    touch = access.touch(broker.residence(session).space, params["addr"], ACCESS[params["access"]])
    return {"dom": touch.domid, "frame": touch.name, "entered": touch.entered}


def maps(broker: Broker, session: Session, _: Params) -> Params:
    """``maps``: the entries of the space."""
    space: AddressSpace = broker.residence(session).space
    return {"entries": [row(space, entry) for entry in space.map]}


def row(space: AddressSpace, entry: Entry) -> Params:
    """An entry as ``maps`` shows it."""
    present = space.pmap.count(entry.page, entry.n_pages)
    failed = entry.n_pages - present if entry.used else 0
    if entry.object is not None:
        names = entry.object.names[entry.offset : entry.offset + entry.n_pages]
        failed = names.count(INVALID_FRAME) if isinstance(names, list) else int((names == INVALID_FRAME).sum())
    return {
        "start": entry.start,
        "end": entry.end,
        "prot": entry.protection,
        "max_prot": entry.max_protection,
        "inherit": entry.inherit,
        "file": entry.file,
        "object": None if entry.object is None else entry.object.number,
        "dom": entry.domid if entry.object is None else entry.object.domid,
        "offset": entry.offset << PAGE_SHIFT,
        "wired": int(entry.wired),
        "present": present,
        "failed": failed,
    }


def authorise(session: Session, domid: int) -> bool:
    """Whether a client may map a domain at all.

    Returns:
        Whether it may map it writable too.

    Raises:
        ModelError: EPERM.
    """
    if session.restricted_to is None and session.access.allows("write", domid):
        return True
    session.check("read", domid)
    return session.access.allows("write", domid)


def check_counts(broker: Broker, num: int | None, n: int, key: str) -> None:
    """Hold a list against its count and the batch limit.

    Raises:
        ModelError: EINVAL, ``num`` is not what came; E2BIG.
    """
    if num is not None and num != n:
        raise ModelError(
            errno.EINVAL, f"num is {num}, and {key} holds {n}; leave num out or make them equal", key="num"
        )
    most = broker.settings.limits.frames_per_batch
    if n > most:
        raise ModelError(
            errno.E2BIG,
            f"{n} frames are asked for, a request may have {most} (limits.frames_per_batch); ask in parts",
            key=key,
            limit=most,
        )


def named(frames: Frames) -> Names:
    """Frame numbers in the form that the model is fastest with."""
    if len(frames.data) <= 8 * FEW:
        return memoryview(frames.data).cast("Q").tolist()
    return np.frombuffer(frames.data, dtype="<u8")


def frames_like(asked: Frames, names: Names) -> bytes | list[int]:
    """Frame numbers in the form of the question."""
    numbers = np.asarray(names, dtype="<u8")
    return numbers.tolist() if asked.listed else numbers.tobytes()


def errors_like(asked: Frames, errors: Errors | None) -> bytes | list[int] | None:
    """Errnos in the form of the question; nil when all is good."""
    if errors is None:
        return None
    numbers = np.asarray(errors, dtype="<i4")
    return numbers.tolist() if asked.listed else numbers.tobytes()


def extents(broker: Broker, mfns: Mfns) -> bytes:
    """Where frames lie in their memory file, as it travels."""
    return broker.hypervisor.extents(mfns).astype("<u4", copy=False).tobytes()


def answer(broker: Broker, params: Params, done: Batch, result: Params) -> Params:
    """Add the extents when they are asked for."""
    if params["extents"]:
        result["extents"] = extents(broker, done.mfns)
    return result


HANDLERS: Final = {
    "mmap": system_call(mmap),
    "munmap": system_call(munmap),
    "mprotect": system_call(mprotect),
    "read": read,
    "write": write,
    "fault": fault,
    "maps": maps,
    "privcmd.mmap": mmap_entries,
    "privcmd.mmapbatch": mmapbatch,
    "privcmd.mmapbatch_v2": mmapbatch_v2,
    "privcmd.restrict": restrict,
}
