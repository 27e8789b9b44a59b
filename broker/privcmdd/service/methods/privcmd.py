# SPDX-License-Identifier: Apache-2.0
"""privcmd's ioctls.

Checks come in the order in which the Linux driver makes them (docs/explanation/facts/recorded-host.md,
section 3), whatever the personality: where two things are wrong at once, the caller gets the same error.

Hypercalls are imported when the first is made: a program that maps memory and no more does not wait for them.
"""

from __future__ import annotations

import errno
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model import invariants
from privcmdd.model.errors import ModelError, Unanswered
from privcmdd.model.ledger import Slot
from privcmdd.model.machine import resources
from privcmdd.model.machine.frames import FEW, NO_FRAME
from privcmdd.model.privcmd.requests import MmapEntry, Part, Stopped, with_nibbles
from privcmdd.model.units import DOMID_FIRST_RESERVED, DOMID_INVALID
from privcmdd.service import detect
from privcmdd.service.machine_files import OWNERS, file_of, prepare
from privcmdd.service.session import authorise, check_file
from privcmdd.service.steps import CHECKPOINT
from privcmdd.wire.limits import DM_OP_BUFFERS, DM_OP_BYTES, HYPERCALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.ledger import Charge
    from privcmdd.model.machine.frames import Errors, Gmfns, Mfns
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.privcmd.requests import Batch
    from privcmdd.service.session import Residence, Session
    from privcmdd.service.settings import Limits
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import World
    from privcmdd.wire.params import Frames

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]

ARGUMENTS: Final = struct.Struct("<5Q")


def in_turn(session: Session, residence: Residence, request: Generator[None, None, Any]) -> Generator[Pause, None, Any]:
    """Run a map request, alone in its address space. One that takes more than a step is charged as in flight."""
    turnstile = residence.turnstile
    ticket = turnstile.try_enter()
    in_flight: Charge | None = None
    try:
        if ticket is None:
            in_flight = session.account.charge(Slot.BATCHES, 1)
            ticket = yield from turnstile.enter()
        residence.space.serve(session.method, session.n_requests)
        while True:
            try:
                next(request)
            except StopIteration as stop:
                return stop.value
            if in_flight is None:
                try:
                    in_flight = session.account.charge(Slot.BATCHES, 1)
                except ModelError as refusal:
                    request.throw(refusal)  # it ends as over any other quota: MMAP answers what stays mapped
            yield CHECKPOINT
    finally:
        request.close()
        if ticket is not None:
            turnstile.leave(ticket)
        if in_flight is not None:
            in_flight.release()


def batch(
    world: World, session: Session, params: Params, ready: Callable[[Residence, Gmfns, Batch], Params]
) -> tuple[Residence, Gmfns, Generator[None, None, Params]]:
    """Begin to map single frames over one range: all checks that come before the caller's array of errors is cleared.

    Args:
        world: The state.
        session: The session that asks.
        params: The parameters of the request.
        ready: Makes the answer, after all that can fail and before the change itself.

    Returns:
        The address space, the gmfns asked for, and the request, which is still to be run.

    Raises:
        ModelError: EPERM, restricted or no right; EINVAL, no frames; EFAULT, the array cannot be read; E2BIG.
    """
    domid, asked = params["dom"], params["arr"]
    residence = session.residence or world.residence(session)
    may_write = authorise(session, residence, domid, params["file"])
    if asked is None:
        if params["num"] == 0:
            raise ModelError(errno.EINVAL, "num is 0, expected at least one frame", key="num")
        raise ModelError(errno.EFAULT, "arr is nil: the caller's array cannot be read", key="arr")
    gmfns = gmfns_of(asked)
    check_counts(world.settings.limits, params["num"], len(gmfns), "arr")
    if domid >= DOMID_FIRST_RESERVED:
        file_of(world, domid)  # made before anything is mapped: the host may refuse it
    space = residence.space
    answered = partial(ready, residence, gmfns)
    if world.settings.paranoid:
        answered = partial(lawful, answered, len(gmfns))
    request = residence.personality.mmapbatch(space, domid, params["addr"], gmfns, may_write=may_write, ready=answered)
    return residence, gmfns, request


