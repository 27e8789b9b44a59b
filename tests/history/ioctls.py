# SPDX-License-Identifier: Apache-2.0
"""What the naive machine answers to the ioctls that map frames, slice by slice."""

from __future__ import annotations

import errno
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from history.order import Wrong
from history.world import World, numbers, travelling
from support.naive.host import NOBODYS, Frame, Refused
from support.naive.spaces import PRIVCMD, Batch

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from history.order import Kind
    from history.record import Record
    from history.world import Home, Steps
    from privcmdd.wire.methods import Frames
    from support.naive.spaces import Space, Thing

    Params = dict[str, Any]
    Entry = tuple[int, int, int]

FEW: Final = 24
"""Single frames that are looked up in one step whatever the size of a slice."""
FAILED: Final = 0xF000_0000
PAGED: Final = {"uvm": 0xF000_0000, "linux": 0x8000_0000}


def mmapbatch(world: World, record: Record, params: Params) -> Steps:
    """V1: failures in the array."""
    home, gmfns = named(world, record, params)
    return (yield from world.in_turn(record, home, batch(world, record, params, home, gmfns, v2=False)))


def mmapbatch_v2(world: World, record: Record, params: Params) -> Steps:
    """V2: failures beside it."""
    home, gmfns = named(world, record, params)
    if not params["err_ok"] and gmfns:  # of no frames there are no errors to clear
        raise Refused(errno.EFAULT)
    return (yield from world.in_turn(record, home, batch(world, record, params, home, gmfns, v2=True)))


def named(world: World, record: Record, params: Params) -> tuple[Home, list[int]]:
    """The frames of a batch, when it may name them."""
    home = world.home(record)
    world.may_map(record, home, params["dom"], params["file"])
    if params["arr"] is None:
        raise Refused(errno.EINVAL if params["num"] == 0 else errno.EFAULT)
    gmfns = numbers(params["arr"].data, "Q")
    if params["num"] not in (None, len(gmfns)):
        raise Refused(errno.EINVAL)
    if len(gmfns) > world.setting.frames_per_batch:
        raise Refused(errno.E2BIG)
    return home, gmfns


def batch(world: World, record: Record, params: Params, home: Home, gmfns: list[int], *, v2: bool) -> Steps:
    naive = home.naive
    request = naive.begin(params["addr"], params["dom"], gmfns)
    world.check_known(record, params["dom"], gmfns)
    try:
        yield from in_slices(world, request, FEW)
    except GeneratorExit:
        request.abandon()
        raise
    outcome = naive.finish(request)
    n_failed = sum(map(bool, outcome.errs))
    expected: dict[str, Any] = {"ret": outcome.ret, "n_failed": n_failed}
    asked: Frames = params["arr"]
    if v2:
        expected["err"] = travelling(outcome.errs, "i", listed=asked.listed) if n_failed else None
    else:
        nibbled = [
            name | (PAGED[naive.kind] if err == -errno.ENOENT else FAILED) if err else name
            for name, err in zip(gmfns, outcome.errs, strict=True)
        ]
        expected["arr"] = travelling(nibbled, "Q", listed=asked.listed) if n_failed else None
    if params["extents"] and record.result is not None:
        check_extents(world, record, record.result, params["dom"], request.found)
        expected["prot"] = request.prot
    return expected


def in_slices(world: World, request: Batch, few: int) -> Generator[Kind, None, None]:
    """Look frames up, at most so many in a step unless there are few."""
    size, n = world.setting.slice_frames, len(request.gmfns)
    known = request.domid in world.host.domains or request.domid in NOBODYS
    unlooked = request.space.kind == "linux" and request.prot == 0 and known
    while n > few and not unlooked and len(request.found) + size < n:
        request.advance(size)
        if request.stopped:
            return
        yield "slice"
    request.advance(n)


def check_extents(
    world: World, record: Record, told: Mapping[str, Any], domid: int, frames: Sequence[Frame | int]
) -> None:
    """Where the good frames lie: all of them, each in its place, in as few runs as can be."""
    runs = list(struct.iter_unpack("<III", told["extents"]))
    places = {first + i: page + i for first, page, n in runs for i in range(n)}
    good = {index: frame for index, frame in enumerate(frames) if isinstance(frame, Frame)}
    if places.keys() != good.keys() or len(places) != sum(n for _, _, n in runs):
        raise Wrong(record, f"its extents {runs} are not of the frames {sorted(good)} of the request")
    for (first, page, n), (after, next_page, _) in pairwise(runs):
        if first + n > after or (first + n, page + n) == (after, next_page):
            raise Wrong(record, f"its extents {runs} are out of order, or not as few as can be")
    for index, frame in good.items():
        world.learn_place(record, frame, places[index])
    world.learn_generation(record, domid, told.get("generation"))


