# SPDX-License-Identifier: Apache-2.0
"""A few hypercalls in a row with anything in their structures: each answers, a refusal changes nothing, laws hold."""

from __future__ import annotations

import contextlib

from fuzz.reading import DOMAINS, Reading
from privcmdd.service.hypercalls import createdomain, domctl, event_channel_op, hvm_op, sysctl
from support.desk import Refused
from support.random_arguments import MEMORY_LAYOUTS, built, check, state
from support.tool import ARRAY, BUFFERS, DOMCTL, EVENTS, HVM_OP, MEMORY_OP, MULTICALL, SYSCTL, Tool

MOST_CALLS = 6
MEMORY = sorted(MEMORY_LAYOUTS)
DOMCTLS = {
    **{n: layout for n, (layout, _) in domctl.COMMANDS.items()},
    domctl.CREATEDOMAIN: createdomain.CREATE["4.17"],
}
SYSCTLS = {number: layout for number, (layout, _) in sysctl.COMMANDS.items()}


def call(tool: Tool, reading: Reading) -> tuple[int, int]:
    """One hypercall. Returns its number and its answer."""
    kind = reading.one_of(("memory", "domctl", "sysctl", "device model", "parameter", "port", "raw"))
    if kind == "memory":
        command = reading.one_of(MEMORY)
        tool.put(MEMORY_LAYOUTS[command].pack(reading.values_of(MEMORY_LAYOUTS[command])))
        return MEMORY_OP, tool.call(MEMORY_OP, command, BUFFERS)
    if kind in ("domctl", "sysctl"):
        layouts, head = (DOMCTLS, domctl.HEAD) if kind == "domctl" else (SYSCTLS, sysctl.HEAD)
        command = reading.one_of(sorted(layouts))
        first = head.pack({"cmd": command, "interface_version": 0x15, "domain": reading.one_of(DOMAINS)})
        tool.put((first + layouts[command].pack(reading.values_of(layouts[command]))).ljust(144, b"\0"))
        op = DOMCTL if kind == "domctl" else SYSCTL
        return op, tool.call(op, BUFFERS)
    if kind == "device model":
        words = [reading.number() for _ in range(reading.byte() % 5)]
        first = reading.byte().to_bytes(8, "little") + b"".join(word.to_bytes(8, "little") for word in words)
        bufs = [first, *(reading.take(reading.byte() % 65) for _ in range(reading.byte() % 3))]
        answer = tool.desk.call(tool.session, "privcmd.dm_op", dom=reading.one_of(DOMAINS), bufs=bufs)
        assert [len(buf) for buf in answer["bufs"]] == list(map(len, bufs))
        return 41, answer["ret"]
    if kind == "parameter":
        tool.put(hvm_op.PARAM.pack(reading.values_of(hvm_op.PARAM)))
        return HVM_OP, tool.call(HVM_OP, reading.one_of((0, 1, 15)), BUFFERS)
    if kind == "port":
        tool.put(event_channel_op.ALLOC_UNBOUND.pack(reading.values_of(event_channel_op.ALLOC_UNBOUND)))
        return EVENTS, tool.call(EVENTS, 6, BUFFERS)
    op = reading.byte() % 64
    tool.put(reading.take(64))
    return op, tool.call(op, *(reading.number() for _ in range(reading.byte() % 6)))


def one(data: bytes) -> None:
    """Make the calls on a machine with three domains."""
    reading = Reading(data)
    tool = built()
    tool.put(reading.take(64), ARRAY)
    for _ in range(MOST_CALLS):
        if not reading.more:
            break
        before = state(tool)
        with contextlib.suppress(Refused):  # a number that no message can carry
            op, ret = call(tool, reading)
            if op != MULTICALL:  # of several calls in one, those before the bad pointer are done
                check(tool, before, ret)
