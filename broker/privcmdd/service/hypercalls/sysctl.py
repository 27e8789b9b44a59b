# SPDX-License-Identifier: Apache-2.0
"""``sysctl``: the machine as a whole. It has one processor, in one node, and a console that says nothing."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.records import TSC_KHZ
from privcmdd.service.hypercalls.context import versioned
from privcmdd.service.hypercalls.cpu_policy import FEATURESET, SYSTEM_POLICY, get_featureset, get_system_policy
from privcmdd.service.hypercalls.domctl import info_list, listed
from privcmdd.service.hypercalls.info import DOMAIN_INFO
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.hypercalls.context import Hypercall

INTERFACE_VERSIONS: Final = {"4.17": 0x15, "4.20": 0x15}

HEAD: Final = Layout("struct xen_sysctl", ("cmd", "u32"), ("interface_version", "u32"))
SYSCTL_BYTES: Final = 8 + 128
READCONSOLE: Final = Layout(
    "struct xen_sysctl_readconsole",
    ("clear", "u8"),
    ("incremental", "u8"),
    ("pad0", "u8"),
    ("pad1", "u8"),
    ("index", "u32"),
    ("buffer", "u64"),
    ("count", "u32"),
)
PHYSINFO: Final = Layout(
    "struct xen_sysctl_physinfo",
    ("threads_per_core", "u32"),
    ("cores_per_socket", "u32"),
    ("nr_cpus", "u32"),
    ("max_cpu_id", "u32"),
    ("nr_nodes", "u32"),
    ("max_node_id", "u32"),
    ("cpu_khz", "u32"),
    ("capabilities", "u32"),
    ("arch_capabilities", "u32"),
    ("pad", "u32"),
    ("total_pages", "u64"),
    ("free_pages", "u64"),
    ("scrub_pages", "u64"),
    ("outstanding_pages", "u64"),
    ("max_mfn", "u64"),
    ("hw_cap", Bytes(32)),
)
SCHED_ID: Final = Layout("struct xen_sysctl_sched_id", ("sched_id", "u32"))
DOMAIN_INFO_LIST: Final = Layout(
    "struct xen_sysctl_getdomaininfolist",
    ("first_domain", "u16"),
    ("max_domains", "u32"),
    ("buffer", "u64"),
    ("num_domains", "u32"),
)
CPU_INFO: Final = Layout("struct xen_sysctl_getcpuinfo", ("max_cpus", "u32"), ("info", "u64"), ("nr_cpus", "u32"))
AVAILHEAP: Final = Layout(
    "struct xen_sysctl_availheap",
    ("min_bitwidth", "u32"),
    ("max_bitwidth", "u32"),
    ("node", "i32"),
    ("avail_bytes", "u64"),
)
CPU_TOPOLOGY: Final = Layout("struct xen_sysctl_cputopoinfo", ("num_cpus", "u32"), ("cputopo", "u64"))
NODE_INFO: Final = Layout("struct xen_sysctl_numainfo", ("num_nodes", "u32"), ("meminfo", "u64"), ("distance", "u64"))
BITMAP: Final = Layout("struct xenctl_bitmap", ("bitmap", "u64"), ("nr_bits", "u32"))
CPUPOOL_OP: Final = Layout(
    "struct xen_sysctl_cpupool_op",
    ("op", "u32"),
    ("cpupool_id", "u32"),
    ("sched_id", "u32"),
    ("domid", "u32"),
    ("cpu", "u32"),
    ("n_dom", "u32"),
    ("cpumap", BITMAP),
)

# XEN_SYSCTL_PHYSCAP_*: hvm, pv, hap, both versions of grants.
CAPABILITIES: Final = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 8 | 1 << 9
SCHED_CREDIT2: Final = 6
POOL_INFO: Final = 3  # XEN_SYSCTL_CPUPOOL_OP_*
POOL_FREE_INFO: Final = 7
PAGE_SHIFT: Final = 12
# Domains of one list: as many as there can be.
MOST_DOMAINS: Final = 32_752


def sysctl(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The structure is the first argument; what a command changes in it is written back.

    Raises:
        ModelError: EFAULT; EACCES, another version of the interface; as the command says; ENOSYS.
    """
    address = arguments[0]
    data, head = versioned(call, address, SYSCTL_BYTES, HEAD, INTERFACE_VERSIONS, "sysctl")
    layout, do = call.find("sysctl", head["cmd"], COMMANDS)
    answer = do(call, layout.unpack(data, HEAD.size))
    data[HEAD.size : HEAD.size + layout.size] = layout.pack(answer)
    call.memory.write(address, bytes(data))
    return 0


