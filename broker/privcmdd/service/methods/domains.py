# SPDX-License-Identifier: Apache-2.0
"""Methods that make, look at and change domains."""

from __future__ import annotations

import errno
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle, paging
from privcmdd.model.machine import memory as reservation
from privcmdd.model.machine.domain import Domain, DomainKind
from privcmdd.model.units import DOMID_IO, PAGE_SIZE
from privcmdd.service.detect import taken
from privcmdd.service.domain_files import make_domain
from privcmdd.service.leases import Until
from privcmdd.service.machine_files import file_of, size_pages
from privcmdd.service.methods.privcmd import check_counts, errors_like
from privcmdd.service.reply import WithDescriptors

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.service.session import Session
    from privcmdd.service.settings import Limits
    from privcmdd.service.world import World
    from privcmdd.wire.params import Frames

    Params = dict[str, Any]


def create(world: World, session: Session, params: Params) -> Params:
    """``domain.create``: make a domain and its memory file."""
    session.check("admin", params["dom"])
    ranges = params["ranges"] and [(row["gfn"], row["npages"]) for row in params["ranges"]]
    kind, max_pages = DomainKind(params["kind"]), params["max_pages"]
    until = None if params["until"] is None else Until(params["until"])
    if until is Until.JOB and session.job is None:
        raise ModelError(
            errno.EINVAL, "until is job, and this connection belongs to none: hello joins one", key="until"
        )
    domain = make_domain(
        world, session, kind, max_pages, ranges, params["dom"], params["name"], until=until, ttl_s=params["ttl_s"]
    )
    return {"dom": domain.domid, "tot_pages": domain.tot_pages}


def destroy(world: World, session: Session, params: Params) -> Params:
    """``domain.destroy``: the domain is gone, or dying until the last mapping of it is removed."""
    session.check("admin", params["dom"])
    return {"state": lifecycle.destroy(world.machine, params["dom"])}


def list_domains(world: World, session: Session, _: Params) -> Params:
    """``domain.list``: the domains that the caller has a right to."""
    domains = sorted(world.machine.domains.values(), key=lambda domain: domain.domid)
    return {"domains": [row(domain) for domain in domains if session.sees(domain.domid)]}


def info(world: World, session: Session, params: Params) -> Params:
    """``domain.info``: one domain, and the gmfns of its frames."""
    session.check("read", params["dom"])
    domain = world.machine.domain(params["dom"])
    there = np.flatnonzero(domain.p2m)
    result = {
        **row(domain),
        "lease": lease(world, domain),
        "held_pages": domain.tot_pages + domain.n_paged,
        "gfn_limit": int(there[-1]) + 1 if len(there) else 0,
        "generation": domain.generation,
    }
    if params["num"] is not None:
        result["frames"] = domain.gmfns(params["start"], params["num"]).astype("<u8", copy=False).tobytes()
    return result


def memory(world: World, session: Session, params: Params) -> WithDescriptors:
    """``domain.memory``: the memory file, as a descriptor."""
    session.check("write" if params["write"] else "read", params["dom"])
    if (key := file_of(world, params["dom"])) is not None:
        return memory_of_xen(world, key, writable=params["write"])
    domain = world.machine.domain(params["dom"])

    def descriptor() -> tuple[int, ...]:
        return (world.backing.descriptor(domain.domid, writable=params["write"]),)

    return WithDescriptors({"size_bytes": domain.file.n_pages * PAGE_SIZE, "generation": domain.generation}, descriptor)


def memory_of_xen(world: World, key: int, *, writable: bool) -> WithDescriptors:
    """The file of the machine's own memory, as a descriptor; the machine-to-phys table can only be read."""

    def descriptor() -> tuple[int, ...]:
        return (world.backing.descriptor(key, writable=writable and key == DOMID_IO),)

    size_bytes = size_pages(world.machine.frames, key) * PAGE_SIZE
    return WithDescriptors({"size_bytes": size_bytes, "generation": 0}, descriptor)


def populate(world: World, session: Session, params: Params) -> Params:
    """``domain.populate``: give frames to a domain, in order, until one cannot be had."""
    gmfns = checked(world.settings.limits, session, params)
    frames = np.empty(len(gmfns), dtype="<u8")  # allocated before anything changes: afterwards an allocation could fail
    done = reservation.populate(world.machine, params["dom"], gmfns)
    frames[: done.n_done] = done.mfns
    translated = world.machine.domain(params["dom"]).kind.translated
    return {"done": done.n_done, "why": done.why, "frames": None if translated else frames[: done.n_done].tobytes()}


def decrease_reservation(world: World, session: Session, params: Params) -> Params:
    """``domain.decrease_reservation``: take frames from a domain, in order, until one is not there."""
    domid = params["dom"]
    gmfns = checked(world.settings.limits, session, params)
    done = reservation.decrease_reservation(world.machine, domid, gmfns)
    taken(world.machine, world.spaces, session.residence, domid, done.gmfns, done.mfns)
    return {"done": done.n_done, "why": done.why}


def page_out(world: World, session: Session, params: Params) -> Params:
    """``domain.page_out``: page frames out; to map one is ENOENT from now on."""
    gmfns = checked(world.settings.limits, session, params)
    return paged(params["arr"], paging.page_out(world.machine, params["dom"], gmfns))


def page_in(world: World, session: Session, params: Params) -> Params:
    """``domain.page_in``: page frames in; they can be mapped again."""
    gmfns = checked(world.settings.limits, session, params)
    return paged(params["arr"], paging.page_in(world.machine, params["dom"], gmfns))


def checked(limits: Limits, session: Session, params: Params) -> npt.NDArray[np.uint64]:
    """The frames of a request that changes a domain.

    Raises:
        ModelError: EPERM; E2BIG.
    """
    session.check("admin", params["dom"])
    asked: Frames = params["arr"]
    gmfns = np.frombuffer(asked.data, dtype="<u8")
    check_counts(limits, None, len(gmfns), "arr")
    return gmfns


def paged(asked: Frames, errors: npt.NDArray[np.int32]) -> Params:
    """The answer of ``page_out`` and ``page_in``."""
    n_failed = int(np.count_nonzero(errors))
    return {"n_failed": n_failed, "err": errors_like(asked, errors if n_failed else None)}


def lease(world: World, domain: Domain) -> Params | None:
    """Who a domain was made for, and until when it is there; None: that is not known."""
    held = world.leases.of(domain.domid, domain.generation)
    if held is None:
        return None
    return {
        "uid": held.uid,
        "pid": held.pid,
        "client": held.client,
        "job": "" if held.job is None else held.job.name,
        "connection": held.connection,
        "method": held.method,
        "request": held.request,
        "age_s": int(world.now() - held.since_s),
        "until": held.until,
        "ttl_s": None if held.expires_s == inf else max(0, ceil(held.expires_s - world.now())),
    }


def row(domain: Domain) -> Params:
    """A domain as lists show it."""
    return {
        "dom": domain.domid,
        "kind": domain.kind,
        "state": domain.state,
        "name": domain.name,
        "tot_pages": domain.tot_pages,
        "max_pages": domain.max_pages,
    }


HANDLERS: Final = {
    "domain.create": create,
    "domain.destroy": destroy,
    "domain.list": list_domains,
    "domain.info": info,
    "domain.memory": memory,
    "domain.populate": populate,
    "domain.decrease_reservation": decrease_reservation,
    "domain.page_out": page_out,
    "domain.page_in": page_in,
}
