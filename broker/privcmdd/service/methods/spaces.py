# SPDX-License-Identifier: Apache-2.0
"""Methods that act in an address space: system calls, and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.files import N_PAGES, BufferFile
from privcmdd.model.mm import access, syscalls
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import INVALID_FRAME, PAGE_SHIFT, PAGE_SIZE, PROT_READ, PROT_WRITE
from privcmdd.service.processes import made_by
from privcmdd.service.reply import WithDescriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.files import BufferPages, FileKey
    from privcmdd.model.mm.access import Segment
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.mm.vm_map import Entry
    from privcmdd.service.broker import Broker
    from privcmdd.service.processes import Residence
    from privcmdd.service.session import Session
    from privcmdd.service.steps import Pause

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]

ACCESS: Final = {"read": PROT_READ, "write": PROT_WRITE}


def system_call(call: Callable[[Broker, AddressSpace, Params], Params]) -> Callable[[Broker, Session, Params], Steps]:
    """A call that changes the map: it takes its turn in the address space."""

    def handler(broker: Broker, session: Session, params: Params) -> Steps:
        residence: Residence = broker.residence(session)
        ticket = yield from residence.turnstile.enter()
        try:
            return call(broker, residence.space, params)
        finally:
            residence.turnstile.leave(ticket)

    return handler


def mmap(broker: Broker, space: AddressSpace, params: Params) -> Params:
    """``mmap``: reserve a range."""
    addr, size, prot, file = params["addr"], params["len"], params["prot"], params["file"]
    made = file == File.HYPERCALL and space.buffers is None
    if made:
        buffer_file(broker, space)
    try:
        at = syscalls.mmap(
            space,
            addr,
            size,
            prot,
            fixed=params["fixed"],
            file=file,
            private=params["private"],
            opened=params["opened"],
        )
    except BaseException:
        if made:
            space.buffers = None
            broker.backing.close(BufferFile(space.number))
        raise
    if file != File.HYPERCALL:
        return {"addr": at}
    entry = space.map.lookup(at)
    assert entry is not None
    return {"addr": at, "page": entry.offset}


def buffer_file(broker: Broker, space: AddressSpace) -> BufferPages:
    """The hypercall buffers of an address space, with a file behind them.

    Raises:
        ModelError: ENOMEM, the host has none to give.
    """
    if space.buffers is not None:
        return space.buffers
    key = BufferFile(space.number)
    broker.backing.create(key, N_PAGES)
    try:
        return space.buffer_file()
    except BaseException:
        broker.backing.close(key)
        raise


def buffers(broker: Broker, session: Session, _: Params) -> WithDescriptors:
    """``space.buffers``: the buffer file, as a descriptor."""
    key = BufferFile(buffer_file(broker, broker.residence(session).space).number)

    def descriptor() -> tuple[int, ...]:
        return (broker.backing.descriptor(key, writable=True),)

    return WithDescriptors({"size_bytes": N_PAGES * PAGE_SIZE}, descriptor)


def munmap(_: Broker, space: AddressSpace, params: Params) -> Params:
    """``munmap``: remove what is in a range."""
    syscalls.munmap(space, params["addr"], params["len"])
    return {}


def mprotect(_: Broker, space: AddressSpace, params: Params) -> Params:
    """``mprotect``: change a range's protection."""
    syscalls.mprotect(space, params["addr"], params["len"], params["prot"])
    return {}


def read(broker: Broker, session: Session, params: Params) -> Params:
    """``read``: bytes of a range, all of them or none."""
    segments = access.resolve(broker.residence(session).space, params["addr"], params["len"], PROT_READ)
    return {"data": b"".join(broker.backing.read(key_of(s), s.page, s.offset, s.size) for s in segments)}


def write(broker: Broker, session: Session, params: Params) -> Params:
    """``write``: bytes of a range, all of them or none."""
    data = memoryview(params["data"])
    at = 0
    for segment in access.resolve(broker.residence(session).space, params["addr"], len(data), PROT_WRITE):
        broker.backing.write(key_of(segment), segment.page, segment.offset, data[at : at + segment.size])
        at += segment.size
    return {"n": at}


def key_of(segment: Segment) -> FileKey:
    """The file that a run of bytes lies in."""
    return segment.domid if segment.buffers is None else BufferFile(segment.buffers)


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
        "request": None if entry.made_by is None else made_by(entry.made_by),
    }


HANDLERS: Final = {
    "mmap": system_call(mmap),
    "munmap": system_call(munmap),
    "mprotect": system_call(mprotect),
    "read": read,
    "write": write,
    "fault": fault,
    "maps": maps,
    "space.buffers": buffers,
}
