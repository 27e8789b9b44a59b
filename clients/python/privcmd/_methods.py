# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""The calls as methods of both faces."""

from __future__ import annotations

from typing import Final

from privcmd import _calls as calls
from privcmd._faces import AwaitingGroup, BlockingGroup, awaiting, blocking


class Methods:
    """Methods of the client itself."""

    hello: Final = blocking(calls.hello)
    ping: Final = blocking(calls.ping)
    health: Final = blocking(calls.health)
    describe: Final = blocking(calls.describe)
    subscribe: Final = blocking(calls.subscribe)
    stats: Final = blocking(calls.stats)
    hand_over: Final = blocking(calls.hand_over)
    attach: Final = blocking(calls.attach)
    fork: Final = blocking(calls.fork)
    spaces: Final = blocking(calls.spaces)
    mmap: Final = blocking(calls.mmap)
    munmap: Final = blocking(calls.munmap)
    mprotect: Final = blocking(calls.mprotect)
    read: Final = blocking(calls.read)
    write: Final = blocking(calls.write)
    fault: Final = blocking(calls.fault)
    maps: Final = blocking(calls.maps)
    buffers: Final = blocking(calls.buffers)
    privcmd_mmap: Final = blocking(calls.privcmd_mmap)
    privcmd_mmapbatch: Final = blocking(calls.privcmd_mmapbatch)
    privcmd_mmapbatch_v2: Final = blocking(calls.privcmd_mmapbatch_v2)
    restrict: Final = blocking(calls.restrict)
    mmap_resource: Final = blocking(calls.mmap_resource)
    hypercall: Final = blocking(calls.hypercall)
    dm_op: Final = blocking(calls.dm_op)
    unknown_ioctl: Final = blocking(calls.unknown_ioctl)
    map_grants: Final = blocking(calls.map_grants)
    copy_grants: Final = blocking(calls.copy_grants)
    notify_unmapped: Final = blocking(calls.notify_unmapped)
    share_pages: Final = blocking(calls.share_pages)
    unshare_pages: Final = blocking(calls.unshare_pages)
    notify_unshared: Final = blocking(calls.notify_unshared)
    map_shared: Final = blocking(calls.map_shared)
    ioreq_servers: Final = blocking(calls.ioreq_servers)
    interrupts: Final = blocking(calls.interrupts)
    findings: Final = blocking(calls.findings)
    clear_findings: Final = blocking(calls.clear_findings)
    jobs: Final = blocking(calls.jobs)
    evict: Final = blocking(calls.evict)


class Events(BlockingGroup):
    """Event channels: ``client.events.bind_interdomain(...)`` and so on."""

    alloc_unbound: Final = blocking(calls.evtchn_alloc_unbound)
    bind_interdomain: Final = blocking(calls.evtchn_bind_interdomain)
    bind_virq: Final = blocking(calls.evtchn_bind_virq)
    attach: Final = blocking(calls.evtchn_attach)
    close: Final = blocking(calls.evtchn_close)
    notify: Final = blocking(calls.evtchn_notify)
    pending: Final = blocking(calls.evtchn_pending)
    list: Final = blocking(calls.evtchn_list)
    restrict: Final = blocking(calls.evtchn_restrict)


class Domains(BlockingGroup):
    """The simulated domains: ``client.domains.create(...)`` and so on."""

    create: Final = blocking(calls.domain_create)
    destroy: Final = blocking(calls.domain_destroy)
    list: Final = blocking(calls.domain_list)
    info: Final = blocking(calls.domain_info)
    memory: Final = blocking(calls.domain_memory)
    populate: Final = blocking(calls.domain_populate)
    decrease_reservation: Final = blocking(calls.domain_decrease_reservation)
    page_out: Final = blocking(calls.domain_page_out)
    page_in: Final = blocking(calls.domain_page_in)


class Rules(BlockingGroup):
    """Injections: ``client.faults.add(...)`` and so on."""

    add: Final = blocking(calls.faults_add)
    list: Final = blocking(calls.faults_list)
    clear: Final = blocking(calls.faults_clear)


