# SPDX-License-Identifier: Apache-2.0
# Made by clients/protocol/generate.py from the table of methods.
"""The calls as methods of both faces."""

from __future__ import annotations

from privcmd import calls
from privcmd.faces import AwaitingGroup, BlockingGroup, awaiting, blocking


class Methods:
    """Methods of the client itself."""

    hello = blocking(calls.hello)
    ping = blocking(calls.ping)
    describe = blocking(calls.describe)
    stats = blocking(calls.stats)
    subscribe = blocking(calls.subscribe)
    attach = blocking(calls.attach)
    fork = blocking(calls.fork)
    mmap = blocking(calls.mmap)
    munmap = blocking(calls.munmap)
    mprotect = blocking(calls.mprotect)
    read = blocking(calls.read)
    write = blocking(calls.write)
    fault = blocking(calls.fault)
    maps = blocking(calls.maps)
    buffers = blocking(calls.buffers)
    privcmd_mmap = blocking(calls.privcmd_mmap)
    privcmd_mmapbatch = blocking(calls.privcmd_mmapbatch)
    privcmd_mmapbatch_v2 = blocking(calls.privcmd_mmapbatch_v2)
    restrict = blocking(calls.restrict)
    mmap_resource = blocking(calls.mmap_resource)
    hypercall = blocking(calls.hypercall)
    dm_op = blocking(calls.dm_op)
    map_grants = blocking(calls.map_grants)
    copy_grants = blocking(calls.copy_grants)
    notify_unmapped = blocking(calls.notify_unmapped)
    share_pages = blocking(calls.share_pages)
    unshare_pages = blocking(calls.unshare_pages)
    notify_unshared = blocking(calls.notify_unshared)
    map_shared = blocking(calls.map_shared)
    ioreq_servers = blocking(calls.ioreq_servers)
    interrupts = blocking(calls.interrupts)
    findings = blocking(calls.findings)
    clear_findings = blocking(calls.clear_findings)


class Events(BlockingGroup):
    """Event channels: ``client.events.bind_interdomain(...)`` and so on."""

    alloc_unbound = blocking(calls.evtchn_alloc_unbound)
    bind_interdomain = blocking(calls.evtchn_bind_interdomain)
    bind_virq = blocking(calls.evtchn_bind_virq)
    attach = blocking(calls.evtchn_attach)
    close = blocking(calls.evtchn_close)
    notify = blocking(calls.evtchn_notify)
    pending = blocking(calls.evtchn_pending)
    list = blocking(calls.evtchn_list)
    restrict = blocking(calls.evtchn_restrict)


class Domains(BlockingGroup):
    """The simulated domains: ``client.domains.create(...)`` and so on."""

    create = blocking(calls.domain_create)
    destroy = blocking(calls.domain_destroy)
    list = blocking(calls.domain_list)
    info = blocking(calls.domain_info)
    memory = blocking(calls.domain_memory)
    populate = blocking(calls.domain_populate)
    decrease_reservation = blocking(calls.domain_decrease_reservation)
    page_out = blocking(calls.domain_page_out)
    page_in = blocking(calls.domain_page_in)


class Rules(BlockingGroup):
    """Faults on demand: ``client.faults.add(...)`` and so on."""

    add = blocking(calls.faults_add)
    list = blocking(calls.faults_list)
    clear = blocking(calls.faults_clear)


class AsyncMethods:
    """Methods of the client itself."""

    hello = awaiting(calls.hello)
    ping = awaiting(calls.ping)
    describe = awaiting(calls.describe)
    stats = awaiting(calls.stats)
    subscribe = awaiting(calls.subscribe)
    attach = awaiting(calls.attach)
    fork = awaiting(calls.fork)
    mmap = awaiting(calls.mmap)
    munmap = awaiting(calls.munmap)
    mprotect = awaiting(calls.mprotect)
    read = awaiting(calls.read)
    write = awaiting(calls.write)
    fault = awaiting(calls.fault)
    maps = awaiting(calls.maps)
    buffers = awaiting(calls.buffers)
    privcmd_mmap = awaiting(calls.privcmd_mmap)
    privcmd_mmapbatch = awaiting(calls.privcmd_mmapbatch)
    privcmd_mmapbatch_v2 = awaiting(calls.privcmd_mmapbatch_v2)
    restrict = awaiting(calls.restrict)
    mmap_resource = awaiting(calls.mmap_resource)
    hypercall = awaiting(calls.hypercall)
    dm_op = awaiting(calls.dm_op)
    map_grants = awaiting(calls.map_grants)
    copy_grants = awaiting(calls.copy_grants)
    notify_unmapped = awaiting(calls.notify_unmapped)
    share_pages = awaiting(calls.share_pages)
    unshare_pages = awaiting(calls.unshare_pages)
    notify_unshared = awaiting(calls.notify_unshared)
    map_shared = awaiting(calls.map_shared)
    ioreq_servers = awaiting(calls.ioreq_servers)
    interrupts = awaiting(calls.interrupts)
    findings = awaiting(calls.findings)
    clear_findings = awaiting(calls.clear_findings)


class AsyncEvents(AwaitingGroup):
    """Event channels: ``await client.events.bind_interdomain(...)`` and so on."""

    alloc_unbound = awaiting(calls.evtchn_alloc_unbound)
    bind_interdomain = awaiting(calls.evtchn_bind_interdomain)
    bind_virq = awaiting(calls.evtchn_bind_virq)
    attach = awaiting(calls.evtchn_attach)
    close = awaiting(calls.evtchn_close)
    notify = awaiting(calls.evtchn_notify)
    pending = awaiting(calls.evtchn_pending)
    list = awaiting(calls.evtchn_list)
    restrict = awaiting(calls.evtchn_restrict)


class AsyncDomains(AwaitingGroup):
    """The simulated domains: ``await client.domains.create(...)`` and so on."""

    create = awaiting(calls.domain_create)
    destroy = awaiting(calls.domain_destroy)
    list = awaiting(calls.domain_list)
    info = awaiting(calls.domain_info)
    memory = awaiting(calls.domain_memory)
    populate = awaiting(calls.domain_populate)
    decrease_reservation = awaiting(calls.domain_decrease_reservation)
    page_out = awaiting(calls.domain_page_out)
    page_in = awaiting(calls.domain_page_in)


class AsyncRules(AwaitingGroup):
    """Faults on demand: ``await client.faults.add(...)`` and so on."""

    add = awaiting(calls.faults_add)
    list = awaiting(calls.faults_list)
    clear = awaiting(calls.faults_clear)
