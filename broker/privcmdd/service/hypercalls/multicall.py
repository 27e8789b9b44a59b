# SPDX-License-Identifier: Apache-2.0
"""``multicall``: several hypercalls in one; each has a result of 64 bits, unlike an ioctl, whose result has 32."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from privcmdd.model.errors import ModelError
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.hypercalls.context import Hypercall

NUMBER: Final = 13

ENTRY: Final = Layout(
    "struct multicall_entry",
    ("op", "u64"),
    ("result", "u64"),
    *((f"args[{index}]", "u64") for index in range(6)),
)
RESULT_OFFSET: Final = 8
# Entries of one call: Xen would let others run between them.
MOST_ENTRIES: Final = 1024


def multicall(
    call: Hypercall, arguments: tuple[int, ...], perform: Callable[[Hypercall, int, tuple[int, ...]], int]
) -> int:
    """Perform the calls in order; one that fails does not stop those after it. Returns 0.

    Raises:
        ModelError: EFAULT, an entry cannot be read or written: those before it are done; E2BIG.
    """
    address, n_entries = arguments[:2]
    if n_entries > MOST_ENTRIES:
        raise ModelError(errno.E2BIG, f"{n_entries} calls in one, at most {MOST_ENTRIES} may be")
    for at in range(address, address + n_entries * ENTRY.size, ENTRY.size):
        entry = call.memory.get(ENTRY, at)
        call.memory.check(at, ENTRY.size)
        if entry["op"] == NUMBER:  # Xen refuses a multicall inside a multicall, too
            call.operation = "multicall in a multicall"
            result = call.refused(call.unanswered())
        else:
            result = perform(call, entry["op"], tuple(entry[f"args[{index}]"] for index in range(6)))
        call.memory.write(at + RESULT_OFFSET, (result & ((1 << 64) - 1)).to_bytes(8, "little"))
    return 0
