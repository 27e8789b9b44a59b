# SPDX-License-Identifier: Apache-2.0
"""PoD: guest frames that are populated on demand, when they are first looked up (``xen/arch/x86/mm/p2m-pod.c``).

The frames come from the domain's PoD cache.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.findings import FindingKind
from privcmdd.model.lists import distinct, repeated
from privcmdd.model.machine import lifecycle, memory
from privcmdd.model.machine.domain import POD
from privcmdd.model.machine.frames import NO_FRAME
from privcmdd.model.machine.machine import Machine, as_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.frames import Gmfns

# SHUTDOWN_crash of xen/include/public/sched.h: a domain crashes when its PoD cache has no frame for a look-up.
CRASHED: Final = 3


def mark_populate_on_demand(machine: Machine, domid: int, gfns: Gmfns) -> int:
    """Mark guest frames to be populated on demand (XENMEMF_populate_on_demand), in order.

    Returns:
        How many are marked, from the first on; the call stops at a guest frame that is populated.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV.
    """
    domain = machine.living(domid)
    if not domain.kind.translated:
        raise ModelError(errno.EINVAL, f"domain {domid} is PV: nothing is populated on demand there", dom=domid)
    asked = as_array(gfns)
    beyond = np.flatnonzero(asked >= machine.max_gfns)
    numbers = asked[: int(beyond[0]) if len(beyond) else len(asked)].astype(np.int64)
    domain.reach(int(numbers.max(initial=-1)) + 1)
    there = np.flatnonzero(domain.p2m[numbers] > POD)
    numbers = numbers[: int(there[0]) if len(there) else len(numbers)]
    fresh = distinct(numbers.astype(np.uint64))
    domain.n_pod += int(np.count_nonzero(domain.p2m[fresh] == NO_FRAME))
    domain.enter(numbers, POD)
    domain.top_gfn = max(domain.top_gfn, int(numbers.max(initial=0)))
    return len(numbers)


def set_target(machine: Machine, domid: int, target_pages: int) -> None:
    """Set how many frames a domain is to have, those in its PoD cache included (p2m_pod_set_mem_target).

    Raises:
        ModelError: ESRCH; EINVAL, the domain is dying or PV, or the target is above ``max_pages``; ENOMEM.
    """
    domain = machine.living(domid)
    if not domain.kind.translated or target_pages > domain.max_pages:
        raise ModelError(
            errno.EINVAL,
            f"target is {target_pages} pages, expected at most {domain.max_pages}, of an HVM or PVH domain",
            dom=domid,
        )
    if not domain.n_pod:
        return
    cached = min(max(0, target_pages - domain.tot_pages), domain.n_pod)
    if cached > machine.frames.n_free:
        raise ModelError(errno.ENOMEM, f"the machine has {machine.frames.n_free} free frames, {cached} are asked for")
    domain.n_cached = cached


def demand_populate(machine: Machine, domain: Domain, gfns: npt.NDArray[np.int64]) -> None:
    """Populate guest frames that are looked up for the first time; the domain crashes when its cache is empty."""
    wanted = gfns.astype(np.uint64)
    wanted = wanted[~repeated(wanted)]
    n_done = min(len(wanted), domain.n_cached, machine.frames.n_free)
    memory.allocate(machine, domain, wanted[:n_done])
    domain.n_cached -= n_done
    if n_done < len(wanted) and domain.shutdown is None:  # a domain that has stopped stays as it is
        lifecycle.shut_down(machine, domain.domid, CRASHED)
        machine.found(
            FindingKind.DOMAIN_CRASHED,
            f"frame {int(wanted[n_done]):#x} of domain {domain.domid} is to be populated on demand, and no memory "
            "is kept for that any more: looking it up crashed the domain; raise its target "
            "(XENMEM_set_pod_target) first",
            dom=domain.domid,
        )