def mmap(world: World, record: Record, params: Params) -> Steps:
    """MMAP: entries in order, until one is bad."""
    home = world.home(record)
    entries = [(row["va"], row["mfn"], row["npages"]) for row in params["entry"]]
    world.may_map(record, home, params["dom"], params["file"])
    if params["num"] not in (None, len(entries)):
        raise Refused(errno.EINVAL)
    most = world.setting.frames_per_batch
    n_frames = sum(n for _, _, n in entries)
    if len(entries) > most or (n_frames > most and not fails_by_itself(record, home, entries[0][0], most)):
        raise Refused(errno.E2BIG)
    return (yield from world.in_turn(record, home, mapped(world, record, params, home, entries)))


def fails_by_itself(record: Record, home: Home, va: int, most: int) -> bool:
    """Linux: what is too much for a request is too much for a VMA that is no larger, which has its own errno."""
    first = home.naive.pages.get(va >> 12)
    if home.naive.kind == "uvm":
        return False
    if first is None or first.thing.what != PRIVCMD:  # it is EINVAL sooner or later
        return record.error is None or record.error[0] != errno.E2BIG
    return sum(page.thing is first.thing for page in home.naive.pages.values()) <= most


def mapped(world: World, record: Record, params: Params, home: Home, entries: list[Entry]) -> Steps:
    domid, naive = params["dom"], home.naive
    naive.placed = []
    one_by_one = entries_uvm if naive.kind == "uvm" else entries_linux
    reason = record.error[2].get("entry") if record.error is not None else None
    cut = record.error is not None and reason is not None and record.error[0] in world.setting.anytime
    error, done = yield from one_by_one(world, record, naive, domid, entries[:reason] if cut else entries)
    told = record.result if record.error is None else record.error[2]
    if params["extents"] and told is not None and "extents" in told:
        check_extents(world, record, told, domid, naive.placed)
    if cut and not error:
        assert record.error is not None
        error = record.error[0]
    if not error:
        return {"ret": 0, "done": len(entries)}
    if record.error is not None and (reason is not None or done) and {reason, record.error[2].get("done")} != {done}:
        raise Wrong(record, f"it stopped at entry {reason}, expected {done}")
    raise Refused(error)


def entries_uvm(
    world: World, record: Record, naive: Space, domid: int, entries: list[Entry]
) -> Generator[Kind, None, tuple[int, int]]:
    """Each entry replaces its range when all its frames are there; entries that merge do so together."""
    ready: list[tuple[Entry, Batch]] = []
    end, prot_before = 0, 0

    def flush() -> None:
        last: tuple[int, int, Thing] | None = None
        for entry, request in ready:
            last = naive.map_entry_uvm(domid, entry, last, True, request.found)
        for _, request in ready:
            request.abandon()
        ready.clear()

    for done, entry in enumerate(entries):
        va, mfn, n = entry
        if ready and not (naive.merge and va >> 12 == end):
            flush()
        try:
            start, prot = naive.check_entry_uvm(entry, True)
            if ready and prot != prot_before:
                flush()
            world.check_known(record, domid, range(mfn, mfn + n))
            request = Batch(naive, start, domid, list(range(mfn, mfn + n)), prot, stops=True)
            yield from held(world, request, ready)
            bad = next((frame for frame in request.found if not isinstance(frame, Frame)), 0)
            if bad:
                request.abandon()
                raise Refused(bad)
        except Refused as refused:
            flush()
            return refused.errno, done
        ready.append((entry, request))
        end, prot_before = start + n, prot
    flush()
    return 0, len(entries)


def entries_linux(
    world: World, record: Record, naive: Space, domid: int, entries: list[Entry]
) -> Generator[Kind, None, tuple[int, int]]:
    """Each entry is entered up to its first bad frame."""
    last: tuple[int, int, Thing] | None = None
    for done, entry in enumerate(entries):
        _, mfn, n = entry
        try:
            at, vma = naive.check_entry_linux(domid, entry, last, True)
            if n:
                world.check_known(record, domid, range(mfn, mfn + n))
                request = Batch(naive, at, domid, list(range(mfn, mfn + n)), naive.pages[at].prot, stops=True)
                vma.used = done > 0  # others see what was there before, until its first entry is in
                yield from held(world, request, [])
                vma.used = True
                try:
                    naive.fill(at, request.found)
                finally:
                    request.abandon()
        except Refused as refused:
            return refused.errno, done
        last = at + n, 0, vma
    return 0, len(entries)


def held(world: World, request: Batch, ready: list[tuple[Entry, Batch]]) -> Generator[Kind, None, None]:
    """Look up the frames of an entry, of which many take several steps; they are referred to from then on."""
    world.host.batches.append(request)
    try:
        yield from in_slices(world, request, 1)
    except GeneratorExit:
        for _, other in ready:
            other.abandon()
        request.abandon()
        raise


HANDLERS: Final = {
    "privcmd.mmap": mmap,
    "privcmd.mmapbatch": mmapbatch,
    "privcmd.mmapbatch_v2": mmapbatch_v2,
}
