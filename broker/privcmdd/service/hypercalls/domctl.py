# SPDX-License-Identifier: Apache-2.0
"""``domctl``: domains made, changed and unmade by a toolstack.

A call carries the version of the interface that its caller was built with; another than the host's is EACCES, as in
Xen, before anything else is looked at.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import foreign, ioreq, lifecycle, memory
from privcmdd.model.machine.records import TSC_KHZ, Tsc
from privcmdd.model.units import DOMID_FIRST_RESERVED
from privcmdd.service.hypercalls import hvm_context, info
from privcmdd.service.hypercalls.context import is_self, versioned
from privcmdd.service.hypercalls.cpu_policy import DOMAIN_POLICY, PolicyError, get_domain_policy, set_domain_policy
from privcmdd.service.hypercalls.createdomain import CREATE, create
from privcmdd.service.hypercalls.info import DOMAIN_INFO
from privcmdd.service.hypercalls.paging import EVENT_OP, event_op
from privcmdd.service.hypercalls.shadow import MEMPOOL, SHADOW_OP, get_mempool, set_mempool, shadow_op
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.hypercalls.context import Hypercall

INTERFACE_VERSIONS: Final = {"4.17": 0x15, "4.20": 0x17}

HEAD: Final = Layout(
    "struct xen_domctl", ("cmd", "u32"), ("interface_version", "u32"), ("domain", "u16"), ("_pad", Bytes(6))
)
DOMCTL_BYTES: Final = 16 + 128
FRAME_INFO: Final = Layout("struct xen_domctl_getpageframeinfo3", ("num", "u64"), ("array", "u64"))
MAX_MEM: Final = Layout("struct xen_domctl_max_mem", ("max_memkb", "u64"))
MAX_VCPUS: Final = Layout("struct xen_domctl_max_vcpus", ("max", "u32"))
VCPU_CONTEXT: Final = Layout("struct xen_domctl_vcpucontext", ("vcpu", "u32"), ("ctxt", "u64"))
VCPU_INFO: Final = Layout(
    "struct xen_domctl_getvcpuinfo",
    ("vcpu", "u32"),
    ("online", "u8"),
    ("blocked", "u8"),
    ("running", "u8"),
    ("cpu_time", "u64"),
    ("cpu", "u32"),
)
EXTENDED_CONTEXT: Final = Layout(
    "struct xen_domctl_ext_vcpucontext",
    ("vcpu", "u32"),
    ("size", "u32"),
    ("syscall32_callback_eip", "u64"),
    ("sysenter_callback_eip", "u64"),
    ("syscall32_callback_cs", "u16"),
    ("sysenter_callback_cs", "u16"),
    ("syscall32_disables_events", "u8"),
    ("sysenter_disables_events", "u8"),
    (
        "vmce",
        Layout(
            "struct hvm_vmce_vcpu",
            ("caps", "u64"),
            ("mci_ctl2_bank0", "u64"),
            ("mci_ctl2_bank1", "u64"),
            ("mcg_ext_ctl", "u64"),
        ),
    ),
)
XSAVE_AREA: Final = Layout(
    "struct xen_domctl_vcpuextstate", ("vcpu", "u32"), ("xfeature_mask", "u64"), ("size", "u64"), ("buffer", "u64")
)
VCPU_MSRS: Final = Layout("struct xen_domctl_vcpu_msrs", ("vcpu", "u32"), ("msr_count", "u32"), ("msrs", "u64"))
ADDRESS_SIZE: Final = Layout("struct xen_domctl_address_size", ("size", "u32"))
HANDLE: Final = Layout("struct xen_domctl_setdomainhandle", ("handle", Bytes(16)))
TSC_INFO: Final = Layout(
    "struct xen_domctl_tsc_info",
    ("tsc_mode", "u32"),
    ("gtsc_khz", "u32"),
    ("incarnation", "u32"),
    ("pad", "u32"),
    ("elapsed_nsec", "u64"),
)

NO_TABLE: Final = 0  # XEN_DOMCTL_PFINFO_NOTAB: an ordinary page
TABLE_SHIFT: Final = 28  # XEN_DOMCTL_PFINFO_LTAB_SHIFT: above it, the level of a page table
PINNED: Final = 1 << 31  # XEN_DOMCTL_PFINFO_LPINTAB
NO_PAGE: Final = 0xF << 28  # XEN_DOMCTL_PFINFO_XTAB
MOST_FRAME_INFO: Final = 1024
TSC_MODES: Final = 3
TSC_NEVER_EMULATED: Final = 2
VCPU_CONTEXT_BYTES: Final = 5168  # vcpu_guest_context_x86_64
MOST_PAGES: Final = 1 << 40  # more than any machine has; a number that can still travel


def domctl(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The structure is the first argument; what a command changes in it is written back.

    Raises:
        ModelError: EFAULT; EACCES; EPERM; ESRCH; as the command says; ENOSYS.
    """
    address = arguments[0]
    data, head = versioned(call, address, DOMCTL_BYTES, HEAD, INTERFACE_VERSIONS, "domctl")
    number, xen = head["cmd"], call.machine.host.xen
    if number == CREATEDOMAIN:
        layout = CREATE[xen]
        answer = layout.unpack(data, HEAD.size)
        head["domain"] = create(call, head["domain"], answer)
    elif number == GETDOMAININFO:
        layout, answer = DOMAIN_INFO, next_domain(call, head["domain"])
        head["domain"] = answer["domain"]
    else:
        layout, do = call.find("domctl", number, OF_XEN[xen])
        if is_self(head["domain"]):
            raise call.unanswered(" of dom0")
        domain = call.domain(head["domain"])
        values = layout.unpack(data, HEAD.size)
        try:
            answer = do(call, domain, values)
        except PolicyError as refusal:
            data[HEAD.size : HEAD.size + layout.size] = layout.pack({**values, **refusal.place})
            call.memory.write(address, bytes(data))
            raise
    data[: HEAD.size] = HEAD.pack(head)
    data[HEAD.size : HEAD.size + layout.size] = layout.pack(answer)
    call.memory.write(address, bytes(data))
    return 0


