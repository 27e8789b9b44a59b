# SPDX-License-Identifier: Apache-2.0
"""What the naive machine answers to requests about domains."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from history.conversation import nothing_or_refused
from history.order import Wrong
from history.world import HOLE, World, chosen, numbers, travelling
from support.naive.host import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from history.record import Record
    from privcmdd.wire.methods import Frames
    from support.naive.host import Domain

    Params = dict[str, Any]
    Answer = Mapping[str, Any]

FIRST_RESERVED: Final = 0x7FF0


def create(world: World, record: Record, params: Params) -> Answer:
    world.may(record, params["dom"])
    max_pages, wanted = params["max_pages"], params["dom"]
    ranges = [(0, max_pages)] if params["ranges"] is None else [(r["gfn"], r["npages"]) for r in params["ranges"]]
    n_total = sum(n for _, n in ranges)
    most = world.host.max_gfns
    reasons = {
        errno.ENOMEM: len(world.host.domains) >= world.setting.max_domains
        or max_pages > most
        or n_total > max_pages
        or any(gfn < most < gfn + n for gfn, n in ranges)
        or n_total > world.host.n_free(),
        errno.EEXIST: wanted in world.host.domains,
        errno.EINVAL: (wanted is not None and not 0 < wanted < FIRST_RESERVED)
        or any(gfn >= most for gfn, n in ranges)
        or overlap(ranges),
    }
    right = [number for number, holds in reasons.items() if holds]
    if right:  # which of several is a matter of the order of checks, and of no interest
        raise Refused(record.error[0] if record.error is not None and record.error[0] in right else right[0])
    domid = chosen(record, "dom", wanted)
    if (wanted is not None and domid != wanted) or domid in world.host.domains or not 0 < domid < FIRST_RESERVED:
        raise Wrong(record, f"the new domain has number {domid}")
    gfns = [gfn for first, n in ranges for gfn in range(first, first + n)]
    world.host.create(domid, params["kind"], max_pages, gfns)
    return {"dom": domid, "tot_pages": len(gfns)}


def overlap(ranges: list[tuple[int, int]]) -> bool:
    """Whether some gfn is in two ranges."""
    ends = sorted((first, first + n) for first, n in ranges if n)
    return any(end > start for (_, end), (start, _) in pairwise(ends))


def destroy(world: World, record: Record, params: Params) -> Answer:
    world.may(record, params["dom"])
    world.host.destroy(params["dom"])
    return {"state": "dying" if params["dom"] in world.host.domains else "gone"}


def row(world: World, domain: Domain) -> dict[str, Any]:
    """A domain as lists show it."""
    return {
        "dom": domain.domid,
        "kind": domain.kind,
        "state": "dying" if domain.dying else "paused",
        "tot_pages": world.host.tot_pages(domain.domid),
        "max_pages": domain.max_pages,
    }


def domain_list(world: World, record: Record, _params: Params) -> Answer:
    held = world.guest(record.client).restricted_to
    expected = [row(world, world.host.domains[d]) for d in sorted(world.host.domains) if held in (None, d)]
    if record.result is not None:
        told = [{key: shown[key] for key in shown if key != "name"} for shown in record.result["domains"]]
        if told != expected:
            raise Wrong(record, f"it lists {told}, expected {expected}")
    return {}


def info(world: World, record: Record, params: Params) -> Answer:
    world.may(record, params["dom"])
    domain = world.host.domain(params["dom"])
    expected = {
        **row(world, domain),
        "held_pages": sum(frame.domid == domain.domid for frame in world.host.frames()),
        "gfn_limit": max(domain.p2m, default=-1) + 1,
    }
    if record.result is not None:
        world.learn_generation(record, domain.domid, record.result["generation"])
    if params["num"] is not None and record.result is not None:
        told = numbers(record.result["frames"], "Q")
        start = params["start"]
        for gfn, name in enumerate(told, start):
            if domain.kind == "pv" and gfn in domain.p2m and name != HOLE:
                world.learn_mfn(record, domain.p2m[gfn], name)
        gmfns = [name_of(domain, gfn) for gfn in range(start, start + params["num"])]
        expected["frames"] = travelling(gmfns, "Q", listed=False)
    return expected


def name_of(domain: Domain, gfn: int) -> int:
    """By what a mapping asks for a position of the p2m."""
    if gfn not in domain.p2m:
        return HOLE
    return (domain.p2m[gfn].mfn or 0) if domain.kind == "pv" else gfn


def memory(world: World, record: Record, params: Params) -> Answer:
    world.may(record, params["dom"])
    if params["dom"] >= FIRST_RESERVED:
        return nothing_or_refused(record)
    domain = world.host.domain(params["dom"])
    if params["write"]:
        world.shared.add(domain)
    world.learn_generation(record, domain.domid, (record.result or {}).get("generation"))
    return {}


def changed(call: Callable[[World, Record, int, list[int]], Answer]) -> Callable[[World, Record, Params], Answer]:
    """A request that changes a list of a domain's frames."""

    def handler(world: World, record: Record, params: Params) -> Answer:
        world.may(record, params["dom"])
        gmfns = numbers(params["arr"].data, "Q")
        if len(gmfns) > world.setting.frames_per_batch:
            raise Refused(errno.E2BIG)
        return call(world, record, params["dom"], gmfns)

    return handler


def populate(world: World, record: Record, domid: int, gfns: list[int]) -> Answer:
    done = world.host.populate(domid, gfns)
    expected: dict[str, Any] = {"done": done}
    domain = world.host.domains[domid]
    if record.result is not None:
        check_why(record, done, len(gfns))
        if domain.kind == "pv":
            told = numbers(record.result["frames"], "Q")
            if len(told) != done:
                raise Wrong(record, f"it tells {len(told)} frames, expected {done}")
            for gfn, mfn in zip(gfns, told, strict=False):
                world.learn_mfn(record, domain.p2m[gfn], mfn)
        else:
            expected["frames"] = None
    return expected


def decrease(world: World, record: Record, domid: int, gmfns: list[int]) -> Answer:
    world.check_known(record, domid, gmfns)
    done = world.host.decrease_reservation(domid, gmfns)
    check_why(record, done, len(gmfns))
    return {"done": done}


def check_why(record: Record, done: int, n: int) -> None:
    """Whether a reason is given exactly where something was not done."""
    if record.result is not None and record.result["done"] == done and (record.result["why"] is None) != (done == n):
        raise Wrong(record, f"why is {record.result['why']!r} with {done} of {n} done")


def paging(name: str) -> Callable[[World, Record, Params], Answer]:
    """``page_out`` or ``page_in``."""

    def handler(world: World, record: Record, params: Params) -> Answer:
        asked: Frames = params["arr"]
        world.may(record, params["dom"])
        gmfns = numbers(asked.data, "Q")
        if len(gmfns) > world.setting.frames_per_batch:
            raise Refused(errno.E2BIG)
        errs = getattr(world.host, name)(params["dom"], gmfns)
        failed = sum(map(bool, errs))
        return {"n_failed": failed, "err": travelling(errs, "i", listed=asked.listed) if failed else None}

    return handler


HANDLERS: Final[dict[str, Callable[[World, Record, Params], Answer]]] = {
    "domain.create": create,
    "domain.destroy": destroy,
    "domain.list": domain_list,
    "domain.info": info,
    "domain.memory": memory,
    "domain.populate": changed(populate),
    "domain.decrease_reservation": changed(decrease),
    "domain.page_out": paging("page_out"),
    "domain.page_in": paging("page_in"),
}
