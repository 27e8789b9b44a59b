# SPDX-License-Identifier: Apache-2.0
"""``grant_table_op``: what tools ask about the grant tables of domains.

A guest grants pages itself, in its own memory; the kernel maps and copies them, for processes through /dev/xen/gntdev.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from privcmdd.model.errors import ModelError
from privcmdd.model.grants.entry import Status
from privcmdd.service.hypercalls.context import is_self
from privcmdd.service.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmdd.service.hypercalls.context import Hypercall

QUERY_SIZE: Final = Layout(
    "struct gnttab_query_size", ("dom", "u16"), ("nr_frames", "u32"), ("max_nr_frames", "u32"), ("status", "i16")
)
GET_VERSION: Final = Layout("struct gnttab_get_version", ("dom", "u16"), ("version", "u32"))
MOST_OPERATIONS: Final = 1024


def grant_table_op(call: Hypercall, arguments: tuple[int, ...]) -> int:
    """The subcommand, an array of structures, and how many.

    Raises:
        ModelError: As the subcommand; EFAULT; E2BIG; ENOSYS.
    """
    command, address, n_operations = arguments[:3]
    layout, do = call.find("grant_table_op", command, COMMANDS)
    if n_operations > MOST_OPERATIONS:
        raise ModelError(errno.E2BIG, f"{n_operations} operations in one, at most {MOST_OPERATIONS} may be")
    for at in range(address, address + n_operations * layout.size, layout.size):
        asked = call.memory.get(layout, at)
        call.memory.check(at, layout.size)
        call.memory.put(layout, at, do(call, asked))
    return 0


def query_size(call: Hypercall, asked: dict[str, Any]) -> dict[str, Any]:
    """``GNTTABOP_query_size``: a domain that is not there is a status, not an error."""
    if is_self(asked["dom"]):
        raise call.unanswered(" of dom0")
    try:
        grants = call.domain(asked["dom"]).grants
    except ModelError as refusal:
        if refusal.errno != errno.ESRCH:
            raise
        return {**asked, "status": Status.BAD_DOMAIN}
    return {**asked, "nr_frames": len(grants.shared), "max_nr_frames": grants.max_frames, "status": Status.OKAY}


def get_version(call: Hypercall, asked: dict[str, Any]) -> dict[str, Any]:
    """``GNTTABOP_get_version``: 1 or 2, as the guest has chosen."""
    if is_self(asked["dom"]):
        raise call.unanswered(" of dom0")
    return {**asked, "version": call.domain(asked["dom"]).grants.version}


# GNTTABOP_* of xen/include/public/grant_table.h: the structure, and what is done.
COMMANDS: Final[dict[int, tuple[Layout, Callable[[Hypercall, dict[str, Any]], dict[str, Any]]]]] = {
    6: (QUERY_SIZE, query_size),
    10: (GET_VERSION, get_version),
}