def lawful(answered: Callable[[Batch], Params], n_asked: int, done: Batch) -> Params:
    """The answer, after a check that its frames and errors keep law 6; nothing is mapped yet."""
    invariants.errors_are_in_order(done, n_asked)
    return answered(done)


def mmapbatch(world: World, session: Session, params: Params) -> Steps:
    """``privcmd.mmapbatch``: map frames; failures are marked in the array of gmfns."""
    hidden: list[Callable[[], None]] = []

    def ready(residence: Residence, gmfns: Gmfns, done: Batch) -> Params:
        arr = None
        if done.errors is not None:
            marked = with_nibbles(gmfns, done.errors, residence.personality.paged_nibble)
            hidden.append(partial(detect.errors_hidden, world.machine, params, gmfns, marked, done.errors))
            arr = frames_like(params["arr"], marked)
        return answer(world, residence, params, done, {"ret": done.ret, "n_failed": done.n_failed, "arr": arr})

    residence, _, request = batch(world, session, params, ready)
    result: Params = yield from in_turn(session, residence, request)
    for tell in hidden:
        tell()
    if residence.restrictions:
        detect.filled(residence, params["dom"], params["addr"], params["file"])
    return result


def mmapbatch_v2(world: World, session: Session, params: Params) -> Steps:
    """``privcmd.mmapbatch_v2``: map frames; the answer has an array of errors."""

    def ready(residence: Residence, _: Gmfns, done: Batch) -> Params:
        err = errors_like(params["arr"], done.errors)
        return answer(world, residence, params, done, {"ret": done.ret, "n_failed": done.n_failed, "err": err})

    residence, gmfns, request = batch(world, session, params, ready)
    if not params["err_ok"] and len(gmfns):
        raise ModelError(errno.EFAULT, "err_ok is false: the caller's array of errors cannot be written", key="err_ok")
    try:
        result: Params = yield from in_turn(session, residence, request)
    except ModelError as error:
        error.details["cleared"] = len(gmfns) > 0
        raise
    if residence.restrictions:
        detect.filled(residence, params["dom"], params["addr"], params["file"])
    return result


def mmap_entries(world: World, session: Session, params: Params) -> Steps:
    """``privcmd.mmap``: map several ranges, in order, until one cannot be mapped."""
    residence = world.residence(session)
    residence.personality.check_mmap()
    entries = [MmapEntry(row["va"], row["mfn"], row["npages"]) for row in params["entry"]]
    may_write = authorise(session, residence, params["dom"], params["file"])
    check_counts(world.settings.limits, params["num"], len(entries), "entry")
    if params["dom"] >= DOMID_FIRST_RESERVED:
        file_of(world, params["dom"])

    def request() -> Generator[None, None, Batch]:
        # Looked at in turn: another thread may make the mapping larger meanwhile.
        reach = residence.personality.reach_of_mmap(residence.space, entries)
        if reach > world.settings.limits.frames_per_batch:
            # An entry that is larger than the mapping is refused by the mapping, whatever the limit of a request.
            check_counts(world.settings.limits, None, sum(entry.npages for entry in entries), "npages")
        done = yield from residence.personality.mmap(residence.space, params["dom"], entries, may_write=may_write)
        return done

    try:
        done = yield from in_turn(session, residence, request())
    except Stopped as stopped:
        prepare(world, params["dom"], stopped.mfns)
        if params["extents"]:
            stopped.details.update(placed(world.machine, params["dom"], stopped.mfns, stopped.protection))
        raise
    if residence.restrictions and entries:
        detect.filled(residence, params["dom"], entries[0].va, params["file"])
    return answer(world, residence, params, done, {"ret": done.ret, "done": len(entries)})


