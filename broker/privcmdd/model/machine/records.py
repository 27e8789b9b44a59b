# SPDX-License-Identifier: Apache-2.0
"""What belongs to a domain besides its memory: what the toolstack set, and its resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from privcmdd.model.ranges import Ranges

# The frequency of the processor.
TSC_KHZ = 2_000_000
# The registers of a CPUID leaf: EAX, EBX, ECX, EDX.
CpuidLeaf = tuple[int, int, int, int]
# The frames of a grant table that Xen allows when the toolstack sets no number (opt_max_grant_frames), and at most.
MAX_GRANT_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Tsc:
    """How a guest's time stamp counter counts.

    Attributes:
        mode: 0 to 2: when reads of the counter are emulated (XEN_CPUID_TSC_MODE_*).
        khz: Its frequency.
        incarnation: How often these values were set; Xen sets them once when it makes a domain.
        elapsed_ns: The time since the counter was started.
    """

    mode: int = 0
    khz: int = TSC_KHZ
    incarnation: int = 1
    elapsed_ns: int = 0


@dataclass(slots=True)
class Traits:
    """What a toolstack sets and reads back. Xen keeps these values; nothing in the model depends on them.

    Attributes:
        handle: 16 bytes, the domain's UUID.
        flags: XEN_DOMCTL_CDF_*.
        ssidref: Security label.
        emulation_flags: XEN_X86_EMU_*.
        max_vcpus: The number of vcpus that the domain may have.
        n_vcpus: The number of vcpus that were made.
        n_online: The number of vcpus that are set up and could run.
        contexts: The registers of each vcpu, as they were set (vcpu_guest_context), by vcpu.
        extended_contexts: The extended context of each vcpu of a PV guest (xen_domctl_ext_vcpucontext), by vcpu.
        mempool_bytes: Memory for the page tables of a translated domain.
        params: HVM_PARAM_*, by index.
        leaves: The CPUID leaves that differ from the processor's, by leaf and subleaf.
        msrs: The MSRs that belong to CPUID and differ from the processor's, by number.
        tsc: Its time stamp counter.
        records: The virtual hardware of an HVM domain as it was loaded (HVM_SAVE_TYPE), by type and instance.
    """

    handle: bytes = bytes(16)
    flags: int = 0
    ssidref: int = 0
    emulation_flags: int = 0
    misc_flags: int = 0
    max_vcpus: int = 1
    n_vcpus: int = 1
    n_online: int = 1
    contexts: dict[int, bytes] = field(default_factory=dict)
    extended_contexts: dict[int, bytes] = field(default_factory=dict)
    mempool_bytes: int = 0
    params: dict[int, int] = field(default_factory=dict)
    leaves: dict[tuple[int, int], CpuidLeaf] = field(default_factory=dict)
    msrs: dict[int, int] = field(default_factory=dict)
    tsc: Tsc = Tsc()
    records: dict[tuple[int, int], bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Pin:
    """A grant that is mapped.

    Attributes:
        frame: The frame that the entry named when the grant was first mapped; later changes of the entry do not
            change what is mapped.
        n_mappings: The number of pages of address spaces that map the grant.
        n_writable: How many of these mappings are writable.
    """

    frame: int
    n_mappings: int = 0
    n_writable: int = 0


@dataclass(slots=True)
class GrantTable:
    """A domain's grant table. Its frames are made when they are first asked for.

    Attributes:
        max_frames: The most shared frames that it may have.
        max_version: The highest version of the interface that the guest may choose.
        version: The version that the guest chose; Xen starts with 1.
        shared: The mfns of its shared frames.
        status: The mfns of its status frames; only version 2 has them.
        pins: The grants that are mapped, by number.
    """

    max_frames: int = MAX_GRANT_FRAMES
    max_version: int = 2
    version: int = 1
    shared: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    pins: dict[int, Pin] = field(default_factory=dict)


@dataclass(slots=True)
class Pager:
    """A pager, and what it was told.

    Attributes:
        ring_page: The page of its ring in the domain's memory file.
        nominated: Guest frames that are nominated to be evicted.
        asked: Evicted guest frames that the pager was told of, because they were looked up.
        port: The guest's port to which the pager binds, Xen's own; 0 is none.
    """

    ring_page: int
    nominated: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    port: int = 0


class RangeType(IntEnum):
    """XEN_DMOP_IO_RANGE_*."""

    PORT = 0
    MEMORY = 1
    PCI = 2


@dataclass(slots=True)
class IoreqServer:
    """A device model's connection to a domain.

    Attributes:
        bufioreq: HVM_IOREQSRV_BUFIOREQ_*; 0: no buffered requests.
        frames: The mfns of its pages, made when they are first asked for: buffered, then synchronous requests.
        enabled: Requests go to this server.
        ports: The guest's port for each vcpu's requests, in order.
        bufioreq_port: The guest's port for buffered requests; 0 without them.
        ranges: The ranges that it emulates, by ``RangeType``.
    """

    bufioreq: int
    frames: list[int] = field(default_factory=list)
    enabled: bool = False
    ports: list[int] = field(default_factory=list)
    bufioreq_port: int = 0
    ranges: list[Ranges] = field(default_factory=lambda: [Ranges() for _ in RangeType])
