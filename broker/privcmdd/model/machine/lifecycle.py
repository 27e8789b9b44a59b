# SPDX-License-Identifier: Apache-2.0
"""A domain's life: a domain is made, paused, shut down, destroyed (``xen/common/domain.c`` and ``domctl.c``)."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.files import RESOURCE_PAGES
from privcmdd.model.machine import memory, resources
from privcmdd.model.machine.domain import FLAGS, PAGED, POD, Domain, DomainState
from privcmdd.model.machine.evtchn import VIRQ_DOM_EXC
from privcmdd.model.machine.frames import NOTHING
from privcmdd.model.units import DOMID_FIRST_RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from privcmdd.model.machine.domain import DomainKind
    from privcmdd.model.machine.machine import Machine
    from privcmdd.model.machine.records import CpuidLeaf, GrantTable, Traits, Tsc

MOST_PAUSES: Final = 255
NO_GFNS: Final = np.zeros(0, dtype=np.uint64)


def free_domid(machine: Machine, wanted: int | None = None) -> int:
    """Return the domid of the next domain, as Xen's domctl does: the wanted one, or the next free one after the last.

    Raises:
        ModelError: EEXIST, the wanted one is taken; EINVAL, it is reserved; ENOMEM, too many domains.
    """
    if len(machine.domains) >= machine.max_domains:
        raise ModelError(
            errno.ENOMEM,
            f"there are {machine.max_domains} domains, the most there may be; destroy one or raise machine.domains",
            limit=machine.max_domains,
        )
    if wanted is not None:
        if not 0 < wanted < DOMID_FIRST_RESERVED:
            raise ModelError(
                errno.EINVAL,
                f"dom is {wanted:#x}, expected 1 to {DOMID_FIRST_RESERVED - 1:#x}: 0 and those above are Xen's own",
                key="dom",
            )
        if wanted in machine.domains:
            raise ModelError(errno.EEXIST, f"domain {wanted} exists ({machine.domains[wanted].state})", dom=wanted)
        return wanted
    domid = machine.last_domid
    while True:
        domid = domid + 1 if domid + 1 < DOMID_FIRST_RESERVED else 1
        if domid not in machine.domains:
            return domid


def file_pages(machine: Machine, max_pages: int, n_spill: int | None = None) -> int:
    """Return how large the memory file of a new domain is to be, in pages."""
    return machine.max_gfns + (max_pages if n_spill is None else n_spill) + RESOURCE_PAGES


def create(
    machine: Machine,
    kind: DomainKind,
    max_pages: int,
    ranges: Iterable[tuple[int, int]] | None = None,
    domid: int | None = None,
    name: str = "",
    *,
    n_spill: int | None = None,
    traits: Traits | None = None,
    grants: GrantTable | None = None,
) -> Domain:
    """Make a domain, populate it, and return it.

    Args:
        machine: The simulated machine.
        kind: PV, HVM or PVH.
        max_pages: Its maximum reservation.
        ranges: (first gfn, number of pages) of each range to populate; the ranges must not overlap. None: all
            ``max_pages`` from gfn 0 on.
        domid: Its number, or None for the next free one.
        name: A name for people.
        n_spill: See ``Domain.n_spill``.
        traits: What the toolstack sets; None: the defaults of ``Traits``.
        grants: Its grant table, without frames; None: the defaults of ``GrantTable``.

    Raises:
        ModelError: EINVAL, EEXIST, ENOMEM; then no domain is made.
    """
    chosen = free_domid(machine, domid)
    if max_pages > machine.max_gfns:
        raise ModelError(
            errno.ENOMEM,
            f"max_pages is {max_pages}, a memory file holds {machine.max_gfns} (machine.gfns_per_domain)",
            key="max_pages",
        )
    wanted = [(0, max_pages)] if ranges is None else list(ranges)
    for first, n_pages in wanted:
        if first < 0 or n_pages < 0 or first + n_pages > machine.max_gfns:
            raise ModelError(
                errno.ENOMEM if first < machine.max_gfns else errno.EINVAL,
                f"pages {first:#x} to {first + n_pages:#x} reach past {machine.max_gfns:#x}, the guest frames a "
                "domain may have (machine.gfns_per_domain)",
                key="ranges",
            )
    n_total = sum(n_pages for _, n_pages in wanted)
    if n_total > max_pages:
        raise ModelError(
            errno.ENOMEM,
            f"ranges hold {n_total} pages, more than max_pages, {max_pages}",
            key="ranges",
            asked=n_total,
        )
    if n_total > machine.frames.n_free:
        raise ModelError(
            errno.ENOMEM,
            f"the machine has {machine.frames.n_free} free frames, {n_total} are asked for; destroy a domain or raise "
            "machine.memory_mib",
            free=machine.frames.n_free,
            asked=n_total,
        )
    if overlap(wanted):
        raise ModelError(errno.EINVAL, "ranges overlap: a guest frame can be populated once", key="ranges")
    domain = Domain(chosen, kind, name, max_pages, machine.max_gfns, n_spill=n_spill)
    if traits is not None:
        domain.traits = traits
    if grants is not None:
        domain.grants = grants
    domain.generation = machine.last_generation + 1
    domain.changes = machine.changes
    gfns = np.concatenate([np.arange(f, f + n, dtype=np.uint64) for f, n in wanted]) if wanted else NO_GFNS
    memory.allocate(machine, domain, gfns)
    machine.last_generation = domain.generation
    machine.domains[chosen] = domain
    machine.last_domid = chosen
    machine.events.add(chosen)
    machine.announce(domain)
    return domain


def overlap(ranges: Iterable[tuple[int, int]]) -> bool:
    """Return whether two ranges (first, number) have a number in common."""
    spans = sorted((first, first + n) for first, n in ranges if n)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def destroy(machine: Machine, domid: int) -> DomainState:
    """Destroy a domain, and return its state: gone, or dying as long as its frames are mapped.

    Destroying a dying domain again does nothing (docs/explanation/facts/recorded-host.md, section 10).

    Raises:
        ModelError: ESRCH.
    """
    domain = machine.domain(domid)
    if domain.alive:
        own = domain.p2m[domain.p2m > POD]
        n_paged = int(np.count_nonzero(own >= PAGED))
        held = np.append(own & ~np.uint32(FLAGS), np.array(resources.held(domain), dtype=np.uint32))
        domain.state = DomainState.DYING
        machine.events.remove(domid)
        machine.announce(domain)
        domain.tot_pages += n_paged
        domain.n_paged = domain.n_cached = domain.n_pod = 0
        domain.tables = {}
        domain.p2m = NOTHING
        domain.p2m_of = NOTHING.data
        resources.forget(domain)
        machine.put(held)
        if domid in machine.domains:
            machine.bury(domain)
    return domain.state


def pause(machine: Machine, domid: int) -> None:
    """Pause a domain once more; a dying domain can be paused too.

    Raises:
        ModelError: ESRCH; EUSERS, the domain is paused too often.
    """
    domain = machine.domain(domid)
    if domain.n_pauses == MOST_PAUSES:
        raise ModelError(errno.EUSERS, f"domain {domid} is paused {MOST_PAUSES} times already", dom=domid)
    domain.n_pauses += 1
    _follow(machine, domain)


def unpause(machine: Machine, domid: int) -> None:
    """Take one pause back; a domain without a pause runs.

    Raises:
        ModelError: ESRCH; EINVAL, the domain is not paused.
    """
    domain = machine.domain(domid)
    if not domain.n_pauses:
        raise ModelError(errno.EINVAL, f"domain {domid} is not paused", dom=domid)
    domain.n_pauses -= 1
    _follow(machine, domain)


def _follow(machine: Machine, domain: Domain) -> None:
    state = DomainState.PAUSED if domain.n_pauses else DomainState.RUNNING
    if domain.alive and state is not domain.state:
        domain.state = state
        machine.announce(domain)


def set_handle(machine: Machine, domid: int, handle: bytes) -> None:
    """Give a domain another UUID (XEN_DOMCTL_setdomainhandle).

    Args:
        machine: The simulated machine.
        domid: The domain.
        handle: 16 bytes.

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).traits.handle = handle


