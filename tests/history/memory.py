# SPDX-License-Identifier: Apache-2.0
"""What the naive machine answers to requests about an address space: system calls, bytes, and what is mapped."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from history.order import Wrong
from history.world import PAGE, Home, Undecided, World, chosen
from support.naive.host import Frame, Refused
from support.naive.spaces import ANON, FOREIGN, LIMIT, PRIVCMD, READ, WRITE, allows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from history.record import Record
    from history.world import Steps
    from support.naive.spaces import Page, Space

    Params = dict[str, Any]
    Answer = Mapping[str, Any]
    Call = Callable[[World, Record, Home, Params], Answer]

MOST_PAGES: Final = 1 << 20
"""Pages of one request; the naive model has a record for each."""
A_LOT: Final = 1 << 40
"""Bytes that an address space may not have room for."""


def pages_of(addr: int, size: int, *, fixed: bool = True) -> int:
    """How many pages a range has.

    Raises:
        Refused: EINVAL.
    """
    n_pages = -(-size // PAGE)
    if size <= 0 or (fixed and addr % PAGE) or (addr if fixed else 0) + n_pages * PAGE > LIMIT:
        raise Refused(errno.EINVAL)
    return n_pages


def mmap(_world: World, record: Record, home: Home, params: Params) -> Answer:
    naive = home.naive
    addr, file, fixed = params["addr"], params["file"], params["fixed"]
    if file not in (None, ANON, PRIVCMD) or params["private"]:
        if record.error is not None:
            raise Refused(record.error[0])
        raise Undecided(record, "the naive model does not know such mappings")
    if naive.kind == "uvm" and file == PRIVCMD:
        raise Refused(errno.ENODEV)
    n_pages = pages_of(addr, params["len"], fixed=fixed)
    if not fixed and n_pages * PAGE > A_LOT and record.error is not None and record.error[0] == errno.ENOMEM:
        raise Refused(errno.ENOMEM)
    at = addr
    if not fixed:
        hint = addr >> 12
        free = hint and addr // PAGE * PAGE + n_pages * PAGE <= LIMIT and not taken(naive, hint, n_pages)
        if record.is_silent and not free and home.threads == {record.client}:
            return {}  # somewhere, and the only one who could tell has gone
        at = chosen(record, "addr", hint << 12 if free else None)
        if free and at != hint << 12:
            raise Wrong(record, f"it is at {at:#x}, and the hint {addr:#x} was free")
        if at % PAGE or at + n_pages * PAGE > LIMIT or taken(naive, at >> 12, n_pages):
            raise Wrong(record, f"{at:#x} is no free place for {n_pages} pages")
    bounded(record, n_pages)
    naive.mmap(at >> 12, n_pages, params["prot"], file or (PRIVCMD if naive.kind == "linux" else ANON))
    return {"addr": at}


def taken(naive: Space, start: int, n_pages: int) -> bool:
    """Whether something is mapped there."""
    return any(start <= vpn < start + n_pages for vpn in naive.pages)


def bounded(record: Record, n_pages: int) -> None:
    """Refuse to look at too many pages one by one."""
    if n_pages > MOST_PAGES:
        raise Undecided(record, f"{n_pages} pages are too many to look at one by one")


def munmap(_world: World, record: Record, home: Home, params: Params) -> Answer:
    n_pages = pages_of(params["addr"], params["len"])
    bounded(record, n_pages)
    home.naive.munmap(params["addr"] >> 12, n_pages)
    return {}


def mprotect(_world: World, record: Record, home: Home, params: Params) -> Answer:
    n_pages = pages_of(params["addr"], params["len"])
    bounded(record, n_pages)
    home.naive.mprotect(params["addr"] >> 12, n_pages, params["prot"])
    return {}


def system_call(call: Call) -> Callable[[World, Record, Params], Steps]:
    """A call that changes the map takes its turn."""

    def steps(world: World, record: Record, home: Home, params: Params) -> Steps:
        yield from ()
        return call(world, record, home, params)

    def handler(world: World, record: Record, params: Params) -> Steps:
        home = world.home(record)
        return world.in_turn(record, home, steps(world, record, home, params))

    return handler


def touched(record: Record, home: Home, addr: int, size: int, access: int) -> list[Frame]:
    """The frames of a range: all of them can be had, or nothing changes but for what a fault would find."""
    if size <= 0:
        raise Refused(errno.EINVAL)
    start = addr // PAGE * PAGE
    n_pages = pages_of(start, addr + size - start)
    bounded(record, n_pages)
    vpns = range(start >> 12, (start >> 12) + n_pages)
    for vpn in vpns:
        page = home.naive.pages.get(vpn)
        if page is None or page.thing.what == ANON or (page.thing.what == FOREIGN and not allows(page.prot, access)):
            raise Refused(errno.EFAULT)
    return [home.naive.touch(vpn, access)[0] for vpn in vpns]


def read(world: World, record: Record, params: Params) -> Answer:
    home = world.home(record)
    addr, size = params["addr"], params["len"]
    frames = touched(record, home, addr, size, READ)
    whole = b"".join(bytes(world.content(frame)) for frame in frames)
    if record.result is None or any(world.host.domains.get(frame.domid) in world.shared for frame in frames):
        return {}
    return {"data": whole[addr % PAGE : addr % PAGE + size]}


def write(world: World, record: Record, params: Params) -> Answer:
    home = world.home(record)
    addr, data = params["addr"], bytes(params["data"])
    at = addr % PAGE
    for frame in touched(record, home, addr, len(data), WRITE):
        part = data[: PAGE - at]
        world.content(frame)[at : at + len(part)] = part
        data, at = data[len(part) :], 0
    return {"n": len(params["data"])}


def fault(world: World, record: Record, params: Params) -> Answer:
    home = world.home(record)
    access = WRITE if params["access"] == "write" else READ
    frame, entered = home.naive.touch(params["addr"] >> 12, access)
    name = frame.gfn
    domain = world.host.domains.get(frame.domid)
    if domain is not None and domain.kind == "pv":
        name = chosen(record, "frame", frame.mfn or 0)
        world.learn_mfn(record, frame, name)
    return {"dom": frame.domid, "frame": name, "entered": entered}


def maps(world: World, record: Record, _params: Params) -> Answer:
    """Page by page: what each entry says of its pages, and which pages share an object."""
    naive = world.home(record).naive
    if record.result is None:
        return {}
    seen: set[int] = set()
    objects: dict[int, object] = {}
    for row in record.result["entries"]:
        vpns = range(row["start"] >> 12, row["end"] >> 12)
        if seen and (not vpns or max(seen) >= vpns.start):
            raise Wrong(record, f"the entry at {row['start']:#x} is out of order, empty, or over another")
        seen.update(vpns)
        pages = [naive.pages.get(vpn) for vpn in vpns]
        there = [page for page in pages if page is not None]
        if len(there) < len(pages):
            raise Wrong(record, f"part of {row['start']:#x} to {row['end']:#x} is not mapped")
        told = {key: row[key] for key in ("prot", "max_prot", "wired", "file", "inherit", "present", "failed")}
        for page, offset in zip(there, range(row["offset"] >> 12, MOST_PAGES), strict=False):
            expected = of_page(page) | counted(naive, vpns, there)
            if told != expected:
                raise Wrong(record, f"the entry at {row['start']:#x} says {told}, expected {expected}")
            if page.thing.what == FOREIGN:
                if (row["dom"], offset) != (page.thing.domid, page.index):
                    raise Wrong(record, f"the entry at {row['start']:#x} begins elsewhere in its object")
                if objects.setdefault(row["object"], page.thing) is not page.thing:
                    raise Wrong(record, f"object {row['object']} is behind two mappings")
    if len(set(objects.values())) < len(objects):
        raise Wrong(record, "one mapping has two objects")
    if seen != naive.pages.keys():
        raise Wrong(record, f"it leaves {len(naive.pages.keys() - seen)} mapped pages out")
    return {}


def of_page(page: Page) -> dict[str, Any]:
    """What an entry says of each of its pages."""
    what = page.thing.what
    return {
        "prot": page.prot,
        "max_prot": page.max_prot,
        "wired": int(page.wired),
        "file": ANON if what == ANON else PRIVCMD,
        "inherit": "copy" if what == ANON else "none",
    }


def counted(naive: Space, vpns: range, pages: list[Page]) -> dict[str, int]:
    """What an entry says of its pages together."""
    present = sum(vpn in naive.ptes for vpn in vpns)
    thing = pages[0].thing
    failed = sum(page.index in thing.failed for page in pages)
    if thing.what != FOREIGN:
        failed = len(vpns) - present if thing.used else 0
    return {"present": present, "failed": failed}


HANDLERS: Final = {
    "mmap": system_call(mmap),
    "munmap": system_call(munmap),
    "mprotect": system_call(mprotect),
    "read": read,
    "write": write,
    "fault": fault,
    "maps": maps,
}
