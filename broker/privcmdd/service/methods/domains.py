# SPDX-License-Identifier: Apache-2.0
"""Methods that make, look at and change domains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.machine.domain import Domain, Kind
from privcmdd.model.units import DOMID_IO, PAGE_SIZE
from privcmdd.service.machine_files import file_of, size_pages
from privcmdd.service.methods.privcmd import check_counts, errors_like
from privcmdd.service.reply import WithDescriptors

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from privcmdd.service.broker import Broker
    from privcmdd.service.session import Session
    from privcmdd.wire.params import Frames

    Params = dict[str, Any]


def create(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.create``."""
    session.check("admin", params["dom"])
    ranges = params["ranges"] and [(row["gfn"], row["npages"]) for row in params["ranges"]]
    domain = make_domain(broker, Kind(params["kind"]), params["max_pages"], ranges, params["dom"], params["name"])
    return {"dom": domain.domid, "tot_pages": domain.tot_pages}


def make_domain(
    broker: Broker,
    kind: Kind,
    max_pages: int,
    ranges: Iterable[tuple[int, int]] | None,
    wanted: int | None,
    name: str,
    *,
    n_spill: int | None = None,
) -> Domain:
    """Make a domain, its memory file first, because that is what may fail.

    Raises:
        ModelError: As ``Hypervisor.create``; ENOMEM, the host has no such file to give.
    """
    hypervisor = broker.hypervisor
    domid = hypervisor.free_domid(wanted)
    broker.backing.create(domid, hypervisor.file_pages(max_pages, n_spill))
    try:
        return hypervisor.create(kind, max_pages, ranges, domid, name, n_spill=n_spill)
    except BaseException:
        broker.backing.close(domid)
        raise


def destroy(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.destroy``: gone, or dying until the last mapping of it goes."""
    session.check("admin", params["dom"])
    return {"state": broker.hypervisor.destroy(params["dom"])}


def list_domains(broker: Broker, session: Session, _: Params) -> Params:
    """``domain.list``: those that the caller has a right to."""
    domains = sorted(broker.hypervisor.domains.values(), key=lambda domain: domain.domid)
    return {"domains": [row(domain) for domain in domains if session.sees(domain.domid)]}


def info(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.info``: one domain, and the names of its frames."""
    session.check("read", params["dom"])
    domain = broker.hypervisor.domain(params["dom"])
    there = np.flatnonzero(domain.p2m)
    result = {
        **row(domain),
        "held_pages": domain.tot_pages + domain.n_paged,
        "gfn_limit": int(there[-1]) + 1 if len(there) else 0,
        "generation": domain.generation,
    }
    if params["num"] is not None:
        result["frames"] = domain.names(params["start"], params["num"]).astype("<u8", copy=False).tobytes()
    return result


def memory(broker: Broker, session: Session, params: Params) -> WithDescriptors:
    """``domain.memory``: the memory file, as a descriptor."""
    session.check("write" if params["write"] else "read", params["dom"])
    if (key := file_of(broker, params["dom"])) is not None:
        return machine_memory(broker, key, writable=params["write"])
    domain = broker.hypervisor.domain(params["dom"])

    def descriptor() -> tuple[int, ...]:
        return (broker.backing.descriptor(domain.domid, writable=params["write"]),)

    return WithDescriptors({"size_bytes": domain.file.n_pages * PAGE_SIZE, "generation": domain.generation}, descriptor)


def machine_memory(broker: Broker, key: int, *, writable: bool) -> WithDescriptors:
    """Memory that is no guest's; Xen's own table is only read."""

    def descriptor() -> tuple[int, ...]:
        return (broker.backing.descriptor(key, writable=writable and key == DOMID_IO),)

    size_bytes = size_pages(broker.hypervisor.frames, key) * PAGE_SIZE
    return WithDescriptors({"size_bytes": size_bytes, "generation": 0}, descriptor)


def populate(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.populate``: frames for a domain, in order, until one cannot be had."""
    names = checked(broker, session, params)
    frames = np.empty(len(names), dtype="<u8")  # before anything changes: afterwards there may be no memory
    done = broker.hypervisor.populate(params["dom"], names)
    frames[: done.n_done] = done.mfns
    translated = broker.hypervisor.domain(params["dom"]).kind.translated
    return {"done": done.n_done, "why": done.why, "frames": None if translated else frames[: done.n_done].tobytes()}


def decrease_reservation(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.decrease_reservation``: frames away from a domain, in order, until one is not there."""
    done = broker.hypervisor.decrease_reservation(params["dom"], checked(broker, session, params))
    return {"done": done.n_done, "why": done.why}


def page_out(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.page_out``: mapping these is ENOENT from now on."""
    names = checked(broker, session, params)
    return paged(params["arr"], broker.hypervisor.page_out(params["dom"], names))


def page_in(broker: Broker, session: Session, params: Params) -> Params:
    """``domain.page_in``: these can be mapped again."""
    names = checked(broker, session, params)
    return paged(params["arr"], broker.hypervisor.page_in(params["dom"], names))


def checked(broker: Broker, session: Session, params: Params) -> npt.NDArray[np.uint64]:
    """The frames of a request that changes a domain.

    Raises:
        ModelError: EPERM; E2BIG.
    """
    session.check("admin", params["dom"])
    asked: Frames = params["arr"]
    names = np.frombuffer(asked.data, dtype="<u8")
    check_counts(broker, None, len(names), "arr")
    return names


def paged(asked: Frames, errors: npt.NDArray[np.int32]) -> Params:
    """The answer of ``page_out`` and ``page_in``."""
    n_failed = int(np.count_nonzero(errors))
    return {"n_failed": n_failed, "err": errors_like(asked, errors if n_failed else None)}


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