def set_tsc(machine: Machine, domid: int, tsc: Tsc) -> None:
    """Set how a domain's time stamp counter counts (XEN_DOMCTL_settscinfo).

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).traits.tsc = tsc


def set_mempool(machine: Machine, domid: int, n_bytes: int) -> None:
    """Set how much memory there is for a domain's page tables (XEN_DOMCTL_set_paging_mempool_size).

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).traits.mempool_bytes = n_bytes


def set_param(machine: Machine, domid: int, index: int, value: int) -> None:
    """Set a parameter of an HVM or PVH domain (HVMOP_set_param).

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).traits.params[index] = value


def set_policy(
    machine: Machine, domid: int, leaves: Mapping[tuple[int, int], CpuidLeaf], msrs: Mapping[int, int]
) -> None:
    """Change CPUID leaves and the MSRs that belong to them (XEN_DOMCTL_set_cpu_policy); other leaves and MSRs stay.

    Args:
        machine: The simulated machine.
        domid: The domain.
        leaves: The CPUID leaves, by leaf and subleaf.
        msrs: The MSRs, by number.

    Raises:
        ModelError: ESRCH.
    """
    traits = machine.domain(domid).traits
    traits.leaves.update(leaves)
    traits.msrs.update(msrs)


def check_vcpu(machine: Machine, domid: int, vcpu: int) -> None:
    """Check that a vcpu was made.

    Raises:
        ModelError: ESRCH; EINVAL, the vcpu was not made.
    """
    n_vcpus = machine.domain(domid).traits.n_vcpus
    if vcpu >= n_vcpus:
        raise ModelError(errno.EINVAL, f"domain {domid} has {n_vcpus} vcpus, asked for {vcpu}")


def set_context(machine: Machine, domid: int, vcpu: int, registers: bytes | None) -> None:
    """Set the registers of a vcpu and bring it online, or forget the registers (XEN_DOMCTL_setvcpucontext).

    Args:
        machine: The simulated machine.
        domid: The domain.
        vcpu: Its number.
        registers: A vcpu_guest_context; None to forget the registers.

    Raises:
        ModelError: As ``check_vcpu``.
    """
    check_vcpu(machine, domid, vcpu)
    traits = machine.domain(domid).traits
    if registers is None:
        traits.contexts.pop(vcpu, None)
        return
    traits.contexts[vcpu] = registers
    traits.n_online = max(traits.n_online, vcpu + 1)


def set_extended_context(machine: Machine, domid: int, vcpu: int, context: bytes) -> None:
    """Set the extended context of a vcpu (XEN_DOMCTL_set_ext_vcpucontext).

    Args:
        machine: The simulated machine.
        domid: The domain.
        vcpu: Its number.
        context: A xen_domctl_ext_vcpucontext.

    Raises:
        ModelError: As ``check_vcpu``.
    """
    check_vcpu(machine, domid, vcpu)
    machine.domain(domid).traits.extended_contexts[vcpu] = context


def load_records(machine: Machine, domid: int, records: dict[tuple[int, int], bytes], n_online: int) -> None:
    """Replace the saved state of an HVM domain's virtual hardware (XEN_DOMCTL_sethvmcontext).

    Args:
        machine: The simulated machine.
        domid: The domain.
        records: The saved records, by type (HVM_SAVE_TYPE) and instance.
        n_online: How many vcpus the records set up.

    Raises:
        ModelError: ESRCH.
    """
    traits = machine.domain(domid).traits
    traits.records = records
    traits.n_online = n_online


def shut_down(machine: Machine, domid: int, reason: int) -> None:
    """Note that a domain has stopped by itself. When it has stopped already, the first reason stays.

    Args:
        machine: The simulated machine.
        domid: The domain.
        reason: Xen's SHUTDOWN code, of which 8 bits count.

    Raises:
        ModelError: ESRCH.
    """
    domain = machine.domain(domid)
    if domain.shutdown is None:
        domain.shutdown = reason & 0xFF
        machine.events.raise_virq(0, VIRQ_DOM_EXC)


def resume(machine: Machine, domid: int) -> None:
    """Let a domain go on that has stopped by itself.

    Raises:
        ModelError: ESRCH.
    """
    machine.domain(domid).shutdown = None