def next_domain(call: Hypercall, first: int) -> dict[str, Any]:
    """``XEN_DOMCTL_getdomaininfo``: of the domain with this number, or in Xen 4.17 of the next higher one.

    Raises:
        ModelError: ESRCH; EINVAL, a reserved number (4.17).
    """
    if call.machine.host.xen != "4.17":
        if listed(call, first, 1) != [first]:
            raise ModelError(errno.ESRCH, f"there is no domain {first}")
        return info_list(call, first, 1)[0]
    if first >= DOMID_FIRST_RESERVED:
        raise ModelError(errno.EINVAL, f"domain is {first:#x}, a number of Xen's own")
    found = info_list(call, first, 1)
    if not found:
        raise ModelError(errno.ESRCH, f"there is no domain from {first} on")
    return found[0]


def info_list(call: Hypercall, first: int, most: int) -> list[dict[str, Any]]:
    """The information about domains from a number on that the caller may see, at most ``most`` of them."""
    machine = call.machine
    return [
        info.of_domain(machine, machine.domains[domid]) if domid else info.of_dom0(machine.host)
        for domid in listed(call, first, most)
    ]


def listed(call: Hypercall, first: int, most: int) -> list[int]:
    """The numbers of these domains; to ask for information about them may make a page of theirs."""
    shown = sorted(domid for domid in call.machine.domains if domid >= first and call.session.sees(domid))
    return ([0] * (first == 0) + shown)[:most]


