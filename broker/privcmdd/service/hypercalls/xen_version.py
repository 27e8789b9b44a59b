# SPDX-License-Identifier: Apache-2.0
"""``xen_version``: which Xen this is. The texts are those of Debian's builds."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Bytes, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.model.host import Host
    from privcmdd.service.hypercalls.context import Hypercall

COMPILE_INFO: Final = Layout(
    "struct xen_compile_info",
    ("compiler", Bytes(64)),
    ("compile_by", Bytes(16)),
    ("compile_domain", Bytes(32)),
    ("compile_date", Bytes(32)),
)
PLATFORM_PARAMETERS: Final = Layout("struct xen_platform_parameters", ("virt_start", "u64"))
FEATURE_INFO: Final = Layout("struct xen_feature_info", ("submap_idx", "u32"), ("submap", "u32"))
BUILD_ID: Final = Layout("struct xen_build_id", ("len", "u32"))

CAPABILITIES: Final = b"xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 "
# XENFEAT_* as a dom0 of each kind sees them.
FEATURES: Final = {"pv": 0x000228F0, "pvh": 0x00022B05}
BUILD: Final = bytes(range(20))  # any fixed bytes: there is no build of ours to name


@dataclass(frozen=True, slots=True)
class Release:
    """One Xen."""

    version: tuple[int, int]
    extra: bytes
    compiler: bytes
    date: bytes


RELEASES: Final = {
    "4.17": Release(
        (4, 17), b".7", b"x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0", b"Wed Nov  4 16:52:28 UTC 2026"
    ),
    "4.20": Release((4, 20), b".4-pre", b"x86_64-linux-gnu-gcc (Debian 14.2.0-19) 14.2.0", b"Thu Oct 29 2026"),
}


def xen_version(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The subcommand is the first argument, where to put the answer the second.

    Raises:
        ModelError: EFAULT; ENOSYS.
    """
    command, address = arguments[:2]
    call.operation = named("xen_version", command)
    host = call.machine.host
    release = RELEASES[host.xen]
    if command == 0:
        return release.version[0] << 16 | release.version[1]
    if command == 7:
        return PAGE_SIZE
    if command == 6:
        return features(call, address, host)
    if command == 10:
        return build_id(call, address)
    answer = ANSWERS.get(command)
    if answer is None:
        raise call.unanswered()
    call.memory.write(address, answer(release))
    return 0


def features(call: Hypercall, address: int, host: Host) -> int:
    """``XENVER_get_features``."""
    asked = call.memory.get(FEATURE_INFO, address)
    submap = FEATURES[host.dom0] if asked["submap_idx"] == 0 else 0
    if asked["submap_idx"] > 0:
        raise ModelError(errno.EINVAL, f"there is one submap of features, asked for {asked['submap_idx']}")
    call.memory.put(FEATURE_INFO, address, {**asked, "submap": submap})
    return 0


def build_id(call: Hypercall, address: int) -> int:
    """``XENVER_build_id``: its size, and the bytes when there is room for them."""
    if not address:
        return len(BUILD)
    room = call.memory.get(BUILD_ID, address)["len"]
    if room == 0:
        raise ModelError(errno.EINVAL, "the buffer for the build id has length 0")
    if room < len(BUILD):
        raise ModelError(errno.ENOBUFS, f"the build id has {len(BUILD)} bytes, there is room for {room}")
    call.memory.write(address + BUILD_ID.size, BUILD)
    return len(BUILD)


ANSWERS: Final[dict[int, Callable[[Release], bytes]]] = {
    1: lambda release: release.extra.ljust(16, b"\0"),
    2: lambda release: COMPILE_INFO.pack(
        {
            "compiler": release.compiler,
            "compile_by": b"pkg-xen-devel",
            "compile_domain": b"lists.alioth.debian.org",
            "compile_date": release.date,
        }
    ),
    3: lambda _: CAPABILITIES.ljust(1024, b"\0"),
    4: lambda _: bytes(64),
    5: lambda _: PLATFORM_PARAMETERS.pack({"virt_start": 0xFFFF_8000_0000_0000}),
    8: lambda _: bytes(16),
    9: lambda _: b"dom0_mem=1024M".ljust(1024, b"\0"),
}