def restrict(world: World, session: Session, params: Params) -> Params:
    """``privcmd.restrict``: the first call names the domain, later calls must name the same."""
    asked, file = params["dom"], params["file"]
    if not file:
        held = session.restricted_to
    else:
        files = world.residence(session).restrictions
        held = files.get(file)
    if held is None and asked != DOMID_INVALID:
        if not file:
            session.restricted_to = asked
        else:
            files.add(file, asked)
    elif held not in (None, asked):
        who = f"file {file}" if file else "this connection"
        raise ModelError(
            errno.EINVAL,
            f"dom is {asked}, and {who} is restricted to domain {held}",
            key="dom",
            restricted_to=held,
        )
    return {}


def check_counts(limits: Limits, num: int | None, n: int, key: str) -> None:
    """Check the length of a list against its count and the limit of a batch.

    Raises:
        ModelError: EINVAL, ``num`` is not the length; E2BIG.
    """
    if num is not None and num != n:
        raise ModelError(
            errno.EINVAL, f"num is {num}, and {key} holds {n}; leave num out or make them equal", key="num"
        )
    most = limits.frames_per_batch
    if n > most:
        raise ModelError(
            errno.E2BIG,
            f"{n} frames are asked for, a request may have {most} (limits.frames_per_batch); ask in parts",
            key=key,
            limit=most,
        )


def gmfns_of(frames: Frames) -> Gmfns:
    """The gmfns of a request in the form that the model is fastest with: a list of few, an array of many."""
    if len(frames.data) <= 8 * FEW:
        return memoryview(frames.data).cast("Q").tolist()
    return np.frombuffer(frames.data, dtype="<u8")


def frames_like(asked: Frames, gmfns: Gmfns) -> bytes | list[int]:
    """Frame numbers in the form in which the request had them: a list or bytes."""
    numbers = np.asarray(gmfns, dtype="<u8")
    return numbers.tolist() if asked.listed else numbers.tobytes()


def errors_like(asked: Frames, errors: Errors | None) -> bytes | list[int] | None:
    """Errnos in the form in which the request had its frames: a list or bytes; None when no frame failed."""
    if errors is None:
        return None
    numbers = np.asarray(errors, dtype="<i4")
    return numbers.tolist() if asked.listed else numbers.tobytes()


def placed(machine: Machine, domid: int, mfns: Mfns, protection: int) -> Params:
    """The part of an answer that says where frames lie in the memory file, its generation, and how to map it."""
    found: Params = {"extents": machine.extents(mfns).astype("<u4", copy=False).tobytes(), "prot": protection}
    domain = machine.domains.get(domid)
    if domain is not None:
        found["generation"] = domain.generation
    elif domid in OWNERS:
        found["generation"] = 0
    return found


def answer(world: World, residence: Residence, params: Params, done: Batch, result: Params) -> Params:
    """Add the extents, if they are asked for, and the ranges to fill where frames failed; return the whole answer.

    Frames that were populated on demand are kept before: after this nothing may fail.

    Raises:
        ModelError: They cannot be kept.
    """
    world.keep()
    prepare(world, params["dom"], done.mfns)
    if params["extents"]:
        result.update(placed(world.machine, params["dom"], done.mfns, done.protection))
        if residence.personality.fills and (voids := voids_of(done.mfns)):
            result["voids"] = voids
    return result


def voids_of(mfns: Mfns) -> bytes:
    """The runs without a frame, as pairs of first index and number of pages."""
    edges = np.flatnonzero(np.diff(np.asarray(mfns) == NO_FRAME, prepend=False, append=False))
    return np.column_stack((edges[::2], edges[1::2] - edges[::2])).astype("<u4").tobytes()


def mmap_resource(world: World, session: Session, params: Params) -> Steps:
    """``privcmd.mmap_resource``: map part of a resource, or answer its size."""
    residence = world.residence(session)
    domid, addr, num = params["dom"], params["addr"], params["num"]
    may_write = authorise(session, residence, domid, params["file"])
    if bool(addr) != bool(num):
        raise ModelError(
            errno.EINVAL,
            f"addr is {addr:#x} and num is {num}: both must be 0, to ask for the size, or neither",
            key="num" if addr else "addr",
        )
    if not addr:
        return {"num": resources.max_frames(world.machine, domid, params["type"], params["id"])}
    wanted = Part(domid, params["type"], params["id"], params["idx"], num)

    def ready(done: Batch) -> Params:
        world.keep()  # the frames of the resource were perhaps made for this
        where = placed(world.machine, domid, done.mfns, done.protection) if params["extents"] else {}
        return {"num": num, **where}

    ticket = yield from residence.turnstile.enter()
    try:
        space = residence.space
        space.serve(session.method, session.n_requests)
        result: Params = residence.personality.mmap_resource(space, wanted, addr, may_write=may_write, ready=ready)
    finally:
        residence.turnstile.leave(ticket)
    if residence.restrictions:
        detect.filled(residence, domid, addr, params["file"])
    return result


