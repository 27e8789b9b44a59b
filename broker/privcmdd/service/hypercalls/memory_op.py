# SPDX-License-Identifier: Apache-2.0
"""``memory_op``: the memory of domains, and of the machine."""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import memory, p2m, pod, resources
from privcmdd.model.machine.memory import pages_of
from privcmdd.model.units import DOMID_SELF
from privcmdd.service import machine_files
from privcmdd.service.detect import taken
from privcmdd.service.hypercalls.context import is_self
from privcmdd.service.hypercalls.paging import paging_op
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.hypercalls.context import Hypercall

RESERVATION: Final = Layout(
    "struct xen_memory_reservation",
    ("extent_start", "u64"),
    ("nr_extents", "u64"),
    ("extent_order", "u32"),
    ("mem_flags", "u32"),
    ("domid", "u16"),
)
DOMAIN: Final = Layout("struct xen_memory_domain", ("domid", "u16"))
MACHPHYS: Final = Layout(
    "struct xen_machphys_mfn_list", ("max_extents", "u32"), ("extent_start", "u64"), ("nr_extents", "u32")
)
MACHPHYS_MAPPING: Final = Layout(
    "struct xen_machphys_mapping", ("v_start", "u64"), ("v_end", "u64"), ("max_mfn", "u64")
)
ADD_TO_PHYSMAP: Final = Layout(
    "struct xen_add_to_physmap", ("domid", "u16"), ("size", "u16"), ("space", "u32"), ("idx", "u64"), ("gpfn", "u64")
)
REMOVE_FROM_PHYSMAP: Final = Layout("struct xen_remove_from_physmap", ("domid", "u16"), ("gpfn", "u64"))
POD_TARGET: Final = Layout(
    "struct xen_pod_target",
    ("target_pages", "u64"),
    ("tot_pages", "u64"),
    ("pod_cache_pages", "u64"),
    ("pod_entries", "u64"),
    ("domid", "u16"),
)
ACQUIRE_RESOURCE: Final = Layout(
    "struct xen_mem_acquire_resource",
    ("domid", "u16"),
    ("type", "u16"),
    ("id", "u32"),
    ("nr_frames", "u32"),
    ("pad", "u32"),
    ("frame", "u64"),
    ("frame_list", "u64"),
)
ACCESS_OP: Final = Layout(
    "struct xen_mem_access_op",
    ("op", "u8"),
    ("access", "u8"),
    ("domid", "u16"),
    ("nr", "u32"),
    ("pfn", "u64"),
    ("pfn_list", "u64"),
    ("access_list", "u64"),
)

# A command has 6 bits; the bits above say how far an earlier call came (MEMOP_EXTENT_SHIFT).
COMMAND_BITS: Final = 6
POPULATE_ON_DEMAND: Final = 1 << 16
MOST_ORDER: Final = 18  # MAX_ORDER: 1 GiB
MAPSPACE_SHARED_INFO: Final = 0
MAPSPACE_GRANT_TABLE: Final = 1
MAPSPACE_GMFN: Final = 2
MAX_PFN_OFFSET: Final = 3088  # shared_info.arch.max_pfn
MOST_PFNS: Final = 1 << 52  # a guest may write there what it wants
DOM0_PAGES: Final = 262_144  # what domain 0 says it has: 1 GiB
NO_FRAMES: Final[npt.NDArray[np.uint64]] = np.zeros(0, dtype=np.uint64)


