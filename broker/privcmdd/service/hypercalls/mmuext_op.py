# SPDX-License-Identifier: Apache-2.0
"""``mmuext_op``: pinning frames of PV domains as page tables, as domain builders do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import numpy as np

from privcmdd.model.errors import ModelError
from privcmdd.model.machine import page_types
from privcmdd.model.mm import access
from privcmdd.model.units import PAGE_SIZE
from privcmdd.service.hypercalls.context import is_self
from privcmdd.service.hypercalls.names import named
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from privcmdd.service.hypercalls.context import Hypercall
    from privcmdd.service.processes import Spaces
    from privcmdd.service.world import World

OPERATION: Final = Layout("struct mmuext_op", ("cmd", "u32"), ("arg1", "u64"), ("arg2", "u64"))
LEVELS: Final = 4  # MMUEXT_PIN_L1_TABLE is 0, and so on
UNPIN: Final = 4
MOST_OPERATIONS: Final = 1024


def mmuext_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """Operations, how many, where to put how many were done, and whose frames they are about.

    Raises:
        ModelError: EFAULT; EPERM; ESRCH; EINVAL, at the first that cannot be done; E2BIG; ENOSYS.
    """
    address, n_operations, done_at, domid = arguments[:4]
    if n_operations > MOST_OPERATIONS:
        raise ModelError(errno.E2BIG, f"{n_operations} operations in one, at most {MOST_OPERATIONS} may be")
    if domid > 0xFFFF or is_self(domid):
        raise call.unanswered(" of dom0")
    call.domain(domid)
    if done_at:
        call.memory.check(done_at, 4)
    operations = [call.memory.get(OPERATION, address + index * OPERATION.size) for index in range(n_operations)]
    n_done = 0
    try:
        for operation in operations:
            call.operation = named("mmuext_op", operation["cmd"])
            if operation["cmd"] > UNPIN:
                raise call.unanswered()
            if operation["cmd"] == UNPIN:
                page_types.unpin(call.machine, domid, operation["arg1"])
            else:
                pin(call.world, domid, operation["arg1"], operation["cmd"] + 1)
            n_done += 1
    finally:
        if done_at:
            call.memory.write(done_at, n_done.to_bytes(4, "little"))
    return 0


def pin(world: World, domid: int, mfn: int, level: int) -> None:
    """Pin a frame whose content is in the domain's memory file."""
    frames = world.machine.frames
    content = bytes(PAGE_SIZE)
    if mfn < frames.n_frames and frames.owner[mfn] == domid:
        content = world.backing.read(domid, int(frames.page[mfn]), 0, PAGE_SIZE)
    entries = np.frombuffer(content, dtype="<u8")
    # Only a PV dom0 takes a writable page type for a mapping; a PVH dom0 takes none (p2m_add_foreign).
    written = world.machine.host.dom0 == "pv" and is_written(world.spaces, mfn)
    page_types.pin(world.machine, domid, mfn, level, entries, written=written)


def is_written(spaces: Spaces, mfn: int) -> bool:
    """Whether a frame is mapped writable in any address space."""
    return any(access.writes(space, page) for space in spaces for page in space.pmap.find(mfn))
