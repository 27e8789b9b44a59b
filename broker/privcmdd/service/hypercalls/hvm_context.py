# SPDX-License-Identifier: Apache-2.0
"""The state of an HVM domain's virtual hardware, as tools save and load it: records, each behind a descriptor.

The interrupt lines come from the model. All other records are kept as they were loaded, and are zero until then,
because no guest runs here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import ioreq, lifecycle
from privcmdd.model.machine.domain import DomainKind
from privcmdd.model.machine.interrupts import INTX, ISA_IRQS, PCI_DEVICES, PCI_LINKS, Interrupts
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from privcmdd.model.machine.domain import Domain
    from privcmdd.service.hypercalls.context import Hypercall

CONTEXT: Final = Layout("struct xen_domctl_hvmcontext", ("size", "u32"), ("buffer", "u64"))
PARTIAL: Final = Layout(
    "struct xen_domctl_hvmcontext_partial",
    ("type", "u32"),
    ("instance", "u32"),
    ("bufsz", "u64"),
    ("buffer", "u64"),
)
DESCRIPTOR: Final = Layout("struct hvm_save_descriptor", ("typecode", "u16"), ("instance", "u16"), ("length", "u32"))
HEADER: Final = Layout(
    "struct hvm_save_header",
    ("magic", "u32"),
    ("version", "u32"),
    ("changeset", "u64"),
    ("cpuid", "u32"),
    ("gtsc_khz", "u32"),
)
MAGIC: Final = 0x5438_1286  # HVM_FILE_MAGIC
VERSION: Final = 1  # HVM_FILE_VERSION
MOST_BYTES: Final = 1 << 20


class Record(NamedTuple):
    """A type of record.

    Attributes:
        n_bytes: Its size; None when records of this type differ in size.
        per_vcpu: Whether every vcpu has one.
        n_units: How many a domain has, when they are not of vcpus.
        always: Whether a new HVM domain has it.
        pvh: Whether a new PVH domain has it, too.
        n_bytes_before: Its size in older releases, whose records are loaded with zeros behind them.
    """

    n_bytes: int | None
    per_vcpu: bool = False
    n_units: int = 1
    always: bool = True
    pvh: bool = False
    n_bytes_before: int | None = None

    def count(self, domain: Domain) -> int:
        """How many instances a domain may have."""
        return domain.traits.n_vcpus if self.per_vcpu else self.n_units

    def loaded(self, data: bytes) -> bytes | None:
        """What a domain has of a record that is loaded; None for one of another size."""
        if self.n_bytes is None or len(data) == self.n_bytes:
            return data
        return data.ljust(self.n_bytes, b"\0") if len(data) == self.n_bytes_before else None


END: Final = 0
HEAD: Final = 1
CPU: Final = 2
LAPIC: Final = 5
PCI_IRQ: Final = 7
ISA_IRQ: Final = 8
PCI_LINK: Final = 9
# HVM_SAVE_CODE of xen/include/public/arch-x86/hvm/save.h.
RECORDS: Final[Mapping[int, Record]] = {
    CPU: Record(1032, per_vcpu=True, pvh=True),
    3: Record(8, n_units=2),  # PIC
    4: Record(400),  # IOAPIC
    LAPIC: Record(24, per_vcpu=True, pvh=True),
    6: Record(1024, per_vcpu=True, pvh=True),  # LAPIC_REGS
    PCI_IRQ: Record(16),
    ISA_IRQ: Record(8),
    PCI_LINK: Record(8),
    10: Record(56),  # PIT
    11: Record(24),  # RTC
    12: Record(1048),  # HPET
    13: Record(8),  # PMTIMER
    14: Record(240, per_vcpu=True, pvh=True),  # MTRR
    15: Record(32, always=False),  # VIRIDIAN_DOMAIN
    16: Record(None, per_vcpu=True, always=False),  # CPU_XSAVE
    17: Record(216, per_vcpu=True, always=False),  # VIRIDIAN_VCPU
    18: Record(32, per_vcpu=True, pvh=True),  # VMCE_VCPU
    19: Record(8, per_vcpu=True, pvh=True),  # TSC_ADJUST
    20: Record(None, per_vcpu=True, always=False),  # CPU_MSR
}
SINCE_4_20: Final = {
    LAPIC: Record(32, per_vcpu=True, pvh=True, n_bytes_before=24),  # its x2APIC id is saved
}


def records_of(xen: str) -> Mapping[int, Record]:
    """The types of record that a release of Xen has, by number."""
    return RECORDS if xen == "4.17" else {**RECORDS, **SINCE_4_20}


def get_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_gethvmcontext``: all records; without a buffer, their size."""
    check_hvm(domain)
    content = content_of(call, domain)
    saved = {key: data for key, data in content.items() if key[0] != CPU or key[1] < domain.traits.n_online}
    header = HEADER.pack(
        {"magic": MAGIC, "version": VERSION, "changeset": (1 << 64) - 1, "gtsc_khz": domain.traits.tsc.khz}
    )
    parts = [described(HEAD, 0, header)]
    parts += [described(*key, saved[key]) for key in sorted(saved)]
    data = b"".join([*parts, described(END, 0, b"")])
    if values["buffer"]:
        if values["size"] < len(data):
            raise ModelError(errno.ENOSPC, f"the context has {len(data)} bytes, there is room for {values['size']}")
        call.memory.write(values["buffer"], data)
    return {**values, "size": len(data)}


