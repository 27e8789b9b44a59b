# SPDX-License-Identifier: Apache-2.0
"""Hypercalls as tools make them, with likely and unlikely arguments in buffers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from privcmdd.model.units import PAGE_SIZE as PAGE
from privcmdd.service.hypercalls import createdomain, domctl, event_channel_op, hvm_op, memory_op, sysctl
from privcmdd.service.hypercalls import dm_op as device_model
from privcmdd.service.layout import Bytes, Layout
from support.random_arguments import MEMORY_LAYOUTS

if TYPE_CHECKING:
    from random import Random

BUFFERS: Final = 0x20_0000_0000
N_BUFFERS: Final = 8
ARRAY: Final = BUFFERS + 4 * PAGE
MEMORY_OP, XEN_VERSION, EVENTS, HVM_OP, SYSCTL, DOMCTL = 12, 17, 32, 34, 35, 36
DOMAINS: Final = (1, 1, 2, 3, 4, 0x7FF0)
SERVERS: Final = (1, 1, 1, 3, 5)  # make one, give it a range, enable it
MEMORY: Final = {op: MEMORY_LAYOUTS[op] for op in (0, 1, 3, 6, 7, 14, 15, 16, 17, 20, 28)}
# Members that have a meaning of their own; others are small numbers.
LIKELY: Final[dict[str, tuple[int, ...]]] = {
    "domid": DOMAINS,
    "domain": DOMAINS,
    "dom": DOMAINS,
    "extent_start": (ARRAY,),
    "nr_extents": (1, 2, 4, 8),
    "extent_order": (0, 0, 0, 1),
    "mem_flags": (0, 0, memory_op.POPULATE_ON_DEMAND),
    "max_memkb": (64, 192, 256),
    "frame_list": (0, ARRAY),
    "array": (ARRAY,),
    "target_pages": (8, 32, 48),
    "index": (0, 1, 5, 27),
    "pad": (0, 0, 0, 1),
    "id": (0, 0, 0, 1),
    "handle_bufioreq": (0, 1, 2),
    "enabled": (0, 1, 1),
    "flags": (0, 1, 1),
    "level": (0, 1),
}


class Hypercall(NamedTuple):
    """A call, and what is to be put where before."""

    op: int
    arguments: tuple[int, ...]
    buffers: tuple[tuple[int, bytes], ...] = ()


def values(rng: Random, layout: Layout) -> dict[str, Any]:
    """Something for each member of a structure."""
    chosen: dict[str, Any] = {}
    for member in layout.members:
        if isinstance(member.kind, Layout):
            chosen[member.name] = values(rng, member.kind)
        elif isinstance(member.kind, Bytes):
            chosen[member.name] = b"" if member.name == "pad" else rng.randbytes(member.size)
        else:
            likely = LIKELY.get(member.name, (0, 0, 1, 2, 7, 40, ARRAY))
            chosen[member.name] = rng.choice(likely) & (1 << 8 * member.size - 1) - 1
    return chosen


def choose(rng: Random, xen: str) -> Hypercall:
    """One call, of tools for a release of Xen."""
    which = rng.random()
    if which < 0.5:
        command = rng.choice((0, 1, 1, 6, 6, 6, *MEMORY))
        names = struct.pack("<8Q", *(rng.randrange(48) for _ in range(8)))
        layout = MEMORY[command]
        return Hypercall(
            MEMORY_OP, (command, BUFFERS, 0, 0, 0), ((ARRAY, names), (BUFFERS, layout.pack(values(rng, layout))))
        )
    if which < 0.75:
        return _domctl(rng, xen)
    if which < 0.8:
        layout = sysctl.COMMANDS[command := rng.choice(sorted(sysctl.COMMANDS))][0]
        head = sysctl.HEAD.pack({"cmd": command, "interface_version": sysctl.INTERFACE_VERSIONS[xen]})
        data = (head + layout.pack(values(rng, layout))).ljust(sysctl.SYSCTL_BYTES, b"\0")
        return Hypercall(SYSCTL, (BUFFERS, 0, 0, 0, 0), ((BUFFERS, data),))
    if which < 0.85:
        data = hvm_op.PARAM.pack(values(rng, hvm_op.PARAM))
        return Hypercall(HVM_OP, (rng.choice((0, 1)), BUFFERS, 0, 0, 0), ((BUFFERS, data),))
    if which < 0.95:
        command = rng.choice(sorted(event_channel_op.COMMANDS))
        layout = event_channel_op.COMMANDS[command][0]
        return Hypercall(EVENTS, (command, BUFFERS, 0, 0, 0), ((BUFFERS, layout.pack(values(rng, layout))),))
    return Hypercall(rng.randrange(60), (0, BUFFERS, rng.choice((0, 1, 2**64 - 1)), 0, 0))


def _domctl(rng: Random, xen: str) -> Hypercall:
    commands = {number: layout for number, (layout, _) in domctl.COMMANDS.items()}
    commands[domctl.CREATEDOMAIN] = createdomain.CREATE[xen]
    command = domctl.CREATEDOMAIN if rng.random() < 0.3 else rng.choice(sorted(commands))
    if command == domctl.CREATEDOMAIN:
        hvm = rng.random() < 0.7
        dom = rng.choice((0, 0, 3, 4))
        filled = {
            "flags": 3 if hvm else 0,
            "arch": {"emulation_flags": createdomain.EMU_HVM if hvm else 0},
            "max_vcpus": 1,
            "max_evtchn_port": 1023,
            "max_grant_frames": 4,
            "max_maptrack_frames": 4,
            "grant_opts": rng.choice((1, 2)),
        }
    else:
        dom = rng.choice(DOMAINS)
        filled = values(rng, commands[command])
    head = domctl.HEAD.pack({"cmd": command, "interface_version": domctl.INTERFACE_VERSIONS[xen], "domain": dom})
    data = (head + commands[command].pack(filled)).ljust(domctl.DOMCTL_BYTES, b"\0")
    return Hypercall(DOMCTL, (BUFFERS, 0, 0, 0, 0), ((BUFFERS, data),))


def dm_op(rng: Random) -> list[bytes]:
    """The buffers of a device model's request."""
    op = rng.choice((*SERVERS, *SERVERS, *sorted(device_model.REQUESTS)))
    layout = device_model.REQUESTS[op][0]
    return [device_model.HEAD.pack({"op": op}) + layout.pack(values(rng, layout)), rng.randbytes(16)]
