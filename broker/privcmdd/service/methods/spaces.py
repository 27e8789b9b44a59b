# SPDX-License-Identifier: Apache-2.0
"""Methods of address spaces: joining one, system calls in it, reading and writing its memory."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.file_keys import BufferFile
from privcmdd.model.files import N_PAGES
from privcmdd.model.mm import access, syscalls
from privcmdd.model.mm.vm_map import File
from privcmdd.model.units import PAGE_SHIFT, PAGE_SIZE, PROT_READ, PROT_WRITE
from privcmdd.service.incident import shortened
from privcmdd.service.jobs import sees
from privcmdd.service.methods.stats import space_counters
from privcmdd.service.reply import WithDescriptors
from privcmdd.service.session import made_by
from privcmdd.service.settings import SpaceDefaults

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from privcmdd.model.file_keys import FileKey
    from privcmdd.model.files import BufferPages
    from privcmdd.model.mm.access import FileRun
    from privcmdd.model.mm.space import AddressSpace
    from privcmdd.model.mm.vm_map import Entry
    from privcmdd.service.session import Residence, Session
    from privcmdd.service.steps import Pause
    from privcmdd.service.world import World

    Params = dict[str, Any]
    Steps = Generator[Pause, None, Params]

MOST_REPORTED: Final = 256  # map entries of an address space that a report lists
ACCESS: Final = {"read": PROT_READ, "write": PROT_WRITE}


def system_call(call: Callable[[World, AddressSpace, Params], Params]) -> Callable[[World, Session, Params], Steps]:
    """The handler of a system call that changes the map: it waits for its turn in the address space."""

    def handler(world: World, session: Session, params: Params) -> Steps:
        residence = world.residence(session)
        ticket = yield from residence.turnstile.enter()
        try:
            return call(world, residence.space, params)
        finally:
            residence.turnstile.leave(ticket)

    return handler


def mmap(world: World, space: AddressSpace, params: Params) -> Params:
    """``mmap``: reserve a range."""
    addr, size, prot, file = params["addr"], params["len"], params["prot"], params["file"]
    made = file == File.HYPERCALL and space.buffers is None
    if made:
        buffer_file(world, space)
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
            space.drop_buffers()
            world.backing.close(BufferFile(space.number))
            world.let_go(BufferFile(space.number))
        raise
    if file != File.HYPERCALL:
        return {"addr": at}
    entry = space.map.lookup(at)
    assert entry is not None
    return {"addr": at, "page": entry.offset}


def buffer_file(world: World, space: AddressSpace) -> BufferPages:
    """The hypercall buffers of an address space, with a file behind them; the uid pays for its descriptor.

    Raises:
        ModelError: EDQUOT; ENOMEM, the host refuses the file.
    """
    if space.buffers is not None:
        return space.buffers
    key = BufferFile(space.number)
    world.lasting.hold(key, space.account, 1)
    try:
        world.backing.create(key, N_PAGES)
        try:
            return space.buffer_file()
        except BaseException:
            world.backing.close(key)
            raise
    except BaseException:
        world.let_go(key)
        raise


def buffers(world: World, session: Session, _: Params) -> WithDescriptors:
    """``space.buffers``: the buffer file, as a descriptor."""
    key = BufferFile(buffer_file(world, world.residence(session).space).number)

    def descriptor() -> tuple[int, ...]:
        return (world.backing.descriptor(key, writable=True),)

    return WithDescriptors({"size_bytes": N_PAGES * PAGE_SIZE}, descriptor)


def munmap(_: World, space: AddressSpace, params: Params) -> Params:
    """``munmap``: remove the mappings in a range."""
    syscalls.munmap(space, params["addr"], params["len"])
    return {}


def mprotect(_: World, space: AddressSpace, params: Params) -> Params:
    """``mprotect``: change a range's protection."""
    syscalls.mprotect(space, params["addr"], params["len"], params["prot"])
    return {}


def read(world: World, session: Session, params: Params) -> Params:
    """``read``: read the bytes of a range, all of them or none."""
    segments = access.resolve(world.residence(session).space, params["addr"], params["len"], PROT_READ)
    return {"data": b"".join(world.backing.read(key_of(s), s.page, s.offset, s.size) for s in segments)}


def write(world: World, session: Session, params: Params) -> Params:
    """``write``: write the bytes of a range, all of them or none."""
    data = memoryview(params["data"])
    at = 0
    for segment in access.resolve(world.residence(session).space, params["addr"], len(data), PROT_WRITE):
        world.backing.write(key_of(segment), segment.page, segment.offset, data[at : at + segment.size])
        at += segment.size
    return {"n": at}


def key_of(segment: FileRun) -> FileKey:
    """The key of the memory file that a run of bytes lies in."""
    return segment.domid if segment.buffers is None else BufferFile(segment.buffers)


