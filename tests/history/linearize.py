# SPDX-License-Identifier: Apache-2.0
"""Whether some order of the requests explains the replies: the search of Wing and Gong, with Lowe's memory.

It knows nothing of numbers and nothing of the naive model, so a broker that lies in its numbers finds no help here.
The price is time: the search is exponential at worst, and meant for a few clients with a dozen requests each.

The sequential specification is a machine of its own: domain 1 and one address space for each client; frames are
populated and taken away, pages mapped, unmapped, written and read. Every request happens at once, between its
sending and its answer; one without an answer at any time after, or never.
"""

from __future__ import annotations

import struct
from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from history.record import END

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from history.record import Record

PAGE: Final = 4096
NEVER: Final = 1 << 62


class State(NamedTuple):
    """All of the small machine; equal states are one state to the search.

    Attributes:
        populated: (gfn, frame) for each frame that the domain has.
        pages: (client, page, frame) for each page that can be mapped over; frame None where there is none.
        bytes: (frame, offset, value) for each byte that is not zero.
        n_frames: Frames that there have been.
    """

    populated: frozenset[tuple[int, int]] = frozenset()
    pages: frozenset[tuple[int, int, int | None]] = frozenset()
    bytes: frozenset[tuple[int, int, int]] = frozenset()
    n_frames: int = 0


Outcome = tuple[State, Any]


def populate(state: State, params: Mapping[str, Any], _client: int) -> Outcome:
    there = dict(state.populated)
    gfns = of(params["arr"])
    for done, gfn in enumerate(gfns):
        if gfn in there:
            break
        there[gfn] = state.n_frames + done
    else:
        done = len(gfns)
    return state._replace(populated=frozenset(there.items()), n_frames=state.n_frames + done), {"done": done}


def decrease(state: State, params: Mapping[str, Any], _client: int) -> Outcome:
    there = dict(state.populated)
    gfns = of(params["arr"])
    done = next((at for at, gfn in enumerate(gfns) if gfn not in there or gfn in gfns[:at]), len(gfns))
    kept = {gfn: frame for gfn, frame in there.items() if gfn not in gfns[:done]}
    return state._replace(populated=frozenset(kept.items())), {"done": done}


def reserve(state: State, params: Mapping[str, Any], client: int) -> Outcome:
    fresh = {(client, page, None) for page in range_of(params["addr"], params["len"])}
    return state._replace(pages=without(state, client, params) | fresh), {}


def unmap(state: State, params: Mapping[str, Any], client: int) -> Outcome:
    return state._replace(pages=without(state, client, params)), {}


def map_frames(state: State, params: Mapping[str, Any], client: int) -> Outcome:
    gmfns, there = of(params["arr"]), dict(state.populated)
    where = range_of(params["addr"], len(gmfns) * PAGE)
    if any((client, page) not in {row[:2] for row in state.pages} for page in where):
        return state, EINVAL
    frames = [there.get(name) for name in gmfns]
    errs = [0 if frame is not None else -EINVAL for frame in frames]
    new = {(client, page, frame) for page, frame in zip(where, frames, strict=True)}
    kept = {row for row in state.pages if row[0] != client or row[1] not in where}
    err = struct.pack(f"<{len(errs)}i", *errs) if any(errs) else None
    return state._replace(pages=frozenset(kept | new)), {"ret": 0, "err": err}


def write(state: State, params: Mapping[str, Any], client: int) -> Outcome:
    frame = frame_at(state, client, params["addr"])
    if frame is None:
        return state, EFAULT
    offset = params["addr"] % PAGE
    kept = {row for row in state.bytes if row[:2] != (frame, offset)}
    return state._replace(bytes=frozenset(kept | {(frame, offset, params["data"][0])})), {"n": 1}


def read(state: State, params: Mapping[str, Any], client: int) -> Outcome:
    frame = frame_at(state, client, params["addr"])
    if frame is None:
        return state, EFAULT
    content = {row[:2]: row[2] for row in state.bytes}
    return state, {"data": bytes([content.get((frame, params["addr"] % PAGE), 0)])}


def leave(state: State, _params: Mapping[str, Any], client: int) -> Outcome:
    return state._replace(pages=frozenset(row for row in state.pages if row[0] != client)), {}


def of(arr: bytes) -> list[int]:
    return [name for (name,) in struct.iter_unpack("<Q", arr)]


def range_of(addr: int, size: int) -> range:
    return range(addr // PAGE, (addr + size) // PAGE)


def without(state: State, client: int, params: Mapping[str, Any]) -> frozenset[tuple[int, int, int | None]]:
    gone = range_of(params["addr"], params["len"])
    return frozenset(row for row in state.pages if row[0] != client or row[1] not in gone)


def frame_at(state: State, client: int, addr: int) -> int | None:
    return next((frame for who, page, frame in state.pages if (who, page) == (client, addr // PAGE)), None)


SPECIFICATION: Final[dict[str, Callable[[State, Mapping[str, Any], int], Outcome]]] = {
    "domain.populate": populate,
    "domain.decrease_reservation": decrease,
    "mmap": reserve,
    "munmap": unmap,
    "privcmd.mmapbatch_v2": map_frames,
    "write": write,
    "read": read,
    END: leave,
}


def agrees(record: Record, expected: Any) -> bool:
    """Whether a reply is what the specification says."""
    if record.received is None:
        return True
    if record.error is not None:
        return bool(record.error[0] == expected)
    told = record.result or {}
    return isinstance(expected, dict) and all(told[key] == value for key, value in expected.items())


def linearizable(records: Sequence[Record], state: State) -> bool:
    """Search for an order: each record at a time between its sending and its answer, every reply explained.

    Args:
        records: Requests that the specification knows, at most a hundred or so.
        state: The machine before them.
    """
    answered = sum(1 << at for at, record in enumerate(records) if record.received is not None)
    until = [NEVER if record.received is None else record.received for record in records]
    seen: set[tuple[int, State]] = set()
    todo = [(0, state)]
    while todo:
        done, state = todo.pop()
        if done & answered == answered:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        left = [at for at in range(len(records)) if not done >> at & 1]
        first_answer = min(until[at] for at in left)
        for at in left:
            record = records[at]
            if record.sent > first_answer:
                continue
            after, expected = SPECIFICATION[record.method](state, record.params, record.client)
            if agrees(record, expected):
                todo.append((done | 1 << at, after))
    return False