def memory_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The subcommand is the first argument, its structure the second.

    Raises:
        ModelError: EFAULT; EPERM; ESRCH; as the subcommand says; ENOSYS.
    """
    command, address = arguments[:2]
    number = command & ((1 << COMMAND_BITS) - 1)
    return call.find("memory_op", number, COMMANDS)(call, address)


def reservation(call: Hypercall, address: int) -> tuple[dict[str, Any], npt.NDArray[np.uint64]]:
    """Read the structure of a reservation and the list it points to; one of the caller's own domain has no answer here.

    Raises:
        ModelError: EFAULT; EPERM; ESRCH; EINVAL, extents of an absurd size.
    """
    asked = call.memory.get(RESERVATION, address)
    if is_self(asked["domid"]):
        raise call.unanswered(" of dom0")
    if asked["extent_order"] > MOST_ORDER:
        raise ModelError(errno.EINVAL, f"extent_order is {asked['extent_order']}, expected at most {MOST_ORDER}")
    call.domain(asked["domid"])
    # One call does only so many; the caller sees from the answer that more are left.
    n = min(asked["nr_extents"], call.world.settings.limits.frames_per_batch >> asked["extent_order"])
    if not asked["extent_start"]:
        return asked, NO_FRAMES
    return asked, call.memory.numbers(asked["extent_start"], n)


def populate_physmap(call: Hypercall, address: int) -> int:
    """``XENMEM_populate_physmap``: how many extents were populated; PV callers learn their machine frames."""
    asked, gfns = reservation(call, address)
    domid, start = asked["domid"], asked["extent_start"]
    order: int = asked["extent_order"]
    machine = call.machine
    domain = machine.living(domid)
    if not domain.kind.translated:
        call.memory.check(start, 8 * len(gfns))
    elif asked["mem_flags"] & POPULATE_ON_DEMAND:
        return pod.mark_populate_on_demand(machine, domid, pages_of(gfns, order)) >> order
    mfns = memory.populate_runs(machine, domid, gfns, order) if order else memory.populate(machine, domid, gfns).mfns
    if not domain.kind.translated:
        machine_files.follow(call.world, mfns)
        call.memory.put_numbers(start, mfns)
    return len(mfns)


def increase_reservation(call: Hypercall, address: int) -> int:
    """``XENMEM_increase_reservation``: machine frames for a PV domain."""
    asked = call.memory.get(RESERVATION, address)
    if is_self(asked["domid"]):
        raise call.unanswered(" of dom0")
    if asked["extent_order"] > MOST_ORDER:
        raise ModelError(errno.EINVAL, f"extent_order is {asked['extent_order']}, expected at most {MOST_ORDER}")
    domid, start, order = asked["domid"], asked["extent_start"], asked["extent_order"]
    call.domain(domid)
    n = min(asked["nr_extents"], call.world.settings.limits.frames_per_batch >> order)
    if start:
        call.memory.check(start, 8 * n)
    mfns = memory.increase_reservation(call.machine, domid, n, order)
    machine_files.follow(call.world, mfns)
    if start:
        call.memory.put_numbers(start, mfns)
    return len(mfns)


def decrease_reservation(call: Hypercall, address: int) -> int:
    """``XENMEM_decrease_reservation``: how many extents were given back."""
    asked, gmfns = reservation(call, address)
    order: int = asked["extent_order"]
    machine, domid = call.machine, asked["domid"]
    done = memory.decrease_reservation(machine, domid, pages_of(gmfns, order))
    taken(machine, call.world.spaces, call.session.residence, domid, done.gmfns, done.mfns)
    return done.n_done >> order


def maximum_ram_page(call: Hypercall, _address: int) -> int:
    """``XENMEM_maximum_ram_page``: the number of the last frame plus one."""
    return call.machine.frames.n_frames


def of_domain(number: Callable[[Hypercall, int], int]) -> Callable[[Hypercall, int], int]:
    """A question about one domain, which may be the caller's own."""

    @functools.wraps(number)
    def handler(call: Hypercall, address: int) -> int:
        domid = call.memory.get(DOMAIN, address)["domid"]
        if is_self(domid):
            return DOM0_PAGES
        call.domain(domid)
        return number(call, domid)

    return handler


def current_reservation(call: Hypercall, domid: int) -> int:
    """``XENMEM_current_reservation``: frames that a domain has."""
    domain = call.machine.domain(domid)
    return domain.tot_pages + domain.n_cached


def maximum_reservation(call: Hypercall, domid: int) -> int:
    """``XENMEM_maximum_reservation``: frames that a domain may have."""
    return call.machine.domain(domid).max_pages


def maximum_gpfn(call: Hypercall, domid: int) -> int:
    """``XENMEM_maximum_gpfn``: a PV guest says itself how far its p2m goes, in its shared_info page."""
    domain = call.machine.domain(domid)
    if domain.kind.translated:
        return domain.top_gfn
    if not domain.shared_info:
        return 0
    page = int(call.machine.frames.page[domain.shared_info[0]])
    n_pfns = int.from_bytes(call.world.backing.read(domid, page, MAX_PFN_OFFSET, 8), "little")
    return min(max(n_pfns, 1) - 1, MOST_PFNS)


def machphys_mfn_list(call: Hypercall, address: int) -> int:
    """``XENMEM_machphys_mfn_list``: the frames of the machine-to-phys table, 2 MiB each."""
    asked = call.memory.get(MACHPHYS, address)
    first, n_frames = call.machine.frames.machphys
    chunks = np.arange(first, first + n_frames, 512, dtype=np.uint64)[: asked["max_extents"]]
    call.memory.put_numbers(asked["extent_start"], chunks)
    call.memory.put(MACHPHYS, address, {**asked, "nr_extents": len(chunks)})
    return 0


def machphys_mapping(call: Hypercall, address: int) -> int:
    """``XENMEM_machphys_mapping``: where a PV guest sees that table."""
    start = 0xFFFF_8000_0000_0000
    values = {"v_start": start, "v_end": start + (1 << 38), "max_mfn": (1 << 35) - 1}
    call.memory.put(MACHPHYS_MAPPING, address, values)
    return 0


