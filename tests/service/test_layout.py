# SPDX-License-Identifier: Apache-2.0
"""Every C structure that the broker reads or writes, held against the headers that programs are built with."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privcmd.guest import _pv as pv
from privcmdd.service import hypercalls, vm_event
from privcmdd.service.hypercalls import createdomain, domctl, hvm_context, sysctl
from privcmdd.service.hypercalls.names import NAMES, SINCE_4_20
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = """\
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#define __XEN_TOOLS__ 1
#include <xen/xen.h>
#include <xen/arch-x86/xen.h>
#include <xen/version.h>
#include <xen/memory.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/event_channel.h>
#include <xen/sched.h>
#include <xen/grant_table.h>
#include <xen/vm_event.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/params.h>
#include <xen/hvm/save.h>
"""
INSTALLED = Path("/usr/include/xen/domctl.h")
_VERSIONS = {version: xen for xen, version in domctl.INTERFACE_VERSIONS.items()}
_DEFINED = re.search(r"XEN_DOMCTL_INTERFACE_VERSION (0x\w+)", INSTALLED.read_text()) if INSTALLED.exists() else None
RELEASE = _VERSIONS.get(int(_DEFINED[1], 16)) if _DEFINED else None
"""The release of Xen whose headers are installed; what the releases differ in is compared with these."""
OPERATIONS = {kind: names | (SINCE_4_20.get(kind, {}) if RELEASE == "4.20" else {}) for kind, names in NAMES.items()}
# Layouts that are less than a structure: a beginning of one, or none at all.
HEADS = {"struct xen_domctl", "struct xen_sysctl", "struct xen_dm_op", "struct xen_build_id", "struct vm_event_st"}
VALUES = {
    "domctl.DOMCTL_BYTES": "sizeof(struct xen_domctl)",
    "sysctl.SYSCTL_BYTES": "sizeof(struct xen_sysctl)",
    "domctl.VCPU_CONTEXT_BYTES": "sizeof(struct vcpu_guest_context)",
    "createdomain.CDF_HVM": "XEN_DOMCTL_CDF_hvm",
    "createdomain.CDF_HAP": "XEN_DOMCTL_CDF_hap",
    "createdomain.CDF_ALL": "(XEN_DOMCTL_CDF_MAX << 1) - 1",
    "createdomain.EMU_LAPIC": "XEN_X86_EMU_LAPIC",
    "createdomain.EMU_HVM": "XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI",
    "domctl.NO_PAGE": "XEN_DOMCTL_PFINFO_XTAB",
    "info.DYING": "XEN_DOMINF_dying",
    "info.HVM": "XEN_DOMINF_hvm_guest",
    "info.SHUTDOWN": "XEN_DOMINF_shutdown",
    "info.PAUSED": "XEN_DOMINF_paused",
    "info.RUNNING": "XEN_DOMINF_running",
    "info.HAP": "XEN_DOMINF_hap",
    "info.SHUTDOWN_SHIFT": "XEN_DOMINF_shutdownshift",
    "memory_op.POPULATE_ON_DEMAND": "XENMEMF_populate_on_demand",
    "hvm_op.N_PARAMS": "HVM_NR_PARAMS",
    "vm_event.REQUEST_BYTES": "sizeof(vm_event_request_t)",
    "vm_event.RING_OFFSET": "offsetof(struct vm_event_sring, ring)",
    "vm_event.RING_REQUESTS": "__RING_SIZE((struct vm_event_sring *)0, 4096)",
    "vm_event.REASON_PAGING": "VM_EVENT_REASON_MEM_PAGING",
    "vm_event.REQUEST_VERSION": "VM_EVENT_INTERFACE_VERSION",
    "paging.PAGING_MODE": "XEN_DOMCTL_VM_EVENT_OP_PAGING",
    "paging.RING_PARAM": "HVM_PARAM_PAGING_RING_PFN",
    "domctl.PINNED": "XEN_DOMCTL_PFINFO_LPINTAB",
    "domctl.TABLE_SHIFT": "XEN_DOMCTL_PFINFO_LTAB_SHIFT",
    "sched_op.REMOTE_SHUTDOWN": "SCHEDOP_remote_shutdown",
    "cpu_policy.NONE": "XEN_CPUID_NO_SUBLEAF",
    "cpu_policy.N_POLICIES": "XEN_SYSCTL_cpu_policy_hvm_default + 1",
    "hvm_context.MAGIC": "HVM_FILE_MAGIC",
    "memory_op.MAX_PFN_OFFSET": "offsetof(struct shared_info, arch.max_pfn)",
    "hvm_context.VERSION": "HVM_FILE_VERSION",
    "multicall.NUMBER": "__HYPERVISOR_multicall",
    "multicall.RESULT_OFFSET": "offsetof(struct multicall_entry, result)",
}
# Where the kernel of a PV guest puts things.
PV = {
    "INFO_SHARED_INFO": "offsetof(struct xen_domctl, u) + offsetof(struct xen_domctl_getdomaininfo, shared_info_frame)",
    "MAX_PFN": "offsetof(struct shared_info, arch.max_pfn)",
    "START_PAGES": "offsetof(struct start_info, nr_pages)",
    "START_STORE": "offsetof(struct start_info, store_mfn)",
    "START_CONSOLE": "offsetof(struct start_info, console.domU.mfn)",
    "CONTEXT_BYTES": "sizeof(struct vcpu_guest_context)",
    "CONTEXT_RDX": "offsetof(struct vcpu_guest_context, user_regs.rdx)",
    "CONTEXT_CR3": "offsetof(struct vcpu_guest_context, ctrlreg[3])",
    "PIN_L4": "MMUEXT_PIN_L4_TABLE",
    "DOMCTL_BYTES": "sizeof(struct xen_domctl)",
}
# HVM_SAVE_CODE of the records whose size is always the same.
HVM_RECORDS = [
    *("CPU", "PIC", "IOAPIC", "LAPIC", "LAPIC_REGS", "PCI_IRQ", "ISA_IRQ", "PCI_LINK", "PIT", "RTC", "HPET"),
    *("PMTIMER", "MTRR", "VIRIDIAN_DOMAIN", "VIRIDIAN_VCPU", "VMCE_VCPU", "TSC_ADJUST"),
]

PREFIXES = {
    "hypercall": "__HYPERVISOR_",
    "memory_op": "XENMEM_",
    "xen_version": "XENVER_",
    "mmuext_op": "MMUEXT_",
    "sched_op": "SCHEDOP_",
    "grant_table_op": "GNTTABOP_",
    "event_channel_op": "EVTCHNOP_",
    "hvm_op": "HVMOP_",
    "sysctl": "XEN_SYSCTL_",
    "cpupool_op": "XEN_SYSCTL_CPUPOOL_OP_",
    "domctl": "XEN_DOMCTL_",
    "dm_op": "XEN_DMOP_",
}


def constant(kind: str, name: str) -> str:
    """What the headers call an operation."""
    return PREFIXES[kind] + (name.upper() if kind in ("mmuext_op", "cpupool_op") else name)


def modules() -> Iterator[tuple[str, object]]:
    """The modules that have layouts of Xen's structures, by their names."""
    yield "vm_event", vm_event
    for found in pkgutil.iter_modules(hypercalls.__path__):
        yield found.name, importlib.import_module(f"privcmdd.service.hypercalls.{found.name}")


