# SPDX-License-Identifier: Apache-2.0
"""CPU policies, which say what processor a guest sees: CPUID leaves, and the MSRs that belong to them.

A domain begins with the policy of the simulated processor, and a toolstack can change it. All policies of ``sysctl``
(raw, host, the most and the default of a PV and of an HVM guest) are the same: there is one processor.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import lifecycle
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privcmdd.model.machine.domain import Domain
    from privcmdd.model.machine.records import CpuidLeaf
    from privcmdd.service.hypercalls.context import Hypercall

DOMAIN_POLICY: Final = Layout(
    "struct xen_domctl_cpu_policy",
    ("nr_leaves", "u32"),
    ("nr_msrs", "u32"),
    ("leaves", "u64"),
    ("msrs", "u64"),
    ("err_leaf", "u32"),
    ("err_subleaf", "u32"),
    ("err_msr", "u32"),
)
SYSTEM_POLICY: Final = Layout(
    "struct xen_sysctl_cpu_policy",
    ("index", "u32"),
    ("nr_leaves", "u32"),
    ("nr_msrs", "u32"),
    ("_rsvd", "u32"),
    ("leaves", "u64"),
    ("msrs", "u64"),
)
FEATURESET: Final = Layout(
    "struct xen_sysctl_cpu_featureset", ("index", "u32"), ("nr_features", "u32"), ("features", "u64")
)
LEAF: Final = struct.Struct("<6I")  # xen_cpuid_leaf_t: leaf, subleaf, a, b, c, d
MSR: Final = struct.Struct("<2IQ")  # xen_msr_entry_t: idx, flags, val
NONE: Final = 0xFFFF_FFFF  # XEN_CPUID_NO_SUBLEAF, and "none" where an error is located
N_POLICIES: Final = 6

# Leaves that Xen has room for: how many subleaves of those that have some, and where the ranges end.
SUBLEAVES: Final = {0x4: 6, 0x7: 3, 0xB: 2, 0xD: 63}
LAST_BASIC: Final = 0xD
XEN_LEAVES: Final = (0x4000_0000, 0x4000_0100)
EXTENDED: Final = 0x8000_0000
LAST_EXTENDED: Final = EXTENDED + 0x21
MOST_LEAVES: Final = (
    LAST_BASIC + 1 + sum(n - 1 for n in SUBLEAVES.values()) + len(XEN_LEAVES) + LAST_EXTENDED - EXTENDED + 1
)
PLATFORM_INFO: Final = 0xCE
ARCH_CAPABILITIES: Final = 0x10A
MSR_BITS: Final = {PLATFORM_INFO: 32, ARCH_CAPABILITIES: 64}

VENDOR: Final = struct.unpack("<3I", b"AuthcAMDenti")  # in the order of EBX, ECX, EDX
BRAND: Final = struct.unpack("<12I", b"privcmdd simulated processor".ljust(48, b"\0"))
# An AMD processor with what every x86-64 guest needs: SSE2, CMPXCHG16B, NX, long mode; under a hypervisor.
PROCESSOR: Final[Mapping[tuple[int, int], CpuidLeaf]] = {
    (0, NONE): (1, *VENDOR),
    (1, NONE): (0x0080_0F11, 0x0001_0800, 0x8000_2000, 0x178B_FBFF),
    **{(leaf, NONE): (0, 0, 0, 0) for leaf in XEN_LEAVES},
    (EXTENDED, NONE): (EXTENDED + 8, *VENDOR),
    (EXTENDED + 1, NONE): (0x0080_0F11, 0, 0x0000_0001, 0x2993_FBFF),
    **{(EXTENDED + 2 + part, NONE): (BRAND[4 * part], *BRAND[4 * part + 1 : 4 * part + 4]) for part in range(3)},
    **{(EXTENDED + leaf, NONE): (0, 0, 0, 0) for leaf in (5, 6, 7)},
    (EXTENDED + 8, NONE): (0x302E, 0, 0, 0),
}
NO_LEAF: Final = (0, 0, 0, 0)
MSRS: Final[Mapping[int, int]] = dict.fromkeys(MSR_BITS, 0)
# Where the words of a featureset come from (xen/include/public/arch-x86/cpufeatureset.h): a leaf, and which of its
# registers; the halves of MSR 0x10a in between are words 16 and 17.
EAX, EBX, ECX, EDX = range(4)
WORDS: Final = (
    ((1, NONE), EDX),
    ((1, NONE), ECX),
    ((EXTENDED + 1, NONE), EDX),
    ((EXTENDED + 1, NONE), ECX),
    ((0xD, 1), EAX),
    ((7, 0), EBX),
    ((7, 0), ECX),
    ((EXTENDED + 7, NONE), EDX),
    ((EXTENDED + 8, NONE), EBX),
    ((7, 0), EDX),
    ((7, 1), EAX),
    ((EXTENDED + 0x21, NONE), EAX),
    ((7, 1), EBX),
    ((7, 2), EDX),
    ((7, 1), ECX),
    ((7, 1), EDX),
    None,
    None,
    ((EXTENDED + 0x21, NONE), ECX),
)


class PolicyError(ModelError):
    """A policy is refused because of one of its leaves or MSRs.

    Attributes:
        place: The members of the structure that name the leaf or the MSR.
    """

    def __init__(self, code: int, text: str, leaf: tuple[int, int] = (NONE, NONE), msr: int = NONE) -> None:
        super().__init__(code, text)
        self.place = {"err_leaf": leaf[0], "err_subleaf": leaf[1], "err_msr": msr}


def get_domain_policy(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_get_cpu_policy``."""
    return put_policy(call, values, {**PROCESSOR, **domain.traits.leaves}, {**MSRS, **domain.traits.msrs})


