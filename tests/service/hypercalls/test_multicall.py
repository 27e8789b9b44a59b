# SPDX-License-Identifier: Apache-2.0
"""``multicall``: several hypercalls in one."""

from __future__ import annotations

import errno

from privcmdd.service.hypercalls import multicall
from support.tool import (
    ARRAY,
    MEMORY_OP,
    MULTICALL,
    XEN_VERSION,
    Tool,
)


def test_several_calls_in_one(tool: Tool) -> None:
    """Each has its own result of 64 bits; one that fails stops none."""
    entries = [{"op": XEN_VERSION}, {"op": 60}, {"op": MULTICALL}, {"op": MEMORY_OP, "args[0]": 2}]
    tool.put(b"".join(multicall.ENTRY.pack(entry) for entry in entries), ARRAY)

    assert tool.call(MULTICALL, ARRAY, len(entries)) == 0

    assert tool.why == "ENOSYS: hypercall 60 is not answered here (the first of 2 that were refused)"
    size = multicall.ENTRY.size
    results = [multicall.ENTRY.unpack(tool.get(size, ARRAY + index * size))["result"] for index in range(4)]
    assert results[:3] == [0x40011, 2**64 - errno.ENOSYS, 2**64 - errno.ENOSYS]
    assert results[3] == tool.desk.broker.world.machine.frames.n_frames