def add_to_physmap(call: Hypercall, address: int) -> int:
    """``XENMEM_add_to_physmap``: a guest frame, or a page that Xen keeps for the domain, at a guest frame."""
    asked = call.memory.get(ADD_TO_PHYSMAP, address)
    domain = call.domain(asked["domid"])
    if asked["space"] == MAPSPACE_GMFN:
        p2m.move(call.machine, domain.domid, asked["idx"], asked["gpfn"])
        return 0
    if asked["space"] in (MAPSPACE_SHARED_INFO, MAPSPACE_GRANT_TABLE):
        resources.add_to_physmap(call.machine, domain.domid, asked["space"], asked["idx"], asked["gpfn"])
        return 0
    raise call.unanswered(f" of space {asked['space']}")


def remove_from_physmap(call: Hypercall, address: int) -> int:
    """``XENMEM_remove_from_physmap``."""
    asked = call.memory.get(REMOVE_FROM_PHYSMAP, address)
    p2m.remove(call.machine, call.domain(asked["domid"]).domid, asked["gpfn"])
    return 0


def set_pod_target(call: Hypercall, address: int) -> int:
    """``XENMEM_set_pod_target``: the answer has the numbers that result."""
    asked = call.memory.get(POD_TARGET, address)
    domain = call.domain(asked["domid"])
    call.memory.check(address, POD_TARGET.size)
    pod.set_target(call.machine, domain.domid, asked["target_pages"])
    return tell_pod_target(call, address, asked, domain)


def get_pod_target(call: Hypercall, address: int) -> int:
    """``XENMEM_get_pod_target``."""
    asked = call.memory.get(POD_TARGET, address)
    return tell_pod_target(call, address, asked, call.domain(asked["domid"]))


def tell_pod_target(call: Hypercall, address: int, asked: dict[str, Any], domain: Domain) -> int:
    """Write the numbers of a domain's PoD cache and entries into the caller's structure."""
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domain.domid} is PV: nothing is populated on demand there")
    answer = {
        "tot_pages": domain.tot_pages + domain.n_cached,
        "pod_cache_pages": domain.n_cached,
        "pod_entries": domain.n_pod,
    }
    call.memory.put(POD_TARGET, address, {**asked, **answer})
    return 0


def nothing_shared(_call: Hypercall, _address: int) -> int:
    """``XENMEM_get_sharing_freed_pages`` and ``_shared_pages``: domains share no frames here."""
    return 0


def acquire_resource(call: Hypercall, address: int) -> int:
    """``XENMEM_acquire_resource``: the machine frames of a resource, or its size."""
    asked = call.memory.get(ACQUIRE_RESOURCE, address)
    domid = asked["domid"]
    if asked["pad"]:
        raise ModelError(errno.EINVAL, f"pad is {asked['pad']}, expected 0")
    if domid != DOMID_SELF:
        call.session.check("admin", domid)
    kind, number, n_frames = asked["type"], asked["id"], asked["nr_frames"]
    size = resources.max_frames(call.machine, domid, kind, number)
    if not asked["frame_list"]:
        if n_frames:
            raise ModelError(errno.EINVAL, f"nr_frames is {n_frames}, and there is no list of frames")
        call.memory.put(ACQUIRE_RESOURCE, address, {**asked, "nr_frames": size})
        return 0
    if n_frames:
        if asked["frame"] + n_frames <= size:
            call.memory.check(asked["frame_list"], 8 * n_frames)
        frames = resources.mfns_of(call.machine, domid, kind, number, asked["frame"], n_frames)
        call.memory.put_numbers(asked["frame_list"], frames)
    return 0


def access_op(call: Hypercall, address: int) -> int:
    """``XENMEM_access_op``: the recorded host has an AMD processor, whose nested page tables cannot do it."""
    domain = call.domain(call.memory.get(ACCESS_OP, address)["domid"])
    raise ModelError(errno.EINVAL, f"accesses to domain {domain.domid} cannot be watched")


def claim_pages(call: Hypercall, address: int) -> int:
    """``XENMEM_claim_pages``: succeeds when so many frames are free; nothing is set aside for the domain."""
    asked = call.memory.get(RESERVATION, address)
    call.domain(asked["domid"])
    if asked["extent_start"] or asked["extent_order"] or asked["mem_flags"]:
        raise ModelError(errno.EINVAL, "extent_start, extent_order and mem_flags must be 0 to claim pages")
    if asked["nr_extents"] > call.machine.frames.n_free:
        raise ModelError(errno.ENOMEM, f"{asked['nr_extents']} pages are claimed, fewer are free")
    return 0


# XENMEM_* of xen/include/public/memory.h.
COMMANDS: Final[dict[int, Callable[[Hypercall, int], int]]] = {
    0: increase_reservation,
    1: decrease_reservation,
    2: maximum_ram_page,
    3: of_domain(current_reservation),
    4: of_domain(maximum_reservation),
    5: machphys_mfn_list,
    6: populate_physmap,
    7: add_to_physmap,
    12: machphys_mapping,
    14: of_domain(maximum_gpfn),
    15: remove_from_physmap,
    16: set_pod_target,
    17: get_pod_target,
    18: nothing_shared,
    19: nothing_shared,
    20: paging_op,
    21: access_op,
    24: claim_pages,
    28: acquire_resource,
}