def get_system_policy(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_get_cpu_policy``."""
    if values["_rsvd"] or values["index"] >= N_POLICIES:
        raise ModelError(errno.EINVAL, f"there are policies 0 to {N_POLICIES - 1}, asked for {values['index']}")
    return put_policy(call, values, PROCESSOR, MSRS)


def get_featureset(call: Hypercall, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_SYSCTL_get_cpu_featureset``: how many words there are when the caller does not say where to put them."""
    if values["index"] >= N_POLICIES:
        raise ModelError(errno.EINVAL, f"there are featuresets 0 to {N_POLICIES - 1}, asked for {values['index']}")
    if not values["features"]:
        return {**values, "nr_features": len(WORDS)}
    n_words = min(values["nr_features"], len(WORDS))
    words = [PROCESSOR.get(word[0], NO_LEAF)[word[1]] if word else 0 for word in WORDS[:n_words]]
    call.memory.write(values["features"], struct.pack(f"<{n_words}I", *words))
    if n_words < len(WORDS):
        raise ModelError(errno.ENOBUFS, f"there are {len(WORDS)} words, room for {n_words}")
    return {**values, "nr_features": n_words}


def put_policy(
    call: Hypercall, values: dict[str, Any], leaves: Mapping[tuple[int, int], CpuidLeaf], msrs: Mapping[int, int]
) -> dict[str, Any]:
    """Write a policy to the caller's buffers; without buffers, answer how large a policy can be.

    Raises:
        ModelError: EFAULT; ENOBUFS, there is too little room.
    """
    last, last_extended = leaves[0, NONE][0], leaves[EXTENDED, NONE][0]
    shown = [
        LEAF.pack(*place, *leaves[place])
        for place in sorted(leaves)
        if place[0] <= last or place[0] in XEN_LEAVES or EXTENDED <= place[0] <= last_extended
    ]
    answer = dict(values)
    entries = [MSR.pack(number, 0, value) for number, value in sorted(msrs.items())]
    for items, most, where, count in (
        (shown, MOST_LEAVES, "leaves", "nr_leaves"),
        (entries, len(MSRS), "msrs", "nr_msrs"),
    ):
        answer[count] = len(items) if values[where] else most
        if values[where]:
            if len(items) > values[count]:
                raise ModelError(errno.ENOBUFS, f"there are {len(items)} {where}, room for {values[count]}")
            call.memory.check(values[where], sum(map(len, items)))
    if values["leaves"]:
        call.memory.write(values["leaves"], b"".join(shown))
    if values["msrs"]:
        call.memory.write(values["msrs"], b"".join(entries))
    return answer


def set_domain_policy(call: Hypercall, domain: Domain, values: dict[str, Any]) -> dict[str, Any]:
    """``XEN_DOMCTL_set_cpu_policy``: leaves and MSRs that are not given stay as they are."""
    if values["nr_leaves"] > MOST_LEAVES or values["nr_msrs"] > len(MSRS):
        raise PolicyError(errno.E2BIG, f"at most {MOST_LEAVES} leaves and {len(MSRS)} MSRs can be told")
    data = call.memory.read(values["leaves"], LEAF.size * values["nr_leaves"])
    leaves = {row[:2]: row[2:] for row in LEAF.iter_unpack(data)}
    data = call.memory.read(values["msrs"], MSR.size * values["nr_msrs"])
    msrs = [check_msr(*row) for row in MSR.iter_unpack(data)]
    for place in leaves:
        check_leaf(place)
    for first in (0, EXTENDED):
        most = PROCESSOR[first, NONE][0]
        if leaves.get((first, NONE), (0,))[0] > most:
            raise PolicyError(errno.EINVAL, f"the processor has leaves up to {most:#x}", (first, NONE))
    lifecycle.set_policy(call.machine, domain.domid, leaves, dict(msrs))
    return values


def check_leaf(place: tuple[int, int]) -> None:
    """Check that there can be such a leaf.

    Raises:
        PolicyError: ERANGE.
    """
    leaf, subleaf = place
    known = leaf <= LAST_BASIC or leaf in XEN_LEAVES or EXTENDED <= leaf <= LAST_EXTENDED
    fits = subleaf < SUBLEAVES[leaf] if leaf in SUBLEAVES else subleaf == NONE
    if not known or not fits:
        raise PolicyError(errno.ERANGE, f"there is no CPUID leaf {leaf:#x} with subleaf {subleaf:#x}", place)


def check_msr(number: int, flags: int, value: int) -> tuple[int, int]:
    """Check an MSR of a policy; return its number and value.

    Raises:
        PolicyError: EINVAL, flags; ERANGE, it is no part of a policy; EOVERFLOW, the value is too large.
    """
    if flags:
        raise PolicyError(errno.EINVAL, f"flags of MSR {number:#x} are {flags:#x}, expected 0", msr=number)
    if number not in MSR_BITS:
        raise PolicyError(errno.ERANGE, f"MSR {number:#x} is no part of a policy", msr=number)
    if value >> MSR_BITS[number]:
        raise PolicyError(errno.EOVERFLOW, f"MSR {number:#x} has {MSR_BITS[number]} bits, got {value:#x}", msr=number)
    return number, value