class AsyncMethods:
    """Methods of the client itself."""

    hello: Final = awaiting(calls.hello)
    ping: Final = awaiting(calls.ping)
    health: Final = awaiting(calls.health)
    describe: Final = awaiting(calls.describe)
    subscribe: Final = awaiting(calls.subscribe)
    stats: Final = awaiting(calls.stats)
    hand_over: Final = awaiting(calls.hand_over)
    attach: Final = awaiting(calls.attach)
    fork: Final = awaiting(calls.fork)
    spaces: Final = awaiting(calls.spaces)
    mmap: Final = awaiting(calls.mmap)
    munmap: Final = awaiting(calls.munmap)
    mprotect: Final = awaiting(calls.mprotect)
    read: Final = awaiting(calls.read)
    write: Final = awaiting(calls.write)
    fault: Final = awaiting(calls.fault)
    maps: Final = awaiting(calls.maps)
    buffers: Final = awaiting(calls.buffers)
    privcmd_mmap: Final = awaiting(calls.privcmd_mmap)
    privcmd_mmapbatch: Final = awaiting(calls.privcmd_mmapbatch)
    privcmd_mmapbatch_v2: Final = awaiting(calls.privcmd_mmapbatch_v2)
    restrict: Final = awaiting(calls.restrict)
    mmap_resource: Final = awaiting(calls.mmap_resource)
    hypercall: Final = awaiting(calls.hypercall)
    dm_op: Final = awaiting(calls.dm_op)
    unknown_ioctl: Final = awaiting(calls.unknown_ioctl)
    map_grants: Final = awaiting(calls.map_grants)
    copy_grants: Final = awaiting(calls.copy_grants)
    notify_unmapped: Final = awaiting(calls.notify_unmapped)
    share_pages: Final = awaiting(calls.share_pages)
    unshare_pages: Final = awaiting(calls.unshare_pages)
    notify_unshared: Final = awaiting(calls.notify_unshared)
    map_shared: Final = awaiting(calls.map_shared)
    ioreq_servers: Final = awaiting(calls.ioreq_servers)
    interrupts: Final = awaiting(calls.interrupts)
    findings: Final = awaiting(calls.findings)
    clear_findings: Final = awaiting(calls.clear_findings)
    jobs: Final = awaiting(calls.jobs)
    evict: Final = awaiting(calls.evict)


class AsyncEvents(AwaitingGroup):
    """Event channels: ``await client.events.bind_interdomain(...)`` and so on."""

    alloc_unbound: Final = awaiting(calls.evtchn_alloc_unbound)
    bind_interdomain: Final = awaiting(calls.evtchn_bind_interdomain)
    bind_virq: Final = awaiting(calls.evtchn_bind_virq)
    attach: Final = awaiting(calls.evtchn_attach)
    close: Final = awaiting(calls.evtchn_close)
    notify: Final = awaiting(calls.evtchn_notify)
    pending: Final = awaiting(calls.evtchn_pending)
    list: Final = awaiting(calls.evtchn_list)
    restrict: Final = awaiting(calls.evtchn_restrict)


class AsyncDomains(AwaitingGroup):
    """The simulated domains: ``await client.domains.create(...)`` and so on."""

    create: Final = awaiting(calls.domain_create)
    destroy: Final = awaiting(calls.domain_destroy)
    list: Final = awaiting(calls.domain_list)
    info: Final = awaiting(calls.domain_info)
    memory: Final = awaiting(calls.domain_memory)
    populate: Final = awaiting(calls.domain_populate)
    decrease_reservation: Final = awaiting(calls.domain_decrease_reservation)
    page_out: Final = awaiting(calls.domain_page_out)
    page_in: Final = awaiting(calls.domain_page_in)


class AsyncRules(AwaitingGroup):
    """Injections: ``await client.faults.add(...)`` and so on."""

    add: Final = awaiting(calls.faults_add)
    list: Final = awaiting(calls.faults_list)
    clear: Final = awaiting(calls.faults_clear)
