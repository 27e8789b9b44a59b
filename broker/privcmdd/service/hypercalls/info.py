# SPDX-License-Identifier: Apache-2.0
"""What Xen says about a domain (``xen_domctl_getdomaininfo``), in ``domctl`` and ``sysctl`` alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import resources
from privcmdd.model.machine.domain import DomainState
from privcmdd.service.hypercalls.memory_op import DOM0_PAGES
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from privcmdd.model.host import Host
    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.machine import Machine

ARCH_CONFIG: Final = Layout("struct xen_arch_domainconfig", ("emulation_flags", "u32"), ("misc_flags", "u32"))
DOMAIN_INFO: Final = Layout(
    "struct xen_domctl_getdomaininfo",
    ("domain", "u16"),
    ("pad1", "u16"),
    ("flags", "u32"),
    ("tot_pages", "u64"),
    ("max_pages", "u64"),
    ("outstanding_pages", "u64"),
    ("shr_pages", "u64"),
    ("paged_pages", "u64"),
    ("shared_info_frame", "u64"),
    ("cpu_time", "u64"),
    ("nr_online_vcpus", "u32"),
    ("max_vcpu_id", "u32"),
    ("ssidref", "u32"),
    ("handle", Bytes(16)),
    ("cpupool", "u32"),
    ("gpaddr_bits", "u8"),
    ("pad2", Bytes(7)),
    ("arch_config", ARCH_CONFIG),
)

# XEN_DOMINF_*
DYING: Final = 1 << 0
HVM: Final = 1 << 1
SHUTDOWN: Final = 1 << 2
PAUSED: Final = 1 << 3
RUNNING: Final = 1 << 5
HAP: Final = 1 << 8
SHUTDOWN_SHIFT: Final = 16
NO_VCPU: Final = 0xFFFF_FFFF
NO_FRAME: Final = 0xFFFF_FFFF_FFFF_FFFF
PHYSICAL_BITS: Final = 46


def of_domain(machine: Machine, domain: Domain) -> dict[str, Any]:
    """The values of that structure for a domain. A PV domain's shared_info page is made when this first names it."""
    traits = domain.traits
    flags = PAUSED if domain.n_pauses else 0
    if domain.state is DomainState.DYING:
        flags |= DYING
    if domain.kind.translated:
        flags |= HVM | HAP
    if domain.shutdown is not None:
        flags |= SHUTDOWN | domain.shutdown << SHUTDOWN_SHIFT
    return {
        "domain": domain.domid,
        "flags": flags,
        "tot_pages": domain.tot_pages + domain.n_cached,
        "max_pages": domain.max_pages,
        "paged_pages": domain.n_paged,
        "shared_info_frame": shared_info_frame(machine, domain),
        "nr_online_vcpus": traits.n_online,
        "max_vcpu_id": traits.n_vcpus - 1 if traits.n_vcpus else NO_VCPU,
        "ssidref": traits.ssidref,
        "handle": traits.handle,
        "gpaddr_bits": PHYSICAL_BITS,
        "arch_config": {"emulation_flags": traits.emulation_flags, "misc_flags": traits.misc_flags},
    }


def shared_info_frame(machine: Machine, domain: Domain) -> int:
    """The mfn of a PV domain's shared_info page; ``NO_FRAME`` for another domain, or when there is no memory for it."""
    if domain.translated or not domain.alive:
        return NO_FRAME
    try:
        return resources.shared_info_frame(machine, domain)
    except ModelError:
        return NO_FRAME


def of_dom0(host: Host) -> dict[str, Any]:
    """The values of that structure for domain 0, the caller's own."""
    return {
        "domain": 0,
        "flags": RUNNING | (HVM | HAP if host.dom0 == "pvh" else 0),
        "tot_pages": DOM0_PAGES,
        "max_pages": DOM0_PAGES,
        "shared_info_frame": NO_FRAME,
        "nr_online_vcpus": 1,
        "max_vcpu_id": 0,
        "gpaddr_bits": PHYSICAL_BITS,
    }