def layouts() -> dict[str, Layout]:
    """Every layout of the room, those inside others too, by the name of its structure."""
    found: dict[str, Layout] = {}

    def add(layout: Layout) -> None:
        if layout.c_name.startswith("struct "):
            assert found.setdefault(layout.c_name, layout).members == layout.members
        for member in layout.members:
            if isinstance(member.kind, Layout):
                add(member.kind)

    for _, module in modules():
        for value in vars(module).values():
            if isinstance(value, Layout):
                add(value)
    add(createdomain.CREATE[RELEASE or "4.17"])
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What a C compiler says of sizes, offsets and constants, by C expression."""
    if shutil.which("cc") is None:
        pytest.skip("NOT TESTED: the layouts against Xen's headers; missing: cc (apt-get install gcc)")
    asked = []
    for name, layout in layouts().items():
        if name not in HEADS:
            asked.append(f"sizeof({name})")
        asked += [f"offsetof({name}, {member.name})" for member in layout.members]
        asked += [f"sizeof((({name} *)0)->{member.name})" for member in layout.members]
    asked += [*VALUES.values(), *PV.values(), "XEN_DOMCTL_INTERFACE_VERSION", "XEN_SYSCTL_INTERFACE_VERSION"]
    asked += [constant(kind, name) for kind, names in OPERATIONS.items() for name in names.values()]
    asked += [f"{what}({name})" for name in HVM_RECORDS for what in ("HVM_SAVE_CODE", "HVM_SAVE_LENGTH")]
    lines = "\n".join(f'    printf("%lld %s\\n", (long long)({text}), "{text}");' for text in asked)
    directory: Path = tmp_path_factory.mktemp("layouts")
    source = directory / "layouts.c"
    source.write_text(f"{HEADERS}int main(void)\n{{\n{lines}\n    return 0;\n}}\n", encoding="utf-8")
    program = directory / "layouts"
    built = subprocess.run(["cc", "-o", program, source], capture_output=True, text=True, check=False)
    if "xen/" in built.stderr and "No such file" in built.stderr:
        pytest.skip("NOT TESTED: the layouts against Xen's headers; they are missing (apt-get install libxen-dev)")
    assert built.returncode == 0, built.stderr
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {text: int(number) for number, text in (line.split(" ", 1) for line in said.splitlines())}


@pytest.mark.parametrize("name", sorted(layouts()))
def test_layouts_are_those_of_the_headers(name: str, measured: dict[str, int]) -> None:
    """Each member lies where the compiler puts it and is as large, and so is the whole."""
    layout = layouts()[name]

    for member in layout.members:
        assert (member.name, member.offset) == (member.name, measured[f"offsetof({name}, {member.name})"])
        assert (member.name, member.size) == (member.name, measured[f"sizeof((({name} *)0)->{member.name})"])
    if name not in HEADS:
        assert layout.size == measured[f"sizeof({name})"]


@pytest.mark.parametrize("name", VALUES)
def test_constants_are_those_of_the_headers(name: str, measured: dict[str, int]) -> None:
    """Versions, sizes and flags."""
    module, constant = name.split(".")

    assert vars(dict(modules())[module])[constant] == measured[VALUES[name]]


def test_versions_of_interfaces_are_those_of_the_headers(measured: dict[str, int]) -> None:
    """Those of the release that is installed, the client library's too."""
    assert RELEASE is not None, "the headers are of a Xen that no host here has"
    xen_version = {"4.17": 4 << 16 | 17, "4.20": 4 << 16 | 20}[RELEASE]

    assert domctl.INTERFACE_VERSIONS[RELEASE] == measured["XEN_DOMCTL_INTERFACE_VERSION"]
    assert pv.DOMCTL_VERSIONS[xen_version] == measured["XEN_DOMCTL_INTERFACE_VERSION"]
    assert sysctl.INTERFACE_VERSIONS[RELEASE] == measured["XEN_SYSCTL_INTERFACE_VERSION"]


@pytest.mark.parametrize("kind", OPERATIONS)
def test_names_are_those_of_the_headers(kind: str, measured: dict[str, int]) -> None:
    """An operation that has no answer is told of by its own name."""
    assert OPERATIONS[kind] == {measured[constant(kind, name)]: name for name in OPERATIONS[kind].values()}


def test_the_kernel_of_a_pv_guest_goes_by_the_headers(measured: dict[str, int]) -> None:
    """Offsets, sizes and numbers that the client library has of them."""
    assert {name: vars(pv)[name] for name in PV} == {name: measured[text] for name, text in PV.items()}


def test_records_of_virtual_hardware_are_those_of_the_headers(measured: dict[str, int]) -> None:
    """Their numbers and sizes."""
    known = {measured[f"HVM_SAVE_CODE({name})"]: measured[f"HVM_SAVE_LENGTH({name})"] for name in HVM_RECORDS}

    assert RELEASE is not None
    records = hvm_context.records_of(RELEASE)
    assert {code: record.n_bytes for code, record in records.items() if record.n_bytes} == known