def fault(world: World, session: Session, params: Params) -> Params:
    """``fault``: touch a page, as an access by the process does."""
    touch = access.touch(world.residence(session).space, params["addr"], ACCESS[params["access"]])
    return {"dom": touch.domid, "frame": touch.gmfn, "entered": touch.entered}


def maps(world: World, session: Session, _: Params) -> Params:
    """``maps``: the map entries of the space."""
    space: AddressSpace = world.residence(session).space
    return {"entries": [row(space, entry) for entry in space.map]}


def row(space: AddressSpace, entry: Entry) -> Params:
    """A map entry as ``maps`` answers it."""
    present = space.pmap.count(entry.page, entry.n_pages)
    return {
        "start": entry.start,
        "end": entry.end,
        "prot": entry.protection,
        "max_prot": entry.max_protection,
        "inherit": entry.inherit,
        "file": entry.file,
        "object": None if entry.object is None else entry.object.number,
        "dom": entry.domid,
        "offset": entry.offset << PAGE_SHIFT,
        "wired": int(entry.wired),
        "present": present,
        "failed": space.personality.n_failed(entry, present),
        "request": None if entry.made_by is None else made_by(entry.made_by),
    }


def attach(world: World, session: Session, params: Params) -> Params:
    """``space.attach``: join an address space, or make one with settings of its own."""
    if session.residence is not None:
        raise ModelError(
            errno.EBUSY,
            f"this connection lives in address space {session.residence.space.number} already; open another one",
            space=session.residence.space.number,
        )
    asked = {key: params[key] for key in ("personality", "probe", "merge") if params[key] is not None}
    if params["space"] is None:
        settings = SpaceDefaults(**{**asdict(world.settings.space), **asked})
        return attached(world.spaces.make(session, settings, world.settings.limits.slice_frames))
    there = world.spaces.find(session, params["space"])
    for key, value in asked.items():
        if getattr(there.settings, key) != value:
            raise ModelError(
                errno.EINVAL,
                f"{key} is {value!r}, and address space {params['space']} was made with "
                f"{getattr(there.settings, key)!r}",
                key=key,
            )
    world.spaces.join(session, there)
    return attached(there)


def attached(residence: Residence) -> Params:
    """The answer that says in which address space a connection lives now."""
    return {"space": residence.space.number, **asdict(residence.settings)}


def fork(world: World, session: Session, _params: Params) -> Params:
    """``space.fork``: make the address space of a child."""
    return {"space": world.spaces.fork(session, world.residence(session)).space.number}


def listed(world: World, session: Session, params: Params) -> Params:
    """``space.list``: who maps what."""
    rows: list[Params] = []
    for residence in world.spaces.residences():
        if sees(session, residence.uid, residence.job):
            rows += mapped(residence)
    for only in (params["dom"], session.restricted_to):
        rows = [one for one in rows if only in (None, one["dom"])]
    return {"spaces": rows}


def mapped(residence: Residence) -> list[Params]:
    """What a space has mapped of each domain; one row without a domain when it has mapped none."""
    space = residence.space
    about = {
        "space": space.number,
        "uid": residence.uid,
        "pid": residence.pid,
        "client": residence.client,
        "job": "" if residence.job is None else residence.job.name,
        "personality": residence.settings.personality,
        "threads": len(residence.threads),
    }
    sums: dict[int | None, Counter[str]] = {}
    for entry in space.map:
        if entry.domid is not None:
            present = space.pmap.count(entry.page, entry.n_pages)
            counts = sums.setdefault(entry.domid, Counter())
            counts["entries"] += 1
            counts["present"] += present
            counts["writable"] += present if entry.reach & PROT_WRITE else 0
            counts["failed"] += space.personality.n_failed(entry, present)
    names = ("entries", "present", "writable", "failed")
    found = sorted(sums.items(), key=lambda one: one[0] or 0) or [(None, Counter())]
    return [{**about, "dom": dom, **{name: counts[name] for name in names}} for dom, counts in found]


def report(session: Session) -> Params | None:
    """What the report of an incident says of the address space that a connection lives in; None when it has none."""
    residence = session.residence
    if residence is None:
        return None
    entries = residence.space.map
    return {
        **asdict(residence.settings),
        **space_counters(residence),
        "maps": [shortened(row(residence.space, entry)) for entry in islice(entries, MOST_REPORTED)],
        "maps_left_out": max(0, len(entries) - MOST_REPORTED),
    }


def leave(world: World, session: Session) -> None:
    """Take a connection that ends out of its address spaces; those left without a thread are closed."""
    if session.residence is not None or session.forked:
        world.spaces.leave(session)


HANDLERS: Final = {
    "space.attach": attach,
    "space.fork": fork,
    "space.list": listed,
    "mmap": system_call(mmap),
    "munmap": system_call(munmap),
    "mprotect": system_call(mprotect),
    "read": read,
    "write": write,
    "fault": fault,
    "maps": maps,
    "space.buffers": buffers,
}