def destroy(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_destroydomain``."""
    lifecycle.destroy(call.machine, domain.domid)
    return values


def pause(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_pausedomain``."""
    lifecycle.pause(call.machine, domain.domid)
    return values


def unpause(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_unpausedomain``."""
    lifecycle.unpause(call.machine, domain.domid)
    return values


def frame_info(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_getpageframeinfo3``: each frame number is replaced by the page type of that frame."""
    if values["num"] > MOST_FRAME_INFO:
        raise ModelError(errno.E2BIG, f"num is {values['num']}, at most {MOST_FRAME_INFO} frames may be asked for")
    gmfns = call.memory.numbers(values["array"], values["num"])
    errors = foreign.look(call.machine, domain.domid, gmfns)
    types = np.full(len(gmfns), NO_TABLE, dtype=np.uint64)
    if errors is not None:
        types[np.asarray(errors) != 0] = NO_PAGE
    for mfn, level in domain.tables.items():
        types[gmfns == mfn] = PINNED | level << TABLE_SHIFT
    call.memory.put_numbers(values["array"], types)
    return values


def max_mem(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_max_mem``: set the maximum reservation; a domain keeps frames that it has above it."""
    memory.set_max_pages(call.machine, domain.domid, min(values["max_memkb"] >> 2, MOST_PAGES))
    return values


def max_vcpus(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_max_vcpus``: makes them all, which must be as many as the domain was made for."""
    ioreq.make_vcpus(call.machine, domain.domid, values["max"])
    return values


def get_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_getvcpucontext``: the registers as they were set; zeros when they were not."""
    vcpu = values["vcpu"]
    lifecycle.check_vcpu(call.machine, domain.domid, vcpu)
    if vcpu >= domain.traits.n_online and vcpu not in domain.traits.contexts:
        raise ModelError(errno.ENODATA, f"vcpu {vcpu} of domain {domain.domid} has not been set up")
    call.memory.write(values["ctxt"], domain.traits.contexts.get(vcpu, bytes(VCPU_CONTEXT_BYTES)))
    return values


def set_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_setvcpucontext``: kept, and the vcpu is online."""
    lifecycle.check_vcpu(call.machine, domain.domid, values["vcpu"])
    registers = call.memory.read(values["ctxt"], VCPU_CONTEXT_BYTES) if values["ctxt"] else None
    lifecycle.set_context(call.machine, domain.domid, values["vcpu"], registers)
    return values


def vcpu_info(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_getvcpuinfo``: no vcpu runs or blocks here."""
    vcpu = values["vcpu"]
    lifecycle.check_vcpu(call.machine, domain.domid, vcpu)
    return {"vcpu": vcpu, "online": int(vcpu < domain.traits.n_online)}


def get_extended_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_get_ext_vcpucontext``: the state as it was set; zeros when it was not."""
    vcpu = values["vcpu"]
    lifecycle.check_vcpu(call.machine, domain.domid, vcpu)
    found = EXTENDED_CONTEXT.unpack(domain.traits.extended_contexts.get(vcpu, bytes(EXTENDED_CONTEXT.size)))
    return {**found, "vcpu": vcpu, "size": EXTENDED_CONTEXT.size}


def set_extended_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_set_ext_vcpucontext``: kept."""
    lifecycle.check_vcpu(call.machine, domain.domid, values["vcpu"])
    if values["size"] < EXTENDED_CONTEXT.members[-1].offset:
        raise ModelError(errno.EINVAL, f"size is {values['size']}, too few bytes for the callbacks of a vcpu")
    lifecycle.set_extended_context(call.machine, domain.domid, values["vcpu"], EXTENDED_CONTEXT.pack(values))
    return values


def no_xsave_area(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_getvcpuextstate``: the processor has no XSAVE, so there is no such area."""
    lifecycle.check_vcpu(call.machine, domain.domid, values["vcpu"])
    return {**values, "xfeature_mask": 0, "size": 0}


def no_msrs(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_get_vcpu_msrs``: no MSR differs from its value after a reset."""
    lifecycle.check_vcpu(call.machine, domain.domid, values["vcpu"])
    return {**values, "msr_count": 0}


def set_handle(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_setdomainhandle``."""
    lifecycle.set_handle(call.machine, domain.domid, values["handle"])
    return values


def get_address_size(_call: Hypercall, _domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_get_address_size``: all guests have 64 bits."""
    return {**values, "size": 64}


def set_address_size(_call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_set_address_size``: of a PV guest, and only to 64 bits."""
    if domain.kind.translated or values["size"] != 64:
        raise ModelError(errno.EINVAL, f"size is {values['size']}, expected 64, of a PV domain")
    return values


def get_tsc(_call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_gettscinfo``: zeros for a TSC that is never emulated."""
    tsc = domain.traits.tsc
    never = tsc.mode == TSC_NEVER_EMULATED
    return {
        **values,
        "tsc_mode": tsc.mode,
        "gtsc_khz": 0 if never else tsc.khz,
        "incarnation": tsc.incarnation,
        "elapsed_nsec": 0 if never else tsc.elapsed_ns,
    }


def set_tsc(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_settscinfo``: a new incarnation begins; without a frequency the TSC has that of the processor."""
    if values["tsc_mode"] >= TSC_MODES:
        raise ModelError(errno.EINVAL, f"tsc_mode is {values['tsc_mode']}, expected 0 to {TSC_MODES - 1}")
    khz = values["gtsc_khz"] or TSC_KHZ
    tsc = Tsc(values["tsc_mode"], khz, values["incarnation"] + 1 & 0xFFFF_FFFF, values["elapsed_nsec"])
    lifecycle.set_tsc(call.machine, domain.domid, tsc)
    return values


def resume(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_resumedomain``: the domain is no longer shut down."""
    lifecycle.resume(call.machine, domain.domid)
    return values


def no_llc_colors(_call: Hypercall, _domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_set_llc_colors``: the processor's cache has no colours."""
    if values["pad"]:
        raise ModelError(errno.EINVAL, f"pad is {values['pad']}, expected 0")
    raise ModelError(errno.EOPNOTSUPP, "cache colouring is off")


def accepted(_call: Hypercall, _domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """Accepted, without effect."""
    return values


# XEN_DOMCTL_* of xen/include/public/domctl.h: the structure, and what is done.
CREATEDOMAIN: Final = 1
GETDOMAININFO: Final = 5
NOTHING: Final = Layout("no structure")
COMMANDS: Final[dict[int, tuple[Layout, Callable[[Hypercall, Domain, dict[str, Any]], dict[str, Any]]]]] = {
    2: (NOTHING, destroy),
    3: (NOTHING, pause),
    4: (NOTHING, unpause),
    10: (SHADOW_OP, shadow_op),
    11: (MAX_MEM, max_mem),
    12: (VCPU_CONTEXT, set_context),
    13: (VCPU_CONTEXT, get_context),
    14: (VCPU_INFO, vcpu_info),
    15: (MAX_VCPUS, max_vcpus),
    17: (HANDLE, set_handle),
    19: (NOTHING, accepted),  # irq_permission
    20: (NOTHING, accepted),  # iomem_permission
    21: (NOTHING, accepted),  # ioport_permission
    27: (NOTHING, resume),
    33: (hvm_context.CONTEXT, hvm_context.get_context),
    34: (hvm_context.CONTEXT, hvm_context.set_context),
    42: (EXTENDED_CONTEXT, set_extended_context),
    43: (EXTENDED_CONTEXT, get_extended_context),
    35: (ADDRESS_SIZE, set_address_size),
    36: (ADDRESS_SIZE, get_address_size),
    55: (hvm_context.PARTIAL, hvm_context.get_one_record),
    56: (EVENT_OP, event_op),
    59: (TSC_INFO, get_tsc),
    60: (TSC_INFO, set_tsc),
    61: (FRAME_INFO, frame_info),
    63: (XSAVE_AREA, no_xsave_area),
    72: (VCPU_MSRS, no_msrs),
    82: (DOMAIN_POLICY, get_domain_policy),
    83: (DOMAIN_POLICY, set_domain_policy),
    85: (MEMPOOL, get_mempool),
    86: (MEMPOOL, set_mempool),
}
SINCE_4_20: Final[dict[int, tuple[Layout, Callable[[Hypercall, Domain, dict[str, Any]], dict[str, Any]]]]] = {
    88: (NOTHING, accepted),  # gsi_permission
    89: (Layout("LLC colours", ("num_llc_colors", "u32"), ("pad", "u32"), ("llc_colors", "u64")), no_llc_colors),
}
OF_XEN: Final = {"4.17": COMMANDS, "4.20": COMMANDS | SINCE_4_20}