def dm_op(world: World, session: Session, params: Params) -> Params:
    """``privcmd.dm_op``: check what Linux' driver checks, then do what Xen does."""
    from privcmdd.service.hypercalls.context import in_words  # noqa: PLC0415 - see the module's docstring
    from privcmdd.service.hypercalls.dm_op import device_model, operation_of  # noqa: PLC0415

    residence = world.residence(session)
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
    result: Params = {"ret": 0}
    try:
        device_model(world, domid, op, more)
    except ModelError as refusal:
        world.count(session, refusal)
        result = {"ret": -refusal.errno, "why": in_words(refusal, operation_of(op), domid)}
    return {**result, "bufs": [bytes(buffer) for buffer in (op, *more)]}


def hypercall(world: World, session: Session, params: dict[str, Any]) -> dict[str, Any]:
    """``privcmd.hypercall``: a refusal by the driver is an error, one by Xen is the hypercall's value."""
    from privcmdd.service.hypercalls.caller_memory import CallerMemory  # noqa: PLC0415 - see the module's docstring
    from privcmdd.service.hypercalls.context import Hypercall  # noqa: PLC0415
    from privcmdd.service.hypercalls.hypercall import perform  # noqa: PLC0415

    residence = world.residence(session)
    if params["file"]:
        check_file(residence, None, params["file"])
    if session.restricted_to is not None:
        raise ModelError(
            errno.EPERM, f"this connection is restricted to domain {session.restricted_to}: no hypercalls", key="op"
        )
    if len(params["arg"]) != HYPERCALL_BYTES:
        raise ModelError(
            errno.EINVAL, f"arg holds {len(params['arg'])} bytes, expected {HYPERCALL_BYTES}: five u64", key="arg"
        )
    memory = CallerMemory(residence.space, world.backing, params["lent_addr"], params["lent"] or b"")
    call = Hypercall(world, session, memory)
    result: Params = {"ret": perform(call, params["op"], ARGUMENTS.unpack(params["arg"]))}
    result |= first_of(call.refusals)
    if result["ret"] == -errno.EFAULT and memory.wanted is not None:
        result["want_addr"], result["want_bytes"] = memory.wanted
    return result


def first_of(refusals: list[str]) -> Params:
    """The part of an answer that says what was refused, in words; nothing when nothing was."""
    if not refusals:
        return {}
    n = len(refusals)
    return {"why": refusals[0] + f" (the first of {n} that were refused)" * (n > 1)}


def unknown_ioctl(world: World, session: Session, params: Params) -> Params:
    """``privcmd.unknown_ioctl``: an ioctl that a device does not have."""
    from privcmdd.service.hypercalls.names import ioctl_named  # noqa: PLC0415 - see the module's docstring

    device, number = params["device"], params["number"]
    error = errno.ENOSYS if device == "evtchn" else errno.ENOTTY
    refusal = Unanswered(f"{device} ioctl {ioctl_named(device, number)}", errno=error)
    world.count(session, refusal)
    return {"ret": -error, "why": str(refusal)}


HANDLERS: Final = {
    "privcmd.mmap": mmap_entries,
    "privcmd.mmapbatch": mmapbatch,
    "privcmd.mmapbatch_v2": mmapbatch_v2,
    "privcmd.restrict": restrict,
    "privcmd.mmap_resource": mmap_resource,
    "privcmd.hypercall": hypercall,
    "privcmd.dm_op": dm_op,
    "privcmd.unknown_ioctl": unknown_ioctl,
}
