# SPDX-License-Identifier: Apache-2.0
"""``XEN_DOMCTL_createdomain``: checking what is asked for, and making the domain."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.records import MAX_GRANT_FRAMES, GrantTable, Traits
from privcmdd.model.units import DOMID_FIRST_RESERVED
from privcmdd.service.domain_files import make_domain
from privcmdd.service.hypercalls.info import ARCH_CONFIG
from privcmdd.service.layout import Bytes, Layout, Row

if TYPE_CHECKING:
    from privcmdd.model.host import Host
    from privcmdd.service.hypercalls.context import Hypercall

NAME: Final = "struct xen_domctl_createdomain"
BEGINNING: Final[tuple[Row, ...]] = (
    ("ssidref", "u32"),
    ("handle", Bytes(16)),
    ("flags", "u32"),
    ("iommu_opts", "u32"),
    ("max_vcpus", "u32"),
    ("max_evtchn_port", "u32"),
    ("max_grant_frames", "i32"),
    ("max_maptrack_frames", "i32"),
    ("grant_opts", "u32"),
)
END: Final[tuple[Row, ...]] = (("vmtrace_size", "u32"), ("cpupool_id", "u32"), ("arch", ARCH_CONFIG))
CREATE: Final = {
    "4.17": Layout(NAME, *BEGINNING, *END),
    "4.20": Layout(NAME, *BEGINNING, ("altp2m_opts", "u32"), *END),
}

# XEN_DOMCTL_CDF_*
CDF_HVM: Final = 1 << 0
CDF_HAP: Final = 1 << 1
CDF_NESTED_VIRT: Final = 1 << 6
CDF_ALL: Final = (1 << 8) - 1
ALTP2M_MODES: Final = 3  # XEN_DOMCTL_ALTP2M_mode_mask
# XEN_X86_EMU_*
EMU_LAPIC: Final = 1 << 0
EMU_HVM: Final = (1 << 10) - 1  # all but vPCI
EMU_USE_PIRQ: Final = 1 << 9
MOST_VCPUS: Final = {DomainKind.PV: 8192, DomainKind.HVM: 128, DomainKind.PVH: 128}
MOST_MAPTRACK_FRAMES: Final = 1024
GRANT_VERSIONS: Final = (1, 2)
MEMPOOL_BYTES: Final = 1 << 20  # what Xen gives a translated domain to begin with (hap_enable)


def create(call: Hypercall, wanted: int, values: dict[str, Any]) -> int:
    """``XEN_DOMCTL_createdomain``: the new domain's number."""
    kind = check_create(values, call.machine.host)
    domid = wanted if 0 < wanted < DOMID_FIRST_RESERVED else None
    call.session.check("admin", domid)
    traits = Traits(
        handle=values["handle"],
        flags=values["flags"],
        ssidref=values["ssidref"],
        emulation_flags=values["arch"]["emulation_flags"],
        misc_flags=values["arch"]["misc_flags"],
        max_vcpus=values["max_vcpus"],
        n_vcpus=0,
        n_online=0,
        mempool_bytes=MEMPOOL_BYTES if kind.translated else 0,
    )
    n_frames = values["max_grant_frames"]
    grants = GrantTable(MAX_GRANT_FRAMES if n_frames < 0 else n_frames, values["grant_opts"])
    # A domain begins without memory; its maximum is set later.
    n_spill = min(call.machine.max_gfns, call.machine.frames.n_frames)
    world, session = call.world, call.session
    return make_domain(world, session, kind, 0, (), domid, "", n_spill=n_spill, traits=traits, grants=grants).domid


def check_create(values: dict[str, Any], host: Host) -> DomainKind:
    """Check that Xen makes such a domain, and return its kind.

    Raises:
        ModelError: EINVAL; EOPNOTSUPP, an HVM domain with shadow paging, which a release is built without.
    """
    flags, emulated = values["flags"], values["arch"]["emulation_flags"]
    is_hvm = bool(flags & CDF_HVM)
    kind = DomainKind.PV if not is_hvm else DomainKind.PVH if emulated in (0, EMU_LAPIC) else DomainKind.HVM
    if flags & ~CDF_ALL:
        raise ModelError(errno.EINVAL, f"flags are {flags:#x}, known are {CDF_ALL:#x}")
    if flags & CDF_HAP and not is_hvm:
        raise ModelError(errno.EINVAL, "hardware-assisted paging is for HVM domains")
    # Since Xen 4.19 an HVM domain may do without PIRQs.
    whole = (EMU_HVM,) if host.xen == "4.17" else (EMU_HVM, EMU_HVM & ~EMU_USE_PIRQ)
    if emulated not in ((0, EMU_LAPIC, *whole) if is_hvm else (0, 1 << 8)):
        raise ModelError(errno.EINVAL, f"emulation_flags are {emulated:#x}, which no domain of its kind has")
    if not 0 < values["max_vcpus"] <= MOST_VCPUS[kind]:
        raise ModelError(errno.EINVAL, f"max_vcpus is {values['max_vcpus']}, expected 1 to {MOST_VCPUS[kind]}")
    if values["vmtrace_size"]:
        raise ModelError(errno.EINVAL, "vmtrace needs an Intel processor")
    if values["cpupool_id"]:
        raise ModelError(errno.EINVAL, f"there is no cpupool {values['cpupool_id']}")
    if values["grant_opts"] not in GRANT_VERSIONS:
        raise ModelError(errno.EINVAL, f"grant_opts is {values['grant_opts']:#x}, expected a version, 1 or 2")
    if values["max_grant_frames"] == 0 or values["max_grant_frames"] > MAX_GRANT_FRAMES:
        raise ModelError(errno.EINVAL, f"max_grant_frames is {values['max_grant_frames']}, expected 1 to 64")
    if values["max_maptrack_frames"] > MOST_MAPTRACK_FRAMES:
        raise ModelError(errno.EINVAL, f"max_maptrack_frames is {values['max_maptrack_frames']}, expected at most 1024")
    altp2m = values.get("altp2m_opts", 0)
    if altp2m > ALTP2M_MODES or (altp2m and (flags & CDF_NESTED_VIRT or not flags & CDF_HAP)):
        raise ModelError(errno.EINVAL, f"altp2m_opts is {altp2m:#x}, expected 0, or a mode up to 3 with HAP alone")
    if is_hvm and not flags & CDF_HAP and host.build == "release":
        raise ModelError(errno.EOPNOTSUPP, "this Xen is built without shadow paging: ask for XEN_DOMCTL_CDF_hap")
    return kind