def read_console(_call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_readconsole``: the console is empty."""
    return {**values, "count": 0}


def physical_info(call: Hypercall, _values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_physinfo``."""
    frames = call.machine.frames
    return {
        "threads_per_core": 1,
        "cores_per_socket": 1,
        "nr_cpus": 1,
        "nr_nodes": 1,
        "cpu_khz": TSC_KHZ,
        "capabilities": CAPABILITIES,
        "total_pages": frames.n_frames,
        "free_pages": frames.n_free,
        "max_mfn": frames.n_frames - 1,
    }


def scheduler(_call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_sched_id``."""
    return {**values, "sched_id": SCHED_CREDIT2}


def domain_info_list(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_getdomaininfolist``: those that the caller has a right to, domain 0 first."""
    first, most = values["first_domain"], min(values["max_domains"], MOST_DOMAINS)
    call.memory.check(values["buffer"], DOMAIN_INFO.size * len(listed(call, first, most)))
    found = info_list(call, first, most)
    call.memory.write(values["buffer"], b"".join(DOMAIN_INFO.pack(row) for row in found))
    return {**values, "num_domains": len(found)}


def cpu_info(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_getcpuinfo``: one processor that never idled."""
    n_cpus = min(1, values["max_cpus"])
    call.memory.write(values["info"], bytes(8 * n_cpus))
    return {**values, "nr_cpus": n_cpus}


def available_heap(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_availheap``."""
    return {**values, "avail_bytes": call.machine.frames.n_free << PAGE_SHIFT}


def cpu_topology(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_cputopoinfo``: core 0 of socket 0 of node 0."""
    if values["cputopo"]:
        call.memory.write(values["cputopo"], bytes(12 * min(1, values["num_cpus"])))
    return {**values, "num_cpus": 1}


def node_info(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_numainfo``: all memory is in one node, at distance 10 from itself."""
    frames = call.machine.frames
    if values["num_nodes"]:
        if values["meminfo"]:
            sizes = (frames.n_frames << PAGE_SHIFT, frames.n_free << PAGE_SHIFT)
            call.memory.write(values["meminfo"], b"".join(size.to_bytes(8, "little") for size in sizes))
        if values["distance"]:
            call.memory.write(values["distance"], (10).to_bytes(4, "little"))
    return {**values, "num_nodes": 1}


def cpupool(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_cpupool_op``: information about pool 0, which has the processor."""
    call.operation = named("cpupool_op", values["op"])
    if values["op"] not in (POOL_INFO, POOL_FREE_INFO):
        raise call.unanswered()
    if values["op"] == POOL_INFO and values["cpupool_id"]:
        raise ModelError(errno.ENOENT, f"there is no cpupool from {values['cpupool_id']} on")
    bitmap = values["cpumap"]
    if bitmap["bitmap"] and bitmap["nr_bits"]:
        first = b"\1" if values["op"] == POOL_INFO else b"\0"
        call.memory.write(bitmap["bitmap"], first.ljust(-(-min(bitmap["nr_bits"], 4096) // 8), b"\0"))
    return {**values, "sched_id": SCHED_CREDIT2, "n_dom": len(call.machine.domains) + 1}


# XEN_SYSCTL_* of xen/include/public/sysctl.h: the structure, and what is done.
COMMANDS: Final[dict[int, tuple[Layout, Callable[[Hypercall, dict[str, Any]], dict[str, Any]]]]] = {
    1: (READCONSOLE, read_console),
    3: (PHYSINFO, physical_info),
    4: (SCHED_ID, scheduler),
    6: (DOMAIN_INFO_LIST, domain_info_list),
    8: (CPU_INFO, cpu_info),
    9: (AVAILHEAP, available_heap),
    16: (CPU_TOPOLOGY, cpu_topology),
    17: (NODE_INFO, node_info),
    18: (CPUPOOL_OP, cpupool),
    26: (FEATURESET, get_featureset),
    29: (SYSTEM_POLICY, get_system_policy),
}