def get_one_record(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_gethvmcontext_partial``: one record; without a buffer, its size."""
    check_hvm(domain)
    key = values["type"], values["instance"]
    data = content_of(call, domain).get(key)
    if data is None:
        code = errno.ENOENT if key[0] in records_of(call.machine.host.xen) else errno.EINVAL
        raise ModelError(code, f"there is no record {key[1]} of type {key[0]}")
    if not values["buffer"]:
        return {**values, "bufsz": len(data)}
    if values["bufsz"] < len(data):
        raise ModelError(errno.EINVAL, f"the record has {len(data)} bytes, there is room for {values['bufsz']}")
    call.memory.write(values["buffer"], data)
    return {**values, "bufsz": len(data)}


def set_context(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_sethvmcontext``: vcpus without registers in it are offline.

    After a bad record nothing is loaded here; Xen has loaded the records before it.
    """
    check_hvm(domain)
    if values["size"] > MOST_BYTES:
        raise ModelError(errno.ENOMEM, f"size is {values['size']}, expected at most {MOST_BYTES}")
    # Xen 4.17 returns -1 for whatever is wrong with it, which callers see as EPERM.
    code = errno.EPERM if call.machine.host.xen == "4.17" else errno.EINVAL
    records, loaded = records_of(call.machine.host.xen), {}
    for kind, instance, data in read_records(call.memory.read(values["buffer"], values["size"]), code):
        record = records.get(kind)
        content = record.loaded(data) if record is not None and instance < record.count(domain) else None
        if not (content is not None and (kind != PCI_LINK or max(data[:PCI_LINKS]) < ISA_IRQS)):
            raise ModelError(
                code,
                f"record {instance} of type {kind} with {len(data)} bytes is none that domain {domain.domid} can have",
            )
        loaded[kind, instance] = content
    ioreq.drive(call.machine, domain.domid, lambda lines: load_lines(lines, loaded))
    n_online = max((instance + 1 for kind, instance in loaded if kind == CPU), default=0)
    lifecycle.load_records(call.machine, domain.domid, loaded, n_online)
    return values


def check_hvm(domain: Domain) -> None:
    """Check that a domain has virtual hardware.

    Raises:
        ModelError: EINVAL, it is PV, or dying.
    """
    if not domain.kind.translated or not domain.alive:
        raise ModelError(errno.EINVAL, f"domain {domain.domid} is {domain.kind} and {domain.state}: it has no context")


def described(code: int, instance: int, data: bytes) -> bytes:
    """A record behind its descriptor."""
    return DESCRIPTOR.pack({"typecode": code, "instance": instance, "length": len(data)}) + data


def read_records(data: bytes, code: int) -> Iterator[tuple[int, int, bytes]]:
    """The records between a header and the end.

    Raises:
        ModelError: ``code``; no header, or no end.
    """
    at, expects_header = 0, True
    while at + DESCRIPTOR.size <= len(data):
        head = DESCRIPTOR.unpack(data, at)
        at += DESCRIPTOR.size
        content = data[at : at + head["length"]]
        at += head["length"]
        if expects_header:
            if head["typecode"] != HEAD or content[:8] != HEADER.pack({"magic": MAGIC, "version": VERSION})[:8]:
                break
            expects_header = False
        elif head["typecode"] == END:
            return
        elif len(content) == head["length"]:
            yield head["typecode"], head["instance"], content
    raise ModelError(code, "the context does not begin with a header, or does not end with an empty record")


def content_of(call: Hypercall, domain: Domain) -> dict[tuple[int, int], bytes]:
    """All records of a domain: new ones, over them those that were loaded, over them its interrupt lines."""
    return {**blank(call.machine.host.xen, domain), **domain.traits.records, **lines_saved(domain)}


def blank(xen: str, domain: Domain) -> dict[tuple[int, int], bytes]:
    """The records that a new domain has."""
    return {
        (kind, instance): bytes(record.n_bytes)
        for kind, record in records_of(xen).items()
        if record.always and record.n_bytes is not None and (record.pvh or domain.kind is DomainKind.HVM)
        for instance in range(record.count(domain))
    }


def lines_saved(domain: Domain) -> dict[tuple[int, int], bytes]:
    """The interrupt lines of an HVM domain as records."""
    if domain.kind is not DomainKind.HVM:
        return {}
    lines = domain.interrupts
    pins = sum(1 << (device * INTX + pin) for device, pin in lines.intx)
    isa = sum(asserted << irq for irq, asserted in enumerate(lines.isa))
    return {
        (PCI_IRQ, 0): pins.to_bytes(16, "little"),
        (ISA_IRQ, 0): isa.to_bytes(8, "little"),
        (PCI_LINK, 0): bytes(lines.routes).ljust(8, b"\0"),
    }


def load_lines(lines: Interrupts, loaded: dict[tuple[int, int], bytes]) -> bool:
    """Drive the interrupt lines as records say; lines of no record stay. Returns whether anything changed."""
    before = lines.n_changes
    if (PCI_IRQ, 0) in loaded:
        pins = int.from_bytes(loaded[PCI_IRQ, 0], "little")
        for line in range(PCI_DEVICES * INTX):
            lines.set_intx(*divmod(line, INTX), asserted=bool(pins >> line & 1))
    if (ISA_IRQ, 0) in loaded:
        isa = int.from_bytes(loaded[ISA_IRQ, 0], "little")
        for irq in range(ISA_IRQS):
            lines.set_isa(irq, asserted=bool(isa >> irq & 1))
    if (PCI_LINK, 0) in loaded:
        for link, irq in enumerate(loaded[PCI_LINK, 0][:PCI_LINKS]):
            lines.set_route(link, irq)
    return lines.n_changes != before
