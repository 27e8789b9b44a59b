# SPDX-License-Identifier: Apache-2.0
"""What belongs to a domain beside its memory: what its maker chose, and its resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from privcmdd.model.ranges import Ranges

# The frequency of the processor.
TSC_KHZ = 2_000_000
# The registers of a CPUID leaf: EAX, EBX, ECX, EDX.
CpuidLeaf = tuple[int, int, int, int]
# What Xen gives a domain whose maker does not say (opt_max_grant_frames), and the most it gives.
MAX_GRANT_FRAMES = 64


@dataclass(frozen=True, slots=True)
class Tsc:
    """How a guest's time stamp counter counts.

    Attributes:
        mode: 0 to 2, when reads of it are emulated (XEN_CPUID_TSC_MODE_*).
        khz: At which frequency.
        incarnation: How often all this was set; Xen does so when it makes a domain.
        elapsed_ns: Since it was started.
    """

    mode: int = 0
    khz: int = TSC_KHZ
    incarnation: int = 1
    elapsed_ns: int = 0


@dataclass(slots=True)
class Traits:
    """What a toolstack sets and asks for again. Xen keeps it; nothing here depends on it.

    Attributes:
        handle: 16 bytes, its UUID.
        flags: XEN_DOMCTL_CDF_*.
        ssidref: Security label.
        emulation_flags: XEN_X86_EMU_*.
        max_vcpus: At most so many.
        n_vcpus: Made so far.
        n_online: Set up, so that they could run.
        contexts: The registers of those, as they were given (vcpu_guest_context), by vcpu.
        extended_contexts: What a PV guest has beside those (xen_domctl_ext_vcpucontext), likewise.
        mempool_bytes: For page tables of a translated domain.
        params: HVM_PARAM_*, by index.
        leaves: What CPUID says where that differs from the processor, by leaf and subleaf.
        msrs: MSRs that belong to that, likewise.
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
    """A grant that somebody has mapped.

    Attributes:
        frame: What the guest granted when it was first mapped; what its entry says later changes nothing for those
            who have it.
        n_mappings: Pages of address spaces that map it.
        n_writable: Those of them that were mapped to be written.
    """

    frame: int
    n_mappings: int = 0
    n_writable: int = 0


@dataclass(slots=True)
class GrantTable:
    """The frames of a grant table, made when they are first asked for.

    Attributes:
        max_frames: Shared frames it may have.
        max_version: Highest version of the interface that the guest may choose.
        version: What it chose; Xen starts with 1.
        shared: Machine frames.
        status: Machine frames; only version 2 has some.
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
    """A pager, and what it has been told.

    Attributes:
        ring_page: Where its ring lies in the domain's memory file.
        nominated: Guest frames that are to be evicted.
        asked: Evicted guest frames that it has been told of.
        port: The guest's port that waits for it, Xen's own; 0 is none.
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
        frames: Machine frames, once asked for: buffered, then synchronous requests.
        enabled: Requests go to it.
        ports: The guest's port for each vcpu's requests, in order.
        bufioreq_port: The guest's port for buffered requests; 0 without them.
        ranges: What it emulates, by ``RangeType``.
    """

    bufioreq: int
    frames: list[int] = field(default_factory=list)
    enabled: bool = False
    ports: list[int] = field(default_factory=list)
    bufioreq_port: int = 0
    ranges: list[Ranges] = field(default_factory=lambda: [Ranges() for _ in RangeType])
